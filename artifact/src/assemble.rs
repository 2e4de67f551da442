//! From module files to the documents of an artefact, byte for byte the same for the same input. No IO.

use std::collections::BTreeMap;

use bytes::Bytes;
use livepatch_module::Inspection;

use crate::bundle::{Bundle, InvalidBundle};
use crate::digest::Digest;
use crate::format::{
    ARCHITECTURE, BUNDLE_TYPE, CVES, Descriptor, INDEX_MEDIA_TYPE, INSPECTION_MEDIA_TYPE, Index, KERNEL_BUILD_ID,
    KERNEL_RELEASE, KO_MEDIA_TYPE, MANIFEST_MEDIA_TYPE, MAX_INDEX_BYTES, MODULE_BUILD_ID, MODULE_NAME, MODULE_SHA256,
    MODULE_TYPE, Manifest, Platform,
};
use crate::read::{self, Kernel};

/// A module that shall be part of a bundle.
#[derive(Debug, Clone)]
pub struct ModuleFile {
    /// The uncompressed module file.
    pub bytes: Bytes,
    /// Its description, from [`livepatch_module::inspect`]. It is taken as it is.
    pub inspection: Inspection,
    /// GNU build id of the one vmlinux it is for, in lower-case hex; without it every kernel of its release.
    pub kernel_build_id: Option<String>,
}

impl ModuleFile {
    /// Whether one kernel could be meant by both, so that they cannot be in one bundle.
    pub fn overlaps(&self, other: &Self) -> bool {
        read::same_kernel(self.kernel(), other.kernel())
    }

    fn kernel(&self) -> Kernel<'_> {
        Kernel {
            release: &self.inspection.kernel_release,
            architecture: self.inspection.architecture,
            build_id: self.kernel_build_id.as_deref(),
        }
    }
}

/// A blob or a manifest with its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Digest of the bytes.
    pub digest: Digest,
    /// What is stored.
    pub bytes: Bytes,
}

impl Content {
    fn new(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self {
            digest: Digest::of(&bytes),
            bytes,
        }
    }
}

/// One module of an artefact that is ready to be pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssembledModule {
    /// Name of the module, for progress.
    pub name: String,
    /// Release of its kernel, for progress.
    pub kernel_release: String,
    /// The manifest.
    pub manifest: Content,
    /// The config blob.
    pub config: Content,
    /// The module file.
    pub layer: Content,
}

/// An artefact that is ready to be pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assembled {
    /// The modules, in the order of the index.
    pub modules: Vec<AssembledModule>,
    /// The index.
    pub index: Content,
    /// What a puller will read from it.
    pub bundle: Bundle,
}

impl Assembled {
    /// Lays the modules out as an artefact. The order of `files` and `cves` makes no difference.
    ///
    /// # Errors
    /// What a puller would refuse: no module, two modules for one kernel, a module without build id, a text that is no
    /// CVE id, more than the limits of [`crate::format`].
    pub fn new(mut files: Vec<ModuleFile>, cves: &[String]) -> Result<Self, InvalidBundle> {
        files.sort_by(|a, b| order(a).cmp(&order(b)));
        let mut cves = cves.to_vec();
        cves.sort();
        cves.dedup();

        let mut modules = Vec::with_capacity(files.len());
        let mut descriptors = Vec::with_capacity(files.len());
        let mut entries = Vec::with_capacity(files.len());
        for file in files {
            let (module, descriptor) = assemble(file)?;
            let (_, layer) = read::manifest(&module.manifest.bytes)?;
            entries.push(read::entry(
                &descriptor,
                read::inspection(&module.config.bytes, &layer)?,
            )?);
            modules.push(module);
            descriptors.push(descriptor);
        }
        let cves = (!cves.is_empty()).then(|| (CVES.to_owned(), cves.join(",")));
        let index = Content::new(json(&Index {
            schema_version: 2,
            media_type: INDEX_MEDIA_TYPE.to_owned(),
            artifact_type: BUNDLE_TYPE.to_owned(),
            manifests: descriptors,
            annotations: cves.into_iter().collect(),
        })?);
        if index.bytes.len() > MAX_INDEX_BYTES {
            return Err(InvalidBundle::Value {
                field: "index",
                why: format!("is {} bytes, at most {MAX_INDEX_BYTES} allowed", index.bytes.len()),
            });
        }
        // What was written is read back by the rules of a puller, so nothing is pushed that cannot be pulled.
        let bundle = read::bundle(index.digest.clone(), &read::index(&index.bytes)?, entries)?;
        Ok(Self { modules, index, bundle })
    }
}

