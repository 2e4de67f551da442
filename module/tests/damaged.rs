//! Files that are wrong in one place each, and what is said about them.
#![expect(clippy::unwrap_used, reason = "a file that cannot be made fails the test")]

mod craft;

use craft::{ALLOC, EXEC, Elf, NOTE, POINTER, PROGBITS, RELA_LIVEPATCH, SHN_LIVEPATCH, Static, WRITE};
use livepatch_module::{InspectError, Inspection, ReplaceValue, inspect, inspect_details};

const TWO: &[(&str, u64)] = &[("f", 0), ("g", 3)];

/// Reason and message of the refusal.
fn refusal(elf: Elf) -> (&'static str, String) {
    let error = inspect(&elf.build()).unwrap_err();
    (error.reason(), error.to_string())
}

#[track_caller]
fn assert_malformed(elf: Elf, part: &str) {
    let (reason, message) = refusal(elf);
    assert_eq!(reason, "Malformed", "{message}");
    assert!(message.contains(part), "{message}");
}

fn functions(bytes: &[u8]) -> Vec<(String, u64)> {
    let it = inspect(bytes).unwrap();
    it.functions()
        .map(|(object, function)| (format!("{object}/{}", function.name), function.position))
        .collect()
}

#[test]
fn not_an_elf_file() {
    for bytes in [&b""[..], b"\x7fEL", b"#!/bin/sh\n", &[0; 4096]] {
        assert_eq!(inspect(bytes), Err(InspectError::NotElf));
    }
}

#[test]
fn truncated_file_says_where() {
    let bytes = Static::usual(TWO).elf().build();
    let error = inspect(&bytes[..40]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "truncated: the ELF header ends at byte 64 but the file has 40"
    );
    let error = inspect(&bytes[..bytes.len() - 1]).unwrap_err();
    assert_eq!(error.reason(), "Truncated");
    assert!(error.to_string().contains("the section header table"), "{error}");
}

#[test]
fn other_machines_and_files() {
    for (machine, name) in [
        (21, "64-bit PowerPC"),
        (22, "s390"),
        (243, "RISC-V"),
        (9999, "ELF machine 9999"),
    ] {
        let elf = Elf {
            machine,
            ..Static::usual(TWO).elf()
        };
        let (reason, message) = refusal(elf);
        assert_eq!(reason, "UnsupportedArchitecture");
        assert!(message.contains(name), "{message}");
    }
    let mut bytes = Static::usual(TWO).elf().build();
    bytes[4] = 1;
    assert_eq!(inspect(&bytes).unwrap_err().reason(), "UnsupportedArchitecture");
    bytes[4] = 2;
    bytes[16] = 3;
    let error = inspect(&bytes).unwrap_err();
    assert_eq!(
        error.to_string(),
        "not a kernel module: it is a shared library or a program"
    );
    let test_program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let reason = inspect(&test_program).unwrap_err().reason();
    assert!(["NotAModule", "NotElf", "TooLarge"].contains(&reason), "{reason}");
}

#[test]
fn tables_of_any_stride() {
    let expected = [("vmlinux/f".to_owned(), 1), ("vmlinux/g".to_owned(), 3)];
    assert_eq!(functions(&Static::usual(TWO).elf().build()), expected);
    let grown = Static {
        function_stride: 240,
        object_stride: 256,
        ..Static::usual(TWO)
    };
    assert_eq!(functions(&grown.elf().build()), expected);
    let bare = Static {
        with_symbols: false,
        ..Static::usual(TWO)
    };
    assert_eq!(functions(&bare.elf().build()), expected);
}

#[test]
fn flag_that_is_no_flag_is_unknown() {
    for (replace, value) in [
        (0, ReplaceValue::False),
        (1, ReplaceValue::True),
        (7, ReplaceValue::Unknown),
    ] {
        let bytes = Static {
            replace,
            ..Static::usual(TWO)
        }
        .elf()
        .build();
        assert_eq!(inspect(&bytes).unwrap().replace.value, value);
    }
}

