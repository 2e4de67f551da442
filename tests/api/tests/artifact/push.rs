//! The plugin, statically linked as it is released, against a real registry.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use livepatch_artifact::Reference;
use livepatch_rig::install::Programs;
use livepatch_rig::registry::{Options, Registry};
use serde_json::Value;

use crate::rig::{
    CUMULATIVE, OFF_BAND, PLAIN, configuration, module, module_path, open_registry, plain, puller, was_asked_for,
};

static PLUGIN: LazyLock<PathBuf> = LazyLock::new(|| Programs::build().unwrap().plugin().to_owned());

fn plugin(arguments: &[&str], files: &[&Path]) -> Output {
    command(arguments, files).output().unwrap()
}

fn command(arguments: &[&str], files: &[&Path]) -> Command {
    let mut command = Command::new(&*PLUGIN);
    // Nothing of the person who runs the tests.
    command.env("DOCKER_CONFIG", "/nonexistent").args(arguments).args(files);
    command
}

#[track_caller]
fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}", told(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What is said of a failure with this exit code.
#[track_caller]
fn refused(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{}", told(output));
    assert!(output.stdout.is_empty());
    told(output)
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn what_is_printed_can_be_pulled() {
    let registry = open_registry();
    let target = format!("{}/livepatches/nf-tables:2026-11", registry.host());
    let pushed = plugin(&["push", "--plain-http", &target], &[&module_path(OFF_BAND)]);
    let reference: Reference = printed(&pushed).trim().parse().unwrap();
    assert!(
        told(&pushed).contains("leaves other livepatches alone"),
        "{}",
        told(&pushed)
    );
    let bundle = puller(&registry, plain()).bundle(&reference).await.unwrap();
    assert_eq!(bundle.entries[0].inspection, module(OFF_BAND).inspection);

    // Packed or not, tagged or not: the same.
    let folder = configuration(&[]);
    let packed = folder.path().join("a.ko.xz");
    let xz = Command::new("xz")
        .args(["--stdout", "--keep"])
        .arg(module_path(OFF_BAND))
        .output()
        .unwrap();
    fs::write(&packed, xz.stdout).unwrap();
    let untagged = format!("{}/livepatches/nf-tables", registry.host());
    let again = plugin(&["push", "--quiet", "--plain-http", &untagged], &[&packed]);
    assert_eq!(printed(&again).trim(), reference.to_string());
    assert!(again.stderr.is_empty(), "{}", told(&again));
}

#[tokio::test]
async fn a_build_of_the_kernel_and_cves_reach_the_bundle() {
    let registry = open_registry();
    let target = format!("{}/a", registry.host());
    let arguments = [
        "push",
        "--plain-http",
        "--kernel-build-id",
        "AABBCCDD",
        "--cve",
        "CVE-2026-1234",
        "-o",
        "json",
        &target,
    ];
    let json: Value = serde_json::from_str(&printed(&plugin(&arguments, &[&module_path(CUMULATIVE)]))).unwrap();
    assert_eq!(json["modules"][0]["replace"], "true");
    let reference: Reference = json["reference"].as_str().unwrap().parse().unwrap();
    let bundle = puller(&registry, plain()).bundle(&reference).await.unwrap();
    assert_eq!(bundle.cves, ["CVE-2026-1234"]);
    assert_eq!(bundle.entries[0].kernel_build_id.as_deref(), Some("aabbccdd"));
    let release = bundle.entries[0].kernel_release.clone();
    assert!(bundle.entry_for(&release, Some("aabbccdd"), "amd64").is_some());
    assert!(bundle.entry_for(&release, Some("aabbccde"), "amd64").is_none());
}

#[test]
fn every_file_that_cannot_be_pushed_is_named_and_nothing_is_sent() {
    let registry = open_registry();
    let folder = configuration(&[("text.ko", "#!/bin/sh\n"), ("cut.ko", "")]);
    let (text, cut) = (folder.path().join("text.ko"), folder.path().join("cut.ko"));
    let whole = fs::read(module_path(OFF_BAND)).unwrap();
    fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let target = format!("{}/never/sent", registry.host());
    let files = [OFF_BAND, PLAIN, CUMULATIVE].map(module_path);
    let [good, plain, second] = files.each_ref().map(PathBuf::as_path);
    let output = plugin(
        &["push", "--plain-http", &target],
        &[good, &text, &cut, plain, second, Path::new("absent.ko")],
    );
    let told = refused(&output, 3);
    for (file, reason) in [
        ("text.ko: ", "not an ELF file"),
        ("cut.ko: ", "truncated"),
        ("fmt_plain.ko: ", "fmt_plain is not a livepatch"),
        ("absent.ko: ", "No such file"),
        ("fmt-kpatch-replace.ko: ", "both are for kernel"),
    ] {
        let line = told.lines().find(|line| line.contains(file));
        assert!(
            line.is_some_and(|line| line.contains(reason)),
            "{file} {reason}\n{told}"
        );
    }
    assert!(told.contains("nothing was pushed"), "{told}");
    assert!(!was_asked_for(&registry, "never/sent"));
}

#[test]
fn a_private_registry_takes_the_folder_that_the_chart_takes() {
    let registry = Registry::start(Options {
        password: true,
        tls: true,
    })
    .unwrap();
    let folder = configuration(&[
        ("config.json", &registry.docker_config()),
        ("ca.crt", registry.authority().unwrap()),
    ]);
    let target = format!("{}/a", registry.host());
    let file = module_path(OFF_BAND);
    let path = folder.path().to_str().unwrap();
    printed(&plugin(&["push", "--registry-config", path, &target], &[&file]));
    // Where docker keeps it, it is found without being told.
    let found = command(&["push", &target], &[&file])
        .env("DOCKER_CONFIG", path)
        .output()
        .unwrap();
    printed(&found);

    folder.write("config.json", r#"{"credsStore": "desktop"}"#).unwrap();
    let output = plugin(&["push", "--registry-config", path, &target], &[&file]);
    let told = refused(&output, 4);
    assert!(told.contains("credential helper desktop"), "{told}");
    folder.write("config.json", "{").unwrap();
    refused(&plugin(&["push", "--registry-config", path, &target], &[&file]), 1);
}

#[test]
fn a_static_program_resolves_names_and_goes_through_a_proxy() {
    let registry = open_registry();
    let file = module_path(OFF_BAND);
    // From the hosts file.
    let by_name = format!("{}/a", registry.host().replace("127.0.0.1", "localhost"));
    printed(&plugin(&["push", "--plain-http", &by_name], &[&file]));

    // A registry written in Go answers a request that names another host in full, as a proxy is asked.
    let proxy = format!("http://{}", registry.host());
    let far = ["push", "--plain-http", "registry.invalid/a"];
    let through = command(&far, &[&file]).env("HTTP_PROXY", &proxy).output().unwrap();
    assert!(printed(&through).starts_with("registry.invalid/a@sha256:"));
    let around = command(&far, &[&file])
        .env("HTTP_PROXY", &proxy)
        .env("NO_PROXY", "registry.invalid")
        .output()
        .unwrap();
    let told = refused(&around, 5);
    assert!(told.contains("registry.invalid"), "{told}");
}

#[test]
fn a_sample_set_says_what_the_module_proves() {
    let registry = open_registry();
    let target = format!("{}/livepatches/nf_tables", registry.host());
    for (file, livepatch_type) in [(OFF_BAND, "OffBand"), (CUMULATIVE, "Cumulative")] {
        let output = plugin(&["push", "-o", "yaml", "--plain-http", &target], &[&module_path(file)]);
        let set: Value = serde_saphyr::from_str(&printed(&output)).unwrap();
        assert_eq!(set["kind"], "LivepatchSet");
        assert_eq!(set["metadata"]["name"], "nf-tables");
        assert_eq!(set["spec"]["type"], livepatch_type);
        let reference = set["spec"]["template"]["source"]["oci"]["reference"].as_str().unwrap();
        reference.parse::<Reference>().unwrap();
    }
}

#[test]
fn wrong_use_is_told_apart_from_failure() {
    let file = module_path(OFF_BAND);
    for arguments in [
        &["push", "registry.example.com/a@sha256:00"][..],
        &["push", "a:v1"],
        &["push", "--kernel-build-id", "vmlinux", "registry.example.com/a"],
        &["push", "--kernel-build-id", "6.99=aabbccdd", "registry.example.com/a"],
        &["push", "--cve", "2026-1", "registry.example.com/a"],
        &["push", "--kernel-notes", "absent", "registry.example.com/a"],
    ] {
        refused(&plugin(arguments, &[&file]), 2);
    }
    let mut registry = open_registry();
    let target = format!("{}/a", registry.host());
    registry.stop().unwrap();
    refused(&plugin(&["push", "--plain-http", &target], &[&file]), 5);
}

#[test]
fn completion_scripts_and_version_are_printed() {
    for shell in ["bash", "zsh", "fish"] {
        let script = printed(&plugin(&["completion", shell], &[]));
        assert!(
            script.contains("kubectl-livepatch") && script.contains("kernel-notes"),
            "{shell}"
        );
    }
    assert!(printed(&plugin(&["version"], &[])).starts_with("kubectl-livepatch "));
}
