//! Livepatches with a `struct klp_patch` in static data: hand-written, samples, selftests, SUSE. No IO.
//!
//! Offsets are those of include/linux/livepatch.h, read from the BTF of 5.10, 6.1, 6.12 and 7.2 kernels for x86-64,
//! where they are identical; for arm64 they follow from the same declarations, as every field is a pointer, a `long`
//! or comes after a `struct kobject` of 64 bytes.

use crate::elf::{Elf, Location};
use crate::error::{InspectError, ambiguous, malformed};
use crate::inspection::{Callback, State};
use crate::limits::MAX_STATES;
use crate::patched::{Livepatch, Patched, checked_states};
use crate::pointers::{Shape, Structures, Target};
use crate::release::Release;
use crate::replace_flag;

const PATCH_OBJS: u64 = 8;
const PATCH_STATES: u64 = 16;
const OBJECT_FUNCS: u64 = 8;
const OBJECT_CALLBACKS: u64 = 16;
const FUNC_NEW: u64 = 8;
const FUNC_POSITION: u64 = 16;
const STATE_BYTES: u64 = 24;
const STATE_VERSION: u64 = 8;

/// `struct klp_func`: ends with an entry without name, function and position.
const FUNCS: Shape = Shape {
    pointers: &[0, FUNC_NEW],
    required: 0,
    usual_stride: 152,
};
/// `struct klp_object`: name, functions, four callbacks; ends with an entry without name and functions.
const OBJECTS: Shape = Shape {
    pointers: &[0, OBJECT_FUNCS, 16, 24, 32, 40],
    required: OBJECT_FUNCS,
    usual_stride: 168,
};

/// Places that look like a livepatch and are followed. A module has one; thousands can only be meant to waste time.
const MAX_ATTEMPTS: usize = 64;

/// Finds the one complete `struct klp_patch` in a module's data.
///
/// `Ok(None)` if nothing there looks like one.
pub(crate) fn find(elf: &Elf<'_>, release: Release) -> Result<Option<Livepatch>, InspectError> {
    let Some((module, _)) = elf.section_named(".gnu.linkonce.this_module")? else {
        return Ok(None);
    };
    let mut structures = Structures::new(elf);
    let mut found = None;
    let mut failure = None;
    let mut attempts = 0;
    for section in 0..elf.sections().len() {
        if section == module || !elf.section(section)?.is_data() {
            continue;
        }
        let this_module = Location {
            section: module,
            offset: 0,
        };
        let owners: Vec<u64> = (structures.relocs(section)?.iter())
            .filter(|reloc| elf.is_pointer(reloc) && elf.resolve(reloc) == Some(this_module))
            .map(|reloc| reloc.offset)
            .collect();
        for offset in owners {
            let at = Location { section, offset };
            let Some(objects) = objects_of(&mut structures, at) else {
                continue;
            };
            attempts += 1;
            if attempts > MAX_ATTEMPTS {
                return Err(ambiguous("dozens of places look like a livepatch"));
            }
            match read(&mut structures, at, objects) {
                Ok(_) if found.is_some() => return Err(ambiguous("two complete livepatch structures in one module")),
                Ok(parts) => found = Some((at, parts)),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
    }
    match (found, failure) {
        (Some((at, (patched, states))), _) => Ok(Some(Livepatch {
            patched,
            states,
            replace: replace_flag::in_data(elf, at, release)?,
        })),
        (None, Some(error)) => Err(error),
        (None, None) => Ok(None),
    }
}

/// The object table of what may be a `struct klp_patch`: a pointer to this module, then one to data whose second word
/// points to data again. Other structures with an owner have functions or nothing there.
fn objects_of(structures: &mut Structures<'_, '_>, at: Location) -> Option<Location> {
    let objects = data_at(structures, at.plus(PATCH_OBJS))?;
    data_at(structures, objects.plus(OBJECT_FUNCS))?;
    Some(objects)
}

fn data_at(structures: &mut Structures<'_, '_>, at: Location) -> Option<Location> {
    let target = structures.pointer(at).ok()??.inside()?;
    structures.elf.section(target.section).ok()?.is_data().then_some(target)
}

fn read(
    structures: &mut Structures<'_, '_>,
    at: Location,
    objects: Location,
) -> Result<(Patched, Vec<State>), InspectError> {
    let mut patched = Patched::default();
    read_objects(structures, objects, &mut patched)?;
    let states = match structures.pointer(at.plus(PATCH_STATES))? {
        None => Vec::new(),
        Some(Target::Inside(states)) => read_states(structures.elf, states)?,
        Some(Target::Imported) => return Err(malformed("the states are not in the module")),
    };
    Ok((patched, states))
}

fn read_objects(
    structures: &mut Structures<'_, '_>,
    table: Location,
    patched: &mut Patched,
) -> Result<(), InspectError> {
    let (stride, most) = structures.stride(table, OBJECTS)?;
    for index in 0..most {
        let at = table.plus(index * stride);
        let name = structures.text(at)?;
        let functions = structures.pointer(at.plus(OBJECT_FUNCS))?;
        if name.is_none() && functions.is_none() {
            return Ok(());
        }
        let object = patched.object(name)?;
        let Some(Target::Inside(functions)) = functions else {
            return Err(malformed(format!("object {object} has no function table")));
        };
        read_callbacks(structures, at.plus(OBJECT_CALLBACKS), &object, patched)?;
        read_functions(structures, functions, &object, patched)?;
    }
    Err(malformed("the table of objects does not end"))
}

fn read_functions(
    structures: &mut Structures<'_, '_>,
    table: Location,
    object: &str,
    patched: &mut Patched,
) -> Result<(), InspectError> {
    let (stride, most) = structures.stride(table, FUNCS)?;
    for index in 0..most {
        let at = table.plus(index * stride);
        let name = structures.text(at)?;
        let new = structures.pointer(at.plus(FUNC_NEW))?;
        let position = structures.elf.u64(at.plus(FUNC_POSITION))?;
        match (name, new) {
            (None, None) if position == 0 => return Ok(()),
            (Some(name), Some(_)) => patched.function(object, name, position)?,
            _ => {
                return Err(malformed(format!(
                    "a function of {object} lacks its name or its replacement"
                )));
            }
        }
    }
    Err(malformed(format!("the table of functions of {object} does not end")))
}

/// Adds the callbacks of one `struct klp_callbacks`, which klp-build's tables contain too.
pub(crate) fn read_callbacks(
    structures: &mut Structures<'_, '_>,
    at: Location,
    object: &str,
    patched: &mut Patched,
) -> Result<(), InspectError> {
    for (index, callback) in (0u64..).zip(Callback::ALL) {
        if structures.pointer(at.plus(index * 8))?.is_some() {
            patched.callback(object, callback)?;
        }
    }
    Ok(())
}

fn read_states(elf: &Elf<'_>, table: Location) -> Result<Vec<State>, InspectError> {
    let mut states = Vec::new();
    // One more than allowed is read, so that the limit itself reports it.
    for index in 0..=MAX_STATES as u64 {
        let at = table.plus(index * STATE_BYTES);
        let id = elf.u64(at)?;
        if id == 0 {
            break;
        }
        states.push(State {
            id,
            version: elf.u32(at.plus(STATE_VERSION))?,
        });
    }
    checked_states(states)
}
