//! The grants of the spec, checked as if nobody had checked them before. No IO.
//!
//! The API server checks most of this too. But a module name becomes a path in sysfs and a hash becomes a file name
//! here, with all rights of the node, so nothing rests on the schema that a cluster happens to have installed.

use std::collections::BTreeSet;

use livepatch_crds::NodeLivepatchSpec;
use livepatch_crds::node::{DesiredState, Grant, MAX_LIVEPATCHES};
use livepatch_crds::set::LivepatchType;
use livepatch_module::MAX_MODULE_NAME_BYTES;

use crate::journal::Failure;

/// Reason of a grant that is not well-formed.
pub const GRANT_INVALID: &str = "GrantInvalid";

/// A grant with what its form says.
#[derive(Debug, Clone)]
pub struct Wish<'a> {
    /// The grant.
    pub grant: &'a Grant,
    /// Whether it can be acted on.
    pub form: Result<(), Failure>,
}

/// The grants in the order of the spec.
pub fn wishes(spec: &NodeLivepatchSpec) -> Vec<Wish<'_>> {
    let mut modules = BTreeSet::new();
    let mut cumulative = false;
    spec.livepatches
        .iter()
        .take(MAX_LIVEPATCHES)
        .map(|grant| {
            let asks_for_cumulative =
                grant.livepatch_type == LivepatchType::Cumulative && grant.state == DesiredState::Loaded;
            let second_cumulative = asks_for_cumulative && std::mem::replace(&mut cumulative, true);
            let form = if !modules.insert(grant.module.name.as_str()) {
                Err("another grant names the same module")
            } else if second_cumulative {
                Err("a node has one cumulative livepatch, and another grant asks for one too")
            } else {
                form(grant)
            };
            Wish {
                grant,
                form: form.map_err(|why| Failure::new(GRANT_INVALID, why)),
            }
        })
        .collect()
}

/// Positions of the grants in the order in which they are worked on: off-band ones that go make room, the cumulative one
/// is loaded before the off-band ones, and one that goes has been replaced by then if it can be.
pub fn working_order(wishes: &[Wish<'_>]) -> Vec<usize> {
    let rank = |wish: &Wish<'_>| match (wish.grant.state, wish.grant.livepatch_type) {
        (DesiredState::Absent, LivepatchType::OffBand) => 0,
        (DesiredState::Loaded, LivepatchType::Cumulative) => 1,
        (DesiredState::Loaded, LivepatchType::OffBand) => 2,
        (DesiredState::Absent, LivepatchType::Cumulative) => 3,
    };
    let mut order: Vec<usize> = (0..wishes.len()).collect();
    order.sort_by_key(|index| wishes.get(*index).map(rank));
    order
}

fn form(grant: &Grant) -> Result<(), &'static str> {
    let module = &grant.module;
    let checks = [
        (
            is_module_name(&module.name),
            "the module's name is not one the kernel could show",
        ),
        (is_hex(&module.sha256, 64..=64), "sha256 is not 64 hexadecimal digits"),
        (
            is_hex(&module.build_id, 8..=64),
            "the module's build id is not 8 to 64 hexadecimal digits",
        ),
        (
            is_hex(&module.kernel_build_id, 8..=64),
            "the kernel's build id is not 8 to 64 hexadecimal digits",
        ),
        (
            module
                .digest
                .strip_prefix("sha256:")
                .is_some_and(|hex| is_hex(hex, 64..=64)),
            "the digest is not sha256 and 64 hexadecimal digits",
        ),
        (
            grant.previous.as_ref().is_none_or(|previous| {
                is_module_name(&previous.name)
                    && is_hex(&previous.sha256, 64..=64)
                    && is_hex(&previous.build_id, 8..=64)
            }),
            "the previous module is not one",
        ),
        (!grant.set.uid.is_empty(), "the set has no uid"),
        (grant.attempt >= 1, "attempt is less than 1"),
        (
            (30..=86400).contains(&grant.transition_timeout_seconds),
            "transitionTimeoutSeconds is not 30 to 86400",
        ),
    ];
    checks
        .into_iter()
        .find(|(ok, _)| !ok)
        .map_or(Ok(()), |(_, why)| Err(why))
}

fn is_module_name(name: &str) -> bool {
    (1..=MAX_MODULE_NAME_BYTES).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn is_hex(text: &str, length: std::ops::RangeInclusive<usize>) -> bool {
    length.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}
