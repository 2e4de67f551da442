//! A description as of a real module, for tests. No IO.

use livepatch_module::{Architecture, Format, Function, Inspection, Object, Replace, ReplaceValue};

use crate::assemble::ModuleFile;
use crate::digest::Digest;

/// A module whose file has its name and kernel as content.
pub(crate) fn module(name: &str, release: &str, kernel_build_id: Option<&str>) -> ModuleFile {
    let bytes = format!("{name} for {release} {kernel_build_id:?}").into_bytes();
    let inspection = Inspection {
        name: name.to_owned(),
        format: Format::Static,
        kernel_release: release.to_owned(),
        vermagic: format!("{release} SMP preempt mod_unload modversions "),
        architecture: Architecture::Amd64,
        build_id: Some("0123456789abcdef0123456789abcdef01234567".to_owned()),
        sha256: Digest::of(&bytes).hex().to_owned(),
        size: bytes.len() as u64,
        replace: Replace {
            value: ReplaceValue::False,
            evidence: "byte 24 of patch in .data".to_owned(),
        },
        objects: vec![Object {
            name: livepatch_module::VMLINUX.to_owned(),
            functions: vec![Function {
                name: "version_proc_show".to_owned(),
                position: 1,
            }],
            callbacks: Vec::new(),
        }],
        states: Vec::new(),
        shadow_variables: false,
        depends: Vec::new(),
        signature: None,
        license: Some("GPL".to_owned()),
    };
    ModuleFile {
        bytes: bytes.into(),
        inspection,
        kernel_build_id: kernel_build_id.map(str::to_owned),
    }
}
