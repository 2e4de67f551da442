//! What the operator writes in a story, second by second: only what differs from what was written before, and of a
//! rollout only what its set does not say as well.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use livepatch_crds::conditions::{READY, find};
use livepatch_crds::node::{Grant, ModuleReference, NodeLivepatchSpec};
use livepatch_planner::fleet::Decision;
use livepatch_planner::fleet::decision::Regarding;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;

/// The fields of an object that was written, each with its path.
type Fields = BTreeMap<String, String>;

#[derive(Default)]
pub struct Transcript {
    text: String,
    began: Option<Timestamp>,
    wakes_at: Option<Timestamp>,
    written: BTreeMap<String, Fields>,
}

impl Transcript {
    /// The whole of it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What is decided at `now`.
    pub fn record(&mut self, decision: &Decision, now: Timestamp) {
        let began = *self.began.get_or_insert(now);
        let mut lines = Vec::new();
        for new in &decision.new_rollouts {
            lines.push(format!("rollout {} is made for set {}", new.name, new.set));
        }
        for name in &decision.expired_rollouts {
            lines.push(format!("rollout {name} expires"));
        }
        for stale in &decision.stale_node_objects {
            lines.push(format!("node {}: object {} is deleted", stale.node, stale.uid));
            self.written.remove(&format!("node {}", stale.node));
        }
        for new in &decision.new_node_objects {
            lines.push(format!("node {}: an object is made", new.node));
            self.differ(&mut lines, format!("node {}", new.node), spec(&new.spec));
        }
        for change in &decision.node_changes {
            lines.push(format!(
                "node {}: written, {} new grants",
                change.node, change.new_grants
            ));
            self.differ(&mut lines, format!("node {}", change.node), spec(&change.spec));
        }
        for (name, status) in &decision.set_statuses {
            let fields = status_fields(status, &status.conditions);
            self.differ(&mut lines, format!("set {name}"), fields);
        }
        for (name, status) in &decision.rollout_statuses {
            lines.push(format!("rollout {name} is written"));
            let fields = status_fields(status, &status.conditions);
            self.differ(&mut lines, format!("rollout {name}"), fields);
        }
        for happening in &decision.happenings {
            let kind = if happening.warning { "Warning" } else { "Normal" };
            let on = match &happening.regarding {
                Regarding::Set(name) => format!("set {name}"),
                Regarding::Rollout(name) => format!("rollout {name}"),
            };
            lines.push(format!("{on}: {kind} {}: {}", happening.reason, happening.note));
        }
        if decision.wake_at != self.wakes_at {
            self.wakes_at = decision.wake_at;
            let seconds = |at: Timestamp| at.duration_since(began).as_secs();
            let at = decision
                .wake_at
                .map_or_else(|| "not by itself".to_owned(), |at| format!("at {} s", seconds(at)));
            lines.push(format!("decides again {at}"));
        }
        if !lines.is_empty() {
            let _ = writeln!(self.text, "{} s", now.duration_since(began).as_secs());
            for line in lines {
                let _ = writeln!(self.text, "    {line}");
            }
        }
    }

    fn differ(&mut self, lines: &mut Vec<String>, of: String, fields: Fields) {
        let before = self.written.remove(&of).unwrap_or_default();
        let is_told_of_a_set =
            |path: &String, value| of.starts_with("rollout ") && self.sets().any(|set| set.get(path) == Some(value));
        for (path, value) in &fields {
            let is_new = match before.get(path) {
                Some(before) => before != value,
                None => value != "0" && value != "false",
            };
            if is_new && !is_told_of_a_set(path, value) {
                lines.push(format!("{of}: {path}: {value}"));
            }
        }
        for path in before.keys().filter(|path| !fields.contains_key(*path)) {
            lines.push(format!("{of}: {path} is gone"));
        }
        self.written.insert(of, fields);
    }
}

impl Transcript {
    fn sets(&self) -> impl Iterator<Item = &Fields> {
        let sets = self.written.iter().filter(|(of, _)| of.starts_with("set "));
        sets.map(|(_, fields)| fields)
    }
}

fn spec(spec: &NodeLivepatchSpec) -> Fields {
    let grants = spec
        .livepatches
        .iter()
        .map(|grant| (format!("grant of {}", grant.set.name), told(grant)));
    let rest = NodeLivepatchSpec {
        livepatches: Vec::new(),
        ..spec.clone()
    };
    let mut fields: Fields = grants.collect();
    flatten("", &serde_json::to_value(rest).unwrap(), &mut fields);
    fields
}

fn told(grant: &Grant) -> String {
    let module = |module: &ModuleReference| format!("{} ({})", module.name, module.kernel_build_id);
    let previous = grant.previous.as_ref().map_or_else(|| "nothing".to_owned(), module);
    let failed = grant.failed.as_deref().unwrap_or("no");
    format!(
        "{:?} {:?} {}, before it {previous}; {} wave {} start {} attempt {} epoch {} boot {} taints '{}' back {} failed {failed}",
        grant.state,
        grant.livepatch_type,
        module(&grant.module),
        grant.rollout,
        grant.wave,
        grant.start,
        grant.attempt,
        grant.epoch,
        grant.boot_id,
        grant.kernel_taints,
        grant.back,
    )
}

/// All fields; of the conditions only what differs from Ready's.
fn status_fields(status: impl Serialize, conditions: &[Condition]) -> Fields {
    let mut value = serde_json::to_value(status).unwrap();
    if let Some(object) = value.as_object_mut() {
        object.remove("conditions");
    }
    let mut fields = Fields::new();
    flatten("", &value, &mut fields);
    let ready = find(conditions, READY).map(|ready| ready.message.as_str());
    for condition in conditions {
        let mut told = format!("{} {}", condition.status, condition.reason);
        if condition.type_ == READY || Some(condition.message.as_str()) != ready {
            let _ = write!(told, ": {}", condition.message);
        }
        fields.insert(condition.type_.clone(), told);
    }
    fields
}

fn flatten(path: &str, value: &Value, fields: &mut Fields) {
    let below = |key: &str| {
        if path.is_empty() {
            key.to_owned()
        } else {
            format!("{path}.{key}")
        }
    };
    match value {
        Value::Object(object) => object
            .iter()
            .for_each(|(key, value)| flatten(&below(key), value, fields)),
        Value::Array(array) => {
            for (index, value) in array.iter().enumerate() {
                flatten(&below(&index.to_string()), value, fields);
            }
        }
        Value::Null => {}
        Value::String(text) => {
            fields.insert(path.to_owned(), text.clone());
        }
        other => {
            fields.insert(path.to_owned(), other.to_string());
        }
    }
}
