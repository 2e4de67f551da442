//! Bounds on what a livepatch may contain. No IO.
//!
//! Several are the kernel's own; the rest are far above every livepatch seen and keep memory, messages and API objects
//! small whatever a file claims.

/// Largest module file that is read, uncompressed, in bytes. Livepatches with debug information stay below a tenth.
pub const MAX_MODULE_BYTES: usize = 64 << 20;

/// Longest module or object name in bytes: `MODULE_NAME_LEN` less its terminator (include/linux/module.h, 64-bit).
pub const MAX_MODULE_NAME_BYTES: usize = 55;

/// Longest function name in bytes: `KSYM_NAME_LEN` less its terminator (include/linux/kallsyms.h since 6.1).
pub const MAX_FUNCTION_NAME_BYTES: usize = 511;

/// Most objects (the kernel and modules) one livepatch may patch.
pub const MAX_OBJECTS: usize = 256;

/// Most functions one livepatch may patch, over all objects.
pub const MAX_FUNCTIONS: usize = 8192;

/// Most `klp_state` entries in one livepatch.
pub const MAX_STATES: usize = 1024;

/// Most entries in `depends=`.
pub const MAX_DEPENDS: usize = 256;

/// Longest free text taken over from a file (vermagic, licence, signer), in bytes.
pub const MAX_TEXT_BYTES: usize = 512;

/// Longest sentence that tells how the replace flag was found, in bytes.
pub const MAX_EVIDENCE_BYTES: usize = 512;
