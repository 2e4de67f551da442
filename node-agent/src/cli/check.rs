//! `check`: whether a livepatch would load here, and every reason why not. Reads the kernel.

mod rules;

use std::path::Path;
use std::time::Duration;

use livepatch_kernel::preflight::{Finding, KernelState, Weight, preflight};
use livepatch_kernel::{Kernel, KernelError};
use livepatch_module::Inspection;
use serde::Serialize;

use super::args::{Allowed, Check};
use super::exit::Exit;
use super::host::{self, Rights};
use super::module_file::{FileError, ModuleFile};
use super::output::{self, Report};
use super::text::{Line, Text, Tone};

/// How often leftovers with references are looked at again before they count as forced.
const LOOKS: u32 = 8;

/// Between two of these looks.
const APART: Duration = Duration::from_millis(250);

/// What would become of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// It would load.
    WouldLoad,
    /// It would be refused.
    WouldBeRefused,
    /// Nothing speaks against it, but something that decides cannot be seen.
    NotCertain,
}

/// One thing found, with what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Told {
    pub weight: Weight,
    pub reason: &'static str,
    pub message: String,
    pub advice: String,
}

/// The answer of `check`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer {
    pub file: String,
    /// Null for a file that is no livepatch.
    pub module: Option<String>,
    pub verdict: Verdict,
    pub findings: Vec<Told>,
}

/// Answers.
pub fn run(options: &Check) -> Exit {
    let file = match ModuleFile::read(&options.file) {
        Ok(file) => file,
        Err(error) => return not_a_livepatch(&options.file, &error, options.output),
    };
    let found = host::kernel().and_then(|kernel| examine(&kernel, &file.inspection, options.allowed));
    let mut findings = match found {
        Ok(findings) => findings,
        Err(error) => {
            output::complain(&super::chain(error.reason(), &error));
            return Exit::Failed;
        }
    };
    if Rights::read().is_some_and(|rights| !rights.modules) {
        findings.push(not_permitted(Weight::Notice));
    }
    let answer = Answer::new(&options.file, &file.inspection, findings);
    let exit = answer.exit();
    output::show(options.output, &answer, exit)
}

/// Everything found: the kernel's own reasons, and what the project would not load together.
pub fn examine(kernel: &dyn Kernel, inspection: &Inspection, allowed: Allowed) -> Result<Vec<Told>, KernelError> {
    let mut state = KernelState::read(kernel, inspection)?;
    for _ in 0..LOOKS {
        // The kernel drops the references of a livepatch that was just replaced from a workqueue.
        if !state.leftovers.iter().any(|module| module.refcount > 0) {
            break;
        }
        kernel.sleep(APART);
        state.leftovers = kernel.leftovers()?;
    }
    let mut told: Vec<Told> = preflight(inspection, &state).into_iter().map(Told::from).collect();
    rules::coexistence(inspection, &state.livepatches, allowed, &mut told);
    rules::forced(&state.leftovers, &mut told);
    told.sort_by_key(|finding| finding.weight);
    Ok(told)
}

/// That this process may not load modules.
pub fn not_permitted(weight: Weight) -> Told {
    Told {
        weight,
        reason: "NotPermitted",
        message: "this process may not load modules".to_owned(),
        advice: "run it as root of the host: it needs CAP_SYS_MODULE".to_owned(),
    }
}

/// What speaks against a file that was read and is no livepatch; `None` for one that could not be read, and so was not
/// judged.
pub fn judged(error: &FileError) -> Option<Told> {
    matches!(
        error,
        FileError::Inspect { .. } | FileError::Unpack { .. } | FileError::TooLarge
    )
    .then(|| Told {
        weight: Weight::Fails,
        reason: error.reason(),
        message: super::causes(error),
        advice: "give the file of a livepatch module, as its build made it".to_owned(),
    })
}

fn not_a_livepatch(path: &Path, error: &FileError, format: output::Format) -> Exit {
    let Some(told) = judged(error) else {
        super::inspect::complain(path, error);
        return Exit::Failed;
    };
    let answer = Answer {
        file: path.display().to_string(),
        module: None,
        verdict: Verdict::WouldBeRefused,
        findings: vec![told],
    };
    output::show(format, &answer, Exit::Refused)
}

impl From<Finding> for Told {
    fn from(finding: Finding) -> Self {
        Self {
            advice: finding.advice().to_owned(),
            weight: finding.weight,
            reason: finding.reason,
            message: finding.message,
        }
    }
}

impl Answer {
    /// The answer that these findings are.
    pub fn new(path: &Path, inspection: &Inspection, findings: Vec<Told>) -> Self {
        let verdict = match findings.iter().map(|finding| finding.weight).min() {
            Some(Weight::Fails) => Verdict::WouldBeRefused,
            Some(Weight::Uncertain) => Verdict::NotCertain,
            Some(Weight::Notice) | None => Verdict::WouldLoad,
        };
        Self {
            file: path.display().to_string(),
            module: Some(inspection.name.clone()),
            verdict,
            findings,
        }
    }

    /// Its exit code.
    pub const fn exit(&self) -> Exit {
        match self.verdict {
            Verdict::WouldLoad => Exit::Done,
            Verdict::WouldBeRefused => Exit::Refused,
            Verdict::NotCertain => Exit::NotCertain,
        }
    }
}

impl Report for Answer {
    fn text(&self) -> Text {
        let mut text = Text::default();
        let what = self.module.as_ref().unwrap_or(&self.file);
        let (tone, verdict) = match self.verdict {
            Verdict::WouldLoad => (Tone::Good, "would load"),
            Verdict::WouldBeRefused => (Tone::Bad, "would be refused"),
            Verdict::NotCertain => (Tone::Warn, "is not certain to load"),
        };
        text.line(Line::from(format!("{what} ")).and(tone, verdict));
        text.add(findings_text(&self.findings));
        text
    }
}

/// Findings for people: what is the matter, and below it what to do.
pub fn findings_text(findings: &[Told]) -> Text {
    let mut text = Text::default();
    for finding in findings {
        let (tone, mark) = match finding.weight {
            Weight::Fails => (Tone::Bad, "refused  "),
            Weight::Uncertain => (Tone::Warn, "uncertain"),
            Weight::Notice => (Tone::Faint, "notice   "),
        };
        let head = Line::from("  ")
            .and(tone, mark)
            .and(Tone::Strong, format!("  {}", finding.reason));
        text.line(head.and(Tone::Plain, format!(": {}", finding.message)));
        if !finding.advice.is_empty() {
            text.line(Line::toned(Tone::Faint, format!("             {}", finding.advice)));
        }
    }
    text
}
