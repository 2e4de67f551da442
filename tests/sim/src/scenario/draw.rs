//! Draws a scenario from a seed.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use livepatch_kernel::Call;
use livepatch_operator::watch::world::Kind;
use nix::errno::Errno;
use serde_json::{Value, json};

use super::{Happening, MachinePlan, Scenario, SetPlan};
use crate::coverage::{Arm, Death, Moment, Place, Point};
use crate::modules::Conduct;
use crate::net::{Trouble, TroubleKind, Who};

const SECOND: Duration = Duration::from_secs(1);

pub(super) fn scenario(seed: u64) -> Scenario {
    let mut draw = Rng::with_seed(seed ^ 0x5eed_0f5e_ed00);
    let builds = *pick(&mut draw, &[1, 1, 2, 3]);
    let machines = machines(&mut draw, builds);
    let heals = Duration::from_secs(draw.u64(90..420));
    let sets = sets(&mut draw, builds, heals);
    let mut scenario = Scenario {
        settle: Duration::from_secs(*pick(&mut draw, &[60, 120, 600])),
        skews: [draw.i64(-1500..1500), draw.i64(-1500..1500)],
        machines,
        sets,
        happenings: Vec::new(),
        heals,
    };
    let mut happenings = arrivals(&scenario);
    let faults = *pick(&mut draw, &[0, 1, 2, 3, 4, 6, 9]);
    for _ in 0..faults {
        let at = moment(&mut draw, heals);
        let lines = story(&mut draw, &scenario, at);
        happenings.extend(lines.into_iter().filter(|(at, _)| *at < heals));
    }
    for _ in 0..*pick(&mut draw, &[0, 1, 2, 4]) {
        let at = moment(&mut draw, heals);
        let what = person(&mut draw, &scenario);
        if let Happening::DeleteSet(set) = what {
            // Made anew, as `kubectl replace --force` does.
            let again = draw
                .bool()
                .then(|| (at + span(&mut draw, 1, 60), Happening::CreateSet(set)));
            happenings.extend(again.filter(|(again, _)| *again < heals));
        }
        happenings.push((at, what));
    }
    happenings.push((heals, Happening::Heal));
    for minutes in [1, 4, 8, 13] {
        happenings.push((heals + 60 * minutes * SECOND, Happening::Help));
    }
    happenings.sort_by_key(|(at, _)| *at);
    scenario.happenings = happenings;
    scenario
}

impl Scenario {
    /// The scenario of a seed in which something dies whenever it first comes to a place.
    pub fn dying_at(seed: u64, place: Place) -> Self {
        let Place { point, moment, death } = place;
        let mut scenario = Self::of(seed);
        let arm = Arm {
            point,
            moment,
            who: None,
            death,
        };
        scenario.happenings.insert(0, (Duration::ZERO, Happening::Arm(arm)));
        if point == Point::DeleteRollout {
            // Revisions that follow each other, and little history.
            for set in &mut scenario.sets {
                set.spec["revisionHistoryLimit"] = json!(1);
            }
            for number in [1, 2] {
                let at = Duration::from_secs(20 * number);
                scenario
                    .happenings
                    .push((at, Happening::Revise(0, usize::try_from(number).unwrap_or(0))));
            }
        }
        if point == Point::PutBack {
            // A replacement with a task in the way of every transition, and cancels that lose the race against its end.
            let at = scenario.heals / 2;
            for machine in 0..scenario.machines.len() {
                let lines = [Happening::Sleeper(machine, 0, None), Happening::LostRace(machine)];
                scenario.happenings.extend(lines.map(|line| (at, line)));
            }
            scenario.happenings.push((at, Happening::Revise(0, 1)));
        }
        scenario
    }
}

fn pick<'a, T>(draw: &mut Rng, among: &'a [T]) -> &'a T {
    &among[draw.usize(0..among.len())]
}