fn order(file: &ModuleFile) -> (&str, &str, Option<&str>, &str) {
    let inspection = &file.inspection;
    (
        &inspection.kernel_release,
        inspection.architecture.into(),
        file.kernel_build_id.as_deref(),
        &inspection.sha256,
    )
}

fn assemble(file: ModuleFile) -> Result<(AssembledModule, Descriptor), InvalidBundle> {
    let inspection = &file.inspection;
    let config = Content::new(json(inspection)?);
    let layer = Content::new(file.bytes);
    let manifest = Content::new(json(&Manifest {
        schema_version: 2,
        media_type: MANIFEST_MEDIA_TYPE.to_owned(),
        artifact_type: MODULE_TYPE.to_owned(),
        config: descriptor(INSPECTION_MEDIA_TYPE, &config),
        layers: vec![descriptor(KO_MEDIA_TYPE, &layer)],
    })?);
    let kernel_build_id = file.kernel_build_id.as_deref().map(read::kernel_build_id).transpose()?;
    let descriptor = Descriptor {
        artifact_type: Some(MODULE_TYPE.to_owned()),
        platform: Some(Platform {
            architecture: inspection.architecture.to_string(),
            os: "linux".to_owned(),
        }),
        annotations: annotations(inspection, kernel_build_id.as_deref()),
        ..descriptor(MANIFEST_MEDIA_TYPE, &manifest)
    };
    let module = AssembledModule {
        name: inspection.name.clone(),
        kernel_release: inspection.kernel_release.clone(),
        manifest,
        config,
        layer,
    };
    Ok((module, descriptor))
}

fn descriptor(media_type: &str, content: &Content) -> Descriptor {
    Descriptor {
        media_type: media_type.to_owned(),
        artifact_type: None,
        digest: content.digest.clone(),
        size: content.bytes.len() as u64,
        platform: None,
        annotations: BTreeMap::new(),
    }
}

/// Struct fields in their order, maps by key, no blanks: one value has one spelling.
fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, InvalidBundle> {
    serde_json::to_vec(value).map_err(|error| InvalidBundle::Json {
        what: "document",
        why: error.to_string(),
    })
}

