//! How long nobody leads after a leader was killed, and after one was told to stop. Does IO.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use livepatch_rig::install::NAMESPACE;
use livepatch_rig::progress;

use crate::fleet::Fleet;
use crate::operator::Operators;

/// Far beyond the goal of 20 s.
const PATIENCE: Duration = Duration::from_mins(2);
/// For a standby to have read everything.
const WARM: Duration = Duration::from_secs(20);

/// What ended a leader, and how long it took until another one led.
#[derive(Debug, Clone, Copy)]
pub struct Failover {
    pub signal: &'static str,
    pub took: Duration,
}

/// A crash, then a stop.
pub async fn measure(fleet: &Fleet, operators: &mut Operators) -> Result<Vec<Failover>> {
    let mut failovers = Vec::new();
    for (leader, standby, signal) in [("first", "second", "KILL"), ("second", "third", "TERM")] {
        operators.start(standby)?;
        tokio::time::sleep(WARM).await;
        progress::line(&format!("  … SIG{signal} to the leader"));
        let began = Instant::now();
        operators.end(leader, signal)?;
        let took = loop {
            if holder(fleet).await?.starts_with(standby) {
                break began.elapsed();
            }
            if began.elapsed() > PATIENCE {
                bail!("nobody led {} s after SIG{signal}", PATIENCE.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        failovers.push(Failover { signal, took });
    }
    Ok(failovers)
}

async fn holder(fleet: &Fleet) -> Result<String> {
    let leases: Api<Lease> = Api::namespaced(fleet.admin.clone(), NAMESPACE);
    let lease = leases.get("livepatch-operator").await.context("read the lease")?;
    Ok(lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default())
}
