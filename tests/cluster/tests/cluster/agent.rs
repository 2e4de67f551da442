//! What the agent's container may do.

use anyhow::{Context, Result, ensure};

use crate::stage::Stage;

/// `SYS_MODULE` (16), `DAC_READ_SEARCH` (2) and `SYSLOG` (34), as /proc shows a set of capabilities.
const CAPABILITIES: u64 = 1 << 16 | 1 << 2 | 1 << 34;

/// Not privileged, three capabilities, no new privileges, seccomp on, and `AppArmor` enforcing, on every node.
pub fn is_confined(stage: &Stage) -> Result<()> {
    for node in stage.cluster.nodes() {
        let enabled = node.shell("cat /sys/module/apparmor/parameters/enabled")?;
        ensure!(enabled.trim() == "Y", "AppArmor is off on {}", node.name());
        let pid = node.shell("pgrep -o -f '^/livepatch-agent'")?;
        let pid = pid.trim();
        let status = node.shell(&format!("cat /proc/{pid}/status"))?;
        let field = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .map(str::trim)
                .context(format!("no {name} in {status}"))
        };
        let effective = u64::from_str_radix(field("CapEff:")?, 16)?;
        let bounding = u64::from_str_radix(field("CapBnd:")?, 16)?;
        ensure!(
            effective == CAPABILITIES,
            "{}: effective capabilities {effective:x}",
            node.name()
        );
        ensure!(bounding == CAPABILITIES, "{}: bounding set {bounding:x}", node.name());
        ensure!(
            field("NoNewPrivs:")? == "1",
            "{}: new privileges are possible",
            node.name()
        );
        ensure!(field("Seccomp:")? == "2", "{}: no seccomp filter", node.name());
        let profile = node.shell(&format!("cat /proc/{pid}/attr/current"))?;
        ensure!(
            profile.contains("(enforce)"),
            "{}: AppArmor profile {profile:?}",
            node.name()
        );
    }
    Ok(())
}
