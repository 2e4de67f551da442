//! The frame of a module file: ELF header, section table and contents, each within the file. No IO.
//!
//! The rules are those of `elf_validity_check()` (kernel/module/main.c, 6.1-7.2).

use std::ops::Range;

use goblin::container::{Container, Ctx, Endian};
use goblin::elf::header::{EI_CLASS, EI_DATA, ELFCLASS64, ELFDATA2LSB, ELFMAG, EM_AARCH64, EM_X86_64, ET_REL};
use goblin::elf::section_header::{SHF_ALLOC, SHF_EXECINSTR, SHT_NOBITS, SHT_NULL, SHT_PROGBITS, SHT_RELA};
use goblin::elf::{Header, SectionHeader};

use crate::error::{InspectError, malformed};
use crate::inspection::Architecture;

/// Flag of relocation sections that the livepatch core applies itself (include/uapi/linux/elf.h).
pub(crate) const SHF_RELA_LIVEPATCH: u64 = 0x0010_0000;
/// Longest section or symbol name that is followed, in bytes; the kernel's own symbols end at 511.
const MAX_STRING: usize = 1024;
const EHDR_SIZE: usize = 64;
const SHDR_SIZE: usize = 64;

/// One section of the module.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Section<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: u32,
    pub(crate) flags: u64,
    /// Contents; empty for sections that occupy no space in the file.
    pub(crate) data: &'a [u8],
    /// Size in memory, in bytes.
    pub(crate) size: u64,
    pub(crate) link: u32,
    pub(crate) info: u32,
}

impl Section<'_> {
    pub(crate) fn is_allocated(&self) -> bool {
        self.flags & u64::from(SHF_ALLOC) != 0
    }

    pub(crate) fn is_code(&self) -> bool {
        self.flags & u64::from(SHF_EXECINSTR) != 0
    }

    /// What is in memory once the module is loaded and is not code: where structures and strings live.
    pub(crate) fn is_data(&self) -> bool {
        matches!(self.kind, SHT_PROGBITS | SHT_NOBITS) && self.is_allocated() && !self.is_code()
    }

    /// Relocations applied by the module loader, unlike those the livepatch core applies later.
    pub(crate) fn is_plain_rela(&self) -> bool {
        self.kind == SHT_RELA && self.flags & SHF_RELA_LIVEPATCH == 0
    }
}

/// 64-bit little-endian, the only kind of module read.
pub(crate) fn ctx() -> Ctx {
    Ctx::new(Container::Big, Endian::Little)
}

/// The ELF header of a 64-bit little-endian file.
pub(crate) fn header(bytes: &[u8]) -> Result<Header, InspectError> {
    if !bytes.starts_with(ELFMAG) {
        return Err(InspectError::NotElf);
    }
    let (Some(&class), Some(&data)) = (bytes.get(EI_CLASS), bytes.get(EI_DATA)) else {
        return Err(truncated("the ELF header", EHDR_SIZE as u64, bytes));
    };
    if class != ELFCLASS64 || data != ELFDATA2LSB {
        let machine = if class == ELFCLASS64 {
            "a big-endian machine"
        } else {
            "a 32-bit machine"
        };
        return Err(InspectError::UnsupportedArchitecture {
            machine: machine.to_owned(),
        });
    }
    if bytes.len() < EHDR_SIZE {
        return Err(truncated("the ELF header", EHDR_SIZE as u64, bytes));
    }
    goblin::elf::Elf::parse_header(bytes).map_err(|_| malformed("the ELF header cannot be read"))
}

