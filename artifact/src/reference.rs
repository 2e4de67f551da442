//! Names of artefacts: `registry/repository@sha256:…` to pull, `registry/repository[:tag]` to push to. No IO.
//!
//! Everything the API server admits as a reference of a LivepatchSet parses here, except a port that no socket has.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// Longest reference, as in the API.
const MAX_REFERENCE_BYTES: usize = 512;
/// Longest tag (OCI distribution specification 1.1).
const MAX_TAG_BYTES: usize = 128;

/// A repository in a registry: `registry.example.com:5000/livepatches/nf-tables`.
///
/// The registry is always written out and kept in lower case; there is no default one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Repository {
    registry: String,
    path: String,
}

impl Repository {
    pub(crate) fn new(registry: &str, path: &str) -> Result<Self, InvalidReference> {
        Ok(Self {
            registry: parse_registry(registry)?,
            path: parse_path(path)?,
        })
    }

    /// Host and, if given, port of the registry.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path within the registry, without a leading slash.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The reference to what has this digest here.
    pub fn at(&self, digest: Digest) -> Reference {
        Reference {
            repository: self.clone(),
            digest,
        }
    }
}

/// An artefact by its digest: `registry/repository@sha256:…`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    repository: Repository,
    digest: Digest,
}

impl Reference {
    /// Where it is.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// What it is.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }
}

/// Where to push: `registry/repository[:tag]`. The tag is for people; what is deployed is the digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushTarget {
    /// The repository.
    pub repository: Repository,
    /// The tag that shall name the artefact, besides its digest.
    pub tag: Option<String>,
}

/// A text that does not name an artefact, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidReference {
    /// A tag or nothing where a digest is needed.
    #[error("must name an OCI index by its digest, as registry/repository@sha256:<64 hex digits>")]
    NoDigest,
    /// The part after `@` is no digest.
    #[error("must end in @sha256: and 64 lower-case hex digits")]
    Digest,
    /// A digest where the digest is yet to be found.
    #[error("must be registry/repository or registry/repository:tag; the digest is what a push finds out")]
    UnexpectedDigest,
    /// No registry in front of the repository.
    #[error("must begin with the registry's host, such as registry.example.com/livepatches; there is no default one")]
    NoRegistry,
    /// The registry is not a host name with an optional port.
    #[error("must begin with the registry's host name and, if need be, :port")]
    Registry,
    /// The repository is not a path of lower-case names.
    #[error("must have a repository of lower-case letters, digits and . _ - between them, parts separated by /")]
    Repository,
    /// The tag is not a tag.
    #[error("must have a tag of at most 128 letters, digits and . _ -, not beginning with . or -")]
    Tag,
    /// Too long for the API.
    #[error("must be at most {MAX_REFERENCE_BYTES} bytes long")]
    TooLong,
}

impl InvalidReference {
    /// Stable reason code for status, events, metrics and logs.
    pub fn reason(&self) -> &'static str {
        "InvalidReference"
    }
}

impl FromStr for Repository {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        bounded(text)?;
        let (registry, path) = text.split_once('/').ok_or(InvalidReference::NoRegistry)?;
        Self::new(registry, path)
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        bounded(text)?;
        let (repository, digest) = text.split_once('@').ok_or(InvalidReference::NoDigest)?;
        let digest = digest.parse().map_err(|_| InvalidReference::Digest)?;
        Ok(Self {
            repository: repository.parse()?,
            digest,
        })
    }
}

impl FromStr for PushTarget {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        if text.contains('@') {
            return Err(InvalidReference::UnexpectedDigest);
        }
        let (registry, rest) = text.split_once('/').ok_or(InvalidReference::NoRegistry)?;
        // Elsewhere a first part like this is taken for a repository of a default registry; here nobody has to guess.
        if !registry.contains(['.', ':']) && registry != "localhost" {
            return Err(InvalidReference::NoRegistry);
        }
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(parse_tag(tag)?)),
            None => (rest, None),
        };
        Ok(Self {
            repository: format!("{registry}/{path}").parse()?,
            tag,
        })
    }
}

fn bounded(text: &str) -> Result<(), InvalidReference> {
    if text.len() > MAX_REFERENCE_BYTES {
        return Err(InvalidReference::TooLong);
    }
    Ok(())
}

/// A host name or IPv4 address with an optional port, in lower case.
pub(crate) fn parse_registry(text: &str) -> Result<String, InvalidReference> {
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
            && (1..=63).contains(&label.len())
    };
    let port_ok = port.is_none_or(|port| {
        port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|number| number != 0)
    });
    if host.split('.').all(label) && port_ok {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(InvalidReference::Registry)
    }
}

/// One or more lower-case names separated by slashes.
pub(crate) fn parse_path(text: &str) -> Result<String, InvalidReference> {
    let name = |name: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = name.as_bytes();
        bytes.first().copied().is_some_and(inner)
            && bytes.last().copied().is_some_and(inner)
            && bytes.iter().all(|&b| inner(b) || matches!(b, b'.' | b'_' | b'-'))
    };
    if text.split('/').all(name) {
        Ok(text.to_owned())
    } else {
        Err(InvalidReference::Repository)
    }
}

