//! Puts the answer about one module together. No IO.

use goblin::elf::sym::STT_FUNC;
use sha2::{Digest, Sha256};

use crate::compression::Compression;
use crate::elf::{Elf, Place};
use crate::error::{InspectError, ambiguous, malformed};
use crate::inspection::{Format, Inspection};
use crate::limits::MAX_MODULE_BYTES;
use crate::modinfo::{Modinfo, module_name};
use crate::patched::Livepatch;
use crate::release::Release;
use crate::{klp_build, kpatch, loader_check, note, signature, static_format};

/// An [`Inspection`] and what only the file itself tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Details {
    /// The description that travels with the module.
    pub inspection: Inspection,
    /// Objects whose symbols the livepatch core resolves for this module (`.klp.rela.*`), sorted.
    pub relocation_objects: Vec<String>,
    /// Functions defined in the module outside its init and exit code, sorted. Where another livepatch patches a
    /// function of such a name, this module's own copy stays as it is.
    pub own_functions: Vec<String>,
}

/// Reads one uncompressed livepatch module.
///
/// Nothing is executed or trusted: every offset, count and index in the file is checked before it is used, and the
/// signature trailer is described, not verified.
///
/// # Errors
/// See [`InspectError`]; an ordinary kernel module is [`InspectError::NotALivepatch`] and carries its name.
pub fn inspect(bytes: &[u8]) -> Result<Inspection, InspectError> {
    let (inspection, _, _) = read(bytes)?;
    Ok(inspection)
}

/// Reads one uncompressed livepatch module with everything that is known about it.
///
/// # Errors
/// As [`inspect`].
pub fn inspect_details(bytes: &[u8]) -> Result<Details, InspectError> {
    let (inspection, elf, relocation_objects) = read(bytes)?;
    let own_functions = own_functions(&elf)?;
    Ok(Details {
        inspection,
        relocation_objects,
        own_functions,
    })
}

fn read(bytes: &[u8]) -> Result<(Inspection, Elf<'_>, Vec<String>), InspectError> {
    if bytes.len() > MAX_MODULE_BYTES {
        return Err(InspectError::TooLarge {
            what: "file",
            actual: bytes.len() as u64,
            limit: MAX_MODULE_BYTES as u64,
        });
    }
    if let Some(compression) = Compression::of(bytes) {
        return Err(InspectError::Compressed { compression });
    }
    let (module, signature) = signature::split(bytes)?;
    let elf = Elf::parse(module)?;
    let modinfo = Modinfo::read(&elf)?;
    let name = module_name(&elf, &modinfo)?;
    // The kernel looks for the key alone (check_modinfo_livepatch(), kernel/module/main.c).
    if modinfo.first("livepatch").is_none() {
        return Err(InspectError::NotALivepatch { name });
    }
    let relocation_objects = loader_check::check(&elf)?;
    modinfo.only("vermagic")?;
    let vermagic = modinfo
        .text("vermagic")?
        .ok_or_else(|| malformed("no vermagic= in .modinfo"))?;
    let kernel_release = vermagic.split(' ').next().unwrap_or_default().to_owned();
    let (format, livepatch) = livepatch(&elf, &name, Release::parse(&kernel_release))?;
    let inspection = Inspection {
        name,
        format,
        kernel_release,
        vermagic,
        architecture: elf.architecture,
        build_id: note::build_id(&elf),
        sha256: note::hex(&Sha256::digest(bytes)),
        size: bytes.len() as u64,
        replace: livepatch.replace,
        objects: livepatch.patched.finish(),
        states: livepatch.states,
        shadow_variables: elf.imports(|name| name.starts_with("klp_shadow_"))?,
        depends: modinfo.depends()?,
        signature,
        license: modinfo.text("license")?,
    };
    // What is told here must pass as a description from outside too, or an artefact would be refused later.
    inspection
        .validate()
        .map_err(|invalid| malformed(invalid.to_string()))?;
    Ok((inspection, elf, relocation_objects))
}

fn livepatch(elf: &Elf<'_>, name: &str, release: Release) -> Result<(Format, Livepatch), InspectError> {
    let unknown = |why: &str| InspectError::UnknownLayout {
        name: name.to_owned(),
        why: why.to_owned(),
    };
    if !elf.imports(|name| name == "klp_enable_patch")? {
        return Err(unknown(
            "it never calls klp_enable_patch, as every livepatch since kernel 5.1 does",
        ));
    }
    let found = [
        (Format::Static, static_format::find(elf, release)?),
        (Format::KpatchBuild, kpatch::find(elf, release)?),
        (Format::KlpBuild, klp_build::find(elf, release)?),
    ];
    let mut found = found
        .into_iter()
        .filter_map(|(format, livepatch)| Some((format, livepatch?)));
    match (found.next(), found.next()) {
        (Some(only), None) => Ok(only),
        (Some((one, _)), Some((other, _))) => Err(ambiguous(format!(
            "it has a complete livepatch in the layout of {one} and one in that of {other}"
        ))),
        (None, _) => Err(unknown(
            "no struct klp_patch in its data, no table of kpatch-build or klp-build",
        )),
    }
}

fn own_functions(elf: &Elf<'_>) -> Result<Vec<String>, InspectError> {
    let mut names = Vec::new();
    for symbol in elf.symbols().filter(|symbol| symbol.kind == STT_FUNC) {
        let Place::Section(section) = symbol.place else {
            continue;
        };
        let section = elf.section(section)?.name;
        if !section.starts_with(".init.text") && !section.starts_with(".exit.text") {
            names.push(elf.symbol_name(&symbol)?.to_owned());
        }
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}
