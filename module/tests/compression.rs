//! Reads packed modules as the distributions' own tools make them.

use std::borrow::Cow;

use livepatch_module::{DecompressError, InspectError, MAX_MODULE_BYTES, decompress, inspect};

const PLAIN: &[u8] = include_bytes!("fixtures/fmt_plain.ko");
const PACKED: [&[u8]; 3] = [
    include_bytes!("fixtures/fmt_plain.ko.gz"),
    include_bytes!("fixtures/fmt_plain.ko.xz"),
    include_bytes!("fixtures/fmt_plain.ko.zst"),
];

#[test]
fn each_format_unpacks_to_the_module() {
    for packed in PACKED {
        assert_eq!(decompress(packed, MAX_MODULE_BYTES).unwrap(), PLAIN);
    }
    assert!(matches!(
        decompress(PLAIN, MAX_MODULE_BYTES).unwrap(),
        Cow::Borrowed(PLAIN)
    ));
}

#[test]
fn packed_module_is_not_read_as_it_is() {
    for packed in PACKED {
        assert!(matches!(inspect(packed), Err(InspectError::Compressed { .. })));
    }
}

#[test]
fn no_more_than_the_cap_comes_out() {
    for packed in PACKED.into_iter().chain([PLAIN]) {
        assert_eq!(decompress(packed, PLAIN.len()).unwrap(), PLAIN);
        let error = decompress(packed, PLAIN.len() - 1).unwrap_err();
        assert!(matches!(error, DecompressError::TooLarge { .. }), "{error:?}");
    }
}

#[test]
fn damage_is_told() {
    for packed in PACKED {
        let error = decompress(&packed[..packed.len() / 2], MAX_MODULE_BYTES).unwrap_err();
        assert_eq!(error.reason(), "DamagedCompression");
    }
}

/// A few KB of 0xff.. packed data that would need gigabytes: xz and zstd headers ask for the memory up front.
#[test]
fn greedy_header_is_refused() {
    // zstd: frame header with a window descriptor of 2^41 bytes.
    let zstd = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xff, 0x01, 0x00, 0x00];
    assert!(matches!(
        decompress(&zstd, MAX_MODULE_BYTES),
        Err(DecompressError::Damaged { .. })
    ));
    // gzip: 1 GiB of zeros would come out of the tail of this stream; the cap ends it.
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut bomb, &vec![0; 16 << 20]).unwrap();
    let bomb = bomb.finish().unwrap();
    assert!(bomb.len() < 64 << 10);
    assert!(matches!(decompress(&bomb, 1 << 20), Err(DecompressError::TooLarge { limit }) if limit == 1 << 20));
}
