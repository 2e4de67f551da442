//! From the documents of a registry to a [`Bundle`]. Nothing is believed: every statement is bounded, and where the
//! artefact says something twice both must agree. No IO.

use livepatch_module::{Architecture, Inspection};
use serde::de::DeserializeOwned;

use crate::bundle::{Bundle, BundleEntry, InvalidBundle, ModuleIdentity};
use crate::digest::Digest;
use crate::format::{
    ARCHITECTURE, BUNDLE_TYPE, CVES, Descriptor, INDEX_MEDIA_TYPE, INSPECTION_MEDIA_TYPE, Index, KERNEL_BUILD_ID,
    KERNEL_RELEASE, KO_MEDIA_TYPE, MANIFEST_MEDIA_TYPE, MAX_CVES, MAX_ENTRIES, MAX_INSPECTION_BYTES, MAX_KO_BYTES,
    MAX_MANIFEST_BYTES, MODULE_BUILD_ID, MODULE_NAME, MODULE_SHA256, MODULE_TYPE, Manifest,
};
use crate::untrusted;

/// Reads an index. The descriptors it returns name manifests of modules within the size limit.
pub(crate) fn index(bytes: &[u8]) -> Result<Index, InvalidBundle> {
    const WHAT: &str = "index";
    let kind: Kind = json(WHAT, bytes)?;
    kind.check(WHAT, INDEX_MEDIA_TYPE, BUNDLE_TYPE)?;
    let index: Index = json(WHAT, bytes)?;
    let count = index.manifests.len();
    value((1..=MAX_ENTRIES).contains(&count), "manifests", || {
        format!("has {count} entries, 1 to {MAX_ENTRIES} allowed")
    })?;
    for descriptor in &index.manifests {
        media_type("descriptor", descriptor, MANIFEST_MEDIA_TYPE)?;
        at_most("manifests[].size", descriptor.size, MAX_MANIFEST_BYTES)?;
    }
    cves(&index)?;
    Ok(index)
}

/// Reads the manifest of a module: its description and one layer, both within their size limits.
pub(crate) fn manifest(bytes: &[u8]) -> Result<(Manifest, Descriptor), InvalidBundle> {
    const WHAT: &str = "manifest";
    let kind: Kind = json(WHAT, bytes)?;
    kind.check(WHAT, MANIFEST_MEDIA_TYPE, MODULE_TYPE)?;
    let manifest: Manifest = json(WHAT, bytes)?;
    media_type("config", &manifest.config, INSPECTION_MEDIA_TYPE)?;
    at_most("config.size", manifest.config.size, MAX_INSPECTION_BYTES)?;
    let count = manifest.layers.len();
    let [layer] = manifest.layers.as_slice() else {
        return Err(InvalidBundle::Value {
            field: "layers",
            why: format!("has {count} entries, 1 allowed"),
        });
    };
    media_type("layer", layer, KO_MEDIA_TYPE)?;
    at_most("layers[0].size", layer.size, MAX_KO_BYTES)?;
    let layer = layer.clone();
    Ok((manifest, layer))
}

/// Reads the description of the module in `layer`.
pub(crate) fn inspection(bytes: &[u8], layer: &Descriptor) -> Result<Inspection, InvalidBundle> {
    let inspection: Inspection = json("config", bytes)?;
    inspection
        .validate()
        .map_err(|source| InvalidBundle::Inspection { source })?;
    agree("sha256", inspection.sha256 == layer.digest.hex(), ("config", "layer"))?;
    agree("size", inspection.size == layer.size, ("config", "layer"))?;
    Ok(inspection)
}

