//! All objects of one kind as one watch has shown them, and above them what this operator wrote itself. Pure.
//!
//! What a write returns never goes into the watched objects: a slow answer would put an old object over a newer one. It
//! lies above them until the watch has shown that version or a later one, so that no grant is forgotten in between.

use super::seen::Seen;
use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;
use std::time::Instant;

/// What a watch shows.
#[derive(Clone, Debug)]
pub enum Shown<T> {
    /// A complete list begins.
    ListBegins,
    /// An object of the list.
    Listed(Seen<T>),
    /// The list is complete.
    ListEnds,
    /// An object was made or changed.
    Changed(Seen<T>),
    /// An object was written, and nothing of it changed that is kept but its version.
    Touched(Seen<T>),
    /// An object was deleted.
    Deleted(Seen<T>),
}

/// All objects of one kind.
#[derive(Debug)]
pub struct Cache<T> {
    watched: BTreeMap<String, Arc<Seen<T>>>,
    listing: Option<Listing<T>>,
    own: BTreeMap<String, Own<T>>,
    changed: BTreeSet<String>,
    complete_as_of: Option<Instant>,
}

#[derive(Debug)]
struct Listing<T> {
    began: Instant,
    objects: BTreeMap<String, Arc<Seen<T>>>,
}

/// What this operator did to an object, not yet shown by the watch.
#[derive(Debug)]
struct Own<T> {
    at: Instant,
    write: Write<T>,
}

#[derive(Debug)]
enum Write<T> {
    Wrote(Arc<Seen<T>>),
    Deleted { uid: String },
}

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Self {
            watched: BTreeMap::new(),
            listing: None,
            own: BTreeMap::new(),
            changed: BTreeSet::new(),
            complete_as_of: None,
        }
    }
}

impl<T> Cache<T> {
    /// Takes in what the watch shows. Between the beginning and the end of a list the objects stay as they were.
    pub fn show(&mut self, shown: Shown<T>, at: Instant) {
        match shown {
            Shown::ListBegins => {
                self.complete_as_of = None;
                self.listing = Some(Listing {
                    began: at,
                    objects: BTreeMap::new(),
                });
            }
            Shown::Listed(object) => {
                if let Some(listing) = &mut self.listing {
                    listing.objects.insert(object.name.clone(), Arc::new(object));
                }
            }
            Shown::ListEnds => {
                if let Some(listing) = self.listing.take() {
                    self.replace(listing);
                }
            }
            Shown::Changed(object) => {
                self.changed.insert(object.name.clone());
                self.catch_up_with(&object);
                self.watched.insert(object.name.clone(), Arc::new(object));
            }
            Shown::Touched(object) => {
                self.catch_up_with(&object);
                self.watched.insert(object.name.clone(), Arc::new(object));
            }
            Shown::Deleted(object) => {
                self.changed.insert(object.name.clone());
                self.catch_up_with(&object);
                if self
                    .watched
                    .get(&object.name)
                    .is_some_and(|known| known.uid == object.uid)
                {
                    self.watched.remove(&object.name);
                }
            }
        }
    }

    /// The same, but as only touched if `is_as_before` says so of the object that is known and the one that is shown.
    pub fn without_news(&self, shown: Shown<T>, is_as_before: impl Fn(&Seen<T>, &Seen<T>) -> bool) -> Shown<T> {
        match shown {
            Shown::Changed(object)
                if self
                    .watched
                    .get(&object.name)
                    .is_some_and(|known| is_as_before(known, &object)) =>
            {
                Shown::Touched(object)
            }
            shown => shown,
        }
    }

    fn replace(&mut self, listing: Listing<T>) {
        let before = mem::replace(&mut self.watched, listing.objects);
        let both = before.keys().chain(self.watched.keys());
        self.changed.extend(both.cloned());
        self.changed.extend(self.own.keys().cloned());
        // A list that was asked for after a write was answered includes the write.
        self.own.retain(|_, own| own.at >= listing.began);
        for object in self.watched.values().cloned().collect::<Vec<_>>() {
            self.catch_up_with(&object);
        }
        self.complete_as_of = Some(listing.began);
    }

