//! The node as the planner sees it, from kernel truth and journal. No IO.

use livepatch_crds::LivepatchType;
use livepatch_crds::node::{DesiredState, Grant};
use livepatch_kernel::preflight::view;
use livepatch_kernel::{Livepatch, Seen};
use livepatch_module::conflict::{Owner, SetKind};
use livepatch_planner::node::{Key, Leftover, Record, Running, Situation, Standing, Wish};

use super::{Snapshot, Work};
use crate::journal::{Entry, Phase};
use crate::truth::Truth;

/// What a [`Situation`] borrows from.
pub(super) struct Owned {
    running: Vec<Running>,
    leftovers: Vec<Leftover>,
    records: Vec<Record>,
    forced: Option<bool>,
    replace_set: bool,
}

impl Owned {
    pub fn of(work: &Work<'_>) -> Self {
        let truth = work.snapshot.truth;
        let entries = work.journal.as_ref().map_or(&[][..], |journal| &journal.entries);
        Self {
            running: truth.livepatches.iter().map(running).collect(),
            leftovers: truth
                .leftovers
                .iter()
                .map(|module| Leftover {
                    module: module.name.clone(),
                    pinned: truth.pinned.contains(&module.name),
                })
                .collect(),
            records: entries
                .iter()
                .filter_map(|entry| record(entry, truth, work.snapshot))
                .collect(),
            // The kernel pins what a forced transition removed, and nothing else.
            forced: Some(!truth.pinned.is_empty()),
            replace_set: truth.policy.replace_set == Seen::Known(true),
        }
    }

    pub fn situation<'a>(&'a self, snapshot: &'a Snapshot<'_>) -> Situation<'a> {
        Situation {
            running: &self.running,
            leftovers: &self.leftovers,
            forced: self.forced,
            replace_set: self.replace_set,
            records: &self.records,
            known: snapshot.prepared,
        }
    }
}

fn running(livepatch: &Livepatch) -> Running {
    let shown = view(livepatch, Owner::Foreign);
    Running {
        module: livepatch.name.clone(),
        build_id: livepatch
            .build_id
            .known()
            .and_then(Option::as_ref)
            .map(ToString::to_string),
        enabled: livepatch.standing.enabled,
        transition: livepatch.standing.transition,
        replace: livepatch.replace,
        functions: shown.functions,
    }
}

fn record(entry: &Entry, truth: &Truth, snapshot: &Snapshot<'_>) -> Option<Record> {
    if entry.pair.kernel_build_id != truth.kernel_build_id() {
        return None;
    }
    let enabled = truth
        .standing(&entry.module, &entry.build_id)
        .is_some_and(|standing| standing.enabled);
    let standing = match &entry.phase {
        Phase::Retiring { .. } if enabled => Standing::Retiring,
        Phase::Applied { .. } | Phase::Settled | Phase::Displaced | Phase::Removing if enabled => Standing::InEffect,
        Phase::Settled if entry.boot != truth.boot => Standing::Away,
        Phase::Displaced | Phase::Starting { again: true } => Standing::Away,
        Phase::Contained { .. } => Standing::Contained,
        _ => return None,
    };
    let asks = |grant: &Grant| grant.set.uid == entry.set_uid && grant.state == DesiredState::Loaded;
    Some(Record {
        key: key(entry),
        set: entry.set.clone(),
        kind: kind(entry.livepatch_type()),
        module: entry.module.clone(),
        build_id: entry.build_id.clone(),
        policy: entry.policy.clone(),
        standing,
        wanted: snapshot.spec.is_none_or(|spec| spec.livepatches.iter().any(asks)),
    })
}

/// The planner's name of an entry.
pub(super) fn key(entry: &Entry) -> Key {
    Key {
        set_uid: entry.set_uid.clone(),
        sha256: entry.pair.sha256.clone(),
    }
}

/// The wish that an entry becomes true.
pub(super) fn wish(entry: &Entry, grant: Option<&Grant>) -> Wish {
    let previous = grant.and_then(|grant| grant.previous.as_ref()).map(|module| Key {
        set_uid: entry.set_uid.clone(),
        sha256: module.sha256.clone(),
    });
    Wish {
        key: key(entry),
        set: entry.set.clone(),
        kind: kind(entry.livepatch_type()),
        module: entry.module.clone(),
        build_id: entry.build_id.clone(),
        state: grant.map_or(DesiredState::Loaded, |grant| grant.state),
        policy: entry.policy.clone(),
        previous,
        returning: grant.is_none(),
        back: grant.is_some_and(|grant| grant.back),
    }
}

const fn kind(livepatch_type: LivepatchType) -> SetKind {
    match livepatch_type {
        LivepatchType::Cumulative => SetKind::Cumulative,
        LivepatchType::OffBand => SetKind::OffBand,
    }
}
