//! Kubernetes events, few. Does IO.

use crate::api_error::words;
use crate::watch::world::Kind;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use livepatch_crds::bounded::{MAX_MESSAGE, bounded};
use livepatch_crds::{GROUP, VERSION};
use livepatch_planner::fleet::decision::Happening;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// Most events about one object at once; about a rollout, most in all, as far as one leader tells.
const BURST: u32 = 20;
/// Of these, kept for warnings: many waves shall not leave the failures of the last one untold.
const FOR_WARNINGS: u32 = BURST / 2;
/// After that, one more about a set in this time.
const REFILL: Duration = Duration::from_mins(5);
/// How long is remembered how much was said of an object, if there are too many.
const REMEMBERED: Duration = Duration::from_hours(24);
/// An event is not worth a longer wait.
const PUBLISHING: Duration = Duration::from_secs(2);
/// Objects of which is remembered how much was said.
const MAX_OBJECTS: usize = 1000;

/// Publishes events.
pub struct Events {
    client: Client,
    reporter: Reporter,
    budgets: HashMap<String, Budget>,
}

#[derive(Clone, Copy, Debug)]
struct Budget {
    left: u32,
    since: Instant,
}

impl Budget {
    fn full(now: Instant) -> Self {
        Self {
            left: BURST,
            since: now,
        }
    }

    /// A set lives for years, and is heard of again; a rollout comes to its end.
    fn refill(&mut self, now: Instant) {
        let refilled = now.saturating_duration_since(self.since).as_secs() / REFILL.as_secs();
        if refilled > 0 {
            let more = u32::try_from(refilled).unwrap_or(BURST);
            self.left = self.left.saturating_add(more).min(BURST);
            self.since = now;
        }
    }

    fn take(&mut self, warning: bool) -> bool {
        let free = self.left > if warning { 0 } else { FOR_WARNINGS };
        self.left -= u32::from(free);
        free
    }
}

impl Events {
    /// As `identity`.
    pub fn new(client: Client, identity: &str) -> Self {
        Self {
            client,
            reporter: Reporter {
                controller: crate::writes::FIELD_MANAGER.to_owned(),
                instance: Some(identity.to_owned()),
            },
            budgets: HashMap::new(),
        }
    }

    /// Publishes one, if its object has not had too many. A failure is logged: an event is no more than a courtesy.
    pub async fn publish(&mut self, happening: &Happening, kind: Kind, name: &str, uid: &str) {
        let note = bounded(&happening.note, MAX_MESSAGE);
        if happening.warning {
            tracing::warn!(reason = happening.reason, %kind, name, "{note}");
        } else {
            tracing::info!(reason = happening.reason, %kind, name, "{note}");
        }
        if !self.allow(uid, kind, happening.warning, Instant::now()) {
            return;
        }
        let event = Event {
            type_: if happening.warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: happening.reason.to_owned(),
            note: Some(note),
            action: "Rollout".to_owned(),
            secondary: None,
        };
        let regarding = ObjectReference {
            api_version: Some(format!("{GROUP}/{VERSION}")),
            kind: Some(
                if kind == Kind::Set {
                    "LivepatchSet"
                } else {
                    "LivepatchRollout"
                }
                .to_owned(),
            ),
            name: Some(name.to_owned()),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        };
        // A recorder for each: it folds events of one reason into the first and drops the notes of the others, which name
        // other nodes.
        let recorder = Recorder::new(self.client.clone(), self.reporter.clone());
        match timeout(PUBLISHING, recorder.publish(&event, &regarding)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(reason = "EventFailed", "{}", words(&error)),
            Err(_) => tracing::warn!(reason = "EventFailed", "no answer in time"),
        }
    }

    fn allow(&mut self, uid: &str, kind: Kind, warning: bool, now: Instant) -> bool {
        if self.budgets.len() >= MAX_OBJECTS && !self.budgets.contains_key(uid) {
            self.budgets
                .retain(|_, budget| now.saturating_duration_since(budget.since) < REMEMBERED);
        }
        if self.budgets.len() >= MAX_OBJECTS && !self.budgets.contains_key(uid) {
            return false;
        }
        let budget = self.budgets.entry(uid.to_owned()).or_insert_with(|| Budget::full(now));
        if kind == Kind::Set {
            budget.refill(now);
        }
        budget.take(warning)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_often_leaves_room_for_warnings() {
        let mut budget = Budget::full(Instant::now());
        let of = |budget: &mut Budget, warning| (0..100).filter(|_| budget.take(warning)).count();
        assert_eq!(of(&mut budget, false), (BURST - FOR_WARNINGS) as usize);
        assert_eq!(of(&mut budget, true), FOR_WARNINGS as usize);
    }

    #[test]
    fn a_set_is_heard_of_again() {
        let mut budget = Budget::full(Instant::now());
        let now = budget.since;
        assert_eq!((0..100).filter(|_| budget.take(true)).count(), BURST as usize);
        budget.refill(now + REFILL / 2);
        assert!(!budget.take(true));
        budget.refill(now + REFILL);
        assert!(budget.take(true));
        assert!(!budget.take(true));
    }
}
