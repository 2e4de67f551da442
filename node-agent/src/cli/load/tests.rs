//! Loads on the fake kernel: each end with its exit code, and what it leaves behind.

use std::sync::Arc;
use std::time::Duration;

use livepatch_kernel::{BootTime, Call, FakeKernel, FakeModule, FakeTask, Kernel as _};
use livepatch_module::{Architecture, Format, Function, Inspection, Object, Replace, ReplaceValue};
use nix::errno::Errno;

use super::{Order, load};
use crate::cli::args::Allowed;
use crate::cli::exit::Exit;
use crate::cli::interrupts::Interrupts;
use crate::cli::module_file::ModuleFile;
use crate::cli::progress::Progress;
use crate::cli::result::{Changed, Ended};

/// A file of functions of vmlinux, known to the kernel.
pub(in crate::cli) fn file(kernel: &FakeKernel, name: &str, functions: &[&str], replace: bool) -> ModuleFile {
    let mut module = FakeModule::new(name, functions);
    module.replace = replace;
    let build_id = module.build_id.clone().map(String::from);
    let functions = functions.iter().map(|function| Function {
        name: (*function).to_owned(),
        position: 1,
    });
    let inspection = Inspection {
        name: name.to_owned(),
        format: Format::Static,
        kernel_release: "6.12.0-fake".into(),
        vermagic: "6.12.0-fake SMP mod_unload modversions ".into(),
        architecture: Architecture::Amd64,
        build_id,
        sha256: "0".repeat(64),
        size: 1,
        replace: Replace {
            value: if replace {
                ReplaceValue::True
            } else {
                ReplaceValue::False
            },
            evidence: "the test says so".into(),
        },
        objects: vec![Object {
            name: "vmlinux".into(),
            functions: functions.collect(),
            callbacks: Vec::new(),
        }],
        states: Vec::new(),
        shadow_variables: false,
        depends: Vec::new(),
        signature: None,
        license: Some("GPL".into()),
    };
    ModuleFile {
        image: kernel.image(module),
        inspection,
    }
}

fn sleeper(until: Option<BootTime>) -> FakeTask {
    FakeTask {
        pid: 77,
        comm: "cat".into(),
        pod_uid: None,
        sleeps_in: "stalls".into(),
        until,
    }
}

fn attempt(kernel: &FakeKernel, file: &ModuleFile, allowed: Allowed, interrupts: &Interrupts) -> Changed {
    let order = Order {
        file,
        parameters: std::ffi::CString::default(),
        timeout: Duration::from_mins(1),
        allowed,
    };
    load(kernel, &order, interrupts, &mut Progress::new(true))
}

fn loaded(kernel: &FakeKernel, file: &ModuleFile) -> Changed {
    attempt(kernel, file, Allowed::default(), &Interrupts::default())
}

fn names(kernel: &FakeKernel) -> Vec<String> {
    let livepatches = kernel.livepatches().unwrap();
    livepatches
        .into_iter()
        .filter(|l| l.standing.is_effective())
        .map(|l| l.name)
        .collect()
}

#[test]
fn a_load_and_the_same_again() {
    let kernel = FakeKernel::new();
    let fix = file(&kernel, "lp_fix", &["f"], false);
    let first = loaded(&kernel, &fix);
    assert_eq!((first.exit, first.result), (Exit::Done, Ended::Loaded), "{first:?}");
    assert!(first.seconds.unwrap() >= 0.9, "{first:?}");
    let again = loaded(&kernel, &fix);
    assert_eq!((again.exit, again.result), (Exit::Done, Ended::AlreadyLoaded));
    assert_eq!(kernel.calls(), ["finit_module lp_fix"]);
}

#[test]
fn a_stalled_load_is_taken_back_at_its_deadline_and_says_by_whom_it_was_held_up() {
    let kernel = FakeKernel::new();
    kernel.add_task(sleeper(None));
    let begun = kernel.now();
    let changed = loaded(&kernel, &file(&kernel, "lp_stalling", &["stalls"], false));
    assert_eq!(
        (changed.exit, changed.reason),
        (Exit::TakenBack, Some("TransitionTimedOut"))
    );
    assert_eq!(changed.blockers[0].comm, "cat");
    let took = kernel.now().since(begun);
    assert!(
        took >= Duration::from_mins(1) && took < Duration::from_secs(70),
        "{took:?}"
    );
    assert!(kernel.livepatches().unwrap().is_empty() && kernel.leftovers().unwrap().is_empty());
}

