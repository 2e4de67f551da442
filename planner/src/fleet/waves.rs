//! Which nodes a set selects, and which wave each of them is in.

use super::snapshot::NodeView;
use kube::core::{ParseExpressionError, Selector, SelectorExt};
use livepatch_crds::NodeSelector;
use livepatch_crds::concurrency::percent_of;
use livepatch_crds::set::Wave;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// The label by which Kubernetes tells the failure domain of a node.
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// The nodes that a set selects, by name.
pub type Selected<'a> = BTreeMap<&'a str, &'a NodeView>;

/// The nodes that `selector` matches.
///
/// # Errors
/// The selector is no valid label selector.
pub fn select<'a>(
    selector: &NodeSelector,
    nodes: &'a BTreeMap<String, NodeView>,
) -> Result<Selected<'a>, ParseExpressionError> {
    let selector = selector.compile()?;
    Ok(nodes
        .iter()
        .filter(|(_, node)| selector.matches(&node.labels))
        .map(|(name, node)| (name.as_str(), node))
        .collect())
}

/// The index of each node's wave. Nodes that no named wave takes are in the wave `rest`, whose index is `waves.len()`.
///
/// # Errors
/// The selector of a wave is no valid label selector.
pub fn assign<'a>(
    waves: &[Wave],
    selected: &Selected<'a>,
    set_uid: &str,
) -> Result<BTreeMap<&'a str, usize>, ParseExpressionError> {
    let mut left: Vec<(&'a str, &NodeView)> = selected.iter().map(|(name, node)| (*name, *node)).collect();
    // Only a share depends on the order.
    if waves.iter().any(|wave| wave.node_selector.is_none()) {
        left.sort_by_cached_key(|(_, node)| place(set_uid, &node.uid));
    }
    let mut assigned = BTreeMap::new();
    for (index, wave) in waves.iter().enumerate() {
        if let Some(selector) = &wave.node_selector {
            let selector = selector.compile()?;
            left.retain(|(name, node)| {
                let taken = selector.matches(&node.labels);
                if taken {
                    assigned.insert(*name, index);
                }
                !taken
            });
        } else {
            let percent = wave
                .percent
                .and_then(|percent| usize::try_from(percent).ok())
                .unwrap_or(0);
            let share = percent_of(percent, selected.len()).min(left.len());
            let mut quotas = quotas(&left, share);
            left.retain(|(name, node)| {
                let quota = quotas.get_mut(zone(node)).filter(|quota| **quota > 0);
                let stays = quota.is_none();
                if let Some(quota) = quota {
                    *quota -= 1;
                    assigned.insert(*name, index);
                }
                stays
            });
        }
    }
    assigned.extend(left.into_iter().map(|(name, _)| (name, waves.len())));
    Ok(assigned)
}

/// Whether every selector of the waves can be read.
///
/// # Errors
/// The first that is no valid label selector.
pub(super) fn check(waves: &[Wave]) -> Result<(), ParseExpressionError> {
    let mut selectors = waves.iter().filter_map(|wave| wave.node_selector.as_ref());
    selectors.try_for_each(|selector| selector.compile().map(|_| ()))
}

/// The selector of each wave, if a node's labels alone tell which wave it is in; `None` if there is a share among them, or
/// a selector that cannot be read.
pub(super) fn by_labels(waves: &[Wave]) -> Option<Vec<Selector>> {
    let selectors = waves.iter().map(|wave| wave.node_selector.as_ref()?.compile().ok());
    selectors.collect()
}

/// How many nodes of each zone make up `share` of `nodes`: as many as its part of the nodes, rounded so that they add up,
/// the largest remainders up.
fn quotas<'a>(nodes: &[(&str, &'a NodeView)], share: usize) -> BTreeMap<&'a str, usize> {
    let mut zones: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, node) in nodes {
        *zones.entry(zone(node)).or_default() += 1;
    }
    let total = nodes.len().max(1);
    let mut quotas: BTreeMap<&str, usize> = BTreeMap::new();
    let mut remainders = Vec::new();
    for (zone, size) in zones {
        let product = size.saturating_mul(share);
        quotas.insert(zone, product / total);
        remainders.push((std::cmp::Reverse(product % total), zone));
    }
    remainders.sort_unstable();
    let missing = share.saturating_sub(quotas.values().sum());
    for (_, zone) in remainders.into_iter().take(missing) {
        *quotas.entry(zone).or_default() += 1;
    }
    quotas
}

