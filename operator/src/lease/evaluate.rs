//! Who may hold the lease: a function of the Lease, of who asks and of how long it has not changed. Pure.

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::LeaseSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use std::time::Duration;

/// The times of a lease. A holder acts for at most `deadline` after it began its last successful renewal; another one
/// takes over when it has seen no renewal for `duration`. No clock of another machine is asked.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// A lease that was not renewed for that long may be taken.
    pub duration: Duration,
    /// A holder that did not renew for that long stops. Less than `duration`.
    pub deadline: Duration,
    /// Time between renewals.
    pub renewal: Duration,
    /// Time between looks of a candidate.
    pub look: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            deadline: Duration::from_secs(10),
            renewal: Duration::from_secs(2),
            look: Duration::from_secs(1),
        }
    }
}

/// What to do about the lease.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Write this: it is ours, or free to be taken.
    Write(LeaseSpec),
    /// Somebody else holds it.
    HeldBy(String),
}

/// What `id` may do with a lease that it has seen unchanged for `unchanged`. `now` is written down for people to read and
/// decides nothing.
///
/// `leads`: whether `id` is in the midst of a term. One that has run out is over, also if nobody else took the lease: what
/// was sent under it may still arrive, and must not pass for a grant of the next one.
pub fn evaluate(
    lease: &LeaseSpec,
    id: &str,
    leads: bool,
    now: Timestamp,
    unchanged: Duration,
    timing: &Timing,
) -> Verdict {
    let holder = lease.holder_identity.as_deref().unwrap_or_default();
    let promised = lease
        .lease_duration_seconds
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map_or(Duration::ZERO, Duration::from_secs);
    if holder == id && leads {
        return Verdict::Write(LeaseSpec {
            renew_time: Some(MicroTime(now)),
            lease_duration_seconds: Some(seconds(timing.duration)),
            ..lease.clone()
        });
    }
    if holder != id && !holder.is_empty() && unchanged < promised.max(timing.duration) {
        return Verdict::HeldBy(holder.to_owned());
    }
    Verdict::Write(LeaseSpec {
        lease_transitions: Some(lease.lease_transitions.unwrap_or(0).saturating_add(1)),
        ..first(id, now, timing)
    })
}

/// The spec of a lease that is made by `id`.
pub fn first(id: &str, now: Timestamp, timing: &Timing) -> LeaseSpec {
    LeaseSpec {
        acquire_time: Some(MicroTime(now)),
        holder_identity: Some(id.to_owned()),
        lease_duration_seconds: Some(seconds(timing.duration)),
        lease_transitions: Some(0),
        renew_time: Some(MicroTime(now)),
        ..LeaseSpec::default()
    }
}

/// The spec of a lease that its holder gives up: the next candidate to look takes it.
pub fn released(lease: &LeaseSpec, now: Timestamp) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(String::new()),
        renew_time: Some(MicroTime(now)),
        ..lease.clone()
    }
}

fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn now() -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn held_by(holder: &str) -> LeaseSpec {
        first(holder, now(), &Timing::default())
    }

    #[test]
    fn a_holder_renews_and_its_term_stays_the_same() {
        let Verdict::Write(renewed) = evaluate(&held_by("a"), "a", true, now(), Duration::MAX, &Timing::default())
        else {
            panic!("a holder may renew at any time");
        };
        assert_eq!(renewed.lease_transitions, Some(0));
    }

    #[test]
    fn a_holder_whose_term_ran_out_begins_another_one_at_once() {
        let Verdict::Write(taken) = evaluate(&held_by("a"), "a", false, now(), Duration::ZERO, &Timing::default())
        else {
            panic!("nobody else acts under it");
        };
        assert_eq!(taken.lease_transitions, Some(1));
    }

    #[test]
    fn a_lease_is_taken_only_when_it_was_not_renewed_or_was_released() {
        let timing = Timing::default();
        let judge = |lease: &LeaseSpec, unchanged| evaluate(lease, "b", false, now(), unchanged, &timing);
        let early = timing.duration.checked_sub(Duration::from_millis(1)).unwrap();
        assert_eq!(judge(&held_by("a"), early), Verdict::HeldBy("a".to_owned()));
        for (lease, unchanged) in [
            (held_by("a"), timing.duration),
            (released(&held_by("a"), now()), Duration::ZERO),
        ] {
            let Verdict::Write(taken) = judge(&lease, unchanged) else {
                panic!("{lease:?} is free");
            };
            assert_eq!(taken.holder_identity.as_deref(), Some("b"));
            assert_eq!(
                taken.lease_transitions,
                Some(1),
                "each change of the holder is a new term"
            );
        }
    }

    #[test]
    fn the_longer_promise_counts() {
        let mut lease = held_by("a");
        lease.lease_duration_seconds = Some(60);
        let judge = |seconds| {
            let unchanged = Duration::from_secs(seconds);
            evaluate(&lease, "b", false, now(), unchanged, &Timing::default())
        };
        assert_eq!(judge(59), Verdict::HeldBy("a".to_owned()));
        assert!(matches!(judge(60), Verdict::Write(_)));
    }

    /// A candidate as the keeper is: it looks, it judges what it saw with its own clock, it replaces what it saw.
    #[derive(Default)]
    struct Candidate {
        id: String,
        /// The version last seen, since when, and the spec.
        seen: Option<(u64, u64, LeaseSpec)>,
        /// A replacement under way: the version it replaces, when it was begun, and the spec.
        sent: Option<(u64, u64, LeaseSpec)>,
        acts_until: u64,
        transitions: Option<i32>,
    }

    #[derive(Clone, Debug)]
    enum Step {
        Look(usize),
        Send(usize),
        Arrive(usize),
        /// The answer is lost: the write has happened, but nobody knows.
        ArriveUnheard(usize),
        Release(usize),
        Pass(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let who = 0usize..3;
        proptest::collection::vec(
            prop_oneof![
                4 => who.clone().prop_map(Step::Look),
                4 => who.clone().prop_map(Step::Send),
                4 => who.clone().prop_map(Step::Arrive),
                1 => who.clone().prop_map(Step::ArriveUnheard),
                1 => who.prop_map(Step::Release),
                3 => (1u64..20).prop_map(Step::Pass),
            ],
            1..200,
        )
    }

    proptest! {
        /// Three candidates, any interleaving of looks, writes and lost answers, any passing of time: no two of them act
        /// at one moment, no two of them ever act under the same term, and no term goes on that has run out.
        #[test]
        fn never_two_leaders(steps in steps()) {
            let timing = Timing::default();
            let mut clock = 0u64;
            let (mut version, mut stored) = (1u64, LeaseSpec { lease_transitions: Some(0), ..LeaseSpec::default() });
            let mut candidates: Vec<Candidate> = ["a", "b", "c"]
                .map(|id| Candidate { id: id.to_owned(), ..Candidate::default() })
                .into();
            let mut terms = std::collections::BTreeMap::new();
            let mut over = std::collections::BTreeSet::new();
            for step in steps {
                match step {
                    Step::Pass(seconds) => clock += seconds,
                    Step::Look(i) => {
                        let candidate = &mut candidates[i];
                        if candidate.seen.as_ref().is_none_or(|(seen, _, _)| *seen != version) {
                            candidate.seen = Some((version, clock, stored.clone()));
                        }
                    }
                    Step::Send(i) => {
                        let candidate = &mut candidates[i];
                        if let Some((seen, since, spec)) = &candidate.seen {
                            let unchanged = Duration::from_secs(clock - since);
                            let leads = clock < candidate.acts_until;
                            let verdict = evaluate(spec, &candidate.id, leads, now(), unchanged, &timing);
                            if let Verdict::Write(new) = verdict {
                                candidate.sent = Some((*seen, clock, new));
                            }
                        }
                    }
                    Step::Arrive(i) | Step::ArriveUnheard(i) => {
                        let candidate = &mut candidates[i];
                        let Some((replaces, begun, spec)) = candidate.sent.take() else { continue };
                        if replaces != version {
                            continue;
                        }
                        version += 1;
                        stored = spec;
                        if matches!(step, Step::Arrive(_)) {
                            candidate.seen = Some((version, clock, stored.clone()));
                            // A renewal that is answered when the term has run out renews nothing.
                            let renewal = candidate.transitions == stored.lease_transitions;
                            if clock < candidate.acts_until || !renewal {
                                candidate.acts_until = begun + timing.deadline.as_secs();
                                candidate.transitions = stored.lease_transitions;
                            }
                        }
                    }
                    Step::Release(i) => {
                        let candidate = &mut candidates[i];
                        candidate.acts_until = clock;
                        candidate.sent = None;
                        if stored.holder_identity.as_deref() == Some(&candidate.id) {
                            version += 1;
                            stored = released(&stored, now());
                        }
                    }
                }
                let acting: Vec<&Candidate> = candidates.iter().filter(|c| clock < c.acts_until).collect();
                prop_assert!(acting.len() <= 1, "two act: {:?}", acting.iter().map(|c| &c.id).collect::<Vec<_>>());
                for candidate in acting {
                    let holder = terms.entry(candidate.transitions).or_insert_with(|| candidate.id.clone());
                    prop_assert_eq!(&*holder, &candidate.id, "one term, two holders");
                    prop_assert!(!over.contains(&candidate.transitions), "a term goes on that was over");
                }
                let ended = candidates.iter().filter(|c| clock >= c.acts_until && c.transitions.is_some());
                over.extend(ended.map(|candidate| candidate.transitions));
            }
        }
    }
}
