//! Driving an operation of the kernel crate to its end. Writes to the kernel, through the seam.

use std::ffi::CString;
use std::sync::Arc;

use livepatch_crds::bounded::bounded;
use livepatch_crds::node::Blocker;
use livepatch_kernel::operation::{LoadRequest, Operation, Step};
use livepatch_kernel::{BuildId, Kernel, Seen, Stragglers};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::journal::Entry;

/// Most tasks told in a status.
const MAX_BLOCKERS: usize = 5;

/// Steps an operation to its end, and tells of the tasks in its way. `None` if the agent is to stop: what runs in the
/// kernel is then left as it is, and the next agent goes on with it.
pub fn to_its_end<O: Operation>(
    operation: &mut O,
    kernel: &dyn Kernel,
    leave: &CancellationToken,
    blockers: &watch::Sender<Vec<Blocker>>,
) -> Option<O::Outcome> {
    loop {
        match operation.step(kernel) {
            Step::Done(outcome) => return Some(outcome),
            Step::Wait(_) if leave.is_cancelled() => return None,
            Step::Wait(span) => {
                let seen = blockers_of(operation.stragglers());
                blockers.send_if_modified(|told| {
                    let changed = *told != seen;
                    *told = seen;
                    changed
                });
                kernel.sleep(span);
            }
        }
    }
}

/// The first of the tasks in the way, as the status tells them.
pub fn blockers_of(stragglers: Option<&Seen<Stragglers>>) -> Vec<Blocker> {
    let listed = stragglers
        .and_then(Seen::known)
        .map_or(&[][..], |stragglers| &stragglers.listed);
    listed
        .iter()
        .take(MAX_BLOCKERS)
        .map(|straggler| Blocker {
            pid: i32::try_from(straggler.pid).unwrap_or(i32::MAX),
            comm: bounded(&straggler.comm, 16),
            pod_uid: straggler.pod_uid.as_deref().map(|uid| bounded(uid, 64)),
        })
        .collect()
}

/// What is asked of the kernel for an entry of the journal.
pub fn request(entry: &Entry, image: Arc<[u8]>) -> LoadRequest {
    LoadRequest {
        name: entry.module.clone(),
        build_id: BuildId::try_from(entry.build_id.clone()).ok(),
        image,
        parameters: CString::default(),
        deadline: entry.deadline,
        on_timeout: entry.on_timeout(),
    }
}