#[test]
fn parameter_that_points_at_the_flag_is_dynamic() {
    let mut elf = Static::usual(TWO).elf();
    let data = u16::try_from(elf.sections.iter().position(|section| section.name == ".data").unwrap()).unwrap();
    let flag = elf.symbol("patch", 1, data, 24, 1);
    let parameters = elf.section("__param", PROGBITS, ALLOC, vec![0; 40]);
    elf.relocate(parameters, &[(32, flag, POINTER, 0)]);
    let replace = inspect(&elf.build()).unwrap().replace;
    assert_eq!(replace.value, ReplaceValue::Dynamic);
    assert!(
        replace.evidence.contains("its address is taken at __param+0x20"),
        "{}",
        replace.evidence
    );
}

#[test]
fn indices_that_a_kernel_would_follow() {
    let mut elf = Static::usual(TWO).elf();
    elf.symbol("stray", 1, 0x7000, 0, 0);
    assert_malformed(elf, "symbol stray is in a section that does not exist");

    let mut elf = Static::usual(TWO).elf();
    elf.symbol("extended", 1, 0xffff, 0, 0);
    assert_malformed(elf, "symbol extended is in a section that does not exist");

    let mut elf = Static::usual(TWO).elf();
    let text = elf.section(".text.more", PROGBITS, ALLOC | EXEC, vec![0; 8]);
    elf.relocate(text, &[(0, 0x00ff_ffff, 2, 0)]);
    assert_malformed(elf, "relocates to a symbol that does not exist");

    let mut elf = Static::usual(TWO).elf();
    let text = elf.section(".text.more", PROGBITS, ALLOC | EXEC, vec![0; 8]);
    elf.relocate(text, &[(8, 1, 2, 0)]);
    assert_malformed(elf, "relocates beyond the end of .text.more");

    let mut elf = Static::usual(TWO).elf();
    let relocations = elf.relocate(1, &[]);
    elf.sections[usize::from(relocations)].info = 4096;
    assert_malformed(elf, "relocates a section that does not exist");

    let mut elf = Static::usual(TWO).elf();
    let relocations = elf.relocate(1, &[]);
    elf.sections[usize::from(relocations)].kind = 9;
    assert_malformed(elf, "has relocations without addend");

    let mut bytes = Static::usual(TWO).elf().build();
    bytes[62..64].copy_from_slice(&4096u16.to_le_bytes());
    let error = inspect(&bytes).unwrap_err();
    assert_eq!(
        error.to_string(),
        "malformed module: the section names are in a section that does not exist"
    );
}

#[test]
fn livepatch_relocations_tell_their_objects() {
    let mut elf = Static::usual(TWO).elf();
    let text = elf.section(".text.more", PROGBITS, ALLOC | EXEC, vec![0; 16]);
    let symbol = elf.symbol(".klp.sym.nf_tables.nft_do_chain,0", 0x10, SHN_LIVEPATCH, 0, 0);
    let relocations = elf.relocate(text, &[(0, symbol, 2, -4)]);
    let section = &mut elf.sections[usize::from(relocations)];
    section.name = ".klp.rela.nf_tables..text.more".to_owned();
    section.flags = ALLOC | RELA_LIVEPATCH;
    assert_eq!(inspect_details(&elf.build()).unwrap().relocation_objects, ["nf_tables"]);

    for name in [
        ".klp.rela.nf_tables",
        ".klp.rela..text",
        ".rela.text",
        ".klp.rela.nf-tables.text",
    ] {
        let mut elf = Static::usual(TWO).elf();
        let relocations = elf.relocate(1, &[]);
        let section = &mut elf.sections[usize::from(relocations)];
        (section.name, section.flags) = (name.to_owned(), RELA_LIVEPATCH);
        assert_malformed(elf, "is not named .klp.rela.<object>.<section>");
    }
    for name in [
        "nft_do_chain",
        ".klp.sym.nf_tables.nft_do_chain",
        ".klp.sym.nf_tables.nft_do_chain,x",
    ] {
        let mut elf = Static::usual(TWO).elf();
        elf.symbol(name, 0x10, SHN_LIVEPATCH, 0, 0);
        assert_malformed(elf, "is not named .klp.sym.<object>.<symbol>,<position>");
    }
}

