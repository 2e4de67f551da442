//! Structures in a module's data: pointers are relocations, everything else plain bytes. No IO.

use std::collections::BTreeMap;

use goblin::elf::sym::STT_OBJECT;

use crate::elf::{Elf, Location, Place, Reloc};
use crate::error::{InspectError, malformed};

/// Widest table entry considered when a stride is derived, in bytes. The widest known, `struct klp_object`, has 168.
const MAX_STRIDE: u64 = 1024;

/// What a pointer in data will point to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// A place in this file.
    Inside(Location),
    /// A symbol of the kernel or another module.
    Imported,
}

impl Target {
    pub(crate) fn inside(self) -> Option<Location> {
        match self {
            Self::Inside(location) => Some(location),
            Self::Imported => None,
        }
    }
}

/// Reads structures with pointers out of a module's data sections.
#[derive(Debug)]
pub(crate) struct Structures<'e, 'a> {
    pub(crate) elf: &'e Elf<'a>,
    /// Relocations by section, sorted by offset; filled as sections are visited.
    relocs: BTreeMap<usize, Vec<Reloc>>,
    /// Data symbols with their sizes, sorted.
    extents: Vec<(Location, u64)>,
}

/// Which fields of a table entry may hold pointers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Offsets of all pointer fields.
    pub(crate) pointers: &'static [u64],
    /// The pointer that every entry but the terminator has.
    pub(crate) required: u64,
    /// Distance between entries in the kernels whose layout was read, in bytes.
    pub(crate) usual_stride: u64,
}

impl<'e, 'a> Structures<'e, 'a> {
    pub(crate) fn new(elf: &'e Elf<'a>) -> Self {
        let mut extents: Vec<_> = elf
            .symbols()
            .filter(|symbol| symbol.kind == STT_OBJECT && symbol.size > 0)
            .filter_map(|symbol| match symbol.place {
                Place::Section(section) => Some((
                    Location {
                        section,
                        offset: symbol.value,
                    },
                    symbol.size,
                )),
                _ => None,
            })
            .collect();
        extents.sort_unstable();
        Self {
            elf,
            relocs: BTreeMap::new(),
            extents,
        }
    }

    /// All relocations of a section, sorted by offset.
    pub(crate) fn relocs(&mut self, section: usize) -> Result<&[Reloc], InspectError> {
        if !self.relocs.contains_key(&section) {
            let mut relocs: Vec<Reloc> = self.elf.relocs(section).collect();
            relocs.sort_unstable_by_key(|reloc| reloc.offset);
            if relocs.windows(2).any(|pair| pair[0].offset == pair[1].offset) {
                let name = self.elf.section(section)?.name;
                return Err(malformed(format!("section {name} relocates one place twice")));
            }
            self.relocs.insert(section, relocs);
        }
        Ok(self.relocs.get(&section).map_or(&[], Vec::as_slice))
    }

    /// The pointer at a place; `None` if it is NULL.
    pub(crate) fn pointer(&mut self, at: Location) -> Result<Option<Target>, InspectError> {
        let elf = self.elf;
        let relocs = self.relocs(at.section)?;
        let Ok(index) = relocs.binary_search_by_key(&at.offset, |reloc| reloc.offset) else {
            return match elf.u64(at)? {
                0 => Ok(None),
                _ => Err(malformed("a fixed address stands where a pointer is expected")),
            };
        };
        let reloc = relocs[index];
        if !elf.is_pointer(&reloc) {
            return Err(malformed(
                "a pointer is relocated by something else than a full address",
            ));
        }
        match elf.resolve(&reloc) {
            Some(location) => Ok(Some(Target::Inside(location))),
            None if elf
                .symbol(reloc.symbol)
                .is_some_and(|symbol| symbol.place == Place::Undefined) =>
            {
                Ok(Some(Target::Imported))
            }
            None => Err(malformed("a pointer leads out of its section")),
        }
    }