/// Puts a descriptor of the index and the description it leads to together.
pub(crate) fn entry(descriptor: &Descriptor, inspection: Inspection) -> Result<BundleEntry, InvalidBundle> {
    const WHERE: (&str, &str) = ("index", "config");
    let annotation = |key: &'static str| descriptor.annotations.get(key).map(String::as_str);
    let same = |key: &'static str, other: &str| agree(key, annotation(key) == Some(other), WHERE);
    same(KERNEL_RELEASE, &inspection.kernel_release)?;
    same(MODULE_NAME, &inspection.name)?;
    same(MODULE_SHA256, &inspection.sha256)?;
    same(ARCHITECTURE, <&str>::from(inspection.architecture))?;
    if let Some(platform) = &descriptor.platform {
        let machine = platform.architecture.parse::<Architecture>();
        agree(
            "platform",
            machine == Ok(inspection.architecture) && platform.os == "linux",
            WHERE,
        )?;
    }
    let build_id = inspection.build_id.clone().ok_or_else(|| InvalidBundle::Value {
        field: "buildId",
        why: "is missing, so the loaded module could not be recognised".to_owned(),
    })?;
    same(MODULE_BUILD_ID, &build_id)?;
    let kernel_build_id = annotation(KERNEL_BUILD_ID).map(kernel_build_id).transpose()?;
    Ok(BundleEntry {
        manifest: descriptor.digest.clone(),
        kernel_release: inspection.kernel_release.clone(),
        kernel_build_id,
        architecture: inspection.architecture,
        module: ModuleIdentity {
            name: inspection.name.clone(),
            sha256: inspection.sha256.clone(),
            build_id,
        },
        inspection,
    })
}

/// The whole bundle, in which no kernel has two modules.
pub(crate) fn bundle(digest: Digest, index: &Index, entries: Vec<BundleEntry>) -> Result<Bundle, InvalidBundle> {
    for (at, one) in entries.iter().enumerate() {
        let rest = entries.get(at + 1..).unwrap_or_default();
        if let Some(other) = rest.iter().find(|other| same_kernel(kernel(one), kernel(other))) {
            return Err(InvalidBundle::Overlap {
                one: one.module.name.clone(),
                other: other.module.name.clone(),
                kernel: one.kernel_release.clone(),
            });
        }
    }
    Ok(Bundle {
        digest,
        entries,
        cves: cves(index)?,
    })
}

/// The kernels that a module is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kernel<'a> {
    pub(crate) release: &'a str,
    pub(crate) architecture: Architecture,
    pub(crate) build_id: Option<&'a str>,
}

/// Whether one kernel could be meant by both. A build id is of one vmlinux, so of one release.
pub(crate) fn same_kernel(one: Kernel<'_>, other: Kernel<'_>) -> bool {
    match (one.build_id, other.build_id) {
        (Some(a), Some(b)) => a == b,
        _ => one.release == other.release && one.architecture == other.architecture,
    }
}

fn kernel(entry: &BundleEntry) -> Kernel<'_> {
    Kernel {
        release: &entry.kernel_release,
        architecture: entry.architecture,
        build_id: entry.kernel_build_id.as_deref(),
    }
}

/// A GNU build id in its one spelling: 4 to 64 bytes in lower-case hex.
pub(crate) fn kernel_build_id(text: &str) -> Result<String, InvalidBundle> {
    let hex = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    value(
        hex && text.len().is_multiple_of(2) && (8..=128).contains(&text.len()),
        KERNEL_BUILD_ID,
        || "is not 4 to 64 bytes in lower-case hex".to_owned(),
    )?;
    Ok(text.to_owned())
}

/// Whether the text is a CVE id: `CVE-`, a year, 4 to 19 digits.
pub fn is_cve(text: &str) -> bool {
    let digits = |part: &str, length: std::ops::RangeInclusive<usize>| {
        length.contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit())
    };
    text.strip_prefix("CVE-")
        .and_then(|rest| rest.split_once('-'))
        .is_some_and(|(year, number)| digits(year, 4..=4) && digits(number, 4..=19))
}

fn cves(index: &Index) -> Result<Vec<String>, InvalidBundle> {
    let Some(list) = index.annotations.get(CVES) else {
        return Ok(Vec::new());
    };
    let cves: Vec<String> = list.split(',').map(str::to_owned).collect();
    value(cves.len() <= MAX_CVES, CVES, || {
        format!("has {} ids, at most {MAX_CVES} allowed", cves.len())
    })?;
    value(cves.iter().all(|id| is_cve(id)), CVES, || {
        "has an entry that is no CVE id".to_owned()
    })?;
    Ok(cves)
}

