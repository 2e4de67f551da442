//! Writes an artefact to a registry. Does IO.

use reqwest::header::{CONTENT_TYPE, LOCATION};
use reqwest::{Response, StatusCode, Url};
use strum::IntoStaticStr;

use crate::assemble::{Assembled, Content};
use crate::config::{ConfigError, Place, RegistryConfig};
use crate::digest::Digest;
use crate::format::{INDEX_MEDIA_TYPE, MANIFEST_MEDIA_TYPE};
use crate::http::{self, Action, Client, DOCUMENT_TIMEOUT, Failure, MODULE_TIMEOUT};
use crate::reference::{PushTarget, Reference, Repository};

/// Header in which a registry says under which digest it stored a manifest.
const CONTENT_DIGEST: &str = "docker-content-digest";

/// Why an artefact was not pushed. What was pushed before stays in the registry, unreferenced.
#[derive(Debug, thiserror::Error, IntoStaticStr)]
#[non_exhaustive]
pub enum PushError {
    /// The registry wants other credentials.
    #[error("registry refuses to be written to at {repository}: {message}")]
    Unauthorized {
        /// The repository.
        repository: Repository,
        /// The registry's own words and which credentials were used; bounded and printable.
        message: String,
    },
    /// The registry did not answer, or not with what it should.
    #[error("push of {what} to {repository} failed: {message}")]
    RegistryUnavailable {
        /// The repository.
        repository: Repository,
        /// What was being pushed.
        what: String,
        /// What was seen; bounded and printable.
        message: String,
    },
    /// The registry stored something else.
    #[error("registry stored {what} in {repository} as {actual} instead of {expected}")]
    DigestMismatch {
        /// The repository.
        repository: Repository,
        /// What was being pushed.
        what: String,
        /// Its digest.
        expected: Digest,
        /// What the registry says.
        actual: String,
    },
    /// The registry configuration cannot be used.
    #[error("registry configuration cannot be used")]
    RegistryConfigInvalid {
        /// What is wrong with it.
        #[from]
        source: ConfigError,
    },
}

impl PushError {
    /// Stable reason code.
    pub fn reason(&self) -> &'static str {
        self.into()
    }
}

/// What has been done, for whoever waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushStep<'a> {
    /// A blob was sent.
    Uploaded {
        /// What it is.
        what: &'a str,
        /// Its size.
        bytes: usize,
    },
    /// The registry had a blob already.
    Present {
        /// What it is.
        what: &'a str,
        /// Its size.
        bytes: usize,
    },
    /// A manifest was stored.
    Stored {
        /// What it is.
        what: &'a str,
    },
}

