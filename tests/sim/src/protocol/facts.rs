//! The contents of objects in the model, and what the real code makes of them: the planner behind the operator's own view,
//! the overlay of own writes, the lease, and what agents read before a load.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use livepatch_agent::confirm;
use livepatch_crds::node::{
    Grant, GrantResult, GrantStatus, KernelIdentity, LoadedLivepatch, NodeLivepatchSpec, NodeLivepatchStatus, Owner,
};
use livepatch_crds::revision::{revision, rollout_name};
use livepatch_crds::rollout::{Control, ControlState, LivepatchRolloutSpec, LivepatchRolloutStatus, WaveState};
use livepatch_crds::set::{LivepatchSetStatus, Template};
use livepatch_operator::lease::evaluate::{Timing, Verdict, evaluate, first};
use livepatch_operator::reconcile::fetch::{Look, NodeLook};
use livepatch_operator::reconcile::validate::View;
use livepatch_operator::watch::cache::{Cache, Shown};
use livepatch_operator::watch::seen::{NodeContent, NodeObjectContent, RolloutContent, Seen, SetContent};
use livepatch_planner::fleet;
use livepatch_planner::fleet::Decision;
use livepatch_planner::fleet::snapshot::{BundleView, Leave, Limits};
use serde_json::json;

use super::state::{Id, Kernel, Known, Lease, NODES, OBJECTS, Process, ROLLOUT, Stored};
use crate::modules::{Conduct, Revision, Shelf, identity};

/// The Lease's UID.
const LEASE: &str = "lease";
const SET: &str = "fix";
const BOOT: &str = "00000000-0000-4000-8000-000000000001";

/// Contents, and decisions that were taken before.
#[derive(Debug)]
pub(super) struct Facts {
    set: Seen<SetContent>,
    rollout: String,
    bundles: BTreeMap<String, BundleView>,
    node_specs: Vec<NodeLivepatchSpec>,
    node_statuses: Vec<NodeLivepatchStatus>,
    rollout_specs: Vec<LivepatchRolloutSpec>,
    rollout_statuses: Vec<LivepatchRolloutStatus>,
    decided: HashMap<Basis, Decided>,
    /// For the cache's own bookkeeping of when what was asked for.
    instant: Instant,
}

/// Everything that a decision rests on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Basis {
    /// Spec and status of each object.
    pub objects: [(Id, Id); OBJECTS],
    /// Nodes whose grants of a former leadership were there when the present one began.
    pub inherited: [bool; NODES],
    /// Nodes that are not ready.
    pub away: [bool; NODES],
    /// Under which number of the lease grants may be given.
    pub leave: Option<u8>,
}

/// What is to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Decided {
    /// Specs of nodes' objects.
    pub specs: Vec<(usize, Id)>,
    /// Status of the rollout.
    pub status: Option<Id>,
}

pub(super) fn epoch(transitions: u8) -> String {
    format!("{LEASE}/{transitions}")
}

fn id_of<T: PartialEq>(known: &mut Vec<T>, content: T) -> Id {
    let index = known.iter().position(|one| *one == content).unwrap_or_else(|| {
        known.push(content);
        known.len() - 1
    });
    Id::try_from(index).unwrap_or(Id::MAX)
}

fn at<T: Clone + Default>(known: &[T], id: Id) -> T {
    known.get(usize::from(id)).cloned().unwrap_or_default()
}

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn node_name(node: usize) -> String {
    format!("n{node}")
}

fn seen<T>(name: &str, version: u8, content: T) -> Seen<T> {
    Seen {
        name: name.to_owned(),
        uid: format!("uid-of-{name}"),
        version: u64::from(version),
        generation: 1,
        created: Timestamp::UNIX_EPOCH,
        deleting: false,
        content: Ok(content),
    }
}

