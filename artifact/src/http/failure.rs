//! What one place answered when it did not answer what was asked for. Reads bodies of errors, at most a few KiB.

use std::error::Error as _;
use std::time::Duration;

use reqwest::{Response, StatusCode};
use serde::Deserialize;

use super::{body, retry_after};
use crate::untrusted;

/// Most bytes of an error's body that are read.
const MAX_ERROR_BYTES: usize = 16 << 10;

/// Why one place did not give what was asked for. Messages are bounded and printable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It does not have it.
    NotFound(String),
    /// It wants other credentials.
    Unauthorized(String),
    /// It could not be reached, or cannot serve now, or said something that is no answer.
    Unavailable {
        /// What was seen.
        message: String,
        /// Whether the same request may succeed in a moment.
        passing: bool,
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// More bytes than asked for.
    TooLarge,
}

impl Failure {
    /// An answer that makes no sense and will not make sense in a moment.
    pub(crate) fn nonsense(message: &str) -> Self {
        Self::Unavailable {
            message: untrusted::line(message),
            passing: false,
            retry_after: None,
        }
    }
}

/// No answer at all: name, connection, TLS, timeout.
pub(super) fn of_request(error: &reqwest::Error) -> Failure {
    Failure::Unavailable {
        message: chain(error),
        // A certificate or a redirect is not better in a moment.
        passing: !error.is_redirect() && !error.is_builder() && !mentions_certificate(error),
        retry_after: None,
    }
}

/// An answer with a status that was not expected.
pub(super) async fn of_response(response: Response, credentials: &str) -> Failure {
    let status = response.status();
    let retry_after = retry_after(&response);
    let text = match body(response, MAX_ERROR_BYTES).await {
        Ok(bytes) => words(&bytes),
        Err(_) => String::new(),
    };
    let answer = if text.is_empty() {
        status.to_string()
    } else {
        format!("{status}: {text}")
    };
    let message = untrusted::line(&answer);
    match status {
        StatusCode::NOT_FOUND => Failure::NotFound(message),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Failure::Unauthorized(format!("{message} (asked {credentials})"))
        }
        _ => Failure::Unavailable {
            message,
            passing: status.is_server_error()
                || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT),
            retry_after,
        },
    }
}

/// The registry's own words: the OCI error document, or a line of plain text; nothing of a web page.
fn words(bytes: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Document {
        errors: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    if let Ok(document) = serde_json::from_slice::<Document>(bytes) {
        let entries: Vec<String> = document
            .errors
            .iter()
            .take(3)
            .map(|entry| format!("{} {}", entry.code, entry.message))
            .collect();
        return untrusted::line(&entries.join("; "));
    }
    match str::from_utf8(bytes) {
        Ok(text) if !text.trim_start().starts_with(['<', '{', '[']) => untrusted::line(text),
        _ => String::new(),
    }
}

/// The causes of an error. The library's outermost words say that sending failed and repeat the URL; the innermost say
/// why.
pub(super) fn chain(error: &reqwest::Error) -> String {
    let mut told: Vec<String> = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !told.iter().any(|said| said.contains(&words)) {
            told.push(words);
        }
        cause = error.source();
    }
    // "client error (Connect)" in front of what went wrong with the connection.
    if told.len() > 1 && told.first().is_some_and(|words| words.starts_with("client error")) {
        told.remove(0);
    }
    // What rustls says of a server that answers in plain HTTP.
    if told.iter().any(|words| words.contains("InvalidContentType")) {
        told = vec!["the server does not speak TLS; is it a registry for plain HTTP?".to_owned()];
    }
    if error.is_timeout() {
        told.insert(0, "timed out".to_owned());
    }
    if told.is_empty() {
        told.push(error.to_string());
    }
    untrusted::line(&told.join(": "))
}

fn mentions_certificate(error: &reqwest::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.to_string().contains("certificate") {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_quoted_and_a_web_page_is_not() {
        let document = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"x":1}}]}"#;
        assert_eq!(words(document), "MANIFEST_UNKNOWN manifest unknown");
        assert_eq!(words(b"upstream is\r\nasleep"), "upstream is asleep");
        for silent in [&b" <html><body>Sign in</body>"[..], b"{\"a\":1}", b"\xff\xfe", b""] {
            assert_eq!(words(silent), "");
        }
    }
}
