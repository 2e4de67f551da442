//! `diff`: what differs between two revisions of a set. Pure but for [`run`].

use std::process::ExitCode;

use clap::Args;
use livepatch_crds::LivepatchRollout;

use crate::cluster::{Cluster, ClusterOptions};
use crate::family::{self, Family};
use crate::options::{ColourOptions, RevisionPrefix, SetName};
use crate::output::{self, Failure};
use crate::text::{Cell, Screen, Table, Tone};

const ABOUT: &str = "\
Show what differs in spec.template between two revisions of a LivepatchSet, as a unified diff: by default between the one
that was last rolled out completely and the one that the set asks for.

Exit codes: 0 no difference, 1 there is one, 2 the command line is wrong, 3 anything else failed";

/// `diff SET`.
#[derive(Debug, Clone, Args)]
#[command(about = "Show what differs between two revisions", long_about = ABOUT)]
pub struct DiffOptions {
    /// The LivepatchSet
    #[arg(value_name = "SET")]
    pub set: SetName,

    /// The older revision; the first digits are enough [default: the last complete one, or the one before --to]
    #[arg(long, value_name = "REVISION")]
    pub from: Option<RevisionPrefix>,

    /// The newer revision [default: the one that the set asks for]
    #[arg(long, value_name = "REVISION")]
    pub to: Option<RevisionPrefix>,

    #[command(flatten)]
    pub colour: ColourOptions,

    #[command(flatten)]
    pub cluster: ClusterOptions,
}

/// Runs the command.
pub fn run(options: &DiffOptions) -> ExitCode {
    let screen = output::screen(options.colour.no_color);
    let result = output::block_on(async {
        let family = Cluster::connect(&options.cluster).await?.family(&options.set).await?;
        diff(&family, options.from.as_ref(), options.to.as_ref(), screen)
    });
    match result {
        Ok(text) if text.is_empty() => ExitCode::SUCCESS,
        Ok(text) => {
            let _ = output::print(&text);
            ExitCode::from(1)
        }
        Err(failure) => {
            output::complain(&failure);
            ExitCode::from(3)
        }
    }
}

fn diff(
    family: &Family,
    from: Option<&RevisionPrefix>,
    to: Option<&RevisionPrefix>,
    screen: Screen,
) -> Result<String, Failure> {
    let to = match to {
        Some(to) => Some(family.rollout_of(to)?),
        None => family.current(),
    };
    let from = match from {
        Some(from) => Some(family.rollout_of(from)?),
        None => before(family, to),
    };
    let text = |rollout: Option<&LivepatchRollout>| {
        rollout.map_or_else(|| Ok(String::new()), |rollout| output::yaml(&rollout.spec.template))
    };
    let (old, new) = (text(from)?, text(to)?);
    if old == new {
        return Ok(String::new());
    }
    let named = |rollout: Option<&LivepatchRollout>| {
        rollout.map_or_else(
            || "/dev/null".to_owned(),
            |rollout| family::name(&rollout.metadata).to_owned(),
        )
    };
    let mut table = Table::default();
    table.row([Cell::from(format!("--- {}", named(from)))]);
    table.row([Cell::from(format!("+++ {}", named(to)))]);
    for (sign, line) in lines(&old, &new) {
        let tone = match sign {
            '-' => Tone::Bad,
            '+' => Tone::Good,
            _ => Tone::Plain,
        };
        table.row([Cell::new(tone, format!("{sign}{line}"))]);
    }
    Ok(table.render(Screen { width: None, ..screen }))
}

/// The revision that a person compares with: the one that was last complete, else the next older one.
fn before<'a>(family: &'a Family, to: Option<&LivepatchRollout>) -> Option<&'a LivepatchRollout> {
    let is_to = |rollout: &LivepatchRollout| to.is_some_and(|to| to.metadata.uid == rollout.metadata.uid);
    let complete = family.status().current_revision;
    let complete = complete.and_then(|wanted| family.rollouts.iter().find(|r| family.revision(r) == wanted));
    let older = || {
        let mut rest = family.rollouts.iter().skip_while(|rollout| !is_to(rollout));
        rest.find(|rollout| !is_to(rollout))
    };
    complete.filter(|rollout| !is_to(rollout)).or_else(older)
}

/// The lines of both texts, each with `-` if only the old one has it, `+` if only the new one has, else a blank. By a
/// longest common subsequence, which a template of a few dozen lines can afford.
fn lines<'a>(old: &'a str, new: &'a str) -> Vec<(char, &'a str)> {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    // common[i][j]: length of the longest one of old[i..] and new[j..].
    let mut common = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] = if old[i] == new[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut told = Vec::new();
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            told.push((' ', old[i]));
            i += 1;
            j += 1;
        } else if j == new.len() || (i < old.len() && common[i + 1][j] >= common[i][j + 1]) {
            told.push(('-', old[i]));
            i += 1;
        } else {
            told.push(('+', new[j]));
            j += 1;
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::fixture::{family, status};
    use serde_json::json;

    fn two_revisions() -> Family {
        let mut family = family(json!({}), status("Progressing", json!({})));
        let mut former = family.rollouts[0].clone();
        former.metadata.name = Some("nf-aabbccddee".to_owned());
        former.metadata.uid = Some("former".to_owned());
        former.spec.template.source.oci.reference = "r.io/a@sha256:1".to_owned();
        family.rollouts.push(former);
        family
    }

    #[test]
    fn the_revision_before_is_compared_with_what_the_set_asks_for() {
        let text = diff(&two_revisions(), None, None, Screen::default()).unwrap();
        assert_eq!(
            text,
            "--- nf-aabbccddee\n+++ nf-0011223344\n source:\n   oci:\n-    reference: r.io/a@sha256:1\n+    reference: \
             r.io/a@sha256:0\n"
        );
    }

    #[test]
    fn named_revisions_are_compared_and_equal_ones_do_not_differ() {
        let revision = |text: &str| text.parse::<RevisionPrefix>().unwrap();
        let (new, old) = (revision("0011"), revision("aabb"));
        let between = |from, to| diff(&two_revisions(), Some(from), Some(to), Screen::default());
        assert!(between(&new, &old).unwrap().starts_with("--- nf-0011223344"));
        assert_eq!(between(&new, &new).unwrap(), "");
        assert!(between(&revision("ffff"), &new).is_err());
    }

    #[test]
    fn lines_in_common_stay() {
        assert_eq!(
            lines("a\nb\nc\n", "a\nx\nc\nd\n"),
            [(' ', "a"), ('-', "b"), ('+', "x"), (' ', "c"), ('+', "d")]
        );
        assert_eq!(lines("", "a\n"), [('+', "a")]);
    }
}
