//! Reads modules of every format that a real compiler made.
#![expect(clippy::expect_used, reason = "a fixture that cannot be read fails the test")]

use livepatch_module::{
    Architecture, Callback, Format, Function, InspectError, Inspection, Object, ReplaceValue, State, inspect,
    inspect_details,
};

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("fixtures/", $name, ".ko"))
    };
}

fn read(bytes: &[u8]) -> Inspection {
    inspect(bytes).expect("a fixture is readable")
}

fn object(name: &str, functions: &[(&str, u64)], callbacks: &[Callback]) -> Object {
    let functions = functions.iter().map(|&(name, position)| Function {
        name: name.to_owned(),
        position,
    });
    Object {
        name: name.to_owned(),
        functions: functions.collect(),
        callbacks: callbacks.to_vec(),
    }
}

#[test]
fn static_data() {
    let it = read(fixture!("fmt_static"));
    assert_eq!(it.name, "fmt_static");
    assert_eq!(it.format, Format::Static);
    assert_eq!(it.kernel_release, "6.1.0-56-cloud-amd64");
    assert_eq!(it.vermagic, "6.1.0-56-cloud-amd64 SMP preempt mod_unload modversions ");
    assert_eq!(it.architecture, Architecture::Amd64);
    assert_eq!(it.build_id.as_ref().map(String::len), Some(40));
    assert_eq!(it.size, fixture!("fmt_static").len() as u64);
    assert_eq!(it.replace.value, ReplaceValue::True);
    assert_eq!(it.replace.evidence, "static data: byte at .data+0x18 is 1");
    assert_eq!(
        it.objects,
        [
            object("overlay", &[("overlay_target", 1)], &[]),
            object("vmlinux", &[("cmdline_proc_show", 1), ("version_proc_show", 1)], &[]),
        ]
    );
    assert_eq!(it.states, [State { id: 7, version: 1 }, State { id: 16, version: 3 }]);
    assert!(!it.shadow_variables);
    assert!(it.depends.is_empty());
    assert_eq!(it.signature, None);
    assert_eq!(it.license.as_deref(), Some("GPL"));
    assert!(it.keeps_state());
}

#[test]
fn static_data_with_callbacks_only() {
    let it = read(fixture!("fmt_static_callbacks"));
    assert_eq!(
        it.objects,
        [
            object("overlay", &[], &[Callback::PostPatch]),
            object("vmlinux", &[], &Callback::ALL)
        ]
    );
    assert_eq!(it.replace.value, ReplaceValue::False);
    assert_eq!(it.function_count(), 0);
}

#[test]
fn replace_from_a_parameter_is_dynamic() {
    let it = read(fixture!("fmt_static_dynamic"));
    assert_eq!(it.replace.value, ReplaceValue::Dynamic, "{}", it.replace.evidence);
    assert!(
        it.replace.evidence.contains("code writes it at .init.text+0x"),
        "{}",
        it.replace.evidence
    );
}

#[test]
fn shadow_variables_are_seen() {
    let it = read(fixture!("fmt_static_shadow"));
    assert!(it.shadow_variables);
    assert_eq!(it.replace.value, ReplaceValue::False);
}

#[test]
fn two_livepatches_are_ambiguous() {
    let error = inspect(fixture!("fmt_static_two")).unwrap_err();
    assert_eq!(error.reason(), "Ambiguous");
}

#[test]
fn ordinary_module_is_named() {
    let error = inspect(fixture!("fmt_plain")).unwrap_err();
    assert_eq!(
        error,
        InspectError::NotALivepatch {
            name: "fmt_plain".to_owned()
        }
    );
}

#[test]
fn kpatch_build() {
    for (bytes, name, value, store) in [
        (
            &fixture!("fmt-kpatch-replace")[..],
            "fmt_kpatch_replace",
            ReplaceValue::True,
            "18010",
        ),
        (
            &fixture!("fmt-kpatch-keep")[..],
            "fmt_kpatch_keep",
            ReplaceValue::False,
            "1800",
        ),
    ] {
        let it = read(bytes);
        assert_eq!((it.name.as_str(), it.format), (name, Format::KpatchBuild));
        assert_eq!(it.replace.value, value, "{}", it.replace.evidence);
        assert!(it.replace.evidence.contains(&store[..4]), "{}", it.replace.evidence);
        assert_eq!(
            it.objects,
            [
                object("overlay", &[("overlay_target", 1)], &[Callback::PostUnpatch]),
                object(
                    "vmlinux",
                    &[("cmdline_proc_show", 1), ("version_proc_show", 1)],
                    &[Callback::PrePatch]
                ),
            ]
        );
    }
}

