//! A node's situation in the words of the node planner, and what the planner answers. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use livepatch_artifact::BundleEntry;
use livepatch_crds::LivepatchType;
use livepatch_crds::node::{DesiredState, LoadedLivepatch, Owner};
use livepatch_crds::policy::GrantPolicy;
use livepatch_module::Inspection;
use livepatch_module::conflict::{FunctionRef, SetKind};
use livepatch_planner::node::{self, Answer, Key, Record, Running, Situation, Standing, Wish};

use super::fleet::{self, Facts};
use crate::family;

/// A node, and the module that is for it.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    pub running: &'a fleet::Running,
    pub entry: &'a BundleEntry,
    /// UID of the set; empty if it is not there yet.
    pub uid: &'a str,
}

impl Case<'_> {
    /// The same for nodes of which the planner says the same.
    pub fn likeness(&self) -> String {
        let kernel = &self.running.kernel;
        let mut text = format!("{} {} {}", kernel.release, kernel.build_id, kernel.architecture);
        for one in &self.running.loaded {
            let LoadedLivepatch {
                module,
                build_id,
                owner,
                set,
                enabled,
                transition,
                ..
            } = one;
            let _ = write!(text, "\n{module} {build_id} {owner:?} {set:?} {enabled} {transition}");
            let policy = self
                .running
                .grants
                .iter()
                .find(|grant| Some(&grant.set.name) == set.as_ref());
            let _ = write!(text, " {:?}", policy.map(|grant| (&grant.policy, grant.livepatch_type)));
        }
        text
    }
}

/// How the set's module comes to a node in this situation and, if it does, how it goes again.
pub fn answers(facts: &Facts<'_>, case: &Case<'_>) -> (Answer, Option<Answer>) {
    let known: BTreeMap<String, Inspection> = facts
        .artefacts
        .read
        .values()
        .flat_map(|bundle| &bundle.entries)
        .map(|entry| (entry.module.sha256.clone(), entry.inspection.clone()))
        .collect();
    let before = Loaded::of(facts, case);
    let wish = wish(facts, case);
    let answer = node::plan(&before.situation(&known), &wish);
    let back = matches!(answer, Answer::Plan(_)).then(|| {
        let after = before.with(facts, case, &wish);
        node::plan(&after.situation(&known), &before.way_back(&wish))
    });
    (answer, back)
}

/// What is loaded, and what is remembered of it.
struct Loaded {
    running: Vec<Running>,
    records: Vec<Record>,
}

impl Loaded {
    fn of(facts: &Facts<'_>, case: &Case<'_>) -> Self {
        let running = case.running.loaded.iter().map(|one| shown(facts, one)).collect();
        let records = case
            .running
            .loaded
            .iter()
            .filter_map(|one| record(facts, case, one))
            .collect();
        Self { running, records }
    }

    fn situation<'a>(&'a self, known: &'a BTreeMap<String, Inspection>) -> Situation<'a> {
        Situation {
            running: &self.running,
            leftovers: &[],
            // Only the node knows; the help says so.
            forced: Some(false),
            replace_set: false,
            records: &self.records,
            known,
        }
    }

    /// What is loaded once the wish has come true: its own livepatch in place of its set's former one.
    fn with(&self, facts: &Facts<'_>, case: &Case<'_>, wish: &Wish) -> Self {
        let own = |set: &str| set == wish.set;
        let former: Vec<&str> = self
            .records
            .iter()
            .filter(|record| own(&record.set))
            .map(|record| record.module.as_str())
            .collect();
        let loaded = LoadedLivepatch {
            module: wish.module.clone(),
            build_id: wish.build_id.clone(),
            owner: Owner::Set,
            set: Some(wish.set.clone()),
            enabled: true,
            transition: false,
            function_count: None,
        };
        let mut running: Vec<Running> = self
            .running
            .iter()
            .filter(|one| !former.contains(&one.module.as_str()))
            .cloned()
            .collect();
        running.push(shown(facts, &loaded));
        let mut records: Vec<Record> = self
            .records
            .iter()
            .filter(|record| !own(&record.set))
            .cloned()
            .collect();
        records.push(Record {
            key: wish.key.clone(),
            set: wish.set.clone(),
            kind: wish.kind,
            module: case.entry.module.name.clone(),
            build_id: wish.build_id.clone(),
            policy: wish.policy.clone(),
            standing: Standing::InEffect,
            wanted: true,
        });
        Self { running, records }
    }

    /// What undo would ask for: the set's former livepatch, or none.
    fn way_back(&self, wish: &Wish) -> Wish {
        match self
            .records
            .iter()
            .find(|record| record.set == wish.set && record.key != wish.key)
        {
            Some(former) => Wish {
                key: former.key.clone(),
                module: former.module.clone(),
                build_id: former.build_id.clone(),
                policy: former.policy.clone(),
                returning: true,
                ..wish.clone()
            },
            None => Wish {
                state: DesiredState::Absent,
                returning: true,
                ..wish.clone()
            },
        }
    }
}

fn shown(facts: &Facts<'_>, one: &LoadedLivepatch) -> Running {
    let entry = facts.artefacts.module(&one.build_id).map(|(_, entry)| entry);
    let functions = |entry: &BundleEntry| {
        let functions = entry.inspection.functions();
        functions
            .map(|(object, function)| FunctionRef::new(object, &function.name, function.position))
            .collect()
    };
    Running {
        module: one.module.clone(),
        build_id: (!one.build_id.is_empty()).then(|| one.build_id.clone()),
        enabled: one.enabled,
        transition: one.transition,
        replace: None,
        functions: entry.map(functions),
    }
}

/// What the agent would remember of a livepatch, as far as it is told.
fn record(facts: &Facts<'_>, case: &Case<'_>, one: &LoadedLivepatch) -> Option<Record> {
    let set = one.set.clone()?;
    let (_, entry) = facts.artefacts.module(&one.build_id)?;
    let grant = case.running.grants.iter().find(|grant| grant.set.name == set);
    let family = facts.families.iter().find(|family| family.name() == set);
    let livepatch_type = grant
        .map(|grant| grant.livepatch_type)
        .or_else(|| family.map(|family| family.set.spec.livepatch_type))?;
    let uid = grant.map(|grant| grant.set.uid.clone());
    let uid = uid.or_else(|| family.and_then(|family| family.set.metadata.uid.clone()));
    Some(Record {
        key: Key {
            set_uid: uid.unwrap_or_default(),
            sha256: entry.module.sha256.clone(),
        },
        kind: kind(livepatch_type),
        module: one.module.clone(),
        build_id: one.build_id.clone(),
        policy: grant.map_or_else(GrantPolicy::default, |grant| grant.policy.clone()),
        standing: Standing::InEffect,
        wanted: one.owner == Owner::Set,
        set,
    })
}

fn wish(facts: &Facts<'_>, case: &Case<'_>) -> Wish {
    let spec = &facts.set.spec;
    Wish {
        key: Key {
            set_uid: case.uid.to_owned(),
            sha256: case.entry.module.sha256.clone(),
        },
        set: family::name(&facts.set.metadata).to_owned(),
        kind: kind(spec.livepatch_type),
        module: case.entry.module.name.clone(),
        build_id: case.entry.module.build_id.clone(),
        state: DesiredState::Loaded,
        policy: spec.grant_policy(&spec.template),
        previous: None,
        returning: false,
        back: false,
    }
}

fn kind(livepatch_type: LivepatchType) -> SetKind {
    match livepatch_type {
        LivepatchType::Cumulative => SetKind::Cumulative,
        LivepatchType::OffBand => SetKind::OffBand,
    }
}
