//! Whom to trust: the system's certificates and a bundle of one's own. Reads the system's certificate files.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use crate::config::ConfigError;

const WHAT: &str = "ca.crt";

/// A TLS client that trusts the system's certificates (in a container the file `/etc/ssl/certs/ca-certificates.crt`, or
/// what `SSL_CERT_FILE` names) and those of the bundle. Without any, no HTTPS registry is trusted.
pub(super) fn config(bundle: Option<&str>) -> Result<ClientConfig, ConfigError> {
    let mut roots = RootCertStore::empty();
    // A file that cannot be read is as one that is not there: the bundle may be all that is needed.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(pem) = bundle {
        add_bundle(&mut roots, pem)?;
    }
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_root_certificates(roots).with_no_client_auth())
        .map_err(|error| ConfigError::Client { why: error.to_string() })
}

/// Unlike with the system's file, every certificate must be one: somebody wrote this file on purpose.
fn add_bundle(roots: &mut RootCertStore, pem: &str) -> Result<(), ConfigError> {
    let malformed = |why: String| ConfigError::Malformed {
        what: WHAT,
        why: crate::untrusted::line(&why),
    };
    let before = roots.len();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| malformed(error.to_string()))?;
        roots.add(certificate).map_err(|error| malformed(error.to_string()))?;
    }
    if roots.len() == before {
        return Err(malformed("no certificate in it".to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_must_hold_certificates() {
        for pem in [
            "",
            "not pem",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            let error = config(Some(pem)).unwrap_err();
            assert!(error.to_string().contains("ca.crt"), "{error}");
        }
        assert!(config(None).is_ok());
    }
}
