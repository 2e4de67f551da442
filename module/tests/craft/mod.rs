//! Writes small ELF files of any shape, right or wrong.
#![allow(dead_code, reason = "each test program uses its own part")]

/// Section types and flags of the ELF specification and of include/uapi/linux/elf.h.
pub const PROGBITS: u32 = 1;
pub const SYMTAB: u32 = 2;
pub const STRTAB: u32 = 3;
pub const RELA: u32 = 4;
pub const NOTE: u32 = 7;
pub const WRITE: u64 = 1;
pub const ALLOC: u64 = 2;
pub const EXEC: u64 = 4;
pub const RELA_LIVEPATCH: u64 = 0x0010_0000;
pub const SHN_LIVEPATCH: u16 = 0xff20;
pub const POINTER: u32 = 1;

#[derive(Default)]
pub struct Section {
    pub name: String,
    pub kind: u32,
    pub flags: u64,
    pub data: Vec<u8>,
    pub link: u32,
    pub info: u32,
}

pub struct Symbol {
    pub name: String,
    pub info: u8,
    pub section: u16,
    pub value: u64,
    pub size: u64,
}

/// A module in the making. Section 0 and symbol 0 are the empty ones.
pub struct Elf {
    pub machine: u16,
    pub sections: Vec<Section>,
    pub symbols: Vec<Symbol>,
}

impl Elf {
    /// A module marked as a livepatch that imports `klp_enable_patch` and has nothing else.
    pub fn livepatch(name: &str) -> Self {
        let mut elf = Self {
            machine: 62,
            sections: vec![Section::default()],
            symbols: vec![],
        };
        elf.symbol("", 0, 0, 0, 0);
        let mut this_module = vec![0; 0x380];
        this_module[24..24 + name.len()].copy_from_slice(name.as_bytes());
        let module = elf.section(".gnu.linkonce.this_module", PROGBITS, ALLOC | WRITE, this_module);
        elf.symbol("__this_module", 1, module, 0, 0x380);
        let modinfo = format!("name={name}\0vermagic=6.1.0-test SMP \0livepatch=Y\0license=GPL\0");
        elf.section(".modinfo", PROGBITS, ALLOC, modinfo.into_bytes());
        elf.symbol("klp_enable_patch", 0x10, 0, 0, 0);
        elf
    }

    pub fn section(&mut self, name: &str, kind: u32, flags: u64, data: Vec<u8>) -> u16 {
        self.sections.push(Section {
            name: name.to_owned(),
            kind,
            flags,
            data,
            ..Section::default()
        });
        u16::try_from(self.sections.len() - 1).unwrap()
    }

    pub fn symbol(&mut self, name: &str, info: u8, section: u16, value: u64, size: u64) -> u32 {
        self.symbols.push(Symbol {
            name: name.to_owned(),
            info,
            section,
            value,
            size,
        });
        u32::try_from(self.symbols.len() - 1).unwrap()
    }

    /// Relocations of a section: offset, symbol, type and addend each.
    pub fn relocate(&mut self, target: u16, relocs: &[(u64, u32, u32, i64)]) -> u16 {
        let name = format!(".rela{}", self.sections[usize::from(target)].name);
        let mut data = Vec::new();
        for &(offset, symbol, kind, addend) in relocs {
            data.extend(offset.to_le_bytes());
            data.extend((u64::from(symbol) << 32 | u64::from(kind)).to_le_bytes());
            data.extend(addend.to_le_bytes());
        }
        let index = self.section(&name, RELA, 0, data);
        self.sections[usize::from(index)].info = u32::from(target);
        index
    }

