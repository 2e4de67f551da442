//! `inspect`: what livepatch files are. Reads files.

use livepatch_module::Inspection;

use super::args::Inspect;
use super::exit::Exit;
use super::module_file::{FileError, ModuleFile};
use super::output::{self, Format};
use super::text::{Line, Text, Tone};

/// Answers for each file; one that cannot be read is named on standard error.
pub fn run(options: &Inspect) -> Exit {
    let mut exit = Exit::Done;
    let mut found = Vec::new();
    for path in &options.files {
        match ModuleFile::read(path) {
            Ok(file) => found.push(file.inspection),
            Err(error) => {
                complain(path, &error);
                exit = Exit::Failed;
            }
        }
    }
    match (options.output, options.files.len(), found.as_slice()) {
        // One file was asked about: nothing is not an answer in JSON.
        (_, 1, []) => exit,
        (Format::Table, ..) => output::print(&text(&found).render(output::colour(&std::io::stdout())), exit),
        (format, 1, [one]) => output::show_data(format, one, exit),
        (format, ..) => output::show_data(format, &found, exit),
    }
}

/// Names a file that is no livepatch.
pub fn complain(path: &std::path::Path, error: &FileError) {
    output::complain(&error.told(path));
}

fn text(found: &[Inspection]) -> Text {
    let mut text = Text::default();
    for inspection in found {
        text.gap();
        text.add(one(inspection));
    }
    text
}

/// Names and values, then the functions.
fn one(inspection: &Inspection) -> Text {
    let mut text = Text::default();
    text.line(Line::toned(Tone::Strong, &inspection.name));
    let signature = inspection.signature.as_ref().map_or_else(
        || "none".to_owned(),
        |signature| {
            let by = signature.signer.as_deref().or(signature.key_id.as_deref());
            format!(
                "by {} ({})",
                by.unwrap_or("an unknown signer"),
                signature.hash.as_deref().unwrap_or("unknown hash")
            )
        },
    );
    let states: Vec<String> = inspection
        .states
        .iter()
        .map(|state| format!("{} version {}", state.id, state.version))
        .collect();
    let rows = [
        ("Kernel", inspection.kernel_release.clone()),
        ("Architecture", inspection.architecture.to_string()),
        ("Format", inspection.format.to_string()),
        (
            "Replaces others",
            format!("{} ({})", inspection.replace.value, inspection.replace.evidence),
        ),
        ("Build id", inspection.build_id.clone().unwrap_or_else(|| "none".into())),
        ("SHA-256", inspection.sha256.clone()),
        ("Size", format!("{} bytes", inspection.size)),
        ("Signature", signature),
        ("Licence", inspection.license.clone().unwrap_or_else(|| "none".into())),
        ("Depends on", list(&inspection.depends)),
        ("klp_state", list(&states)),
        (
            "Shadow variables",
            if inspection.shadow_variables { "yes" } else { "no" }.to_owned(),
        ),
    ];
    for (name, value) in rows {
        text.line(Line::toned(Tone::Faint, format!("  {name:<17}")).and(Tone::Plain, value));
    }
    let mut functions = Vec::new();
    for object in &inspection.objects {
        for function in &object.functions {
            functions.push(vec![
                Line::from(format!("  {}", object.name)),
                Line::from(&function.name),
                Line::from(function.position.to_string()),
            ]);
        }
        if !object.callbacks.is_empty() {
            let callbacks: Vec<String> = object.callbacks.iter().map(ToString::to_string).collect();
            let told = format!("callbacks: {}", callbacks.join(", "));
            functions.push(vec![
                Line::from(format!("  {}", object.name)),
                Line::toned(Tone::Warn, told),
            ]);
        }
    }
    text.table(&["  OBJECT", "FUNCTION", "POSITION"], functions);
    text
}

fn list(items: &[String]) -> String {
    if items.is_empty() {
        "none".to_owned()
    } else {
        items.join(", ")
    }
}
