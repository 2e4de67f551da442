//! A real container registry on the loopback address, for images and livepatch artefacts of tests.
//!
//! Does IO. Storage and log are in a folder that goes with the value. Virtual machines reach it as 10.0.2.2.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use ureq::http::Method;

use crate::certs::Authority;
use crate::control_plane::HOST_SEEN_FROM_VM;
use crate::host::{Folder, Port, Process};
use crate::image::{Blob, Image};
use crate::{base64, components, http, progress};

/// The only user of a registry that asks for a password.
pub const USER: &str = "tester";
/// The password of [`USER`].
pub const PASSWORD: &str = "let-me-in";
/// bcrypt of [`PASSWORD`] at the lowest cost: the registry checks it with every request.
const HTPASSWD: &str = "tester:$2b$04$livepatchrigtestsaltxux/7ptrPGy5allDLiAxlvPDa6q7mygv6\n";

/// How a client must come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Only [`USER`] with [`PASSWORD`] may push and pull.
    pub password: bool,
    /// HTTPS, with a certificate of an authority of the registry's own.
    pub tls: bool,
}

/// A running registry.
#[derive(Debug)]
pub struct Registry {
    // Before the folder, which nothing may write to when it goes.
    process: Process,
    port: Port,
    client: http::Client,
    authority: Option<Authority>,
    options: Options,
    folder: Arc<Folder>,
}

impl Registry {
    /// Starts one and waits until it answers.
    pub fn start(options: Options) -> Result<Self> {
        let program = components::registry()?;
        let folder = Arc::new(Folder::create("registry")?);
        let started = progress::step("start a registry", || {
            Self::start_in(Arc::clone(&folder), program, options)
        });
        if started.is_err() {
            folder.keep();
        }
        started
    }

    fn start_in(folder: Arc<Folder>, program: PathBuf, options: Options) -> Result<Self> {
        let port = Port::reserve()?;
        let mut config = json!({
            "version": "0.1",
            "log": { "level": "info", "accesslog": { "disabled": false } },
            "storage": {
                "filesystem": { "rootdirectory": folder.subfolder("storage")? },
                "delete": { "enabled": true },
            },
            "http": { "addr": format!("127.0.0.1:{}", port.number()) },
        });
        if options.password {
            let path = folder.write("htpasswd", HTPASSWD)?;
            config["auth"] = json!({ "htpasswd": { "realm": "rig", "path": path } });
        }
        let mut authority = None;
        if options.tls {
            let signer = Authority::create(&folder.subfolder("pki")?, "ca")?;
            let pair = signer.server("registry", &["127.0.0.1", HOST_SEEN_FROM_VM, "localhost"])?;
            config["http"]["tls"] = json!({ "certificate": pair.certificate, "key": pair.key });
            authority = Some(signer);
        }
        let mut client = http::Client::new(authority.as_ref().map(Authority::pem), Duration::from_mins(1))?;
        if options.password {
            client = client.with_password(USER, PASSWORD);
        }
        // JSON, which is YAML.
        let config = folder.write("config.yml", config.to_string())?;
        let mut command = Command::new(program);
        command.arg("serve").arg(config).env("OTEL_TRACES_EXPORTER", "none");
        let process = Process::start("registry", &command, &folder.path().join("registry.log"))?;
        let mut registry = Self {
            process,
            port,
            client,
            authority,
            options,
            folder,
        };
        registry.wait_ready()?;
        Ok(registry)
    }

