//! `plan -f FILE`: what a `LivepatchSet` would do to this cluster, before it is applied. What is said is pure and comes
//! from the planners that the operator and the agents use; what is here does IO.

mod fleet;
mod situation;
mod told;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use livepatch_crds::LivepatchSet;

use self::fleet::Facts;
use crate::cluster::{Cluster, ClusterOptions};
use crate::options::ColourOptions;
use crate::output::{self, Failure};
use crate::registry::{Artefacts, RegistryOptions};

const ABOUT: &str = "\
Say what a LivepatchSet would do to this cluster, before it is applied: which nodes it selects and in which waves, which of
their kernels the artefact covers, and for each distinct situation of a node (kernel, and what is loaded there) the steps,
which fixes are out of effect meanwhile, whether there is a way back, and what forbids it.

Nothing is written. The plans are made by the operator's and the agents' own planners, from what the agents last reported
and what the artefacts in the registry say. Two things only a node knows and are taken to be well: that no transition was
forced since it booted, and that no module is left over.

Needs the right to list nodes, besides that to read livepatch.dev.

Exit codes: 0 nothing blocks it, 2 something does, 1 it cannot be told, or the command line is wrong";

/// `plan -f FILE`.
#[derive(Debug, Clone, Args)]
#[command(about = "Say what a LivepatchSet would do, before it is applied", long_about = ABOUT)]
pub struct PlanOptions {
    /// The LivepatchSet, YAML or JSON; - is standard input
    #[arg(long, short, value_name = "FILE")]
    pub filename: PathBuf,

    #[command(flatten)]
    pub colour: ColourOptions,

    #[command(flatten)]
    pub registry: RegistryOptions,

    #[command(flatten)]
    pub cluster: ClusterOptions,
}

/// It cannot be told.
pub const UNKNOWN: u8 = 1;
/// Something blocks it.
const BLOCKED: u8 = 2;
/// No LivepatchSet is as large.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Runs the command.
pub fn run(options: &PlanOptions) -> ExitCode {
    let screen = output::screen(options.colour.no_color);
    let result = read(&options.filename).and_then(|set| {
        output::block_on(async {
            let cluster = Cluster::connect(&options.cluster).await?;
            let mut families = cluster.families().await?;
            let nodes = cluster.all_nodes(fleet::node).await?;
            let running = cluster.nodes(fleet::running).await?.into_iter().collect();
            // The artefact of what is planned is read with the others.
            let planned = crate::family::Family::of(set.clone(), []);
            families.push(planned);
            let artefacts = Artefacts::of(&families, options.registry.config()?).await?;
            families.pop();
            for (reference, why) in &artefacts.unread {
                output::note(&format!("warning: artefact {reference} cannot be read: {why}"));
            }
            let facts = Facts {
                set: &set,
                families: &families,
                artefacts: &artefacts,
                nodes: &nodes,
                running: &running,
            };
            let outlook = fleet::outlook(&facts);
            Ok((told::tell(&outlook, screen), outlook.is_blocked()))
        })
    });
    match result {
        Ok((text, is_blocked)) => {
            let _ = output::print(&text);
            ExitCode::from(if is_blocked { BLOCKED } else { 0 })
        }
        Err(failure) => {
            output::complain(&failure);
            ExitCode::from(UNKNOWN)
        }
    }
}

fn read(path: &Path) -> Result<LivepatchSet, Failure> {
    let unreadable = |source: Box<dyn std::error::Error>| Failure::File {
        path: path.to_owned(),
        source,
    };
    let reader: Box<dyn io::Read> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(path).map_err(|error| unreadable(error.into()))?)
    };
    let mut text = String::new();
    reader
        .take(MAX_FILE_BYTES)
        .read_to_string(&mut text)
        .map_err(|error| unreadable(error.into()))?;
    serde_saphyr::from_str(&text).map_err(|error| unreadable(error.to_string().into()))
}
