//! Made-up nodes.

use std::collections::BTreeMap;

use livepatch_crds::node::DesiredState;
use livepatch_crds::policy::GrantPolicy;
use livepatch_module::conflict::{FunctionRef, SetKind};
use livepatch_module::{Architecture, Format, Function, Inspection, Object, Replace, ReplaceValue, VMLINUX};
use livepatch_planner::node::{Answer, Key, Leftover, Plan, Record, Refusal, Running, Situation, Standing, Wish, plan};

/// A node with what it runs and remembers.
pub struct Scene {
    pub running: Vec<Running>,
    pub leftovers: Vec<Leftover>,
    pub records: Vec<Record>,
    pub known: BTreeMap<String, Inspection>,
    pub forced: Option<bool>,
    pub replace_set: bool,
}

impl Default for Scene {
    fn default() -> Self {
        Self {
            running: Vec::new(),
            leftovers: Vec::new(),
            records: Vec::new(),
            known: BTreeMap::new(),
            forced: Some(false),
            replace_set: false,
        }
    }
}

pub fn key(set: &str, module: &str) -> Key {
    Key {
        set_uid: format!("uid-of-{set}"),
        sha256: format!("sha256-of-{module}"),
    }
}

pub fn inspection(module: &str, functions: &[&str], replace: ReplaceValue) -> Inspection {
    Inspection {
        name: module.to_owned(),
        format: Format::Static,
        kernel_release: "6.12.0".to_owned(),
        vermagic: "6.12.0 SMP ".to_owned(),
        architecture: Architecture::Amd64,
        build_id: Some(format!("build-of-{module}")),
        sha256: key("", module).sha256,
        size: 1,
        replace: Replace {
            value: replace,
            evidence: "made up".to_owned(),
        },
        objects: vec![Object {
            name: VMLINUX.to_owned(),
            functions: functions
                .iter()
                .map(|name| Function {
                    name: (*name).to_owned(),
                    position: 1,
                })
                .collect(),
            callbacks: Vec::new(),
        }],
        states: Vec::new(),
        shadow_variables: false,
        depends: Vec::new(),
        signature: None,
        license: None,
    }
}

impl Scene {
    /// A livepatch of a set is in effect, and its file is known.
    pub fn runs(&mut self, set: &str, module: &str, functions: &[&str], replace: ReplaceValue) -> &mut Inspection {
        let inspection = inspection(module, functions, replace);
        self.running.push(Running {
            module: module.to_owned(),
            build_id: inspection.build_id.clone(),
            enabled: true,
            transition: false,
            replace: None,
            functions: Some(FunctionRef::all_of(&inspection)),
        });
        self.records.push(Record {
            key: key(set, module),
            set: set.to_owned(),
            kind: kind(set),
            module: module.to_owned(),
            build_id: inspection.build_id.clone().unwrap(),
            policy: GrantPolicy::default(),
            standing: Standing::InEffect,
            wanted: true,
        });
        let sha256 = inspection.sha256.clone();
        self.known.entry(sha256).or_insert(inspection)
    }

    pub fn knows(&mut self, module: &str, functions: &[&str], replace: ReplaceValue) {
        let inspection = inspection(module, functions, replace);
        self.known.insert(inspection.sha256.clone(), inspection);
    }

    pub fn answer(&self, wish: &Wish) -> Answer {
        let situation = Situation {
            running: &self.running,
            leftovers: &self.leftovers,
            forced: self.forced,
            replace_set: self.replace_set,
            records: &self.records,
            known: &self.known,
        };
        plan(&situation, wish)
    }

    pub fn plan(&self, wish: &Wish) -> Plan {
        match self.answer(wish) {
            Answer::Plan(plan) => *plan,
            other => unreachable!("{other:?}"),
        }
    }

    pub fn refusal(&self, wish: &Wish) -> Refusal {
        match self.answer(wish) {
            Answer::Refused(refusal) => refusal,
            other => unreachable!("{other:?}"),
        }
    }
}

fn kind(set: &str) -> SetKind {
    if set.starts_with("cumulative") {
        SetKind::Cumulative
    } else {
        SetKind::OffBand
    }
}

pub fn wish(set: &str, module: &str) -> Wish {
    Wish {
        key: key(set, module),
        set: set.to_owned(),
        kind: kind(set),
        module: module.to_owned(),
        build_id: format!("build-of-{module}"),
        state: DesiredState::Loaded,
        policy: GrantPolicy::default(),
        previous: None,
        returning: false,
        back: false,
    }
}

/// The steps in short.
pub fn steps(plan: &Plan) -> Vec<String> {
    let told = |step: &livepatch_planner::node::Step| format!("{} {} {}", step.action, step.module, step.undo);
    plan.steps.iter().map(told).collect()
}
