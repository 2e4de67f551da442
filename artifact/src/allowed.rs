//! Which repositories a program may read from. No IO.

use std::fmt;
use std::str::FromStr;

use crate::error::PullError;
use crate::reference::{InvalidReference, Repository, parse_path, parse_registry};

/// A registry, or a registry and the beginning of a path: `registry.example.com/livepatches`.
///
/// It covers a repository at a path boundary: `r.io/team` covers `r.io/team` and `r.io/team/a`, not `r.io/team2`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryPrefix {
    registry: String,
    path: Option<String>,
}

impl RepositoryPrefix {
    /// Whether the repository lies below this prefix.
    pub fn covers(&self, repository: &Repository) -> bool {
        self.remainder(repository).is_some()
    }

    /// What follows the prefix, without a leading slash; `None` if the repository is not below it.
    pub(crate) fn remainder<'a>(&self, repository: &'a Repository) -> Option<&'a str> {
        if self.registry != repository.registry() {
            return None;
        }
        let Some(path) = &self.path else {
            return Some(repository.path());
        };
        let rest = repository.path().strip_prefix(path.as_str())?;
        if rest.is_empty() {
            return Some(rest);
        }
        rest.strip_prefix('/')
    }

    /// Length in bytes: of two prefixes that cover one repository the longer is the more specific.
    pub(crate) fn specificity(&self) -> usize {
        self.registry.len() + self.path.as_ref().map_or(0, |path| 1 + path.len())
    }
}

impl FromStr for RepositoryPrefix {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let text = text.strip_suffix('/').unwrap_or(text);
        let (registry, path) = match text.split_once('/') {
            Some((registry, path)) => (registry, Some(parse_path(path)?)),
            None => (text, None),
        };
        Ok(Self {
            registry: parse_registry(registry)?,
            path,
        })
    }
}

impl fmt::Display for RepositoryPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "{}/{path}", self.registry),
            None => f.write_str(&self.registry),
        }
    }
}

/// The repositories that a person allowed. An empty list allows nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedRepositories {
    prefixes: Vec<RepositoryPrefix>,
}

impl AllowedRepositories {
    /// Allows what lies below any of the prefixes.
    pub fn new(prefixes: impl IntoIterator<Item = RepositoryPrefix>) -> Self {
        Self {
            prefixes: prefixes.into_iter().collect(),
        }
    }

    /// Whether the repository may be read from.
    pub fn allows(&self, repository: &Repository) -> bool {
        self.prefixes.iter().any(|prefix| prefix.covers(repository))
    }

    /// As [`Self::allows`], as a result.
    ///
    /// # Errors
    /// [`PullError::RepositoryNotAllowed`].
    pub fn check(&self, repository: &Repository) -> Result<(), PullError> {
        if self.allows(repository) {
            return Ok(());
        }
        Err(PullError::RepositoryNotAllowed {
            repository: repository.clone(),
        })
    }

    /// Whether nothing at all is allowed, which is what no flag means.
    pub fn is_empty(&self) -> bool {
        self.prefixes.is_empty()
    }
}

impl FromIterator<RepositoryPrefix> for AllowedRepositories {
    fn from_iter<I: IntoIterator<Item = RepositoryPrefix>>(prefixes: I) -> Self {
        Self::new(prefixes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn allowed(prefixes: &[&str]) -> AllowedRepositories {
        prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect()
    }

    #[test]
    fn nothing_is_allowed_by_default() {
        assert!(!AllowedRepositories::default().allows(&"r.io/a".parse().unwrap()));
        assert!(AllowedRepositories::default().is_empty());
    }

    #[test]
    fn a_prefix_ends_at_a_path_boundary() {
        let some = allowed(&["r.io/team", "other.io", "p.io:5000/x/"]);
        for (repository, expected) in [
            ("r.io/team", true),
            ("r.io/team/a/b", true),
            ("r.io/team2", false),
            ("r.io/team-a", false),
            ("r.io/tea", false),
            ("r.io:5000/team", false),
            ("r.io.evil.com/team", false),
            ("evil.com/r.io/team", false),
            ("other.io/anything", true),
            ("other.io2/anything", false),
            ("p.io:5000/x/y", true),
            ("p.io/x/y", false),
        ] {
            assert_eq!(some.allows(&repository.parse().unwrap()), expected, "{repository}");
        }
        let refused = some.check(&"evil.com/a".parse().unwrap()).unwrap_err();
        assert_eq!(refused.reason(), "RepositoryNotAllowed");
        assert!(!refused.is_retryable());
    }

    #[test]
    fn what_would_allow_everything_is_no_prefix() {
        for text in ["", "/", "*", "r.io/*", "https://r.io", "r.io//", "*.io"] {
            assert!(text.parse::<RepositoryPrefix>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_prefix_covers_exactly_whole_leading_parts(
            prefix in "[ab]\\.io(/[ab]{1,2}){0,2}", repository in "[ab]\\.io(/[ab]{1,2}){1,3}"
        ) {
            let parts = |text: &str| text.split('/').map(str::to_owned).collect::<Vec<_>>();
            let covers = prefix.parse::<RepositoryPrefix>().unwrap().covers(&repository.parse().unwrap());
            prop_assert_eq!(covers, parts(&repository).starts_with(&parts(&prefix)));
        }
    }
}
