//! `test-sysfs.sh`: what the kernel shows of a livepatch, and what the kernel crate makes of it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use livepatch_kernel::Livepatch;
use livepatch_tests_kernel::guest_lab::GuestLab;
use livepatch_tests_kernel::lab::Lab;

use super::{gone, loaded};

const LIVEPATCH: &str = "lp_on_target";

fn mode(path: &str) -> Option<u32> {
    let path = Path::new("/sys/kernel/livepatch").join(LIVEPATCH).join(path);
    let metadata = fs::metadata(path).ok()?;
    Some(metadata.permissions().mode() & 0o7777)
}

fn seen(guest: &GuestLab) -> Livepatch {
    let mut all = Lab::kernel(guest).livepatches().unwrap();
    assert_eq!(all.len(), 1);
    all.remove(0)
}

/// "sysfs interface": which attributes there are, and who may do what with them.
pub(super) fn attributes_and_modes(guest: &GuestLab) {
    loaded(guest, LIVEPATCH, "");
    assert_eq!(mode(""), Some(0o755));
    assert_eq!(mode("enabled"), Some(0o644));
    assert_eq!(mode("transition"), Some(0o444));
    assert_eq!(mode("force"), Some(0o200));
    assert_eq!(mode("replace"), guest.is_since(6, 11).then_some(0o444));
    assert_eq!(mode("vmlinux"), Some(0o755));
    assert_eq!(mode("vmlinux/patched"), Some(0o444));
    assert_eq!(mode("vmlinux/version_proc_show,1"), Some(0o755));
    let livepatch = seen(guest);
    let objects: Vec<&str> = livepatch.objects.iter().map(|object| object.name.as_str()).collect();
    assert_eq!(objects, ["lp_target", "vmlinux"]);
    assert!(livepatch.functions_reliable);
    gone(guest, LIVEPATCH);
    assert_eq!(mode(""), None);
}

/// "object/patched": follows a module that comes and goes.
pub(super) fn patched_follows_its_object(guest: &GuestLab) {
    let patched = |name: &str| {
        let livepatch = seen(guest);
        let object = livepatch.objects.iter().find(|object| object.name == name).unwrap();
        object.patched.unwrap()
    };
    loaded(guest, LIVEPATCH, "");
    assert_eq!((patched("vmlinux"), patched("lp_target")), (true, false));
    guest.insmod("lp_target", "").unwrap();
    assert_eq!((patched("vmlinux"), patched("lp_target")), (true, true));
    guest.rmmod("lp_target").unwrap();
    assert_eq!((patched("vmlinux"), patched("lp_target")), (true, false));
    gone(guest, LIVEPATCH);
}

/// "replace enabled" and "replace disabled", of a module that decides by a parameter.
pub(super) fn the_replace_flag_is_told(guest: &GuestLab) {
    for flag in [true, false] {
        loaded(guest, LIVEPATCH, &format!("replace={}", u8::from(flag)));
        assert_eq!(seen(guest).replace, guest.is_since(6, 11).then_some(flag));
        gone(guest, LIVEPATCH);
    }
}

/// `stack_order` came with 6.14: on these kernels it is not known, and not guessed.
pub(super) fn there_is_no_stack_order(guest: &GuestLab) {
    loaded(guest, LIVEPATCH, "");
    assert_eq!(mode("stack_order"), None);
    assert_eq!(seen(guest).stack_order, None);
    gone(guest, LIVEPATCH);
}
