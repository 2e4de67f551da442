//! What the artefacts tell before any node is touched: livepatches that must not meet on a node.
//!
//! Whoever asks for a new grant is the newcomer and is refused; what another set has on the node, or will have because it
//! is older, stays as it is. What an artefact does not tell, the node's agent finds.

use super::acceptance::{Acceptance, Meetings};
use super::snapshot::{BundleView, Described, ModuleView, NodeView, SetView};
use super::standing::{Coverage, coverage, report, set_grant};
use livepatch_crds::LivepatchType;
use livepatch_module::ReplaceValue;
use livepatch_module::conflict::{LoadedView, Owner, Refusal, SetKind, Supersedes, Wanted, coexistence};

/// What speaks against new grants of a set, whatever other sets there are: an off-band livepatch must provably not
/// replace others.
pub(super) fn unproven(set: &SetView) -> Option<Acceptance> {
    let module = modules(set).iter().find(|module| {
        let inspection = module.described.as_deref().map(Described::inspection);
        set.spec.livepatch_type == LivepatchType::OffBand
            && inspection.is_some_and(|inspection| inspection.replace.value != ReplaceValue::False)
    })?;
    let replace = &module.described.as_deref()?.inspection().replace;
    Some(Acceptance::refused(
        "ReplaceFlagUnproven",
        format!(
            "{} for {} is off-band, but its replace flag is {}: {}",
            module.name, module.kernel_release, replace.value, replace.evidence
        ),
    ))
}

/// What speaks against new grants of the set at `index`, because of another set on the same node.
pub(super) fn conflict(index: usize, meetings: &Meetings<'_>) -> Option<Acceptance> {
    let newcomer = meetings.all.get(index)?;
    let others = meetings
        .all
        .iter()
        .filter(|other| other.set.uid != newcomer.set.uid && !other.set.deleting);
    others.into_iter().find_map(|other| {
        let clashes = clashes(newcomer.set, other.set);
        let meet = |(name, node): &(&str, &NodeView)| {
            let concerned = newcomer.roster.selects(name)
                && (other.roster.selects(name) || set_grant(node, &other.set.uid).is_some());
            let (mine, theirs) = meeting(newcomer.set, other.set, node).filter(|_| concerned)?;
            let clash = clashes
                .iter()
                .find(|clash| clash.newcomer == mine && clash.incumbent == theirs)?;
            let kernel = report(node).map_or("", |object| &object.status.kernel.release);
            Some(Acceptance::refused(
                (&clash.refusal).into(),
                format!("on node {name} and kernel {kernel}, {}", clash.refusal),
            ))
        };
        if clashes.is_empty() {
            return None;
        }
        meetings.shared.iter().find_map(meet)
    })
}

/// Two modules for one kernel that must not be loaded together, by their SHA-256.
struct Clash<'a> {
    newcomer: &'a str,
    incumbent: &'a str,
    refusal: Refusal,
}

/// Every pair of modules of two sets that must not be loaded together.
fn clashes<'a>(newcomer: &'a SetView, incumbent: &'a SetView) -> Vec<Clash<'a>> {
    let pairs = modules(newcomer).iter().flat_map(|mine| {
        let same_kernel = move |theirs: &&ModuleView| {
            (&theirs.kernel_release, &theirs.architecture) == (&mine.kernel_release, &mine.architecture)
        };
        modules(incumbent)
            .iter()
            .filter(same_kernel)
            .map(move |theirs| (mine, theirs))
    });
    pairs
        .filter_map(|(mine, theirs)| {
            let refusal = clash(newcomer, mine, incumbent, theirs)?;
            Some(Clash {
                newcomer: &mine.sha256,
                incumbent: &theirs.sha256,
                refusal,
            })
        })
        .collect()
}

fn clash(newcomer: &SetView, mine: &ModuleView, incumbent: &SetView, theirs: &ModuleView) -> Option<Refusal> {
    if kind(newcomer) == SetKind::Cumulative && kind(incumbent) == SetKind::Cumulative {
        // They must not be on one node at all, whatever is in them.
        return None;
    }
    let (ours, others) = (mine.described.as_deref()?, theirs.described.as_deref()?);
    let supersedes = supersedes(newcomer);
    if contains(&supersedes, incumbent, theirs) {
        // Whether it really contains all of it is asked below.
    } else if ours.is_apart_from(others) || contains(&self::supersedes(incumbent), newcomer, mine) {
        return None;
    }
    let owner = Owner::Set {
        name: incumbent.name.clone(),
        kind: kind(incumbent),
    };
    let wanted = Wanted {
        set: &newcomer.name,
        kind: kind(newcomer),
        inspection: ours.inspection(),
        supersedes: &supersedes,
        replace_foreign: false,
    };
    let refusals = coexistence(&[LoadedView::of(others.inspection(), owner)], &wanted);
    // The newcomer's own replace flag is no matter between two sets.
    refusals
        .into_iter()
        .find(|refusal| !matches!(refusal, Refusal::ReplaceNotExcluded { .. }))
}

/// The modules that would meet on a node, by their SHA-256, if the newcomer got its grant there now.
fn meeting<'a>(newcomer: &'a SetView, other: &'a SetView, node: &'a NodeView) -> Option<(&'a str, &'a str)> {
    let kernel = &report(node)?.status.kernel;
    let Coverage::Covered(mine) = coverage(&newcomer.bundle, kernel) else {
        return None;
    };
    if set_grant(node, &newcomer.uid).is_some_and(|grant| grant.module.sha256 == mine.sha256) {
        return None;
    }
    let theirs = coverage(&other.bundle, kernel);
    if let Some(grant) = set_grant(node, &other.uid) {
        let sha256 = grant.module.sha256.as_str();
        if modules(other).iter().any(|module| module.sha256 == sha256) {
            return Some((&mine.sha256, sha256));
        }
    } else if (newcomer.created, &newcomer.uid) < (other.created, &other.uid) {
        return None;
    }
    match theirs {
        Coverage::Covered(theirs) => Some((&mine.sha256, &theirs.sha256)),
        _ => None,
    }
}

fn modules(set: &SetView) -> &[ModuleView] {
    match &set.bundle {
        BundleView::Read(modules) => modules,
        _ => &[],
    }
}

const fn kind(set: &SetView) -> SetKind {
    match set.spec.livepatch_type {
        LivepatchType::Cumulative => SetKind::Cumulative,
        LivepatchType::OffBand => SetKind::OffBand,
    }
}

fn contains(supersedes: &[Supersedes], set: &SetView, module: &ModuleView) -> bool {
    supersedes
        .iter()
        .any(|entry| entry.set == set.name && entry.module_sha256.contains(&module.sha256))
}

/// What a set says that it contains.
fn supersedes(set: &SetView) -> Vec<Supersedes> {
    let cumulative = set.spec.template.cumulative.iter();
    let entries = cumulative.flat_map(|cumulative| &cumulative.supersedes);
    entries
        .map(|entry| Supersedes {
            set: entry.set.clone(),
            module_sha256: entry.module_sha256.clone(),
        })
        .collect()
}
