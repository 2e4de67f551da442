//! Loading, replacing, disabling and unloading when nothing is in the way.

use livepatch_kernel::operation::{DisableOutcome, LoadOutcome, UnloadOutcome};
use livepatch_kernel::{Seen, Standing};
use nix::errno::Errno;

use super::bare_load;
use crate::lab::{Lab, ProcFile};

pub(super) fn a_livepatch_is_loaded_disabled_and_unloaded(lab: &dyn Lab) {
    assert_eq!(lab.effective(ProcFile::Execdomains), None);
    let LoadOutcome::Loaded(loaded) = lab.load("lp_offband_v1") else {
        panic!("not loaded")
    };
    assert!(loaded.effective >= loaded.called.unwrap());
    assert_eq!(lab.effective(ProcFile::Execdomains).as_deref(), Some("lp_offband_v1"));
    let standing = lab.kernel().standing("lp_offband_v1").unwrap();
    assert_eq!(
        standing,
        Some(Standing {
            enabled: true,
            transition: false
        })
    );
    assert!(lab.kernel().taints().unwrap().to_string().contains('K'));
    lab.disabled("lp_offband_v1");
    assert_eq!(lab.effective(ProcFile::Execdomains), None);
    assert_eq!(lab.leftovers(), ["lp_offband_v1"]);
    lab.unloaded("lp_offband_v1");
    assert!(lab.kernel().module("lp_offband_v1").unwrap().is_none());
    assert!(matches!(lab.disable("lp_offband_v1"), DisableOutcome::NotEnabled));
    assert!(matches!(lab.unload("lp_offband_v1"), UnloadOutcome::NotLoaded));
}

pub(super) fn what_is_loaded_is_identified_by_its_build_id(lab: &dyn Lab) {
    lab.loaded("lp_offband_v1");
    let livepatch = lab.kernel().livepatches().unwrap().swap_remove(0);
    let build_id = lab.module("lp_offband_v1").build_id.expect("a build id");
    assert!(livepatch.is_effective_build(&build_id));
    assert_eq!(livepatch.function_count(), 1);
    assert_eq!(livepatch.refcount, Seen::Known(1));
    let module = lab.kernel().module("lp_offband_v1").unwrap().unwrap();
    assert_eq!(module.build_id, Seen::Known(Some(build_id)));
    assert!(module.livepatch.is(&true));
}

pub(super) fn off_bands_coexist(lab: &dyn Lab) {
    lab.loaded("lp_offband_v1");
    lab.loaded("lp_offband_state");
    assert_eq!(lab.active(), ["lp_offband_state", "lp_offband_v1"]);
    assert_eq!(lab.effective(ProcFile::Execdomains).as_deref(), Some("lp_offband_v1"));
    assert_eq!(lab.effective(ProcFile::Loadavg).as_deref(), Some("lp_offband_state"));
}

/// Observation 1.
pub(super) fn an_atomic_replace_sweeps_all_others(lab: &dyn Lab) {
    lab.loaded("lp_offband_v1");
    let LoadOutcome::Loaded(loaded) = lab.load("lp_cumulative_v1") else {
        panic!("not loaded")
    };
    assert_eq!(loaded.replaced, ["lp_offband_v1"]);
    assert_eq!(lab.effective(ProcFile::Execdomains), None);
    assert_eq!(lab.effective(ProcFile::Version).as_deref(), Some("lp_cumulative_v1"));
    lab.eventually("the entry goes", || {
        lab.kernel().standing("lp_offband_v1").unwrap().is_none()
    });
    lab.eventually("the reference goes", || {
        lab.kernel()
            .module("lp_offband_v1")
            .unwrap()
            .is_some_and(|module| module.refcount == 0)
    });
    assert_eq!(lab.leftovers(), ["lp_offband_v1"]);
    assert_eq!(lab.active(), ["lp_cumulative_v1"]);
}

/// Observation 2.
pub(super) fn a_leftover_holds_its_name(lab: &dyn Lab) {
    lab.loaded("lp_offband_v1");
    lab.loaded("lp_cumulative_v1");
    lab.eventually("the entry goes", || {
        lab.kernel().standing("lp_offband_v1").unwrap().is_none()
    });
    assert_eq!(bare_load(lab, "lp_offband_v1"), Err(Errno::EEXIST));
    lab.loaded("lp_offband_v1");
    assert_eq!(lab.active(), ["lp_cumulative_v1", "lp_offband_v1"]);
    assert_eq!(lab.effective(ProcFile::Execdomains).as_deref(), Some("lp_offband_v1"));
    assert_eq!(lab.effective(ProcFile::Version).as_deref(), Some("lp_cumulative_v1"));
}

/// Observations 3 and 4.
pub(super) fn two_livepatches_of_one_function_load_silently(lab: &dyn Lab) {
    lab.loaded("lp_cumulative_v1");
    lab.loaded("lp_offband_conflict");
    assert_eq!(lab.effective(ProcFile::Version).as_deref(), Some("lp_offband_conflict"));
    lab.disabled("lp_cumulative_v1");
    assert_eq!(lab.effective(ProcFile::Version).as_deref(), Some("lp_offband_conflict"));
    assert_eq!(lab.active(), ["lp_offband_conflict"]);
}

/// Observation 7.
pub(super) fn an_off_band_is_upgraded_without_a_gap(lab: &dyn Lab) {
    lab.loaded("lp_offband_v1");
    lab.loaded("lp_offband_v2");
    assert_eq!(lab.effective(ProcFile::Execdomains).as_deref(), Some("lp_offband_v2"));
    lab.disabled("lp_offband_v1");
    assert_eq!(lab.effective(ProcFile::Execdomains).as_deref(), Some("lp_offband_v2"));
}

pub(super) fn the_same_build_is_adopted(lab: &dyn Lab) {
    lab.loaded("lp_offband_v1");
    let mark = lab.kernel().log_mark();
    let LoadOutcome::Loaded(loaded) = lab.load("lp_offband_v1") else {
        panic!("not adopted")
    };
    assert_eq!(loaded.called, None);
    assert_eq!(lab.kernel().log_since(&mark).lines, Vec::<String>::new());
}
