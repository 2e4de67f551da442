//! The atomic replace flag: read where it is data, inferred from the code that sets it where it is not. No IO.
//!
//! `replace` is at offset 24 of `struct klp_patch` (include/linux/livepatch.h, 5.5-7.2, x86-64 and arm64). kpatch-build
//! and klp-build allocate the structure when the module is loaded and store the flag as a constant.

use std::collections::BTreeMap;

use goblin::elf::sym::STT_FUNC;

use crate::elf::{Elf, Location, Place, Reloc};
use crate::error::InspectError;
use crate::inspection::{Architecture, Replace, ReplaceValue};
use crate::machine_code::{Store, stores, writes_at};
use crate::note::hex;
use crate::release::Release;

/// Offset of `replace` in `struct klp_patch`.
pub(crate) const REPLACE_OFFSET: u64 = 24;
const ENABLE: &str = "klp_enable_patch";
/// Stores of different values that are told in the evidence; more than one is already a contradiction.
const MAX_TOLD: usize = 3;

/// The flag of a `struct klp_patch` in static data.
pub(crate) fn in_data(elf: &Elf<'_>, patch: Location, release: Release) -> Result<Replace, InspectError> {
    if let Some(replace) = too_old(release) {
        return Ok(replace);
    }
    let flag = patch.plus(REPLACE_OFFSET);
    let section = elf.section(flag.section)?.name;
    let place = format!("{section}+{:#x}", flag.offset);
    // The flag is one byte; the three after it are padding and belong to it should it ever become a u32.
    let value = match elf.u32(flag)? {
        0 => ReplaceValue::False,
        1 => ReplaceValue::True,
        other => return Ok(unknown(format!("{place} holds {other:#x}, which is not a flag"))),
    };
    if let Some(user) = used_elsewhere(elf, flag) {
        return Ok(dynamic(format!("static data at {place} says {value}, but {user}")));
    }
    let constant = u8::from(value == ReplaceValue::True);
    let overwrites = init_stores(elf)?
        .into_iter()
        .find(|store| store.constant != Some(constant));
    match overwrites {
        Some(store) => Ok(dynamic(format!(
            "static data at {place} says {value}, but code may overwrite it: {}",
            tell(&store)
        ))),
        None => Ok(Replace {
            value,
            evidence: format!("static data: byte at {place} is {constant}"),
        }),
    }
}

/// The flag of a `struct klp_patch` that is allocated at load.
pub(crate) fn in_code(elf: &Elf<'_>, release: Release) -> Result<Replace, InspectError> {
    if let Some(replace) = too_old(release) {
        return Ok(replace);
    }
    let stores = init_stores(elf)?;
    let told = stores.iter().take(MAX_TOLD).map(tell).collect::<Vec<_>>().join("; ");
    let Some(first) = stores.first() else {
        return Ok(unknown(format!(
            "no store to offset {REPLACE_OFFSET:#x} was found in the code that calls {ENABLE}"
        )));
    };
    if stores.len() > 1 {
        return Ok(unknown(format!(
            "contradicting stores in the code that calls {ENABLE}: {told}"
        )));
    }
    match first.constant {
        Some(0) => Ok(Replace {
            value: ReplaceValue::False,
            evidence: format!("code that calls {ENABLE}: {told}"),
        }),
        Some(1) => Ok(Replace {
            value: ReplaceValue::True,
            evidence: format!("code that calls {ENABLE}: {told}"),
        }),
        Some(_) => Ok(unknown(format!("not a flag: {told}"))),
        None => Ok(dynamic(format!(
            "set from a variable in the code that calls {ENABLE}: {told}"
        ))),
    }
}

fn too_old(release: Release) -> Option<Replace> {
    (release < Release::WITH_STATES)
        .then(|| unknown("the layout of struct klp_patch is known from kernel 5.5 on".to_owned()))
}

fn unknown(evidence: String) -> Replace {
    Replace {
        value: ReplaceValue::Unknown,
        evidence,
    }
}

fn dynamic(evidence: String) -> Replace {
    Replace {
        value: ReplaceValue::Dynamic,
        evidence,
    }
}

/// One store to the flag, for a person: place, bytes and value.
fn tell(store: &FoundStore<'_>) -> String {
    let value = store
        .constant
        .map_or_else(|| "a variable".to_owned(), |constant| constant.to_string());
    format!(
        "{}+{:#x} {} stores {value}",
        store.section,
        store.offset,
        hex(store.bytes)
    )
}

struct FoundStore<'a> {
    section: &'a str,
    offset: u64,
    bytes: &'a [u8],
    constant: Option<u8>,
}

