//! What `doctor` makes of a host: nothing to say about a good one, and each matter where it belongs.

use std::collections::BTreeMap;

use livepatch_kernel::{
    BuildId, FakeKernel, FakeModule, Identity, Kernel as _, LoadedModule, Lockdown, ModuleState, Seen, Stragglers,
    Taints,
};

use super::super::look::{Config, Symptoms};
use super::super::services::Others;
use super::super::{Diagnosis, Finding};
use super::judge;
use crate::cli::exit::Exit;
use crate::cli::host::Rights;
use crate::cli::output::Report as _;

fn config(without: &str) -> Config {
    let names = [
        "LIVEPATCH",
        "MODULES",
        "KALLSYMS_ALL",
        "SYSFS",
        "DYNAMIC_FTRACE_WITH_REGS",
        "MODULE_UNLOAD",
        "HAVE_RELIABLE_STACKTRACE",
    ];
    let options: BTreeMap<String, String> = names
        .iter()
        .filter(|name| **name != without)
        .map(|name| ((*name).to_owned(), "y".to_owned()))
        .collect();
    Config {
        path: "/boot/config".into(),
        options,
    }
}

fn good() -> Symptoms {
    let kernel = FakeKernel::new();
    Symptoms {
        rights: Some(Rights {
            modules: true,
            log: true,
            root: true,
        }),
        livepatching: Ok(()),
        identity: Ok(Identity {
            release: "6.12.107-amd64".into(),
            ..kernel.identity().unwrap()
        }),
        config: Some(config("")),
        policy: kernel.policy(),
        patch_state: true,
        tasks: Seen::Known(Stragglers {
            complete: true,
            ..Stragglers::default()
        }),
        log: true,
        taints: Some(Taints(0)),
        livepatches: Ok(Vec::new()),
        leftovers: Ok(Vec::new()),
        modules: true,
        others: Others {
            active: Vec::new(),
            units_seen: true,
        },
        stopped: None,
        state_dir: Ok(()),
        lock_held: Ok(false),
        journal: Ok(()),
    }
}

fn found(change: impl FnOnce(&mut Symptoms)) -> Vec<(&'static str, Finding, &'static str)> {
    let mut symptoms = good();
    change(&mut symptoms);
    judge(&symptoms)
        .into_iter()
        .filter_map(|item| Some((item.check, item.finding, item.reason?)))
        .collect()
}

#[test]
fn a_good_host_has_only_good_findings() {
    assert_eq!(found(|_| ()), []);
    let diagnosis = Diagnosis::of(judge(&good()));
    assert_eq!((diagnosis.fit, diagnosis.exit()), (Some(true), Exit::Done));
    assert!(
        diagnosis
            .text()
            .render(false)
            .ends_with("This host is fit for livepatches.\n")
    );
}

#[test]
fn each_matter_that_makes_a_host_unfit() {
    use Finding::Unfit;
    type Change = fn(&mut Symptoms);
    let cases: [(Change, &str, &str); 12] = [
        (
            |s| s.livepatching = Err("gone".into()),
            "livepatching",
            "LivepatchUnsupported",
        ),
        (
            |s| s.config = Some(config("LIVEPATCH")),
            "configuration",
            "LivepatchUnsupported",
        ),
        (
            |s| s.config = Some(config("DYNAMIC_FTRACE_WITH_REGS")),
            "configuration",
            "LivepatchUnsupported",
        ),
        (|s| s.patch_state = false, "tasks", "LivepatchUnsupported"),
        (
            |s| {
                s.rights = s.rights.map(|rights| Rights {
                    modules: false,
                    ..rights
                });
            },
            "rights",
            "NotPermitted",
        ),
        (
            |s| s.policy.modules_disabled = Seen::Known(true),
            "modules",
            "ModulesDisabled",
        ),
        (
            |s| s.policy.loadpin_enforced = Seen::Known(true),
            "modules",
            "LoadPinActive",
        ),
        (
            |s| s.policy.ftrace_enabled = Seen::Known(false),
            "ftrace",
            "FtraceDisabled",
        ),
        (
            |s| s.policy.replace_set = Seen::Known(true),
            "replace sets",
            "ReplaceSetUnsupported",
        ),
        (|s| s.leftovers = Ok(vec![leftover(1)]), "leftovers", "RebootRequired"),
        (
            |s| s.state_dir = Err("read only".into()),
            "state directory",
            "StateDirUnusable",
        ),
        (
            |s| s.journal = Err("damaged".into()),
            "state directory",
            "JournalUnreadable",
        ),
    ];
    for (change, check, reason) in cases {
        assert_eq!(found(change), [(check, Unfit, reason)]);
        let mut symptoms = good();
        change(&mut symptoms);
        assert_eq!(Diagnosis::of(judge(&symptoms)).exit(), Exit::Refused, "{check}");
    }
}