/// The machine a relocatable file is for.
pub(crate) fn architecture(header: &Header) -> Result<Architecture, InspectError> {
    if header.e_type != ET_REL {
        let why = match header.e_type {
            2 => "it is a program".to_owned(),
            3 => "it is a shared library or a program".to_owned(),
            4 => "it is a core dump".to_owned(),
            other => format!("its ELF type is {other}"),
        };
        return Err(InspectError::NotAModule { why });
    }
    match header.e_machine {
        EM_X86_64 => Ok(Architecture::Amd64),
        EM_AARCH64 => Ok(Architecture::Arm64),
        machine => {
            let name = match machine {
                3 => "32-bit x86",
                21 => "64-bit PowerPC",
                22 => "s390",
                40 => "32-bit Arm",
                243 => "RISC-V",
                258 => "LoongArch",
                _ => "",
            };
            let machine = if name.is_empty() {
                format!("ELF machine {machine}")
            } else {
                name.to_owned()
            };
            Err(InspectError::UnsupportedArchitecture { machine })
        }
    }
}

/// All sections, their contents within the file.
pub(crate) fn sections<'a>(bytes: &'a [u8], header: &Header) -> Result<Vec<Section<'a>>, InspectError> {
    if usize::from(header.e_shentsize) != SHDR_SIZE {
        return Err(malformed("section headers are not 64 bytes each"));
    }
    let count = usize::from(header.e_shnum);
    let size = (count * SHDR_SIZE) as u64;
    let table = range(bytes, header.e_shoff, size)
        .ok_or_else(|| truncated("the section header table", header.e_shoff.saturating_add(size), bytes))?;
    let headers = SectionHeader::parse_from(bytes, table.start, count, ctx())
        .map_err(|_| malformed("the section header table cannot be read"))?;
    let names = match headers.get(usize::from(header.e_shstrndx)) {
        Some(names) if header.e_shstrndx != 0 => contents(bytes, names, "with the section names")?,
        _ => return Err(malformed("the section names are in a section that does not exist")),
    };
    if names.last() != Some(&0) {
        return Err(malformed("the section names do not end"));
    }
    if headers
        .first()
        .is_some_and(|first| first.sh_type != SHT_NULL || first.sh_size != 0 || first.sh_addr != 0)
    {
        return Err(malformed("section 0 is in use"));
    }
    headers.iter().map(|header| section(bytes, names, header)).collect()
}

fn section<'a>(bytes: &'a [u8], names: &'a [u8], header: &SectionHeader) -> Result<Section<'a>, InspectError> {
    let name = string_at(names, header.sh_name).ok_or_else(|| malformed("a section's name is not text"))?;
    let data = match header.sh_type {
        SHT_NULL | SHT_NOBITS => &[][..],
        _ => contents(bytes, header, name)?,
    };
    Ok(Section {
        name,
        kind: header.sh_type,
        flags: header.sh_flags,
        data,
        size: header.sh_size,
        link: header.sh_link,
        info: header.sh_info,
    })
}

fn contents<'a>(bytes: &'a [u8], header: &SectionHeader, what: &str) -> Result<&'a [u8], InspectError> {
    range(bytes, header.sh_offset, header.sh_size)
        .map(|range| &bytes[range])
        .ok_or_else(|| {
            truncated(
                &format!("section {what}"),
                header.sh_offset.saturating_add(header.sh_size),
                bytes,
            )
        })
}

/// `offset..offset + len`, if that lies within the bytes.
fn range(bytes: &[u8], offset: u64, len: u64) -> Option<Range<usize>> {
    let end = offset.checked_add(len).filter(|&end| end <= bytes.len() as u64)?;
    Some(usize::try_from(offset).ok()?..usize::try_from(end).ok()?)
}

fn truncated(what: &str, end: u64, bytes: &[u8]) -> InspectError {
    InspectError::Truncated {
        what: what.to_owned(),
        end,
        size: bytes.len() as u64,
    }
}

/// The printable NUL-terminated text at an offset.
pub(crate) fn string_at(table: &[u8], offset: usize) -> Option<&str> {
    let rest = table.get(offset..)?;
    let window = &rest[..rest.len().min(MAX_STRING)];
    let text = &window[..window.iter().position(|&byte| byte == 0)?];
    text.iter()
        .all(|byte| (b' '..=b'~').contains(byte))
        .then(|| std::str::from_utf8(text).ok())?
}