/// Byte stores to offset 24 of anything, in all `.init.text` code and in functions that call `klp_enable_patch`: the
/// first of each value, so that their number stays small whatever the code is.
fn init_stores<'a>(elf: &Elf<'a>) -> Result<Vec<FoundStore<'a>>, InspectError> {
    let mut found = BTreeMap::new();
    for (index, section) in elf
        .sections()
        .iter()
        .enumerate()
        .filter(|(_, section)| section.is_code())
    {
        let mut ranges = callers(elf, index)?;
        if section.name.starts_with(".init.text") {
            ranges = vec![(0, section.data.len())];
        }
        if ranges.is_empty() {
            continue;
        }
        let mut relocs: Vec<u64> = elf.relocs(index).map(|reloc| reloc.offset).collect();
        relocs.sort_unstable();
        for (from, to) in ranges {
            let Some(code) = section.data.get(from..to) else {
                continue;
            };
            stores(elf.architecture, code, |Store { start, len, constant }| {
                let start = from + start;
                // What a relocation fills in is no known constant, so such bytes are another instruction.
                let next = relocs.partition_point(|&offset| offset + 3 < start as u64);
                if relocs.get(next).is_none_or(|&offset| offset >= (start + len) as u64) {
                    let bytes = section.data.get(start..start + len).unwrap_or_default();
                    let store = FoundStore {
                        section: section.name,
                        offset: start as u64,
                        bytes,
                        constant,
                    };
                    found.entry(constant).or_insert(store);
                }
            });
        }
    }
    Ok(found.into_values().collect())
}

/// Start and end of the functions of a section that call `klp_enable_patch`, without overlaps.
fn callers(elf: &Elf<'_>, section: usize) -> Result<Vec<(usize, usize)>, InspectError> {
    let mut calls = Vec::new();
    for reloc in elf.relocs(section) {
        let Some(symbol) = elf.symbol(reloc.symbol) else {
            continue;
        };
        if symbol.place == Place::Undefined && elf.symbol_name(&symbol)? == ENABLE {
            calls.push(reloc.offset);
        }
    }
    if calls.is_empty() {
        return Ok(Vec::new());
    }
    calls.sort_unstable();
    let functions = elf
        .symbols()
        .filter(|symbol| symbol.kind == STT_FUNC && symbol.place == Place::Section(section));
    let mut ranges: Vec<(usize, usize)> = functions
        .filter_map(|symbol| Some((symbol.value, symbol.value.checked_add(symbol.size)?)))
        .filter(|&(start, end)| {
            calls
                .get(calls.partition_point(|&call| call < start))
                .is_some_and(|&call| call < end)
        })
        .filter_map(|(start, end)| Some((usize::try_from(start).ok()?, usize::try_from(end).ok()?)))
        .collect();
    ranges.sort_unstable();
    let mut apart: Vec<(usize, usize)> = Vec::new();
    for (start, end) in ranges {
        match apart.last_mut() {
            Some(last) if start < last.1 => last.1 = last.1.max(end),
            _ => apart.push((start, end)),
        }
    }
    Ok(apart)
}

/// Who else refers to the flag in static data: a parameter's pointer, or an instruction that writes it.
fn used_elsewhere(elf: &Elf<'_>, flag: Location) -> Option<String> {
    for (index, section) in elf
        .sections()
        .iter()
        .enumerate()
        .filter(|(_, section)| section.is_allocated())
    {
        let code = section.is_code();
        let refers = |reloc: &Reloc| {
            if code {
                code_writes(elf, section.data, reloc, flag)
            } else {
                elf.is_pointer(reloc) && elf.resolve(reloc) == Some(flag)
            }
        };
        if let Some(reloc) = elf.relocs(index).find(refers) {
            let what = if code { "code writes it" } else { "its address is taken" };
            return Some(format!("{what} at {}+{:#x}", section.name, reloc.offset));
        }
    }
    None
}

fn code_writes(elf: &Elf<'_>, code: &[u8], reloc: &Reloc, flag: Location) -> bool {
    let Some(target) = elf.resolve(reloc).filter(|target| target.section == flag.section) else {
        return false;
    };
    match elf.architecture {
        Architecture::Amd64 => match reloc.kind {
            // PC32 and PLT32: the addend also counts the bytes up to the next instruction, the field and an immediate.
            2 | 4 => (4..=8).any(|rest| target.offset + rest == flag.offset) && writes_at(code, reloc.offset),
            _ => target == flag,
        },
        // Page addresses (275, 276) say nothing about the byte; what uses the low 12 bits of exactly this one does.
        Architecture::Arm64 => !matches!(reloc.kind, 275 | 276) && target == flag,
    }
}
