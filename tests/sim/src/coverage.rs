//! Every place where a process or a machine can die, how often it was passed and how often something died there.

use std::collections::BTreeMap;
use std::fmt;

/// An act that can be cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Point {
    TakeLease,
    RenewLease,
    MakeRollout,
    DeleteRollout,
    MakeNodeObject,
    DeleteNodeObject,
    ChangeNode,
    SettleWrite,
    SetStatus,
    RolloutStatus,
    WriteJournal,
    WriteIntent,
    StoreModule,
    ConfirmGrant,
    FinitModule,
    Cancel,
    /// A livepatch is enabled again, since a cancel lost the race against the end of the transition.
    PutBack,
    DeleteModule,
    WriteStatus,
}

impl Point {
    pub const OPERATOR: [Self; 10] = [
        Self::TakeLease,
        Self::RenewLease,
        Self::MakeRollout,
        Self::DeleteRollout,
        Self::MakeNodeObject,
        Self::DeleteNodeObject,
        Self::ChangeNode,
        Self::SettleWrite,
        Self::SetStatus,
        Self::RolloutStatus,
    ];
    pub const AGENT: [Self; 9] = [
        Self::WriteJournal,
        Self::WriteIntent,
        Self::StoreModule,
        Self::ConfirmGrant,
        Self::FinitModule,
        Self::Cancel,
        Self::PutBack,
        Self::DeleteModule,
        Self::WriteStatus,
    ];
}

/// When, with regard to the act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Moment {
    /// It is not done.
    Before,
    /// It was sent and may or may not be done. Requests only.
    Sent,
    /// It is done, and who did it does not know.
    After,
}

/// What dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Death {
    Process,
    Machine,
}

/// A death that waits for its moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arm {
    pub point: Point,
    pub moment: Moment,
    pub who: Option<usize>,
    pub death: Death,
}

/// How often each place was passed, and how often it was the last.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    places: BTreeMap<(Point, Moment), Passed>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Passed {
    times: u64,
    processes: u64,
    machines: u64,
}

impl Coverage {
    pub(crate) fn visit(&mut self, point: Point, moment: Moment, death: Option<Death>) {
        let passed = self.places.entry((point, moment)).or_default();
        passed.times += 1;
        match death {
            None => {}
            Some(Death::Process) => passed.processes += 1,
            Some(Death::Machine) => passed.machines += 1,
        }
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        for (place, passed) in &other.places {
            let sum = self.places.entry(*place).or_default();
            sum.times += passed.times;
            sum.processes += passed.processes;
            sum.machines += passed.machines;
        }
    }

    /// The moments of an act that exist.
    fn moments(point: Point) -> &'static [Moment] {
        let local = [
            Point::WriteJournal,
            Point::WriteIntent,
            Point::StoreModule,
            Point::FinitModule,
            Point::Cancel,
            Point::PutBack,
            Point::DeleteModule,
        ];
        if local.contains(&point) {
            &[Moment::Before, Moment::After]
        } else {
            &[Moment::Before, Moment::Sent, Moment::After]
        }
    }

    /// Places at which nothing ever died.
    pub(crate) fn missing(&self) -> Vec<Place> {
        let mut missing = Vec::new();
        let points = Point::OPERATOR.into_iter().chain(Point::AGENT);
        for point in points {
            for moment in Self::moments(point).iter().copied() {
                let passed = self.places.get(&(point, moment)).copied().unwrap_or_default();
                if passed.processes == 0 {
                    let death = Death::Process;
                    missing.push(Place { point, moment, death });
                }
                if passed.machines == 0 && Point::AGENT.contains(&point) {
                    let death = Death::Machine;
                    missing.push(Place { point, moment, death });
                }
            }
        }
        missing
    }

    /// The same by name.
    pub fn unvisited(&self) -> Vec<String> {
        let name = |Place { point, moment, death }: Place| format!("{point:?} {moment:?}: {death:?}");
        self.missing().into_iter().map(name).collect()
    }
}

/// A place to die at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub point: Point,
    pub moment: Moment,
    pub death: Death,
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:18}{:8}{:>12}{:>16}{:>16}",
            "act", "moment", "passed", "process died", "machine died"
        )?;
        for ((point, moment), passed) in &self.places {
            writeln!(
                f,
                "{:18}{:8}{:>12}{:>16}{:>16}",
                format!("{point:?}"),
                format!("{moment:?}"),
                passed.times,
                passed.processes,
                passed.machines
            )?;
        }
        Ok(())
    }
}
