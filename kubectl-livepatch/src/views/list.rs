//! `list`: one line for each set. Rendering is pure; [`run`] does IO.

use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;

use crate::cluster::{Cluster, ClusterOptions};
use crate::family::{self, Family, created};
use crate::options::{ColourOptions, Format};
use crate::output::{self, Failure};
use crate::text::{Cell, Screen, Table, age};

/// `list`.
#[derive(Debug, Clone, Args)]
pub struct ListOptions {
    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Format,

    #[command(flatten)]
    pub colour: ColourOptions,

    #[command(flatten)]
    pub cluster: ClusterOptions,
}

/// Runs the command.
pub fn run(options: &ListOptions) -> ExitCode {
    let screen = output::screen(options.colour.no_color);
    output::conclude(output::block_on(async {
        let families = Cluster::connect(&options.cluster).await?.families().await?;
        show(&families, options.output, Timestamp::now(), screen)
    }))
}

fn show(families: &[Family], format: Format, now: Timestamp, screen: Screen) -> Result<String, Failure> {
    match format {
        Format::Text | Format::Wide if families.is_empty() => Ok("No LivepatchSets found\n".to_owned()),
        Format::Text | Format::Wide => Ok(table(families, format == Format::Wide, now).render(screen)),
        Format::Json => output::json(&objects(families)),
        Format::Yaml => output::yaml(&objects(families)),
        Format::Name => Ok(output::names("livepatchset", families.iter().map(Family::name))),
    }
}

fn objects(families: &[Family]) -> serde_json::Value {
    let items: Vec<_> = families.iter().map(|family| &family.set).collect();
    serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items})
}

fn table(families: &[Family], wide: bool, now: Timestamp) -> Table {
    let mut table = if wide {
        Table::headed([
            "NAME",
            "TYPE",
            "STATE",
            "WAVE",
            "SETTLED",
            "SELECTED",
            "FAILED",
            "AGE",
            "REVISION",
            "BLOCKED BY",
        ])
    } else {
        Table::headed(["NAME", "TYPE", "STATE", "WAVE", "SETTLED", "SELECTED", "FAILED", "AGE"])
    };
    for family in families {
        let status = family.status();
        let state = family::state(&status.conditions);
        let counts = status.counts;
        let mut row: Vec<Cell> = vec![
            family.name().into(),
            format!("{:?}", family.set.spec.livepatch_type).into(),
            Cell::new(state.tone, state.reason),
            status.wave.as_deref().unwrap_or("-").into(),
            counts.settled.to_string().into(),
            counts.selected.to_string().into(),
            counts.failed.to_string().into(),
            created(&family.set.metadata)
                .map_or_else(|| "-".to_owned(), |then| age(then, now))
                .into(),
        ];
        if wide {
            row.push(status.update_revision.as_deref().unwrap_or("-").into());
            row.push(status.blocked_by.as_deref().unwrap_or("").into());
        }
        table.row(row);
    }
    table
}