    /// The text a pointer points to; `None` if the pointer is NULL.
    pub(crate) fn text(&mut self, at: Location) -> Result<Option<&'a str>, InspectError> {
        match self.pointer(at)? {
            None => Ok(None),
            Some(Target::Inside(text)) => self.elf.text(text).map(Some),
            Some(Target::Imported) => Err(malformed("a name is not in the module")),
        }
    }

    /// Checks that every relocation of a table without terminator is in one of its pointer fields.
    ///
    /// Returns the number of pointers.
    pub(crate) fn pointers_in(&mut self, section: usize, stride: u64, fields: &[u64]) -> Result<usize, InspectError> {
        let name = self.elf.section(section)?.name;
        let relocs = self.relocs(section)?;
        if relocs.iter().any(|reloc| !fields.contains(&(reloc.offset % stride))) {
            return Err(malformed(format!("{name} has a pointer where its entries have none")));
        }
        Ok(relocs.len())
    }

    /// Distance between the entries of a terminated table, in bytes, and the most entries it can have.
    ///
    /// The symbol of the table tells its size and the relocations in it where entries start, so kernels whose
    /// structures have grown are read too. A table without a symbol is taken to have the usual stride.
    pub(crate) fn stride(&mut self, at: Location, shape: Shape) -> Result<(u64, u64), InspectError> {
        let section_size = self.elf.section(at.section)?.size;
        let first = self.extents.partition_point(|&(location, _)| location < at);
        let known = self.extents[first..]
            .iter()
            .take_while(|(location, _)| *location == at)
            .map(|&(_, size)| size)
            .max();
        let Some(size) = known.filter(|&size| size <= section_size.saturating_sub(at.offset)) else {
            return Ok((
                shape.usual_stride,
                section_size.saturating_sub(at.offset) / shape.usual_stride,
            ));
        };
        let relocs = self.relocs(at.section)?;
        let start = relocs.partition_point(|reloc| reloc.offset < at.offset);
        let end = relocs.partition_point(|reloc| reloc.offset < at.offset + size);
        let offsets: Vec<u64> = relocs[start..end]
            .iter()
            .map(|reloc| reloc.offset - at.offset)
            .collect();
        if fits(&offsets, size, shape, shape.usual_stride).is_some() {
            return Ok((shape.usual_stride, size / shape.usual_stride));
        }
        let least = shape.pointers.iter().max().copied().unwrap_or_default() + 8;
        let mut others = (least..=MAX_STRIDE.min(size))
            .step_by(8)
            .filter(|&stride| fits(&offsets, size, shape, stride).is_some_and(|entries| entries + 1 == size / stride));
        match (others.next(), others.next()) {
            (Some(stride), None) => Ok((stride, size / stride)),
            (None, _) => Err(malformed(
                "a table of the livepatch does not divide into entries and a terminator",
            )),
            (Some(_), Some(_)) => Err(InspectError::Ambiguous {
                why: "a table of the livepatch divides in more than one way".to_owned(),
            }),
        }
    }
}

/// Number of entries before the terminator, if the relocations fit this stride.
fn fits(offsets: &[u64], size: u64, shape: Shape, stride: u64) -> Option<u64> {
    if !size.is_multiple_of(stride)
        || offsets
            .iter()
            .any(|offset| !shape.pointers.contains(&(offset % stride)))
    {
        return None;
    }
    let mut required = offsets
        .iter()
        .filter(|&offset| offset % stride == shape.required)
        .map(|offset| offset / stride);
    let entries = required
        .by_ref()
        .zip(0..)
        .try_fold(0, |_, (entry, index)| (entry == index).then_some(index + 1))?;
    let last = offsets.last().map_or(0, |offset| offset / stride + 1);
    (last <= entries && entries < size / stride).then_some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FUNCS: Shape = Shape {
        pointers: &[0, 8],
        required: 0,
        usual_stride: 152,
    };

    #[test]
    fn usual_stride_with_terminators() {
        assert_eq!(fits(&[0, 8, 152, 160], 3 * 152, FUNCS, 152), Some(2));
        assert_eq!(fits(&[0, 8], 5 * 152, FUNCS, 152), Some(1));
        assert_eq!(fits(&[], 152, FUNCS, 152), Some(0));
    }

    #[test]
    fn grown_structure_is_told_apart() {
        let offsets = [0, 8, 240, 248];
        assert_eq!(fits(&offsets, 3 * 240, FUNCS, 152), None);
        assert_eq!(fits(&offsets, 3 * 240, FUNCS, 240), Some(2));
    }

    #[test]
    fn no_terminator_or_a_hole_does_not_fit() {
        assert_eq!(fits(&[0, 8, 152, 160], 2 * 152, FUNCS, 152), None);
        assert_eq!(fits(&[0, 8, 304, 312], 4 * 152, FUNCS, 152), None);
        assert_eq!(fits(&[0, 8, 160], 3 * 152, FUNCS, 152), None);
    }
}