fn leftover(refcount: u32) -> LoadedModule {
    LoadedModule {
        name: "lp_old".into(),
        state: ModuleState::Live,
        refcount,
        livepatch: Seen::Known(true),
        build_id: Seen::Known(BuildId::from_bytes(&[1; 20]).ok()),
    }
}

#[test]
fn what_is_to_be_known_does_not_make_a_host_unfit() {
    type Change = fn(&mut Symptoms);
    let cases: [(Change, &str, &str); 8] = [
        (
            |s| s.policy.signature_enforced = Seen::Known(true),
            "signatures",
            "SignatureRequired",
        ),
        (
            |s| s.policy.lockdown = Seen::Known(Lockdown::Integrity),
            "signatures",
            "LockdownActive",
        ),
        (|s| s.leftovers = Ok(vec![leftover(0)]), "leftovers", "Leftovers"),
        (
            |s| s.taints = Some(Taints(1 << Taints::DIE)),
            "taints",
            "KernelTroubled",
        ),
        (|s| s.stopped = Some("a file".into()), "stop switches", "Stopped"),
        (
            |s| s.others.active = vec!["kpatch (unit kpatch.service)".into()],
            "other services",
            "OtherLivepatchService",
        ),
        (
            |s| s.config = Some(config("MODULE_UNLOAD")),
            "configuration",
            "KernelConfiguration",
        ),
        (
            |s| {
                let kernel = FakeKernel::new();
                let image = kernel.image(FakeModule::new("lp_fix", &["f"]));
                kernel
                    .start_load("lp_fix", &image, c"")
                    .unwrap()
                    .poll()
                    .unwrap()
                    .unwrap();
                s.livepatches = Ok(kernel.livepatches().unwrap());
            },
            "transition",
            "TransitionRunning",
        ),
    ];
    for (change, check, reason) in cases {
        assert_eq!(found(change), [(check, Finding::Notice, reason)]);
    }
}

#[test]
fn what_is_not_seen_is_never_good() {
    type Change = fn(&mut Symptoms);
    let cases: [(Change, &str); 6] = [
        (|s| s.livepatches = Err("hidden".into()), "livepatching"),
        (|s| s.tasks = Seen::unknown("hidden"), "tasks"),
        (|s| s.policy.lockdown = Seen::unknown("hidden"), "signatures"),
        (|s| s.policy.ftrace_enabled = Seen::unknown("hidden"), "ftrace"),
        (|s| s.policy.replace_set = Seen::unknown("hidden"), "replace sets"),
        (|s| s.rights = None, "rights"),
    ];
    for (change, check) in cases {
        let found = found(change);
        assert_eq!((found[0].0, found[0].1), (check, Finding::Unknown));
        let mut symptoms = good();
        change(&mut symptoms);
        let diagnosis = Diagnosis::of(judge(&symptoms));
        assert_eq!((diagnosis.fit, diagnosis.exit()), (None, Exit::NotCertain));
    }
}
