//! Each way a kernel refuses a livepatch that can be provoked here: the error number, the typed reason, and whether it
//! could have been known before.
//!
//! What is not provoked, and why, is in docs/kernel-evidence.md.

#![expect(clippy::unwrap_used, clippy::panic, reason = "test code fails by panicking")]

mod guest;

use std::ffi::{CStr, CString};
use std::fmt::Debug;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use guest::Run;
use livepatch_kernel::operation::{Load, LoadOutcome, LoadRequest, OnTimeout, UnloadOutcome, run};
use livepatch_kernel::preflight::{KernelState, Weight, preflight};
use livepatch_kernel::{Call, CallError, Circumstances, Host, Kernel as _, KernelLog, LinuxKernel};
use livepatch_kernel::{LoadRefusal, ModuleState, RefusalReason};
use livepatch_module::inspect;
use livepatch_rig::debian::{self, Suite};
use livepatch_rig::kernel_vm::GuestFile;
use livepatch_rig::kernels::{Kernel, Series};
use livepatch_rig::modules;
use livepatch_tests_kernel::damage;
use livepatch_tests_kernel::guest_lab::{GuestLab, module_of};
use livepatch_tests_kernel::lab::{Lab, Module};
use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// On `module_blacklist=` of the guest.
const BLACKLISTED: &str = "lp_offband_other";

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

/// One bare `finit_module`, and what the kernel crate makes of the answer. For what its own operation would avoid.
fn refusal_of(lab: &dyn Lab, name: &str, image: &[u8], parameters: &CStr) -> Option<LoadRefusal> {
    let kernel = lab.kernel();
    let mark = kernel.log_mark();
    let mut pending = kernel.start_load(name, image, parameters).unwrap();
    loop {
        match pending.poll() {
            None => kernel.sleep(Duration::from_millis(1)),
            Some(Ok(())) => return None,
            Some(Err(error)) => {
                let now = Circumstances {
                    policy: kernel.policy(),
                    foreign_transition: kernel.in_transition().unwrap().is_some(),
                };
                return Some(LoadRefusal::of(error, &kernel.log_since(&mark), &now));
            }
        }
    }
}

fn answered(what: &str, refusal: Option<LoadRefusal>, errno: Errno, reason: RefusalReason) {
    match refusal {
        Some(refusal) => {
            println!("{refusal}");
            expect(what, &refusal.error.as_ref().map(|error| error.errno), &Some(errno));
            expect(what, &refusal.reason, &reason);
        }
        None => SURPRISES.lock().unwrap().push(format!("{what}: loaded")),
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
    at_the_same_time(&guest, lab);
    during_a_transition(lab);
    blacklisted(lab);
    open_for_writing(lab, &good);
    unloading(&guest, lab);
    lab.loaded("lp_offband_v1");
    without_rights();
    lab.clear();
    settings(&guest, lab, &good);
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
    // R_X86_64_32S, whose range is checked.
    broken(
        damage::far_relocation(good, ".rela.init.text", &[11]),
        Errno::ENOEXEC,
        R::InvalidModule,
    );
    broken(
        damage::livepatch_relocations(good, ".rela.init.text"),
        Errno::EINVAL,
        R::MalformedKlpSymbol,
    );
    // More than the guest has, which the kernel knows before it tries.
    broken(
        damage::section_size(good, ".bss", 768 << 20),
        Errno::ENOMEM,
        R::OutOfMemory,
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
    let image = guest.file("lp_bad_replacement");
    assert_eq!(inspect(&image).unwrap_err().reason(), "Malformed");
    let bad = module_of("lp_bad_replacement", image);
    refused(lab, bad, Errno::ENOENT, R::SymbolSizeUnknown);
    let nothing = lab.module("lp_nothing_to_patch");
    refused(lab, nothing, Errno::EINVAL, R::NothingToPatch);
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
    lab.loaded("lp_offband_v1");
    let taken = refusal_of(lab, "lp_offband_v1", good, c"");
    answered("loaded", taken, Errno::EEXIST, RefusalReason::NameTaken);
    lab.clear();
}

/// A module of the name is on its way and then fails; another try waits for that, and can be interrupted meanwhile.
fn at_the_same_time(guest: &GuestLab, lab: &dyn Lab) {
    const NAME: &str = "lp_slow_init";
    const FIRST: &CStr = c"milliseconds=3000 fails=1";
    let image = guest.file(NAME);
    for interrupted in [false, true] {
        let mut first = lab.kernel().start_load(NAME, &image, FIRST).unwrap();
        lab.eventually("the first is on its way", || {
            let module = lab.kernel().module(NAME).unwrap();
            module.is_some_and(|module| module.state == ModuleState::Loading)
        });
        let busy = guest.rmmod(NAME);
        expect("delete_module during init", &busy, &Err(Errno::EBUSY));
        let waker = interrupted.then(|| thread::spawn(interrupt_the_second_call));
        let second = refusal_of(lab, NAME, &image, c"");
        match waker {
            Some(waker) => {
                waker.join().unwrap();
                answered("interrupted", second, Errno::EINTR, RefusalReason::Interrupted);
            }
            None => answered("at the same time", second, Errno::EBUSY, RefusalReason::Busy),
        }
        lab.eventually("the first has failed", || first.poll().is_some());
        expect("the first", &first.poll().unwrap().unwrap_err().errno, &Errno::EIO);
    }
}

/// Sends a signal to the thread that waits in `finit_module` for another one, whose own sleep cannot be interrupted.
/// The signal has a handler that restarts nothing.
fn interrupt_the_second_call() {
    extern "C" fn handler(_: i32) {}
    let action = SigAction::new(SigHandler::Handler(handler), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing, which any thread may do at any moment.
    unsafe { sigaction(Signal::SIGUSR1, &action) }.unwrap();
    let thread = loop {
        if let Some(thread) = waiting_thread() {
            break thread;
        }
        thread::sleep(Duration::from_millis(20));
    };
    // SAFETY: three numbers are passed, of a thread of this process and of a signal that has a handler.
    let result = unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, libc::SIGUSR1) };
    assert_eq!(result, 0);
}

fn waiting_thread() -> Option<i32> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    tasks
        .filter_map(|task| fs::read_to_string(task.unwrap().path().join("stat")).ok())
        .find_map(|stat| stat.split_once(" (finit_module) S ")?.0.parse().ok())
}

