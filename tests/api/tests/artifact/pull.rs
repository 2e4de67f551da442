//! The library against a real registry.

use std::fs;

use livepatch_artifact::{
    AllowedRepositories, Digest, Mirror, ModuleError, PullError, Puller, Reference, RegistryConfig, Repository,
};
use livepatch_module::ReplaceValue;
use livepatch_rig::image::{Contents, File, Image};
use livepatch_rig::registry::{Options, Registry};

use crate::rig::{
    CUMULATIVE, OFF_BAND, configuration, module, open_registry, plain, prefix, puller, pushed, stored, told,
    was_asked_for,
};

#[tokio::test]
async fn what_was_pushed_is_pulled() {
    let registry = open_registry();
    let file = module(OFF_BAND);
    let reference = pushed(&registry, &plain(), vec![file.clone()]).await;
    // The same again is the same, and by another name too.
    assert_eq!(pushed(&registry, &plain(), vec![file.clone()]).await, reference);

    let puller = puller(&registry, plain());
    let bundle = puller.bundle(&reference).await.unwrap();
    let release = file.inspection.kernel_release.clone();
    let entry = bundle.entry_for(&release, Some("00112233"), "amd64").unwrap();
    assert_eq!(entry.inspection, file.inspection);
    let pulled = puller.module(reference.repository(), &entry.manifest).await.unwrap();
    assert_eq!(pulled.bytes, file.bytes);
    assert_eq!(pulled.inspect().unwrap(), file.inspection);
}

#[tokio::test]
async fn a_private_registry_wants_its_password_and_its_authority() {
    let registry = Registry::start(Options {
        password: true,
        tls: true,
    })
    .unwrap();
    let authority = registry.authority().unwrap();
    let folder = configuration(&[("config.json", &registry.docker_config()), ("ca.crt", authority)]);
    let config = RegistryConfig::load(folder.path()).unwrap();
    let reference = pushed(&registry, &config, vec![module(OFF_BAND)]).await;
    puller(&registry, config.clone()).bundle(&reference).await.unwrap();

    let anonymous = RegistryConfig {
        ca_bundle: config.ca_bundle.clone(),
        ..RegistryConfig::default()
    };
    let error = puller(&registry, anonymous).bundle(&reference).await.unwrap_err();
    assert_eq!(error.reason(), "Unauthorized");
    let text = error.to_string();
    assert!(
        text.contains("no credentials for 127.0.0.1") && text.contains("UNAUTHORIZED"),
        "{text}"
    );

    let distrusting = RegistryConfig {
        docker: config.docker,
        ..RegistryConfig::default()
    };
    let error = puller(&registry, distrusting).bundle(&reference).await.unwrap_err();
    assert_eq!(error.reason(), "RegistryUnavailable");
    assert!(error.to_string().contains("certificate"), "{error}");
    assert_eq!(
        told(&registry, "TLS handshake error"),
        1,
        "a certificate is not better in a moment"
    );
}

#[tokio::test]
async fn a_changed_secret_is_read_while_the_program_runs() {
    let registry = Registry::start(Options {
        password: true,
        tls: false,
    })
    .unwrap();
    let mirror = format!("- {{prefix: {0}, endpoint: \"http://{0}\"}}", registry.host());
    let folder = configuration(&[("config.json", &registry.docker_config()), ("mirrors.yaml", &mirror)]);
    let with_password = RegistryConfig {
        plain_http: true,
        ..RegistryConfig::load(folder.path()).unwrap()
    };
    let reference = pushed(&registry, &with_password, vec![module(OFF_BAND)]).await;

    folder.write("config.json", "{}").unwrap();
    let allowed: AllowedRepositories = [prefix(&registry.host())].into_iter().collect();
    let puller = Puller::from_folder(folder.path(), allowed).unwrap();
    let error = puller.bundle(&reference).await.unwrap_err();
    assert!(
        matches!(error.reason(), "Unauthorized" | "RegistryUnavailable"),
        "{error}"
    );
    folder.write("config.json", registry.docker_config()).unwrap();
    puller.bundle(&reference).await.unwrap();
    folder.write("config.json", "{").unwrap();
    let error = puller.bundle(&reference).await.unwrap_err();
    assert_eq!(error.reason(), "RegistryConfigInvalid");
    assert!(error.is_retryable());
}

/// The reference as if it were in a registry that nobody can reach.
fn elsewhere(reference: &Reference) -> Reference {
    let repository: Repository = format!("registry.invalid/team/{}", reference.repository().path())
        .parse()
        .unwrap();
    repository.at(reference.digest().clone())
}

fn mirrored(mirrors: &[(&str, &str, bool)]) -> Puller {
    let mirrors = mirrors.iter().map(|(at, endpoint, only)| Mirror {
        prefix: prefix(at),
        endpoint: endpoint.parse().unwrap(),
        only: *only,
    });
    let config = RegistryConfig {
        mirrors: mirrors.collect(),
        ..RegistryConfig::default()
    };
    Puller::new(config, [prefix("registry.invalid/team")].into_iter().collect()).unwrap()
}

#[tokio::test]
async fn a_mirror_stands_in_for_its_registry() {
    let (first, second) = (open_registry(), open_registry());
    let reference = elsewhere(&pushed(&second, &plain(), vec![module(OFF_BAND)]).await);
    let [first, second] = [&first, &second].map(|registry| format!("http://{}", registry.host()));

    let both = mirrored(&[
        ("registry.invalid/team", &first, false),
        ("registry.invalid/team", &second, false),
    ]);
    let bundle = both.bundle(&reference).await.unwrap();
    both.module(reference.repository(), &bundle.entries[0].manifest)
        .await
        .unwrap();

    // The one mirror does not have it, and the registry itself does not answer: nothing is certain.
    let error = mirrored(&[("registry.invalid/team", &first, false)])
        .bundle(&reference)
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "RegistryUnavailable");
    // Where the registry itself is not to be asked, the mirror's word is final.
    let error = mirrored(&[("registry.invalid/team", &first, true)])
        .bundle(&reference)
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "DigestUnknown");
}

