//! `promote`: let the rollout pass waves that wait for a person. Pure.

use clap::Args;
use livepatch_crds::LivepatchRollout;
use livepatch_crds::rollout::{ControlState, LivepatchRolloutStatus, WaveState, WaveStatus};
use livepatch_crds::set::{REST, Wave};
use serde_json::json;

use super::{Change, Refusal, WriteOptions, aborted, is_complete, rolled_back, subject};
use crate::family::{self, Family};
use crate::text::{count, moment};

const ABOUT: &str = "\
Let a rollout pass the wave that waits for a person: one that awaits promotion, takes no node, or has too few settled nodes.

Waves after it that wait for a person will wait again. With --wave every wave up to and including that one passes without
waiting for a person, now or later; with --full all of them. Soaks, budgets and halts hold all the same.

Writes spec.control.promotedThrough of the LivepatchRollout, as does
  kubectl patch lpr ROLLOUT --type=merge -p '{\"spec\":{\"control\":{\"promotedThrough\":\"WAVE\"}}}'";

/// `promote SET`.
#[derive(Debug, Clone, Args)]
#[command(about = "Let a rollout pass the wave that waits for a person", long_about = ABOUT)]
pub struct PromoteOptions {
    #[command(flatten)]
    pub write: WriteOptions,

    /// All waves pass without waiting for a person
    #[arg(long, conflicts_with = "wave")]
    pub full: bool,

    /// This wave and those before it pass without waiting for a person
    #[arg(long, value_name = "WAVE")]
    pub wave: Option<String>,
}

/// What to write.
pub fn promote(family: &Family, options: &PromoteOptions) -> Result<Change, Refusal> {
    let rollout = subject(family)?;
    let course = Course::of(family, rollout)?;
    let through = match &options.wave {
        Some(wave) => course.index(wave)?,
        None if options.full => course.waves.len() - 1,
        None => course.waiting()?,
    };
    course.promote(through)
}

/// What a promotion is judged by.
struct Course<'a> {
    set: &'a str,
    rollout: &'a LivepatchRollout,
    status: &'a LivepatchRolloutStatus,
    spec: &'a [Wave],
    waves: &'a [WaveStatus],
    /// Index of the first wave that has not passed.
    current: usize,
}

impl<'a> Course<'a> {
    fn of(family: &'a Family, rollout: &'a LivepatchRollout) -> Result<Self, Refusal> {
        let set = family.name();
        let status = rollout
            .status
            .as_ref()
            .filter(|status| !status.waves.is_empty())
            .ok_or_else(|| {
                Refusal::new(
                    "the operator has not reported on the waves of the rollout yet",
                    "try again in a moment",
                )
            })?;
        if family::control(rollout).state == ControlState::Aborted {
            return Err(aborted());
        }
        if family::control(rollout).state == ControlState::RolledBack {
            return Err(rolled_back());
        }
        if is_complete(rollout) {
            return Err(Refusal::new(
                "the rollout is complete, no wave is left to promote",
                format!("see kubectl livepatch get {set}"),
            ));
        }
        let state = family::state(&status.conditions);
        if state.reason == "Halted" {
            return Err(Refusal::new(
                format!(
                    "the rollout is halted, a promotion would not move it: {}",
                    blocked_by(status)
                ),
                format!("when the cause is gone, try the failed nodes again with kubectl livepatch retry {set}"),
            ));
        }
        let current = status.waves.iter().position(|wave| wave.state != WaveState::Passed);
        let current = current.ok_or_else(|| {
            Refusal::new(
                "every wave has passed already",
                format!("see kubectl livepatch get {set}"),
            )
        })?;
        Ok(Self {
            set,
            rollout,
            status,
            spec: &family.set.spec.rollout.waves,
            waves: &status.waves,
            current,
        })
    }

