//! `test-callbacks.sh`: which callbacks run when, what they can refuse, and a target that is busy.

use std::time::Duration;

use livepatch_kernel::operation::{LoadOutcome, OnTimeout, Operation as _, UnloadOutcome, run};
use livepatch_kernel::{RefusalReason, Seen};
use livepatch_tests_kernel::guest_lab::GuestLab;
use livepatch_tests_kernel::lab::Lab;
use nix::errno::Errno;

use super::{gone, load, loaded, refused};

const LIVEPATCH: &str = "lp_callbacks";
const SECOND: &str = "lp_callbacks_second";

/// What the kernel logs of a load, with the objects whose callbacks run.
fn patching(name: &str, objects: &[&str]) -> Vec<String> {
    let mut story = vec![format!("enabling patch '{name}'")];
    story.extend(objects.iter().map(|object| format!("{name}: pre_patch {object}")));
    story.push(format!("'{name}': starting patching transition"));
    story.extend(objects.iter().map(|object| format!("{name}: post_patch {object}")));
    story.push(format!("'{name}': patching complete"));
    story
}

/// What it logs of a disable.
fn unpatching(name: &str, objects: &[&str]) -> Vec<String> {
    let mut story: Vec<String> = objects
        .iter()
        .map(|object| format!("{name}: pre_unpatch {object}"))
        .collect();
    story.push(format!("'{name}': starting unpatching transition"));
    story.extend(objects.iter().map(|object| format!("{name}: post_unpatch {object}")));
    story.push(format!("'{name}': unpatching complete"));
    story
}

/// What it logs of a target that is loaded later.
fn coming(target: &str) -> Vec<String> {
    vec![
        format!("applying patch '{LIVEPATCH}' to loading module '{target}'"),
        format!("{LIVEPATCH}: pre_patch {target} coming"),
        format!("{LIVEPATCH}: post_patch {target} coming"),
    ]
}

/// What it logs of a patched target that is unloaded.
fn going(target: &str) -> Vec<String> {
    vec![
        format!("{LIVEPATCH}: pre_unpatch {target} going"),
        format!("reverting patch '{LIVEPATCH}' on unloading module '{target}'"),
        format!("{LIVEPATCH}: post_unpatch {target} going"),
    ]
}

fn tells(guest: &GuestLab, script: impl FnOnce(), expected: &[Vec<String>]) {
    let mark = guest.kernel().log_mark();
    script();
    assert_eq!(guest.story(&mark), expected.concat());
}

pub(super) fn target_before_livepatch(guest: &GuestLab) {
    guest.insmod("lp_target", "").unwrap();
    tells(
        guest,
        || {
            loaded(guest, LIVEPATCH, "");
            gone(guest, LIVEPATCH);
            guest.rmmod("lp_target").unwrap();
        },
        &[
            patching(LIVEPATCH, &["vmlinux", "lp_target live"]),
            unpatching(LIVEPATCH, &["vmlinux", "lp_target live"]),
        ],
    );
}

pub(super) fn target_coming(guest: &GuestLab) {
    tells(
        guest,
        || {
            loaded(guest, LIVEPATCH, "");
            guest.insmod("lp_target", "").unwrap();
            gone(guest, LIVEPATCH);
            guest.rmmod("lp_target").unwrap();
        },
        &[
            patching(LIVEPATCH, &["vmlinux"]),
            coming("lp_target"),
            unpatching(LIVEPATCH, &["vmlinux", "lp_target live"]),
        ],
    );
}

pub(super) fn target_going(guest: &GuestLab) {
    guest.insmod("lp_target", "").unwrap();
    tells(
        guest,
        || {
            loaded(guest, LIVEPATCH, "");
            guest.rmmod("lp_target").unwrap();
            gone(guest, LIVEPATCH);
        },
        &[
            patching(LIVEPATCH, &["vmlinux", "lp_target live"]),
            going("lp_target"),
            unpatching(LIVEPATCH, &["vmlinux"]),
        ],
    );
}