impl Facts {
    /// One set, a canary and two others, one at a time. Everything is made, and nothing granted.
    #[expect(clippy::expect_used, reason = "a set that is not valid is an error of the model")]
    pub fn new() -> (Self, [Stored; OBJECTS]) {
        let reference = Shelf::reference(SET, 0);
        let mut shelf = Shelf::default();
        shelf.publish(&Revision {
            set: SET,
            number: 0,
            cumulative: false,
            builds: &[(0, Conduct::Good)],
        });
        let spec = json!({
            "type": "OffBand", "nodeSelector": {},
            "template": {"source": {"oci": {"reference": reference}}},
            "rollout": {
                "maxConcurrent": 1, "maxFailed": 0, "minReadySeconds": 0,
                "waves": [{"name": "canary", "nodeSelector": {"matchLabels": {"pool": "canary"}}, "minSucceeded": 1}],
            },
        });
        let spec: livepatch_crds::set::LivepatchSetSpec = serde_json::from_value(spec).expect("the set is valid");
        let rollout = rollout_name(SET, &revision(&spec.template));
        let bundle = BundleView::Read(shelf.artefact(&reference).unwrap_or_default());
        let template = spec.template.clone();
        let set = SetContent {
            spec,
            status: LivepatchSetStatus::default(),
        };
        let mut facts = Self {
            set: seen(SET, 1, set),
            rollout,
            bundles: BTreeMap::from([(reference, bundle)]),
            node_specs: Vec::new(),
            node_statuses: Vec::new(),
            rollout_specs: Vec::new(),
            rollout_statuses: Vec::new(),
            decided: HashMap::new(),
            instant: Instant::now(),
        };
        let objects = facts.prepare(template);
        (facts, objects)
    }

    /// What is there before the first grant: objects, reports of the agents, and statuses without which none is given.
    fn prepare(&mut self, template: Template) -> [Stored; OBJECTS] {
        let stored = |spec, status| Stored {
            version: 1,
            spec,
            status,
        };
        let mut objects = [stored(0, 0); OBJECTS];
        for (node, object) in objects.iter_mut().enumerate().take(NODES) {
            let spec = NodeLivepatchSpec {
                node_uid: format!("uid-of-{}", node_name(node)),
                ..NodeLivepatchSpec::default()
            };
            let spec = id_of(&mut self.node_specs, spec);
            *object = stored(spec, self.report(spec, Kernel::Nothing));
        }
        let spec = LivepatchRolloutSpec {
            set_uid: self.set.uid.clone(),
            template,
            control: Control::default(),
        };
        let status = id_of(&mut self.rollout_statuses, LivepatchRolloutStatus::default());
        let rollout = stored(id_of(&mut self.rollout_specs, spec), status);
        if let Some(last) = objects.last_mut() {
            *last = rollout;
        }
        // Statuses are written until nothing changes any more.
        for _ in 0..8 {
            let basis = Basis {
                objects: objects.map(|object| (object.spec, object.status)),
                inherited: [false; NODES],
                away: [false; NODES],
                leave: None,
            };
            let decision = self.plan(&basis);
            for (name, status) in decision.set_statuses {
                if let (true, Ok(content)) = (name == SET, &mut self.set.content) {
                    content.status = status;
                }
            }
            for (_, status) in decision.rollout_statuses {
                let status = id_of(&mut self.rollout_statuses, status);
                if let Some(last) = objects.last_mut() {
                    last.status = status;
                }
            }
        }
        objects
    }

    /// What the operator's view and the planner make of what is known.
    fn plan(&self, basis: &Basis) -> Decision {
        let mut view = View::default();
        // The view finds out by itself which grants it inherits: those that it sees at first.
        view.take_in(self.look(basis, true), now());
        view.take_in(self.look(basis, false), now());
        fleet::decide(view.snapshot(), now())
    }

