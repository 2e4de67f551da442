//! ELF notes: the GNU build id of the module. No IO.

use std::fmt::Write;

use goblin::elf::section_header::SHT_NOTE;

use crate::elf::Elf;

const NT_GNU_BUILD_ID: u32 = 3;
/// Build ids are 16 (md5) or 20 (sha1) bytes, at most what `ld --build-id=0x…` is given.
const BUILD_ID_BYTES: std::ops::RangeInclusive<usize> = 4..=64;

/// The build id of the module in lower-case hex, as `/sys/module/<name>/notes/.note.gnu.build-id` has it once loaded.
pub(crate) fn build_id(elf: &Elf<'_>) -> Option<String> {
    let mut notes = elf
        .sections()
        .iter()
        .filter(|section| section.kind == SHT_NOTE && section.is_allocated());
    notes.find_map(|section| gnu_build_id(section.data))
}

/// Finds the GNU build id among the notes of one section, or of `/sys/kernel/notes`, and spells it in lower-case hex.
pub fn gnu_build_id(mut notes: &[u8]) -> Option<String> {
    while notes.len() >= 12 {
        let word = |at: usize| notes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
        let (name_size, desc_size, kind) = (word(0)?, word(4)?, word(8)?);
        let name_end = 12usize.checked_add(usize::try_from(name_size).ok()?)?;
        let desc_start = name_end.checked_next_multiple_of(4)?;
        let desc_end = desc_start.checked_add(usize::try_from(desc_size).ok()?)?;
        let desc = notes.get(desc_start..desc_end)?;
        if kind == NT_GNU_BUILD_ID && notes.get(12..name_end) == Some(b"GNU\0") && BUILD_ID_BYTES.contains(&desc.len())
        {
            return Some(hex(desc));
        }
        notes = notes.get(desc_end.checked_next_multiple_of(4)?..)?;
    }
    None
}

/// Bytes in lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}
