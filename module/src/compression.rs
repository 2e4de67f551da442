//! Unpacks `.ko.gz`, `.ko.xz` and `.ko.zst` within a bound. No IO: bytes in, bytes out.
//!
//! All three decoders are pure Rust, so that this crate builds wherever Rust does, and two of them take a limit for the
//! memory that a file's own header asks for: flate2 is what Cargo uses, ruzstd what the standard library's symbolizer
//! uses, lzma-rust2 is the maintained port of XZ for Java.

use std::borrow::Cow;
use std::io::{self, Read};

use lzma_rust2::XzReader;
use ruzstd::decoding::StreamingDecoder;
use strum::{Display, IntoStaticStr};

/// Window or dictionary that is always granted, in bytes: what the tools use at their default levels.
const LEAST_WINDOW: usize = 8 << 20;

/// How a module file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum Compression {
    /// `.ko.gz`
    Gzip,
    /// `.ko.xz`
    Xz,
    /// `.ko.zst`
    Zstd,
}

impl Compression {
    /// Recognises a packed file by its first bytes.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::Xz),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// Why a packed module was not unpacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecompressError {
    /// The packed data is damaged, or asks for more memory than is granted.
    #[error("cannot unpack {compression} data")]
    Damaged {
        /// How it is packed.
        compression: Compression,
        /// What the decoder says.
        source: io::Error,
    },
    /// More than is allowed comes out.
    #[error("too large: more than {limit} bytes")]
    TooLarge {
        /// The most that is allowed, in bytes.
        limit: usize,
    },
}

impl DecompressError {
    /// Stable reason code for status, events, metrics and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Damaged { .. } => "DamagedCompression",
            Self::TooLarge { .. } => "TooLarge",
        }
    }
}

/// Unpacks a module file; one that is not packed is returned as it is.
///
/// At most `cap` bytes come out, and no decoder gets more memory than that or 8 MiB, whichever is more.
///
/// # Errors
/// See [`DecompressError`].
pub fn decompress(bytes: &[u8], cap: usize) -> Result<Cow<'_, [u8]>, DecompressError> {
    let Some(compression) = Compression::of(bytes) else {
        return if bytes.len() <= cap {
            Ok(Cow::Borrowed(bytes))
        } else {
            Err(DecompressError::TooLarge { limit: cap })
        };
    };
    let window = cap.max(LEAST_WINDOW);
    let unpacked = match compression {
        Compression::Gzip => read(flate2::bufread::GzDecoder::new(bytes), cap),
        Compression::Xz => {
            // The reader counts in KiB and adds its own buffers to the dictionary.
            let limit = u32::try_from(window / 1024 + 1024).unwrap_or(u32::MAX);
            read(XzReader::new_mem_limit(bytes, false, limit), cap)
        }
        Compression::Zstd => StreamingDecoder::new_with_max_window_size(bytes, window as u64)
            .map_err(io::Error::other)
            .and_then(|decoder| read(decoder, cap)),
    };
    let unpacked = unpacked.map_err(|source| DecompressError::Damaged { compression, source })?;
    if unpacked.len() > cap {
        Err(DecompressError::TooLarge { limit: cap })
    } else {
        Ok(Cow::Owned(unpacked))
    }
}

/// Reads one byte more than allowed at most, which tells that there was more.
fn read(decoder: impl Read, cap: usize) -> io::Result<Vec<u8>> {
    let mut unpacked = Vec::new();
    decoder
        .take((cap as u64).saturating_add(1))
        .read_to_end(&mut unpacked)?;
    Ok(unpacked)
}
