//! `docs/kernel-evidence.md` names tests and reason codes: whether they exist, and none is missing. Reads files.

use std::fs;
use std::path::Path;

use livepatch_kernel::RefusalReason;
use strum::IntoEnumIterator as _;

const DOCUMENT: &str = include_str!("../../../docs/kernel-evidence.md");

fn sources(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text.push_str(&sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(path).unwrap());
        }
    }
    text
}

/// Cells of a table row.
fn cells(line: &str) -> Vec<&str> {
    line.trim_matches('|').split('|').map(str::trim).collect()
}

#[test]
fn every_test_that_is_named_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = sources(root) + &sources(&root.join("../../module/tests"));
    let mut named = 0;
    for line in DOCUMENT.lines().filter(|line| line.starts_with("| ")) {
        let last = *cells(line).last().unwrap();
        // Every second piece between backticks is a name.
        for name in last.split('`').skip(1).step_by(2) {
            assert!(sources.contains(&format!("fn {name}(")), "no test {name}");
            named += 1;
        }
    }
    assert!(named > 80, "{named}");
}

#[test]
fn every_reason_code_is_listed() {
    let listed: Vec<&str> = DOCUMENT
        .lines()
        .filter_map(|line| cells(line).get(2).copied())
        .collect();
    for reason in RefusalReason::iter() {
        let code: &'static str = reason.into();
        assert!(listed.contains(&code), "{code} is not in the table");
    }
}