#[test]
fn klp_build() {
    for (bytes, name, value) in [
        (
            &fixture!("fmt-klpbuild-replace")[..],
            "fmt_klpbuild_replace",
            ReplaceValue::True,
        ),
        (
            &fixture!("fmt-klpbuild-keep")[..],
            "fmt_klpbuild_keep",
            ReplaceValue::False,
        ),
    ] {
        let it = read(bytes);
        assert_eq!((it.name.as_str(), it.format), (name, Format::KlpBuild));
        assert_eq!(it.replace.value, value, "{}", it.replace.evidence);
        assert_eq!(
            it.objects,
            [
                object("overlay", &[("overlay_target", 1)], &[Callback::PrePatch]),
                object("vmlinux", &[("cmdline_proc_show", 1), ("version_proc_show", 1)], &[]),
            ]
        );
    }
}

/// The first kernels with klp-build named the table otherwise.
#[test]
fn klp_build_of_its_first_releases() {
    let mut bytes = fixture!("fmt-klpbuild-keep").to_vec();
    let section = b".init.klp_objects\0";
    let mut places = bytes
        .windows(section.len())
        .enumerate()
        .filter(|(_, window)| window == section);
    let at = places.next().unwrap().0;
    drop(places);
    bytes[at..at + section.len()].copy_from_slice(b"__klp_objects\0\0\0\0\0");
    assert_eq!(read(&bytes).objects, read(fixture!("fmt-klpbuild-keep")).objects);
}

#[test]
fn own_functions_leave_out_init_and_exit() {
    let details = inspect_details(fixture!("fmt_static")).unwrap();
    assert_eq!(
        details.own_functions,
        ["replacement_cmdline", "replacement_target", "replacement_version"]
    );
    assert!(details.relocation_objects.is_empty());
}

#[test]
fn json_is_the_documented_one() {
    let json = serde_json::to_value(read(fixture!("fmt_static_shadow"))).unwrap();
    let keys: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
    let mut documented = vec![
        "name",
        "format",
        "kernelRelease",
        "vermagic",
        "architecture",
        "buildId",
        "sha256",
        "size",
        "replace",
        "objects",
        "states",
        "shadowVariables",
        "depends",
        "signature",
        "license",
    ];
    documented.sort_unstable();
    assert_eq!(keys, documented);
    assert_eq!(json["format"], "Static");
    assert_eq!(json["architecture"], "amd64");
    assert_eq!(json["replace"]["value"], "false");
    assert_eq!(
        json["objects"][0]["functions"][0],
        serde_json::json!({"name": "meminfo_proc_show", "position": 1})
    );
    assert!(json["signature"].is_null());
    let back: Inspection = serde_json::from_value(json).unwrap();
    back.validate().unwrap();
    assert_eq!(back, read(fixture!("fmt_static_shadow")));
}

/// No kernel for arm64 with livepatching was at hand; these come from a compiler for arm64 all the same.
#[test]
fn arm64_layouts() {
    for (bytes, format, value) in [
        (&fixture!("arm64_static")[..], Format::Static, ReplaceValue::True),
        (
            &fixture!("arm64_static_dynamic")[..],
            Format::Static,
            ReplaceValue::Dynamic,
        ),
        (
            &fixture!("arm64_kpatch_replace")[..],
            Format::KpatchBuild,
            ReplaceValue::True,
        ),
        (
            &fixture!("arm64_kpatch_keep")[..],
            Format::KpatchBuild,
            ReplaceValue::False,
        ),
        (
            &fixture!("arm64_kpatch_dynamic")[..],
            Format::KpatchBuild,
            ReplaceValue::Dynamic,
        ),
    ] {
        let it = read(bytes);
        assert_eq!((it.architecture, it.format), (Architecture::Arm64, format));
        assert_eq!(it.replace.value, value, "{}", it.replace.evidence);
        assert_eq!(it.objects, [object("vmlinux", &[("cmdline_proc_show", 2)], &[])]);
        assert_eq!(it.build_id, None);
    }
}

#[test]
fn signature_is_described() {
    let signature = read(fixture!("fmt_static_signed")).signature.unwrap();
    assert_eq!(signature.signer.as_deref(), Some("Livepatch test key"));
    assert_eq!(signature.hash.as_deref(), Some("sha512"));
    assert_eq!(signature.key_id.as_deref(), Some("0badc0de"));
    let unsigned = read(fixture!("fmt_static"));
    assert_eq!(read(fixture!("fmt_static_signed")).objects, unsigned.objects);
}

#[test]
fn broken_signature_trailer_is_refused() {
    let mut bytes = fixture!("fmt_static_signed").to_vec();
    let length = bytes.len() - "~Module signature appended~\n".len() - 4;
    bytes[length] = 0xff;
    assert_eq!(inspect(&bytes).unwrap_err().reason(), "Malformed");
    // Half of it gone is a module without signature, as it is for a kernel.
    let unsigned = &fixture!("fmt_static_signed")[..length];
    assert_eq!(read(unsigned).signature, None);
}
