//! A registry, module files and a folder of registry configuration.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use livepatch_artifact::{
    Assembled, Digest, ModuleFile, Puller, PushTarget, Reference, RegistryConfig, RepositoryPrefix, push,
};
use livepatch_rig::host::Folder;
use livepatch_rig::registry::{Options, Registry};

/// A livepatch for kernel 6.1 that leaves others alone.
pub const OFF_BAND: &str = "fmt-kpatch-keep.ko";
/// Another one for the same kernel, which replaces all others.
pub const CUMULATIVE: &str = "fmt-kpatch-replace.ko";
/// An ordinary module.
pub const PLAIN: &str = "fmt_plain.ko";

/// The path of a module file that is kept with the reader's own tests.
pub fn module_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../module/tests/fixtures")
        .join(name)
}

/// A module file with its true description.
pub fn module(name: &str) -> ModuleFile {
    let bytes = fs::read(module_path(name)).unwrap();
    ModuleFile {
        inspection: livepatch_module::inspect(&bytes).unwrap(),
        bytes: bytes.into(),
        kernel_build_id: None,
    }
}

/// A registry that speaks plain HTTP to everybody.
pub fn open_registry() -> Registry {
    Registry::start(Options::default()).unwrap()
}

/// A configuration for [`open_registry`].
pub fn plain() -> RegistryConfig {
    RegistryConfig {
        plain_http: true,
        ..RegistryConfig::default()
    }
}

/// A puller that may read everything in the registry.
pub fn puller(registry: &Registry, config: RegistryConfig) -> Puller {
    Puller::new(config, [prefix(&registry.host())].into_iter().collect()).unwrap()
}

pub fn prefix(text: &str) -> RepositoryPrefix {
    text.parse().unwrap()
}

/// Pushes and returns the reference.
pub async fn pushed(registry: &Registry, config: &RegistryConfig, files: Vec<ModuleFile>) -> Reference {
    let artefact = Assembled::new(files, &[]).unwrap();
    let target: PushTarget = format!("{}/livepatches/test:v1", registry.host()).parse().unwrap();
    push(config, &target, &artefact, &mut |_| {}).await.unwrap()
}

/// A folder as `--registry-config` takes it.
pub fn configuration(files: &[(&str, &str)]) -> Arc<Folder> {
    let folder = Folder::create("registry-config").unwrap();
    for (name, content) in files {
        folder.write(name, content).unwrap();
    }
    Arc::new(folder)
}

/// The file in which the registry keeps this content.
pub fn stored(registry: &Registry, digest: &Digest) -> PathBuf {
    let blobs = registry.folder().path().join("storage/docker/registry/v2/blobs/sha256");
    let file = blobs.join(&digest.hex()[..2]).join(digest.hex()).join("data");
    assert!(file.exists(), "{}", file.display());
    file
}

/// Whether the registry was asked for anything whose path has this part.
pub fn was_asked_for(registry: &Registry, part: &str) -> bool {
    assert!(
        told(registry, "GET /v2/") > 0,
        "what asks whether it is ready is not in the log"
    );
    told(registry, part) > 0
}

/// How many lines of the registry's log have this part.
pub fn told(registry: &Registry, part: &str) -> usize {
    // A request is logged after it is answered.
    thread::sleep(Duration::from_secs(1));
    let log = fs::read_to_string(registry.log()).unwrap();
    log.lines().filter(|line| line.contains(part)).count()
}
