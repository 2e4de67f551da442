//! `owners`: function by function, which set's livepatch is effective. Pure but for [`run`].

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;
use livepatch_crds::NodeLivepatch;
use livepatch_crds::node::{LoadedLivepatch, Owner};
use serde::Serialize;

use crate::cluster::{Cluster, ClusterOptions};
use crate::options::{ColourOptions, NodeName};
use crate::output;
use crate::registry::{Artefacts, RegistryOptions};
use crate::text::{Cell, Screen, Table, Tone, count};

const ABOUT: &str = "\
Show, function by function, which set's livepatch is in effect: on one node, or over the fleet with the number of nodes.

What is loaded is what the agents read from their kernels; which functions a module replaces is read from the artefacts in
the registry. Of modules that are in no artefact only the number of functions is known.";

/// `owners [NODE]`.
#[derive(Debug, Clone, Args)]
#[command(about = "Show which set's livepatch is in effect, function by function", long_about = ABOUT)]
pub struct OwnersOptions {
    /// The node
    #[arg(value_name = "NODE")]
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
pub fn run(options: &OwnersOptions) -> ExitCode {
    let screen = output::screen(options.colour.no_color);
    output::conclude(output::block_on(async {
        let cluster = Cluster::connect(&options.cluster).await?;
        let nodes = match &options.node {
            Some(name) => Vec::from_iter(gist(cluster.node_livepatch(name).await?)),
            None => cluster.nodes(gist).await?,
        };
        let families = cluster.families().await?;
        let artefacts = Artefacts::of(&families, options.registry.config()?).await?;
        for (reference, why) in &artefacts.unread {
            output::note(&format!("warning: artefact {reference} cannot be read: {why}"));
        }
        let owned = owned(&nodes, &artefacts);
        if options.json {
            output::json(&owned)
        } else {
            Ok(show(&owned, options.node.is_none(), screen))
        }
    }))
}

/// What a node's kernel holds.
struct Held {
    loaded: Vec<LoadedLivepatch>,
}

fn gist(object: NodeLivepatch) -> Option<Held> {
    let loaded = object.status?.loaded;
    (!loaded.is_empty()).then_some(Held { loaded })
}

/// A function, and whose livepatch of it is in effect.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
struct Owned {
    /// `vmlinux` or a module; nothing where the functions are not known.
    object: Option<String>,
    function: String,
    /// Nothing if no set asks for it.
    set: Option<String>,
    owner: Whose,
    module: String,
    state: Effect,
}

/// [`Owner`], with an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
enum Whose {
    Set,
    Retained,
    Foreign,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
enum Effect {
    Effective,
    /// The kernel is switching its tasks over.
    Switching,
    Disabled,
    /// Another livepatch that is enabled replaces the same function: the one that was loaded last is in effect.
    Contested,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct OwnedBy {
    #[serde(flatten)]
    what: Owned,
    nodes: usize,
}

/// All functions that are replaced somewhere, and on how many nodes.
fn owned(nodes: &[Held], artefacts: &Artefacts) -> Vec<OwnedBy> {
    let mut all: BTreeMap<Owned, usize> = BTreeMap::new();
    for node in nodes {
        for what in on_node(node, artefacts) {
            *all.entry(what).or_default() += 1;
        }
    }
    all.into_iter().map(|(what, nodes)| OwnedBy { what, nodes }).collect()
}

fn on_node(node: &Held, artefacts: &Artefacts) -> Vec<Owned> {
    let mut all = Vec::new();
    for livepatch in &node.loaded {
        let state = match (livepatch.enabled, livepatch.transition) {
            (_, true) => Effect::Switching,
            (true, false) => Effect::Effective,
            (false, false) => Effect::Disabled,
        };
        let owned = |object: Option<&str>, function: String| Owned {
            object: object.map(str::to_owned),
            function,
            set: livepatch.set.clone(),
            owner: match livepatch.owner {
                Owner::Set => Whose::Set,
                Owner::Retained => Whose::Retained,
                Owner::Foreign => Whose::Foreign,
            },
            module: livepatch.module.clone(),
            state,
        };
        if let Some((_, entry)) = artefacts.module(&livepatch.build_id) {
            all.extend(entry.inspection.functions().map(|(object, function)| {
                let name = match function.position {
                    1 => function.name.clone(),
                    position => format!("{},{position}", function.name),
                };
                owned(Some(object), name)
            }));
        } else {
            let functions = livepatch.function_count;
            let functions = functions.map_or_else(|| "functions".to_owned(), |number| count(number, "function"));
            all.push(owned(None, format!("{functions}, not known which")));
        }
    }
    contest(&mut all);
    all
}

/// Marks what is replaced by more than one livepatch that is enabled.
fn contest(all: &mut [Owned]) {
    let key = |one: &Owned| Some((one.object.clone()?, one.function.clone()));
    let mut times: BTreeMap<(String, String), usize> = BTreeMap::new();
    for one in all.iter().filter(|one| one.state == Effect::Effective) {
        if let Some(key) = key(one) {
            *times.entry(key).or_default() += 1;
        }
    }
    for one in all.iter_mut().filter(|one| one.state == Effect::Effective) {
        if key(one).is_some_and(|key| times.get(&key).is_some_and(|times| *times > 1)) {
            one.state = Effect::Contested;
        }
    }
}

fn show(all: &[OwnedBy], fleet: bool, screen: Screen) -> String {
    if all.is_empty() {
        return "No livepatch is loaded\n".to_owned();
    }
    let mut table = if fleet {
        Table::headed(["OBJECT", "FUNCTION", "WHOSE", "MODULE", "NODES", "STATE"])
    } else {
        Table::headed(["OBJECT", "FUNCTION", "WHOSE", "MODULE", "STATE"])
    };
    for OwnedBy { what, nodes } in all {
        let set = what.set.as_deref().unwrap_or_default();
        let whose = match what.owner {
            Whose::Set => Cell::from(set),
            Whose::Retained => Cell::new(Tone::Wait, format!("retained, {set} once")),
            Whose::Foreign => Cell::new(Tone::Wait, "somebody else's"),
        };
        let state = match what.state {
            Effect::Effective => Cell::new(Tone::Good, "effective"),
            Effect::Switching => Cell::new(Tone::Busy, "being switched"),
            Effect::Disabled => Cell::new(Tone::Bad, "disabled"),
            Effect::Contested => Cell::new(Tone::Bad, "one of several, the last one loaded is effective"),
        };
        let mut row = vec![
            Cell::from(what.object.as_deref().unwrap_or("-")),
            Cell::from(what.function.as_str()),
            whose,
            Cell::from(what.module.as_str()),
        ];
        if fleet {
            row.push(Cell::from(nodes.to_string()));
        }
        row.push(state);
        table.row(row);
    }
    table.render(Screen { width: None, ..screen })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::fixture::artefacts;
    use serde_json::{Value, json};

    fn held(loaded: &[Value]) -> Held {
        let livepatch = |over: &Value| {
            let mut one = json!({"module": "m", "buildID": "", "owner": "Set", "enabled": true, "transition": false});
            for (key, value) in over.as_object().unwrap() {
                one[key] = value.clone();
            }
            serde_json::from_value(one).unwrap()
        };
        Held {
            loaded: loaded.iter().map(livepatch).collect(),
        }
    }

    fn shown(nodes: &[Held], fleet: bool) -> String {
        let artefacts = artefacts(&[
            (
                "r.io/a@sha256:0",
                "b1",
                &["CVE-2026-1"],
                &[("vmlinux", "nft_set"), ("nf_tables", "nft_get")],
            ),
            ("r.io/b@sha256:0", "b2", &[], &[("vmlinux", "nft_set")]),
        ]);
        show(&owned(nodes, &artefacts), fleet, Screen::default())
    }

    #[test]
    fn every_function_has_its_owner_and_what_is_not_known_is_said() {
        let node = held(&[
            json!({"module": "lp_a", "buildID": "b1", "set": "a"}),
            json!({"module": "evil\u{1b}[2J", "buildID": "b9", "owner": "Foreign", "functionCount": 1, "enabled": false}),
        ]);
        let text = shown(&[node], false);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[1].starts_with('-') && lines[1].contains("1 function, not known which"),
            "{text}"
        );
        assert!(
            lines[1].contains("somebody else's   evil [2J") && lines[1].ends_with("disabled"),
            "{text}"
        );
        assert!(
            lines[2].starts_with("nf_tables   nft_get") && lines[2].ends_with("effective"),
            "{text}"
        );
        assert!(lines[3].starts_with("vmlinux     nft_set"), "{text}");
    }

    #[test]
    fn over_the_fleet_nodes_are_counted() {
        let nodes = [
            held(&[json!({"module": "lp_a", "buildID": "b1", "set": "a"})]),
            held(&[json!({"module": "lp_a", "buildID": "b1", "set": "a"})]),
            held(&[json!({"module": "lp_a", "buildID": "b1", "set": "a", "transition": true})]),
        ];
        let text = shown(&nodes, true);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert!(
            lines.contains(&vec!["vmlinux", "nft_set", "a", "lp_a", "2", "effective"]),
            "{text}"
        );
        assert!(
            lines.contains(&vec!["vmlinux", "nft_set", "a", "lp_a", "1", "being", "switched"]),
            "{text}"
        );
    }

    #[test]
    fn two_of_one_function_are_not_both_effective() {
        let node = held(&[
            json!({"module": "lp_a", "buildID": "b1", "set": "a"}),
            json!({"module": "lp_b", "buildID": "b2", "set": "b"}),
        ]);
        let text = shown(&[node], false);
        assert_eq!(text.matches("one of several").count(), 2, "{text}");
        assert!(
            text.lines()
                .any(|line| line.contains("nft_get") && line.ends_with("effective")),
            "{text}"
        );
    }
}
