//! Livepatches made by the kernel's own klp-build: tables of objects and functions, structures are allocated at load. No IO.
//!
//! Layouts are those of `include/linux/livepatch_external.h` in 7.2. They hold no `klp_state`.

use crate::elf::{Elf, Location};
use crate::error::{InspectError, ambiguous, malformed};
use crate::patched::{Livepatch, Patched};
use crate::pointers::{Structures, Target};
use crate::release::Release;
use crate::replace_flag;
use crate::static_format::read_callbacks;

/// `struct klp_object_ext`: name, functions, callbacks, number of functions.
const OBJECT_BYTES: u64 = 64;
const OBJECT_FUNCS: u64 = 8;
const OBJECT_CALLBACKS: u64 = 16;
const OBJECT_COUNT: u64 = 56;
/// `struct klp_func_ext`: name, replacement, position.
const FUNC_BYTES: u64 = 24;
const FUNC_NEW: u64 = 8;
const FUNC_POSITION: u64 = 16;

/// The table of objects since it is init data, and its name in the first kernels with klp-build (6.19, 7.0).
const OBJECT_TABLES: [&str; 2] = [".init.klp_objects", "__klp_objects"];

/// Reads the tables of klp-build; `Ok(None)` if the module has none.
pub(crate) fn find(elf: &Elf<'_>, release: Release) -> Result<Option<Livepatch>, InspectError> {
    let mut tables = Vec::new();
    for name in OBJECT_TABLES {
        tables.extend(elf.section_named(name)?.filter(|(_, table)| table.size > 0));
    }
    let (section, table) = match *tables.as_slice() {
        [] => return Ok(None),
        [table] => table,
        _ => {
            return Err(ambiguous(format!(
                "it has both {} and {}",
                OBJECT_TABLES[0], OBJECT_TABLES[1]
            )));
        }
    };
    if table.size % OBJECT_BYTES != 0 {
        return Err(malformed(format!(
            "{} has {} bytes, no multiple of {OBJECT_BYTES}",
            table.name, table.size
        )));
    }
    let mut structures = Structures::new(elf);
    structures.pointers_in(section, OBJECT_BYTES, &[0, OBJECT_FUNCS, 16, 24, 32, 40])?;
    let mut patched = Patched::default();
    for index in 0..table.size / OBJECT_BYTES {
        let at = Location {
            section,
            offset: index * OBJECT_BYTES,
        };
        let name = structures.text(at)?;
        let object = patched.object(name)?;
        read_callbacks(&mut structures, at.plus(OBJECT_CALLBACKS), &object, &mut patched)?;
        let functions = structures.pointer(at.plus(OBJECT_FUNCS))?;
        match (functions, u64::from(elf.u32(at.plus(OBJECT_COUNT))?)) {
            (_, 0) => {}
            (Some(Target::Inside(functions)), count) => {
                for index in 0..count {
                    read_function(
                        &mut structures,
                        functions.plus(index * FUNC_BYTES),
                        &object,
                        &mut patched,
                    )?;
                }
            }
            _ => {
                return Err(malformed(format!(
                    "object {object} counts functions and has no table of them"
                )));
            }
        }
    }
    Ok(Some(Livepatch {
        patched,
        states: Vec::new(),
        replace: replace_flag::in_code(elf, release)?,
    }))
}

fn read_function(
    structures: &mut Structures<'_, '_>,
    at: Location,
    object: &str,
    patched: &mut Patched,
) -> Result<(), InspectError> {
    match (structures.text(at)?, structures.pointer(at.plus(FUNC_NEW))?) {
        (Some(name), Some(_)) => {
            let position = structures.elf.u64(at.plus(FUNC_POSITION))?;
            patched.function(object, name, position)
        }
        _ => Err(malformed(format!(
            "a function of {object} lacks its name or its replacement"
        ))),
    }
}
