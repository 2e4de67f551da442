//! A value that may be out of sight. No IO.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Something read from the kernel, or the reason why it could not be read.
///
/// Unknown is a value of its own and never stands for "fine": whoever needs the answer has to say what follows from
/// not having it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Seen<T> {
    /// The kernel said so.
    Known(T),
    /// It could not be seen from here; the text says why, in a few words.
    Unknown(String),
}

impl<T> Seen<T> {
    /// The value, if it is known.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unknown(_) => None,
        }
    }

    /// Whether the value is known and equal to `other`.
    pub fn is(&self, other: &T) -> bool
    where
        T: PartialEq,
    {
        self.known() == Some(other)
    }

    /// The value, or `None`, by value.
    pub fn into_known(self) -> Option<T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unknown(_) => None,
        }
    }

    /// An unknown value with its reason.
    pub fn unknown(why: impl Into<String>) -> Self {
        Self::Unknown(why.into())
    }
}

impl<T: fmt::Display> fmt::Display for Seen<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(value) => value.fmt(f),
            Self::Unknown(why) => write!(f, "unknown ({why})"),
        }
    }
}
