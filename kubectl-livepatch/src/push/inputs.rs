//! The module files: read, unpacked, described, and refused by name. Reads files.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use livepatch_artifact::ModuleFile;
use livepatch_module::{Inspection, MAX_MODULE_BYTES, ReplaceValue};

use super::Failure;
use super::kernel::Kernels;
use crate::output::with_causes;

/// One file and what was read from it.
#[derive(Debug)]
pub(super) struct Input {
    path: PathBuf,
    /// What will be pushed.
    pub(super) module: ModuleFile,
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inspection = &self.module.inspection;
        let functions = inspection.function_count();
        let plural = if functions == 1 { "function" } else { "functions" };
        let replace = match inspection.replace.value {
            ReplaceValue::True => "replaces all other livepatches",
            ReplaceValue::False => "leaves other livepatches alone",
            ReplaceValue::Dynamic => "decides when it is loaded whether it replaces others",
            ReplaceValue::Unknown => "not proven whether it replaces others",
        };
        write!(
            f,
            "{}: {} for {} ({}), {functions} {plural}, {replace}",
            self.path.display(),
            inspection.name,
            inspection.kernel_release,
            inspection.architecture
        )
    }
}

/// Reads all files. Every file that cannot be pushed is named, not only the first.
pub(super) fn read(paths: &[PathBuf], kernels: &Kernels) -> Result<Vec<Input>, Failure> {
    let mut refusals = Vec::new();
    let mut inputs = Vec::new();
    for path in paths {
        match read_one(path) {
            Ok((bytes, inspection)) => inputs.push(Input {
                path: path.clone(),
                module: ModuleFile {
                    kernel_build_id: kernels.build_id(&inspection.kernel_release).map(str::to_owned),
                    bytes: bytes.into(),
                    inspection,
                },
            }),
            Err(why) => refusals.push(format!("{}: {why}", path.display())),
        }
    }
    refusals.extend(overlaps(&inputs));
    if !refusals.is_empty() {
        return Err(Failure::Refused { refusals });
    }
    kernels.check(
        inputs
            .iter()
            .map(|input| input.module.inspection.kernel_release.as_str()),
    )?;
    Ok(inputs)
}

fn read_one(path: &Path) -> Result<(Vec<u8>, Inspection), String> {
    let mut packed = Vec::new();
    // One byte more than allowed tells that there was more.
    let limit = MAX_MODULE_BYTES as u64 + 1;
    File::open(path)
        .and_then(|file| file.take(limit).read_to_end(&mut packed))
        .map_err(|error| format!("cannot be read: {error}"))?;
    let bytes = livepatch_module::decompress(&packed, MAX_MODULE_BYTES).map_err(|error| with_causes(&error))?;
    let inspection = livepatch_module::inspect(&bytes).map_err(|error| with_causes(&error))?;
    if inspection.build_id.is_none() {
        return Err(format!(
            "{} has no GNU build id, so a node could not tell it from another module once it is loaded; link it with --build-id",
            inspection.name
        ));
    }
    Ok((bytes.into_owned(), inspection))
}

/// Pairs of files that one kernel could not choose between.
fn overlaps(inputs: &[Input]) -> Vec<String> {
    let mut found = Vec::new();
    for (at, one) in inputs.iter().enumerate() {
        for other in inputs.iter().skip(at + 1) {
            if one.module.overlaps(&other.module) {
                found.push(format!(
                    "{} and {}: both are for kernel {}, an artefact has one module for each kernel",
                    one.path.display(),
                    other.path.display(),
                    one.module.inspection.kernel_release
                ));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_that_is_no_livepatch_is_named_with_its_reason() {
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> = [
            ("text.ko", &b"#!/bin/sh\n"[..]),
            ("empty.ko", b""),
            ("cut.ko", b"\x7fELF\x02\x01\x01"),
            ("damaged.ko.xz", b"\xfd7zXZ\0rubbish"),
        ]
        .into_iter()
        .map(|(name, content)| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        })
        .chain([folder.path().join("absent.ko"), folder.path().to_owned()])
        .collect();
        let Err(Failure::Refused { refusals }) = read(&paths, &Kernels::default()) else {
            panic!("taken for livepatches");
        };
        assert_eq!(refusals.len(), paths.len(), "{refusals:?}");
        for (refusal, path) in refusals.iter().zip(&paths) {
            assert!(refusal.starts_with(&format!("{}: ", path.display())), "{refusal}");
        }
        assert!(refusals[0].contains("not an ELF file"), "{refusals:?}");
        assert!(refusals[3].contains("xz"), "{refusals:?}");
    }
}
