//! Certificates of a test control plane and of a test registry.
//!
//! Writes files, nothing else. Keys are ECDSA P-256 and live as long as the folder they are in.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

/// A certificate authority that signs within one folder.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, as files.
#[derive(Debug, Clone)]
pub struct Pair {
    /// PEM file of the certificate.
    pub certificate: PathBuf,
    /// PEM file of the key (PKCS #8).
    pub key: PathBuf,
}

impl Authority {
    /// A new authority whose certificate is `<folder>/<name>.crt`.
    pub fn create(folder: &Path, name: &str) -> Result<Self> {
        let key = KeyPair::generate().context("make a key")?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::CrlSign,
        ];
        let pem = params.self_signed(&key).context("sign the authority")?.pem();
        write(&folder.join(format!("{name}.crt")), &pem)?;
        Ok(Self {
            folder: folder.to_owned(),
            pem,
            issuer: Issuer::new(params, key),
        })
    }

    /// The authority's certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate that a server shows for these DNS names and addresses.
    pub fn server(&self, name: &str, names: &[&str]) -> Result<Pair> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let params = CertificateParams::new(names).with_context(|| format!("names of {name}"))?;
        self.sign(name, name, None, params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A certificate that tells a server who its client is: a user, and one group (rcgen writes no more than one
    /// organization into a name).
    pub fn client(&self, name: &str, user: &str, group: Option<&str>) -> Result<Pair> {
        self.sign(
            name,
            user,
            group,
            CertificateParams::default(),
            ExtendedKeyUsagePurpose::ClientAuth,
        )
    }

    fn sign(
        &self,
        name: &str,
        common_name: &str,
        organization: Option<&str>,
        mut params: CertificateParams,
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<Pair> {
        let key = KeyPair::generate().context("make a key")?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        if let Some(organization) = organization {
            params.distinguished_name.push(DnType::OrganizationName, organization);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![usage];
        let certificate = params
            .signed_by(&key, &self.issuer)
            .with_context(|| format!("sign {name}"))?;
        let pair = Pair {
            certificate: self.folder.join(format!("{name}.crt")),
            key: self.folder.join(format!("{name}.key")),
        };
        write(&pair.certificate, &certificate.pem())?;
        write(&pair.key, &key.serialize_pem())?;
        Ok(pair)
    }
}

/// A key pair without a certificate: (private, public), for signing service-account tokens.
pub fn signing_key(folder: &Path, name: &str) -> Result<(PathBuf, PathBuf)> {
    let key = KeyPair::generate().context("make a key")?;
    let private = folder.join(format!("{name}.key"));
    let public = folder.join(format!("{name}.pub"));
    write(&private, &key.serialize_pem())?;
    write(&public, &key.public_key_pem())?;
    Ok((private, public))
}

fn write(path: &Path, content: &str) -> Result<()> {
    fs::write(path, content).with_context(|| format!("write {}", path.display()))
}
