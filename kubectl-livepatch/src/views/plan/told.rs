//! What is said of a plan. Pure.

use livepatch_planner::node::{Answer, Plan};

use super::fleet::{Outcome, Outlook};
use crate::text::{Cell, Screen, Table, Tone, count};

/// Nodes that are named of a situation.
const SUCH_AS: usize = 3;

/// Everything, in sections.
pub fn tell(outlook: &Outlook, screen: Screen) -> String {
    let screen = Screen { width: None, ..screen };
    let mut text = head(outlook).render(screen);
    if !outlook.kernels.is_empty() {
        text.push_str("\nKernels:\n");
        text.push_str(&kernels(outlook).render(screen));
    }
    for (index, outcome) in outlook.outcomes.iter().enumerate() {
        text.push('\n');
        text.push_str(&situation(index + 1, outcome).render(screen));
    }
    text.push('\n');
    text.push_str(&verdict(outlook).render(screen));
    text
}

fn one(tone: Tone, text: impl Into<crate::text::Clean>) -> [Cell; 1] {
    [Cell::new(tone, text)]
}

fn head(outlook: &Outlook) -> Table {
    let mut table = Table::default();
    let nodes = count(outlook.selected, "node");
    table.row(one(
        Tone::Plain,
        format!("LivepatchSet {} selects {nodes}", outlook.name),
    ));
    for (name, nodes) in &outlook.waves {
        table.row(one(Tone::Plain, format!("  wave {name}: {}", count(*nodes, "node"))));
    }
    if !outlook.exists && outlook.waves.len() > 1 {
        let told = "  which nodes a wave by percent takes is only known once the set is there";
        table.row(one(Tone::Faint, told));
    }
    if !outlook.silent.is_empty() {
        let told = format!(
            "  {} whose agent has not reported: {}",
            count(outlook.silent.len(), "node"),
            names(&outlook.silent)
        );
        table.row(one(Tone::Wait, told));
    }
    table
}

fn kernels(outlook: &Outlook) -> Table {
    let mut table = Table::headed(["  RELEASE", "ARCHITECTURE", "NODES", "MODULE"]);
    for kernel in &outlook.kernels {
        table.row([
            Cell::from(format!("  {}", kernel.identity.release)),
            Cell::from(kernel.identity.architecture.as_str()),
            Cell::from(kernel.nodes.to_string()),
            match &kernel.module {
                Some(module) => Cell::from(module.as_str()),
                None => Cell::new(Tone::Wait, "none: these nodes get nothing"),
            },
        ]);
    }
    table
}

fn situation(number: usize, outcome: &Outcome) -> Table {
    let mut table = Table::default();
    let loaded = if outcome.loaded.is_empty() {
        "nothing loaded".to_owned()
    } else {
        format!("loaded: {}", outcome.loaded.join(", "))
    };
    let nodes = format!(
        "{} such as {}",
        count(outcome.nodes.len(), "node"),
        names(&outcome.nodes)
    );
    let release = &outcome.kernel.release;
    table.row(one(
        Tone::Plain,
        format!("Situation {number}: kernel {release}, {loaded}; {nodes}"),
    ));
    match &outcome.answer {
        Answer::Plan(plan) => steps(&mut table, plan),
        other => {
            let (tone, told) = answer(other);
            table.row(one(tone, format!("  ✖ {told}")));
        }
    }
    if let Some(back) = &outcome.back {
        let (tone, told) = match back {
            Answer::Plan(plan) => (Tone::Good, format!("possible ({})", plan.mode)),
            other => answer(other),
        };
        table.row(one(tone, format!("  way back: {told}")));
    }
    table
}

fn steps(table: &mut Table, plan: &Plan) {
    table.row(one(Tone::Good, format!("  ✔ {}", plan.mode)));
    for why in &plan.because {
        table.row(one(Tone::Faint, format!("    because {why}")));
    }
    for (index, step) in plan.steps.iter().enumerate() {
        let committed = match &plan.commit {
            Some(commit) if commit.step == index => ", after which it only goes forward",
            _ => "",
        };
        let action = step.action.to_string().to_lowercase();
        table.row(one(
            Tone::Plain,
            format!("    {}. {action} {}{committed}", index + 1, step.module),
        ));
    }
    for gap in &plan.gaps {
        let told = format!(
            "    out of effect from step {} to the end of step {}: {} of LivepatchSet {}",
            gap.from + 1,
            gap.to + 1,
            gap.module,
            gap.set
        );
        table.row(one(Tone::Wait, told));
    }
    if plan.gaps.is_empty() && !plan.steps.is_empty() {
        table.row(one(Tone::Plain, "    no fix is out of effect meanwhile"));
    }
}

/// What is said in place of a plan.
fn answer(answer: &Answer) -> (Tone, String) {
    match answer {
        Answer::Plan(plan) => (Tone::Good, plan.mode.to_string()),
        Answer::Needs(keys) => {
            let modules: Vec<&str> = keys.iter().map(|key| key.sha256.as_str()).collect();
            let told = format!(
                "not known: modules that are in no artefact that can be read: {}",
                modules.join(", ")
            );
            (Tone::Wait, told)
        }
        Answer::Waits(why) => (Tone::Wait, format!("waits: {}: {}", why.reason, why.message)),
        Answer::Refused(why) => (Tone::Bad, format!("refused: {}: {}", why.reason, why.message)),
    }
}

fn verdict(outlook: &Outlook) -> Table {
    let mut table = Table::default();
    for wrong in &outlook.wrong {
        table.row(one(Tone::Bad, format!("✖ {wrong}")));
    }
    if outlook.is_blocked() {
        table.row(one(Tone::Bad, "Something blocks it."));
    } else if outlook.selected == 0 {
        table.row(one(Tone::Wait, "Nothing blocks it, and it selects no node."));
    } else {
        table.row(one(Tone::Good, "Nothing blocks it."));
    }
    table
}

/// Some of the names.
fn names(all: &[String]) -> String {
    let mut text = all
        .iter()
        .take(SUCH_AS)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    if all.len() > SUCH_AS {
        text.push_str(", …");
    }
    text
}
