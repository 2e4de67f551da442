//! Lives of nodes, and what holds at the end of each.

use std::collections::BTreeSet;
use std::time::Duration;

use livepatch_agent::decide::Decision;
use livepatch_agent::journal::Phase;
use livepatch_crds::node::{DesiredState, Grant, GrantResult};
use livepatch_crds::policy::{Drift, GrantPolicy, SupersededSet, Upgrade};
use livepatch_kernel::{Call, FakeModule, FakeTask, Kernel as _, Standing};
use livepatch_planner::node::situation::supersedes;
use nix::errno::Errno;
use proptest::prelude::*;

use crate::modules::{BUILT, SETS};
use crate::node::{Cut, Node};

/// Something that happens to a node.
#[derive(Debug, Clone)]
enum Event {
    /// The operator asks for a module of a set, for its absence, or no longer for anything.
    Ask { module: usize, absent: bool, policy: u8 },
    /// The operator asks for nothing of a set.
    Forget(usize),
    /// The agent works, and after so many things it does comes to a sudden end.
    Work { fuse: u32, end: End },
    /// The agent works undisturbed.
    Rest,
    /// A task sleeps in a function.
    Sleep { function: &'static str, seconds: u64 },
    /// The kernel fails one call.
    Fail(Call, Errno),
    /// The next cancel loses its race.
    Race,
    /// A tracer holds a function.
    Hold(&'static str),
    /// Somebody disables a livepatch by hand.
    Meddle(usize),
    /// Somebody loads a livepatch of their own.
    Foreign { replaces: bool },
    /// The API server goes away.
    Away,
    /// A person holds the node.
    Stop,
    /// So many minutes pass.
    Minutes(u64),
}

#[derive(Debug, Clone, Copy)]
enum End {
    Killed,
    PowerCut,
    CleanReboot,
}

const FUNCTIONS: [&str; 8] = ["a", "a2", "b", "c", "c2", "f", "g", "h"];

fn event() -> impl Strategy<Value = Event> {
    let function = || proptest::sample::select(&FUNCTIONS[..]);
    let end = prop_oneof![3 => Just(End::Killed), 3 => Just(End::PowerCut), 1 => Just(End::CleanReboot)];
    let call = prop_oneof![
        Just(Call::FinitModule),
        Just(Call::WriteEnabled),
        Just(Call::DeleteModule)
    ];
    let errno = prop_oneof![
        Just(Errno::EBUSY),
        Just(Errno::ENOMEM),
        Just(Errno::EINVAL),
        Just(Errno::EIO)
    ];
    prop_oneof![
        24 => (0..BUILT.len(), proptest::bool::weighted(0.12), 0_u8..16)
            .prop_map(|(module, absent, policy)| Event::Ask { module, absent, policy }),
        2 => (0..SETS.len()).prop_map(Event::Forget),
        10 => (0_u32..90, end).prop_map(|(fuse, end)| Event::Work { fuse, end }),
        10 => Just(Event::Rest),
        3 => (function(), 1_u64..200).prop_map(|(function, seconds)| Event::Sleep { function, seconds }),
        4 => (call, errno).prop_map(|(call, errno)| Event::Fail(call, errno)),
        1 => Just(Event::Race),
        2 => function().prop_map(Event::Hold),
        1 => (0..BUILT.len()).prop_map(Event::Meddle),
        1 => proptest::bool::weighted(0.3).prop_map(|replaces| Event::Foreign { replaces }),
        2 => Just(Event::Away),
        1 => Just(Event::Stop),
        2 => (1_u64..70).prop_map(Event::Minutes),
    ]
}

/// A node and what is to be remembered of its life.
struct Life {
    node: Node,
    rollouts: u32,
    /// Sets of which something was in effect by grant.
    held: BTreeSet<usize>,
    /// Sets whose absence was granted after something of them was in effect last.
    absent: BTreeSet<usize>,
}

impl Life {
    fn happen(&mut self, event: &Event) {
        let node = &mut self.node;
        match event {
            Event::Ask { module, absent, policy } => self.ask(*module, *absent, *policy),
            Event::Forget(set) => node.spec.livepatches.retain(|grant| grant.set.name != SETS[*set]),
            Event::Work { fuse, end } => self.work(*fuse, *end),
            Event::Rest => _ = node.rest(6).unwrap(),
            Event::Sleep { function, seconds } => node.kernel.add_task(FakeTask {
                pid: 7,
                comm: "sleeper".to_owned(),
                pod_uid: None,
                sleeps_in: (*function).to_owned(),
                until: Some(node.kernel.now() + Duration::from_secs(*seconds)),
            }),
            Event::Fail(call, errno) => node.kernel.fail_next(*call, *errno, None),
            Event::Race => node.kernel.complete_before_next_write(),
            Event::Hold(function) => node.kernel.hold_function(function),
            Event::Meddle(module) => {
                if node.kernel.set_enabled(BUILT[*module].name, false).is_ok() {
                    node.meddled = true;
                    node.kernel.advance(Duration::from_secs(1));
                }
            }
            Event::Foreign { replaces } => {
                let mut module = FakeModule::new("foreign", &["z"]);
                module.replace = *replaces;
                let image = node.kernel.image(module);
                let begun = node.kernel.start_load("foreign", &image, c"").unwrap().poll();
                // It throws out others, or keeps a cumulative one from coming back.
                node.meddled |= begun.is_some_and(|answer| answer.is_ok());
                node.kernel.advance(Duration::from_secs(1));
            }
            Event::Away => node.api = false,
            Event::Stop => node.spec.hold = "a person".to_owned(),
            Event::Minutes(minutes) => node.kernel.advance(Duration::from_secs(60 * minutes)),
        }
        self.remember();
    }

    fn ask(&mut self, module: usize, absent: bool, policy: u8) {
        let built = &BUILT[module];
        let mut grant_policy = GrantPolicy::default();
        if policy & 1 == 1 {
            grant_policy.off_band.upgrade = Upgrade::UnloadFirst;
        }
        if policy & 2 == 2 {
            grant_policy.drift = Drift::Restore;
        }
        if policy & 4 == 4 && built.set == 0 {
            grant_policy.supersedes = vec![SupersededSet {
                set: SETS[1].to_owned(),
                module_sha256: vec![BUILT[6].sha256()],
            }];
        }
        self.rollouts += 1;
        let state = if absent {
            DesiredState::Absent
        } else {
            DesiredState::Loaded
        };
        let attempt = if policy & 8 == 8 { 2 } else { 1 };
        let mut grant = built.grant(self.rollouts, attempt, state, grant_policy);
        grant.back = self.rollouts.is_multiple_of(5);
        if absent {
            self.absent.insert(built.set);
        }
        let grants = &mut self.node.spec.livepatches;
        grants.retain(|other| other.set.name != SETS[built.set]);
        grants.push(grant);
    }

    fn work(&mut self, fuse: u32, end: End) {
        self.node.fuse = Some(fuse);
        let ended = self.node.rest(3).is_err();
        self.node.fuse = None;
        if ended {
            match end {
                End::Killed => self.node.restart(),
                End::PowerCut => {
                    self.node.reboot(false);
                    self.node.wake_up();
                    self.forget_quarantined();
                }
                End::CleanReboot => self.node.reboot(true),
            }
        }
    }

    fn remember(&mut self) {
        let Some(journal) = &self.node.disk else { return };
        let truth = self.node.truth();
        for entry in journal.entries.iter().filter(|entry| entry.is_in_effect()) {
            let runs = truth
                .standing(&entry.module, &entry.build_id)
                .is_some_and(Standing::is_effective);
            if let Some(set) = SETS.iter().position(|set| *set == entry.set).filter(|_| runs) {
                self.held.insert(set);
                let asks = |grant: &Grant| grant.set.name == entry.set && grant.state == DesiredState::Absent;
                if !self.node.spec.livepatches.iter().any(asks) {
                    self.absent.remove(&set);
                }
            }
        }
    }

    /// What a crash has put into quarantine is out of effect by rule, unless a predecessor takes its place.
    fn forget_quarantined(&mut self) {
        let Some(journal) = &self.node.disk else { return };
        self.held.retain(|set| {
            let mut of_set = journal.entries.iter().filter(|entry| entry.set == SETS[*set]);
            let quarantined = |phase: &Phase| matches!(phase, Phase::Quarantined { .. });
            let returns = |phase: &Phase| matches!(phase, Phase::Settled | Phase::Contained { .. });
            let all: Vec<&Phase> = of_set.by_ref().map(|entry| &entry.phase).collect();
            !all.iter().any(|phase| quarantined(phase)) || all.iter().any(|phase| returns(phase))
        });
    }

    /// Everything that stood in the way is gone.
    fn heal(&mut self) -> Result<Decision, Cut> {
        let node = &mut self.node;
        node.api = true;
        node.spec.hold.clear();
        node.kernel.heal();
        for function in FUNCTIONS {
            node.kernel.release_function(function);
        }
        node.kernel.wake("sleeper");
        node.rest(40)
    }

    /// What holds at the end.
    fn judge(&self, decision: &Decision) {
        let (node, truth, journal) = (&self.node, self.node.truth(), self.node.journal());
        let looping = journal.boots.is_looping();
        for (grant, verdict) in node.spec.livepatches.iter().zip(&decision.verdicts) {
            let runs = truth
                .standing(&grant.module.name, &grant.module.build_id)
                .is_some_and(Standing::is_effective);
            let told = format!("{verdict:?}\n{}", node.told());
            match verdict.result {
                GrantResult::Loaded => assert!(runs && grant.state == DesiredState::Loaded, "{told}"),
                GrantResult::Absent => assert!(!runs && grant.state == DesiredState::Absent, "{told}"),
                GrantResult::Superseded => {
                    let contains = |entry: &livepatch_agent::journal::Entry| {
                        entry.cumulative
                            && supersedes(&entry.policy, &grant.set.name, &grant.module.sha256)
                            && truth
                                .standing(&entry.module, &entry.build_id)
                                .is_some_and(Standing::is_effective)
                    };
                    assert!(journal.entries.iter().any(contains), "{told}");
                }
                GrantResult::Failed => assert!(
                    !runs && !verdict.reason.is_empty() && !verdict.message.is_empty(),
                    "{told}"
                ),
                GrantResult::Pending | GrantResult::Transitioning => unreachable!("it comes to no end: {told}"),
            }
        }
        for entry in &journal.entries {
            let suspected = matches!(entry.phase, Phase::Quarantined { .. });
            assert!(
                !(entry.proven && suspected),
                "a crash suspects what is proven: {entry:?}"
            );
        }
        for set in &self.held {
            self.nothing_lost(*set, looping);
        }
    }

    /// What was once in effect is, or something of its set, or a cumulative one that contains it; or a person or a crash
    /// took it out, which is told.
    fn nothing_lost(&self, set: usize, looping: bool) {
        let (truth, journal) = (self.node.truth(), self.node.journal());
        let effective =
            |module: &str, build_id: &str| truth.standing(module, build_id).is_some_and(Standing::is_effective);
        let of_set: Vec<_> = journal.entries.iter().filter(|entry| entry.set == SETS[set]).collect();
        let there = of_set.iter().any(|entry| effective(&entry.module, &entry.build_id));
        let contained = of_set
            .iter()
            .any(|entry| matches!(entry.phase, Phase::Contained { .. }));
        let told = of_set
            .iter()
            .any(|entry| matches!(entry.phase, Phase::Quarantined { .. } | Phase::NotRestored { .. }));
        let excused = self.node.meddled || looping || self.absent.contains(&set) || told;
        assert!(
            there || contained || excused,
            "{} is lost\n{}",
            SETS[set],
            self.node.told()
        );
    }
}

/// Nothing but what the agent itself is to deal with: it is killed, calls fail, tasks sleep, the API server goes away.
fn is_calm(event: &Event) -> bool {
    !matches!(
        event,
        Event::Meddle(_)
            | Event::Foreign { .. }
            | Event::Work {
                end: End::PowerCut | End::CleanReboot,
                ..
            }
    )
}

fn live(events: &[Event]) {
    let mut life = Life {
        node: Node::new(),
        rollouts: 0,
        held: BTreeSet::new(),
        absent: BTreeSet::new(),
    };
    // A node that has livepatches before it has a journal is another story.
    life.node.pass().unwrap();
    for event in events {
        life.happen(event);
    }
    let decision = life.heal().unwrap();
    life.judge(&decision);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 50_000,
        max_shrink_iters: 20_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_is_asked_for_comes_to_be_or_is_refused_and_no_fix_is_lost(
        events in proptest::collection::vec(event(), 1..14)
    ) {
        live(&events);
    }

    #[test]
    fn and_without_crashes_and_strangers_there_is_no_excuse(
        events in proptest::collection::vec(event().prop_filter("calm", is_calm), 1..14)
    ) {
        live(&events);
    }
}

/// An agent is killed while it brings back what was disabled for a version that was never loaded, and the cumulative
/// livepatch that the next agent loads contains it.
#[test]
fn a_return_that_was_cut_off_gives_way_to_what_contains_it() {
    let ask = |module, policy| Event::Ask {
        module,
        absent: false,
        policy,
    };
    let killed = |fuse| Event::Work { fuse, end: End::Killed };
    live(&[
        ask(9, 0),
        ask(6, 0),
        killed(17),
        Event::Fail(Call::WriteEnabled, Errno::ENOMEM),
        ask(2, 4),
        ask(7, 1),
        killed(13),
    ]);
}

/// An exchange was cut off before the kernel was asked for anything, and a cumulative livepatch comes first now: what it
/// throws out is away for a while, whatever the exchange would have kept.
#[test]
fn an_exchange_that_was_cut_off_promises_nothing_to_a_replace() {
    let ask = |module, policy| Event::Ask {
        module,
        absent: false,
        policy,
    };
    let killed = |fuse| Event::Work { fuse, end: End::Killed };
    live(&[ask(8, 0), killed(8), ask(7, 8), killed(1), ask(0, 0)]);
}
