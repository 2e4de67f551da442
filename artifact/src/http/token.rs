//! Authorization for one repository: the password itself, or a token that a token server gives for it. Does IO.
//!
//! The token server is the one that the registry names, as in every registry client; credentials reach it only over
//! TLS, unless the registry itself is reached without.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{RequestBuilder, StatusCode, Url};
use serde::Deserialize;

use super::challenge::{self, Challenge};
use super::{Client, DOCUMENT_TIMEOUT, Failure, body, failure, header_text};
use crate::config::{Credentials, Place};

/// Largest answer of a token server in bytes.
const MAX_TOKEN_BYTES: usize = 64 << 10;
/// How long a token is good for if nobody says (distribution's token specification).
const DEFAULT_LIFETIME: Duration = Duration::from_mins(1);
/// Longest that a token is kept.
const MAX_LIFETIME: Duration = Duration::from_hours(1);
/// Most tokens kept; a program uses a few repositories.
const MAX_TOKENS: usize = 256;

/// What is done with a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    Pull,
    Push,
}

impl Action {
    fn scope(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "pull,push",
        }
    }
}

/// A header that opens a repository, and until when.
#[derive(Debug, Clone)]
pub(super) struct Authorization {
    header: HeaderValue,
    expires: Option<Instant>,
}

impl Authorization {
    pub(super) fn header(&self) -> HeaderValue {
        self.header.clone()
    }
}

/// The authorizations that registries have accepted.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<HashMap<(Place, Action), Authorization>>);

impl Cache {
    pub(super) fn get(&self, place: &Place, action: Action) -> Option<Authorization> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let authorization = kept.get(&(place.clone(), action))?;
        let fresh = authorization.expires.is_none_or(|expires| Instant::now() < expires);
        fresh.then(|| authorization.clone())
    }

    pub(super) fn keep(&self, place: &Place, action: Action, authorization: Authorization) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX_TOKENS {
            kept.clear();
        }
        kept.insert((place.clone(), action), authorization);
    }

    pub(super) fn forget(&self, place: &Place, action: Action) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.remove(&(place.clone(), action));
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    #[serde(default)]
    expires_in: Option<u64>,
}

impl Client {
    /// Meets the challenge of a registry; `None` if there is nothing to meet it with.
    pub(super) async fn authorize(
        &self,
        place: &Place,
        action: Action,
        headers: &HeaderMap,
    ) -> Result<Option<Authorization>, Failure> {
        let credentials = self.docker.credentials(&place.registry, &place.path);
        let mut asked = headers.get_all(WWW_AUTHENTICATE).iter();
        match asked.find_map(|header| challenge::parse(header_text(Some(header))?)) {
            Some(Challenge::Basic) => match credentials {
                Some(Credentials::Basic { username, password }) => Ok(Some(Authorization {
                    header: header("Basic", &STANDARD.encode(format!("{username}:{password}")))?,
                    expires: None,
                })),
                Some(Credentials::IdentityToken(_)) | None => Ok(None),
            },
            Some(Challenge::Bearer { realm, service }) => {
                let url = token_server(&realm, place)?;
                let scope = format!("repository:{}:{}", place.path, action.scope());
                let request = self.token_request(url, service.as_deref().unwrap_or_default(), &scope, credentials);
                self.ask_token(request, place).await.map(Some)
            }
            None => Ok(None),
        }
    }

