//! Manual pages and completion scripts, made from the very definitions that the program parses with. Writes files.

use std::io::{self, Write as _};
use std::path::Path;

use clap::CommandFactory as _;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use super::exit::Exit;
use super::{Cli, output};

/// System administration commands.
const SECTION: &str = "8";

/// Prints a completion script.
pub fn completion(shell: clap_complete::Shell) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "livepatch-agent", &mut script);
    output::print(&String::from_utf8_lossy(&script), Exit::Done)
}

/// Prints the page of the program or of one command, or writes all into a folder.
pub fn man(command: Option<&str>, folder: Option<&Path>) -> Exit {
    let pages = match pages() {
        Ok(pages) => pages,
        Err(error) => {
            output::complain(&format!("cannot make the manual pages: {error}"));
            return Exit::Failed;
        }
    };
    if let Some(folder) = folder {
        return match write(folder, &pages) {
            Ok(()) => Exit::Done,
            Err(error) => {
                output::complain(&format!("cannot write {}: {error}", folder.display()));
                Exit::Failed
            }
        };
    }
    let wanted = command.map_or_else(
        || "livepatch-agent".to_owned(),
        |command| format!("livepatch-agent-{command}"),
    );
    if let Some((_, page)) = pages.iter().find(|(name, _)| *name == wanted) {
        return output::print(page, Exit::Done);
    }
    output::complain(&format!("there is no command {}", command.unwrap_or_default()));
    Exit::Usage
}

fn write(folder: &Path, pages: &[(String, String)]) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for (name, page) in pages {
        std::fs::File::create(folder.join(format!("{name}.{SECTION}")))?.write_all(page.as_bytes())?;
    }
    Ok(())
}

/// Each page with its name.
pub fn pages() -> io::Result<Vec<(String, String)>> {
    let mut program = Cli::command().disable_help_subcommand(true);
    program.build();
    let commands = program.get_subcommands().filter(|command| !command.is_hide_set());
    let mut pages = Vec::new();
    for command in std::iter::once(&program).chain(commands) {
        let name = command
            .get_display_name()
            .unwrap_or_else(|| command.get_name())
            .to_owned();
        pages.push((name, page(command)?));
    }
    Ok(pages)
}

/// One page. What follows the help is laid out by its blanks, which a page keeps only where it is told to.
fn page(command: &clap::Command) -> io::Result<String> {
    let source = concat!("livepatch-operator ", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone())
        .section(SECTION)
        .source(source)
        .manual("Kernel livepatches");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(after) = command.get_after_long_help().or_else(|| command.get_after_help()) {
        sections(&after.to_string()).to_writer(&mut page)?;
    }
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// A line at the margin that ends in a colon is the title of a section.
fn sections(after: &str) -> Roff {
    let mut roff = Roff::default();
    let mut kept = false;
    let mut begun = false;
    for line in after.lines() {
        let title = line.strip_suffix(':').filter(|_| !line.starts_with(' '));
        let keep = line.starts_with(' ');
        if kept != keep {
            roff.control(if keep { "nf" } else { "fi" }, []);
            kept = keep;
        }
        if let Some(title) = title {
            roff.control("SH", [title.to_uppercase().as_str()]);
            begun = true;
        } else if line.is_empty() {
            roff.control("PP", []);
        } else {
            if !begun {
                roff.control("SH", ["NOTES"]);
                begun = true;
            }
            roff.text([roman(line)]);
        }
    }
    if kept {
        roff.control("fi", []);
    }
    roff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_page_with_its_options_and_exit_codes() {
        let pages = pages().unwrap();
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        for command in [
            "run",
            "inspect",
            "status",
            "check",
            "load",
            "unload",
            "watch",
            "doctor",
            "completion",
            "man",
        ] {
            let name = format!("livepatch-agent-{command}");
            assert!(names.contains(&name.as_str()), "{names:?}");
        }
        let page = |name: &str| pages.iter().find(|(n, _)| n == name).unwrap().1.clone();
        let load = page("livepatch-agent-load");
        assert!(load.contains(".TH livepatch-agent-load 8"), "{load}");
        assert!(load.contains(".SH \"EXIT CODES\"\n.nf\n"), "{load}");
        assert!(
            load.contains("\\-\\-despite\\-agent") && load.contains("taken back"),
            "{load}"
        );
        assert!(page("livepatch-agent-run").contains(".SH \"FILES IN --STATE-DIR\""));
    }

    #[test]
    fn each_shell_has_a_script() {
        use clap::ValueEnum as _;
        for shell in clap_complete::Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "livepatch-agent", &mut script);
            assert!(String::from_utf8(script).unwrap().contains("despite-agent"), "{shell}");
        }
    }
}
