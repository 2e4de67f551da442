//! What an agent may forget. No IO.

use livepatch_crds::node::Grant;

use crate::journal::Journal;
use crate::retry::Subject;
use crate::truth::Truth;

/// What things may still be of use for.
#[derive(Debug, Clone, Copy)]
pub struct Uses<'a> {
    /// What was begun.
    pub journal: &'a Journal,
    /// What is granted.
    pub grants: &'a [Grant],
    /// What the kernel says.
    pub truth: &'a Truth,
}

impl Uses<'_> {
    /// Whether the module with this SHA-256 may be loaded once more.
    pub fn need(&self, sha256: &str) -> bool {
        let named = |grant: &Grant| {
            grant.module.sha256 == sha256 || grant.previous.as_ref().is_some_and(|module| module.sha256 == sha256)
        };
        self.journal.needs(sha256) || self.grants.iter().any(named)
    }

    /// Whether this may be tried again.
    pub fn concern(&self, subject: &Subject) -> bool {
        match subject {
            Subject::Grant { .. } => self.grants.iter().any(|grant| Subject::grant(grant) == *subject),
            Subject::Restore(pair) | Subject::Retire(pair) | Subject::Follow(pair) => {
                self.journal.entries.iter().any(|entry| entry.pair == *pair)
            }
            Subject::Leftover(name) => self.truth.leftovers.iter().any(|module| module.name == *name),
            Subject::Journal | Subject::Report => true,
        }
    }
}
