//! The signature that is appended to a module: found and described, never verified. No IO.
//!
//! The trailer is `struct module_signature` (`include/linux/module_signature.h`) and a marker; the signature itself is a
//! PKCS#7 `SignedData` in DER. Only three fields of it are wanted, so a walk over the nested lengths does; a whole CMS
//! library would be the largest dependency of this crate.

use crate::error::{InspectError, malformed};
use crate::inspection::Signature;
use crate::note::hex;

const MARKER: &[u8] = b"~Module signature appended~\n";
const TRAILER_BYTES: usize = 12;
const ID_PKCS7: u8 = 2;
/// Longest serial number or key identifier shown, in bytes; X.509 allows 20.
const MAX_KEY_ID: usize = 64;
/// Longest signer shown, in bytes; X.509 allows a common name of 64 characters.
const MAX_SIGNER: usize = 256;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const INTEGER: u8 = 0x02;
const OBJECT_ID: u8 = 0x06;
const CONTEXT_0: u8 = 0xa0;
const KEY_IDENTIFIER: u8 = 0x80;

/// Parts a module from its signature, as `module_sig_check()` does before anything else is read.
pub(crate) fn split(file: &[u8]) -> Result<(&[u8], Option<Signature>), InspectError> {
    let Some(rest) = file.strip_suffix(MARKER) else {
        return Ok((file, None));
    };
    let bad = || malformed("the appended signature does not fit the file, a kernel refuses it with EBADMSG");
    let (rest, trailer) = rest.split_last_chunk::<TRAILER_BYTES>().ok_or_else(bad)?;
    let [algo, hash, id_type, signer_len, key_id_len, _, _, _, length @ ..] = *trailer;
    let length = usize::try_from(u32::from_be_bytes(length)).map_err(|_| bad())?;
    let (module, block) = rest
        .len()
        .checked_sub(length)
        .and_then(|at| rest.split_at_checked(at))
        .ok_or_else(bad)?;
    if id_type != ID_PKCS7 || [algo, hash, signer_len, key_id_len] != [0; 4] || length == 0 {
        return Err(bad());
    }
    Ok((
        module,
        Some(describe(block).unwrap_or(Signature {
            signer: None,
            key_id: None,
            hash: None,
        })),
    ))
}

/// Signer, key and digest of the first signer in a PKCS#7 block.
fn describe(block: &[u8]) -> Option<Signature> {
    let mut content = Der(Der(block).enter(SEQUENCE)?);
    content.enter(OBJECT_ID)?;
    let mut data = Der(Der(content.enter(CONTEXT_0)?).enter(SEQUENCE)?);
    data.enter(INTEGER)?;
    data.enter(SET)?;
    data.enter(SEQUENCE)?;
    // Certificates and revocation lists are optional and come before the signers.
    let signers = std::iter::from_fn(|| data.next()).find_map(|(tag, value)| (tag == SET).then_some(value))?;
    let mut signer = Der(Der(signers).enter(SEQUENCE)?);
    signer.enter(INTEGER)?;
    let (name, key_id) = match signer.next()? {
        (SEQUENCE, issuer_and_serial) => {
            let mut id = Der(issuer_and_serial);
            let name = common_name(id.enter(SEQUENCE)?);
            (name, id.enter(INTEGER)?)
        }
        (KEY_IDENTIFIER, id) => (None, id),
        _ => return None,
    };
    let digest = Der(signer.enter(SEQUENCE)?).enter(OBJECT_ID)?;
    Some(Signature {
        signer: name,
        key_id: (1..=MAX_KEY_ID).contains(&key_id.len()).then(|| hex(key_id)),
        hash: hash_name(digest).map(str::to_owned),
    })
}

/// The common name (2.5.4.3) of an X.501 name.
fn common_name(name: &[u8]) -> Option<String> {
    let mut name = Der(name);
    while let Some((SET, set)) = name.next() {
        let mut attribute = Der(Der(set).enter(SEQUENCE)?);
        if attribute.enter(OBJECT_ID)? == [0x55, 0x04, 0x03] {
            let (_, text) = attribute.next()?;
            let text = std::str::from_utf8(text).ok()?;
            return (text.len() <= MAX_SIGNER && !text.chars().any(char::is_control)).then(|| text.to_owned());
        }
    }
    None
}

fn hash_name(oid: &[u8]) -> Option<&'static str> {
    const NIST: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];
    if oid == [0x2b, 0x0e, 0x03, 0x02, 0x1a] {
        return Some("sha1");
    }
    match oid.strip_prefix(NIST)? {
        [1] => Some("sha256"),
        [2] => Some("sha384"),
        [3] => Some("sha512"),
        [4] => Some("sha224"),
        [8] => Some("sha3-256"),
        [9] => Some("sha3-384"),
        [10] => Some("sha3-512"),
        _ => None,
    }
}

/// The elements of a DER value, one after the other.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// Tag and contents of the next element.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&short, rest) = rest.split_first()?;
        let (length, rest) = match short {
            0..=0x7f => (usize::from(short), rest),
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(short & 0x7f))?;
                (
                    bytes
                        .iter()
                        .fold(0usize, |length, &byte| length << 8 | usize::from(byte)),
                    rest,
                )
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, value))
    }

    /// Contents of the next element, which must have this tag.
    fn enter(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|&(found, _)| found == tag).map(|(_, value)| value)
    }
}
