//! What every actor is given: the clock, chance, the network, and where it is written down.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::api::ask::{Answer, Ask, Fault};
use crate::clock::Clock;
use crate::coverage::{Arm, Coverage, Death, Moment, Point};
use crate::event::{Caller, Event, Request};
use crate::mutant::Mutant;
use crate::net::{Fate, Net};
use crate::trace::Trace;

/// What every actor is given.
#[derive(Debug)]
pub(crate) struct Ctx {
    pub clock: Clock,
    pub chance: fastrand::Rng,
    pub net: Net,
    pub trace: Trace,
    pub coverage: Coverage,
    /// The bug that is planted, if one is.
    pub mutant: Option<Mutant>,
    /// Deaths that wait for their moment.
    pub arms: Vec<Arm>,
    calls: u64,
    /// Live reads, and changes of nodes' objects, that were asked for and are not answered.
    pub open: BTreeMap<u64, Ask>,
    /// Requests that were sent, those for the lease left out.
    pub requests: u64,
}

impl Ctx {
    pub fn new(seed: u64, traced: bool, mutant: Option<Mutant>) -> Self {
        Self {
            clock: Clock::new(),
            chance: fastrand::Rng::with_seed(seed),
            net: Net::default(),
            trace: Trace::new(traced),
            coverage: Coverage::default(),
            mutant,
            arms: Vec::new(),
            calls: 0,
            open: BTreeMap::new(),
            requests: 0,
        }
    }

    pub fn now(&self) -> Duration {
        self.clock.now
    }

    pub fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// Writes down what happened, if anybody will read it.
    pub fn say(&mut self, what: impl FnOnce() -> String) {
        self.trace.say(self.clock.now, what);
    }

    /// A duration between two, evenly.
    pub fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let (least, most) = (micros(least), micros(most));
        Duration::from_micros(self.chance.u64(least..=most.max(least)))
    }

    /// A number in 0..1.
    pub fn jitter(&mut self) -> f64 {
        self.chance.f64()
    }

    /// A place where `who` may die; how, if it does.
    pub fn point(&mut self, who: usize, point: Point, moment: Moment) -> Option<Death> {
        let armed = self
            .arms
            .iter()
            .position(|arm| arm.point == point && arm.moment == moment && arm.who.is_none_or(|only| only == who));
        let death = armed.map(|index| self.arms.swap_remove(index).death);
        self.coverage.visit(point, moment, death);
        if let Some(death) = death {
            self.say(|| format!("{death:?} dies: {moment:?} {point:?} of {who}"));
        }
        death
    }

    /// Sends a request. The answer comes as an event with this id, and so does the timeout.
    pub fn call(&mut self, caller: Caller, ask: Ask, limit: Duration) -> u64 {
        self.calls += 1;
        let id = self.calls;
        if !ask.is_lease() {
            self.requests += 1;
        }
        if matches!(ask, Ask::ChangeNode(_) | Ask::GetNodeObject { .. } | Ask::GetLease) {
            self.open.insert(id, ask.clone());
        }
        let fate = self.net.fate(&mut self.chance, self.clock.now, &caller, &ask);
        let (takes, answer_lost, fault) = match fate {
            Fate::Refused => {
                let answer = Answer::Failed(Fault::Unknown);
                let at = self.clock.now + Duration::from_millis(1);
                self.clock.at(at, Event::Answered { caller, id, answer });
                return id;
            }
            Fate::Lost => {
                self.timeout(caller, id, limit);
                return id;
            }
            Fate::Arrives {
                after,
                answer_lost,
                fault,
            } => (after, answer_lost, fault),
        };
        if answer_lost || takes >= limit {
            self.timeout(caller, id, limit);
        }
        let request = Request {
            caller,
            id,
            ask,
            sent: self.clock.now,
            answer_lost,
            fault,
        };
        self.clock.at(self.clock.now + takes, Event::Arrive(Box::new(request)));
        id
    }

    fn timeout(&mut self, caller: Caller, id: u64, limit: Duration) {
        let answer = Answer::Failed(Fault::Unknown);
        self.clock
            .at(self.clock.now + limit, Event::Answered { caller, id, answer });
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