/// The failure domain of a node; all nodes without the label are in one.
fn zone(node: &NodeView) -> &str {
    node.labels.get(ZONE_LABEL).map_or("", String::as_str)
}

/// The place of a node in the order in which a set serves nodes: stable, different for each set, and without regard to
/// names, so that neighbours in a rack are not served together.
pub fn place(set_uid: &str, node_uid: &str) -> [u8; 32] {
    Sha256::new()
        .chain_update(set_uid)
        .chain_update([0])
        .chain_update(node_uid)
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fleet(size: usize) -> BTreeMap<String, NodeView> {
        (0..size)
            .map(|n| {
                let labels = BTreeMap::from([("index".to_owned(), n.to_string()), ("odd".into(), (n % 2).to_string())]);
                (
                    format!("node-{n}"),
                    NodeView {
                        uid: format!("uid-{n}"),
                        labels,
                        ..NodeView::default()
                    },
                )
            })
            .collect()
    }

    fn waves(yaml: &str) -> Vec<Wave> {
        serde_saphyr::from_str(yaml).unwrap()
    }

    #[test]
    fn a_node_is_in_the_first_wave_that_takes_it() {
        let nodes = fleet(4);
        let selected = select(&NodeSelector::default(), &nodes).unwrap();
        let waves = waves(
            "[{name: one, nodeSelector: {matchLabels: {index: '3'}}}, {name: odd, nodeSelector: {matchLabels: {odd: '1'}}}]",
        );
        let assigned = assign(&waves, &selected, "set").unwrap();
        assert_eq!(
            assigned,
            BTreeMap::from([("node-3", 0), ("node-1", 1), ("node-0", 2), ("node-2", 2)])
        );
    }

    proptest! {
        #[test]
        fn every_selected_node_is_in_exactly_one_wave(size in 0usize..60, percent in 1i32..=100) {
            let nodes = fleet(size);
            let selected = select(&NodeSelector::default(), &nodes).unwrap();
            let waves = waves(&format!("[{{name: part, percent: {percent}}}]"));
            let assigned = assign(&waves, &selected, "set").unwrap();
            prop_assert_eq!(assigned.len(), size);
            let part = assigned.values().filter(|wave| **wave == 0).count();
            prop_assert_eq!(part, percent_of(usize::try_from(percent).unwrap(), size));
        }

        #[test]
        fn a_percent_wave_takes_its_part_of_every_zone(sizes in proptest::collection::vec(1usize..40, 1..5), percent in 1i32..=100) {
            let mut nodes = BTreeMap::new();
            for (zone, size) in sizes.iter().enumerate() {
                for n in 0..*size {
                    let labels = BTreeMap::from([(ZONE_LABEL.to_owned(), zone.to_string())]);
                    let node = NodeView { uid: format!("uid-{zone}-{n}"), labels, ..NodeView::default() };
                    nodes.insert(format!("node-{zone}-{n}"), node);
                }
            }
            let selected = select(&NodeSelector::default(), &nodes).unwrap();
            let assigned = assign(&waves(&format!("[{{name: part, percent: {percent}}}]")), &selected, "set").unwrap();
            let total = nodes.len();
            let share = percent_of(usize::try_from(percent).unwrap(), total);
            prop_assert_eq!(assigned.values().filter(|wave| **wave == 0).count(), share);
            for (zone, size) in sizes.iter().enumerate() {
                let prefix = format!("node-{zone}-");
                let taken = assigned.iter().filter(|(name, wave)| name.starts_with(&prefix) && **wave == 0).count();
                prop_assert!((taken * total).abs_diff(size * share) < total, "{taken} of {size} in zone {zone}");
            }
        }

        #[test]
        fn a_node_that_leaves_moves_at_most_one_other(size in 2usize..60, percent in 1i32..100, gone in 0usize..60) {
            let nodes = fleet(size);
            let mut fewer = nodes.clone();
            fewer.remove(&format!("node-{}", gone % size));
            let waves = waves(&format!("[{{name: part, percent: {percent}}}]"));
            let before = assign(&waves, &select(&NodeSelector::default(), &nodes).unwrap(), "set").unwrap();
            let after = assign(&waves, &select(&NodeSelector::default(), &fewer).unwrap(), "set").unwrap();
            prop_assert!(after.iter().filter(|(name, wave)| before[*name] != **wave).count() <= 1);
        }
    }
}