    pub fn build(mut self) -> Vec<u8> {
        let mut names = vec![0];
        let mut table = Vec::new();
        for symbol in &self.symbols {
            let name = if symbol.name.is_empty() {
                0
            } else {
                push_name(&mut names, &symbol.name)
            };
            table.extend(name.to_le_bytes());
            table.extend([symbol.info, 0]);
            table.extend(symbol.section.to_le_bytes());
            table.extend(symbol.value.to_le_bytes());
            table.extend(symbol.size.to_le_bytes());
        }
        let strings = self.section(".strtab", STRTAB, 0, names);
        let symtab = self.section(".symtab", SYMTAB, 0, table);
        self.sections[usize::from(symtab)].link = u32::from(strings);
        let shstrtab = self.section(".shstrtab", STRTAB, 0, vec![]);
        let mut names = vec![0];
        let offsets: Vec<u32> = self
            .sections
            .iter()
            .map(|section| push_name(&mut names, &section.name))
            .collect();
        self.sections[usize::from(shstrtab)].data = names;

        let mut file = vec![0; 64];
        let mut headers = Vec::new();
        for (section, name) in self.sections.iter().zip(offsets) {
            file.resize(file.len().next_multiple_of(16), 0);
            headers.extend(name.to_le_bytes());
            headers.extend(section.kind.to_le_bytes());
            headers.extend(section.flags.to_le_bytes());
            headers.extend(0u64.to_le_bytes());
            headers.extend((file.len() as u64).to_le_bytes());
            headers.extend((section.data.len() as u64).to_le_bytes());
            headers.extend(section.link.to_le_bytes());
            headers.extend(section.info.to_le_bytes());
            headers.extend(8u64.to_le_bytes());
            headers.extend(0u64.to_le_bytes());
            file.extend(&section.data);
        }
        file.resize(file.len().next_multiple_of(16), 0);
        let table = file.len() as u64;
        file[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\x00");
        file[16..18].copy_from_slice(&1u16.to_le_bytes());
        file[18..20].copy_from_slice(&self.machine.to_le_bytes());
        file[20..24].copy_from_slice(&1u32.to_le_bytes());
        file[40..48].copy_from_slice(&table.to_le_bytes());
        file[52..54].copy_from_slice(&64u16.to_le_bytes());
        file[58..60].copy_from_slice(&64u16.to_le_bytes());
        file[60..62].copy_from_slice(&u16::try_from(self.sections.len()).unwrap().to_le_bytes());
        file[62..64].copy_from_slice(&shstrtab.to_le_bytes());
        file.extend(headers);
        file
    }
}

fn push_name(names: &mut Vec<u8>, name: &str) -> u32 {
    let at = u32::try_from(names.len()).unwrap();
    names.extend(name.as_bytes());
    names.push(0);
    at
}

/// A livepatch in static data whose tables have any stride, with or without symbols that tell their size.
pub struct Static {
    pub function_stride: usize,
    pub object_stride: usize,
    pub with_symbols: bool,
    pub functions: &'static [(&'static str, u64)],
    pub replace: u32,
}

impl Static {
    pub fn usual(functions: &'static [(&'static str, u64)]) -> Self {
        Self {
            function_stride: 152,
            object_stride: 168,
            with_symbols: true,
            functions,
            replace: 0,
        }
    }

    /// One object, the kernel, with these functions.
    pub fn elf(&self) -> Elf {
        let mut elf = Elf::livepatch("crafted");
        let text = elf.section(".text", PROGBITS, ALLOC | EXEC, vec![0xc3; 16]);
        let code = elf.symbol("replacement", 2, text, 0, 16);
        let mut strings = Vec::new();
        let offsets: Vec<i64> = (self.functions.iter())
            .map(|(name, _)| i64::from(push_name(&mut strings, name)))
            .collect();
        let rodata = elf.section(".rodata.str1.1", PROGBITS, ALLOC, strings);
        let text_symbol = elf.symbol("", 3, rodata, 0, 0);

        let patch_size = 200;
        let objects = patch_size;
        let functions = objects + 2 * self.object_stride;
        let size = functions + (self.functions.len() + 1) * self.function_stride;
        let mut data = vec![0; size];
        data[24..28].copy_from_slice(&self.replace.to_le_bytes());
        for (index, (_, position)) in self.functions.iter().enumerate() {
            let at = functions + index * self.function_stride + 16;
            data[at..at + 8].copy_from_slice(&position.to_le_bytes());
        }
        let section = elf.section(".data", PROGBITS, ALLOC | WRITE, data);
        let data_symbol = elf.symbol("", 3, section, 0, 0);
        if self.with_symbols {
            elf.symbol("objects", 1, section, objects as u64, 2 * self.object_stride as u64);
            elf.symbol("functions", 1, section, functions as u64, (size - functions) as u64);
        }
        let signed = |value: usize| i64::try_from(value).unwrap();
        let mut relocs = vec![
            (0, 1, POINTER, 0),
            (8, data_symbol, POINTER, signed(objects)),
            (objects as u64 + 8, data_symbol, POINTER, signed(functions)),
        ];
        for (index, offset) in offsets.into_iter().enumerate() {
            let at = (functions + index * self.function_stride) as u64;
            relocs.push((at, text_symbol, POINTER, offset));
            relocs.push((at + 8, code, POINTER, 0));
        }
        elf.relocate(section, &relocs);
        elf
    }
}
