//! Many cases on one kernel, one after the other. Does IO: prints how each went.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use crate::lab::Lab;

/// One case and its name.
pub struct Turn<'a> {
    /// What it shows.
    pub name: &'static str,
    /// Leaves what only a reboot removes.
    pub last: bool,
    /// Panics if it is not so.
    pub run: Box<dyn Fn() + 'a>,
}

/// Runs all, or those whose name contains `$CASE`, on a kernel that is left empty between two; panics at the end if one
/// failed.
pub fn one_after_another<'a>(lab: &dyn Lab, turns: impl IntoIterator<Item = Turn<'a>>) {
    let only = std::env::var("CASE").ok();
    let mut failed = Vec::new();
    for turn in turns {
        if only.as_deref().is_some_and(|name| !turn.name.contains(name)) {
            continue;
        }
        let started = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            (turn.run)();
            if !turn.last {
                lab.clear();
            }
        }));
        let verdict = if outcome.is_ok() { "ok" } else { "FAILED" };
        println!("case {} {verdict} {:.1} s", turn.name, started.elapsed().as_secs_f64());
        if outcome.is_err() {
            failed.push(turn.name);
            // The kernel is swept, so that the next case has a fair chance; if that fails too, the rest would only
            // repeat it.
            if catch_unwind(AssertUnwindSafe(|| lab.clear())).is_err() {
                break;
            }
        }
    }
    assert!(failed.is_empty(), "failed on this kernel: {failed:?}");
}