#[test]
fn an_interrupted_load_is_taken_back_at_once() {
    let kernel = FakeKernel::new();
    loaded(&kernel, &file(&kernel, "lp_before", &["other"], false));
    kernel.add_task(sleeper(None));
    let begun = kernel.now();
    let interrupts = Interrupts::after(&kernel, Duration::from_secs(10));
    let stalling = file(&kernel, "lp_stalling", &["stalls"], false);
    let changed = attempt(&kernel, &stalling, Allowed::default(), &interrupts);
    assert_eq!(
        (changed.exit, changed.reason),
        (Exit::TakenBack, Some("Interrupted")),
        "{changed:?}"
    );
    assert_eq!(changed.signal, Some("SIGINT"));
    let took = kernel.now().since(begun);
    assert!(
        took >= Duration::from_secs(10) && took < Duration::from_secs(15),
        "{took:?}"
    );
    assert_eq!(names(&kernel), ["lp_before"]);
    assert!(kernel.leftovers().unwrap().is_empty());
}

#[test]
fn a_signal_during_the_call_itself_counts() {
    let kernel = FakeKernel::new();
    kernel.add_task(sleeper(None));
    kernel.call_takes(Duration::from_secs(5));
    let interrupts = Interrupts::after(&kernel, Duration::from_secs(2));
    let stalling = file(&kernel, "lp_stalling", &["stalls"], false);
    let changed = attempt(&kernel, &stalling, Allowed::default(), &interrupts);
    assert_eq!(changed.exit, Exit::TakenBack, "{changed:?}");
    assert!(kernel.livepatches().unwrap().is_empty() && kernel.leftovers().unwrap().is_empty());
}

#[test]
fn a_signal_after_the_end_of_the_transition_says_that_it_is_in_effect() {
    let kernel = FakeKernel::new();
    kernel.transition_takes(Duration::from_secs(3));
    let interrupts = Interrupts::after(&kernel, Duration::from_secs(2));
    let fix = file(&kernel, "lp_fix", &["f"], false);
    // Nothing holds the transition up, so nothing proves that it can be taken back without loss: it ends.
    let changed = attempt(&kernel, &fix, Allowed::default(), &interrupts);
    assert_eq!(
        (changed.exit, changed.result),
        (Exit::Done, Ended::Loaded),
        "{changed:?}"
    );
    assert!(changed.message.contains("SIGINT came too late"), "{}", changed.message);
}

#[test]
fn a_signal_before_the_call_begins_nothing() {
    let kernel = FakeKernel::new();
    let interrupts = Interrupts::now();
    let fix = file(&kernel, "lp_fix", &["f"], false);
    let changed = attempt(&kernel, &fix, Allowed::default(), &interrupts);
    assert_eq!((changed.exit, changed.result), (Exit::TakenBack, Ended::TakenBack));
    assert_eq!(kernel.calls(), Vec::<String>::new());
}

#[test]
fn what_the_kernel_refuses_is_named() {
    let kernel = FakeKernel::new();
    kernel.fail_next(
        Call::FinitModule,
        Errno::EINVAL,
        Some("livepatch: failed to find location for function 'f'\u{1b}[2J"),
    );
    let changed = loaded(&kernel, &file(&kernel, "lp_fix", &["f"], false));
    assert_eq!(
        (changed.exit, changed.reason),
        (Exit::Refused, Some("FunctionNotTraceable"))
    );
    assert!(changed.kernel_log[0].contains("failed to find location"), "{changed:?}");
    assert!(changed.advice.unwrap().contains("callers"));
}

#[test]
fn a_fix_is_not_lost_unless_a_person_says_so() {
    let kernel = FakeKernel::new();
    loaded(&kernel, &file(&kernel, "lp_offband", &["hot"], false));
    let narrow = file(&kernel, "lp_cumulative", &["f"], true);
    let refused = loaded(&kernel, &narrow);
    assert_eq!((refused.exit, refused.reason), (Exit::Refused, Some("FixWouldBeLost")));
    assert!(refused.advice.unwrap().contains("--allow-lost-fixes"));
    assert!(refused.message.contains("lp_offband") && refused.message.contains("vmlinux/hot,1"));
    assert_eq!(names(&kernel), ["lp_offband"]);
    let wide = file(&kernel, "lp_wide", &["f", "hot"], true);
    let replaced = loaded(&kernel, &wide);
    assert_eq!(
        (replaced.exit, replaced.replaced.as_slice()),
        (Exit::Done, &["lp_offband".to_owned()][..])
    );
    let allowed = Allowed {
        allow_lost_fixes: true,
        ..Allowed::default()
    };
    let changed = attempt(&kernel, &narrow, allowed, &Interrupts::default());
    assert_eq!(
        (changed.exit, changed.replaced.as_slice()),
        (Exit::Done, &["lp_wide".to_owned()][..])
    );
}

