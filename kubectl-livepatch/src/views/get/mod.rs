//! `get`: a set as a tree down to the nodes that need attention. The tree is pure; what is here does IO.

mod tree;

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::cluster::{Cluster, ClusterError, ClusterOptions, Kind};
use crate::family::Family;
use crate::live::Live;
use crate::nodes::NodeGist;
use crate::options::{ColourOptions, Format, SetName};
use crate::output::{self, Failure};
use crate::seen::Seen;

const ABOUT: &str = "\
Show LivepatchSets as trees: set, rollout, wave, kernel build, and those nodes that need attention; of the others only how
many there are. Without SET all of them.

  ✔ done   ● at work   ◐ waits   ○ not begun   ✖ failed";

/// `get [SET]`.
#[derive(Debug, Clone, Args)]
#[command(about = "Show LivepatchSets as trees, down to the nodes that need attention", long_about = ABOUT)]
pub struct GetOptions {
    /// The LivepatchSet
    #[arg(value_name = "SET")]
    pub set: Option<SetName>,

    /// Go on showing what changes, in place on a terminal
    #[arg(long, short)]
    pub watch: bool,

    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Format,

    #[command(flatten)]
    pub colour: ColourOptions,

    #[command(flatten)]
    pub cluster: ClusterOptions,
}

/// Shortest time between two drawings.
const PAUSE: Duration = Duration::from_millis(500);
/// Ages are drawn anew after that long, though nothing changed.
const STALE: Duration = Duration::from_secs(10);

/// Runs the command.
pub fn run(options: &GetOptions) -> ExitCode {
    let result = output::block_on(async {
        let cluster = Cluster::connect(&options.cluster).await?;
        let draws = matches!(options.output, Format::Text | Format::Wide);
        if options.watch && draws {
            follow(&cluster, options).await.map(|()| String::new())
        } else {
            once(&cluster, options).await
        }
    });
    output::conclude(result)
}

async fn once(cluster: &Cluster, options: &GetOptions) -> Result<String, Failure> {
    let families = match &options.set {
        Some(name) => vec![cluster.family(name).await?],
        None => cluster.families().await?,
    };
    match options.output {
        Format::Text | Format::Wide => {
            let nodes = cluster.nodes(NodeGist::of).await?;
            let screen = output::screen(options.colour.no_color);
            let table = tree::tree(&families, &nodes, options.output == Format::Wide, Timestamp::now());
            Ok(if families.is_empty() {
                "No LivepatchSets found\n".to_owned()
            } else {
                table.render(crate::text::Screen { width: None, ..screen })
            })
        }
        Format::Json => output::json(&objects(&families)),
        Format::Yaml => output::yaml(&objects(&families)),
        Format::Name => Ok(output::names("livepatchset", families.iter().map(Family::name))),
    }
}

/// The sets, each followed by its rollouts.
fn objects(families: &[Family]) -> serde_json::Value {
    let items: Vec<serde_json::Value> = families
        .iter()
        .flat_map(|family| {
            let set = serde_json::to_value(&family.set);
            let rollouts = family.rollouts.iter().map(serde_json::to_value);
            std::iter::once(set).chain(rollouts).flatten()
        })
        .collect();
    serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items})
}

/// Draws again whenever something changed, until the set is gone or the person goes away.
async fn follow(cluster: &Cluster, options: &GetOptions) -> Result<(), Failure> {
    let mut live = Live::new(output::screen(options.colour.no_color));
    // What is there now is looked for first, so that a wrong name or a missing right is an error and no endless wait.
    match &options.set {
        Some(name) => drop(cluster.family(name).await?),
        None => drop(cluster.families().await?),
    }
    let kinds = [Kind::Sets, Kind::Rollouts, Kind::Nodes];
    let mut changes = cluster.follow(options.set.as_ref(), &kinds);
    let mut seen = Seen::of(&kinds);
    let mut draw_at = Instant::now() + STALE;
    let mut drawn_at = None::<Instant>;
    loop {
        tokio::select! {
            change = changes.next() => {
                let Some(change) = change else { return Ok(()) };
                seen.take(change);
                if seen.is_known() {
                    let earliest = drawn_at.map_or_else(Instant::now, |at| at + PAUSE);
                    draw_at = draw_at.min(earliest);
                }
            }
            () = tokio::time::sleep_until(draw_at), if seen.is_known() => {
                let families = seen.families();
                if let (Some(name), true) = (&options.set, families.is_empty()) {
                    return Err(ClusterError::NoSuchSet { name: name.to_string() }.into());
                }
                let table = tree::tree(&families, seen.nodes(), options.output == Format::Wide, Timestamp::now());
                if live.draw(&table, seen.trouble()).is_err() {
                    return Ok(());
                }
                drawn_at = Some(Instant::now());
                draw_at = Instant::now() + STALE;
            }
        }
    }
}
