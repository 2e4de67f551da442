//! The chart's README: a row for every value, from values.yaml, and none that the schema does not know.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;

use crate::{committed, read};

const README: &str = "charts/livepatch-operator/README.md";
const BEGIN: &str = "<!-- A test writes this table from values.yaml. -->\n";
const END: &str = "<!-- The end of the table. -->\n";

/// A value that a person may set: its path, and the comment above it.
struct Setting {
    path: String,
    comment: String,
}

/// The settings of values.yaml: those with a comment that begins with `# --`.
fn settings(text: &str) -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut path: Vec<(usize, String)> = Vec::new();
    let mut comment = String::new();
    for line in text.lines() {
        let bare = line.trim_start();
        let indent = line.len() - bare.len();
        if let Some(words) = bare.strip_prefix('#') {
            let words = words.trim();
            if let Some(first) = words.strip_prefix("-- ") {
                first.clone_into(&mut comment);
            } else if !comment.is_empty() {
                let _ = write!(comment, " {words}");
            }
            continue;
        }
        let Some((key, _)) = bare.split_once(':').filter(|(key, _)| !key.contains(['-', ' ', '{'])) else {
            continue;
        };
        path.retain(|(depth, _)| *depth < indent);
        path.push((indent, key.to_owned()));
        if !comment.is_empty() {
            let names: Vec<&str> = path.iter().map(|(_, name)| name.as_str()).collect();
            // An example is for those who edit the file.
            let told = comment.split(" Example:").next().unwrap_or_default().to_owned();
            settings.push(Setting {
                path: names.join("."),
                comment: told,
            });
            comment.clear();
        }
    }
    settings
}

fn default<'a>(values: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(values, |at, key| &at[key])
}

#[test]
fn the_readme_has_a_row_for_every_value() {
    let text = read("charts/livepatch-operator/values.yaml");
    let values: Value = serde_saphyr::from_str(&text).unwrap();
    let mut table = String::from("| value | default | |\n|---|---|---|\n");
    for Setting { path, comment } in settings(&text) {
        let _ = writeln!(table, "| `{path}` | `{}` | {comment} |", default(&values, &path));
    }
    let page = read(README);
    let (head, rest) = page.split_once(BEGIN).unwrap();
    let (_, tail) = rest.split_once(END).unwrap();
    committed(README, &format!("{head}{BEGIN}{table}{END}{tail}"));
}

#[test]
fn values_and_their_schema_know_the_same() {
    let text = read("charts/livepatch-operator/values.yaml");
    let told: BTreeSet<String> = settings(&text).into_iter().map(|setting| setting.path).collect();
    let schema: Value = serde_json::from_str(&read("charts/livepatch-operator/values.schema.json")).unwrap();
    let mut known = BTreeSet::new();
    leaves(&schema, &schema, "", &mut known);
    // Helm's own, which a chart has to take.
    known.remove("global");
    assert_eq!(told, known);
}

/// The paths of the schema's properties that have no properties of their own; such as have a comment of their own stand
/// for what is below.
fn leaves(root: &Value, schema: &Value, path: &str, into: &mut BTreeSet<String>) {
    let schema = match schema["$ref"].as_str() {
        Some(reference) => root.pointer(reference.trim_start_matches('#')).unwrap(),
        None => schema,
    };
    // Kubernetes' own structures are one value.
    let whole = ["resources", "seLinuxOptions"].iter().any(|name| path.ends_with(name));
    match schema["properties"].as_object().filter(|_| !whole) {
        None => {
            into.insert(path.to_owned());
        }
        Some(properties) => {
            for (name, schema) in properties {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                leaves(root, schema, &path, into);
            }
        }
    }
}
