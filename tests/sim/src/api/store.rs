//! All objects of one kind, with everything that ever became of them: a watch is a place in that history.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use livepatch_operator::watch::seen::Seen;

/// Objects and their history.
#[derive(Debug)]
pub(crate) struct Store<T> {
    live: BTreeMap<String, Arc<Seen<T>>>,
    log: Vec<Record<T>>,
}

/// One change.
#[derive(Debug)]
pub(crate) struct Record<T> {
    pub version: u64,
    /// When.
    pub at: Duration,
    /// Whether the object was deleted; `object` is then as it last was, with the version of its deletion.
    pub gone: bool,
    pub object: Arc<Seen<T>>,
}

impl<T> Default for Store<T> {
    fn default() -> Self {
        Self {
            live: BTreeMap::new(),
            log: Vec::new(),
        }
    }
}

impl<T: Clone> Store<T> {
    pub fn get(&self, name: &str) -> Option<&Arc<Seen<T>>> {
        self.live.get(name)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Seen<T>>> {
        self.live.values()
    }

    /// Number of changes so far: the place of a watch that has seen everything.
    pub fn end(&self) -> usize {
        self.log.len()
    }

    /// The place of a watch that has seen everything up to a version.
    pub fn place_of(&self, version: u64) -> usize {
        self.log.partition_point(|record| record.version <= version)
    }

    /// The changes between two places.
    pub fn between(&self, from: usize, to: usize) -> &[Record<T>] {
        self.log.get(from..to.max(from)).unwrap_or_default()
    }

    /// The objects as they were at a place.
    pub fn as_of(&self, place: usize) -> Vec<Arc<Seen<T>>> {
        if place >= self.log.len() {
            return self.live.values().cloned().collect();
        }
        let mut objects: BTreeMap<&str, &Arc<Seen<T>>> = BTreeMap::new();
        for record in self.between(0, place) {
            if record.gone {
                objects.remove(record.object.name.as_str());
            } else {
                objects.insert(&record.object.name, &record.object);
            }
        }
        objects.into_values().cloned().collect()
    }

    /// One object as it was at a place.
    pub fn one_as_of(&self, name: &str, place: usize) -> Option<&Arc<Seen<T>>> {
        let last = self
            .between(0, place)
            .iter()
            .rev()
            .find(|record| record.object.name == name)?;
        (!last.gone).then_some(&last.object)
    }

    /// The change that made a version.
    pub fn record(&self, version: u64) -> Option<&Record<T>> {
        let index = self.log.binary_search_by_key(&version, |record| record.version).ok()?;
        self.log.get(index)
    }

    /// The states that an object had at or after a time, the latest first; `None` is its absence.
    pub fn since(&self, name: &str, from: Duration) -> Vec<Option<&Arc<Seen<T>>>> {
        let mut states = Vec::new();
        for record in self.log.iter().rev().filter(|record| record.object.name == name) {
            states.push((!record.gone).then_some(&record.object));
            if record.at < from {
                return states;
            }
        }
        states.push(None);
        states
    }

    pub fn put(&mut self, object: Seen<T>, at: Duration) -> Arc<Seen<T>> {
        let object = Arc::new(object);
        self.log.push(Record {
            version: object.version,
            at,
            gone: false,
            object: Arc::clone(&object),
        });
        self.live.insert(object.name.clone(), Arc::clone(&object));
        object
    }

    pub fn remove(&mut self, name: &str, version: u64, at: Duration) -> Option<Arc<Seen<T>>> {
        let mut object = self.live.remove(name)?.as_ref().clone();
        object.version = version;
        let object = Arc::new(object);
        self.log.push(Record {
            version,
            at,
            gone: true,
            object: Arc::clone(&object),
        });
        Some(object)
    }
}