fn moment(draw: &mut Rng, until: Duration) -> Duration {
    Duration::from_millis(draw.u64(2_000..u64::try_from(until.as_millis()).unwrap_or(u64::MAX)))
}

fn span(draw: &mut Rng, least: u64, most: u64) -> Duration {
    Duration::from_millis(draw.u64(least * 1000..most * 1000))
}

fn machines(draw: &mut Rng, builds: usize) -> Vec<MachinePlan> {
    (0..draw.usize(2..7))
        .map(|index| {
            let pool = *pick(draw, &["canary", "a", "b"]);
            let mut labels = BTreeMap::from([("pool".to_owned(), pool.to_owned())]);
            labels.insert("edge".to_owned(), draw.bool().to_string());
            MachinePlan {
                name: format!("n{index}"),
                labels,
                build: draw.usize(0..builds),
                transition: Duration::from_millis(*pick(draw, &[100, 900, 3_000, 15_000])),
                joins: (draw.u8(0..12) == 0).then(|| span(draw, 5, 120)),
            }
        })
        .collect()
}

fn sets(draw: &mut Rng, builds: usize, heals: Duration) -> Vec<SetPlan> {
    let kinds: &[bool] = match draw.u8(0..6) {
        0 | 1 => &[true],
        2 => &[false],
        3 => &[false, false],
        4 => &[true, false],
        _ => &[true, true],
    };
    kinds
        .iter()
        .enumerate()
        .map(|(index, cumulative)| SetPlan {
            name: format!("set-{index}"),
            cumulative: *cumulative,
            created: if index == 0 { SECOND } else { moment(draw, heals / 2) },
            spec: spec(draw, *cumulative),
            revisions: (0..3).map(|_| revision(draw, builds)).collect(),
        })
        .collect()
}

fn spec(draw: &mut Rng, cumulative: bool) -> Value {
    let selector = match draw.u8(0..4) {
        0 => json!({"matchLabels": {"edge": "true"}}),
        _ => json!({}),
    };
    let mut waves = Vec::new();
    if draw.bool() {
        waves.push(json!({"name": "canary", "nodeSelector": {"matchLabels": {"pool": "canary"}}}));
    }
    if draw.bool() {
        waves.push(json!({"name": "part", "percent": *pick(draw, &[20, 50])}));
    }
    for wave in &mut waves {
        wave["soakSeconds"] = json!(*pick(draw, &[0, 5, 20, 45]));
        wave["minSucceeded"] = json!(*pick(draw, &[0, 1, 1, 2]));
        if draw.u8(0..4) == 0 {
            wave["then"] = json!("AwaitPromotion");
        }
        if draw.u8(0..3) == 0 {
            wave["maxConcurrent"] = json!(1);
        }
    }
    let most = pick(draw, &[json!(1), json!(1), json!(2), json!("50%"), json!("100%")]).clone();
    json!({
        "type": if cumulative { "Cumulative" } else { "OffBand" },
        "nodeSelector": selector,
        "template": {},
        "rollout": {
            "waves": waves,
            "maxConcurrent": most,
            "minReadySeconds": *pick(draw, &[0, 3, 10, 20]),
            "maxFailed": *pick(draw, &[0, 0, 0, 1, 2]),
            "maxStalled": *pick(draw, &[0, 0, 1]),
        },
        "transition": {"timeoutSeconds": *pick(draw, &[30, 60])},
    })
}

fn revision(draw: &mut Rng, builds: usize) -> Vec<(usize, Conduct)> {
    let bad = draw.u8(0..6) == 0;
    let mut modules = Vec::new();
    for build in 0..=builds {
        if build > 0 && draw.u8(0..8) == 0 {
            continue;
        }
        let conduct = match draw.u8(0..4) {
            0 if bad => Conduct::Refused,
            1 if bad => Conduct::Panics(span(draw, 1, 50)),
            2 if bad => Conduct::Warns(span(draw, 1, 30)),
            _ => Conduct::Good,
        };
        modules.push((build, conduct));
    }
    modules
}

