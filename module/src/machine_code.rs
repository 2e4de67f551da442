//! Recognises the few instructions that store a byte at offset 24 of a structure. No IO.
//!
//! Not a disassembler: patterns over bytes. Whatever is not surely a constant store counts against the constant, so a
//! wrong match makes the answer less certain, never wrong.

use crate::inspection::Architecture;
use crate::replace_flag::REPLACE_OFFSET;

/// A store of one byte to offset 24 of the structure some register points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Store {
    /// Offset of the instruction in the code, in bytes.
    pub(crate) start: usize,
    /// Length of the instruction in bytes, without prefix.
    pub(crate) len: usize,
    /// The value, if the instruction or the one that set its register names it.
    pub(crate) constant: Option<u8>,
}

/// Tells the stores to offset 24 in a piece of code, one by one.
pub(crate) fn stores(architecture: Architecture, code: &[u8], tell: impl FnMut(Store)) {
    match architecture {
        Architecture::Amd64 => stores_x86(code).for_each(tell),
        Architecture::Arm64 => stores_arm64(code).for_each(tell),
    }
}

/// `movb $imm8,0x18(reg)` is `c6 40+reg 18 imm8`, `mov %reg8,0x18(reg)` is `88 40-7f 18`, `setCC 0x18(reg)` is
/// `0f 90-9f 40+reg 18`. Register field 4 means that a byte 24 follows; with a REX.B prefix that is r12, without it
/// the stack, which no `struct klp_patch` is on.
fn stores_x86(code: &[u8]) -> impl Iterator<Item = Store> {
    const DISP8: u8 = 0x18;
    const _: () = assert!(DISP8 as u64 == REPLACE_OFFSET);
    let based = |modrm: u8| modrm & 0xc0 == 0x40 && modrm & 7 != 4;
    let r12 = move |start: usize, modrm: u8| {
        let prefix = start.checked_sub(1).and_then(|before| code.get(before));
        modrm & 0xc7 == 0x44 && prefix.is_some_and(|prefix| prefix & 0xf1 == 0x41)
    };
    let store = move |start: usize| {
        // A move of a word or more has opcode 89 or c7; 88 and c6 are always one byte.
        let (len, constant) = match *code.get(start..)? {
            [0xc6, modrm, DISP8, constant, ..] if based(modrm) && modrm & 0x38 == 0 => (4, Some(constant)),
            [0xc6, 0x44, 0x24, DISP8, constant, ..] if r12(start, 0x44) => (5, Some(constant)),
            [0x88, modrm, DISP8, ..] if based(modrm) => (3, None),
            [0x88, modrm, 0x24, DISP8, ..] if r12(start, modrm) => (4, None),
            [0x0f, 0x90..=0x9f, modrm, DISP8, ..] if based(modrm) => (4, None),
            [0x0f, 0x90..=0x9f, modrm, 0x24, DISP8, ..] if r12(start, modrm) => (5, None),
            _ => return None,
        };
        Some(Store { start, len, constant })
    };
    (0..code.len()).filter_map(store)
}

/// `strb wT,[xN,#24]` is `0x39006000 | N << 5 | T`; T = 31 is the zero register.
fn stores_arm64(code: &[u8]) -> impl Iterator<Item = Store> {
    let words = code.as_chunks::<4>().0;
    words.iter().enumerate().filter_map(|(index, &word)| {
        let word = u32::from_le_bytes(word);
        (word & 0xffff_fc00 == 0x3900_6000).then(|| {
            let register = word & 0x1f;
            let constant = if register == 31 {
                Some(0)
            } else {
                last_constant(&words[..index], register)
            };
            Store {
                start: index * 4,
                len: 4,
                constant,
            }
        })
    })
}

/// The value that `mov wT,#imm` gave a register within the last few instructions, none of which branches.
fn last_constant(before: &[[u8; 4]], register: u32) -> Option<u8> {
    for word in before.iter().rev().take(8).copied().map(u32::from_le_bytes) {
        if word & 0xffe0_001f == 0x5280_0000 | register {
            return u8::try_from(word >> 5 & 0xffff).ok();
        }
        // Branches, calls and returns end the search, as does whatever has the register among its operands where
        // results go: bits 0-4, and bits 10-14 in the loads of pairs.
        let branches = word & 0x1c00_0000 == 0x1400_0000;
        let loads_or_stores = word & 0x0a00_0000 == 0x0800_0000;
        if branches || word & 0x1f == register || loads_or_stores && word >> 10 & 0x1f == register {
            return None;
        }
    }
    None
}

