//! What speaks against a livepatch beside the others. No IO.

use livepatch_crds::policy::{ForeignPolicy, OnAtomicReplace};
use livepatch_module::Inspection;
use livepatch_module::conflict::{self, LoadedView, Owner, SetKind, Supersedes, Wanted};

use super::plan::Refusal;
use super::situation::{Key, Record, Running, Situation, Standing, Wish, supersedes};

/// What a wish meets on a node.
pub(super) struct Meeting<'a> {
    pub node: &'a Situation<'a>,
    pub wish: &'a Wish,
    pub inspection: &'a Inspection,
    supersedes: Vec<Supersedes>,
}

impl<'a> Meeting<'a> {
    pub fn new(node: &'a Situation<'a>, wish: &'a Wish, inspection: &'a Inspection) -> Self {
        let supersedes = wish
            .policy
            .supersedes
            .iter()
            .map(|superseded| Supersedes {
                set: superseded.set.clone(),
                module_sha256: superseded.module_sha256.clone(),
            })
            .collect();
        Self {
            node,
            wish,
            inspection,
            supersedes,
        }
    }

    pub fn wanted(&self) -> Wanted<'_> {
        Wanted {
            set: &self.wish.set,
            kind: self.wish.kind,
            inspection: self.inspection,
            supersedes: &self.supersedes,
            replace_foreign: self.wish.policy.foreign_policy == ForeignPolicy::Replace,
        }
    }

    /// Whether loading it makes the kernel throw out everything else.
    pub fn is_atomic(&self) -> bool {
        self.wanted().may_replace()
    }

    /// What is enabled, with what is remembered of it. What is not enabled is going away.
    pub fn enabled(&self) -> impl Iterator<Item = (&'a Running, Option<&'a Record>)> {
        self.node
            .running
            .iter()
            .filter(|running| running.enabled)
            .map(|running| (running, self.node.record_of(running)))
    }

    /// Enabled livepatches of the same set.
    pub fn own(&self) -> impl Iterator<Item = (&'a Running, &'a Record)> {
        self.enabled()
            .filter_map(|(running, record)| Some((running, record?)))
            .filter(|(_, record)| record.set == self.wish.set)
    }

    /// Enabled livepatches of other sets.
    pub fn others(&self) -> impl Iterator<Item = (&'a Running, &'a Record)> {
        self.enabled()
            .filter_map(|(running, record)| Some((running, record?)))
            .filter(|(_, record)| record.set != self.wish.set)
    }

    /// Whether this wish says that it contains what is remembered.
    pub fn contains(&self, record: &Record) -> bool {
        self.wish.kind == SetKind::Cumulative && supersedes(&self.wish.policy, &record.set, &record.key.sha256)
    }

    /// What of other sets is not in the kernel and will come to be there beside this one.
    pub fn to_come(&self) -> impl Iterator<Item = &'a Record> {
        self.node
            .records
            .iter()
            .filter(|record| record.set != self.wish.set && record.key != self.wish.key)
            .filter(|record| self.node.running(&record.module, &record.build_id).is_none())
            .filter(|record| match record.standing {
                Standing::Away => true,
                Standing::Contained => self.wish.kind == SetKind::Cumulative,
                Standing::InEffect | Standing::Retiring => false,
            })
    }

    /// Of other sets: off-band livepatches that an atomic replace takes out of effect and that come back after it.
    pub fn displaced(&self) -> impl Iterator<Item = &'a Record> {
        let swept = self.others().map(|(_, record)| record);
        swept
            .chain(self.to_come())
            .filter(|record| record.kind == SetKind::OffBand && !self.contains(record))
            .filter(|record| record.standing != Standing::Retiring)
    }

    /// Why the project's rules forbid it.
    pub fn refusal(&self) -> Option<Refusal> {
        let mut incumbents: Vec<LoadedView> = self
            .enabled()
            .map(|(running, record)| self.view(running, record))
            .collect();
        incumbents.extend(self.to_come().filter_map(|record| {
            let inspection = self.node.known(&record.key)?;
            Some(LoadedView::of(inspection, self.owner(record)))
        }));
        let mut refusals = conflict::coexistence(&incumbents, &self.wanted());
        if self.wish.returning {
            refusals.retain(|refusal| !is_doubt_about_our_own(refusal));
        }
        said(&refusals)
    }

    /// Why the kernel would refuse it, with `loaded` beside it.
    pub fn kernel_refusal(&self, loaded: &[LoadedView]) -> Option<Refusal> {
        said(&conflict::admission(loaded, &self.wanted()))
    }

    /// Why an off-band livepatch forbids to be thrown out.
    pub fn blocked(&self) -> Option<Refusal> {
        let blocks = |record: &&Record| record.policy.off_band.on_atomic_replace == OnAtomicReplace::Block;
        let sets: Vec<&str> = self
            .displaced()
            .filter(blocks)
            .map(|record| record.set.as_str())
            .collect();
        (!sets.is_empty()).then(|| {
            let message = format!(
                "loading it throws out what onAtomicReplace: Block keeps here: {}",
                sets.join(", ")
            );
            Refusal::new("BlockedByOffBand", message)
        })
    }

    /// Those among `needed` that are not on local disk.
    pub fn unknown(&self, needed: &[Key]) -> Vec<Key> {
        needed
            .iter()
            .filter(|key| self.node.known(key).is_none())
            .cloned()
            .collect()
    }

    /// From its file where that is known, else from what sysfs lists.
    pub fn view(&self, running: &Running, record: Option<&Record>) -> LoadedView {
        let owner = record.map_or(Owner::Foreign, |record| self.owner(record));
        match record.and_then(|record| self.node.known(&record.key)) {
            Some(inspection) => LoadedView::of(inspection, owner),
            None => LoadedView {
                module: running.module.clone(),
                sha256: record.map(|record| record.key.sha256.clone()),
                owner,
                replace: running.replace,
                functions: running.functions.clone(),
                states: None,
                callbacks: None,
                shadow_variables: None,
            },
        }
    }

    /// A cumulative livepatch that its set no longer wants here makes way for the next one.
    fn owner(&self, record: &Record) -> Owner {
        let own = record.set == self.wish.set;
        if record.kind == SetKind::Cumulative && !record.wanted && !own {
            Owner::Retained { kind: record.kind }
        } else {
            Owner::Set {
                name: record.set.clone(),
                kind: record.kind,
            }
        }
    }
}

/// What returns was found to go with the others when these or it were new. That a file is not at hand now is no reason
/// to leave it out.
fn is_doubt_about_our_own(refusal: &conflict::Refusal) -> bool {
    match refusal {
        conflict::Refusal::StatesUnknown { incumbent, .. }
        | conflict::Refusal::FunctionsUnknown { incumbent, .. }
        | conflict::Refusal::PositionUnknown { incumbent, .. } => incumbent.owner != Owner::Foreign,
        _ => false,
    }
}

/// One code for everything that two livepatches cannot share: the sentences tell them apart.
pub(super) fn said(refusals: &[conflict::Refusal]) -> Option<Refusal> {
    let reason = match refusals.first()? {
        conflict::Refusal::ReplaceNotExcluded { .. } => "ReplaceFlagUnproven",
        conflict::Refusal::ForeignReplaced { .. } => "WouldRemoveOthers",
        conflict::Refusal::NotCovered { .. } => "NotCovered",
        conflict::Refusal::NotStackable { condition, .. } => condition.reason(),
        _ => "Conflict",
    };
    let sentences: Vec<String> = refusals.iter().map(ToString::to_string).collect();
    Some(Refusal::new(reason, sentences.join("; ")))
}
