//! `cargo xtask demo`: the project's main job on a real cluster, to look at.
//!
//! Three virtual machines with real kubelets and two kernel builds; the chart installed by Helm; a bundle pushed; a
//! LivepatchSet applied, canary first. It ends with what the nodes themselves say.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Read};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use livepatch_rig::cluster::{Cluster, ClusterSpec};
use livepatch_rig::install::{Installation, Programs};
use livepatch_rig::kernels::{Kernel, Series};
use livepatch_rig::node_vm::NodeSpec;
use livepatch_rig::{modules, progress};
use serde_json::Value;

/// Nothing in the demo takes longer, once the nodes are up.
const PATIENCE: Duration = Duration::from_mins(5);

/// What to show.
#[derive(Debug, Args)]
pub struct Options {
    /// Leave the cluster running until Enter or Ctrl-C, and print how to reach it.
    #[arg(long)]
    keep: bool,
}

/// Shows it.
pub fn run(options: &Options) -> Result<ExitCode> {
    let started = Instant::now();
    let bundle = livepatches()?;
    let programs = Programs::build()?;
    let cluster = Cluster::start(ClusterSpec::new([
        NodeSpec::new("canary", Series::Linux6_12).label("pool", "canary"),
        NodeSpec::new("bookworm", Series::Linux6_1),
        NodeSpec::new("backports", Series::Linux6_12),
    ]))?;
    let shown = show(&cluster, &programs, &bundle);
    if shown.is_err() {
        cluster.keep();
    }
    let table = shown?;
    println!("\n{table}");
    progress::line(&format!("the demo took {}", progress::seconds(started.elapsed())));
    if options.keep {
        keep(&cluster, &programs);
    }
    Ok(ExitCode::SUCCESS)
}

/// One livepatch, built for both kernels.
fn livepatches() -> Result<Vec<PathBuf>> {
    [Series::Linux6_1, Series::Linux6_12]
        .into_iter()
        .map(|series| Ok(modules::build(&Kernel::get(series)?)?.join("lp_cumulative_v1.ko")))
        .collect()
}

fn show(cluster: &Cluster, programs: &Programs, bundle: &[PathBuf]) -> Result<String> {
    let before = effective(cluster)?;
    let installation = Installation::install(cluster, programs)?;
    let reference = installation.push("proc-version", bundle)?;
    let set = livepatch_set(&reference);
    println!("\n$ kubectl apply -f - <<EOF\n{set}EOF");
    let applied = Instant::now();
    print!("{}", cluster.kubectl().apply(&set)?);
    let took = follow(cluster, &before, applied)?;
    println!("\n$ kubectl get lps,lpr,nlp");
    print!("{}", cluster.kubectl().run(&["get", "lps,lpr,nlp"])?);
    table(cluster, &before, &took)
}

fn livepatch_set(reference: &str) -> String {
    format!(
        "apiVersion: livepatch.dev/v1alpha1
kind: LivepatchSet
metadata:
  name: proc-version
spec:
  type: Cumulative
  nodeSelector: {{}}
  template:
    source:
      oci:
        reference: {reference}
  rollout:
    waves:
    - name: canary
      nodeSelector: {{matchLabels: {{pool: canary}}}}
      soakSeconds: 5
    maxConcurrent: 1
    minReadySeconds: 3
"
    )
}

/// Prints what changes until the set is complete, and tells when each node itself showed the patched line.
fn follow(
    cluster: &Cluster,
    before: &BTreeMap<String, String>,
    applied: Instant,
) -> Result<BTreeMap<String, Duration>> {
    let mut took = BTreeMap::new();
    let mut said = String::new();
    loop {
        for (node, line) in effective(cluster)? {
            if before.get(&node) != Some(&line) && !took.contains_key(&node) {
                took.insert(node.clone(), applied.elapsed());
                println!("{:>7}  {node} shows: {line}", clock(applied));
            }
        }
        let set = cluster.kubectl().get(&["lps", "proc-version"])?;
        let saying = condition(&set, "Ready");
        if saying != said {
            println!("{:>7}  {saying}", clock(applied));
            said = saying;
        }
        if status_of(&set, "Complete") == Some("True") {
            return Ok(took);
        }
        if status_of(&set, "Stalled") == Some("True") || applied.elapsed() > PATIENCE {
            bail!("the rollout came to no end: {said}");
        }
        thread::sleep(Duration::from_millis(300));
    }
}

/// The last line of /proc/version on every node: the livepatch adds one.
fn effective(cluster: &Cluster) -> Result<BTreeMap<String, String>> {
    let lines = cluster.on_each_node(|node| Ok((node.name().to_owned(), node.shell("tail -n 1 /proc/version")?)))?;
    Ok(lines
        .into_iter()
        .map(|(node, line)| (node, line.trim().to_owned()))
        .collect())
}

fn table(cluster: &Cluster, before: &BTreeMap<String, String>, took: &BTreeMap<String, Duration>) -> Result<String> {
    let after = effective(cluster)?;
    let mut rows = vec![
        [
            "NODE",
            "KERNEL",
            "WAVE",
            "BEFORE (/proc/version)",
            "AFTER",
            "EFFECTIVE IN",
        ]
        .map(str::to_owned),
    ];
    for node in cluster.nodes() {
        let name = node.name();
        let object = cluster.kubectl().get(&["nlp", name])?;
        let before: String = before
            .get(name)
            .context("a node without a reading")?
            .chars()
            .take(34)
            .collect();
        rows.push([
            name.to_owned(),
            node.kernel().release().to_owned(),
            object["spec"]["livepatches"][0]["wave"]
                .as_str()
                .unwrap_or("-")
                .to_owned(),
            format!("{before}…"),
            after.get(name).cloned().unwrap_or_default(),
            took.get(name)
                .map_or_else(|| "-".to_owned(), |took| progress::seconds(*took)),
        ]);
    }
    Ok(columns(&rows))
}

/// Rows as columns, as wide as their widest cell.
fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let widths: [usize; N] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    rows.iter().fold(String::new(), |mut text, row| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
        text
    })
}

fn clock(since: Instant) -> String {
    format!("{:.1} s", since.elapsed().as_secs_f64())
}

fn status_of<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    find(object, kind)?["status"].as_str()
}

fn condition(object: &Value, kind: &str) -> String {
    find(object, kind).map_or_else(
        || "waiting for the operator".to_owned(),
        |condition| {
            let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
            format!("{}: {}", text("reason"), text("message"))
        },
    )
}

fn find<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"]
        .as_array()?
        .iter()
        .find(|condition| condition["type"] == kind)
}

fn keep(cluster: &Cluster, programs: &Programs) {
    println!("\nThe cluster runs until Enter or Ctrl-C. In another terminal:\n");
    println!("export KUBECONFIG={}", cluster.kubeconfig().display());
    if let Some(folder) = programs.plugin().parent() {
        println!("export PATH=$PATH:{}   # kubectl livepatch", folder.display());
    }
    println!("kubectl get lps,lpr,nlp");
    if io::stdin().is_terminal() {
        let _ = io::stdin().read(&mut [0]);
    } else {
        loop {
            thread::park();
        }
    }
}
