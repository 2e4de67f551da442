//! What a half-typed command line asks for. Pure.

use std::path::PathBuf;

use clap::{Arg, ArgAction, Command};

use crate::cluster::ClusterOptions;

/// What the last word of a command line can become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// One of these, with a word about each.
    Words(Vec<(String, String)>),
    /// Something that only the cluster or the kubeconfig knows.
    Named {
        kind: Named,
        /// What goes before it in the same word, such as `--wave=`.
        lead: String,
    },
    /// A file, or something that cannot be known.
    Anything,
    /// Nothing: no further word is taken.
    Nothing,
}

/// What has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    Sets,
    Nodes,
    /// Of the set that was typed.
    Waves,
    /// Of the set that was typed.
    Revisions,
    Contexts,
}

/// A half-typed command line, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Typed {
    pub wanted: Wanted,
    /// The first word that belongs to no option.
    pub set: Option<String>,
    pub cluster: Cluster,
}

/// Which cluster the words name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    kubeconfig: Option<PathBuf>,
    context: Option<String>,
}

impl From<Cluster> for ClusterOptions {
    fn from(cluster: Cluster) -> Self {
        Self {
            kubeconfig: cluster.kubeconfig,
            context: cluster.context,
        }
    }
}

/// Reads the words after the name of the program; the last one is being typed and may be empty.
pub fn read(root: &Command, words: &[String]) -> Typed {
    let mut typed = Typed {
        wanted: Wanted::Nothing,
        set: None,
        cluster: Cluster::default(),
    };
    let Some((last, before)) = words.split_last() else {
        return typed;
    };
    let Some((verb, before)) = before.split_first() else {
        typed.wanted = Wanted::Words(verbs(root, last));
        return typed;
    };
    let Some(command) = root.get_subcommands().find(|command| command.get_name() == verb) else {
        return typed;
    };
    let mut positionals = 0;
    let mut awaited: Option<&Arg> = None;
    for word in before {
        if let Some(option) = awaited.take() {
            typed.cluster.note(option, word);
        } else if let Some((option, value)) = option(command, word) {
            match value {
                Some(value) => typed.cluster.note(option, value),
                None if takes_word(option) => awaited = Some(option),
                None => {}
            }
        } else if !word.starts_with('-') {
            typed.set.get_or_insert_with(|| word.clone());
            positionals += 1;
        }
    }
    typed.wanted = match (awaited, last.split_once('=')) {
        (Some(option), _) => values(option, last, ""),
        (None, Some((name, value))) if last.starts_with("--") => match option(command, name) {
            Some((option, _)) => values(option, value, &format!("{name}=")),
            None => Wanted::Nothing,
        },
        _ if last.starts_with('-') => Wanted::Words(options(command, last)),
        _ => positional(command, positionals, last),
    };
    typed
}

impl Cluster {
    fn note(&mut self, option: &Arg, value: &str) {
        match option.get_long() {
            Some("kubeconfig") => self.kubeconfig = Some(PathBuf::from(value)),
            Some("context") => self.context = Some(value.to_owned()),
            _ => {}
        }
    }
}

fn verbs(root: &Command, last: &str) -> Vec<(String, String)> {
    root.get_subcommands()
        .filter(|command| !command.is_hide_set() && command.get_name().starts_with(last))
        .map(|command| (command.get_name().to_owned(), about(command.get_about())))
        .collect()
}

fn options(command: &Command, last: &str) -> Vec<(String, String)> {
    command
        .get_arguments()
        .filter(|arg| !arg.is_hide_set())
        .filter_map(|arg| Some((format!("--{}", arg.get_long()?), about(arg.get_help()))))
        .filter(|(name, _)| name.starts_with(last))
        .collect()
}

fn about(text: Option<&clap::builder::StyledStr>) -> String {
    let text = text.map(ToString::to_string).unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}

/// The option that a word names, with the value it holds after `=`.
fn option<'c, 'w>(command: &'c Command, word: &'w str) -> Option<(&'c Arg, Option<&'w str>)> {
    let (name, value) = word
        .split_once('=')
        .map_or((word, None), |(name, value)| (name, Some(value)));
    let arg = command.get_arguments().find(|arg| match name.strip_prefix("--") {
        Some(long) => arg.get_long() == Some(long),
        None => name
            .strip_prefix('-')
            .is_some_and(|short| arg.get_short().is_some_and(|known| short == known.to_string())),
    })?;
    Some((arg, value))
}

