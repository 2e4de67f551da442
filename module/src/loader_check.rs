//! Refuses files that would lead a kernel's module loader out of bounds. No IO.
//!
//! `simplify_symbols()` and `apply_relocate_add()` (kernel/module/main.c and arch/*/kernel/module.c, 6.1-7.2) use a
//! symbol's section number, a relocation's symbol number and a relocation's offset as they stand in the file.

use goblin::elf::section_header::{SHT_REL, SHT_RELA};

use crate::elf::{Elf, Place, relocs_in};
use crate::error::{InspectError, malformed};
use crate::sections::{SHF_RELA_LIVEPATCH, Section};
use crate::validate::{is_module_name, is_symbol_name};

const KLP_SECTION: &str = ".klp.rela.";
const KLP_SYMBOL: &str = ".klp.sym.";

/// Checks every index that the kernel follows, and the names of livepatch relocations and symbols.
///
/// Returns the objects that `.klp.rela` sections refer to, sorted.
pub(crate) fn check(elf: &Elf<'_>) -> Result<Vec<String>, InspectError> {
    let mut count: u32 = 0;
    for symbol in elf.symbols() {
        count = count.saturating_add(1);
        let name = elf.symbol_name(&symbol)?;
        match symbol.place {
            Place::Invalid => return Err(malformed(format!("symbol {name} is in a section that does not exist"))),
            Place::Common => {
                return Err(malformed(format!(
                    "symbol {name} is a common symbol, compile with -fno-common"
                )));
            }
            Place::Livepatch if !is_klp_symbol(name) => {
                return Err(malformed(format!(
                    "livepatch symbol {name} is not named .klp.sym.<object>.<symbol>,<position>"
                )));
            }
            _ => {}
        }
    }
    let mut objects = Vec::new();
    for section in elf.sections() {
        check_relocations(elf, section, count)?;
        if section.flags & SHF_RELA_LIVEPATCH != 0 {
            objects.push(klp_object(section)?.to_owned());
        }
    }
    objects.sort_unstable();
    objects.dedup();
    Ok(objects)
}

fn check_relocations(elf: &Elf<'_>, section: &Section<'_>, symbols: u32) -> Result<(), InspectError> {
    if !matches!(section.kind, SHT_REL | SHT_RELA) {
        return Ok(());
    }
    let target = usize::try_from(section.info)
        .ok()
        .and_then(|index| elf.sections().get(index));
    let Some(target) = target else {
        return Err(malformed(format!(
            "section {} relocates a section that does not exist",
            section.name
        )));
    };
    if !target.is_allocated() {
        return Ok(());
    }
    if section.kind == SHT_REL {
        return Err(malformed(format!(
            "section {} has relocations without addend",
            section.name
        )));
    }
    for reloc in relocs_in(section) {
        if reloc.symbol >= symbols {
            return Err(malformed(format!(
                "section {} relocates to a symbol that does not exist",
                section.name
            )));
        }
        if reloc.offset >= target.size {
            return Err(malformed(format!(
                "section {} relocates beyond the end of {}",
                section.name, target.name
            )));
        }
    }
    Ok(())
}

/// The object in `.klp.rela.<object>.<section>`, as `klp_resolve_symbols()` takes it apart.
fn klp_object<'a>(section: &Section<'a>) -> Result<&'a str, InspectError> {
    section
        .name
        .strip_prefix(KLP_SECTION)
        .and_then(|rest| rest.split_once('.'))
        .map(|(object, _)| object)
        .filter(|object| is_module_name(object))
        .ok_or_else(|| {
            malformed(format!(
                "livepatch section {} is not named .klp.rela.<object>.<section>",
                section.name
            ))
        })
}

fn is_klp_symbol(name: &str) -> bool {
    let parts = name.strip_prefix(KLP_SYMBOL).and_then(|rest| rest.split_once('.'));
    parts.is_some_and(|(object, rest)| {
        is_module_name(object)
            && rest.rsplit_once(',').is_some_and(|(symbol, position)| {
                is_symbol_name(symbol) && !position.is_empty() && position.bytes().all(|byte| byte.is_ascii_digit())
            })
    })
}
