//! One document or blob by digest, from the first place that has it. Does IO.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::ACCEPT;

use crate::config::Place;
use crate::digest::Digest;
use crate::error::PullError;
use crate::format::{INDEX_MEDIA_TYPE, MANIFEST_MEDIA_TYPE};
use crate::http::{self, Action, BACK_OFF, Client, DOCUMENT_TIMEOUT, Failure, MODULE_TIMEOUT};
use crate::reference::Repository;
use crate::untrusted;

/// Where a registry keeps something, and how long it may take to send it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An index or a manifest.
    Manifest,
    /// A small blob.
    Blob,
    /// A module file.
    Module,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    kind: Kind,
    what: &'static str,
    digest: &'a Digest,
    limit: usize,
}

impl<'a> Wanted<'a> {
    /// `what` names it in messages; no more than `limit` bytes are read.
    pub(crate) fn new(kind: Kind, what: &'static str, digest: &'a Digest, limit: usize) -> Self {
        Self {
            kind,
            what,
            digest,
            limit,
        }
    }
}

/// Why one place did not give it.
#[derive(Debug)]
enum Miss {
    Failure(Failure),
    OtherBytes(Digest),
}

/// Why no place gave it.
#[derive(Debug)]
pub(crate) struct Misses(Vec<(String, Miss)>);

/// Asks one place after the other, three times while any of them fails for a passing reason. `note` is told which
/// registry could be reached.
pub(crate) async fn fetch(
    client: &Client,
    places: &[Place],
    wanted: &Wanted<'_>,
    note: &(dyn Fn(&str, bool) + Sync),
) -> Result<Vec<u8>, Misses> {
    let mut pauses = BACK_OFF.into_iter();
    loop {
        let mut misses = Vec::with_capacity(places.len());
        for place in places {
            let miss = match from_place(client, place, wanted).await {
                Ok(bytes) => {
                    note(&place.registry, true);
                    return Ok(bytes);
                }
                Err(miss) => miss,
            };
            note(&place.registry, !miss.is_unavailable());
            misses.push((place.registry.clone(), miss));
        }
        let pause = misses.iter().filter_map(|(_, miss)| miss.pause()).max();
        match (pause, pauses.next()) {
            (Some(asked), Some(pause)) => tokio::time::sleep(asked.max(pause)).await,
            _ => return Err(Misses(misses)),
        }
    }
}

async fn from_place(client: &Client, place: &Place, wanted: &Wanted<'_>) -> Result<Vec<u8>, Miss> {
    let base = place.base_url();
    let digest = wanted.digest;
    let (url, accept, timeout) = match wanted.kind {
        Kind::Manifest => (
            format!("{base}/manifests/{digest}"),
            format!("{INDEX_MEDIA_TYPE}, {MANIFEST_MEDIA_TYPE}"),
            DOCUMENT_TIMEOUT,
        ),
        Kind::Blob => (format!("{base}/blobs/{digest}"), "*/*".to_owned(), DOCUMENT_TIMEOUT),
        Kind::Module => (format!("{base}/blobs/{digest}"), "*/*".to_owned(), MODULE_TIMEOUT),
    };
    let build = |http: &reqwest::Client| http.get(&url).header(ACCEPT, &accept).timeout(timeout);
    let response = client
        .send(place, Action::Pull, &[StatusCode::OK], &build)
        .await
        .map_err(Miss::Failure)?;
    let bytes = http::body(response, wanted.limit).await.map_err(Miss::Failure)?;
    let actual = Digest::of(&bytes);
    if actual == *digest {
        Ok(bytes)
    } else {
        Err(Miss::OtherBytes(actual))
    }
}

impl Miss {
    fn is_unavailable(&self) -> bool {
        matches!(self, Self::Failure(Failure::Unavailable { .. }))
    }

    /// How long to wait at least before asking again, if that may help.
    fn pause(&self) -> Option<Duration> {
        match self {
            Self::Failure(Failure::Unavailable {
                passing: true,
                retry_after,
                ..
            }) => Some(http::bounded_pause(*retry_after)),
            _ => None,
        }
    }

