//! Each way a kernel refuses a livepatch that can be provoked here: the error number, the typed reason, and whether it
//! could have been known before.
//!
//! Not provoked, because the kernels of the tests cannot be made to do it from inside a guest: `module_blacklist=` (a
//! boot parameter), `LoadPin` and IMA appraisal (not built in), a kernel without livepatching, a signature by a known
//! key over other content (no key at hand), lack of memory, and a signal during the call.

#![expect(clippy::unwrap_used, clippy::panic, reason = "test code fails by panicking")]

use std::fmt::Debug;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use livepatch_kernel::operation::{Load, LoadOutcome, OnTimeout, run};
use livepatch_kernel::preflight::{KernelState, Weight, preflight};
use livepatch_kernel::{Host, Kernel as _, LinuxKernel, RefusalReason};
use livepatch_module::inspect;
use livepatch_rig::kernel_vm::{self, GuestFile, KernelVmSpec};
use livepatch_rig::kernels::{Kernel, Series};
use livepatch_rig::{modules, payload};
use livepatch_tests_kernel::damage;
use livepatch_tests_kernel::guest_lab::{GuestLab, module_of};
use livepatch_tests_kernel::lab::{Lab, Module};
use nix::errno::Errno;

fn load(lab: &dyn Lab, module: Module) -> LoadOutcome {
    let mut request = lab.request("lp_offband_v1", Duration::from_mins(1), OnTimeout::Revert);
    request.name = module.name;
    request.build_id = module.build_id;
    request.image = module.image;
    run(&mut Load::new(request), lab.kernel(), |_| ())
}

/// What was not as expected; collected, so that one run tells of everything.
static SURPRISES: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn expect<T: PartialEq + Debug>(what: &str, found: &T, expected: &T) {
    if found != expected {
        SURPRISES
            .lock()
            .unwrap()
            .push(format!("{what}: {found:?} instead of {expected:?}"));
    }
}

fn refused(lab: &dyn Lab, module: Module, errno: Errno, reason: RefusalReason) {
    let what = format!("{} for {reason:?}", module.name);
    match load(lab, module) {
        LoadOutcome::Refused(refusal) => {
            println!("{refusal}");
            expect(&what, &refusal.error.as_ref().map(|error| error.errno), &Some(errno));
            expect(&what, &refusal.reason, &reason);
        }
        other => SURPRISES.lock().unwrap().push(format!("{what}: {other:?}")),
    }
    expect(&what, &lab.kernel().livepatches().unwrap().len(), &0);
    expect(&what, &lab.leftovers(), &Vec::new());
}

/// Certain failures that preflight finds.
fn foreseen(lab: &dyn Lab, image: &[u8]) -> Vec<&'static str> {
    let inspection = inspect(image).unwrap();
    let state = KernelState::read(lab.kernel(), &inspection).unwrap();
    let findings = preflight(&inspection, &state);
    for finding in &findings {
        println!("foreseen: {finding:?}");
    }
    findings
        .into_iter()
        .filter(|f| f.weight != Weight::Notice)
        .map(|f| f.reason)
        .collect()
}

#[test]
#[ignore = "runs in the guest of the tests below"]
fn in_the_guest() {
    let guest = GuestLab::open();
    let lab: &dyn Lab = &guest;
    // Else the lockdown level is not to be seen, and every preflight says so.
    let mounted = Command::new("/bin/mount")
        .args(["-t", "securityfs", "x", "/sys/kernel/security"])
        .status();
    assert!(mounted.unwrap().success());
    let good = guest.file("lp_offband_v1");
    expect("foreseen", &foreseen(lab, &good), &Vec::<&str>::new());
    damaged_files(lab, &good);
    wrong_content(&guest, lab);
    names(&guest, lab, &good);
    without_rights();
    settings(lab, &good);
    let surprises = SURPRISES.lock().unwrap();
    assert!(surprises.is_empty(), "{surprises:#?}");
}

fn damaged_files(lab: &dyn Lab, good: &[u8]) {
    use RefusalReason as R;
    let broken = |image: Vec<u8>, errno, reason| {
        refused(lab, module_of("lp_offband_v1", image), errno, reason);
    };
    broken(Vec::new(), Errno::EINVAL, R::InvalidArgument);
    broken(good[..good.len() / 2].to_vec(), Errno::ENOEXEC, R::InvalidModule);
    let mut machine = good.to_vec();
    machine[18] = 0xb7;
    broken(machine, Errno::ENOEXEC, R::InvalidModule);
    broken(
        damage::replace(good, b"SMP ", b"UP1 "),
        Errno::ENOEXEC,
        R::VersionMagicMismatch,
    );
    broken(
        damage::symbol_version(good, "module_layout"),
        Errno::ENOEXEC,
        R::ModuleLayoutMismatch,
    );
    broken(
        damage::symbol_version(good, "klp_enable_patch"),
        Errno::EINVAL,
        R::SymbolVersionMismatch,
    );
    broken(
        damage::replace(good, b"klp_enable_patch", b"klp_enable_pinch"),
        Errno::ENOENT,
        R::UnknownSymbol,
    );
    broken(
        damage::replace(good, b"livepatch=Y", b"livepatsh=Y"),
        Errno::EINVAL,
        R::NotALivepatch,
    );
    broken(
        damage::signature(good, 2, u32::MAX),
        Errno::EBADMSG,
        R::SignatureMalformed,
    );
}

