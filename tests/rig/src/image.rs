//! Container images written by hand: a static program, the authorities it may trust and a user to run as.
//!
//! No container engine is involved. The same contents give the same digests: all times are zero. Does no IO except
//! where a function says so.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::cache;

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Where programs of most TLS libraries look, this project's among them.
const AUTHORITIES: &str = "etc/ssl/certs/ca-certificates.crt";
/// The user that a program runs as unless its pod says otherwise, the one distroless images use.
const USERS: &str = "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n";
const GROUPS: &str = "root:x:0:\nnonroot:x:65532:\n";

/// A file in an image.
#[derive(Debug, Clone)]
pub struct File {
    /// Relative to the root, at most 100 bytes; folders above it are made.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// What it holds.
    pub content: Vec<u8>,
}

/// What an image is made of.
#[derive(Debug, Clone)]
pub struct Contents {
    /// The files of its only layer.
    pub files: Vec<File>,
    /// The program that it runs.
    pub entrypoint: String,
    /// `UID:GID`.
    pub user: String,
}

impl Contents {
    /// A static program as `/NAME`, with the authorities of this machine and an unprivileged user. Reads both files.
    pub fn of_program(name: &str, program: &Path) -> Result<Self> {
        let read = |path: &Path| fs::read(path).with_context(|| format!("read {}", path.display()));
        let file = |path: &str, mode, content| File {
            path: path.to_owned(),
            mode,
            content,
        };
        Ok(Self {
            files: vec![
                file(name, 0o755, read(program)?),
                file("etc/passwd", 0o644, USERS.into()),
                file("etc/group", 0o644, GROUPS.into()),
                file(AUTHORITIES, 0o644, read(&Path::new("/").join(AUTHORITIES))?),
            ],
            entrypoint: format!("/{name}"),
            user: "65532:65532".to_owned(),
        })
    }
}

/// Content with its digest.
#[derive(Debug, Clone)]
pub struct Blob {
    /// The OCI media type.
    pub media_type: &'static str,
    /// `sha256:…`.
    pub digest: String,
    /// What it holds.
    pub content: Vec<u8>,
}

impl Blob {
    fn new(media_type: &'static str, content: Vec<u8>) -> Self {
        Self {
            media_type,
            digest: format!("sha256:{}", cache::hex(&Sha256::digest(&content))),
            content,
        }
    }

    fn descriptor(&self) -> Value {
        json!({ "mediaType": self.media_type, "digest": self.digest, "size": self.content.len() })
    }
}

/// An image of one layer.
#[derive(Debug, Clone)]
pub struct Image {
    config: Blob,
    layer: Blob,
    manifest: Blob,
}

impl Image {
    /// Makes layer, configuration and manifest.
    pub fn assemble(contents: &Contents) -> Result<Self> {
        let layer = Blob::new(LAYER, archive(&contents.files)?);
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": { "User": contents.user, "Entrypoint": [contents.entrypoint], "WorkingDir": "/" },
            "rootfs": { "type": "layers", "diff_ids": [layer.digest] },
        });
        let config = Blob::new(CONFIG, config.to_string().into_bytes());
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.descriptor(),
            "layers": [layer.descriptor()],
        });
        let manifest = Blob::new(MANIFEST, manifest.to_string().into_bytes());
        Ok(Self {
            config,
            layer,
            manifest,
        })
    }

    /// What a registry must have before the manifest.
    pub fn blobs(&self) -> [&Blob; 2] {
        [&self.config, &self.layer]
    }

    /// The manifest; its digest is the image's.
    pub fn manifest(&self) -> &Blob {
        &self.manifest
    }

    /// The image as an OCI archive named `reference`, for `ctr images import`.
    pub fn archive(&self, reference: &str) -> Result<Vec<u8>> {
        let mut descriptor = self.manifest.descriptor();
        descriptor["annotations"] =
            json!({ "io.containerd.image.name": reference, "org.opencontainers.image.ref.name": reference });
        let index = json!({ "schemaVersion": 2, "manifests": [descriptor] }).to_string();
        let file = |path: String, content: &[u8]| File {
            path,
            mode: 0o644,
            content: content.to_vec(),
        };
        let mut files = vec![
            file("oci-layout".to_owned(), br#"{"imageLayoutVersion": "1.0.0"}"#),
            file("index.json".to_owned(), index.as_bytes()),
        ];
        for blob in [&self.config, &self.layer, &self.manifest] {
            files.push(file(format!("blobs/{}", blob.digest.replace(':', "/")), &blob.content));
        }
        archive(&files)
    }
}

