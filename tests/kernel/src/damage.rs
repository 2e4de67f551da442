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

/// Where the header of a section is: an entry of 64 bytes of the section table (`Elf64_Shdr`).
fn section_header(image: &[u8], name: &str) -> usize {
    let number = |at: usize, bytes: usize| {
        let mut value = [0; 8];
        value[..bytes].copy_from_slice(&image[at..at + bytes]);
        usize::try_from(u64::from_le_bytes(value)).unwrap()
    };
    let header = |index: usize| number(0x28, 8) + index * number(0x3a, 2);
    let names = number(header(number(0x3e, 2)) + 0x18, 8);
    (0..number(0x3c, 2))
        .map(header)
        .find(|at| {
            let text = &image[names + number(*at, 4)..];
            text.starts_with(name.as_bytes()) && text[name.len()] == 0
        })
        .unwrap_or_else(|| panic!("no section {name}"))
}

/// Lets a section claim to be of this size; of one that is all zeroes nothing is in the file.
pub fn section_size(image: &[u8], section: &str, bytes: u64) -> Vec<u8> {
    let mut out = image.to_vec();
    let at = section_header(image, section) + 0x20;
    out[at..at + 8].copy_from_slice(&bytes.to_le_bytes());
    out
}

/// Marks a section as one that livepatching relocates (`SHF_RELA_LIVEPATCH`), whatever its name.
pub fn livepatch_relocations(image: &[u8], section: &str) -> Vec<u8> {
    let mut out = image.to_vec();
    let at = section_header(image, section) + 0x08;
    let flags = u64::from_le_bytes(image[at..at + 8].try_into().unwrap()) | 0x0010_0000;
    out[at..at + 8].copy_from_slice(&flags.to_le_bytes());
    out
}

/// Lets the first relocation of one of these types in a section point further away than it can.
pub fn far_relocation(image: &[u8], section: &str, types: &[u8]) -> Vec<u8> {
    let mut out = image.to_vec();
    let header = section_header(image, section);
    let number = |at: usize| usize::try_from(u64::from_le_bytes(image[at..at + 8].try_into().unwrap())).unwrap();
    let (start, size) = (number(header + 0x18), number(header + 0x20));
    let entry = (start..start + size)
        .step_by(24)
        .find(|at| types.contains(&image[at + 8]))
        .expect("a relocation of that type");
    out[entry + 16..entry + 24].copy_from_slice(&(1_u64 << 40).to_le_bytes());
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
