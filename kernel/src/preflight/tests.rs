//! Preflight against the fake kernel: nothing to say about a good load, and each finding where it belongs.

use livepatch_module::{Architecture, Format, Function, Inspection, Object, Replace, ReplaceValue};

use super::{KernelState, Weight, preflight};
use crate::fake::{FakeKernel, FakeModule};
use crate::policy::Lockdown;
use crate::seam::Kernel as _;
use crate::seen::Seen;

fn inspection(name: &str, replace: ReplaceValue) -> Inspection {
    Inspection {
        name: name.into(),
        format: Format::Static,
        kernel_release: "6.12.0-fake".into(),
        vermagic: "6.12.0-fake SMP mod_unload modversions ".into(),
        architecture: Architecture::Amd64,
        build_id: FakeModule::new(name, &[]).build_id.map(Into::into),
        sha256: "0".repeat(64),
        size: 1,
        replace: Replace {
            value: replace,
            evidence: String::new(),
        },
        objects: vec![Object {
            name: "vmlinux".into(),
            functions: vec![Function {
                name: "version_proc_show".into(),
                position: 1,
            }],
            callbacks: Vec::new(),
        }],
        states: Vec::new(),
        shadow_variables: false,
        depends: Vec::new(),
        signature: None,
        license: Some("GPL".into()),
    }
}

fn found(kernel: &FakeKernel, inspection: &Inspection) -> Vec<(Weight, &'static str)> {
    let state = KernelState::read(kernel, inspection).unwrap();
    preflight(inspection, &state)
        .into_iter()
        .map(|finding| (finding.weight, finding.reason))
        .collect()
}

fn load(kernel: &FakeKernel, module: FakeModule) {
    let name = module.name.clone();
    let image = kernel.image(module);
    kernel.start_load(&name, &image, c"").unwrap().poll().unwrap().unwrap();
}

#[test]
fn a_good_load_has_no_findings() {
    assert_eq!(found(&FakeKernel::new(), &inspection("a", ReplaceValue::False)), []);
}

#[test]
fn a_module_for_another_kernel() {
    let mut module = inspection("a", ReplaceValue::False);
    module.kernel_release = "6.1.0".into();
    module.architecture = Architecture::Arm64;
    assert_eq!(
        found(&FakeKernel::new(), &module),
        [
            (Weight::Fails, "WrongArchitecture"),
            (Weight::Fails, "VersionMagicMismatch")
        ]
    );
}

#[test]
fn settings_that_refuse_and_settings_that_are_not_seen() {
    let kernel = FakeKernel::new();
    kernel.set_policy(|policy| {
        policy.modules_disabled = Seen::Known(true);
        policy.signature_enforced = Seen::Known(true);
        policy.lockdown = Seen::Known(Lockdown::Integrity);
        policy.loadpin_enforced = Seen::Known(true);
        policy.ftrace_enabled = Seen::Known(false);
        policy.replace_set = Seen::Known(true);
    });
    let reasons: Vec<_> = found(&kernel, &inspection("a", ReplaceValue::False));
    let expected = [
        "ModulesDisabled",
        "SignatureRequired",
        "LockdownActive",
        "LoadPinActive",
        "FtraceDisabled",
        "ReplaceSetUnsupported",
    ];
    assert_eq!(reasons, expected.map(|reason| (Weight::Fails, reason)));
    kernel.set_policy(|policy| {
        policy.modules_disabled = Seen::unknown("x");
        policy.signature_enforced = Seen::Known(false);
        policy.lockdown = Seen::unknown("x");
        policy.loadpin_enforced = Seen::Known(false);
        policy.ftrace_enabled = Seen::Known(true);
        policy.replace_set = Seen::Known(false);
    });
    let state = KernelState::read(&kernel, &inspection("a", ReplaceValue::False)).unwrap();
    let findings = preflight(&inspection("a", ReplaceValue::False), &state);
    assert_eq!(findings.len(), 1);
    assert!(findings[0].message.contains("modules are disabled, the lockdown level"));
}