/// A tar archive (POSIX ustar) of files and the folders above them, owned by root, times zero.
fn archive(files: &[File]) -> Result<Vec<u8>> {
    let mut archive = Vec::new();
    let mut folders: Vec<&str> = Vec::new();
    for file in files {
        for (end, _) in file.path.match_indices('/') {
            let folder = &file.path[..=end];
            if !folders.contains(&folder) {
                folders.push(folder);
                archive.extend(header(folder, 0o755, 0, b'5')?);
            }
        }
        archive.extend(header(&file.path, file.mode, file.content.len(), b'0')?);
        archive.extend(&file.content);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    Ok(archive)
}

/// One ustar header; `kind` is `0` for a file and `5` for a folder.
fn header(path: &str, mode: u32, size: usize, kind: u8) -> Result<[u8; 512]> {
    ensure!(
        !path.is_empty() && path.len() <= 100 && !path.starts_with('/'),
        "{path:?} does not fit into an archive"
    );
    // Eleven octal digits.
    ensure!(size < 1 << 33, "{path} is too large for an archive");
    let mut header = [0_u8; 512];
    let mut put = |offset: usize, text: &[u8]| header[offset..offset + text.len()].copy_from_slice(text);
    put(0, path.as_bytes());
    put(100, format!("{:07o}", mode & 0o7777).as_bytes());
    put(108, b"0000000");
    put(116, b"0000000");
    put(124, format!("{size:011o}").as_bytes());
    put(136, b"00000000000");
    // The checksum is over the header with blanks in its own place.
    put(148, b"        ");
    put(156, &[kind]);
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(header)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::progress;

    #[test]
    fn tar_reads_what_is_written() {
        let files = [
            ("a", 0o755, 3),
            ("b/c/d", 0o644, 512),
            ("b/c/e", 0o600, 0),
            ("b/f", 0o644, 5000),
        ]
        .map(|(path, mode, size)| File {
            path: path.to_owned(),
            mode,
            content: vec![b'x'; size],
        });
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("archive.tar");
        fs::write(&path, archive(&files).unwrap()).unwrap();
        let listed = progress::output(Command::new("tar").args(["-tvf"]).arg(&path)).unwrap();
        let listed: Vec<(&str, &str)> = listed
            .lines()
            .map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                (words[0], words[words.len() - 1])
            })
            .collect();
        assert_eq!(
            listed,
            [
                ("-rwxr-xr-x", "a"),
                ("drwxr-xr-x", "b/"),
                ("drwxr-xr-x", "b/c/"),
                ("-rw-r--r--", "b/c/d"),
                ("-rw-------", "b/c/e"),
                ("-rw-r--r--", "b/f"),
            ]
        );
        progress::run(Command::new("tar").arg("-xf").arg(&path).arg("-C").arg(folder.path())).unwrap();
        assert_eq!(fs::read(folder.path().join("b/f")).unwrap(), files[3].content);
    }

    #[test]
    fn equal_contents_give_equal_digests() {
        let contents = |content: &str| {
            let files = vec![File {
                path: "program".into(),
                mode: 0o755,
                content: content.into(),
            }];
            Image::assemble(&Contents {
                files,
                entrypoint: "/program".into(),
                user: "1:1".into(),
            })
            .unwrap()
        };
        assert_eq!(contents("one").manifest().digest, contents("one").manifest().digest);
        assert_ne!(contents("one").manifest().digest, contents("two").manifest().digest);
    }
}
