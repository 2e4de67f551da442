//! The release as Helm sees it.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::stage::Stage;

/// An upgrade ends cleanly, an uninstall too; livepatches and objects stay, and a new installation takes them over.
pub fn uninstall(stage: &Stage) -> Result<()> {
    let before = stage.effective()?;
    stage
        .installation
        .upgrade(&json!({"operator": {"logFormat": "text"}}))?;
    stage.installation.uninstall()?;
    ensure!(stage.effective()? == before, "livepatches did not stay");
    let objects = stage.kubectl().run(&["get", "lps,lpr,nlp", "--output=name"])?;
    ensure!(
        objects.contains("livepatchset") && objects.contains("nodelivepatch"),
        "{objects}"
    );
    stage.installation.upgrade(&json!({}))?;
    ensure!(stage.effective()? == before, "a new installation changed something");
    Ok(())
}