#[test]
fn names_that_are_taken() {
    let kernel = FakeKernel::new();
    load(&kernel, FakeModule::new("a", &["other"]));
    kernel.advance(std::time::Duration::from_secs(2));
    assert_eq!(
        found(&kernel, &inspection("a", ReplaceValue::False)),
        [(Weight::Notice, "AlreadyLoaded")]
    );
    let mut another = inspection("a", ReplaceValue::False);
    another.build_id = Some("ab".repeat(20));
    assert_eq!(found(&kernel, &another), [(Weight::Fails, "NameTaken")]);
    kernel.set_enabled("a", false).unwrap();
    kernel.advance(std::time::Duration::from_secs(2));
    assert_eq!(found(&kernel, &another), [(Weight::Notice, "LeftoverRemoved")]);
    kernel.pin("a");
    assert_eq!(found(&kernel, &another), [(Weight::Uncertain, "LeftoverPinned")]);
    kernel.add_plain_module("b", 1);
    assert_eq!(
        found(&kernel, &inspection("b", ReplaceValue::False)),
        [(Weight::Fails, "NameTaken")]
    );
}

#[test]
fn what_a_load_does_to_others() {
    let kernel = FakeKernel::new();
    load(&kernel, FakeModule::new("a", &["version_proc_show"]));
    assert_eq!(
        found(&kernel, &inspection("b", ReplaceValue::True)),
        [
            (Weight::Uncertain, "TransitionRunning"),
            (Weight::Notice, "ReplacesOthers")
        ]
    );
    kernel.advance(std::time::Duration::from_secs(2));
    assert_eq!(
        found(&kernel, &inspection("b", ReplaceValue::Unknown)),
        [(Weight::Notice, "ReplacesOthers"), (Weight::Notice, "SharedFunction")]
    );
    assert_eq!(
        found(&kernel, &inspection("b", ReplaceValue::False)),
        [(Weight::Notice, "SharedFunction")]
    );
}

#[test]
fn functions_that_are_missing_or_held() {
    let kernel = FakeKernel::new();
    kernel.image(FakeModule {
        missing_symbol: Some("version_proc_show".into()),
        ..FakeModule::new("x", &[])
    });
    assert_eq!(
        found(&kernel, &inspection("a", ReplaceValue::False)),
        [(Weight::Fails, "SymbolNotFound")]
    );
    let kernel = FakeKernel::new();
    kernel.hold_function("version_proc_show");
    assert_eq!(
        found(&kernel, &inspection("a", ReplaceValue::False)),
        [(Weight::Fails, "FunctionHeldByTracer")]
    );
    let mut module = inspection("a", ReplaceValue::False);
    module.objects[0].functions[0].position = 3;
    assert_eq!(
        found(&FakeKernel::new(), &module),
        [(Weight::Fails, "SymbolPositionNotFound")]
    );
    module.objects[0].name = "xfs".into();
    assert_eq!(
        found(&FakeKernel::new(), &module),
        [(Weight::Notice, "ObjectNotLoaded")]
    );
}

#[test]
fn what_the_module_depends_on_has_to_be_loaded_before() {
    let kernel = FakeKernel::new();
    let mut module = inspection("a", ReplaceValue::False);
    module.depends = vec!["nf_tables".into()];
    assert_eq!(found(&kernel, &module), [(Weight::Fails, "UnknownSymbol")]);
    kernel.add_plain_module("nf_tables", 0);
    assert_eq!(found(&kernel, &module), []);
}

#[test]
fn each_finding_says_what_to_do() {
    let kernel = FakeKernel::new();
    load(&kernel, FakeModule::new("b", &["version_proc_show"]));
    kernel.set_policy(|policy| {
        policy.modules_disabled = Seen::Known(true);
        policy.signature_enforced = Seen::unknown("hidden");
        policy.replace_set = Seen::Known(true);
    });
    let mut module = inspection("a", ReplaceValue::Dynamic);
    module.architecture = Architecture::Arm64;
    module.kernel_release = "6.1.0".into();
    module.objects.push(Object {
        name: "xfs".into(),
        functions: Vec::new(),
        callbacks: Vec::new(),
    });
    let findings = preflight(&module, &KernelState::read(&kernel, &module).unwrap());
    assert!(findings.len() > 6, "{findings:#?}");
    for finding in findings {
        assert!(!finding.advice().is_empty(), "{finding:?}");
    }
}
