//! What `push` prints: the reference, everything, or a `LivepatchSet` to start from. No IO.

use livepatch_artifact::{Assembled, BundleEntry, Reference};
use livepatch_crds::policy::{Drift, ForeignPolicy, RemovalPolicy};
use livepatch_crds::selector::LabelValue;
use livepatch_crds::set::{OciSource, RolloutStrategy, Source, Template, Then, TransitionPolicy, Wave};
use livepatch_crds::{LivepatchSet, LivepatchSetSpec, LivepatchType, NodeSelector};
use livepatch_module::ReplaceValue;
use serde::Serialize;

use super::Failure;
use crate::cli::Output;

/// Longest name of a `LivepatchSet`, as its schema has it.
const MAX_NAME: usize = 52;
/// Value of the label that the sample for an off-band livepatch selects: no node has it.
const PLACEHOLDER: &str = "CHANGE-ME";

/// The text for standard output.
pub(super) fn render(
    output: Output,
    tag: Option<&str>,
    reference: &Reference,
    artefact: &Assembled,
) -> Result<String, Failure> {
    match output {
        Output::Text => Ok(format!("{reference}\n")),
        Output::Json => json(tag, reference, artefact),
        Output::Yaml => yaml(reference, artefact),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Pushed<'a> {
    reference: String,
    tag: Option<&'a str>,
    cves: &'a [String],
    modules: Vec<PushedModule<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PushedModule<'a> {
    manifest: &'a str,
    kernel_release: &'a str,
    #[serde(rename = "kernelBuildID")]
    kernel_build_id: Option<&'a str>,
    architecture: &'static str,
    name: &'a str,
    sha256: &'a str,
    #[serde(rename = "buildID")]
    build_id: &'a str,
    replace: &'static str,
}

fn json(tag: Option<&str>, reference: &Reference, artefact: &Assembled) -> Result<String, Failure> {
    let bundle = &artefact.bundle;
    let pushed = Pushed {
        reference: reference.to_string(),
        tag,
        cves: &bundle.cves,
        modules: bundle.entries.iter().map(pushed_module).collect(),
    };
    let text = serde_json::to_string_pretty(&pushed).map_err(|error| unprintable(error.into()))?;
    Ok(text + "\n")
}

fn pushed_module(entry: &BundleEntry) -> PushedModule<'_> {
    PushedModule {
        manifest: entry.manifest.as_str(),
        kernel_release: &entry.kernel_release,
        kernel_build_id: entry.kernel_build_id.as_deref(),
        architecture: entry.architecture.into(),
        name: &entry.module.name,
        sha256: &entry.module.sha256,
        build_id: &entry.module.build_id,
        replace: entry.inspection.replace.value.into(),
    }
}

fn yaml(reference: &Reference, artefact: &Assembled) -> Result<String, Failure> {
    let (livepatch_type, why) = livepatch_type(&artefact.bundle.entries);
    let name = set_name(reference.repository().path());
    let set = LivepatchSet::new(&name, spec(livepatch_type, reference));
    let mut set = serde_json::to_value(&set).map_err(|error| unprintable(error.into()))?;
    if let Some(fields) = set.as_object_mut() {
        fields.remove("status");
    }
    // A reference in one line, for those who search and replace it.
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    let text = serde_saphyr::to_string_with_options(&set, options).map_err(|error| unprintable(error.into()))?;
    let kernels: Vec<&str> = artefact
        .bundle
        .entries
        .iter()
        .map(|entry| entry.kernel_release.as_str())
        .collect();
    let nodes = match livepatch_type {
        LivepatchType::Cumulative => {
            "nodeSelector: {} is every node. The nodes of wave canary come first and wait for promotion."
        }
        LivepatchType::OffBand => "Say in nodeSelector which nodes need it; as it is no node has the label.",
    };
    let fixes = match artefact.bundle.cves.as_slice() {
        [] => String::new(),
        cves => format!("# Fixes {}.\n", cves.join(", ")),
    };
    Ok(format!(
        "# For kernels {}.\n{fixes}# Type {livepatch_type:?}: {why}\n# {nodes}\n{}\n",
        kernels.join(", "),
        text.trim_end()
    ))
}

/// Off-band needs proof that every module leaves the others alone; everything else is planned as if it replaced them.
fn livepatch_type(entries: &[BundleEntry]) -> (LivepatchType, &'static str) {
    let all = |value| entries.iter().all(|entry| entry.inspection.replace.value == value);
    if all(ReplaceValue::False) {
        (
            LivepatchType::OffBand,
            "no module has the replace flag, so it is loaded beside the others.",
        )
    } else if all(ReplaceValue::True) {
        (
            LivepatchType::Cumulative,
            "every module has the replace flag, so it replaces the others.",
        )
    } else {
        (
            LivepatchType::Cumulative,
            "not every module is proven to lack the replace flag, which OffBand needs.",
        )
    }
}

fn spec(livepatch_type: LivepatchType, reference: &Reference) -> LivepatchSetSpec {
    let labelled = |key: &str, value: &str| NodeSelector {
        match_labels: [(key.to_owned(), LabelValue(value.to_owned()))].into(),
        ..NodeSelector::default()
    };
    LivepatchSetSpec {
        livepatch_type,
        node_selector: match livepatch_type {
            LivepatchType::Cumulative => NodeSelector::default(),
            LivepatchType::OffBand => labelled("workload", PLACEHOLDER),
        },
        template: Template {
            source: Source {
                oci: OciSource {
                    reference: reference.to_string(),
                },
            },
            off_band: None,
            cumulative: None,
        },
        rollout: RolloutStrategy {
            waves: vec![Wave {
                name: "canary".to_owned(),
                node_selector: Some(labelled("pool", "canary")),
                percent: None,
                max_concurrent: None,
                min_succeeded: 1,
                soak_seconds: 3600,
                then: Then::AwaitPromotion,
            }],
            ..RolloutStrategy::default()
        },
        transition: TransitionPolicy::default(),
        drift: Drift::default(),
        foreign_policy: ForeignPolicy::default(),
        removal_policy: RemovalPolicy::default(),
        revision_history_limit: 10,
    }
}

/// A name for the set from the last part of the repository.
fn set_name(path: &str) -> String {
    let last = path.rsplit('/').next().unwrap_or_default();
    let mut name: String = last
        .chars()
        .map(|c| if c == '_' || c == '.' { '-' } else { c })
        .take(MAX_NAME)
        .collect();
    name.truncate(name.trim_end_matches('-').len());
    name
}

fn unprintable(source: Box<dyn std::error::Error>) -> Failure {
    Failure::Other {
        what: "pushed, but the answer cannot be printed",
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_gives_a_name_that_a_set_may_have() {
        for (path, name) in [
            ("livepatches/nf-tables", "nf-tables"),
            ("a/nf_tables.v2", "nf-tables-v2"),
            ("a/b", "b"),
            (&format!("a/{}-b", "x".repeat(51)), &"x".repeat(51)),
        ] {
            assert_eq!(set_name(path), name);
        }
    }

    #[test]
    fn the_sample_reaches_no_node_unread() {
        let reference: Reference = format!("r.io/livepatches/fix@sha256:{}", "0".repeat(64))
            .parse()
            .unwrap();
        let off_band = spec(LivepatchType::OffBand, &reference);
        assert_eq!(off_band.node_selector.match_labels["workload"].0, PLACEHOLDER);
        let cumulative = spec(LivepatchType::Cumulative, &reference);
        assert_eq!(cumulative.rollout.waves[0].then, Then::AwaitPromotion);
        assert!(cumulative.rollout.waves[0].node_selector.is_some());
    }
}