#[tokio::test]
async fn an_unknown_digest_is_told_apart_from_a_registry_that_is_away() {
    let mut registry = open_registry();
    let reference = pushed(&registry, &plain(), vec![module(OFF_BAND)]).await;
    let puller = puller(&registry, plain());
    let unknown = Digest::of(b"never pushed");
    let nowhere: Repository = format!("{}/no/such/repository", registry.host()).parse().unwrap();
    for repository in [reference.repository(), &nowhere] {
        let error = puller.bundle(&repository.at(unknown.clone())).await.unwrap_err();
        assert_eq!(error.reason(), "DigestUnknown");
        assert!(
            !error.is_retryable() && error.to_string().contains("MANIFEST_UNKNOWN"),
            "{error}"
        );
        assert_eq!(
            puller.module(repository, &unknown).await.unwrap_err().reason(),
            "DigestUnknown"
        );
    }

    registry.stop().unwrap();
    let error = puller.bundle(&reference).await.unwrap_err();
    assert_eq!(error.reason(), "RegistryUnavailable");
    assert!(error.is_retryable() && error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn bytes_that_were_changed_in_the_registry_are_refused() {
    let registry = open_registry();
    let reference = pushed(&registry, &plain(), vec![module(OFF_BAND)]).await;
    let puller = puller(&registry, plain());
    let entry = puller.bundle(&reference).await.unwrap().entries.remove(0);

    let layer = stored(&registry, &Digest::from_hex(&entry.module.sha256).unwrap());
    let true_bytes = fs::read(&layer).unwrap();
    let mut bytes = true_bytes.clone();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&layer, &bytes).unwrap();
    let error = puller
        .module(reference.repository(), &entry.manifest)
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "DigestMismatch");

    // Longer than the manifest says is too much, whatever it is.
    fs::write(&layer, [true_bytes.clone(), vec![0; 1 << 20]].concat()).unwrap();
    let error = puller
        .module(reference.repository(), &entry.manifest)
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "TooLarge");

    // A cut one is one that did not arrive, or not the one asked for; never a module.
    fs::write(&layer, &true_bytes[..100]).unwrap();
    assert!(puller.module(reference.repository(), &entry.manifest).await.is_err());

    let index = stored(&registry, reference.digest());
    let mut padded = fs::read(&index).unwrap();
    padded.extend(vec![b' '; 300 << 10]);
    fs::write(&index, &padded).unwrap();
    let error = puller.bundle(&reference).await.unwrap_err();
    assert!(matches!(error, PullError::TooLarge { .. }), "{error}");
}

#[tokio::test]
async fn a_description_that_disagrees_with_its_module_is_noticed() {
    let registry = open_registry();
    let mut lie = module(OFF_BAND);
    lie.inspection.objects[0].functions[0].name = "another_function".to_owned();
    let reference = pushed(&registry, &plain(), vec![lie.clone()]).await;
    let puller = puller(&registry, plain());
    // The index and the description agree, so a rollout could be planned with it...
    let bundle = puller.bundle(&reference).await.unwrap();
    assert_eq!(bundle.entries[0].inspection, lie.inspection);
    // ...but whoever would load it reads the file.
    let pulled = puller
        .module(reference.repository(), &bundle.entries[0].manifest)
        .await
        .unwrap();
    let error = pulled.inspect().unwrap_err();
    assert_eq!(error, ModuleError::ConfigMismatch { field: "objects" });
    assert_eq!(error.reason(), "ConfigMismatch");

    let mut lie = module(CUMULATIVE);
    lie.inspection.replace.value = ReplaceValue::False;
    let reference = pushed(&registry, &plain(), vec![lie]).await;
    let manifest = puller.bundle(&reference).await.unwrap().entries.remove(0).manifest;
    let pulled = puller.module(reference.repository(), &manifest).await.unwrap();
    assert_eq!(
        pulled.inspect().unwrap_err(),
        ModuleError::ConfigMismatch { field: "replace.value" }
    );
}

#[tokio::test]
async fn another_artefact_is_not_taken_for_a_bundle() {
    let registry = open_registry();
    let image = Image::assemble(&Contents {
        files: vec![File {
            path: "program".into(),
            mode: 0o755,
            content: b"#!/bin/true\n".to_vec(),
        }],
        entrypoint: "/program".into(),
        user: "65532:65532".into(),
    })
    .unwrap();
    let image = registry.push(&image, "some/program", "one").unwrap();
    let reference: Reference = format!("{}/{image}", registry.host()).parse().unwrap();
    let error = puller(&registry, plain()).bundle(&reference).await.unwrap_err();
    assert_eq!(error.reason(), "BundleInvalid");
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn a_repository_that_is_not_allowed_is_not_even_asked() {
    let registry = open_registry();
    let allowed = [prefix(&format!("{}/forbid", registry.host()))].into_iter().collect();
    let puller = Puller::new(plain(), allowed).unwrap();
    let repository: Repository = format!("{}/forbidden/one", registry.host()).parse().unwrap();
    let error = puller.bundle(&repository.at(Digest::of(b""))).await.unwrap_err();
    assert_eq!(error.reason(), "RepositoryNotAllowed");
    assert!(puller.module(&repository, &Digest::of(b"")).await.is_err());
    assert!(!was_asked_for(&registry, "forbidden"));
}
