//! `docs/hybrid-evidence.md` names tests: whether each is one of those that run on both kernels. Reads files.

use std::fs;
use std::path::Path;

const DOCUMENT: &str = include_str!("../../../docs/hybrid-evidence.md");

/// The names in the second cells of tables, between backticks.
fn named() -> impl Iterator<Item = &'static str> {
    let rows = DOCUMENT.lines().filter(|line| line.starts_with("| "));
    let cells = rows.filter_map(|line| line.split('|').nth(2));
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2))
}

#[test]
fn every_test_that_is_named_runs_on_both_kernels() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hybrid");
    let sources: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    let mut count = 0;
    for name in named() {
        let declared = format!("fn {name}(");
        let runs = |text: &String| text.contains(&declared) && text.contains("stories! {");
        assert!(sources.iter().any(runs), "no test {name} on both kernels");
        count += 1;
    }
    assert!(count >= 7, "{count}");
}
