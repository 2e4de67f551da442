//! Values that several commands take. No IO.

use std::fmt;
use std::str::FromStr;

use clap::{Args, ValueEnum};

/// Name of a `LivepatchSet`, as typed: `name`, `lps/name` or `livepatchset/name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetName(String);

impl SetName {
    /// The bare name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SetName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const KINDS: [&str; 5] = [
            "lps",
            "livepatchset",
            "livepatchsets",
            "livepatchset.livepatch.dev",
            "livepatchsets.livepatch.dev",
        ];
        let name = match text.split_once('/') {
            Some((kind, name)) if KINDS.contains(&kind) => name,
            Some(_) => return Err("only a LivepatchSet can be named here, as NAME or lps/NAME"),
            None => text,
        };
        is_object_name(name)
            .then(|| Self(name.to_owned()))
            .ok_or("the name of a LivepatchSet has lower-case letters, digits, - and . only")
    }
}

/// Name of a node, as typed: `name` or `node/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeName(String);

impl NodeName {
    /// The bare name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for NodeName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const KINDS: [&str; 4] = ["node", "nodes", "no", "nlp"];
        let name = match text.split_once('/') {
            Some((kind, name)) if KINDS.contains(&kind) => name,
            Some(_) => return Err("only a node can be named here, as NAME or node/NAME"),
            None => text,
        };
        is_object_name(name)
            .then(|| Self(name.to_owned()))
            .ok_or("the name of a node has lower-case letters, digits, - and . only")
    }
}

/// A DNS subdomain (RFC 1123), which is what names of objects are: it goes into the path of a request.
fn is_object_name(name: &str) -> bool {
    let is_end = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    bytes.len() <= 253
        && bytes.first().is_some_and(is_end)
        && bytes.last().is_some_and(is_end)
        && bytes.iter().all(|byte| is_end(byte) || matches!(byte, b'-' | b'.'))
}

/// Revision of a set: ten hexadecimal digits, of which the first ones are enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisionPrefix(String);

impl RevisionPrefix {
    /// Whether `revision` is meant.
    pub fn means(&self, revision: &str) -> bool {
        revision.starts_with(&self.0)
    }
}

impl fmt::Display for RevisionPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RevisionPrefix {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_revision = (4..=livepatch_crds::revision::REVISION_LENGTH).contains(&text.len())
            && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        is_revision.then(|| Self(text.to_owned())).ok_or(
            "a revision is ten hexadecimal digits, of which at least four are needed; see kubectl livepatch history",
        )
    }
}

/// How a command that reads prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Text,
    /// For people, with more columns
    Wide,
    /// The objects as JSON
    Json,
    /// The objects as YAML
    Yaml,
    /// The names of the objects
    Name,
}

/// How a command that writes prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WrittenFormat {
    /// The rollout as JSON
    Json,
    /// The rollout as YAML
    Yaml,
    /// The name of the rollout
    Name,
}

/// Colours.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct ColourOptions {
    /// No colour, on a terminal too; the environment variable `NO_COLOR` says the same
    #[arg(long)]
    pub no_color: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_named_as_kubectl_names_objects() {
        for typed in ["nf", "lps/nf", "livepatchset/nf", "livepatchsets.livepatch.dev/nf"] {
            assert_eq!(typed.parse::<SetName>().unwrap().as_str(), "nf");
        }
        for wrong in [
            "",
            "node/nf",
            "lps/",
            "../nodes",
            "nf?x",
            "a/b/c",
            "NF",
            "-a",
            "a-",
            &"a".repeat(254),
        ] {
            assert!(wrong.parse::<SetName>().is_err(), "{wrong}");
        }
        assert_eq!("node/a.b".parse::<NodeName>().unwrap().as_str(), "a.b");
        assert!("lps/a".parse::<NodeName>().is_err());
    }

    #[test]
    fn the_first_digits_of_a_revision_are_enough() {
        let typed: RevisionPrefix = "089f".parse().unwrap();
        assert!(typed.means("089f8b6c9d") && !typed.means("189f8b6c9d"));
        for wrong in ["", "089", "089f8b6c9d0", "089F", "v2"] {
            assert!(wrong.parse::<RevisionPrefix>().is_err(), "{wrong}");
        }
    }
}