    /// A look at everything; the first one of a term is without the grants that came later.
    fn look(&self, basis: &Basis, first: bool) -> Look {
        let mut nodes = Vec::new();
        for (node, (spec, status)) in basis.objects.iter().enumerate().take(NODES) {
            let name = node_name(node);
            let is = |nodes: &[bool; NODES]| nodes.get(node).copied().unwrap_or_default();
            let pool = if node == 0 { "canary" } else { "rest" };
            let content = NodeContent {
                labels: BTreeMap::from([("pool".to_owned(), pool.to_owned())]),
                boot_id: BOOT.to_owned(),
                ready: !is(&basis.away),
                linux: true,
            };
            let mut object = NodeObjectContent {
                spec: at(&self.node_specs, *spec),
                status: at(&self.node_statuses, *status),
            };
            if first && !is(&basis.inherited) {
                object.spec.livepatches.clear();
            }
            nodes.push(NodeLook {
                node: Some(Arc::new(seen(&name, 1, content))),
                object: Some(Arc::new(seen(&name, 1, object))),
                name,
            });
        }
        let (spec, status) = basis.objects.get(ROLLOUT).copied().unwrap_or_default();
        let spec = self.rollout_specs.get(usize::from(spec)).cloned();
        let rollouts = spec.map(|spec| {
            let set = SET.to_owned();
            let status = at(&self.rollout_statuses, status);
            Arc::new(seen(&self.rollout, 1, RolloutContent { set, spec, status }))
        });
        let leave = match basis.leave {
            Some(transitions) => Leave::Granted {
                epoch: epoch(transitions),
            },
            None => Leave::Withheld {
                reason: "CatchingUp",
                message: "writes are being settled".to_owned(),
            },
        };
        Look {
            sets: vec![Arc::new(self.set.clone())],
            rollouts: rollouts.into_iter().collect(),
            nodes,
            bundles: self.bundles.clone(),
            leave,
            limits: Limits::default(),
            decide: true,
        }
    }

    /// What is to be written, by what is known.
    pub fn decide(&mut self, basis: &Basis) -> Decided {
        if let Some(decided) = self.decided.get(basis) {
            return decided.clone();
        }
        let decision = self.plan(basis);
        let mut decided = Decided::default();
        for change in decision.node_changes {
            let node = (0..NODES).find(|node| node_name(*node) == change.node);
            if let Some(node) = node {
                decided.specs.push((node, id_of(&mut self.node_specs, change.spec)));
            }
        }
        for (_, status) in decision.rollout_statuses {
            decided.status = Some(id_of(&mut self.rollout_statuses, status));
        }
        self.decided.insert(basis.clone(), decided.clone());
        decided
    }

    /// How many different decisions were asked for.
    pub fn decisions(&self) -> usize {
        self.decided.len()
    }

    /// Whether this status of the rollout says that every wave has passed.
    pub fn has_passed(&self, status: Id) -> bool {
        let status = self.rollout_statuses.get(usize::from(status));
        status.is_some_and(|status| {
            let mut waves = status.waves.iter();
            !status.waves.is_empty() && waves.all(|wave| wave.state == WaveState::Passed)
        })
    }

    /// The rollout's spec after a person has aborted it.
    pub fn aborted(&mut self, spec: Id) -> Option<Id> {
        let mut spec = self.rollout_specs.get(usize::from(spec))?.clone();
        spec.control.state = ControlState::Aborted;
        Some(id_of(&mut self.rollout_specs, spec))
    }

    pub fn is_aborted(&self, spec: Id) -> bool {
        let spec = self.rollout_specs.get(usize::from(spec));
        spec.is_some_and(|spec| spec.control.state == ControlState::Aborted)
    }

    /// Whether this status of the rollout says that it has stopped for a failure.
    pub fn has_failed(&self, status: Id) -> bool {
        let status = self.rollout_statuses.get(usize::from(status));
        status.is_some_and(|status| !status.failures.is_empty())
    }

    /// What an agent says of a kernel, with the grant that is in the spec.
    pub fn report(&mut self, spec: Id, kernel: Kernel) -> Id {
        let machine = identity(0);
        let build_id = machine.build_id.map(|id| id.to_string()).unwrap_or_default();
        let mut status = NodeLivepatchStatus {
            boot_id: BOOT.to_owned(),
            kernel: KernelIdentity {
                release: machine.release,
                build_id,
                architecture: "amd64".to_owned(),
            },
            ..NodeLivepatchStatus::default()
        };
        if let Some(grant) = self.grant(spec).filter(|_| kernel != Kernel::Nothing) {
            let loaded = kernel == Kernel::Loaded;
            status.livepatches.push(GrantStatus {
                set: grant.set.name.clone(),
                rollout: grant.rollout.clone(),
                attempt: grant.attempt,
                result: if loaded {
                    GrantResult::Loaded
                } else {
                    GrantResult::Failed
                },
                reason: if loaded { "Effective" } else { "SymbolNotFound" }.to_owned(),
                message: String::new(),
                blockers: Vec::new(),
                gap_milliseconds: None,
            });
            if loaded {
                status.loaded.push(LoadedLivepatch {
                    module: grant.module.name.clone(),
                    build_id: grant.module.build_id.clone(),
                    owner: Owner::Set,
                    set: Some(grant.set.name.clone()),
                    enabled: true,
                    transition: false,
                    function_count: Some(1),
                });
            }
        }
        id_of(&mut self.node_statuses, status)
    }

