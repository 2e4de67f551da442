//! Virtual time, and what is to happen in it.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use crate::event::Event;

/// Where wall clocks stand when a run begins: seconds since 1970.
const WALL: i64 = 1_800_000_000;

/// The one clock, and the events in the order of their times; those of one time in the order in which they were asked for.
#[derive(Debug)]
pub(crate) struct Clock {
    /// Since the run began.
    pub now: Duration,
    /// An instant of the real clock that stands for the beginning: only differences from it are ever used.
    base: Instant,
    queue: BinaryHeap<Due>,
    asked: u64,
}

#[derive(Debug)]
struct Due {
    at: Duration,
    number: u64,
    event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        // The greatest is taken first.
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl Clock {
    pub fn new() -> Self {
        Self {
            now: Duration::ZERO,
            base: Instant::now(),
            queue: BinaryHeap::new(),
            asked: 0,
        }
    }

    /// Asks for an event at a time; one that has passed is now.
    pub fn at(&mut self, at: Duration, event: Event) {
        self.asked += 1;
        self.queue.push(Due {
            at: at.max(self.now),
            number: self.asked,
            event,
        });
    }

    /// The next event, to whose time the clock moves, unless that is after `end`.
    pub fn next(&mut self, end: Duration) -> Option<Event> {
        if self.queue.peek()?.at > end {
            self.now = end;
            return None;
        }
        let due = self.queue.pop()?;
        self.now = due.at;
        Some(due.event)
    }

    /// Now, for code that measures with the monotonic clock.
    pub fn instant(&self) -> Instant {
        self.instant_of(self.now)
    }

    /// A time of this clock, for such code.
    pub fn instant_of(&self, at: Duration) -> Instant {
        self.base + at
    }

    /// What a wall clock shows that is `skew` ahead.
    pub fn wall(&self, skew: SignedDuration) -> Timestamp {
        let since = SignedDuration::try_from(self.now).unwrap_or(SignedDuration::ZERO);
        let start = Timestamp::from_second(WALL).unwrap_or(Timestamp::UNIX_EPOCH);
        start.checked_add(since + skew).unwrap_or(Timestamp::MAX)
    }
}
