//! A failure that is foreseen from what the kernel shows is not brought about. Reads the kernel.

use livepatch_kernel::preflight::{KernelState, Weight, preflight};
use livepatch_kernel::{Kernel, KernelError, RefusalReason};
use livepatch_module::Inspection;

use crate::journal::Failure;

/// Why a load of `module` would fail now, if it is certain that it would. What the kernel says itself about a missing
/// function, with its error number and without harm, is left to the kernel to say.
///
/// # Errors
/// The kernel cannot be read.
pub fn failure(kernel: &dyn Kernel, module: &str, inspection: &Inspection) -> Result<Option<Failure>, KernelError> {
    // One that was just disabled or replaced is listed for a moment longer; the load waits for that.
    let vanishing = kernel
        .standing(module)?
        .is_some_and(|standing| !standing.enabled && !standing.transition);
    let mut left_to_kernel = vec![RefusalReason::SymbolNotFound, RefusalReason::SymbolPositionNotFound];
    left_to_kernel.extend(vanishing.then_some(RefusalReason::NameTaken));
    let is_left = |reason: &str| left_to_kernel.iter().any(|left| <&str>::from(left) == reason);
    let findings = preflight(inspection, &KernelState::read(kernel, inspection)?);
    let certain = findings
        .iter()
        .find(|finding| finding.weight == Weight::Fails && !is_left(finding.reason));
    Ok(certain.map(|finding| Failure::new(finding.reason, &finding.message)))
}