    /// Forgets the own write that `object` includes.
    fn catch_up_with(&mut self, object: &Seen<T>) {
        let included = self.own.get(&object.name).is_some_and(|own| match &own.write {
            Write::Wrote(wrote) => object.version >= wrote.version,
            Write::Deleted { uid } => *uid != object.uid || object.deleting,
        });
        if included {
            self.own.remove(&object.name);
        }
    }

    /// The watch is broken: until the next complete list it is not known what was missed.
    pub fn lose(&mut self) {
        self.complete_as_of = None;
        self.listing = None;
    }

    /// Remembers an object as a write returned it.
    pub fn remember(&mut self, object: Seen<T>, at: Instant) {
        let shown = self.watched.get(&object.name).map_or(0, |watched| watched.version);
        if object.version > shown {
            let name = object.name.clone();
            self.changed.insert(name.clone());
            let write = Write::Wrote(Arc::new(object));
            self.own.insert(name, Own { at, write });
        }
    }

    /// Remembers that the object with that name and UID was deleted.
    pub fn remember_deleted(&mut self, name: &str, uid: &str, at: Instant) {
        let uid = uid.to_owned();
        self.changed.insert(name.to_owned());
        self.own.insert(
            name.to_owned(),
            Own {
                at,
                write: Write::Deleted { uid },
            },
        );
    }

    /// The object of that name, own writes included.
    pub fn get(&self, name: &str) -> Option<&Arc<Seen<T>>> {
        let watched = self.watched.get(name);
        match self.own.get(name).map(|own| &own.write) {
            Some(Write::Wrote(wrote)) => Some(wrote),
            Some(Write::Deleted { uid }) => watched.filter(|object| object.uid != *uid),
            None => watched,
        }
    }

