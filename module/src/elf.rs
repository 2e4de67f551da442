//! The ELF side of a kernel module: sections, symbols, relocations, every read checked. No IO.
//!
//! The structural rules are those of `elf_validity_check()` (kernel/module/main.c, 6.1-7.2). Where the kernel trusts
//! an index that it should not (symbols' section numbers, relocations' symbol numbers), [`crate::loader_check`] is
//! stricter than the kernel: a file that would send its loader out of bounds is no livepatch to us.

use std::ops::Range;

use goblin::container::{Container, Ctx, Endian};
use goblin::elf::header::{EI_CLASS, EI_DATA, ELFCLASS64, ELFDATA2LSB, ELFMAG, EM_AARCH64, EM_X86_64, ET_REL};
use goblin::elf::section_header::{
    SHF_ALLOC, SHF_EXECINSTR, SHN_ABS, SHN_COMMON, SHN_LORESERVE, SHN_UNDEF, SHT_NOBITS, SHT_NULL, SHT_PROGBITS,
    SHT_RELA, SHT_SYMTAB,
};
use goblin::elf::{Header, RelocSection, SectionHeader, Symtab};

use crate::error::{InspectError, malformed};
use crate::inspection::Architecture;

/// Flag of relocation sections that the livepatch core applies itself (include/uapi/linux/elf.h).
pub(crate) const SHF_RELA_LIVEPATCH: u64 = 0x0010_0000;
/// Section number of symbols that the livepatch core resolves itself (include/uapi/linux/elf.h).
pub(crate) const SHN_LIVEPATCH: u32 = 0xff20;
/// Longest section or symbol name that is followed, in bytes; the kernel's own symbols end at 511.
const MAX_STRING: usize = 1024;

const EHDR_SIZE: usize = 64;
const SHDR_SIZE: usize = 64;
const SYM_SIZE: usize = 24;
const RELA_SIZE: usize = 24;

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
    link: u32,
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

/// Where a symbol lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Undefined,
    Absolute,
    Common,
    Livepatch,
    Section(usize),
    /// A section number that no section of the file has.
    Invalid,
}

/// One symbol.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Symbol {
    name: usize,
    pub(crate) place: Place,
    pub(crate) kind: u8,
    pub(crate) value: u64,
    pub(crate) size: u64,
}

/// One relocation with addend.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reloc {
    pub(crate) offset: u64,
    pub(crate) symbol: u32,
    pub(crate) kind: u32,
    pub(crate) addend: i64,
}

/// A byte of a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Location {
    pub(crate) section: usize,
    pub(crate) offset: u64,
}

impl Location {
    /// This many bytes further on.
    pub(crate) fn plus(self, bytes: u64) -> Self {
        Self {
            section: self.section,
            offset: self.offset.saturating_add(bytes),
        }
    }
}

/// A relocatable 64-bit little-endian ELF file.
#[derive(Debug)]
pub(crate) struct Elf<'a> {
    pub(crate) architecture: Architecture,
    sections: Vec<Section<'a>>,
    symbols: Symtab<'a>,
    symbol_names: &'a [u8],
    /// Pairs (target, relocation section), sorted, of relocations that the module loader applies.
    relocations: Vec<(u32, u32)>,
}

