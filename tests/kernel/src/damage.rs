//! Module files damaged on purpose, each in one place. No IO.

/// Replaces every occurrence of some bytes by as many others.
pub fn replace(image: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut out = image.to_vec();
    let places: Vec<usize> = places(image, from);
    assert!(!places.is_empty(), "nothing to replace");
    for place in places {
        out[place..place + to.len()].copy_from_slice(to);
    }
    out
}

/// Changes the version of a symbol the module uses: an entry of `__versions` is an 8-byte checksum and a 56-byte name.
pub fn symbol_version(image: &[u8], symbol: &str) -> Vec<u8> {
    let mut name = symbol.as_bytes().to_vec();
    name.resize(56, 0);
    let mut out = image.to_vec();
    let place = *places(image, &name).first().expect("a symbol version");
    out[place - 8] ^= 0xff;
    out
}

/// Appends a signature block: `id_type` 2 is PKCS#7, and `claimed` is the length it says it has. The content is junk.
pub fn signature(image: &[u8], id_type: u8, claimed: u32) -> Vec<u8> {
    let mut out = image.to_vec();
    out.extend([0x30; 64]);
    // struct module_signature (include/linux/module_signature.h): algo, hash, id_type, signer_len, key_id_len, pad[3].
    out.extend([0, 0, id_type, 0, 0, 0, 0, 0]);
    out.extend(claimed.to_be_bytes());
    out.extend(b"~Module signature appended~\n");
    out
}

fn places(image: &[u8], wanted: &[u8]) -> Vec<usize> {
    image
        .windows(wanted.len())
        .enumerate()
        .filter(|(_, window)| *window == wanted)
        .map(|(place, _)| place)
        .collect()
}
