//! The network between the actors and the API server, and the API server's moods.

use std::time::Duration;

use crate::api::ask::{Ask, Fault};
use crate::event::Caller;

/// What happens to requests during a time.
#[derive(Clone, Debug)]
pub(crate) struct Trouble {
    pub from: Duration,
    pub until: Duration,
    pub who: Who,
    pub kind: TroubleKind,
    /// Of how many of the requests.
    pub probability: f64,
}

/// Whose requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    All,
    Operators,
    Operator(usize),
    Agents,
    Machine(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TroubleKind {
    /// The request never arrives.
    LosesRequests,
    /// The request is carried out, and nobody hears of it.
    LosesAnswers,
    /// The request arrives long after, up to so many seconds.
    Delays(u64),
    /// The connection is refused.
    Refuses,
    /// 429.
    Throttles,
    /// 403: a policy was tightened. Writes only.
    Forbids,
    /// 504 after it was carried out.
    TimesOut,
}

/// What happens to one request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate {
    Refused,
    Lost,
    Arrives {
        after: Duration,
        answer_lost: bool,
        fault: Option<Fault>,
    },
}

#[derive(Debug, Default)]
pub(crate) struct Net {
    pub troubles: Vec<Trouble>,
}

impl Who {
    fn includes(self, caller: &Caller) -> bool {
        let (operator, machine) = match *caller {
            Caller::Keeper { operator, .. } | Caller::Turn { operator, .. } | Caller::List { operator, .. } => {
                (Some(operator), None)
            }
            Caller::Agent { machine, .. } | Caller::AgentList { machine, .. } => (None, Some(machine)),
        };
        match self {
            Self::All => true,
            Self::Operators => operator.is_some(),
            Self::Agents => machine.is_some(),
            Self::Operator(only) => operator == Some(only),
            Self::Machine(only) => machine == Some(only),
        }
    }
}

impl Net {
    /// What happens to a request that is sent now.
    pub fn fate(&self, chance: &mut fastrand::Rng, now: Duration, caller: &Caller, ask: &Ask) -> Fate {
        let after = Duration::from_micros(chance.u64(300..4_000));
        let plain = Fate::Arrives {
            after,
            answer_lost: false,
            fault: None,
        };
        for trouble in &self.troubles {
            let applies = trouble.from <= now && now < trouble.until && trouble.who.includes(caller);
            if !applies || chance.f64() >= trouble.probability {
                continue;
            }
            let faulty = |answer_lost, fault| Fate::Arrives {
                after,
                answer_lost,
                fault,
            };
            return match trouble.kind {
                TroubleKind::LosesRequests => Fate::Lost,
                TroubleKind::Refuses => Fate::Refused,
                TroubleKind::LosesAnswers => faulty(true, None),
                TroubleKind::Throttles => faulty(false, Some(Fault::Throttled)),
                TroubleKind::TimesOut => faulty(false, Some(Fault::Unknown)),
                TroubleKind::Forbids if ask.is_write() && !ask.is_lease() => faulty(false, Some(Fault::Refused)),
                TroubleKind::Forbids => plain,
                TroubleKind::Delays(seconds) => Fate::Arrives {
                    after: Duration::from_millis(chance.u64(0..=seconds * 1000)),
                    answer_lost: false,
                    fault: None,
                },
            };
        }
        plain
    }
}