    fn index(&self, name: &str) -> Result<usize, Refusal> {
        let index = self.waves.iter().position(|wave| wave.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.waves.iter().map(|wave| wave.name.as_str()).collect();
            Refusal::new(
                format!("the rollout has no wave {name}"),
                format!("its waves are {}", names.join(", ")),
            )
        })?;
        if index < self.current {
            return Err(Refusal::new(
                format!("wave {name} has passed already"),
                format!("the current wave is {}", self.name(self.current)),
            ));
        }
        Ok(index)
    }

    /// The wave that waits for a person now.
    fn waiting(&self) -> Result<usize, Refusal> {
        let wave = &self.waves[self.current];
        let name = &wave.name;
        let spec = self.spec.iter().find(|spec| spec.name == *name);
        let lacks_nodes = wave.state == WaveState::Running
            && self.status.counts.in_flight == 0
            && spec.is_some_and(|spec| wave.settled < spec.min_succeeded);
        if matches!(wave.state, WaveState::AwaitingPromotion | WaveState::Empty) || lacks_nodes {
            return Ok(self.current);
        }
        let why = match wave.state {
            WaveState::Soaking => {
                let soak = spec.map_or(0, |spec| i64::from(spec.soak_seconds));
                let over = wave
                    .settled_at
                    .as_ref()
                    .and_then(|at| at.0.checked_add(jiff::SignedDuration::from_secs(soak)).ok());
                over.map_or_else(
                    || "it soaks".to_owned(),
                    |over| format!("it soaks until {}", moment(over)),
                )
            }
            _ => match blocked_by(self.status) {
                "" => "its nodes are being served".to_owned(),
                blocked_by => blocked_by.to_owned(),
            },
        };
        Err(Refusal::new(
            format!("wave {name} does not wait for a person: {why}"),
            format!(
                "to promote it in advance, kubectl livepatch promote {} --wave {name}",
                self.set
            ),
        ))
    }

    fn promote(&self, through: usize) -> Result<Change, Refusal> {
        let name = self.name(through);
        let control = family::control(self.rollout);
        let promoted = control.promoted_through.as_deref();
        let promoted = promoted.and_then(|promoted| self.waves.iter().position(|wave| wave.name == promoted));
        if let Some(promoted) = promoted.filter(|promoted| *promoted >= through) {
            let why = format!("the rollout is promoted through wave {} already", self.name(promoted));
            let instead = if family::is_observed(self.rollout) {
                format!("it waits for something else: {}", blocked_by(self.status))
            } else {
                "the operator has not taken it up yet; try again in a moment".to_owned()
            };
            return Err(Refusal::new(why, instead));
        }
        Ok(Change {
            control: json!({"promotedThrough": name}),
            told: format!("promoted through wave {name}: {}{}", self.effect(through), self.pause()),
        })
    }

    /// What comes of it.
    fn effect(&self, through: usize) -> String {
        let waits = |wave: &WaveStatus| matches!(wave.state, WaveState::AwaitingPromotion | WaveState::Empty);
        let name = self.name(through);
        if through > self.current {
            return if name == REST {
                "no wave waits for a person any more; soaks and budgets hold".to_owned()
            } else {
                format!("no wave up to {name} waits for a person any more; soaks and budgets hold")
            };
        }
        match self.waves.get(through + 1) {
            Some(next) if waits(&self.waves[through]) => {
                let nodes = count(next.selected, "node");
                format!("wave {} with {nodes} begins", next.name)
            }
            Some(_) => "it passes without waiting for a person; soak and budgets hold".to_owned(),
            None => "the rollout ends with it".to_owned(),
        }
    }

    fn pause(&self) -> String {
        match family::control(self.rollout).state {
            ControlState::Paused => format!(" when it is resumed (kubectl livepatch resume {})", self.set),
            ControlState::Run | ControlState::Aborted | ControlState::RolledBack => String::new(),
        }
    }

    fn name(&self, index: usize) -> &str {
        &self.waves[index].name
    }
}