fn parse_tag(text: &str) -> Result<String, InvalidReference> {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let ok = (1..=MAX_TAG_BYTES).contains(&text.len())
        && text.bytes().next().is_some_and(inner)
        && text.bytes().all(|b| inner(b) || matches!(b, b'.' | b'-'));
    if ok {
        Ok(text.to_owned())
    } else {
        Err(InvalidReference::Tag)
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.path)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.repository, self.digest)
    }
}

impl fmt::Display for PushTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.tag {
            Some(tag) => write!(f, "{}:{tag}", self.repository),
            None => write!(f, "{}", self.repository),
        }
    }
}

impl TryFrom<String> for Repository {
    type Error = InvalidReference;

    fn try_from(text: String) -> Result<Self, InvalidReference> {
        text.parse()
    }
}

impl From<Repository> for String {
    fn from(repository: Repository) -> Self {
        repository.to_string()
    }
}

impl TryFrom<String> for Reference {
    type Error = InvalidReference;

    fn try_from(text: String) -> Result<Self, InvalidReference> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    proptest! {
        // The pattern of LivepatchSet.spec.template.source.oci.reference, with labels and ports that exist.
        #[test]
        fn what_the_api_admits_parses_and_prints_as_it_was(
            text in r"[a-z0-9]([a-z0-9-]{0,5}[a-z0-9])?(\.[a-z0-9]{1,5}){0,3}(:[1-9][0-9]{0,3})?(/[a-z0-9]{1,5}([._-]{1,3}[a-z0-9]{1,5}){0,2}){1,4}@sha256:[a-f0-9]{64}"
        ) {
            let reference: Reference = text.parse().unwrap();
            prop_assert_eq!(reference.to_string(), text);
            let again: Repository = reference.repository().to_string().parse().unwrap();
            prop_assert_eq!(&again, reference.repository());
        }

        #[test]
        fn nothing_panics_and_what_parses_is_a_fixed_point(text in r"\PC{0,40}|[a-zA-Z0-9.:/@_-]{0,60}") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
            }
            if let Ok(target) = text.parse::<PushTarget>() {
                prop_assert_eq!(target.to_string().parse::<PushTarget>().unwrap(), target);
            }
        }
    }

    #[test]
    fn a_wrong_reference_says_what_is_wrong() {
        let cases = [
            ("registry.example.com/a:v1".to_owned(), InvalidReference::NoDigest),
            (
                format!("registry.example.com/a:v1@{DIGEST}"),
                InvalidReference::Repository,
            ),
            (format!("registry.example.com/A@{DIGEST}"), InvalidReference::Repository),
            (
                format!("registry.example.com//a@{DIGEST}"),
                InvalidReference::Repository,
            ),
            (
                format!("registry.example.com/../a@{DIGEST}"),
                InvalidReference::Repository,
            ),
            (format!("registry.example.com@{DIGEST}"), InvalidReference::NoRegistry),
            (format!("registry.example.com:0/a@{DIGEST}"), InvalidReference::Registry),
            (
                format!("registry.example.com:99999/a@{DIGEST}"),
                InvalidReference::Registry,
            ),
            (
                format!("https://registry.example.com/a@{DIGEST}"),
                InvalidReference::Registry,
            ),
            (
                format!("user@registry.example.com/a@{DIGEST}"),
                InvalidReference::Digest,
            ),
            (format!("registry..example.com/a@{DIGEST}"), InvalidReference::Registry),
            ("registry.example.com/a@sha256:12".to_owned(), InvalidReference::Digest),
            (format!("r.io/{}@{DIGEST}", "a".repeat(500)), InvalidReference::TooLong),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<Reference>(), Err(error), "{text}");
        }
    }

    #[test]
    fn a_registry_is_one_whatever_its_case() {
        let upper: Repository = "Registry.Example.COM/a".parse().unwrap();
        assert_eq!(upper, "registry.example.com/a".parse().unwrap());
    }

    #[test]
    fn a_push_target_needs_a_registry_and_takes_a_tag() {
        let target: PushTarget = "localhost:5000/a/b:2026-11".parse().unwrap();
        assert_eq!(target.repository.to_string(), "localhost:5000/a/b");
        assert_eq!(target.tag.as_deref(), Some("2026-11"));
        assert_eq!("r.io/a".parse::<PushTarget>().unwrap().tag, None);
        assert_eq!("team/a".parse::<PushTarget>(), Err(InvalidReference::NoRegistry));
        assert_eq!("a:v1".parse::<PushTarget>(), Err(InvalidReference::NoRegistry));
        assert_eq!("r.io/a:-x".parse::<PushTarget>(), Err(InvalidReference::Tag));
        assert_eq!(
            format!("r.io/a@{DIGEST}").parse::<PushTarget>(),
            Err(InvalidReference::UnexpectedDigest)
        );
    }
}