    /// All objects, own writes included, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Seen<T>>> {
        let made = self.own.keys().filter(|name| !self.watched.contains_key(*name));
        self.watched.keys().chain(made).filter_map(|name| self.get(name))
    }

    /// The names of the objects that changed since this was last asked.
    pub fn take_changed(&mut self) -> BTreeSet<String> {
        mem::take(&mut self.changed)
    }

    /// When the list was asked for since which everything has been watched without a break; `None` if there is none.
    pub fn complete_as_of(&self) -> Option<Instant> {
        self.complete_as_of
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use proptest::prelude::*;
    use std::time::Duration;

    fn object(name: &str, uid: &str, version: u64) -> Seen<u64> {
        Seen {
            name: name.to_owned(),
            uid: uid.to_owned(),
            version,
            generation: 1,
            created: Timestamp::UNIX_EPOCH,
            deleting: false,
            content: Ok(version),
        }
    }

    fn version(cache: &Cache<u64>, name: &str) -> Option<u64> {
        cache.get(name).map(|seen| seen.version)
    }

    #[test]
    fn an_own_write_holds_until_the_watch_has_it() {
        let now = Instant::now();
        let mut cache = Cache::default();
        cache.show(Shown::Changed(object("a", "u", 5)), now);
        cache.remember(object("a", "u", 8), now);
        cache.show(Shown::Changed(object("a", "u", 7)), now);
        assert_eq!(version(&cache, "a"), Some(8), "an older event does not undo the write");
        cache.show(Shown::Changed(object("a", "u", 9)), now);
        assert_eq!(version(&cache, "a"), Some(9));
    }

    #[test]
    fn a_late_answer_does_not_hide_a_newer_object() {
        let now = Instant::now();
        let mut cache = Cache::default();
        cache.show(Shown::Changed(object("a", "u", 9)), now);
        cache.remember(object("a", "u", 8), now);
        assert_eq!(version(&cache, "a"), Some(9));
    }

    #[test]
    fn a_made_object_is_there_at_once_and_gone_when_deleted() {
        let now = Instant::now();
        let mut cache = Cache::default();
        cache.remember(object("a", "u", 3), now);
        assert_eq!(cache.iter().count(), 1);
        cache.show(Shown::Deleted(object("a", "u", 4)), now);
        assert_eq!(cache.iter().count(), 0);
    }

    #[test]
    fn a_deleted_object_is_hidden_and_its_successor_is_not() {
        let now = Instant::now();
        let mut cache = Cache::default();
        cache.show(Shown::Changed(object("a", "old", 3)), now);
        cache.remember_deleted("a", "old", now);
        assert_eq!(version(&cache, "a"), None);
        cache.show(Shown::Changed(object("a", "new", 6)), now);
        assert_eq!(version(&cache, "a"), Some(6));
        // The deletion of the old one, told late, does not take the new one away.
        cache.show(Shown::Deleted(object("a", "old", 5)), now);
        assert_eq!(version(&cache, "a"), Some(6));
    }

    #[test]
    fn a_list_keeps_what_was_written_after_it_began() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut cache = Cache::default();
        cache.remember(object("before", "u", 3), at(0));
        cache.show(Shown::ListBegins, at(1));
        assert_eq!(cache.complete_as_of(), None);
        cache.remember(object("during", "v", 6), at(2));
        cache.show(Shown::Listed(object("listed", "w", 2)), at(3));
        assert_eq!(version(&cache, "listed"), None, "a list counts when it is complete");
        cache.show(Shown::ListEnds, at(4));
        assert_eq!(cache.complete_as_of(), Some(at(1)));
        assert_eq!(
            version(&cache, "before"),
            None,
            "the list would have it: somebody deleted it"
        );
        assert_eq!(version(&cache, "during"), Some(6));
        assert_eq!(version(&cache, "listed"), Some(2));
    }

    #[test]
    fn what_was_only_touched_is_no_change() {
        let now = Instant::now();
        let mut cache = Cache::default();
        let is_as_before = |before: &Seen<u64>, now: &Seen<u64>| before.uid == now.uid;
        let shown = cache.without_news(Shown::Changed(object("a", "u", 2)), is_as_before);
        cache.show(shown, now);
        assert_eq!(cache.take_changed(), ["a".to_owned()].into());
        let shown = cache.without_news(Shown::Changed(object("a", "u", 3)), is_as_before);
        cache.show(shown, now);
        assert!(cache.take_changed().is_empty());
        assert_eq!(version(&cache, "a"), Some(3));
        let shown = cache.without_news(Shown::Changed(object("a", "v", 4)), is_as_before);
        cache.show(shown, now);
        assert_eq!(cache.take_changed(), ["a".to_owned()].into());
    }

    #[test]
    fn every_change_is_told_once() {
        let now = Instant::now();
        let mut cache = Cache::default();
        cache.show(Shown::Changed(object("gone", "g", 1)), now);
        cache.take_changed();
        cache.show(Shown::ListBegins, now);
        cache.show(Shown::Listed(object("a", "u", 2)), now);
        assert!(cache.take_changed().is_empty());
        cache.show(Shown::ListEnds, now);
        assert_eq!(cache.take_changed(), ["a", "gone"].map(str::to_owned).into());
        assert!(cache.take_changed().is_empty());
    }

    proptest! {
        /// One object lives through versions 1.. ; the watch shows them in order, with any delay; answers to own writes
        /// come in any order between. What is read never goes back, and never misses an own write.
        #[test]
        fn what_is_read_never_goes_back(steps in proptest::collection::vec((any::<bool>(), 0u64..4), 1..60)) {
            let now = Instant::now();
            let mut cache = Cache::default();
            let (mut stored, mut shown, mut read, mut written) = (1u64, 0u64, 0u64, 0u64);
            for (own, lag) in steps {
                if own {
                    stored += 1;
                    written = stored;
                    cache.remember(object("a", "u", stored), now);
                } else {
                    stored += u64::from(lag == 0);
                    shown = shown.max(stored.saturating_sub(lag)).max(1);
                    cache.show(Shown::Changed(object("a", "u", shown)), now);
                }
                let is = version(&cache, "a").unwrap();
                prop_assert!(is >= read, "went back from {read} to {is}");
                prop_assert!(is >= written, "forgot the own write {written}, read {is}");
                read = is;
            }
        }
    }
}