/// Annotations of the descriptor that leads to this module.
fn annotations(inspection: &Inspection, kernel_build_id: Option<&str>) -> BTreeMap<String, String> {
    let some = |value: &str| Some(value.to_owned());
    [
        (KERNEL_RELEASE, some(&inspection.kernel_release)),
        (KERNEL_BUILD_ID, kernel_build_id.map(str::to_owned)),
        (ARCHITECTURE, some(inspection.architecture.into())),
        (MODULE_NAME, some(&inspection.name)),
        (MODULE_SHA256, some(&inspection.sha256)),
        (MODULE_BUILD_ID, inspection.build_id.clone()),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key.to_owned(), value?)))
    .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::Index as Pick;

    use super::*;
    use crate::fixture::module;

    #[test]
    fn the_order_of_files_and_cves_makes_no_difference() {
        let files = [
            module("lp_a", "6.1.0-1-amd64", None),
            module("lp_a", "6.1.0-2-amd64", Some("aabbccdd")),
            module("lp_a", "6.1.0-2-amd64", Some("aabbccee")),
        ];
        let cves = ["CVE-2026-1234".to_owned(), "CVE-2025-99999".to_owned()];
        let one = Assembled::new(files.to_vec(), &cves).unwrap();
        let mut files = files.to_vec();
        files.reverse();
        let other = Assembled::new(files, &[&cves[1..], &cves[..], &cves[..]].concat()).unwrap();
        assert_eq!(one, other);
        assert_eq!(one.bundle.cves, ["CVE-2025-99999", "CVE-2026-1234"]);
    }

    #[test]
    fn the_documents_have_the_documented_form() {
        let assembled = Assembled::new(
            vec![module("lp_a", "6.1.0-1-amd64", Some("aabbccdd"))],
            &["CVE-2026-1234".to_owned()],
        )
        .unwrap();
        let module = &assembled.modules[0];
        let (manifest, config, layer) = (&module.manifest, &module.config, &module.layer);
        let index = format!(
            concat!(
                r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","#,
                r#""artifactType":"application/vnd.livepatch.bundle.v1","manifests":["#,
                r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","#,
                r#""artifactType":"application/vnd.livepatch.module.v1","digest":"{}","size":{},"#,
                r#""platform":{{"architecture":"amd64","os":"linux"}},"annotations":{{"#,
                r#""dev.livepatch.architecture":"amd64","dev.livepatch.kernel-build-id":"aabbccdd","#,
                r#""dev.livepatch.kernel-release":"6.1.0-1-amd64","#,
                r#""dev.livepatch.module-build-id":"0123456789abcdef0123456789abcdef01234567","#,
                r#""dev.livepatch.module-name":"lp_a","dev.livepatch.module-sha256":"{}"}}}}],"#,
                r#""annotations":{{"dev.livepatch.cves":"CVE-2026-1234"}}}}"#
            ),
            manifest.digest,
            manifest.bytes.len(),
            layer.digest.hex()
        );
        assert_eq!(str::from_utf8(&assembled.index.bytes).unwrap(), index);
        let expected = format!(
            concat!(
                r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","#,
                r#""artifactType":"application/vnd.livepatch.module.v1","#,
                r#""config":{{"mediaType":"application/vnd.livepatch.inspection.v1+json","digest":"{}","size":{}}},"#,
                r#""layers":[{{"mediaType":"application/vnd.livepatch.module.v1.ko","digest":"{}","size":{}}}]}}"#
            ),
            config.digest,
            config.bytes.len(),
            layer.digest,
            layer.bytes.len()
        );
        assert_eq!(str::from_utf8(&manifest.bytes).unwrap(), expected);
    }

    #[test]
    fn two_modules_for_one_kernel_are_refused() {
        let release = "6.1.0-1-amd64";
        for (one, other) in [
            (None, None),
            (None, Some("aabbccdd")),
            (Some("aabbccdd"), Some("aabbccdd")),
        ] {
            let files = vec![module("lp_a", release, one), module("lp_b", release, other)];
            let error = Assembled::new(files, &[]).unwrap_err();
            assert!(matches!(error, InvalidBundle::Overlap { .. }), "{error}");
        }
        let files = vec![
            module("lp_a", release, Some("aabbccdd")),
            module("lp_b", "6.1.0-2-amd64", Some("aabbccdd")),
        ];
        assert!(matches!(Assembled::new(files, &[]), Err(InvalidBundle::Overlap { .. })));
    }

    #[test]
    fn what_a_puller_would_refuse_is_not_assembled() {
        assert!(Assembled::new(Vec::new(), &[]).is_err());
        let release = "6.1.0-1-amd64";
        let mut anonymous = module("lp_a", release, None);
        anonymous.inspection.build_id = None;
        assert!(Assembled::new(vec![anonymous], &[]).is_err());
        for wrong in ["", "AABBCCDD", "aabbcc", "aabbccd", "xxxxxxxx"] {
            assert!(
                Assembled::new(vec![module("lp_a", release, Some(wrong))], &[]).is_err(),
                "{wrong}"
            );
        }
        for wrong in [
            "",
            "cve-2026-1234",
            "CVE-26-1234",
            "CVE-2026-123",
            "CVE-2026-1234,CVE-2026-1",
        ] {
            assert!(
                Assembled::new(vec![module("lp_a", release, None)], &[wrong.to_owned()]).is_err(),
                "{wrong}"
            );
        }
        let many = (0..300).map(|n| module("lp_a", &format!("6.1.0-{n}"), None)).collect();
        assert!(Assembled::new(many, &[]).is_err());
    }

    #[test]
    fn a_bundle_of_the_most_modules_fits_into_an_index() {
        let long = "x".repeat(60);
        let many = (0..crate::format::MAX_ENTRIES).map(|n| {
            let mut file = module(
                &"m".repeat(55),
                &format!("6.1.0-{n}-{long}"),
                Some(&format!("{n:0>40}")),
            );
            file.inspection.build_id = Some("a".repeat(40));
            file
        });
        let assembled = Assembled::new(many.collect(), &[]).unwrap();
        assert!(assembled.index.bytes.len() <= MAX_INDEX_BYTES);
    }

    proptest! {
        // Flipping any byte of a document must never panic, and must never change what is read without being noticed
        // by a digest; here: the readers stay total.
        #[test]
        fn readers_survive_any_change(at in any::<Pick>(), to in any::<u8>(), cut in any::<Pick>()) {
            let assembled = Assembled::new(vec![module("lp_a", "6.1.0-1-amd64", Some("aabbccdd"))], &[]).unwrap();
            let module = &assembled.modules[0];
            let layer = read::manifest(&module.manifest.bytes).unwrap().1;
            for content in [&assembled.index, &module.manifest, &module.config] {
                let mut bytes = content.bytes.to_vec();
                let at = at.index(bytes.len());
                bytes[at] = to;
                for bytes in [&bytes[..], &content.bytes[..cut.index(content.bytes.len())]] {
                    let _ = read::index(bytes);
                    let _ = read::manifest(bytes);
                    let _ = read::inspection(bytes, &layer);
                }
            }
        }
    }
}