/// What makes the fleet.
fn arrivals(scenario: &Scenario) -> Vec<(Duration, Happening)> {
    let machines = scenario.machines.iter().enumerate();
    let joins = machines.map(|(index, machine)| (machine.joins.unwrap_or_default(), Happening::Join(index)));
    let sets = scenario.sets.iter().enumerate();
    let creations = sets.map(|(index, set)| (set.created, Happening::CreateSet(index)));
    joins.chain(creations).collect()
}

/// Something that goes wrong, or a few things that belong together.
fn story(draw: &mut Rng, scenario: &Scenario, at: Duration) -> Vec<(Duration, Happening)> {
    let all = 0..scenario.machines.len();
    match draw.u8(0..20) {
        // People change their minds while an agent that was granted waits for the registry and hears nothing.
        0 => {
            let away = span(draw, 20, 60);
            let (deaf, word) = (at + away / 4, at + away / 2);
            let word_is = draw.u8(0..3);
            let mut lines = vec![(at, Happening::RegistryAway(away))];
            lines.extend(
                all.clone()
                    .map(|machine| (deaf, Happening::SilenceAgent(machine, away * 2))),
            );
            match word_is {
                0 => lines.extend(all.map(|machine| (word, Happening::Skip(machine, true)))),
                1 => lines.extend(all.map(|machine| (word, Happening::Label(machine, "edge", "false")))),
                _ => lines.extend((0..scenario.sets.len()).map(|set| (word, Happening::DeleteSet(set)))),
            }
            lines
        }
        1 => {
            let set = draw.usize(0..scenario.sets.len());
            let until = at + span(draw, 5, 60);
            vec![
                (at, Happening::UnreadableSet(set)),
                (until, Happening::ReadableSet(set)),
            ]
        }
        _ => fault(draw, scenario, at).into_iter().map(|fault| (at, fault)).collect(),
    }
}

fn fault(draw: &mut Rng, scenario: &Scenario, at: Duration) -> Vec<Happening> {
    let operator = draw.usize(0..2);
    let machine = draw.usize(0..scenario.machines.len());
    let set = draw.usize(0..scenario.sets.len());
    let kind = *pick(draw, &Kind::ALL);
    let one = |happening| vec![happening];
    match draw.u8(0..36) {
        0 => one(Happening::KillOperator(operator)),
        1 => one(Happening::StopOperator(operator)),
        2 | 3 => one(Happening::PauseOperator(operator, span(draw, 3, 60))),
        4 => one(Happening::SilenceWatch(operator, kind, span(draw, 2, 290))),
        5 => one(Happening::BreakWatch(operator, kind)),
        6 => one(Happening::Reconnect(operator, kind)),
        7 | 8 => one(Happening::StallReplica(draw.usize(0..2), span(draw, 1, 120))),
        9..=12 => one(Happening::Trouble(trouble(draw, machine, at))),
        13..=18 => one(Happening::Arm(arm(draw, machine))),
        19 => one(Happening::KillAgent(machine)),
        20 => one(Happening::SilenceAgent(machine, span(draw, 2, 200))),
        21 => one(Happening::BreakAgentWatch(machine)),
        22 => one(Happening::PowerCut(machine, span(draw, 10, 120))),
        23 => one(Happening::Reboot(machine, span(draw, 10, 120))),
        24 => one(Happening::Unreachable(machine, span(draw, 5, 150))),
        25 => one(Happening::Recreate(machine, span(draw, 1, 60))),
        26 => one(Happening::Remove(machine)),
        27 => one(Happening::NewKernel(machine, draw.usize(0..3))),
        28 => one(Happening::FailNext(
            machine,
            *pick(
                draw,
                &[
                    Call::FinitModule,
                    Call::FinitModule,
                    Call::WriteEnabled,
                    Call::DeleteModule,
                ],
            ),
            *pick(
                draw,
                &[
                    Errno::EKEYREJECTED,
                    Errno::EPERM,
                    Errno::ENOMEM,
                    Errno::EBUSY,
                    Errno::ENODATA,
                    Errno::EEXIST,
                ],
            ),
        )),
        29 => {
            let until = draw.bool().then(|| span(draw, 10, 200));
            let mut both = one(Happening::Sleeper(machine, set, until));
            if draw.u8(0..3) == 0 {
                both.push(Happening::LostRace(machine));
            }
            both
        }
        30 => one(Happening::Foreign(machine, draw.u8(0..4) == 0)),
        31 => one(Happening::Drift(machine)),
        32 => one(Happening::SlowCall(machine, span(draw, 1, 40))),
        33 => one(match draw.u8(0..4) {
            0 => Happening::JournalLost(machine),
            1 => Happening::JournalDamaged(machine),
            _ => Happening::DiskFull(machine, true),
        }),
        34 => one(if draw.bool() {
            Happening::RegistryAway(span(draw, 5, 200))
        } else {
            Happening::RegistryDamaged(span(draw, 5, 60))
        }),
        _ => one(if draw.bool() {
            Happening::Unreadable(machine, span(draw, 5, 60))
        } else {
            Happening::Touch(machine)
        }),
    }
}

