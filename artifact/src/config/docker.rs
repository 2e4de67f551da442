//! Docker's `config.json`: the credentials in `auths`. No IO, and no credential helper is ever run: neither the
//! operator nor an agent has programs beside itself.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use super::ConfigError;

const WHAT: &str = "config.json";
/// Some writers leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Credentials per registry, and where only a credential helper has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DockerConfig {
    /// By registry host and, optionally, the beginning of a path; without scheme.
    auths: BTreeMap<String, Credentials>,
    /// Helper programs by registry host; empty host is the default one.
    helpers: BTreeMap<String, String>,
}

/// What is shown to a registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A user and a password or access token.
    Basic {
        /// The user.
        username: String,
        /// The password.
        password: String,
    },
    /// An OAuth 2 refresh token.
    IdentityToken(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Basic { username, .. } => write!(f, "Basic({username})"),
            Self::IdentityToken(_) => f.write_str("IdentityToken"),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
    #[serde(default)]
    creds_store: Option<String>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
struct Auth {
    #[serde(default, rename = "auth")]
    encoded: Option<String>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<String>,
    #[serde(default)]
    identitytoken: Option<String>,
}

impl DockerConfig {
    /// Reads the text of a `config.json`.
    ///
    /// # Errors
    /// [`ConfigError::Malformed`], which tells the place and not the content.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let file: File = serde_json::from_str(text).map_err(|error| {
            // serde_json repeats the offending value, which may be a password.
            malformed(format!("line {}, column {}", error.line(), error.column()))
        })?;
        let mut auths = BTreeMap::new();
        for (key, auth) in file.auths {
            let key = normalize(&key);
            if let Some(credentials) = auth
                .credentials()
                .map_err(|why| malformed(format!("auths.{key}: {why}")))?
            {
                auths.insert(key, credentials);
            }
        }
        let mut helpers: BTreeMap<String, String> = file
            .cred_helpers
            .into_iter()
            .map(|(key, helper)| (normalize(&key), helper))
            .collect();
        helpers.extend(file.creds_store.map(|helper| (String::new(), helper)));
        Ok(Self { auths, helpers })
    }

    /// A configuration with credentials for one registry.
    #[must_use]
    pub fn with(mut self, registry: &str, credentials: Credentials) -> Self {
        self.auths.insert(normalize(registry), credentials);
        self
    }

    /// The credentials for a repository: those of the longest key that is its registry, or its registry and the
    /// beginning of its path.
    pub fn credentials(&self, registry: &str, path: &str) -> Option<&Credentials> {
        let registry = normalize(registry);
        let mut key = format!("{registry}/{path}");
        loop {
            if let Some(credentials) = self.auths.get(&key) {
                return Some(credentials);
            }
            key.truncate(key.rfind('/')?);
        }
    }

    /// The credential helper that docker would ask for this registry.
    pub fn helper(&self, registry: &str) -> Option<&str> {
        let helper = self.helpers.get(&normalize(registry)).or_else(|| self.helpers.get(""));
        helper.map(String::as_str)
    }
}

impl Auth {
    fn credentials(self) -> Result<Option<Credentials>, &'static str> {
        if let Some(token) = self.identitytoken.filter(|token| !token.is_empty()) {
            return Ok(Some(Credentials::IdentityToken(token)));
        }
        if let Some(encoded) = self.encoded.filter(|encoded| !encoded.is_empty()) {
            let decoded = BASE64.decode(encoded.trim()).map_err(|_| "auth is not base64")?;
            let decoded = String::from_utf8(decoded).map_err(|_| "auth is not UTF-8")?;
            let (username, password) = decoded.split_once(':').ok_or("auth is not user:password")?;
            return Ok(Some(Credentials::Basic {
                username: username.to_owned(),
                // As docker does: its first writers padded the password with zeros.
                password: password.trim_end_matches('\0').to_owned(),
            }));
        }
        Ok(self
            .username
            .filter(|name| !name.is_empty())
            .map(|username| Credentials::Basic {
                username,
                password: self.password.unwrap_or_default(),
            }))
    }
}

fn malformed(why: String) -> ConfigError {
    ConfigError::Malformed { what: WHAT, why }
}

/// A key of `auths` without scheme, API version and trailing slash, docker's own registry by its short name.
fn normalize(key: &str) -> String {
    let bare = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    let bare = bare.trim_end_matches('/');
    let bare = bare
        .strip_suffix("/v1")
        .or_else(|| bare.strip_suffix("/v2"))
        .unwrap_or(bare);
    let (host, path) = bare.split_at(bare.find('/').unwrap_or(bare.len()));
    let host = match host.to_ascii_lowercase().as_str() {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        other => other.to_owned(),
    };
    host + path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(username: &str, password: &str) -> Credentials {
        Credentials::Basic {
            username: username.to_owned(),
            password: password.to_owned(),
        }
    }

    const CONFIG: &str = r#"{
        "auths": {
            "registry.example.com": {"auth": "dXNlcjpwYXNzOndvcmQ="},
            "https://registry.example.com/v1/": {},
            "registry.example.com/team": {"username": "team", "password": "secret"},
            "https://index.docker.io/v1/": {"auth": "ZG9ja2VyOmh1Yg"},
            "token.example.com:5000": {"identitytoken": "refresh", "auth": "PDxub3QgYmFzZTY0"},
            "helped.example.com": {}
        },
        "credsStore": "desktop", "credHelpers": {"ecr.example.com": "ecr-login"}, "HttpHeaders": {"a": "b"}
    }"#;

    #[test]
    fn credentials_are_found_by_host_and_longest_path() {
        let config = DockerConfig::parse(CONFIG).unwrap();
        let of = |registry: &str, path: &str| config.credentials(registry, path).cloned();
        assert_eq!(of("registry.example.com", "a/b"), Some(basic("user", "pass:word")));
        assert_eq!(of("registry.example.com", "team/b"), Some(basic("team", "secret")));
        assert_eq!(of("registry.example.com", "team2"), Some(basic("user", "pass:word")));
        assert_eq!(of("docker.io", "library/a"), Some(basic("docker", "hub")));
        assert_eq!(of("registry-1.docker.io", "library/a"), Some(basic("docker", "hub")));
        assert_eq!(
            of("token.example.com:5000", "a"),
            Some(Credentials::IdentityToken("refresh".to_owned()))
        );
        for other in [
            "token.example.com",
            "example.com",
            "registry.example.com.evil.com",
            "helped.example.com",
        ] {
            assert_eq!(of(other, "a"), None, "{other}");
        }
        assert_eq!(config.helper("helped.example.com"), Some("desktop"));
        assert_eq!(config.helper("ecr.example.com"), Some("ecr-login"));
        assert_eq!(DockerConfig::default().helper("r.io"), None);
    }

    #[test]
    fn an_error_never_tells_a_secret() {
        for text in [
            r#"{"auths": "hunter2"}"#,
            r#"{"auths": {"r.io": {"auth": "!hunter2"}}}"#,
            r#"{"auths": {"r.io": {"auth": "aHVudGVyMg=="}}}"#,
            r#"{"auths": {"r.io": {"password": 7, "username": "hunter2"}}}"#,
        ] {
            let error = DockerConfig::parse(text).unwrap_err().to_string();
            assert!(!error.contains("hunter2") && error.contains("config.json"), "{error}");
        }
        let shown = format!("{:?}", basic("user", "hunter2"));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