/// The fields that tell what a document is, read leniently so that another artefact is named and not misread.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kind {
    #[serde(default)]
    schema_version: u64,
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    artifact_type: String,
}

impl Kind {
    fn check(&self, what: &'static str, media: &'static str, artifact: &'static str) -> Result<(), InvalidBundle> {
        kind(what, "schemaVersion", &self.schema_version.to_string(), "2")?;
        kind(what, "mediaType", &self.media_type, media)?;
        kind(what, "artifactType", &self.artifact_type, artifact)
    }
}

fn media_type(what: &'static str, descriptor: &Descriptor, expected: &'static str) -> Result<(), InvalidBundle> {
    kind(what, "mediaType", &descriptor.media_type, expected)
}

fn kind(what: &'static str, field: &'static str, actual: &str, expected: &'static str) -> Result<(), InvalidBundle> {
    if actual == expected {
        return Ok(());
    }
    Err(InvalidBundle::OtherKind {
        what,
        field,
        actual: untrusted::line(actual),
        expected,
    })
}

fn json<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, InvalidBundle> {
    serde_json::from_slice(bytes).map_err(|error| InvalidBundle::Json {
        what,
        why: untrusted::line(&error.to_string()),
    })
}

fn agree(field: &'static str, same: bool, (one, other): (&'static str, &'static str)) -> Result<(), InvalidBundle> {
    if same {
        return Ok(());
    }
    Err(InvalidBundle::Contradiction { field, one, other })
}

fn at_most(field: &'static str, actual: u64, limit: usize) -> Result<(), InvalidBundle> {
    value(actual <= limit as u64, field, || {
        format!("is {actual} bytes, at most {limit} allowed")
    })
}

