//! Files made to waste time: each repeats what a reader might look at again and again.
#![expect(clippy::unwrap_used, reason = "a file that cannot be made fails the test")]

mod craft;

use std::time::{Duration, Instant};

use craft::{ALLOC, EXEC, POINTER, PROGBITS, Static, WRITE};
use livepatch_module::inspect;

/// Unoptimised and on a busy machine; optimised each takes well under a tenth of a second.
const PATIENCE: Duration = Duration::from_secs(20);

fn in_time(elf: craft::Elf) -> Result<livepatch_module::Inspection, livepatch_module::InspectError> {
    let bytes = elf.build();
    let start = Instant::now();
    let answer = inspect(&bytes);
    println!("{} bytes in {:?}", bytes.len(), start.elapsed());
    assert!(start.elapsed() < PATIENCE);
    answer
}

#[test]
fn thousands_of_places_that_look_like_a_livepatch() {
    const COUNT: u64 = 20_000;
    let mut elf = Static::usual(&[("f", 0), ("g", 3)]).elf();
    let data = u16::try_from(elf.sections.iter().position(|section| section.name == ".data").unwrap()).unwrap();
    let objects = elf.symbol("", 3, data, 200, 0);
    let more = elf.section(
        ".data.more",
        PROGBITS,
        ALLOC | WRITE,
        vec![0; usize::try_from(COUNT).unwrap() * 64],
    );
    let relocs: Vec<_> = (0..COUNT)
        .flat_map(|index| [(index * 64, 1, POINTER, 0), (index * 64 + 8, objects, POINTER, 0)])
        .collect();
    elf.relocate(more, &relocs);
    assert_eq!(in_time(elf).unwrap_err().reason(), "Ambiguous");
}

#[test]
fn thousands_of_functions_that_call_the_kernel_and_overlap() {
    const COUNT: u64 = 20_000;
    let mut elf = Static::usual(&[("f", 0)]).elf();
    let enable = u32::try_from(elf.symbols.iter().position(|it| it.name == "klp_enable_patch").unwrap()).unwrap();
    let code = elf.section(
        ".text.more",
        PROGBITS,
        ALLOC | EXEC,
        [0xc6, 0x47, 0x18, 0x00].repeat(100_000),
    );
    for index in 0..COUNT {
        elf.symbol("f", 2, code, index, 400_000 - index);
    }
    let calls: Vec<_> = (0..COUNT).map(|index| (index * 20, enable, 4, -4)).collect();
    elf.relocate(code, &calls);
    in_time(elf).unwrap();
}

#[test]
fn thousands_of_sections_with_long_names() {
    let mut elf = Static::usual(&[("f", 0)]).elf();
    for _ in 0..20_000 {
        elf.section(&"x".repeat(1000), PROGBITS, 0, vec![]);
    }
    in_time(elf).unwrap();
}

#[test]
fn table_that_is_all_pointers() {
    let mut elf = Static::usual(&[("f", 0)]).elf();
    let data = elf.section(".data.more", PROGBITS, ALLOC | WRITE, vec![0; 8 * 100_000]);
    let symbol = elf.symbol("table", 1, data, 0, 8 * 100_000);
    let mut relocs: Vec<_> = (2..100_000).map(|index| (index * 8, symbol, POINTER, 0)).collect();
    relocs.extend([(0, 1, POINTER, 0), (8, symbol, POINTER, 0)]);
    elf.relocate(data, &relocs);
    in_time(elf).unwrap();
}
