//! What artefacts hold, read from their registries. Does IO.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::path::PathBuf;

use clap::Args;
use futures::{StreamExt as _, stream};
use livepatch_artifact::{
    AllowedRepositories, Bundle, BundleEntry, ConfigError, Puller, Reference, RegistryConfig, RepositoryPrefix,
};

use crate::family::Family;
use crate::output::with_causes;

/// How registries are reached.
#[derive(Debug, Clone, Default, Args)]
pub struct RegistryOptions {
    /// Talk plain HTTP to the registry
    #[arg(long)]
    pub plain_http: bool,

    #[arg(
        long,
        value_name = "FOLDER",
        help = "Folder with config.json and ca.crt [default: $DOCKER_CONFIG or ~/.docker]"
    )]
    pub registry_config: Option<PathBuf>,
}

impl RegistryOptions {
    /// Reads what the folder holds.
    pub fn config(&self) -> Result<RegistryConfig, ConfigError> {
        let folder = self.registry_config.clone().or_else(docker_folder);
        let mut config = match &folder {
            Some(folder) => RegistryConfig::load(folder)?,
            None => RegistryConfig::default(),
        };
        config.plain_http = self.plain_http;
        Ok(config)
    }
}

/// Where docker keeps its configuration.
fn docker_folder() -> Option<PathBuf> {
    env::var_os("DOCKER_CONFIG")
        .map(PathBuf::from)
        .or_else(|| Some(env::home_dir()?.join(".docker")))
}

/// Artefacts read at once.
const CONCURRENT: usize = 4;

/// The artefacts of all revisions that are kept, and why some could not be read.
#[derive(Debug, Default)]
pub struct Artefacts {
    pub read: BTreeMap<String, Bundle>,
    pub unread: BTreeMap<String, String>,
}

impl Artefacts {
    /// Reads the artefacts of the sets and of their rollouts. One that cannot be read keeps no other from being read.
    pub async fn of(families: &[Family], config: RegistryConfig) -> Result<Self, ConfigError> {
        let references: BTreeSet<&str> = families
            .iter()
            .flat_map(|family| {
                let templates = family.rollouts.iter().map(|rollout| &rollout.spec.template);
                templates.chain([&family.set.spec.template])
            })
            .map(|template| template.source.oci.reference.as_str())
            .collect();
        let parsed: Vec<(&str, Option<Reference>)> = references.iter().map(|text| (*text, text.parse().ok())).collect();
        let registries = parsed
            .iter()
            .filter_map(|(_, reference)| reference.as_ref()?.repository().registry().parse().ok());
        let puller = Puller::new(
            config,
            AllowedRepositories::new(registries.collect::<BTreeSet<RepositoryPrefix>>()),
        )?;
        let puller = &puller;
        let mut answers = stream::iter(parsed)
            .map(|(text, reference)| async move {
                let bundle = match &reference {
                    Some(reference) => puller.bundle(reference).await.map_err(|error| with_causes(&error)),
                    None => Err("the reference is malformed".to_owned()),
                };
                (text, bundle)
            })
            .buffer_unordered(CONCURRENT);
        let mut artefacts = Self::default();
        while let Some((text, bundle)) = answers.next().await {
            match bundle {
                Ok(bundle) => drop(artefacts.read.insert(text.to_owned(), bundle)),
                Err(why) => drop(artefacts.unread.insert(text.to_owned(), why)),
            }
        }
        Ok(artefacts)
    }

    /// The module with that build id, and the artefact that it is of.
    pub fn module(&self, build_id: &str) -> Option<(&Bundle, &BundleEntry)> {
        if build_id.is_empty() {
            return None;
        }
        self.read.values().find_map(|bundle| {
            let entry = bundle.entries.iter().find(|entry| entry.module.build_id == build_id)?;
            Some((bundle, entry))
        })
    }
}

#[cfg(test)]
pub mod fixture {
    //! Artefacts of one module each, for kernel 6.1 (build k1). The build id of a module is its SHA-256 too, and one
    //! that begins with `c` is of a module that replaces all others.

    use super::Artefacts;
    use livepatch_artifact::{Bundle, BundleEntry, Digest, ModuleIdentity};
    use livepatch_module::Architecture;
    use serde_json::json;

    /// Reference, build id of the module, CVEs, and object and name of each function.
    pub type Artefact<'a> = (&'a str, &'a str, &'a [&'a str], &'a [(&'a str, &'a str)]);

    pub fn artefacts(all: &[Artefact<'_>]) -> Artefacts {
        let mut artefacts = Artefacts::default();
        for (reference, build_id, cves, functions) in all {
            let objects: Vec<_> = functions
                .iter()
                .map(|(object, name)| json!({"name": object, "functions": [{"name": name, "position": 1}]}))
                .collect();
            let replace = if build_id.starts_with('c') { "true" } else { "false" };
            let inspection = json!({
                "name": format!("lp_{build_id}"), "format": "Static", "kernelRelease": "6.1", "vermagic": "6.1 ", "architecture": "amd64",
                "sha256": build_id, "size": 1, "replace": {"value": replace, "evidence": ""}, "objects": objects,
                "shadowVariables": false,
            });
            let digest: Digest = format!("sha256:{}", "0".repeat(64)).parse().unwrap();
            let entry = BundleEntry {
                manifest: digest.clone(),
                kernel_release: "6.1".to_owned(),
                kernel_build_id: Some("k1".to_owned()),
                architecture: Architecture::Amd64,
                module: ModuleIdentity {
                    name: format!("lp_{build_id}"),
                    sha256: (*build_id).to_owned(),
                    build_id: (*build_id).to_owned(),
                },
                inspection: serde_json::from_value(inspection).unwrap(),
            };
            let bundle = Bundle {
                digest,
                entries: vec![entry],
                cves: cves.iter().map(|cve| (*cve).to_owned()).collect(),
            };
            artefacts.read.insert((*reference).to_owned(), bundle);
        }
        artefacts
    }
}
