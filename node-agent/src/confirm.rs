//! Whether a grant still stands, by what was read from the API server itself right before the load. No IO.

use livepatch_crds::node::{Grant, NodeLivepatchSpec};
use livepatch_planner::node::EPOCH_STALE;

use crate::journal::Failure;

/// Whether the node's object still asks for what `grant` allows. `known` is the UID of the object that the grant came with;
/// `read` is the UID and the spec of the object that is there now.
///
/// # Errors
/// Held, or withdrawn: with the object, with what it was made for, or by itself.
pub fn by_object(
    grant: &Grant,
    known: Option<&str>,
    read: Option<(Option<&str>, &NodeLivepatchSpec)>,
) -> Result<(), Failure> {
    let withdrawn = |why: &str| Err(Failure::new("GrantWithdrawn", why));
    let Some((uid, spec)) = read else {
        return withdrawn("the NodeLivepatch is gone");
    };
    if known.is_some() && known != uid {
        return withdrawn("the NodeLivepatch was made anew");
    }
    if !spec.hold.is_empty() {
        return Err(Failure::new("Held", &spec.hold));
    }
    if !spec.livepatches.contains(grant) {
        return withdrawn("the NodeLivepatch no longer has this grant");
    }
    Ok(())
}

/// Whether `epoch`, of the Lease that is there now, is the one under which `grant` was given.
///
/// # Errors
/// Given under another one, or nobody holds the Lease's place.
pub fn by_lease(grant: &Grant, epoch: Option<&str>) -> Result<(), Failure> {
    let stale = |why: &str| Err(Failure::new(EPOCH_STALE, why));
    match epoch {
        Some(epoch) if epoch == grant.epoch => Ok(()),
        Some(epoch) => stale(&format!(
            "granted under leadership {}, the present one is {epoch}",
            grant.epoch
        )),
        None => stale("the operator's Lease is not there, so nobody vouches for the grant"),
    }
}
