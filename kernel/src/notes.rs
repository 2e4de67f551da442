//! ELF notes as sysfs shows them: `/sys/kernel/notes`, `/sys/module/<m>/notes/.note.gnu.build-id`. No IO.

use crate::identity::BuildId;

/// `NT_GNU_BUILD_ID` (include/uapi/linux/elf.h).
const NT_GNU_BUILD_ID: u32 = 3;

/// The first GNU build id among the notes, read with the byte order of this machine.
///
/// The kernel's own notes begin with several of Xen's, so name and type are both compared. Notes are padded to 4 bytes.
pub fn gnu_build_id(notes: &[u8]) -> Option<BuildId> {
    let mut rest = notes;
    while rest.len() >= 12 {
        let name_size = usize::try_from(word(rest, 0)?).ok()?;
        let content_size = usize::try_from(word(rest, 4)?).ok()?;
        let kind = word(rest, 8)?;
        let name = rest.get(12..12usize.checked_add(name_size)?)?;
        let content_start = 12usize.checked_add(padded(name_size)?)?;
        let content_end = content_start.checked_add(content_size)?;
        let content = rest.get(content_start..content_end)?;
        if kind == NT_GNU_BUILD_ID && name == b"GNU\0" {
            return BuildId::from_bytes(content).ok();
        }
        let next = content_start.checked_add(padded(content_size)?)?;
        rest = rest.get(next..)?;
    }
    None
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn padded(size: usize) -> Option<usize> {
    size.checked_next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn note(name: &[u8], kind: u32, content: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for value in [
            u32::try_from(name.len()).unwrap(),
            u32::try_from(content.len()).unwrap(),
            kind,
        ] {
            out.extend(value.to_ne_bytes());
        }
        for part in [name, content] {
            out.extend(part);
            out.resize(out.len().next_multiple_of(4), 0);
        }
        out
    }

    #[test]
    fn finds_the_build_id_behind_the_notes_of_xen() {
        let mut notes = note(b"Xen\0", 3, &[1; 20]);
        notes.extend(note(b"Xen\0", 18, b"x"));
        notes.extend(note(b"GNU\0", 1, &[9; 16]));
        notes.extend(note(b"GNU\0", 3, &[0xab; 20]));
        assert_eq!(gnu_build_id(&notes).unwrap().as_str(), "ab".repeat(20));
    }

    #[test]
    fn no_build_id_is_none() {
        assert_eq!(gnu_build_id(&note(b"Xen\0", 3, &[1; 20])), None);
        assert_eq!(gnu_build_id(&[]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let _ = gnu_build_id(&bytes);
        }

        #[test]
        fn a_build_id_after_any_notes_is_found(
            before in prop::collection::vec((1u32..40, prop::collection::vec(any::<u8>(), 0..40)), 0..6),
            id in prop::collection::vec(any::<u8>(), 4..=32),
        ) {
            let mut notes: Vec<u8> = before.iter().flat_map(|(kind, content)| note(b"Linux\0", *kind, content)).collect();
            notes.extend(note(b"GNU\0", 3, &id));
            prop_assert_eq!(gnu_build_id(&notes), BuildId::from_bytes(&id).ok());
        }
    }
}
