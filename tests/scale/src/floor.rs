//! The bare loop: the same two writes for each node, by somebody who looks at nothing. Does IO.
//!
//! It has a control plane of its own with the same policies, so that neither operator nor agents answer it.

use std::time::Instant;

use anyhow::{Context, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use livepatch_crds::NodeLivepatch;
use livepatch_crds::node::NodeLivepatchSpec;
use livepatch_rig::control_plane::ControlPlane;
use livepatch_rig::install::NAMESPACE;
use livepatch_rig::progress;
use serde_json::{Value, json};

use crate::cost::{self, Costs, Requests};
use crate::fleet::{self, AT_ONCE, FIRST_BOOT, boot_id};
use crate::report::Span;
use crate::speaker;
use crate::times::Times;

/// A control plane with objects that nobody acts on.
pub struct Floor {
    plane: ControlPlane,
    operator: Client,
    admin: Client,
    nodes: usize,
}

impl Floor {
    /// Starts it.
    pub async fn start(nodes: usize) -> Result<Self> {
        let (plane, admin) = fleet::plane("floor", "registry.example.com/livepatches").await?;
        let operator = speaker::operator(&admin)?;
        progress::line(&format!("  … make {nodes} objects for the bare loop"));
        let api: Api<NodeLivepatch> = Api::all(operator.clone());
        let api = &api;
        let made = stream::iter((0..nodes).map(name)).map(|name| async move {
            let spec = NodeLivepatchSpec {
                node_uid: uid(&name),
                ..NodeLivepatchSpec::default()
            };
            let object = NodeLivepatch::new(&name, spec);
            fleet::patiently(async || api.create(&PostParams::default(), &object).await).await
        });
        made.buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await?;
        Ok(Self {
            plane,
            operator,
            admin,
            nodes,
        })
    }

    /// Writes a grant and a status to each object, as many at once as the operator and the agents do; with the reads that
    /// an agent makes before it begins, or without.
    pub async fn measure(&self, round: usize, reads: bool) -> Result<Span> {
        let what = if reads { "bare loop with reads" } else { "bare loop" };
        progress::line(&format!("  … {what} {} over {} objects", round + 1, self.nodes));
        let costs = Costs::read(&self.plane, &[])?;
        let requests = Requests::read(&self.plane)?;
        let others = cost::machine()?;
        let began = Instant::now();
        let grants: Api<NodeLivepatch> = Api::all(self.operator.clone());
        let grants = &grants;
        let params = &PatchParams::default();
        let written = stream::iter((0..self.nodes).map(name)).map(|name| async move {
            grants.patch(&name, params, &Patch::Merge(grant(&name, round))).await?;
            let agent: Api<NodeLivepatch> = Api::all(speaker::agent_of(&self.admin, &name, &uid(&name))?);
            if reads {
                let leases: Api<Lease> = Api::namespaced(self.operator.clone(), NAMESPACE);
                agent.get(&name).await?;
                leases.get_opt("livepatch-operator").await?;
            }
            let told = Patch::Merge(status(&name, round));
            agent.patch_status(&name, params, &told).await.context("write a status")
        });
        written.buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await?;
        let took = began.elapsed();
        Ok(Span {
            took,
            costs: Costs::read(&self.plane, &[])?.since(&costs),
            requests: Requests::read(&self.plane)?.since(&requests),
            times: Times::default(),
            machine: cost::machine()?.saturating_sub(others),
        })
    }
}

fn name(index: usize) -> String {
    format!("node-{index:05}")
}

fn uid(name: &str) -> String {
    format!("uid-{name}")
}

/// As long as a grant of the operator.
fn grant(name: &str, round: usize) -> Value {
    json!({"spec": {"livepatches": [{
        "set": {"name": "fix", "uid": "5f0c1ad1-0000-4000-8000-0123456789ab"}, "rollout": format!("fix-{round:010}"),
        "wave": "rest", "epoch": "5f0c1ad1-0000-4000-8000-0123456789ab/1", "attempt": 1, "state": "Loaded",
        "type": "Cumulative", "module": module(round), "bootID": boot_id(name, FIRST_BOOT), "kernelTaints": "",
        "transitionTimeoutSeconds": 60, "start": round + 1,
    }]}})
}

fn module(round: usize) -> Value {
    json!({
        "name": "lp_cumulative_v1", "repository": "registry.example.com/livepatches/lp-cumulative-v1",
        "digest": format!("sha256:{}", "a".repeat(64)), "sha256": format!("{round:064}"),
        "buildID": format!("{round:040}"), "kernelBuildID": "ab".repeat(20),
    })
}

/// As long as a status of an agent.
fn status(name: &str, round: usize) -> Value {
    json!({"status": {
        "bootID": boot_id(name, FIRST_BOOT), "observedGeneration": round + 2, "agentVersion": "0.1.0",
        "kernel": {"release": "6.12.0-1-amd64", "buildID": "ab".repeat(20), "architecture": "amd64"},
        "loaded": [{"module": "lp_cumulative_v1", "buildID": format!("{round:040}"), "owner": "Set", "set": "fix",
            "enabled": true, "transition": false, "functionCount": 2}],
        "livepatches": [{"set": "fix", "rollout": format!("fix-{round:010}"), "attempt": 1, "result": "Loaded",
            "reason": "Effective", "message": "the livepatch is effective"}],
    }})
}
