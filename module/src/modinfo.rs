//! The `.modinfo` section and the module's name. No IO.

use goblin::elf::section_header::SHT_PROGBITS;

use crate::elf::Elf;
use crate::error::{InspectError, ambiguous, malformed};
use crate::kernel_spelling;
use crate::limits::{MAX_DEPENDS, MAX_TEXT_BYTES};
use crate::validate::is_module_name;

/// Offset of `name` in `struct module`: after `state` and a `list_head` (include/linux/module.h, 64-bit, 2.6-7.2).
const NAME_OFFSET: usize = 24;
const NAME_BYTES: usize = 56;

/// The `key=value` entries of a module.
#[derive(Debug)]
pub(crate) struct Modinfo<'a> {
    data: &'a [u8],
}

impl<'a> Modinfo<'a> {
    pub(crate) fn read(elf: &Elf<'a>) -> Result<Self, InspectError> {
        let Some((_, section)) = elf.section_named(".modinfo")? else {
            return Err(InspectError::NotAModule {
                why: "it has no .modinfo section".to_owned(),
            });
        };
        if section.data.last().is_some_and(|&last| last != 0) {
            return Err(malformed("the last entry of .modinfo does not end"));
        }
        Ok(Self { data: section.data })
    }

    /// All values of a key, in the order of the file. Nothing is kept: a section may be all entries.
    fn values(&self, key: &str) -> impl Iterator<Item = &'a str> {
        self.data.split(|&byte| byte == 0).filter_map(move |entry| {
            let value = entry.strip_prefix(key.as_bytes())?.strip_prefix(b"=")?;
            std::str::from_utf8(value).ok()
        })
    }

    /// The first value of a key, which is the one the kernel takes.
    pub(crate) fn first(&self, key: &str) -> Option<&'a str> {
        self.values(key).next()
    }

    /// The value of a key that the build system writes once.
    pub(crate) fn only(&self, key: &str) -> Result<Option<&'a str>, InspectError> {
        let mut values = self.values(key);
        let first = values.next();
        if values.any(|value| Some(value) != first) {
            Err(ambiguous(format!(".modinfo has two different values of {key}")))
        } else {
            Ok(first)
        }
    }

    /// The value of a key, if it is short printable text.
    pub(crate) fn text(&self, key: &'static str) -> Result<Option<String>, InspectError> {
        let Some(value) = self.first(key) else { return Ok(None) };
        if value.len() > MAX_TEXT_BYTES {
            return Err(InspectError::TooLarge {
                what: key,
                actual: value.len() as u64,
                limit: MAX_TEXT_BYTES as u64,
            });
        }
        if value.chars().any(char::is_control) {
            return Err(malformed(format!("{key}= in .modinfo has control characters")));
        }
        Ok(Some(value.to_owned()))
    }

    /// Modules to load first, in the kernel's spelling.
    pub(crate) fn depends(&self) -> Result<Vec<String>, InspectError> {
        let names = self
            .only("depends")?
            .unwrap_or_default()
            .split(',')
            .filter(|name| !name.is_empty());
        let depends: Vec<String> = names.take(MAX_DEPENDS + 1).map(kernel_spelling).collect();
        if depends.len() > MAX_DEPENDS {
            return Err(InspectError::TooLarge {
                what: "depends",
                actual: depends.len() as u64,
                limit: MAX_DEPENDS as u64,
            });
        }
        if depends.iter().all(|name| is_module_name(name)) {
            Ok(depends)
        } else {
            Err(malformed("depends= in .modinfo has something else than module names"))
        }
    }
}

/// The name under which the kernel will list the module.
///
/// From `struct module` as the kernel takes it; `name=` of `.modinfo` must agree.
pub(crate) fn module_name(elf: &Elf<'_>, modinfo: &Modinfo<'_>) -> Result<String, InspectError> {
    let Some((_, section)) = elf.section_named(".gnu.linkonce.this_module")? else {
        return Err(InspectError::NotAModule {
            why: "it has no .gnu.linkonce.this_module section".to_owned(),
        });
    };
    if section.kind != SHT_PROGBITS || !section.is_allocated() {
        return Err(malformed(".gnu.linkonce.this_module has no contents"));
    }
    let name = section
        .data
        .get(NAME_OFFSET..NAME_OFFSET + NAME_BYTES)
        .and_then(|field| std::str::from_utf8(&field[..field.iter().position(|&byte| byte == 0)?]).ok())
        .filter(|name| is_module_name(name))
        .ok_or_else(|| malformed("the name in .gnu.linkonce.this_module is not a module name"))?;
    match modinfo.only("name")? {
        Some(other) if kernel_spelling(other) != name => Err(ambiguous(format!(
            "the module is named {name} in one place and otherwise in another"
        ))),
        _ => Ok(name.to_owned()),
    }
}