/// What the operation waits for, asked for at once.
fn during_a_transition(lab: &dyn Lab) {
    lab.put_to_sleep();
    let _running = lab.begun("lp_stalling", Duration::from_mins(5), OnTimeout::Wait);
    let module = lab.module("lp_offband_v1");
    let other = refusal_of(lab, "lp_offband_v1", &module.image, c"");
    answered("transition", other, Errno::EBUSY, RefusalReason::TransitionRunning);
    lab.clear();
}

/// The guest was booted with the module's name on `module_blacklist=`.
fn blacklisted(lab: &dyn Lab) {
    let module = lab.module(BLACKLISTED);
    refused(lab, module, Errno::EPERM, RefusalReason::ModuleBlacklisted);
}

/// Never so for the sealed file of an operation; an ordinary file that somebody has open for writing is.
fn open_for_writing(lab: &dyn Lab, good: &[u8]) {
    let path = "/tmp/being-written.ko";
    fs::write(path, good).unwrap();
    let writer = fs::OpenOptions::new().append(true).open(path).unwrap();
    let errno = finit_module(fs::File::open(path).unwrap(), c"", ModuleInitFlags::empty()).unwrap_err();
    drop(writer);
    let now = Circumstances {
        policy: lab.kernel().policy(),
        foreign_transition: false,
    };
    let error = CallError::new(Call::FinitModule, "lp_offband_v1", errno);
    let refusal = LoadRefusal::of(error, &KernelLog::default(), &now);
    answered(path, Some(refusal), Errno::ETXTBSY, RefusalReason::ImageOpenForWriting);
}

/// `delete_module`, where no case of the list that the fake kernel shares provokes it.
fn unloading(guest: &GuestLab, lab: &dyn Lab) {
    guest.insmod("lp_no_exit", "").unwrap();
    expect("no exit", &guest.rmmod("lp_no_exit"), &Err(Errno::EBUSY));
    let outcome = lab.unload("lp_no_exit");
    assert!(matches!(outcome, UnloadOutcome::NotALivepatch), "{outcome:?}");
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
    let request = LoadRequest {
        name: "lp_offband_v2".into(),
        build_id: None,
        image: b"anything".as_slice().into(),
        parameters: CString::default(),
        deadline: kernel.now() + Duration::from_mins(1),
        on_timeout: OnTimeout::Revert,
    };
    match run(&mut Load::new(request), &kernel, |_| ()) {
        LoadOutcome::Refused(refusal) => {
            println!("{refusal}");
            assert_eq!(refusal.reason, RefusalReason::NotPermitted);
            assert_eq!(refusal.error.unwrap().errno, Errno::EPERM);
        }
        other => panic!("{other:?}"),
    }
    let written = kernel.set_enabled("lp_offband_v1", false).unwrap_err().errno;
    assert_eq!(written, Errno::EACCES);
    assert_eq!(kernel.delete_module("lp_offband_v1").unwrap_err().errno, Errno::EPERM);
    // Its own tasks it may look at, no others: the answer must not pass for a whole one.
    let stragglers = kernel.stragglers(true, 1).into_known().unwrap();
    assert!(stragglers.unreadable > 0 && !stragglers.complete);
}