fn value(ok: bool, field: &'static str, why: impl FnOnce() -> String) -> Result<(), InvalidBundle> {
    if ok {
        Ok(())
    } else {
        Err(InvalidBundle::Value { field, why: why() })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::assemble::Assembled;
    use crate::fixture::module;

    const RELEASE: &str = "6.1.0-1-amd64";

    fn assembled() -> Assembled {
        Assembled::new(vec![module("lp_a", RELEASE, Some("aabbccdd"))], &[]).unwrap()
    }

    /// The document with one value replaced.
    fn with(bytes: &[u8], pointer: &str, value: Value) -> Vec<u8> {
        let mut document: Value = serde_json::from_slice(bytes).unwrap();
        *document.pointer_mut(pointer).unwrap() = value;
        serde_json::to_vec(&document).unwrap()
    }

    #[test]
    fn what_was_assembled_is_read_back() {
        let assembled = assembled();
        let [entry] = assembled.bundle.entries.as_slice() else {
            panic!("{:?}", assembled.bundle);
        };
        assert_eq!(entry.manifest, assembled.modules[0].manifest.digest);
        assert_eq!(entry.module.name, "lp_a");
        assert_eq!(entry.inspection, module("lp_a", RELEASE, Some("aabbccdd")).inspection);
    }

    #[test]
    fn another_artefact_is_named() {
        let image = json!({"schemaVersion": 2, "mediaType": INDEX_MEDIA_TYPE, "manifests": []});
        let error = index(image.to_string().as_bytes()).unwrap_err();
        assert!(error.to_string().contains("artifactType"), "{error}");
        let docker = json!({"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json"});
        let error = manifest(docker.to_string().as_bytes()).unwrap_err();
        assert!(error.to_string().contains("vnd.docker"), "{error}");
        assert!(matches!(index(b"<html>"), Err(InvalidBundle::Json { .. })));
    }

    #[test]
    fn sizes_and_counts_are_bounded_before_anything_is_fetched() {
        let assembled = assembled();
        let huge = json!(1_u64 << 40);
        assert!(index(&with(&assembled.index.bytes, "/manifests/0/size", huge.clone())).is_err());
        assert!(index(&with(&assembled.index.bytes, "/manifests", json!([]))).is_err());
        let bytes = &assembled.modules[0].manifest.bytes;
        assert!(manifest(&with(bytes, "/config/size", huge.clone())).is_err());
        assert!(manifest(&with(bytes, "/layers/0/size", huge)).is_err());
        assert!(manifest(&with(bytes, "/layers", json!([]))).is_err());
        assert!(manifest(&with(bytes, "/layers/0/digest", json!("sha512:00"))).is_err());
    }

    #[test]
    fn index_and_description_must_agree() {
        let assembled = assembled();
        for (key, value) in [
            (KERNEL_RELEASE, "6.1.0-2-amd64"),
            (ARCHITECTURE, "arm64"),
            (MODULE_NAME, "lp_b"),
            (MODULE_SHA256, "00"),
            (MODULE_BUILD_ID, "00"),
            (KERNEL_BUILD_ID, "not hex"),
        ] {
            let read = index(&assembled.index.bytes).unwrap();
            let mut descriptor = read.manifests[0].clone();
            descriptor.annotations.insert(key.to_owned(), value.to_owned());
            let inspection = assembled.bundle.entries[0].inspection.clone();
            let error = entry(&descriptor, inspection.clone()).unwrap_err();
            assert!(error.to_string().contains(key), "{error}");
            if key != KERNEL_BUILD_ID {
                descriptor.annotations.remove(key);
                assert!(entry(&descriptor, inspection).is_err(), "{key}");
            }
        }
        let mut descriptor = index(&assembled.index.bytes).unwrap().manifests[0].clone();
        descriptor.platform.as_mut().unwrap().architecture = "arm64".to_owned();
        assert!(entry(&descriptor, assembled.bundle.entries[0].inspection.clone()).is_err());
    }

    #[test]
    fn a_description_of_another_file_is_refused() {
        let assembled = assembled();
        let module = &assembled.modules[0];
        let layer = manifest(&module.manifest.bytes).unwrap().1;
        inspection(&module.config.bytes, &layer).unwrap();
        for (pointer, value) in [
            ("/sha256", json!("0".repeat(64))),
            ("/size", json!(1)),
            ("/name", json!("a/b")),
            ("/kernelRelease", json!("6.1.0-2-amd64")),
            ("/replace/value", json!("perhaps")),
        ] {
            assert!(
                inspection(&with(&module.config.bytes, pointer, value), &layer).is_err(),
                "{pointer}"
            );
        }
    }

    #[test]
    fn an_entry_is_for_its_kernel_and_no_other() {
        let files = vec![
            module("lp_any", "6.1.0-1-amd64", None),
            module("lp_one", "6.1.0-2-amd64", Some("aabbccdd")),
            module("lp_two", "6.1.0-2-amd64", Some("aabbccee")),
        ];
        let bundle = Assembled::new(files, &[]).unwrap().bundle;
        let name = |release, id, machine| bundle.entry_for(release, id, machine).map(|e| e.module.name.clone());
        assert_eq!(name("6.1.0-1-amd64", Some("0011"), "amd64").as_deref(), Some("lp_any"));
        assert_eq!(name("6.1.0-1-amd64", None, "amd64").as_deref(), Some("lp_any"));
        assert_eq!(
            name("6.1.0-2-amd64", Some("aabbccee"), "amd64").as_deref(),
            Some("lp_two")
        );
        // The release is the same and the build is not: another kernel.
        assert_eq!(name("6.1.0-2-amd64", Some("0011"), "amd64"), None);
        assert_eq!(name("6.1.0-2-amd64", None, "amd64"), None);
        assert_eq!(name("6.1.0-2-amd64", Some(""), "amd64"), None);
        assert_eq!(name("6.1.0-1-amd64", None, "arm64"), None);
        assert_eq!(name("6.1.0-1-amd64", None, "riscv64"), None);
        assert_eq!(name("6.1.0-3-amd64", Some("aabbccdd"), "amd64"), None);
    }
}