    /// Which miss tells most: while one place is away nothing is certain, and wrong bytes matter more than none.
    fn weight(&self) -> u8 {
        match self {
            Self::Failure(Failure::Unavailable { .. }) => 4,
            Self::Failure(Failure::Unauthorized(_)) => 3,
            Self::OtherBytes(_) => 2,
            Self::Failure(Failure::TooLarge) => 1,
            Self::Failure(Failure::NotFound(_)) => 0,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Failure(
                Failure::NotFound(message) | Failure::Unauthorized(message) | Failure::Unavailable { message, .. },
            ) => message.clone(),
            Self::Failure(Failure::TooLarge) => "too large".to_owned(),
            Self::OtherBytes(actual) => format!("sent {actual} instead"),
        }
    }
}

impl Misses {
    /// The one error for all places, with the words of each.
    pub(crate) fn into_error(self, repository: &Repository, wanted: &Wanted<'_>) -> PullError {
        let repository = repository.clone();
        let (what, digest) = (wanted.what, wanted.digest.clone());
        let message = match self.0.as_slice() {
            [(registry, miss)] if registry == repository.registry() => miss.text(),
            all => {
                let each: Vec<String> = all
                    .iter()
                    .map(|(registry, miss)| format!("{registry}: {}", miss.text()))
                    .collect();
                untrusted::line(&each.join("; "))
            }
        };
        match self.0.into_iter().max_by_key(|(_, miss)| miss.weight()) {
            Some((_, Miss::Failure(Failure::Unavailable { .. }))) | None => {
                PullError::RegistryUnavailable { repository, message }
            }
            Some((_, Miss::Failure(Failure::Unauthorized(_)))) => PullError::Unauthorized { repository, message },
            Some((_, Miss::OtherBytes(actual))) => PullError::DigestMismatch {
                repository,
                what,
                expected: digest,
                actual,
            },
            Some((_, Miss::Failure(Failure::TooLarge))) => PullError::TooLarge {
                repository,
                what,
                digest,
                limit: wanted.limit,
            },
            Some((_, Miss::Failure(Failure::NotFound(_)))) => PullError::DigestUnknown {
                repository,
                what,
                digest,
                message,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unavailable(message: &str) -> Miss {
        Miss::Failure(Failure::nonsense(message))
    }

    fn not_found() -> Miss {
        Miss::Failure(Failure::NotFound("404 Not Found: MANIFEST_UNKNOWN".to_owned()))
    }

    fn error(misses: Vec<(&str, Miss)>) -> PullError {
        let digest = Digest::of(b"");
        let wanted = Wanted::new(Kind::Manifest, "index", &digest, 10);
        let misses = misses
            .into_iter()
            .map(|(registry, miss)| (registry.to_owned(), miss))
            .collect();
        Misses(misses).into_error(&"r.io/a".parse().unwrap(), &wanted)
    }

    #[test]
    fn a_digest_is_unknown_only_if_every_place_said_so() {
        let unknown = error(vec![("m.io", not_found()), ("r.io", not_found())]);
        assert_eq!(unknown.reason(), "DigestUnknown");
        assert!(!unknown.is_retryable());
        for misses in [
            vec![("m.io", unavailable("asleep")), ("r.io", not_found())],
            vec![("m.io", not_found()), ("r.io", unavailable("asleep"))],
        ] {
            let away = error(misses);
            assert_eq!(away.reason(), "RegistryUnavailable");
            assert!(away.is_retryable());
            let text = away.to_string();
            assert!(
                text.contains("asleep") && text.contains("m.io") && text.contains("MANIFEST_UNKNOWN"),
                "{text}"
            );
        }
    }

    #[test]
    fn wrong_bytes_are_told_apart_from_none() {
        let other = Digest::of(b"other");
        let mismatch = error(vec![("m.io", Miss::OtherBytes(other.clone())), ("r.io", not_found())]);
        assert_eq!(mismatch.reason(), "DigestMismatch");
        assert!(mismatch.to_string().contains(other.as_str()));
        let refused = error(vec![
            ("m.io", Miss::OtherBytes(other)),
            ("r.io", Miss::Failure(Failure::Unauthorized("401".to_owned()))),
        ]);
        assert_eq!(refused.reason(), "Unauthorized");
        assert_eq!(
            error(vec![("r.io", Miss::Failure(Failure::TooLarge))]).reason(),
            "TooLarge"
        );
    }
}
