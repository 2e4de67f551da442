//! Symbols, relocations and words of a kernel module, every read checked. No IO.
//!
//! Where the kernel trusts an index that it should not (symbols' section numbers, relocations' symbol numbers),
//! [`crate::loader_check`] is stricter than the kernel: a file that would send its loader out of bounds is no livepatch
//! to us.

use goblin::elf::section_header::{SHN_ABS, SHN_COMMON, SHN_LORESERVE, SHN_UNDEF, SHT_NOBITS, SHT_SYMTAB};
use goblin::elf::{RelocSection, Symtab};

use crate::error::{InspectError, malformed};
use crate::inspection::Architecture;
use crate::sections::{Section, architecture, ctx, header, sections, string_at};

/// Section number of symbols that the livepatch core resolves itself (include/uapi/linux/elf.h).
pub(crate) const SHN_LIVEPATCH: u32 = 0xff20;
const SYM_SIZE: usize = 24;
const RELA_SIZE: usize = 24;

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
