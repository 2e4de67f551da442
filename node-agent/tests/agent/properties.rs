//! What holds for every journal, every kernel and every grant.

use std::collections::BTreeMap;
use std::time::Duration;

use livepatch_agent::decide::{Decision, IDLE, JournalState, Snapshot, Step, decide};
use livepatch_agent::journal::{Entry, Failure, Journal, JournalFile, Phase};
use livepatch_agent::retry::Retries;
use livepatch_agent::store::Store;
use livepatch_agent::truth::Truth;
use livepatch_crds::NodeLivepatchSpec;
use livepatch_crds::node::{Grant, GrantResult};
use livepatch_kernel::{BootId, BootTime, Kernel as _, Standing};
use livepatch_module::ReplaceValue;
use proptest::prelude::*;

use crate::world::World;

/// Three modules in two sets, some of which the kernel holds.
#[derive(Debug)]
struct Scene {
    spec: NodeLivepatchSpec,
    truth: Truth,
    journal: JournalState,
    stop: Option<String>,
    prepared: BTreeMap<String, livepatch_module::Inspection>,
}

impl Scene {
    fn decide(&self) -> Decision {
        decide(&Snapshot {
            spec: Some(&self.spec),
            truth: &self.truth,
            journal: &self.journal,
            stop: self.stop.as_deref(),
            prepared: &self.prepared,
            retries: &Retries::default(),
            blockers: &[],
            settle: Duration::from_mins(10),
        })
    }

    fn runs(&self, grant: &Grant) -> bool {
        grant.module.kernel_build_id == self.truth.kernel_build_id()
            && self
                .truth
                .standing(&grant.module.name, &grant.module.build_id)
                .is_some_and(Standing::is_effective)
    }
}

fn phase() -> impl Strategy<Value = Phase> {
    let failure = || Failure::new("Why", "because");
    prop_oneof![
        any::<bool>().prop_map(|again| Phase::Starting { again }),
        (0_u64..100_000_000_000).prop_map(|at| Phase::Applied {
            at: BootTime::from_nanos(at)
        }),
        Just(Phase::Settled),
        any::<bool>().prop_map(|settled| Phase::Superseded {
            by: "0".repeat(64),
            settled
        }),
        any::<bool>().prop_map(|settled| Phase::Contained {
            by: "0".repeat(64),
            settled
        }),
        any::<bool>().prop_map(|settled| Phase::Retiring {
            by: "0".repeat(64),
            settled
        }),
        Just(Phase::Clearing),
        Just(Phase::Displaced),
        Just(Phase::Removing),
        Just(Phase::Removed),
        Just(Phase::NotRestored { failure: failure() }),
        Just(Phase::Failed { failure: failure() }),
        Just(Phase::Quarantined { failure: failure() }),
    ]
}

#[expect(clippy::struct_excessive_bools, reason = "each is a coin of its own")]
#[derive(Debug, Clone)]
struct Chance {
    granted: bool,
    loaded: bool,
    prepared: bool,
    other_kernel: bool,
    attempt: i32,
    entry: Option<(Phase, bool, u32, i32)>,
}

fn chance() -> impl Strategy<Value = Chance> {
    let entry = proptest::option::of((phase(), any::<bool>(), 0_u32..5, 1_i32..3));
    (
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        proptest::bool::weighted(0.1),
        1_i32..3,
        entry,
    )
        .prop_map(|(granted, loaded, prepared, other_kernel, attempt, entry)| Chance {
            granted,
            loaded,
            prepared,
            other_kernel,
            attempt,
            entry,
        })
}

fn scene() -> impl Strategy<Value = Scene> {
    let journal = prop_oneof![8 => Just(0), 1 => Just(1), 1 => Just(2)];
    (
        proptest::collection::vec(chance(), 3),
        journal,
        proptest::option::weighted(0.1, Just("a person".to_owned())),
    )
        .prop_map(|(chances, kind, stop)| {
            let world = World::new();
            let published = [
                world.publish("cumulative", "cum", &["f"], ReplaceValue::True),
                world.publish("off-a", "off_a", &["g"], ReplaceValue::False),
                world.publish("off-b", "off_b", &["h"], ReplaceValue::False),
            ];
            build(&world, &published, &chances, kind, stop)
        })
}