    fn wait_ready(&mut self) -> Result<()> {
        let url = format!("{}/v2/", self.url());
        let started = Instant::now();
        loop {
            self.process.check_running()?;
            match self.client.get(&url) {
                Ok(answer) if answer.status == 200 => return Ok(()),
                answer if started.elapsed() > Duration::from_secs(30) => bail!("the registry is not ready: {answer:?}"),
                _ => thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    fn url(&self) -> String {
        let scheme = if self.options.tls { "https" } else { "http" };
        format!("{scheme}://{}", self.host())
    }

    /// Its name in references on this machine, `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port.number())
    }

    /// Its name in references inside virtual machines, `10.0.2.2:PORT`.
    pub fn host_seen_from_vm(&self) -> String {
        format!("{HOST_SEEN_FROM_VM}:{}", self.port.number())
    }

    /// The PEM certificate that clients must trust, if it speaks TLS.
    pub fn authority(&self) -> Option<&str> {
        self.authority.as_ref().map(Authority::pem)
    }

    /// A `config.json` as `docker login` writes it, with the password for both of the registry's names.
    pub fn docker_config(&self) -> String {
        let entry = json!({ "auth": base64::encode(format!("{USER}:{PASSWORD}").as_bytes()) });
        json!({ "auths": { self.host(): entry, self.host_seen_from_vm(): entry } }).to_string()
    }

    /// The file with one line per request, for tests that count them.
    pub fn log(&self) -> PathBuf {
        self.process.log().to_owned()
    }

    /// Its folder; kept when a test that holds this value fails.
    pub fn folder(&self) -> &Arc<Folder> {
        &self.folder
    }

    /// Stops answering, as a registry that is down does; the port refuses connections.
    pub fn stop(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Pushes an image under a tag and returns `REPOSITORY@sha256:…`, to be put behind [`Self::host`] or
    /// [`Self::host_seen_from_vm`].
    pub fn push(&self, image: &Image, repository: &str, tag: &str) -> Result<String> {
        progress::step(&format!("push {repository}:{tag}"), || {
            for blob in image.blobs() {
                self.push_blob(repository, blob)?;
            }
            let manifest = image.manifest();
            let url = format!("{}/v2/{repository}/manifests/{tag}", self.url());
            let answer = self
                .client
                .send(Method::PUT, &url, manifest.media_type, &manifest.content)?;
            ensure!(
                answer.status == 201,
                "push of {repository}:{tag}: {} {}",
                answer.status,
                answer.text()
            );
            Ok(format!("{repository}@{}", manifest.digest))
        })
    }

    fn push_blob(&self, repository: &str, blob: &Blob) -> Result<()> {
        let url = format!("{}/v2/{repository}/blobs/{}", self.url(), blob.digest);
        if self.client.send(Method::HEAD, &url, "", &[])?.status == 200 {
            return Ok(());
        }
        let url = format!("{}/v2/{repository}/blobs/uploads/", self.url());
        let answer = self.client.send(Method::POST, &url, "", &[])?;
        ensure!(
            answer.status == 202,
            "upload to {repository}: {} {}",
            answer.status,
            answer.text()
        );
        let location = answer
            .header("Location")
            .context("the registry does not say where to upload")?;
        let location = if location.starts_with('/') {
            format!("{}{location}", self.url())
        } else {
            location.to_owned()
        };
        let separator = if location.contains('?') { '&' } else { '?' };
        let url = format!("{location}{separator}digest={}", blob.digest);
        let answer = self
            .client
            .send(Method::PUT, &url, "application/octet-stream", &blob.content)?;
        ensure!(
            answer.status == 201,
            "upload to {repository}: {} {}",
            answer.status,
            answer.text()
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Contents, File};

    fn image() -> Image {
        let files = vec![File {
            path: "program".into(),
            mode: 0o755,
            content: b"#!/bin/true\n".to_vec(),
        }];
        Image::assemble(&Contents {
            files,
            entrypoint: "/program".into(),
            user: "65532:65532".into(),
        })
        .unwrap()
    }

    #[test]
    fn an_image_is_pushed_and_found_by_digest() {
        let registry = Registry::start(Options::default()).unwrap();
        let pushed = registry.push(&image(), "some/program", "one").unwrap();
        let (repository, digest) = pushed.split_once('@').unwrap();
        let url = format!("http://{}/v2/{repository}/manifests/{digest}", registry.host());
        let answer = http::Client::new(None, Duration::from_secs(5))
            .unwrap()
            .get(&url)
            .unwrap();
        assert_eq!((answer.status, answer.body), (200, image().manifest().content.clone()));
        registry.push(&image(), "some/program", "again").unwrap();
    }

    #[test]
    fn a_private_registry_wants_its_password_and_its_authority() {
        let registry = Registry::start(Options {
            password: true,
            tls: true,
        })
        .unwrap();
        registry.push(&image(), "private", "one").unwrap();
        let url = format!("https://{}/v2/private/tags/list", registry.host());
        let anonymous = http::Client::new(registry.authority(), Duration::from_secs(5)).unwrap();
        assert_eq!(anonymous.get(&url).unwrap().status, 401);
        let known = anonymous.with_password(USER, PASSWORD);
        assert_eq!(known.get(&url).unwrap().status, 200);
        let distrusting = http::Client::new(None, Duration::from_secs(5))
            .unwrap()
            .with_password(USER, PASSWORD);
        assert!(distrusting.get(&url).is_err());
    }
}