#[test]
fn tables_that_make_no_sense() {
    assert_malformed(
        Static::usual(&[("f", 0), ("f", 1)]).elf(),
        "function f of vmlinux is patched twice",
    );
    assert_malformed(Static::usual(&[("a/b", 0)]).elf(), "a name that no symbol can have");
    assert_malformed(Static::usual(&[("", 0)]).elf(), "a name that no symbol can have");
    let unaligned = Static {
        function_stride: 156,
        ..Static::usual(TWO)
    };
    assert_malformed(unaligned.elf(), "does not divide into entries and a terminator");
}

#[test]
fn nothing_to_read_in_a_livepatch() {
    let (reason, message) = refusal(Elf::livepatch("crafted"));
    assert_eq!(reason, "UnknownLayout");
    assert!(
        message.starts_with("livepatch crafted is in an unknown layout: no struct klp_patch"),
        "{message}"
    );

    let mut elf = Elf::livepatch("crafted");
    elf.symbols.pop();
    let (reason, message) = refusal(elf);
    assert_eq!(reason, "UnknownLayout");
    assert!(message.contains("never calls klp_enable_patch"), "{message}");
}

#[test]
fn two_layouts_in_one_module_are_ambiguous() {
    let mut elf = Static::usual(TWO).elf();
    let text = u16::try_from(elf.sections.iter().position(|section| section.name == ".text").unwrap()).unwrap();
    let strings = elf.section(".kpatch.strings", PROGBITS, ALLOC, b"vmlinux\0h\0".to_vec());
    let (code, names) = (elf.symbol("", 3, text, 0, 0), elf.symbol("", 3, strings, 0, 0));
    let table = elf.section(".kpatch.funcs", PROGBITS, ALLOC | WRITE, vec![0; 56]);
    elf.relocate(
        table,
        &[(0, code, POINTER, 0), (40, names, POINTER, 8), (48, names, POINTER, 0)],
    );
    let (reason, message) = refusal(elf);
    assert_eq!(reason, "Ambiguous");
    assert!(
        message.contains("Static") && message.contains("KpatchBuild"),
        "{message}"
    );
}

/// klp-build leaves one table entry for each object file it compared.
#[test]
fn entries_of_one_object_are_merged() {
    let craft = |positions: [u64; 2]| {
        let mut elf = Elf::livepatch("crafted");
        let text = elf.section(".text", PROGBITS, ALLOC | EXEC, vec![0xc3; 16]);
        let strings = elf.section(".rodata.klp.str1.1", PROGBITS, ALLOC, b"f\0".to_vec());
        let (code, names) = (elf.symbol("", 3, text, 0, 0), elf.symbol("", 3, strings, 0, 0));
        let mut functions = vec![0; 48];
        functions[16] = u8::try_from(positions[0]).unwrap();
        functions[40] = u8::try_from(positions[1]).unwrap();
        let functions = elf.section(".init.klp_funcs", PROGBITS, ALLOC | WRITE, functions);
        let entries: Vec<_> = [0, 24]
            .into_iter()
            .flat_map(|at| [(at, names, POINTER, 0), (at + 8, code, POINTER, 0)])
            .collect();
        elf.relocate(functions, &entries);
        let table = elf.symbol("", 3, functions, 0, 0);
        let mut objects = vec![0; 128];
        (objects[56], objects[120]) = (1, 1);
        let objects = elf.section(".init.klp_objects", PROGBITS, ALLOC | WRITE, objects);
        elf.relocate(objects, &[(8, table, POINTER, 0), (72, table, POINTER, 24)]);
        elf
    };
    let merged = [("vmlinux/f".to_owned(), 1), ("vmlinux/f".to_owned(), 2)];
    assert_eq!(functions(&craft([0, 2]).build()), merged);
    assert_malformed(craft([0, 1]), "function f of vmlinux is patched twice");
    let unknown = inspect(&craft([0, 2]).build()).unwrap().replace;
    assert_eq!(unknown.value, ReplaceValue::Unknown);
    assert!(
        unknown.evidence.starts_with("no store to offset 0x18 was found"),
        "{}",
        unknown.evidence
    );

    let mut shifted = craft([0, 2]);
    let objects = u16::try_from(
        shifted
            .sections
            .iter()
            .position(|it| it.name == ".init.klp_objects")
            .unwrap(),
    )
    .unwrap();
    shifted.relocate(objects, &[(48, 1, POINTER, 0)]);
    assert_malformed(shifted, "has a pointer where its entries have none");
}

