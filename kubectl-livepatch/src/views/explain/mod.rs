//! `explain`: why a node is as it is. What is said is pure; what is here does IO.

mod told;

use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;

use self::told::{Facts, tell};
use crate::cluster::{Cluster, ClusterOptions};
use crate::options::{ColourOptions, NodeName};
use crate::output;

const ABOUT: &str = "\
Say why a node is as it is: what its kernel runs and whose that is, what it was granted, what became of it, which task of
which pod keeps a transition from finishing, and of each set that selects the node without a grant what it waits for.

Nodes and pods are read where the rights allow it (get nodes, list pods); without them less is told.";

/// `explain NODE`.
#[derive(Debug, Clone, Args)]
#[command(about = "Say why a node is as it is", long_about = ABOUT)]
pub struct ExplainOptions {
    /// The node
    #[arg(value_name = "NODE")]
    pub node: NodeName,

    #[command(flatten)]
    pub colour: ColourOptions,

    #[command(flatten)]
    pub cluster: ClusterOptions,
}

/// Runs the command.
pub fn run(options: &ExplainOptions) -> ExitCode {
    let screen = output::screen(options.colour.no_color);
    output::conclude(output::block_on(async {
        let cluster = Cluster::connect(&options.cluster).await?;
        let object = cluster.node_livepatch(&options.node).await?;
        let has_blockers = object.status.as_ref().is_some_and(|status| {
            let mut blockers = status.livepatches.iter().flat_map(|of| &of.blockers);
            blockers.any(|blocker| blocker.pod_uid.is_some())
        });
        let facts = Facts {
            object,
            node: cluster.node(&options.node).await?,
            pods: if has_blockers {
                cluster.pods_on(&options.node).await?
            } else {
                std::collections::BTreeMap::new()
            },
            families: cluster.families().await?,
        };
        Ok(tell(&facts, Timestamp::now(), screen))
    }))
}