pub(super) fn target_coming_and_going(guest: &GuestLab) {
    tells(
        guest,
        || {
            loaded(guest, LIVEPATCH, "");
            guest.insmod("lp_target", "").unwrap();
            guest.rmmod("lp_target").unwrap();
            gone(guest, LIVEPATCH);
        },
        &[
            patching(LIVEPATCH, &["vmlinux"]),
            coming("lp_target"),
            going("lp_target"),
            unpatching(LIVEPATCH, &["vmlinux"]),
        ],
    );
}

pub(super) fn target_absent(guest: &GuestLab) {
    tells(
        guest,
        || {
            loaded(guest, LIVEPATCH, "");
            gone(guest, LIVEPATCH);
        },
        &[patching(LIVEPATCH, &["vmlinux"]), unpatching(LIVEPATCH, &["vmlinux"])],
    );
}

/// The load is refused, whatever number the callback returns; nothing remains of it.
pub(super) fn pre_patch_refuses(guest: &GuestLab) {
    let lab: &dyn Lab = guest;
    guest.insmod("lp_target", "").unwrap();
    // EBUSY and EINVAL have other meanings, too: the callback's word comes first.
    for errno in [Errno::ENODEV, Errno::EPERM, Errno::EBUSY, Errno::EINVAL, Errno::EIO] {
        let mark = lab.kernel().log_mark();
        let refusal = refused(lab, LIVEPATCH, &format!("pre_patch_ret=-{}", errno as i32));
        assert_eq!(refusal.reason, RefusalReason::CallbackRefused, "{refusal}");
        assert_eq!(refusal.error.unwrap().errno, errno);
        let story = [
            "enabling patch 'lp_callbacks'",
            "lp_callbacks: pre_patch vmlinux",
            "pre-patch callback failed for object 'vmlinux'",
            "failed to enable patch 'lp_callbacks'",
            "'lp_callbacks': unpatching complete",
        ];
        assert_eq!(guest.story(&mark), story);
        assert!(lab.kernel().livepatches().unwrap().is_empty());
        assert!(lab.kernel().module(LIVEPATCH).unwrap().is_none());
    }
    guest.rmmod("lp_target").unwrap();
}

/// The livepatch stays, the target is refused.
pub(super) fn pre_patch_refuses_a_coming_target(guest: &GuestLab) {
    loaded(guest, LIVEPATCH, "");
    guest.set_parameter(LIVEPATCH, "pre_patch_ret", "-19");
    tells(
        guest,
        || assert_eq!(guest.insmod("lp_target", ""), Err(Errno::ENODEV)),
        &[[
            "applying patch 'lp_callbacks' to loading module 'lp_target'",
            "lp_callbacks: pre_patch lp_target coming",
            "pre-patch callback failed for object 'lp_target'",
            "patch 'lp_callbacks' failed for module 'lp_target', refusing to load module 'lp_target'",
        ]
        .map(str::to_owned)
        .to_vec()],
    );
    assert_eq!(Lab::kernel(guest).module("lp_target").unwrap(), None);
    assert_eq!((guest as &dyn Lab).active(), [LIVEPATCH]);
    tells(guest, || gone(guest, LIVEPATCH), &[unpatching(LIVEPATCH, &["vmlinux"])]);
}

pub(super) fn several_targets(guest: &GuestLab) {
    guest.insmod("lp_target_busy", "hold=0").unwrap();
    tells(
        guest,
        || {
            loaded(guest, LIVEPATCH, "");
            guest.insmod("lp_target", "").unwrap();
            guest.rmmod("lp_target").unwrap();
            gone(guest, LIVEPATCH);
            guest.rmmod("lp_target_busy").unwrap();
        },
        &[
            patching(LIVEPATCH, &["vmlinux", "lp_target_busy live"]),
            coming("lp_target"),
            going("lp_target"),
            unpatching(LIVEPATCH, &["vmlinux", "lp_target_busy live"]),
        ],
    );
}

