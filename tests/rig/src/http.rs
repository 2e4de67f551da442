//! A blocking HTTP client for readiness checks and for pushing images.
//!
//! Does IO.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rustls::crypto::ring;
pub use ureq::http::Method;
use ureq::http::{HeaderMap, Request};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// The largest answer that is read.
const MAX_ANSWER: u64 = 64 << 20;

/// A client that trusts one authority or none.
#[derive(Debug, Clone)]
pub struct Client {
    agent: ureq::Agent,
    authorization: Option<String>,
}

/// An answer of any status.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status, such as 200.
    pub status: u16,
    /// The headers.
    headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// A header, if it is there and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Client {
    /// `authority` is the PEM certificate that servers are checked against.
    pub fn new(authority: Option<&str>, timeout: Duration) -> Result<Self> {
        let trusted = match authority {
            Some(pem) => vec![Certificate::from_pem(pem.as_bytes()).context("read an authority's certificate")?],
            None => Vec::new(),
        };
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
            .root_certs(RootCerts::new_with_certs(&trusted));
        let config = ureq::Agent::config_builder()
            .tls_config(tls.build())
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            // What the rig talks to is on this machine.
            .proxy(None)
            .build();
        Ok(Self {
            agent: config.into(),
            authorization: None,
        })
    }

    /// The same client, telling a user and a password with every request.
    #[must_use]
    pub fn with_password(mut self, user: &str, password: &str) -> Self {
        let pair = crate::base64::encode(format!("{user}:{password}").as_bytes());
        self.authorization = Some(format!("Basic {pair}"));
        self
    }

    /// The same client, telling a bearer token with every request.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Self {
        self.authorization = Some(format!("Bearer {token}"));
        self
    }

    /// GET.
    pub fn get(&self, url: &str) -> Result<Answer> {
        self.send(Method::GET, url, "", &[])
    }

    /// A request with a body of a media type, none if empty.
    pub fn send(&self, method: Method, url: &str, media_type: &str, body: &[u8]) -> Result<Answer> {
        let what = format!("{method} {url}");
        // A registry takes a client that does not name the media types of OCI for one that cannot read them.
        let accepted = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, */*";
        let mut request = Request::builder().method(method).uri(url).header("Accept", accepted);
        if !media_type.is_empty() {
            request = request.header("Content-Type", media_type);
        }
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        let request = request.body(body).with_context(|| what.clone())?;
        let mut answer = self.agent.run(request).with_context(|| what.clone())?;
        let headers = answer.headers().clone();
        let body = answer
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER)
            .read_to_vec()
            .with_context(|| what)?;
        Ok(Answer {
            status: answer.status().as_u16(),
            headers,
            body,
        })
    }
}