fn wrong_content(guest: &GuestLab, lab: &dyn Lab) {
    use RefusalReason as R;
    for (name, errno, reason, foreseeable) in [
        ("lp_unknown_symbol", Errno::EINVAL, R::SymbolNotFound, true),
        ("lp_ambiguous_symbol", Errno::EINVAL, R::SymbolAmbiguous, true),
        ("lp_wrong_position", Errno::EINVAL, R::SymbolPositionNotFound, true),
        ("lp_untraceable", Errno::EINVAL, R::FunctionNotTraceable, false),
        ("lp_refusing_callback", Errno::ENODEV, R::CallbackRefused, false),
    ] {
        let image = guest.file(name);
        let code: &'static str = reason.into();
        expect(
            name,
            &foreseen(lab, &image),
            &if foreseeable { vec![code] } else { Vec::new() },
        );
        refused(lab, module_of(name, image), errno, reason);
    }
    refused(lab, lab.module("lp_empty"), Errno::EINVAL, R::InvalidArgument);
    lab.hold_version(true);
    refused(
        lab,
        lab.module("lp_cumulative_v1"),
        Errno::EBUSY,
        R::FunctionHeldByTracer,
    );
    lab.hold_version(false);
    lab.set_ftrace(false);
    expect(
        "foreseen",
        &foreseen(lab, &guest.file("lp_cumulative_v1")),
        &vec!["FtraceDisabled"],
    );
    refused(lab, lab.module("lp_cumulative_v1"), Errno::EBUSY, R::FtraceDisabled);
    lab.set_ftrace(true);
}

/// A module that is no livepatch has the name: nothing is tried, and nothing of it is removed.
fn names(guest: &GuestLab, lab: &dyn Lab, good: &[u8]) {
    let status = Command::new("/bin/insmod")
        .arg("/modules/lp_sleeper.ko")
        .status()
        .unwrap();
    assert!(status.success());
    let image: Vec<u8> = guest.file("lp_sleeper");
    match load(
        lab,
        Module {
            name: "lp_sleeper".into(),
            build_id: None,
            image: image.into(),
        },
    ) {
        LoadOutcome::Refused(refusal) => {
            assert_eq!((refusal.reason, refusal.error), (RefusalReason::NameTaken, None));
        }
        other => panic!("{other:?}"),
    }
    assert!(lab.kernel().module("lp_sleeper").unwrap().is_some());
    lab.wake();
    expect("foreseen", &foreseen(lab, good), &Vec::<&str>::new());
}

/// As another user, in a process of its own.
fn without_rights() {
    let program = std::env::current_exe().unwrap();
    let status = Command::new(program)
        .args(["--ignored", "--exact", "as_an_ordinary_user", "--nocapture"])
        .uid(1000)
        .gid(1000)
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
#[ignore = "runs in the guest, as an ordinary user"]
fn as_an_ordinary_user() {
    let kernel = LinuxKernel::open(Host::native()).unwrap();
    let mut pending = kernel.start_load("lp_offband_v1", b"anything", c"").unwrap();
    let error = loop {
        match pending.poll() {
            Some(result) => break result.unwrap_err(),
            None => kernel.sleep(Duration::from_millis(1)),
        }
    };
    assert_eq!(error.errno, Errno::EPERM);
    assert_eq!(kernel.delete_module("lp_offband_v1").unwrap_err().errno, Errno::EPERM);
    // Its own tasks it may look at, no others: the answer must not pass for a whole one.
    let stragglers = kernel.stragglers(true, 1).into_known().unwrap();
    assert!(stragglers.unreadable > 0 && !stragglers.complete);
}

/// Settings that only a reboot takes back, from the mildest on.
fn settings(lab: &dyn Lab, good: &[u8]) {
    use RefusalReason as R;
    let module = || module_of("lp_offband_v1", good.to_vec());
    fs::write("/sys/kernel/security/lockdown", "integrity").unwrap();
    expect("foreseen", &foreseen(lab, good), &vec!["LockdownActive"]);
    refused(lab, module(), Errno::EPERM, R::LockdownActive);

    fs::write("/sys/module/module/parameters/sig_enforce", "Y").unwrap();
    expect(
        "foreseen",
        &foreseen(lab, good),
        &vec!["SignatureRequired", "LockdownActive"],
    );
    refused(lab, module(), Errno::EKEYREJECTED, R::SignatureRequired);
    let unsupported = module_of("lp_offband_v1", damage::signature(good, 7, 64));
    refused(lab, unsupported, Errno::EKEYREJECTED, R::SignatureUnsupported);

    fs::write("/proc/sys/kernel/modules_disabled", "1").unwrap();
    assert!(foreseen(lab, good).contains(&"ModulesDisabled"));
    refused(lab, module(), Errno::EPERM, R::ModulesDisabled);
}

fn run_on(series: Series) {
    let kernel = Kernel::get(series).unwrap();
    let mut files = GuestFile::folder("modules", &modules::build(&kernel).unwrap()).unwrap();
    let faults = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../modules/kernel");
    files.extend(GuestFile::folder("modules", &modules::build_from(&kernel, &faults).unwrap()).unwrap());
    let program = payload::test("livepatch-tests-kernel", "refusals").unwrap();
    files.push(GuestFile::copy("refusals", program));
    let command = ["/refusals", "--ignored", "--exact", "in_the_guest", "--nocapture"]
        .map(str::to_owned)
        .to_vec();
    let spec = KernelVmSpec {
        kernel: &kernel,
        files,
        command,
        deadline: Duration::from_mins(15),
    };
    let outcome = kernel_vm::run(&spec).unwrap();
    print!("{}", outcome.output);
    assert_eq!(outcome.exit_code, 0, "Linux {series}");
}

#[test]
fn linux_6_1_refuses_for_the_reasons_that_are_told() {
    run_on(Series::Linux6_1);
}

#[test]
fn linux_6_12_refuses_for_the_reasons_that_are_told() {
    run_on(Series::Linux6_12);
}