/// A worker sleeps in the function to be patched. Another target comes and goes meanwhile; the load is taken back; and
/// once the worker has ended, the same load succeeds.
pub(super) fn busy_target(guest: &GuestLab) {
    let lab: &dyn Lab = guest;
    guest.insmod("lp_target_busy", "hold=1").unwrap();
    // The worker has to be in the function before the load.
    lab.kernel().sleep(Duration::from_secs(2));
    let mark = lab.kernel().log_mark();
    let mut begun = lab.begun(LIVEPATCH, Duration::from_mins(5), OnTimeout::Wait);
    lab.kernel().sleep(Duration::from_secs(4));
    let stragglers = lab.kernel().stragglers(true, 5).into_known().unwrap();
    assert!(
        stragglers.listed.iter().any(|task| task.comm.starts_with("kworker/")),
        "{stragglers:?}"
    );
    let stacks = stragglers.listed.iter().filter_map(|task| match &task.stack {
        Seen::Known(frames) => Some(frames.join("\n")),
        Seen::Unknown(_) => None,
    });
    assert!(stacks.into_iter().any(|stack| stack.contains("lp_target_busy_work")));
    guest.insmod("lp_target", "").unwrap();
    guest.rmmod("lp_target").unwrap();
    assert!(matches!(lab.unload(LIVEPATCH), UnloadOutcome::StillActive));
    begun.interrupt();
    match run(&mut begun, lab.kernel(), |_| ()) {
        LoadOutcome::Reverted { leftover, .. } => assert!(!leftover),
        other => panic!("{other:?}"),
    }
    assert_eq!(
        guest.story(&mark),
        [
            "enabling patch 'lp_callbacks'",
            "lp_callbacks: pre_patch vmlinux",
            "lp_callbacks: pre_patch lp_target_busy live",
            "'lp_callbacks': starting patching transition",
            "applying patch 'lp_callbacks' to loading module 'lp_target'",
            "lp_callbacks: pre_patch lp_target coming",
            "reverting patch 'lp_callbacks' on unloading module 'lp_target'",
            "lp_callbacks: post_unpatch lp_target going",
            "'lp_callbacks': starting unpatching transition",
            "lp_callbacks: post_unpatch vmlinux",
            "lp_callbacks: post_unpatch lp_target_busy live",
            "'lp_callbacks': unpatching complete",
        ]
    );
    guest.set_parameter("lp_target_busy", "hold", "0");
    let again = load(guest, LIVEPATCH, "");
    assert!(matches!(again, LoadOutcome::Loaded(_)), "{again:?}");
    gone(guest, LIVEPATCH);
    guest.rmmod("lp_target_busy").unwrap();
}

pub(super) fn several_livepatches(guest: &GuestLab) {
    tells(
        guest,
        || {
            loaded(guest, LIVEPATCH, "");
            loaded(guest, SECOND, "replace=0");
            gone(guest, SECOND);
            gone(guest, LIVEPATCH);
        },
        &[
            patching(LIVEPATCH, &["vmlinux"]),
            patching(SECOND, &["vmlinux"]),
            unpatching(SECOND, &["vmlinux"]),
            unpatching(LIVEPATCH, &["vmlinux"]),
        ],
    );
}

/// Of a replaced livepatch no callback runs any more.
pub(super) fn replaced_livepatch(guest: &GuestLab) {
    tells(
        guest,
        || {
            loaded(guest, LIVEPATCH, "");
            loaded(guest, SECOND, "replace=1");
            gone(guest, SECOND);
            (guest as &dyn Lab).unloaded(LIVEPATCH);
        },
        &[
            patching(LIVEPATCH, &["vmlinux"]),
            patching(SECOND, &["vmlinux"]),
            unpatching(SECOND, &["vmlinux"]),
        ],
    );
}