impl<'a> Elf<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, InspectError> {
        let header = header(bytes)?;
        let architecture = architecture(&header)?;
        let sections = sections(bytes, &header)?;
        let mut tables = sections.iter().filter(|section| section.kind == SHT_SYMTAB);
        let Some(symbols) = tables.next() else {
            return Err(InspectError::NotAModule {
                why: "it has no symbol table".to_owned(),
            });
        };
        if tables.next().is_some() {
            return Err(malformed("more than one symbol table"));
        }
        let symbol_names = match usize::try_from(symbols.link).ok().and_then(|link| sections.get(link)) {
            Some(names) if symbols.link != 0 => names.data,
            _ => return Err(malformed("the symbol names are in a section that does not exist")),
        };
        if symbol_names.last() != Some(&0) {
            return Err(malformed("the symbol names do not end"));
        }
        let symbols = Symtab::parse(symbols.data, 0, symbols.data.len() / SYM_SIZE, ctx())
            .map_err(|_| malformed("the symbol table cannot be read"))?;
        let mut relocations: Vec<(u32, u32)> = (0u32..)
            .zip(&sections)
            .filter(|(_, section)| section.is_plain_rela())
            .map(|(index, section)| (section.info, index))
            .collect();
        relocations.sort_unstable();
        Ok(Self {
            architecture,
            sections,
            symbols,
            symbol_names,
            relocations,
        })
    }

    pub(crate) fn sections(&self) -> &[Section<'a>] {
        &self.sections
    }

    pub(crate) fn section(&self, index: usize) -> Result<&Section<'a>, InspectError> {
        self.sections
            .get(index)
            .ok_or_else(|| malformed("a section number beyond the section table"))
    }

    /// The only section of this name, if there is one.
    pub(crate) fn section_named(&self, name: &str) -> Result<Option<(usize, &Section<'a>)>, InspectError> {
        let mut found = self
            .sections
            .iter()
            .enumerate()
            .filter(|(_, section)| section.name == name);
        let first = found.next();
        if found.next().is_some() {
            return Err(InspectError::Ambiguous {
                why: format!("two sections named {name}"),
            });
        }
        Ok(first)
    }

    pub(crate) fn symbols(&self) -> impl Iterator<Item = Symbol> {
        self.symbols.iter().map(|sym| Symbol {
            name: sym.st_name,
            place: self.place(sym.st_shndx),
            kind: sym.st_type(),
            value: sym.st_value,
            size: sym.st_size,
        })
    }

    pub(crate) fn symbol(&self, index: u32) -> Option<Symbol> {
        let sym = self.symbols.get(usize::try_from(index).ok()?)?;
        Some(Symbol {
            name: sym.st_name,
            place: self.place(sym.st_shndx),
            kind: sym.st_type(),
            value: sym.st_value,
            size: sym.st_size,
        })
    }

    fn place(&self, shndx: usize) -> Place {
        // Section numbers are 16 bits in a symbol.
        match u32::try_from(shndx).unwrap_or(u32::MAX) {
            SHN_UNDEF => Place::Undefined,
            SHN_ABS => Place::Absolute,
            SHN_COMMON => Place::Common,
            SHN_LIVEPATCH => Place::Livepatch,
            number if number < SHN_LORESERVE && shndx < self.sections.len() => Place::Section(shndx),
            _ => Place::Invalid,
        }
    }

    pub(crate) fn symbol_name(&self, symbol: &Symbol) -> Result<&'a str, InspectError> {
        string_at(self.symbol_names, symbol.name).ok_or_else(|| malformed("a symbol's name is not in the string table"))
    }

    /// The relocations that the module loader applies to a section, in the order of the file.
    pub(crate) fn relocs(&self, target: usize) -> impl Iterator<Item = Reloc> {
        let target = u32::try_from(target).unwrap_or(u32::MAX);
        let start = self.relocations.partition_point(|&(section, _)| section < target);
        self.relocations[start..]
            .iter()
            .take_while(move |&&(section, _)| section == target)
            .filter_map(|&(_, index)| self.sections.get(usize::try_from(index).ok()?))
            .flat_map(relocs_in)
    }

    /// The place a relocation's symbol and addend name, if it is inside a section of this file.
    pub(crate) fn resolve(&self, reloc: &Reloc) -> Option<Location> {
        let symbol = self.symbol(reloc.symbol)?;
        let Place::Section(section) = symbol.place else {
            return None;
        };
        let offset = symbol.value.checked_add_signed(reloc.addend)?;
        (offset <= self.sections.get(section)?.size).then_some(Location { section, offset })
    }

    /// Whether a relocation stores a full pointer (`R_X86_64_64`, `R_AARCH64_ABS64`).
    pub(crate) fn is_pointer(&self, reloc: &Reloc) -> bool {
        reloc.kind
            == match self.architecture {
                Architecture::Amd64 => 1,
                Architecture::Arm64 => 257,
            }
    }

    /// Whether a symbol of this name is imported from the kernel or another module.
    pub(crate) fn imports(&self, mut wanted: impl FnMut(&str) -> bool) -> Result<bool, InspectError> {
        for symbol in self.symbols().filter(|symbol| symbol.place == Place::Undefined) {
            if wanted(self.symbol_name(&symbol)?) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A word of a section; zero where the section occupies no space in the file, as in memory.
    fn word<const N: usize>(&self, at: Location) -> Result<[u8; N], InspectError> {
        let section = self.section(at.section)?;
        if section.kind == SHT_NOBITS && at.offset.checked_add(N as u64).is_some_and(|end| end <= section.size) {
            return Ok([0; N]);
        }
        usize::try_from(at.offset)
            .ok()
            .and_then(|start| section.data.get(start..)?.first_chunk())
            .copied()
            .ok_or_else(|| malformed(format!("a structure reaches beyond section {}", section.name)))
    }

    pub(crate) fn u32(&self, at: Location) -> Result<u32, InspectError> {
        self.word(at).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&self, at: Location) -> Result<u64, InspectError> {
        self.word(at).map(u64::from_le_bytes)
    }

    /// The NUL-terminated text at a place.
    pub(crate) fn text(&self, at: Location) -> Result<&'a str, InspectError> {
        let section = self.section(at.section)?;
        usize::try_from(at.offset)
            .ok()
            .filter(|_| section.is_data())
            .and_then(|start| string_at(section.data, start))
            .ok_or_else(|| malformed(format!("a name in section {} is not text", section.name)))
    }
}

/// The entries of one relocation section.
pub(crate) fn relocs_in<'a>(section: &Section<'a>) -> impl Iterator<Item = Reloc> + use<'a> {
    // Parsing only wraps the bytes; a table of odd size loses its incomplete last entry, as in the kernel.
    let whole = section.data.len() - section.data.len() % RELA_SIZE;
    let table = RelocSection::parse(section.data, 0, whole, true, ctx()).unwrap_or_default();
    let count = table.len();
    (0..count).filter_map(move |index| table.get(index)).map(|entry| Reloc {
        offset: entry.r_offset,
        symbol: u32::try_from(entry.r_sym).unwrap_or(u32::MAX),
        kind: entry.r_type,
        addend: entry.r_addend.unwrap_or_default(),
    })
}

fn ctx() -> Ctx {
    Ctx::new(Container::Big, Endian::Little)
}

fn header(bytes: &[u8]) -> Result<Header, InspectError> {
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

fn architecture(header: &Header) -> Result<Architecture, InspectError> {
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

fn sections<'a>(bytes: &'a [u8], header: &Header) -> Result<Vec<Section<'a>>, InspectError> {
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
fn string_at(table: &[u8], offset: usize) -> Option<&str> {
    let rest = table.get(offset..)?;
    let window = &rest[..rest.len().min(MAX_STRING)];
    let text = &window[..window.iter().position(|&byte| byte == 0)?];
    text.iter()
        .all(|byte| (b' '..=b'~').contains(byte))
        .then(|| std::str::from_utf8(text).ok())?
}