/// Whether the x86-64 instruction whose address field is at an offset writes memory, as far as its opcode tells.
///
/// Only the loads and compares that compilers use on a flag are known not to.
pub(crate) fn writes_at(code: &[u8], field: u64) -> bool {
    let Some(before) = usize::try_from(field)
        .ok()
        .and_then(|field| code.get(field.saturating_sub(3)..field))
    else {
        return true;
    };
    match *before {
        // movzx and movsx from memory; cmp $imm8,mem.
        [0x0f, 0xb6 | 0xb7 | 0xbe | 0xbf, _] | [.., 0x80, 0x3d] => false,
        // mov mem,reg8; cmp both ways; test. lea counts as a write, for it takes the address.
        [.., opcode, modrm] => !(matches!(opcode, 0x8a | 0x3a | 0x38 | 0x84) && modrm & 0xc7 == 0x05),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn x86(code: &[u8]) -> Vec<Option<u8>> {
        let mut found = Vec::new();
        stores(Architecture::Amd64, code, |store| found.push(store.constant));
        found
    }

    #[test]
    fn x86_constants() {
        assert_eq!(x86(&[0xc6, 0x47, 0x18, 0x01]), [Some(1)]); // movb $1,0x18(%rdi)
        assert_eq!(x86(&[0x41, 0xc6, 0x44, 0x24, 0x18, 0x01]), [Some(1)]); // movb $1,0x18(%r12)
        assert_eq!(x86(&[0x90, 0xc6, 0x44, 0x24, 0x18, 0x01]), []); // movb $1,0x18(%rsp)
        assert_eq!(x86(&[0x41, 0xc6, 0x45, 0x18, 0x00]), [Some(0)]); // movb $0,0x18(%r13)
        assert_eq!(x86(&[0xc6, 0x44, 0x18, 0x01, 0x00]), []); // movb $0,1(%rax,%rbx)
        assert_eq!(x86(&[0xc6, 0x47, 0x19, 0x01]), []);
    }

    #[test]
    fn x86_variables() {
        assert_eq!(x86(&[0x88, 0x47, 0x18, 0xc3]), [None]); // mov %al,0x18(%rdi)
        assert_eq!(x86(&[0x0f, 0x94, 0x47, 0x18]), [None]); // sete 0x18(%rdi)
        assert_eq!(x86(&[0x48, 0x89, 0x47, 0x18, 0xc3]), []); // mov %rax,0x18(%rdi)
    }

    fn arm64(words: &[u32]) -> Vec<Option<u8>> {
        let code: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut found = Vec::new();
        stores(Architecture::Arm64, &code, |store| found.push(store.constant));
        found
    }

    #[test]
    fn arm64_stores() {
        assert_eq!(arm64(&[0x3900_601f]), [Some(0)]); // strb wzr,[x0,#24]
        assert_eq!(arm64(&[0x5280_0021, 0x3900_6001]), [Some(1)]); // mov w1,#1; strb w1,[x0,#24]
        assert_eq!(arm64(&[0x5280_0021, 0x9400_0000, 0x3900_6001]), [None]); // a call in between
        assert_eq!(arm64(&[0x5280_0021, 0x3940_0041, 0x3900_6001]), [None]); // ldrb w1,[x2]
        assert_eq!(arm64(&[0x5280_0021, 0xa940_0440, 0x3900_6001]), [None]); // ldp x0,x1,[x2]
        assert_eq!(arm64(&[0x3900_6001]), [None]);
        assert_eq!(arm64(&[0x3900_641f]), []); // strb wzr,[x0,#25]
    }

    #[test]
    fn reads_are_not_writes() {
        assert!(!writes_at(&[0x0f, 0xb6, 0x05, 0, 0, 0, 0], 3)); // movzbl mem,%eax
        assert!(!writes_at(&[0x90, 0x80, 0x3d, 0, 0, 0, 0, 0], 3)); // cmpb $0,mem
        assert!(!writes_at(&[0x90, 0x8a, 0x05, 0, 0, 0, 0], 3)); // mov mem,%al
        assert!(writes_at(&[0x90, 0x88, 0x05, 0, 0, 0, 0], 3)); // mov %al,mem
        assert!(writes_at(&[0x90, 0xc6, 0x05, 0, 0, 0, 0, 1], 3)); // movb $1,mem
        assert!(writes_at(&[0x48, 0x8d, 0x05, 0, 0, 0, 0], 3)); // lea mem,%rax
    }
}