fn trouble(draw: &mut Rng, machine: usize, at: Duration) -> Trouble {
    let who = *pick(
        draw,
        &[
            Who::All,
            Who::Operators,
            Who::Operator(0),
            Who::Operator(1),
            Who::Agents,
            Who::Machine(machine),
        ],
    );
    let kind = *pick(
        draw,
        &[
            TroubleKind::LosesRequests,
            TroubleKind::LosesAnswers,
            TroubleKind::LosesAnswers,
            TroubleKind::Delays(90),
            TroubleKind::Delays(20),
            TroubleKind::Refuses,
            TroubleKind::Throttles,
            TroubleKind::Forbids,
            TroubleKind::TimesOut,
        ],
    );
    Trouble {
        from: at,
        until: at + span(draw, 1, 120),
        who,
        kind,
        probability: *pick(draw, &[0.05, 0.2, 0.5, 1.0]),
    }
}

fn arm(draw: &mut Rng, machine: usize) -> Arm {
    let of_operator = draw.bool();
    let point = if of_operator {
        *pick(draw, &Point::OPERATOR)
    } else {
        *pick(draw, &Point::AGENT)
    };
    Arm {
        point,
        moment: *pick(draw, &[Moment::Before, Moment::Sent, Moment::After]),
        who: (!of_operator && draw.bool()).then_some(machine),
        death: if of_operator || draw.bool() {
            Death::Process
        } else {
            Death::Machine
        },
    }
}

fn person(draw: &mut Rng, scenario: &Scenario) -> Happening {
    let set = draw.usize(0..scenario.sets.len());
    let machine = draw.usize(0..scenario.machines.len());
    match draw.u8(0..18) {
        16 => Happening::Abort(set),
        17 => Happening::Exclude(set, machine),
        0..=3 => Happening::Revise(set, draw.usize(0..3)),
        4 => Happening::Strategy(
            set,
            "maxConcurrent",
            pick(draw, &[json!(1), json!(3), json!("100%")]).clone(),
        ),
        5 => Happening::Strategy(set, "minReadySeconds", json!(*pick(draw, &[0, 15]))),
        6 | 7 => Happening::Pause(set),
        8 => Happening::Resume(set),
        9 => Happening::Retry(set),
        10 => Happening::Promote(set, (*pick(draw, &["canary", "part", "rest"])).to_owned()),
        11 => {
            let pool = *pick(draw, &["canary", "a", "b"]);
            Happening::Label(machine, "pool", pool)
        }
        12 => {
            let edge = *pick(draw, &["true", "false"]);
            Happening::Label(machine, "edge", edge)
        }
        13 => Happening::Skip(machine, true),
        14 => Happening::Stop(machine, true),
        _ => Happening::DeleteSet(set),
    }
}
