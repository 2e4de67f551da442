//! `cves`: which nodes have which fix, which lack it and since when. What is said is pure; what is here does IO.

mod standing;

use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use livepatch_crds::NodeLivepatch;

use self::standing::{Facts, Report, Running, Wanted, told};
use crate::cluster::{Cluster, ClusterOptions};
use crate::options::{ColourOptions, NodeName};
use crate::output;
use crate::registry::{Artefacts, RegistryOptions};

const ABOUT: &str = "\
Show which nodes have the fix of which CVE, which lack it and since when. With a CVE or --node node by node.

The CVEs are those that were given to kubectl livepatch push, read from the artefacts in the registry. A node counts for a
CVE if a LivepatchSet with an artefact for it selects the node. It has the fix if its kernel runs a livepatch of such an
artefact, enabled and in no transition, as its agent read in the boot that the node is in; where that is not known it is not
told as fixed. It lacks the fix since the fix was first rolled out to it: since the rollout or the node was made, whichever
came later; that a node had it in between is not known.

Needs the right to list nodes, besides that to read livepatch.dev.";

/// `cves [CVE]`.
#[derive(Debug, Clone, Args)]
#[command(about = "Show which nodes have which fix, and which lack it since when", long_about = ABOUT)]
pub struct CvesOptions {
    /// Only this one, node by node
    #[arg(value_name = "CVE")]
    pub cve: Option<String>,

    /// Only this node
    #[arg(long, value_name = "NODE")]
    pub node: Option<NodeName>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub colour: ColourOptions,

    #[command(flatten)]
    pub registry: RegistryOptions,

    #[command(flatten)]
    pub cluster: ClusterOptions,
}

/// Runs the command.
pub fn run(options: &CvesOptions) -> ExitCode {
    let screen = output::screen(options.colour.no_color);
    output::conclude(output::block_on(async {
        let cluster = Cluster::connect(&options.cluster).await?;
        let families = cluster.families().await?;
        let artefacts = Artefacts::of(&families, options.registry.config()?).await?;
        for (reference, why) in &artefacts.unread {
            output::note(&format!("warning: artefact {reference} cannot be read: {why}"));
        }
        let wanted = cluster.all_nodes(node).await?;
        let running = cluster.nodes(running).await?.into_iter().collect();
        let facts = Facts {
            families: &families,
            artefacts: &artefacts,
            nodes: wanted,
            running,
        };
        let report = Report::of(
            &facts,
            options.cve.as_deref(),
            options.node.as_ref().map(NodeName::as_str),
        );
        if options.json {
            output::json(&report)
        } else {
            let by_node = options.cve.is_some() || options.node.is_some();
            Ok(told(&report, by_node, Timestamp::now(), screen))
        }
    }))
}

fn node(node: Node) -> Option<Wanted> {
    let status = node.status.and_then(|status| status.node_info);
    Some(Wanted {
        name: node.metadata.name?,
        labels: node.metadata.labels.unwrap_or_default(),
        created: node.metadata.creation_timestamp.map(|time| time.0),
        boot_id: status.map(|info| info.boot_id).unwrap_or_default(),
    })
}

fn running(object: NodeLivepatch) -> Option<(String, Running)> {
    let name = object.metadata.name?;
    let status = object.status?;
    let running = Running {
        boot_id: status.boot_id,
        kernel: status.kernel,
        loaded: status.loaded,
    };
    Some((name, running))
}
