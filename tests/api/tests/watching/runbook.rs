//! docs/runbook.md: a section for each alert, a row for each reason code in the source, and none for what is not there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::alerts::alerts;
use crate::{read, workspace};

const RUNBOOK: &str = "docs/runbook.md";
/// Crates whose codes reach people through the cluster.
const CRATES: [&str; 7] = [
    "operator",
    "node-agent",
    "kernel",
    "artifact",
    "planner",
    "module",
    "crds",
];
/// Folders and files with words that look like codes. What the host commands say they explain themselves.
const OTHER_FILES: [&str; 8] = [
    "node-agent/src/cli",
    "artifact/src/fixture",
    "kernel/src/fake",
    "module/src/sections.rs",
    "crds/src/selector.rs",
    "crds/src/conditions.rs",
    "crds/src/tolerance.rs",
    "planner/src/node/plan.rs",
];
/// Enums with names for other things than reasons.
const OTHER_ENUMS: [&str; 5] = ["Architecture", "ReplaceValue", "Format", "Callback", "Compression"];
/// What stands before a reason in the source.
const BEFORE: [&str; 13] = [
    "{",
    "&str =",
    "=>",
    "Failure::new(",
    "Refusal::new(",
    "reason:",
    "reason =",
    "refused(",
    "held_up(",
    "say(true,",
    "say(false,",
    "Weight::Uncertain,",
    "Weight::Notice,",
];
/// Said by metrics instead of a reason too many; of a way back; the value of a condition; states of modules; names of types.
const NOT_CODES: [&str; 8] = [
    "Other",
    "Possible",
    "True",
    "False",
    "Live",
    "IntOrPercent",
    "LivepatchRollout",
    "LivepatchSet",
];

/// The codes of the source, each with the files it is in.
fn codes() -> BTreeMap<String, BTreeSet<String>> {
    let mut codes: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for name in CRATES {
        let folder = workspace(&format!("{name}/src"));
        walk(&folder, &mut |path, text| {
            let shown = format!("{name}/src/{}", path.strip_prefix(&folder).unwrap().display());
            if OTHER_FILES.iter().any(|other| shown.starts_with(other)) || shown.ends_with("tests.rs") {
                return;
            }
            let text = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            for code in literals(text).into_iter().chain(variants(text)) {
                codes.entry(code).or_default().insert(shown.clone());
            }
        });
    }
    codes.retain(|code, _| !NOT_CODES.contains(&code.as_str()));
    codes
}

fn walk(folder: &Path, with: &mut impl FnMut(&Path, &str)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, with);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            with(&path, &fs::read_to_string(&path).unwrap());
        }
    }
}

/// Literals of the form of a code that stand where reasons do.
fn literals(text: &str) -> Vec<String> {
    let mut codes = Vec::new();
    for (start, _) in text.match_indices('"') {
        let rest = &text[start + 1..];
        let Some(end) = rest.find('"') else { continue };
        let word = &rest[..end];
        let is_code = word.len() > 1
            && word.starts_with(|c: char| c.is_ascii_uppercase())
            && word.contains(|c: char| c.is_ascii_lowercase())
            && word.chars().all(|c| c.is_ascii_alphanumeric());
        let before = text[..start].trim_end();
        if is_code && BEFORE.iter().any(|context| before.ends_with(context)) {
            codes.push(word.to_owned());
        }
    }
    codes
}

/// Variants of enums whose names are codes.
fn variants(text: &str) -> Vec<String> {
    let mut codes = Vec::new();
    for part in text.split("#[derive(").skip(1) {
        let Some((derived, rest)) = part.split_once(")]") else {
            continue;
        };
        let Some((_, rest)) = rest.split_once("pub enum ") else {
            continue;
        };
        let Some((name, body)) = rest.split_once(" {\n") else {
            continue;
        };
        if !derived.contains("IntoStaticStr") || OTHER_ENUMS.contains(&name) {
            continue;
        }
        let body = body.split("\n}").next().unwrap_or_default();
        let lines = body.lines().filter_map(|line| line.strip_prefix("    "));
        let names = lines.filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()));
        codes.extend(names.map(|line| {
            line.split(|c: char| !c.is_ascii_alphanumeric())
                .next()
                .unwrap_or_default()
                .to_owned()
        }));
    }
    codes
}

/// The first cells of the runbook's tables.
fn rows() -> Vec<String> {
    let page = read(RUNBOOK);
    let rows = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    rows.map(|(code, _)| code.to_owned()).collect()
}

#[test]
fn every_reason_code_has_a_row_and_every_row_a_code() {
    let (codes, rows) = (codes(), rows());
    assert!(codes.len() > 150, "the search for codes has gone blind: {codes:?}");
    let told: BTreeSet<&str> = rows.iter().map(String::as_str).collect();
    let missing: Vec<_> = codes.iter().filter(|(code, _)| !told.contains(code.as_str())).collect();
    assert!(missing.is_empty(), "{RUNBOOK} lacks {missing:#?}");
    let stale: Vec<_> = told.iter().filter(|code| !codes.contains_key(**code)).collect();
    assert!(stale.is_empty(), "{RUNBOOK} has {stale:?}, which no source says");
    assert_eq!(told.len(), rows.len(), "a code has two rows");
}

#[test]
fn every_alert_has_a_section_that_says_where_to_look_and_what_to_do() {
    let page = read(RUNBOOK);
    let mut sections: BTreeMap<&str, &str> = BTreeMap::new();
    let alerts_part = page.split("\n## ").find(|part| part.starts_with("Alerts\n")).unwrap();
    for section in alerts_part.split("\n### ").skip(1) {
        let (title, text) = section.split_once('\n').unwrap();
        sections.insert(title, text);
    }
    let alerts = alerts();
    let names: BTreeSet<&str> = alerts.iter().map(|alert| alert["alert"].as_str().unwrap()).collect();
    assert_eq!(names, sections.keys().copied().collect());
    for (name, text) in sections {
        assert!(text.contains("- Look: ") && text.contains("- Do: "), "{name}");
    }
}