fn build(world: &World, published: &[Grant], chances: &[Chance], kind: i32, stop: Option<String>) -> Scene {
    let (mut spec, mut journal, mut prepared) = (world.object().spec, Journal::default(), BTreeMap::new());
    for (grant, chance) in published.iter().zip(chances) {
        let mut grant = grant.clone();
        grant.attempt = chance.attempt;
        let shelved = world
            .shelf
            .modules
            .lock()
            .unwrap()
            .get(&grant.module.digest)
            .cloned()
            .unwrap();
        if chance.loaded {
            world
                .kernel
                .start_load(&grant.module.name, &shelved.bytes, c"")
                .unwrap();
            world.kernel.advance(Duration::from_secs(2));
        }
        if chance.prepared {
            prepared.insert(grant.module.sha256.clone(), shelved.inspection);
        }
        if chance.other_kernel {
            grant.module.kernel_build_id = "ab".repeat(20);
        }
        if let Some((phase, this_boot, starts, attempt)) = &chance.entry {
            let boot = if *this_boot {
                world.kernel.boot_id().unwrap()
            } else {
                BootId("before".to_owned())
            };
            let mut entry = Entry::begin(&grant, boot, world.kernel.now());
            entry.phase = phase.clone();
            entry.starts = *starts;
            entry.attempt = *attempt;
            journal.put(entry);
        }
        if chance.granted {
            spec.livepatches.push(grant);
        }
    }
    let journal = match kind {
        0 => JournalState::Known(journal),
        1 => JournalState::Missing,
        _ => JournalState::Unreadable(Failure::new("JournalUnreadable", "damaged")),
    };
    let truth = Truth::read(&world.kernel, &std::collections::BTreeSet::new()).unwrap();
    Scene {
        spec,
        truth,
        journal,
        stop,
        prepared,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_the_kernel_does_not_run_is_never_said_to_be_loaded(scene in scene()) {
        let decision = scene.decide();
        prop_assert_eq!(decision.verdicts.len(), scene.spec.livepatches.len());
        for (grant, verdict) in scene.spec.livepatches.iter().zip(&decision.verdicts) {
            prop_assert_eq!(verdict.result == GrantResult::Loaded, scene.runs(grant), "{:?}", verdict);
        }
        prop_assert!(decision.recheck <= IDLE);
    }

    #[test]
    fn a_load_is_of_what_is_granted_or_was_settled_and_of_nothing_that_runs(scene in scene()) {
        if let Step::Load(load) = scene.decide().step {
            prop_assert!(scene.truth.livepatch(&load.entry.module).is_none());
            prop_assert!(scene.truth.in_transition().is_none());
            prop_assert_eq!(&load.entry.pair.kernel_build_id, scene.truth.kernel_build_id());
            prop_assert!(scene.stop.is_none());
            let JournalState::Known(journal) = &scene.journal else {
                return Err(TestCaseError::fail("a load without a journal"));
            };
            if let Some(grant) = &load.grant {
                prop_assert!(scene.spec.livepatches.contains(grant));
            } else {
                let settled = journal.entries.iter().any(|entry| {
                    entry.pair == load.entry.pair
                        && matches!(
                            entry.phase,
                            Phase::Settled
                                | Phase::Starting { again: true }
                                | Phase::Displaced
                                | Phase::Contained { .. }
                                | Phase::Clearing
                        )
                });
                prop_assert!(settled);
            }
        }
    }

    #[test]
    fn an_atomic_replace_throws_out_only_what_can_be_brought_back(scene in scene()) {
        if let Step::Load(load) = scene.decide().step
            && load.entry.cumulative
        {
            for livepatch in &scene.truth.livepatches {
                let JournalState::Known(journal) = &scene.journal else { unreachable!() };
                let ours = journal.entries.iter().find(|entry| entry.module == livepatch.name);
                prop_assert!(ours.is_some_and(|entry| scene.prepared.contains_key(&entry.pair.sha256)));
            }
        }
    }

    #[test]
    fn bookkeeping_comes_to_rest(scene in scene()) {
        let mut scene = scene;
        let mut written = 0;
        while let Step::Write(journal) = scene.decide().step {
            prop_assert_ne!(&scene.journal, &JournalState::Known(journal.clone()));
            scene.journal = JournalState::Known(journal);
            written += 1;
            prop_assert!(written < 10, "it never comes to rest");
        }
    }

    #[test]
    fn a_journal_that_cannot_be_read_changes_nothing(scene in scene()) {
        if matches!(scene.journal, JournalState::Unreadable(_)) {
            prop_assert_eq!(scene.decide().step, Step::Nothing);
        }
    }

    #[test]
    fn a_journal_is_read_as_it_was_written(scene in scene()) {
        if let JournalState::Known(journal) = scene.journal {
            let directory = tempfile::tempdir().unwrap();
            let file = JournalFile::in_directory(directory.path());
            file.write(&journal).unwrap();
            prop_assert_eq!(file.read().unwrap(), Some(journal));
        }
    }

    #[test]
    fn a_cut_off_journal_is_told_from_a_good_one(scene in scene(), cut in 1_usize..2000) {
        if let JournalState::Known(journal) = scene.journal {
            let directory = tempfile::tempdir().unwrap();
            let file = JournalFile::in_directory(directory.path());
            file.write(&journal).unwrap();
            let path = directory.path().join("journal.json");
            let content = std::fs::read(&path).unwrap();
            std::fs::write(&path, &content[..content.len().saturating_sub(cut)]).unwrap();
            prop_assert_eq!(file.read().unwrap_err().reason(), "JournalUnreadable");
        }
    }
}

#[test]
fn the_store_gives_back_what_it_was_given_or_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::in_directory(directory.path()).unwrap();
    let sha256 = livepatch_agent::store::sha256_of(b"module");
    assert_eq!(store.read(&sha256).unwrap(), None);
    store.write(&sha256, b"module").unwrap();
    assert_eq!(store.read(&sha256).unwrap().as_deref(), Some(&b"module"[..]));
    let path = directory.path().join(format!("store/{sha256}.ko"));
    std::fs::write(&path, b"modulf").unwrap();
    assert_eq!(store.read(&sha256).unwrap(), None);
    std::fs::write(directory.path().join("store/half-written.ko.new"), b"mod").unwrap();
    store.write(&sha256, b"module").unwrap();
    store.retain(|kept| kept == sha256);
    assert_eq!(std::fs::read_dir(directory.path().join("store")).unwrap().count(), 1);
    store.retain(|_| false);
    assert_eq!(store.read(&sha256).unwrap(), None);
}

#[test]
fn one_agent_per_host() {
    use livepatch_agent::lock::HostLock;
    let directory = tempfile::tempdir().unwrap();
    let first = HostLock::try_take(directory.path()).unwrap();
    assert!(first.is_some());
    assert!(HostLock::try_take(directory.path()).unwrap().is_none());
    drop(first);
    assert!(HostLock::try_take(directory.path()).unwrap().is_some());
}