fn blocked_by(status: &LivepatchRolloutStatus) -> &str {
    status.blocked_by.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{family, status};
    use super::*;
    use clap::{CommandFactory as _, FromArgMatches as _, Parser};

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        options: PromoteOptions,
    }

    fn decide(family: &Family, arguments: &[&str]) -> Result<Change, Refusal> {
        let typed = ["promote", "nf"].iter().chain(arguments);
        let matches = Typed::command().try_get_matches_from(typed).unwrap();
        promote(family, &Typed::from_arg_matches(&matches).unwrap().options)
    }

    fn refused(family: &Family, arguments: &[&str]) -> String {
        decide(family, arguments).unwrap_err().to_string()
    }

    #[test]
    fn a_wave_that_waits_is_promoted() {
        for state in ["AwaitingPromotion", "Empty"] {
            let family = family(json!({}), status(state, json!({"state": state, "settled": 2})));
            let change = decide(&family, &[]).unwrap();
            assert_eq!(change.control, json!({"promotedThrough": "canary"}));
            assert_eq!(
                change.told,
                "promoted through wave canary: wave quarter with 25 nodes begins"
            );
        }
    }

    #[test]
    fn a_wave_with_too_few_settled_nodes_is_promoted() {
        let family = family(json!({}), status("Progressing", json!({"settled": 1})));
        assert_eq!(
            decide(&family, &[]).unwrap().told,
            "promoted through wave canary: it passes without waiting for a person; soak and budgets hold"
        );
    }

    #[test]
    fn a_wave_that_goes_on_by_itself_is_not_promoted_unless_it_is_named() {
        let soaking = json!({"state": "Soaking", "settled": 2, "settledAt": "2026-11-01T10:00:00Z"});
        let family = family(json!({}), status("Soaking", soaking));
        assert_eq!(
            refused(&family, &[]),
            "wave canary does not wait for a person: it soaks until 2026-11-01T11:00:00Z; to promote it in advance, \
             kubectl livepatch promote nf --wave canary"
        );
        assert!(decide(&family, &["--wave", "canary"]).is_ok());
        let through = decide(&family, &["--wave", "quarter"]).unwrap();
        assert_eq!(through.control, json!({"promotedThrough": "quarter"}));
        assert!(through.told.contains("no wave up to quarter waits"), "{}", through.told);
        assert_eq!(
            decide(&family, &["--full"]).unwrap().control,
            json!({"promotedThrough": "rest"})
        );
    }

    #[test]
    fn what_has_passed_or_was_promoted_or_is_no_wave_is_refused() {
        let mut said = status("AwaitingPromotion", json!({"state": "Passed"}));
        said["waves"][1]["state"] = json!("Soaking");
        let later = family(json!({"promotedThrough": "quarter"}), said);
        assert!(refused(&later, &["--wave", "canary"]).contains("has passed already"));
        assert!(refused(&later, &["--wave", "quarter"]).contains("promoted through wave quarter already"));
        assert!(refused(&later, &["--wave", "half"]).contains("its waves are canary, quarter, rest"));
        assert!(decide(&later, &["--full"]).is_ok());
    }

    #[test]
    fn a_promotion_that_the_operator_has_not_seen_is_not_made_twice() {
        let waiting = status("AwaitingPromotion", json!({"state": "AwaitingPromotion", "settled": 2}));
        let mut family = family(json!({"promotedThrough": "canary"}), waiting);
        family.rollouts[0].metadata.generation = Some(2);
        assert!(refused(&family, &[]).contains("has not taken it up yet"));
    }

    #[test]
    fn a_halted_or_complete_rollout_is_not_promoted() {
        let halted = family(json!({}), status("Halted", json!({"state": "Halted"})));
        assert!(refused(&halted, &["--full"]).contains("kubectl livepatch retry nf"));
        let complete = family(json!({}), status("Complete", json!({"state": "Passed"})));
        assert!(refused(&complete, &[]).contains("is complete"));
    }

    #[test]
    fn a_paused_rollout_is_promoted_and_says_that_it_stays_paused() {
        let waiting = status("Paused", json!({"state": "AwaitingPromotion", "settled": 2}));
        let family = family(json!({"state": "Paused"}), waiting);
        assert!(
            decide(&family, &[])
                .unwrap()
                .told
                .ends_with("when it is resumed (kubectl livepatch resume nf)")
        );
    }
}
