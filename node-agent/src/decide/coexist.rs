//! What may be loaded beside what is there. No IO.
//!
//! The kernel checks almost none of this: two livepatches of one function load silently and the last one wins, and an
//! atomic replace throws out everything else whosoever it is.

use std::collections::BTreeMap;

use livepatch_crds::LivepatchType;
use livepatch_kernel::Livepatch;
use livepatch_kernel::preflight::view;
use livepatch_module::Inspection;
use livepatch_module::conflict::{LoadedView, Owner, Refusal, SetKind, Wanted, verdict};

use crate::journal::{Entry, Failure};
use crate::truth::{Truth, is_build};

/// A module that wants in.
pub(super) struct Newcomer<'a> {
    pub entry: &'a Entry,
    pub inspection: &'a Inspection,
    pub truth: &'a Truth,
    pub entries: &'a [Entry],
    /// What is known of modules in the local store, by SHA-256.
    pub known: &'a BTreeMap<String, Inspection>,
}

/// Whether it may be loaded now.
pub(super) fn judge(newcomer: &Newcomer<'_>) -> Result<(), Failure> {
    let wanted = Wanted {
        set: &newcomer.entry.set,
        kind: kind(newcomer.entry.livepatch_type()),
        inspection: newcomer.inspection,
        supersedes: &[],
        replace_foreign: false,
    };
    if !newcomer.entry.cumulative && wanted.may_replace() {
        let replace = &newcomer.inspection.replace;
        let message = format!(
            "an off-band livepatch must not have the replace flag, and its is {}: {}",
            replace.value, replace.evidence
        );
        return Err(Failure::new("ReplaceFlagUnproven", &message));
    }
    upgrade(newcomer, wanted.may_replace())?;
    others_survive(newcomer, wanted.may_replace())?;
    let loaded: Vec<LoadedView> = newcomer.loaded().map(|livepatch| newcomer.view_of(livepatch)).collect();
    match verdict(&loaded, &wanted).refusals.first() {
        None => Ok(()),
        Some(refusal) => Err(Failure::new(reason(refusal), &refusal.to_string())),
    }
}

/// One code for everything that two livepatches cannot share: the sentence tells them apart.
fn reason(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::ReplaceNotExcluded { .. } => "ReplaceFlagUnproven",
        Refusal::ForeignReplaced { .. } => "WouldRemoveOthers",
        _ => "Conflict",
    }
}

impl<'a> Newcomer<'a> {
    /// What is enabled. What is not is going away: the kernel cannot enable it again.
    fn loaded(&self) -> impl Iterator<Item = &'a Livepatch> {
        self.truth
            .livepatches
            .iter()
            .filter(|livepatch| livepatch.standing.enabled)
    }

    /// The entry of ours that a loaded livepatch belongs to.
    fn entry_of(&self, livepatch: &Livepatch) -> Option<&'a Entry> {
        self.entries.iter().find(|entry| {
            entry.module == livepatch.name && entry.is_in_effect() && is_build(livepatch, &entry.build_id)
        })
    }

    fn is_own(&self, livepatch: &Livepatch) -> bool {
        self.entry_of(livepatch)
            .is_some_and(|entry| entry.set_uid == self.entry.set_uid)
    }

    /// From its file where that is known, else from what sysfs lists.
    fn view_of(&self, livepatch: &Livepatch) -> LoadedView {
        let Some(entry) = self.entry_of(livepatch) else {
            return view(livepatch, Owner::Foreign);
        };
        let owner = Owner::Set {
            name: entry.set.clone(),
            kind: kind(entry.livepatch_type()),
        };
        match self.known.get(&entry.pair.sha256) {
            Some(inspection) => LoadedView::of(inspection, owner),
            None => view(livepatch, owner),
        }
    }
}

const fn kind(livepatch_type: LivepatchType) -> SetKind {
    match livepatch_type {
        LivepatchType::Cumulative => SetKind::Cumulative,
        LivepatchType::OffBand => SetKind::OffBand,
    }
}

/// The only exchange of two versions that this version knows is the kernel's own, the atomic replace.
fn upgrade(newcomer: &Newcomer<'_>, atomic: bool) -> Result<(), Failure> {
    let former = newcomer.loaded().find(|livepatch| newcomer.is_own(livepatch));
    match former {
        Some(former) if !(newcomer.entry.cumulative && atomic) => Err(Failure::new(
            "UpgradeNotSupported",
            &format!(
                "{} of the same set is loaded; without the replace flag this version cannot exchange the two",
                former.name
            ),
        )),
        _ => Ok(()),
    }
}

fn others_survive(newcomer: &Newcomer<'_>, atomic: bool) -> Result<(), Failure> {
    let mut others = newcomer
        .loaded()
        .filter(|livepatch| !newcomer.is_own(livepatch))
        .peekable();
    if !atomic || others.peek().is_none() {
        return Ok(());
    }
    let names: Vec<&str> = others.map(|livepatch| livepatch.name.as_str()).collect();
    Err(Failure::new(
        "WouldRemoveOthers",
        &format!(
            "loading it may throw out {}, and this version cannot bring that back",
            names.join(", ")
        ),
    ))
}
