//! Completion as kubectl asks plugins for it: a program `kubectl_complete-livepatch` gets the words and prints what the
//! last one can become. Does IO.
//!
//! The answer has cobra's form: one candidate a line, with a tab and a word about it, then `:` and a number that says
//! what the shell shall do (spf13/cobra, `ShellCompDirective`: 0 is complete files too, 4 is complete no files).

mod wanted;

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::CommandFactory as _;
use kube::config::Kubeconfig;

use self::wanted::{Named, Typed, Wanted, read};
use crate::cli::Cli;
use crate::cluster::{Cluster, ClusterOptions};
use crate::family::{self, Family};
use crate::options::SetName;
use crate::output::{self, Failure};
use crate::text::Clean;

/// The program that kubectl asks.
pub const KUBECTL_SCRIPT: &str = "\
#!/bin/sh
exec kubectl-livepatch __complete \"$@\"
";

/// A person waits at the prompt.
const PATIENCE: Duration = Duration::from_secs(3);

/// Answers for these words. What cannot be known is no error: the shell has no place to say it.
pub fn run(words: &[String]) -> ExitCode {
    let mut root = Cli::command();
    root.build();
    let typed = read(&root, words);
    let last = words.last().map_or("", String::as_str);
    output::print(&answer(typed, last))
}

fn answer(typed: Typed, last: &str) -> String {
    match typed.wanted.clone() {
        Wanted::Words(words) => lines(&words, 4),
        Wanted::Anything => lines(&[], 0),
        Wanted::Nothing => lines(&[], 4),
        Wanted::Named { kind, lead } => {
            let words: Vec<(String, String)> = names(kind, typed)
                .into_iter()
                .map(|(name, about)| (format!("{lead}{name}"), about))
                .filter(|(word, _)| word.starts_with(last))
                .collect();
            lines(&words, 4)
        }
    }
}

fn lines(words: &[(String, String)], directive: u8) -> String {
    let mut text = String::new();
    for (word, about) in words {
        let _ = match about.as_str() {
            "" => writeln!(text, "{}", Clean::from(word.as_str())),
            about => writeln!(text, "{}\t{}", Clean::from(word.as_str()), Clean::from(about)),
        };
    }
    let _ = writeln!(text, ":{directive}");
    text
}

fn names(kind: Named, typed: Typed) -> Vec<(String, String)> {
    let options = ClusterOptions::from(typed.cluster);
    if kind == Named::Contexts {
        return contexts(&options);
    }
    let set: Option<SetName> = typed.set.and_then(|set| set.parse().ok());
    let asked = output::block_on(async {
        let ask = ask(kind, &options, set.as_ref());
        match tokio::time::timeout(PATIENCE, ask).await {
            Ok(names) => names,
            Err(_) => Ok(Vec::new()),
        }
    });
    asked.unwrap_or_default()
}

async fn ask(kind: Named, options: &ClusterOptions, set: Option<&SetName>) -> Result<Vec<(String, String)>, Failure> {
    let cluster = Cluster::connect(options).await?;
    match (kind, set) {
        (Named::Sets, _) => {
            let state = |family: &Family| family::state(&family.status().conditions).reason.to_owned();
            let families = cluster.families().await?;
            Ok(families.iter().map(|one| (one.name().to_owned(), state(one))).collect())
        }
        (Named::Nodes, _) => Ok(cluster
            .nodes(|object| object.metadata.name.map(|name| (name, String::new())))
            .await?),
        (Named::Waves, Some(set)) => Ok(waves(&cluster.family(set).await?)),
        (Named::Revisions, Some(set)) => Ok(revisions(&cluster.family(set).await?)),
        (Named::Waves | Named::Revisions, None) | (Named::Contexts, _) => Ok(Vec::new()),
    }
}

fn waves(family: &Family) -> Vec<(String, String)> {
    let status = family.current().map(family::rollout_status).unwrap_or_default();
    let about = |wave: &livepatch_crds::rollout::WaveStatus| (wave.name.clone(), format!("{:?}", wave.state));
    status.waves.iter().map(about).collect()
}

fn revisions(family: &Family) -> Vec<(String, String)> {
    let about = |rollout| {
        let state = family::state(&family::rollout_status(rollout).conditions)
            .reason
            .to_owned();
        (family.revision(rollout).to_owned(), state)
    };
    family.rollouts.iter().map(about).collect()
}

fn contexts(options: &ClusterOptions) -> Vec<(String, String)> {
    let kubeconfig = match &options.kubeconfig {
        Some(file) => Kubeconfig::read_from(file),
        None => Kubeconfig::read(),
    };
    let contexts = kubeconfig.map(|kubeconfig| kubeconfig.contexts).unwrap_or_default();
    contexts
        .into_iter()
        .map(|context| (context.name, String::new()))
        .collect()
}
