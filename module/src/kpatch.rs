//! Livepatches made by kpatch-build: tables in `.kpatch.*` sections, the structures are allocated at load. No IO.
//!
//! Layouts are those of kpatch 0.9 (kmod/patch/kpatch-patch.h). They hold no `klp_state`.

use crate::elf::{Elf, Location};
use crate::error::{InspectError, malformed};
use crate::inspection::Callback;
use crate::patched::{Livepatch, Patched};
use crate::pointers::Structures;
use crate::release::Release;
use crate::{VMLINUX, replace_flag};

/// `struct kpatch_patch_func`: replacement and original with their sizes, position, name, object; 8 bytes each.
const FUNC_BYTES: u64 = 56;
const FUNC_POSITION: u64 = 32;
const FUNC_NAME: u64 = 40;
const FUNC_OBJECT: u64 = 48;
/// A function pointer and the name of its object.
const CALLBACK_BYTES: u64 = 16;
const CALLBACK_OBJECT: u64 = 8;

/// Reads the tables of kpatch-build; `Ok(None)` if the module has none.
pub(crate) fn find(elf: &Elf<'_>, release: Release) -> Result<Option<Livepatch>, InspectError> {
    let Some((section, table)) = elf.section_named(".kpatch.funcs")?.filter(|(_, table)| table.size > 0) else {
        return Ok(None);
    };
    if table.size % FUNC_BYTES != 0 {
        return Err(malformed(format!(
            ".kpatch.funcs has {} bytes, no multiple of {FUNC_BYTES}",
            table.size
        )));
    }
    let mut structures = Structures::new(elf);
    structures.pointers_in(section, FUNC_BYTES, &[0, FUNC_NAME, FUNC_OBJECT])?;
    let mut patched = Patched::default();
    for index in 0..table.size / FUNC_BYTES {
        let at = Location {
            section,
            offset: index * FUNC_BYTES,
        };
        let new = structures.pointer(at)?;
        let (Some(_), Some(name), Some(object)) = (
            new,
            structures.text(at.plus(FUNC_NAME))?,
            structures.text(at.plus(FUNC_OBJECT))?,
        ) else {
            return Err(malformed(
                "an entry of .kpatch.funcs lacks its name, its object or its replacement",
            ));
        };
        let object = add_object(&mut patched, object)?;
        patched.function(&object, name, elf.u64(at.plus(FUNC_POSITION))?)?;
    }
    for callback in Callback::ALL {
        read_callbacks(&mut structures, callback, &mut patched)?;
    }
    Ok(Some(Livepatch {
        patched,
        states: Vec::new(),
        replace: replace_flag::in_code(elf, release)?,
    }))
}

fn read_callbacks(
    structures: &mut Structures<'_, '_>,
    callback: Callback,
    patched: &mut Patched,
) -> Result<(), InspectError> {
    let name = format!(".kpatch.callbacks.{callback}");
    let Some((section, table)) = structures.elf.section_named(&name)? else {
        return Ok(());
    };
    // Whatever is left after the pairs is the zero word that ends them.
    let entries = structures
        .pointers_in(section, CALLBACK_BYTES, &[0, CALLBACK_OBJECT])?
        .div_ceil(2) as u64;
    for index in 0..entries.min(table.size / CALLBACK_BYTES) {
        let at = Location {
            section,
            offset: index * CALLBACK_BYTES,
        };
        match (structures.pointer(at)?, structures.text(at.plus(CALLBACK_OBJECT))?) {
            (Some(_), Some(object)) => {
                let object = add_object(patched, object)?;
                patched.callback(&object, callback)?;
            }
            _ => {
                return Err(malformed(format!(
                    "an entry of {name} lacks its function or its object"
                )));
            }
        }
    }
    Ok(())
}

/// kpatch names the kernel; everybody else leaves the name out.
fn add_object(patched: &mut Patched, name: &str) -> Result<String, InspectError> {
    patched.object(Some(name).filter(|&name| name != VMLINUX))
}
