//! The format of the artefact: media types, annotations, limits and the JSON documents. No IO.
//!
//! An image index names one manifest per module; what is needed to choose a module stands in the annotations of its
//! descriptor, everything about it in its config blob. Field names follow the OCI image specification 1.1.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// Media type of the index.
pub const INDEX_MEDIA_TYPE: &str = "application/vnd.oci.image.index.v1+json";
/// Media type of the manifests.
pub const MANIFEST_MEDIA_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// Artefact type of the index.
pub const BUNDLE_TYPE: &str = "application/vnd.livepatch.bundle.v1";
/// Artefact type of a manifest.
pub const MODULE_TYPE: &str = "application/vnd.livepatch.module.v1";
/// Media type of a config blob: the JSON of [`livepatch_module::Inspection`].
pub const INSPECTION_MEDIA_TYPE: &str = "application/vnd.livepatch.inspection.v1+json";
/// Media type of a layer: the uncompressed module.
pub const KO_MEDIA_TYPE: &str = "application/vnd.livepatch.module.v1.ko";

/// Annotation of a descriptor: what `uname -r` prints on the kernel the module is for.
pub const KERNEL_RELEASE: &str = "dev.livepatch.kernel-release";
/// Annotation of a descriptor, optional: GNU build id of the one vmlinux the module is for, in lower-case hex.
pub const KERNEL_BUILD_ID: &str = "dev.livepatch.kernel-build-id";
/// Annotation of a descriptor: architecture as OCI spells it.
pub const ARCHITECTURE: &str = "dev.livepatch.architecture";
/// Annotation of a descriptor: name of the module in the kernel's spelling.
pub const MODULE_NAME: &str = "dev.livepatch.module-name";
/// Annotation of a descriptor: SHA-256 of the uncompressed module in lower-case hex.
pub const MODULE_SHA256: &str = "dev.livepatch.module-sha256";
/// Annotation of a descriptor: GNU build id of the module in lower-case hex.
pub const MODULE_BUILD_ID: &str = "dev.livepatch.module-build-id";
/// Annotation of the index, optional: CVE ids, separated by commas.
pub const CVES: &str = "dev.livepatch.cves";

/// Largest index in bytes; one entry takes about 900.
pub const MAX_INDEX_BYTES: usize = 256 << 10;
/// Largest manifest of a module in bytes; it takes about 700.
pub const MAX_MANIFEST_BYTES: usize = 16 << 10;
/// Largest config blob in bytes.
pub const MAX_INSPECTION_BYTES: usize = 1 << 20;
/// Largest module in bytes.
pub const MAX_KO_BYTES: usize = livepatch_module::MAX_MODULE_BYTES;
/// Most modules in one bundle; a fleet has one per kernel build.
pub const MAX_ENTRIES: usize = 256;
/// Most CVE ids.
pub const MAX_CVES: usize = 128;

/// An OCI image index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// [`INDEX_MEDIA_TYPE`].
    pub media_type: String,
    /// [`BUNDLE_TYPE`].
    pub artifact_type: String,
    /// One descriptor per module.
    pub manifests: Vec<Descriptor>,
    /// [`CVES`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// An OCI image manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// [`MANIFEST_MEDIA_TYPE`].
    pub media_type: String,
    /// [`MODULE_TYPE`].
    pub artifact_type: String,
    /// The description of the module.
    pub config: Descriptor,
    /// The module, and nothing else.
    pub layers: Vec<Descriptor>,
}

/// An OCI content descriptor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type of the content.
    pub media_type: String,
    /// Artefact type of the manifest it names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Digest of the content.
    pub digest: Digest,
    /// Size of the content in bytes.
    pub size: u64,
    /// Machine the content is for, shown by every OCI tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// What is needed to choose without reading on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// The platform of a descriptor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// Architecture as OCI spells it.
    pub architecture: String,
    /// Always `linux`.
    pub os: String,
}