#[test]
fn names_and_versions_that_contradict_each_other() {
    let mut elf = Static::usual(TWO).elf();
    elf.sections[2].data = b"name=other\0vermagic=6.1.0 SMP \0livepatch=Y\0".to_vec();
    assert_eq!(refusal(elf).0, "Ambiguous");

    let mut elf = Static::usual(TWO).elf();
    elf.sections[2].data = b"vermagic=6.1.0 SMP \0livepatch=Y\0vermagic=6.2.0 SMP \0".to_vec();
    assert_eq!(refusal(elf).0, "Ambiguous");

    let mut elf = Static::usual(TWO).elf();
    elf.sections[2].data = b"livepatch=Y\0".to_vec();
    assert_malformed(elf, "no vermagic= in .modinfo");

    let mut elf = Static::usual(TWO).elf();
    elf.sections[2].data = b"vermagic=6.1.0 \x1b[2J\0livepatch=Y\0".to_vec();
    assert_malformed(elf, "control characters");
}

#[test]
fn old_kernels_leave_the_flag_unknown() {
    for (release, value) in [("5.4.0-1", ReplaceValue::Unknown), ("5.10.223", ReplaceValue::False)] {
        let mut elf = Static::usual(TWO).elf();
        elf.sections[2].data = format!("vermagic={release} SMP \0livepatch=Y\0").into_bytes();
        assert_eq!(inspect(&elf.build()).unwrap().replace.value, value);
    }
}

#[test]
fn build_id_among_other_notes() {
    let mut elf = Static::usual(TWO).elf();
    let mut notes = Vec::new();
    for (name, kind, desc) in [
        (&b"Linux\0\0\0"[..], 0x100u32, &[1u8; 4][..]),
        (b"GNU\0", 3, &[0xab; 20]),
    ] {
        notes.extend(u32::try_from(name.len()).unwrap().to_le_bytes());
        notes.extend(u32::try_from(desc.len()).unwrap().to_le_bytes());
        notes.extend(kind.to_le_bytes());
        notes.extend(name);
        notes.extend(desc);
    }
    elf.section(".notes", NOTE, ALLOC, notes);
    assert_eq!(inspect(&elf.build()).unwrap().build_id, Some("ab".repeat(20)));
}

/// A field, and what makes it invalid.
type Damage = (&'static str, fn(&mut Inspection));

#[test]
fn description_from_outside_is_bounded() {
    let good = inspect(&Static::usual(TWO).elf().build()).unwrap();
    good.validate().unwrap();
    let damages: [Damage; 10] = [
        ("name", |it| it.name = "a-b".to_owned()),
        ("name", |it| it.name = "x".repeat(56)),
        ("kernelRelease", |it| it.kernel_release = "6.2".to_owned()),
        ("vermagic", |it| it.vermagic.push('\u{7}')),
        ("sha256", |it| it.sha256 = "00".to_owned()),
        ("buildId", |it| it.build_id = Some("XYZ".to_owned())),
        ("size", |it| it.size = u64::MAX),
        ("objects[].functions[].position", |it| {
            it.objects[0].functions[0].position = 0;
        }),
        ("objects[].functions[].name", |it| {
            it.objects[0].functions[0].name = "../x".to_owned();
        }),
        ("objects[].name", |it| it.objects.push(it.objects[0].clone())),
    ];
    for (field, damage) in damages {
        let mut bad = good.clone();
        damage(&mut bad);
        assert_eq!(bad.validate().unwrap_err().field, field);
    }
}
