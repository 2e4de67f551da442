//! Several livepatches on one node, on real kernels.

mod alone;
mod atomic;
mod gapless;
mod power;
mod refusals;
mod stalls;
mod stops;

use anyhow::Result;
use livepatch_rig::kernels::Series;
use livepatch_tests_hybrid::node::Node;
use livepatch_tests_hybrid::stage::Stage;

/// Tells a story on a node of its own; if it fails, logs, disk and console are kept.
fn on_a_node(series: Series, name: &str, story: fn(&Node<'_>) -> Result<()>) -> Result<()> {
    let node = Node::start(Stage::shared()?, series, name)?;
    node.kept(story(&node))
}

/// The same with a control plane of its own, for a story that stops it: others are not to miss theirs.
fn on_a_stage(series: Series, name: &str, story: fn(&Node<'_>) -> Result<()>) -> Result<()> {
    let stage = Stage::start(&format!("alone-{series}"))?;
    let node = Node::start(&stage, series, name)?;
    node.kept(story(&node))
}

/// Makes a test for each kernel of every story; `long` ones are left out unless asked for. Who tells them may be named
/// first.
macro_rules! stories {
    ($teller:ident: $($name:ident)* ; long $($long:ident)*) => {
        mod linux_6_1 {
            $(#[test] fn $name() -> anyhow::Result<()> { crate::$teller(livepatch_rig::kernels::Series::Linux6_1, stringify!($name), super::$name) })*
            mod long_ {
                $(#[test] #[ignore = "takes minutes"]
                fn $long() -> anyhow::Result<()> { crate::$teller(livepatch_rig::kernels::Series::Linux6_1, stringify!($long), super::super::$long) })*
            }
        }
        mod linux_6_12 {
            $(#[test] fn $name() -> anyhow::Result<()> { crate::$teller(livepatch_rig::kernels::Series::Linux6_12, stringify!($name), super::$name) })*
            mod long_ {
                $(#[test] #[ignore = "takes minutes"]
                fn $long() -> anyhow::Result<()> { crate::$teller(livepatch_rig::kernels::Series::Linux6_12, stringify!($long), super::super::$long) })*
            }
        }
    };
    ($($name:ident)* ; long $($long:ident)*) => {
        crate::stories! { on_a_node: $($name)* ; long $($long)* }
    };
}
use stories;