/// Pushes blobs, then manifests, then the index, so that what a registry shows is complete; `progress` is called after
/// each. Mirrors of the configuration are not used.
///
/// # Errors
/// See [`PushError`].
pub async fn push(
    config: &RegistryConfig,
    target: &PushTarget,
    artefact: &Assembled,
    progress: &mut (dyn FnMut(PushStep<'_>) + Send),
) -> Result<Reference, PushError> {
    let push = Push {
        client: Client::new(config)?,
        place: config.origin(&target.repository),
        repository: &target.repository,
    };
    for module in &artefact.modules {
        let name = format!("{} for {}", module.name, module.kernel_release);
        push.blob(&name, &module.layer, progress).await?;
        push.blob(&format!("description of {name}"), &module.config, progress)
            .await?;
        let what = format!("manifest of {name}");
        push.manifest(&what, MANIFEST_MEDIA_TYPE, None, &module.manifest, progress)
            .await?;
    }
    push.manifest(
        "index",
        INDEX_MEDIA_TYPE,
        target.tag.as_deref(),
        &artefact.index,
        progress,
    )
    .await?;
    Ok(target.repository.at(artefact.index.digest.clone()))
}

struct Push<'a> {
    client: Client,
    place: Place,
    repository: &'a Repository,
}

impl Push<'_> {
    async fn blob(
        &self,
        what: &str,
        content: &Content,
        progress: &mut (dyn FnMut(PushStep<'_>) + Send),
    ) -> Result<(), PushError> {
        let bytes = content.bytes.len();
        if self.has(content).await.map_err(|failure| self.error(what, failure))? {
            progress(PushStep::Present { what, bytes });
            return Ok(());
        }
        http::repeat(|| self.upload(content))
            .await
            .map_err(|failure| self.error(what, failure))?;
        progress(PushStep::Uploaded { what, bytes });
        Ok(())
    }

    async fn has(&self, content: &Content) -> Result<bool, Failure> {
        let url = format!("{}/blobs/{}", self.place.base_url(), content.digest);
        let build = |http: &reqwest::Client| http.head(&url).timeout(DOCUMENT_TIMEOUT);
        let accept = [StatusCode::OK, StatusCode::NOT_FOUND];
        let response = http::repeat(|| self.client.send(&self.place, Action::Push, &accept, &build)).await?;
        Ok(response.status() == StatusCode::OK)
    }

    /// Opens an upload and sends the blob in one piece.
    async fn upload(&self, content: &Content) -> Result<(), Failure> {
        let base = format!("{}/blobs/uploads/", self.place.base_url());
        let build = |http: &reqwest::Client| http.post(&base).body("").timeout(DOCUMENT_TIMEOUT);
        let opened = self
            .client
            .send(&self.place, Action::Push, &[StatusCode::ACCEPTED], &build)
            .await?;
        let url = upload_url(&self.place, &base, &opened, &content.digest)?;
        let build = |http: &reqwest::Client| {
            http.put(url.clone())
                .header(CONTENT_TYPE, "application/octet-stream")
                .body(content.bytes.clone())
                .timeout(MODULE_TIMEOUT)
        };
        let accept = [StatusCode::CREATED, StatusCode::NO_CONTENT];
        self.client
            .send(&self.place, Action::Push, &accept, &build)
            .await
            .map(drop)
    }

    async fn manifest(
        &self,
        what: &str,
        media_type: &str,
        tag: Option<&str>,
        content: &Content,
        progress: &mut (dyn FnMut(PushStep<'_>) + Send),
    ) -> Result<(), PushError> {
        let name = tag.unwrap_or(content.digest.as_str());
        let url = format!("{}/manifests/{name}", self.place.base_url());
        let build = |http: &reqwest::Client| {
            http.put(&url)
                .header(CONTENT_TYPE, media_type)
                .body(content.bytes.clone())
                .timeout(DOCUMENT_TIMEOUT)
        };
        let send = || {
            self.client
                .send(&self.place, Action::Push, &[StatusCode::CREATED], &build)
        };
        let stored = http::repeat(send).await.map_err(|failure| self.error(what, failure))?;
        let digest = stored
            .headers()
            .get(CONTENT_DIGEST)
            .and_then(|value| value.to_str().ok());
        if let Some(actual) = digest.filter(|actual| *actual != content.digest.as_str()) {
            return Err(PushError::DigestMismatch {
                repository: self.repository.clone(),
                what: what.to_owned(),
                expected: content.digest.clone(),
                actual: crate::untrusted::line(actual),
            });
        }
        progress(PushStep::Stored { what });
        Ok(())
    }

    fn error(&self, what: &str, failure: Failure) -> PushError {
        let repository = self.repository.clone();
        match failure {
            Failure::Unauthorized(message) => PushError::Unauthorized { repository, message },
            Failure::NotFound(message) | Failure::Unavailable { message, .. } => PushError::RegistryUnavailable {
                repository,
                what: what.to_owned(),
                message,
            },
            Failure::TooLarge => PushError::RegistryUnavailable {
                repository,
                what: what.to_owned(),
                message: "the answer is larger than any such answer".to_owned(),
            },
        }
    }
}

/// Where the registry wants the blob. It must be a place to which the credentials may go.
fn upload_url(place: &Place, base: &str, opened: &Response, digest: &Digest) -> Result<Url, Failure> {
    let location = opened.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let location = location.ok_or_else(|| Failure::nonsense("the registry does not say where to upload"))?;
    joined(place, base, location, digest)
}

fn joined(place: &Place, base: &str, location: &str, digest: &Digest) -> Result<Url, Failure> {
    let base: Url = base.parse().map_err(|_| Failure::nonsense("the registry has no URL"))?;
    let mut url = base
        .join(location)
        .map_err(|_| Failure::nonsense("the registry names an upload that is no URL"))?;
    if url.origin() != base.origin() {
        return Err(Failure::nonsense(&format!(
            "{} wants the upload at {}, another origin; a registry behind a proxy must know its own address",
            place.registry,
            url.origin().ascii_serialization()
        )));
    }
    url.query_pairs_mut().append_pair("digest", digest.as_str());
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_stays_with_its_registry() {
        let place = Place {
            plain_http: false,
            registry: "r.io".to_owned(),
            path: "a".to_owned(),
        };
        let base = "https://r.io/v2/a/blobs/uploads/";
        let url = |location| joined(&place, base, location, &Digest::of(b"")).map(String::from);
        let query = format!("digest=sha256%3A{}", Digest::of(b"").hex());
        assert_eq!(
            url("/v2/a/u/1?state=x").unwrap(),
            format!("https://r.io/v2/a/u/1?state=x&{query}")
        );
        assert_eq!(url("https://r.io/u/1").unwrap(), format!("https://r.io/u/1?{query}"));
        for elsewhere in [
            "http://r.io/u/1",
            "https://evil.io/u/1",
            "//evil.io/u",
            "https://r.io:444/u",
        ] {
            assert!(url(elsewhere).is_err(), "{elsewhere}");
        }
    }
}