/// Settings that only a reboot takes back, from the mildest on.
fn settings(guest: &GuestLab, lab: &dyn Lab, good: &[u8]) {
    use RefusalReason as R;
    let module = || module_of("lp_offband_v1", good.to_vec());
    // Fatal also where signatures are not enforced: a module of the kernel's own, by a key it trusts, changed.
    let changed = module_of("changed_after_signing", guest.file("changed_after_signing"));
    refused(lab, changed, Errno::EKEYREJECTED, R::SignatureInvalid);

    // R_X86_64_PC32 and R_X86_64_PLT32, whose range is not checked: the first is the call that ftrace makes use of, here
    // in a function that never runs. Finding it misdirected, ftrace switches itself off.
    let misdirected = damage::far_relocation(good, ".rela.text", &[2, 4]);
    let misdirected = module_of("lp_offband_v1", misdirected);
    refused(lab, misdirected, Errno::ENODEV, R::FtraceDisabled);
    expect("foreseen", &foreseen(lab, good), &vec!["FtraceDisabled"]);
    refused(lab, module(), Errno::ENODEV, R::FtraceDisabled);

    fs::write("/sys/kernel/security/lockdown", "integrity").unwrap();
    let foreseen_now = foreseen(lab, good);
    expect("foreseen", &foreseen_now, &vec!["LockdownActive", "FtraceDisabled"]);
    refused(lab, module(), Errno::EPERM, R::LockdownActive);

    fs::write("/sys/module/module/parameters/sig_enforce", "Y").unwrap();
    expect(
        "foreseen",
        &foreseen(lab, good),
        &vec!["SignatureRequired", "LockdownActive", "FtraceDisabled"],
    );
    refused(lab, module(), Errno::EKEYREJECTED, R::SignatureRequired);
    let unsupported = module_of("lp_offband_v1", damage::signature(good, 7, 64));
    refused(lab, unsupported, Errno::EKEYREJECTED, R::SignatureUnsupported);
    let stranger = module_of("signed_by_a_stranger", guest.file("signed_by_a_stranger"));
    refused(lab, stranger, Errno::EKEYREJECTED, R::SignatureKeyUnknown);

    // A policy replaces the empty one that the kernel boots with, once.
    fs::write(
        "/sys/kernel/security/ima/policy",
        "appraise func=MODULE_CHECK appraise_type=imasig\n",
    )
    .unwrap();
    refused(lab, module(), Errno::EACCES, R::AppraisalFailed);

    fs::write("/proc/sys/kernel/modules_disabled", "1").unwrap();
    assert!(foreseen(lab, good).contains(&"ModulesDisabled"));
    refused(lab, module(), Errno::EPERM, R::ModulesDisabled);
}

fn run_on(series: Series) {
    let kernel = Kernel::get(series).unwrap();
    let mut run = Run::of("refusals");
    run.boot.parameters = "module_blacklist=lp_offband_other";
    run.files = vec![
        GuestFile::bytes("modules/changed_after_signing.ko", changed_after_signing(&kernel)),
        GuestFile::bytes("modules/signed_by_a_stranger.ko", signed_by_a_stranger(&kernel)),
    ];
    run.on(series);
}

/// One of the kernel's own modules with one bit of its code changed.
fn changed_after_signing(kernel: &Kernel) -> Vec<u8> {
    let mut image = kernel.module("dummy").unwrap().unwrap();
    let middle = image.len() / 2;
    image[middle] ^= 1;
    image
}

/// A livepatch signed as the kernel's own tool signs, with a key that was made for it and that no kernel knows.
fn signed_by_a_stranger(kernel: &Kernel) -> Vec<u8> {
    debian::ensure_programs(Suite::Machine, &[("openssl", "openssl")]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [key, certificate, signed] = ["key.pem", "certificate.pem", "signed.ko"].map(|name| folder.path().join(name));
    let mut make = Command::new("openssl");
    make.args(["req", "-new", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"])
        .args(["-subj", "/CN=A stranger", "-batch"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate);
    assert!(make.output().unwrap().status.success());
    let modules = modules::build(kernel).unwrap();
    let mut sign = Command::new(kernel.headers().join("scripts/sign-file"));
    sign.arg("sha256")
        .args([&key, &certificate, &modules.join("lp_offband_v1.ko"), &signed]);
    assert!(sign.status().unwrap().success());
    fs::read(signed).unwrap()
}

#[test]
fn linux_6_1_refuses_for_the_reasons_that_are_told() {
    run_on(Series::Linux6_1);
}

#[test]
fn linux_6_12_refuses_for_the_reasons_that_are_told() {
    run_on(Series::Linux6_12);
}