    /// A refresh token is exchanged by POST (OAuth 2), anything else asks by GET.
    fn token_request(
        &self,
        mut url: Url,
        service: &str,
        scope: &str,
        credentials: Option<&Credentials>,
    ) -> RequestBuilder {
        if let Some(Credentials::IdentityToken(token)) = credentials {
            let mut form = url.clone();
            form.query_pairs_mut().clear().extend_pairs([
                ("grant_type", "refresh_token"),
                ("service", service),
                ("client_id", "livepatch-operator"),
                ("scope", scope),
                ("refresh_token", token),
            ]);
            let form = form.query().unwrap_or_default().to_owned();
            return self
                .http
                .post(url)
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form);
        }
        if !service.is_empty() {
            url.query_pairs_mut().append_pair("service", service);
        }
        url.query_pairs_mut().append_pair("scope", scope);
        match credentials {
            Some(Credentials::Basic { username, password }) => self.http.get(url).basic_auth(username, Some(password)),
            _ => self.http.get(url),
        }
    }

    async fn ask_token(&self, request: RequestBuilder, place: &Place) -> Result<Authorization, Failure> {
        let sent = request.timeout(DOCUMENT_TIMEOUT).send().await;
        let response = sent.map_err(|error| failure::of_request(&error))?;
        if response.status() != StatusCode::OK {
            let hint = format!(
                "the token server of {} {}",
                place.registry,
                self.credentials_hint(place)
            );
            return Err(match failure::of_response(response, &hint).await {
                // A token server that does not know the user or the repository is not one that is not there.
                Failure::NotFound(message) => Failure::Unauthorized(message),
                other => other,
            });
        }
        let answer: Answer = serde_json::from_slice(&body(response, MAX_TOKEN_BYTES).await?)
            .map_err(|_| Failure::nonsense("the token server did not answer with a token"))?;
        let token = if answer.token.is_empty() {
            answer.access_token
        } else {
            answer.token
        };
        let lifetime = answer
            .expires_in
            .map_or(DEFAULT_LIFETIME, Duration::from_secs)
            .min(MAX_LIFETIME);
        Ok(Authorization {
            header: header("Bearer", &token)?,
            // Not until the last second: the request that uses it takes time too.
            expires: Some(Instant::now() + lifetime * 9 / 10),
        })
    }
}

fn header(scheme: &str, value: &str) -> Result<HeaderValue, Failure> {
    let mut header = HeaderValue::from_str(&format!("{scheme} {value}"))
        .map_err(|_| Failure::nonsense("the credentials or the token cannot be put into a header"))?;
    header.set_sensitive(true);
    Ok(header)
}

fn token_server(realm: &str, place: &Place) -> Result<Url, Failure> {
    let url: Url = realm
        .parse()
        .map_err(|_| Failure::nonsense(&format!("{} names a token server that is no URL", place.registry)))?;
    if url.scheme() == "https" || (url.scheme() == "http" && place.plain_http) {
        return Ok(url);
    }
    Err(Failure::nonsense(&format!(
        "{} names a token server without TLS, which gets no credentials",
        place.registry
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(plain_http: bool) -> Place {
        Place {
            plain_http,
            registry: "r.io".to_owned(),
            path: "a/b".to_owned(),
        }
    }

    #[test]
    fn credentials_go_over_tls_where_the_registry_does() {
        assert!(token_server("https://auth.io/token", &place(false)).is_ok());
        assert!(token_server("http://auth.io/token", &place(false)).is_err());
        assert!(token_server("http://auth.io/token", &place(true)).is_ok());
        assert!(token_server("file:///etc/passwd", &place(true)).is_err());
        assert!(token_server("not a url", &place(true)).is_err());
    }

    #[test]
    fn a_token_is_kept_until_it_expires_and_for_its_action() {
        let cache = Cache::default();
        let authorization = |expires| Authorization {
            header: header("Bearer", "secret").unwrap(),
            expires,
        };
        let (fresh, stale) = (Instant::now() + Duration::from_mins(1), Instant::now());
        cache.keep(&place(false), Action::Pull, authorization(Some(fresh)));
        assert!(cache.get(&place(false), Action::Pull).is_some());
        assert!(cache.get(&place(false), Action::Push).is_none());
        assert!(cache.get(&place(true), Action::Pull).is_none());
        cache.keep(&place(false), Action::Pull, authorization(Some(stale)));
        assert!(cache.get(&place(false), Action::Pull).is_none());
        assert!(!format!("{cache:?}").contains("secret"));
    }
}