/// Whether the word after an option is its value.
fn takes_word(option: &Arg) -> bool {
    matches!(option.get_action(), ArgAction::Set | ArgAction::Append) && !option.is_require_equals_set()
}

fn positional(command: &Command, index: usize, last: &str) -> Wanted {
    let positionals: Vec<&Arg> = command.get_positionals().collect();
    let repeats = |arg: &&&Arg| matches!(arg.get_action(), ArgAction::Append);
    match positionals.get(index).or_else(|| positionals.last().filter(repeats)) {
        Some(arg) => values(arg, last, ""),
        None => Wanted::Nothing,
    }
}

/// What an argument takes. Its value name says of what kind it is.
fn values(arg: &Arg, last: &str, lead: &str) -> Wanted {
    let possible = arg.get_possible_values();
    if !possible.is_empty() {
        let words = possible.iter().filter(|value| value.get_name().starts_with(last));
        return Wanted::Words(
            words
                .map(|value| (format!("{lead}{}", value.get_name()), about(value.get_help())))
                .collect(),
        );
    }
    let name = arg.get_value_names().and_then(|names| names.first());
    let kind = match (name.map(clap::builder::Str::as_str), arg.get_long()) {
        (_, Some("context")) => Named::Contexts,
        (Some("SET"), _) => Named::Sets,
        (Some("NODE"), _) => Named::Nodes,
        (Some("WAVE"), _) => Named::Waves,
        (Some("REVISION"), _) => Named::Revisions,
        _ => return Wanted::Anything,
    };
    Wanted::Named {
        kind,
        lead: lead.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::CommandFactory as _;

    fn typed(words: &[&str]) -> Typed {
        // Built, so that what clap adds, such as --help, is there too.
        let mut root = Cli::command();
        root.build();
        read(&root, &words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    fn words(words: &[&str]) -> Vec<String> {
        match typed(words).wanted {
            Wanted::Words(words) => words.into_iter().map(|(word, _)| word).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn named(kind: Named, lead: &str) -> Wanted {
        Wanted::Named {
            kind,
            lead: lead.to_owned(),
        }
    }

    #[test]
    fn verbs_options_and_values_are_known() {
        assert_eq!(words(&["pro"]), ["promote"]);
        assert!(words(&[""]).contains(&"get".to_owned()));
        assert!(!words(&[""]).iter().any(|word| word.starts_with("__")));
        assert_eq!(words(&["promote", "nf", "--w"]), ["--wave"]);
        assert_eq!(words(&["pause", "nf", "--dry-run=s"]), ["--dry-run=server"]);
        assert_eq!(words(&["get", "-o", "j"]), ["json"]);
    }

    #[test]
    fn names_are_asked_of_the_cluster_that_was_typed() {
        let asked = typed(&["promote", "--context", "prod", "--full", ""]);
        assert_eq!(asked.wanted, named(Named::Sets, ""));
        assert_eq!(ClusterOptions::from(asked.cluster).context.as_deref(), Some("prod"));

        let asked = typed(&["promote", "nf", "--wave=c"]);
        assert_eq!(asked.wanted, named(Named::Waves, "--wave="));
        assert_eq!(asked.set.as_deref(), Some("nf"));
        assert_eq!(typed(&["exclude", "nf", "n1", ""]).wanted, named(Named::Nodes, ""));
        assert_eq!(
            typed(&["history", "nf", "--revision", ""]).wanted,
            named(Named::Revisions, "")
        );
        assert_eq!(typed(&["get", "--context", ""]).wanted, named(Named::Contexts, ""));
    }

    #[test]
    fn where_nothing_is_taken_nothing_is_offered() {
        assert_eq!(typed(&["promote", "nf", ""]).wanted, Wanted::Nothing);
        assert_eq!(typed(&["no-such-verb", ""]).wanted, Wanted::Nothing);
        assert_eq!(typed(&[]).wanted, Wanted::Nothing);
        assert_eq!(typed(&["get", "--kubeconfig", ""]).wanted, Wanted::Anything);
    }
}
