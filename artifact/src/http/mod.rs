//! One HTTP client for registries: its limits, its roots of trust, how a request is authorized and repeated. Does IO.

mod challenge;
mod dns;
mod failure;
mod tls;
mod token;

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderValue, RETRY_AFTER};
use reqwest::redirect;
use reqwest::{RequestBuilder, Response, StatusCode};

pub(crate) use failure::Failure;
pub(crate) use token::Action;

use crate::config::{ConfigError, DockerConfig, Place, RegistryConfig};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest silence in the middle of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time for a small document, from the first byte sent to the last one read.
pub(crate) const DOCUMENT_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time for a module: 64 MiB at 2 Mbit/s.
pub(crate) const MODULE_TIMEOUT: Duration = Duration::from_mins(5);
/// Registries send blobs from elsewhere, in one or two steps.
const MAX_REDIRECTS: usize = 5;
/// Waits before the second and the third try.
pub(crate) const BACK_OFF: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(1)];
/// Longest wait that a registry may ask for with Retry-After.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(5);

/// A client for the registries of one configuration.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    docker: DockerConfig,
    tokens: token::Cache,
}

impl Client {
    pub(crate) fn new(config: &RegistryConfig) -> Result<Self, ConfigError> {
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::config(config.ca_bundle.as_deref())?)
            .user_agent(concat!("livepatch-operator/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .redirect(redirect::Policy::custom(follow))
            // Registries are asked a few times a day: connections would only go stale.
            .pool_max_idle_per_host(1)
            .pool_idle_timeout(Duration::from_secs(10));
        if dns::SYSTEM_RESOLVER_IS_MISSING {
            builder = builder.dns_resolver(Arc::new(dns::Resolver::default()));
        }
        Ok(Self {
            http: builder.build().map_err(|error| ConfigError::Client {
                why: failure::chain(&error),
            })?,
            docker: config.docker.clone(),
            tokens: token::Cache::default(),
        })
    }

    /// Sends a request that `build` makes, with the authorization that the registry asks for. `accept` says which
    /// statuses are answers; any other one is a [`Failure`].
    pub(crate) async fn send(
        &self,
        place: &Place,
        action: Action,
        accept: &[StatusCode],
        build: &(dyn Fn(&reqwest::Client) -> RequestBuilder + Sync),
    ) -> Result<Response, Failure> {
        let known = self.tokens.get(place, action);
        let mut response = self.send_once(build, known.as_ref()).await?;
        if response.status() == StatusCode::UNAUTHORIZED
            && let Some(authorization) = self.authorize(place, action, response.headers()).await?
        {
            response = self.send_once(build, Some(&authorization)).await?;
            // What the registry has just refused must not be tried first next time.
            if response.status() == StatusCode::UNAUTHORIZED {
                self.tokens.forget(place, action);
            } else {
                self.tokens.keep(place, action, authorization);
            }
        }
        if accept.contains(&response.status()) {
            return Ok(response);
        }
        let hint = self.credentials_hint(place);
        Err(failure::of_response(response, &hint).await)
    }

    async fn send_once(
        &self,
        build: &(dyn Fn(&reqwest::Client) -> RequestBuilder + Sync),
        authorization: Option<&token::Authorization>,
    ) -> Result<Response, Failure> {
        let mut request = build(&self.http);
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization.header());
        }
        request.send().await.map_err(|error| failure::of_request(&error))
    }

    /// Which credentials were used, for the person who reads that they did not suffice.
    fn credentials_hint(&self, place: &Place) -> String {
        if self.docker.credentials(&place.registry, &place.path).is_some() {
            return format!("with the credentials for {} from config.json", place.registry);
        }
        match self.docker.helper(&place.registry) {
            Some(helper) => format!(
                "anonymously: config.json leaves {} to the credential helper {}, which is not run; it needs an entry with auth",
                place.registry,
                crate::untrusted::line(helper)
            ),
            None => format!("anonymously: config.json has no credentials for {}", place.registry),
        }
    }
}

/// Repeats what failed for a passing reason, three times in all.
pub(crate) async fn repeat<T, F>(mut attempt: impl FnMut() -> F + Send) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>> + Send,
{
    for pause in BACK_OFF {
        match attempt().await {
            Err(Failure::Unavailable {
                passing: true,
                retry_after,
                ..
            }) => tokio::time::sleep(pause.max(bounded_pause(retry_after))).await,
            other => return other,
        }
    }
    attempt().await
}

/// The wait that a registry asked for, as far as that is taken into account.
pub(crate) fn bounded_pause(retry_after: Option<Duration>) -> Duration {
    retry_after.unwrap_or_default().min(MAX_RETRY_AFTER)
}

/// Reads a body of at most `limit` bytes.
pub(crate) async fn body(mut response: Response, limit: usize) -> Result<Vec<u8>, Failure> {
    let announced = content_length(&response);
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(Failure::TooLarge);
    }
    let expected = announced
        .and_then(|length| usize::try_from(length).ok())
        .unwrap_or_default();
    let mut bytes = Vec::with_capacity(expected);
    while let Some(chunk) = response.chunk().await.map_err(|error| failure::of_request(&error))? {
        if bytes.len() + chunk.len() > limit {
            return Err(Failure::TooLarge);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn content_length(response: &Response) -> Option<u64> {
    header_text(response.headers().get(CONTENT_LENGTH))?.parse().ok()
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = header_text(response.headers().get(RETRY_AFTER))?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn header_text(value: Option<&HeaderValue>) -> Option<&str> {
    value?.to_str().ok()
}

/// Follows a few redirects, never from an encrypted connection to a plain one.
fn follow(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let previous = attempt.previous();
    let encrypted = previous.last().is_some_and(|url| url.scheme() == "https");
    if encrypted && attempt.url().scheme() != "https" {
        return attempt.error("redirect from https to plain http");
    }
    if previous.len() > MAX_REDIRECTS {
        return attempt.error("too many redirects");
    }
    attempt.follow()
}