#[test]
fn two_livepatches_of_one_function_need_a_person_to_say_so() {
    let kernel = FakeKernel::new();
    loaded(&kernel, &file(&kernel, "lp_v1", &["f"], false));
    let next = file(&kernel, "lp_v2", &["f"], false);
    let refused = loaded(&kernel, &next);
    assert_eq!((refused.exit, refused.reason), (Exit::Refused, Some("SharedFunction")));
    assert_eq!(refused.findings.len(), 1, "{refused:?}");
    assert!(refused.advice.unwrap().contains("--allow-shared-functions"));
    let allowed = Allowed {
        allow_shared_functions: true,
        ..Allowed::default()
    };
    let changed = attempt(&kernel, &next, allowed, &Interrupts::default());
    assert_eq!(changed.exit, Exit::Done);
    assert_eq!(kernel.effective("f").unwrap(), "lp_v2");
}

#[test]
fn somebody_elses_transition_is_waited_for_and_never_cancelled() {
    let kernel = FakeKernel::new();
    kernel.add_task(sleeper(Some(kernel.now() + Duration::from_secs(20))));
    let other = FakeModule::new("lp_other", &["stalls"]);
    let image = kernel.image(other);
    kernel
        .start_load("lp_other", &image, c"")
        .unwrap()
        .poll()
        .unwrap()
        .unwrap();
    let fix = file(&kernel, "lp_fix", &["f"], false);
    assert_eq!(loaded(&kernel, &fix).exit, Exit::Done);
    assert_eq!(names(&kernel), ["lp_fix", "lp_other"]);

    let kernel = FakeKernel::new();
    kernel.add_task(sleeper(None));
    let other = file(&kernel, "lp_other", &["stalls"], false);
    let image = Arc::clone(&other.image);
    kernel
        .start_load("lp_other", &image, c"")
        .unwrap()
        .poll()
        .unwrap()
        .unwrap();
    for wanted in [&file(&kernel, "lp_fix", &["f"], false), &other] {
        let changed = loaded(&kernel, wanted);
        assert_eq!(
            (changed.exit, changed.reason),
            (Exit::Refused, Some("TransitionRunning"))
        );
    }
    assert!(kernel.standing("lp_other").unwrap().unwrap().enabled);
}

#[test]
fn a_lost_race_is_repaired_and_told() {
    let kernel = FakeKernel::new();
    loaded(&kernel, &file(&kernel, "lp_old", &["stalls"], true));
    kernel.add_task(sleeper(None));
    kernel.complete_before_next_write();
    let changed = loaded(&kernel, &file(&kernel, "lp_new", &["stalls"], true));
    assert_eq!(
        (changed.exit, changed.result),
        (Exit::Done, Ended::Loaded),
        "{changed:?}"
    );
    assert!(
        changed.message.contains("a cancel came after its completion"),
        "{}",
        changed.message
    );
    assert_eq!(names(&kernel), ["lp_new"]);
}

#[test]
fn nothing_is_loaded_after_a_forced_transition() {
    let kernel = FakeKernel::new();
    loaded(&kernel, &file(&kernel, "lp_old", &["f"], false));
    kernel.add_task(FakeTask {
        sleeps_in: "f".into(),
        ..sleeper(None)
    });
    kernel.set_enabled("lp_old", false).unwrap();
    kernel.force("lp_old");
    kernel.advance(Duration::from_secs(1));
    let changed = loaded(&kernel, &file(&kernel, "lp_new", &["g"], false));
    assert_eq!((changed.exit, changed.reason), (Exit::Refused, Some("RebootRequired")));
    assert!(kernel.livepatches().unwrap().is_empty());
}

#[test]
fn a_livepatch_that_was_replaced_just_now_is_no_forced_one() {
    let kernel = FakeKernel::new();
    loaded(&kernel, &file(&kernel, "lp_v1", &["f"], true));
    loaded(&kernel, &file(&kernel, "lp_v2", &["f"], true));
    assert_eq!(loaded(&kernel, &file(&kernel, "lp_v3", &["f"], true)).exit, Exit::Done);
}
