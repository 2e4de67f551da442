//! `history`: the revisions of a set, the newest first. Rendering is pure; [`run`] does IO.

use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use livepatch_crds::LivepatchRollout;

use crate::cluster::{Cluster, ClusterOptions};
use crate::family::{self, Family, created};
use crate::options::{ColourOptions, Format, RevisionPrefix, SetName};
use crate::output::{self, Failure};
use crate::text::{Cell, Screen, Table, age};

const ABOUT: &str = "\
Show the revisions of a LivepatchSet that are kept (spec.revisionHistoryLimit), the newest rollout first.

The revision that the set asks for is marked with *. A revision is the hash of spec.template: the same template is the same
revision, whenever it comes.";

/// `history SET`.
#[derive(Debug, Clone, Args)]
#[command(about = "Show the revisions of a LivepatchSet", long_about = ABOUT)]
pub struct HistoryOptions {
    /// The LivepatchSet
    #[arg(value_name = "SET")]
    pub set: SetName,

    /// Only this revision; the first digits are enough
    #[arg(long, value_name = "REVISION")]
    pub revision: Option<RevisionPrefix>,

    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Format,

    #[command(flatten)]
    pub colour: ColourOptions,

    #[command(flatten)]
    pub cluster: ClusterOptions,
}

/// Runs the command.
pub fn run(options: &HistoryOptions) -> ExitCode {
    let screen = output::screen(options.colour.no_color);
    output::conclude(output::block_on(async {
        let family = Cluster::connect(&options.cluster).await?.family(&options.set).await?;
        let rollouts = match &options.revision {
            Some(revision) => vec![family.rollout_of(revision)?],
            None => family.rollouts.iter().collect(),
        };
        show(&family, &rollouts, options.output, Timestamp::now(), screen)
    }))
}

fn show(
    family: &Family,
    rollouts: &[&LivepatchRollout],
    format: Format,
    now: Timestamp,
    screen: Screen,
) -> Result<String, Failure> {
    match (format, rollouts) {
        (Format::Text | Format::Wide, []) => Ok(format!("LivepatchSet {} has no rollout yet\n", family.name())),
        (Format::Text | Format::Wide, _) => Ok(table(family, rollouts, format == Format::Wide, now).render(screen)),
        (Format::Json, [one]) => output::json(one),
        (Format::Yaml, [one]) => output::yaml(one),
        (Format::Json, _) => output::json(&objects(rollouts)),
        (Format::Yaml, _) => output::yaml(&objects(rollouts)),
        (Format::Name, _) => {
            let names = rollouts.iter().map(|rollout| family::name(&rollout.metadata));
            Ok(output::names("livepatchrollout", names))
        }
    }
}

fn objects(rollouts: &[&LivepatchRollout]) -> serde_json::Value {
    serde_json::json!({"apiVersion": "v1", "kind": "List", "items": rollouts})
}

fn table(family: &Family, rollouts: &[&LivepatchRollout], wide: bool, now: Timestamp) -> Table {
    let mut table = if wide {
        Table::headed([
            "REVISION",
            "STATE",
            "SETTLED",
            "FAILED",
            "ATTEMPT",
            "AGE",
            "PROMOTED THROUGH",
            "ARTEFACT",
        ])
    } else {
        Table::headed(["REVISION", "STATE", "SETTLED", "FAILED", "ATTEMPT", "AGE", "ARTEFACT"])
    };
    for rollout in rollouts {
        let status = family::rollout_status(rollout);
        let state = family::state(&status.conditions);
        let control = family::control(rollout);
        let mark = if family.is_current(rollout) { "*" } else { "" };
        let mut row: Vec<Cell> = vec![
            format!("{}{mark}", family.revision(rollout)).into(),
            Cell::new(state.tone, state.reason),
            format!("{}/{}", status.counts.settled, status.counts.selected).into(),
            status.counts.failed.to_string().into(),
            control.attempt.to_string().into(),
            created(&rollout.metadata)
                .map_or_else(|| "-".to_owned(), |then| age(then, now))
                .into(),
        ];
        if wide {
            row.push(control.promoted_through.as_deref().unwrap_or("-").into());
        }
        row.push(rollout.spec.template.source.oci.reference.as_str().into());
        table.row(row);
    }
    table
}
