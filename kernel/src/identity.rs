//! Which kernel this is, and which boot of it. No IO.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A GNU build id: 4 to 32 bytes, written as lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BuildId(String);

/// A text that is not a build id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("not a build id: expected 8 to 64 lower-case hexadecimal digits, an even number of them")]
pub struct InvalidBuildId;

impl BuildId {
    /// The build id of these bytes, if there are 4 to 32 of them.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidBuildId> {
        use fmt::Write as _;
        if !(4..=32).contains(&bytes.len()) {
            return Err(InvalidBuildId);
        }
        let mut text = String::with_capacity(bytes.len() * 2);
        for byte in bytes {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        Ok(Self(text))
    }

    /// The hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for BuildId {
    type Error = InvalidBuildId;

    fn try_from(text: String) -> Result<Self, InvalidBuildId> {
        let digits = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if digits && (8..=64).contains(&text.len()) && text.len().is_multiple_of(2) {
            Ok(Self(text))
        } else {
            Err(InvalidBuildId)
        }
    }
}

impl std::str::FromStr for BuildId {
    type Err = InvalidBuildId;

    fn from_str(text: &str) -> Result<Self, InvalidBuildId> {
        Self::try_from(text.to_owned())
    }
}

impl From<BuildId> for String {
    fn from(id: BuildId) -> Self {
        id.0
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `/proc/sys/kernel/random/boot_id`: one per boot, the same in every container of the host.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootId(pub String);

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The running kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// `uname -r`.
    pub release: String,
    /// `uname -v`: build number and date, which tell two builds of one release apart for people.
    pub version: String,
    /// `uname -m`, e.g. `x86_64`, `aarch64`.
    pub architecture: String,
    /// The GNU build id of vmlinux from `/sys/kernel/notes`, or `None` if the kernel was linked without one.
    pub build_id: Option<BuildId>,
}