    /// What an agent says of its kernel by this status.
    pub fn told(&self, status: Id) -> Kernel {
        let status = self.node_statuses.get(usize::from(status));
        let results = status.map_or(&[][..], |status| &status.livepatches);
        match results.first().map(|told| told.result) {
            Some(GrantResult::Loaded) => Kernel::Loaded,
            Some(_) => Kernel::Refused,
            None => Kernel::Nothing,
        }
    }

    /// The grant in the spec of a node's object.
    pub fn grant(&self, spec: Id) -> Option<&Grant> {
        self.node_specs.get(usize::from(spec))?.livepatches.first()
    }

    /// Whether the grant in `spec` was given under this number of the lease.
    pub fn is_valid(&self, spec: Id, transitions: u8) -> bool {
        self.grant(spec)
            .is_some_and(|grant| confirm::by_lease(grant, Some(&epoch(transitions))).is_ok())
    }

    /// Whether the object that was read still has the grant.
    pub fn confirms(&self, grant: Id, read: Id) -> bool {
        let spec = self.node_specs.get(usize::from(read));
        self.grant(grant)
            .zip(spec)
            .is_some_and(|(grant, spec)| confirm::by_object(grant, None, Some((None, spec))).is_ok())
    }

    /// What the cache makes of `news`: what the watch shows, or what an own write returned.
    pub fn cached(&self, known: Known, news: News) -> Known {
        let mut cache: Cache<(Id, Id)> = Cache::default();
        let at = self.instant;
        let later = at + Duration::from_secs(1);
        let object = |stored: Stored| seen("object", stored.version, (stored.spec, stored.status));
        cache.show(Shown::ListBegins, at);
        cache.show(Shown::Listed(object(known.shown)), at);
        cache.show(Shown::ListEnds, at);
        if let Some(own) = known.own {
            cache.remember(object(own), later);
        }
        let shown = match news {
            News::Shown(stored) => {
                cache.show(Shown::Changed(object(stored)), later);
                stored
            }
            News::Wrote(stored) => {
                cache.remember(object(stored), later);
                known.shown
            }
        };
        let read = cache.get("object").and_then(|read| {
            let (spec, status) = *read.content.as_ref().ok()?;
            let version = u8::try_from(read.version).ok()?;
            Some(Stored { version, spec, status })
        });
        Known {
            shown,
            own: read.filter(|read| *read != shown),
        }
    }

    /// The lease after a candidate has taken it, if it may. `unchanged`: nobody has renewed it for so long that it may be
    /// taken.
    pub fn take(lease: Lease, by: Process, unchanged: bool) -> Option<Lease> {
        let timing = Timing::default();
        let name = |process: Process| format!("operator-{}-{}", process.operator, process.life);
        let holder = lease.holder.map(name).unwrap_or_default();
        let mut spec = first(&holder, now(), &timing);
        spec.lease_transitions = Some(i32::from(lease.transitions));
        let span = if unchanged { timing.duration } else { Duration::ZERO };
        match evaluate(&spec, &name(by), false, now(), span, &timing) {
            Verdict::HeldBy(_) => None,
            Verdict::Write(spec) => Some(Lease {
                holder: Some(by),
                transitions: u8::try_from(spec.lease_transitions?).ok()?,
            }),
        }
    }
}

/// What a cache hears.
#[derive(Clone, Copy, Debug)]
pub(super) enum News {
    Shown(Stored),
    Wrote(Stored),
}
