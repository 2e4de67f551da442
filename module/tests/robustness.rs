//! No file makes the reader panic, hang or take much memory.
//!
//! `cargo xtask test unit --long` is the long run.
#![expect(clippy::unwrap_used, reason = "a fixture that cannot be read fails the test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::{Duration, Instant};

use livepatch_module::{decompress, inspect, inspect_details};
use proptest::prelude::*;

/// Cases of a plain `cargo test` and of the long run.
const CASES: u64 = 10_000;
const MANY_CASES: u64 = 200_000;
/// No case may take longer, even unoptimised on a busy machine; the slowest seen takes a hundredth.
const PATIENCE: Duration = Duration::from_secs(5);
/// What an answer itself takes, whatever the file: names, evidence, error messages.
const ANSWER_BYTES: usize = 16 << 10;

/// Counts what the current thread has allocated, and its peak.
struct Counting;

thread_local! {
    static NOW: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged; only sizes are counted beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = NOW.try_with(|now| {
            now.set(now.get().saturating_add(layout.size()));
            let _ = PEAK.try_with(|peak| peak.set(peak.get().max(now.get())));
        });
        // SAFETY: the caller's layout is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let _ = NOW.try_with(|now| now.set(now.get().saturating_sub(layout.size())));
        // SAFETY: the caller's pointer and layout are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Peak of allocated bytes while `work` runs.
fn peak<T>(work: impl FnOnce() -> T) -> usize {
    let before = NOW.get();
    PEAK.set(before);
    let result = work();
    let peak = PEAK.get() - before;
    drop(result);
    peak
}

fn fixtures() -> Vec<Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.retain(|path| path.extension().is_none_or(|extension| extension != "md"));
    paths.sort_unstable();
    paths.into_iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// Reads one case and checks its bounds.
fn try_one(bytes: &[u8]) {
    let start = Instant::now();
    let used = peak(|| inspect(bytes));
    assert!(
        used <= bytes.len() * 4 + ANSWER_BYTES,
        "{used} bytes of memory for {} of file",
        bytes.len()
    );
    assert!(start.elapsed() < PATIENCE, "took {:?}", start.elapsed());
    if let Ok(inspection) = inspect(bytes) {
        inspection.validate().unwrap();
    }
}

/// Damages a copy of a module where it hurts: words of tables, with the values that break careless readers.
fn mutate(bytes: &mut Vec<u8>, random: &mut fastrand::Rng) {
    for _ in 0..random.usize(1..=6) {
        let len = bytes.len();
        if len < 64 {
            return;
        }
        let size = *random.choice(&[1usize, 2, 4, 8]).unwrap();
        // Section headers are at the end of the file, where a quarter of the damage goes.
        let from = if random.u8(..4) == 0 { len * 3 / 4 } else { 0 };
        let at = random.usize(from..len - 8) / size * size;
        let value = match random.u8(..8) {
            0 => 0,
            1 => u64::MAX,
            2 => len as u64,
            3 => random.u64(..len as u64),
            4 => random.u64(..64),
            5 => 1 << random.u32(..64),
            6 => (len as u64).wrapping_sub(random.u64(..16)),
            _ => random.u64(..),
        };
        match random.u8(..10) {
            0 => bytes.truncate(random.usize(..=len)),
            1 => {
                let block = bytes[at..(at + random.usize(1..256)).min(len)].to_vec();
                let to = random.usize(..=len - block.len());
                bytes[to..to + block.len()].copy_from_slice(&block);
            }
            2 => bytes[at] ^= 1 << random.u32(..8),
            _ => bytes[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]),
        }
    }
}

fn mutated_copies(cases: u64, seed: u64) {
    let fixtures = fixtures();
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut read, start) = (0u64, Instant::now());
    for _ in 0..cases {
        let mut bytes = random.choice(&fixtures).unwrap().clone();
        mutate(&mut bytes, &mut random);
        try_one(&bytes);
        if inspect_details(&bytes).is_ok() {
            read += 1;
        }
        let _ = decompress(&bytes, 1 << 20);
    }
    println!("{cases} mutated copies, {read} still readable, {:?}", start.elapsed());
    // Damage that is always noticed at once would test little.
    assert!(read > cases / 50, "only {read} of {cases} still readable");
}

#[test]
fn mutated_copies_never_panic() {
    mutated_copies(CASES, 1);
}

#[test]
#[ignore = "takes minutes"]
fn long_many_mutated_copies_never_panic() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    mutated_copies(MANY_CASES, seed);
}

#[test]
fn truncated_copies_never_panic() {
    for (index, fixture) in fixtures().iter().enumerate() {
        for end in (index % 7..fixture.len()).step_by(7) {
            try_one(&fixture[..end]);
        }
    }
}

#[test]
#[ignore = "takes minutes"]
fn long_all_truncated_copies_never_panic() {
    for fixture in fixtures() {
        for end in 0..fixture.len() {
            try_one(&fixture[..end]);
        }
    }
}

#[test]
fn packed_and_damaged_copies_never_panic() {
    let packed: Vec<_> = fixtures()
        .into_iter()
        .filter(|bytes| !bytes.starts_with(b"\x7fELF"))
        .collect();
    assert_eq!(packed.len(), 3);
    let mut random = fastrand::Rng::with_seed(2);
    for _ in 0..2_000 {
        let mut bytes = random.choice(&packed).unwrap().clone();
        mutate(&mut bytes, &mut random);
        let _ = decompress(&bytes, 1 << 16);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
        try_one(&bytes);
        for magic in [&b"\x7fELF\x02\x01\x01\x00"[..], b"\x1f\x8b\x08", b"\xfd7zXZ\x00\x00\x04", b"\x28\xb5\x2f\xfd"] {
            if bytes.len() >= magic.len() {
                bytes[..magic.len()].copy_from_slice(magic);
                try_one(&bytes);
                let _ = decompress(&bytes, 1 << 16);
            }
        }
    }
}
