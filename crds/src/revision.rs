//! The identity of what a set asks for: the hash of its template and of nothing else.

use crate::set::Template;
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// Length of a revision, in characters.
pub const REVISION_LENGTH: usize = 10;

/// The revision of a template: ten hexadecimal digits of the SHA-256 of its canonical JSON.
///
/// Waves, budgets and selectors are not part of it: changing how a livepatch is rolled out is no new livepatch.
pub fn revision(template: &Template) -> String {
    // Struct fields serialise in the order of their declaration and the type holds no map: the text is canonical.
    let canonical = serde_json::to_vec(template).unwrap_or_default();
    Sha256::digest(canonical)
        .iter()
        .take(REVISION_LENGTH.div_ceil(2))
        .fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

/// The name of the rollout of `revision` of the set `set`.
pub fn rollout_name(set: &str, revision: &str) -> String {
    format!("{set}-{revision}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::set::{OciSource, Source};

    fn template(reference: &str) -> Template {
        Template {
            source: Source {
                oci: OciSource {
                    reference: reference.to_owned(),
                },
            },
            off_band: None,
            cumulative: None,
        }
    }

    #[test]
    fn the_revision_of_a_known_template_never_changes() {
        let reference = format!("registry.example.com/a@sha256:{}", "0".repeat(64));
        assert_eq!(revision(&template(&reference)), "089f8b6c9d");
    }

    #[test]
    fn another_digest_is_another_revision() {
        assert_ne!(revision(&template("r/a@sha256:0")), revision(&template("r/a@sha256:1")));
    }
}
