//! The alert rules by Prometheus' own tool, and what rules and dashboard ask for by what the programs tell.

use std::collections::BTreeSet;
use std::process::Command;

use livepatch_rig::components;
use livepatch_rig::progress::output;
use serde_json::Value;

use crate::metrics::families;
use crate::{read, workspace};

const RULES: &str = "charts/livepatch-operator/files/alerts.yaml";
const STORIES: &str = "tests/api/tests/watching/alerts_test.yaml";
const DASHBOARD: &str = "charts/livepatch-operator/files/dashboard.json";

/// All alerts, as they are in the rules.
pub fn alerts() -> Vec<Value> {
    let rules: Value = serde_saphyr::from_str(&read(RULES)).unwrap();
    let groups = rules["groups"].as_array().unwrap().iter();
    groups
        .flat_map(|group| group["rules"].as_array().unwrap().clone())
        .collect()
}

fn name(alert: &Value) -> &str {
    alert["alert"].as_str().unwrap()
}

#[test]
fn every_alert_fires_when_it_must_and_not_before() {
    let promtool = components::promtool().unwrap();
    output(
        Command::new(&promtool)
            .args(["check", "rules", "--lint=all", "--lint-fatal"])
            .arg(workspace(RULES)),
    )
    .unwrap();
    let told = output(Command::new(&promtool).args(["test", "rules"]).arg(workspace(STORIES))).unwrap();
    assert!(told.contains("SUCCESS"), "{told}");
    let stories = read(STORIES);
    for alert in alerts() {
        assert!(stories.contains(name(&alert)), "no story has {}", name(&alert));
    }
}

#[test]
fn every_alert_says_how_bad_it_is_and_where_to_read_on() {
    for alert in alerts() {
        let name = name(&alert);
        let severity = alert["labels"]["severity"].as_str().unwrap();
        assert!(
            ["critical", "warning", "info"].contains(&severity),
            "{name}: {severity}"
        );
        for annotation in ["summary", "description"] {
            assert!(!alert["annotations"][annotation].as_str().unwrap().is_empty(), "{name}");
        }
        let section = format!("docs/runbook.md#{}", name.to_lowercase());
        assert_eq!(alert["annotations"]["runbook"], section, "{name}");
    }
}

#[test]
fn rules_and_dashboard_ask_for_metrics_that_there_are() {
    let told = told();
    let mut asked: BTreeSet<String> = alerts()
        .iter()
        .flat_map(|alert| asked_in(alert["expr"].as_str().unwrap()))
        .collect();
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    for panel in panels {
        for target in panel["targets"].as_array().unwrap() {
            let asks = asked_in(target["expr"].as_str().unwrap());
            assert!(!asks.is_empty(), "{}", panel["title"]);
            asked.extend(asks);
        }
    }
    let unknown: Vec<&String> = asked.difference(&told).collect();
    assert!(unknown.is_empty(), "nothing tells {unknown:?}");
    // And the other way round: what nobody looks at need not be told.
    for family in families() {
        let looked_at = asked.iter().any(|series| series.starts_with(&family.name));
        assert!(looked_at, "neither an alert nor the dashboard has {}", family.name);
    }
}

/// The names of all series that the programs tell.
fn told() -> BTreeSet<String> {
    families()
        .iter()
        .flat_map(|family| {
            let suffixes: &[&str] = match family.kind.as_str() {
                "counter" => &["_total"],
                "histogram" => &["_bucket", "_count", "_sum"],
                "info" => &["_info"],
                _ => &[""],
            };
            suffixes.iter().map(|suffix| format!("{}{suffix}", family.name))
        })
        .collect()
}

/// The series of this project that an expression names.
fn asked_in(expression: &str) -> Vec<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = expression.split(|c| !is_name(c));
    words
        .filter(|word| word.starts_with("livepatch_"))
        .map(str::to_owned)
        .collect()
}
