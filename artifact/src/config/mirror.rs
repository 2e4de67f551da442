//! Other places to read a repository from. No IO.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use super::{ConfigError, RegistryConfig};
use crate::allowed::RepositoryPrefix;
use crate::reference::{InvalidReference, Repository, parse_path, parse_registry};

/// Most mirrors in one configuration.
const MAX_MIRRORS: usize = 64;
/// Docker's registry is named by one host and served by another.
const DOCKER_HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// A place that is asked before the registry itself for everything below a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// The repositories it has.
    pub prefix: RepositoryPrefix,
    /// What stands in place of the prefix.
    pub endpoint: Endpoint,
    /// Never ask the registry itself.
    pub only: bool,
}

/// Where a registry is reached: `http://` or `https://`, host, optional port, optional beginning of the repository path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    plain_http: bool,
    registry: String,
    path: Option<String>,
}

impl Endpoint {
    /// Whether the connection is not encrypted.
    pub fn is_plain_http(&self) -> bool {
        self.plain_http
    }

    /// Host and optional port.
    pub fn registry(&self) -> &str {
        &self.registry
    }
}

impl FromStr for Endpoint {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let (plain_http, rest) = if let Some(rest) = text.strip_prefix("http://") {
            (true, rest)
        } else {
            (false, text.strip_prefix("https://").ok_or(InvalidReference::Registry)?)
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (registry, path) = match rest.split_once('/') {
            Some((registry, path)) => (registry, Some(parse_path(path)?)),
            None => (rest, None),
        };
        Ok(Self {
            plain_http,
            registry: parse_registry(registry)?,
            path,
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.plain_http { "http" } else { "https" };
        write!(f, "{scheme}://{}", self.registry)?;
        match &self.path {
            Some(path) => write!(f, "/{path}"),
            None => Ok(()),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    prefix: String,
    endpoint: String,
    #[serde(default)]
    only: bool,
}

/// Reads the text of `mirrors.yaml`.
pub(super) fn parse(text: &str) -> Result<Vec<Mirror>, ConfigError> {
    let malformed = |why: String| ConfigError::Malformed {
        what: super::MIRRORS,
        why: crate::untrusted::line(&why),
    };
    let entries: Option<Vec<Entry>> = serde_saphyr::from_str(text).map_err(|error| malformed(error.to_string()))?;
    let entries = entries.unwrap_or_default();
    if entries.len() > MAX_MIRRORS {
        return Err(malformed(format!(
            "{} mirrors, at most {MAX_MIRRORS} allowed",
            entries.len()
        )));
    }
    entries
        .into_iter()
        .map(|entry| {
            Ok(Mirror {
                prefix: entry
                    .prefix
                    .parse()
                    .map_err(|error| malformed(format!("prefix {} {error}", entry.prefix)))?,
                endpoint: entry.endpoint.parse().map_err(|error| {
                    malformed(format!(
                        "endpoint {}: after http:// or https:// it {error}",
                        entry.endpoint
                    ))
                })?,
                only: entry.only,
            })
        })
        .collect()
}

/// One place where a repository can be read, and how.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    /// Whether the connection is not encrypted.
    pub plain_http: bool,
    /// Host and optional port to connect to.
    pub registry: String,
    /// Path of the repository there.
    pub path: String,
}

impl Place {
    /// Beginning of every URL of this repository.
    pub(crate) fn base_url(&self) -> String {
        let scheme = if self.plain_http { "http" } else { "https" };
        format!("{scheme}://{}/v2/{}", self.registry, self.path)
    }
}

impl RegistryConfig {
    /// Where to read a repository, in the order in which to try: the mirrors of the longest prefix in their order, then
    /// the registry itself unless one of them says `only`.
    pub(crate) fn places(&self, repository: &Repository) -> Vec<Place> {
        let covering = || self.mirrors.iter().filter(|mirror| mirror.prefix.covers(repository));
        let longest = covering().map(|mirror| mirror.prefix.specificity()).max();
        let chosen = || covering().filter(|mirror| Some(mirror.prefix.specificity()) == longest);
        let mut places: Vec<Place> = chosen().filter_map(|mirror| mirror.place(repository)).collect();
        if !chosen().any(|mirror| mirror.only) {
            places.push(self.origin(repository));
        }
        places
    }

    /// The registry that the repository names itself.
    pub(crate) fn origin(&self, repository: &Repository) -> Place {
        let (named, served) = DOCKER_HUB;
        let registry = if repository.registry() == named {
            served
        } else {
            repository.registry()
        };
        Place {
            plain_http: self.plain_http,
            registry: registry.to_owned(),
            path: repository.path().to_owned(),
        }
    }
}

impl Mirror {
    /// The repository's place here; `None` if prefix and endpoint leave it without a path.
    fn place(&self, repository: &Repository) -> Option<Place> {
        let rest = self.prefix.remainder(repository)?;
        let path = match (&self.endpoint.path, rest) {
            (None, "") => return None,
            (None, rest) => rest.to_owned(),
            (Some(path), "") => path.clone(),
            (Some(path), rest) => format!("{path}/{rest}"),
        };
        Some(Place {
            plain_http: self.endpoint.plain_http,
            registry: self.endpoint.registry.clone(),
            path,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(mirrors: &str, repository: &str) -> Vec<String> {
        let config = RegistryConfig {
            mirrors: parse(mirrors).unwrap(),
            ..RegistryConfig::default()
        };
        let places = config.places(&repository.parse().unwrap());
        places.iter().map(Place::base_url).collect()
    }

    #[test]
    fn without_mirrors_the_registry_itself_is_asked() {
        assert_eq!(places("", "r.io:5000/a/b"), ["https://r.io:5000/v2/a/b"]);
        assert_eq!(places("[]", "docker.io/a/b"), ["https://registry-1.docker.io/v2/a/b"]);
    }

    #[test]
    fn mirrors_are_asked_in_order_before_the_registry() {
        let mirrors = "
- {prefix: r.io, endpoint: \"http://10.0.2.2:5000\"}
- {prefix: r.io, endpoint: \"https://m.io/cache\"}
- {prefix: other.io, endpoint: \"https://o.io\"}
";
        assert_eq!(
            places(mirrors, "r.io/a"),
            [
                "http://10.0.2.2:5000/v2/a",
                "https://m.io/v2/cache/a",
                "https://r.io/v2/a"
            ]
        );
        assert_eq!(places(mirrors, "third.io/a"), ["https://third.io/v2/a"]);
    }

    #[test]
    fn the_endpoint_stands_in_place_of_the_longest_prefix() {
        let mirrors = "
- {prefix: r.io, endpoint: \"https://all.io\"}
- {prefix: r.io/team, endpoint: \"https://team.io/x\", only: true}
";
        assert_eq!(places(mirrors, "r.io/team/a"), ["https://team.io/v2/x/a"]);
        assert_eq!(places(mirrors, "r.io/team"), ["https://team.io/v2/x"]);
        assert_eq!(
            places(mirrors, "r.io/team2/a"),
            ["https://all.io/v2/team2/a", "https://r.io/v2/team2/a"]
        );
    }

    #[test]
    fn only_holds_even_where_the_mirror_has_no_place() {
        let mirrors = "- {prefix: r.io/team, endpoint: \"https://team.io\", only: true}";
        assert!(places(mirrors, "r.io/team").is_empty());
    }

    #[test]
    fn a_wrong_mirror_says_what_is_wrong() {
        for (text, word) in [
            ("- {prefix: r.io, endpoint: m.io}", "endpoint"),
            ("- {prefix: r.io, endpoint: \"ftp://m.io\"}", "endpoint"),
            ("- {prefix: r.io, endpoint: \"https://u:p@m.io\"}", "endpoint"),
            ("- {prefix: \"*\", endpoint: \"https://m.io\"}", "prefix"),
            ("- {prefix: r.io}", "endpoint"),
            (
                "- {prefix: r.io, endpoint: \"https://m.io\", insecure: true}",
                "insecure",
            ),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains("mirrors.yaml") && error.contains(word), "{error}");
        }
    }
}
