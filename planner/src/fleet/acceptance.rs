//! Whether a set may be given new grants at all.

use super::roster::Roster;
use super::snapshot::{BundleView, NodeView, SetView};
use super::standing::set_grant;
use super::{conflicts, reasons};
use livepatch_crds::LivepatchType;

/// Whether a set may be given new grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acceptance {
    /// `Some(true)`: it may. `Some(false)`: a person has to change something. `None`: not known yet.
    pub status: Option<bool>,
    /// A reason code.
    pub reason: &'static str,
    /// What is wrong and what to do; empty if nothing is.
    pub message: String,
}

impl Acceptance {
    /// Whether new grants may be given.
    pub fn is_accepted(&self) -> bool {
        self.status == Some(true)
    }

    pub(super) fn refused(reason: &'static str, message: String) -> Self {
        Self {
            status: Some(false),
            reason,
            message,
        }
    }
}

/// A set with its nodes.
pub(super) struct Chosen<'a> {
    /// The set.
    pub set: &'a SetView,
    /// The nodes it selects, and those it did when they got a grant which has not ended.
    pub roster: &'a Roster,
}

/// All sets, and where they can be at odds.
pub(super) struct Meetings<'a> {
    /// The sets, the oldest first.
    pub all: &'a [Chosen<'a>],
    /// The nodes that concern more than one of them, by name.
    pub shared: Vec<(&'a str, &'a NodeView)>,
}

/// Judges the set at `index` of all sets and their nodes.
pub(super) fn acceptance(index: usize, meetings: &Meetings<'_>) -> Acceptance {
    let Some(Chosen { set, .. }) = meetings.all.get(index) else {
        return Acceptance::refused(reasons::DELETING, String::new());
    };
    if set.deleting {
        return Acceptance::refused(
            reasons::DELETING,
            "the set is being deleted; what is loaded stays".to_owned(),
        );
    }
    if let Some(conflict) = rival(index, meetings) {
        return conflict;
    }
    if let Some(conflict) = conflicts::unproven(set).or_else(|| conflicts::conflict(index, meetings)) {
        return conflict;
    }
    match &set.bundle {
        BundleView::Read(_) => Acceptance {
            status: Some(true),
            reason: reasons::ACCEPTED,
            message: "the set is accepted".to_owned(),
        },
        BundleView::Unread => Acceptance {
            status: None,
            reason: reasons::READING_ARTEFACT,
            message: format!("reading {}", set.spec.template.source.oci.reference),
        },
        BundleView::Unusable {
            reason,
            message,
            retried,
        } => Acceptance {
            status: if *retried { None } else { Some(false) },
            reason,
            message: message.clone(),
        },
    }
}

/// A node has one Cumulative set. Who has a grant there is the incumbent, else the older set; the other gets no new
/// grants, and both are named.
fn rival(index: usize, meetings: &Meetings<'_>) -> Option<Acceptance> {
    let Chosen { set, roster } = meetings.all.get(index)?;
    if set.spec.livepatch_type != LivepatchType::Cumulative {
        return None;
    }
    let others = meetings.all.iter();
    others
        .filter(|Chosen { set: other, .. }| {
            other.uid != set.uid && !other.deleting && other.spec.livepatch_type == LivepatchType::Cumulative
        })
        .find_map(|Chosen { set: other, roster: others }| {
            let contested = meetings.shared.iter().find(|(name, node)| {
                let (mine, theirs) = (
                    set_grant(node, &set.uid).is_some(),
                    set_grant(node, &other.uid).is_some(),
                );
                let older = (other.created, &other.uid) < (set.created, &set.uid);
                roster.selects(name) && others.selects(name) && if mine == theirs { older } else { theirs }
            })?;
            Some(Acceptance::refused(
                reasons::SET_CONFLICT,
                format!(
                    "node {} is also selected by the Cumulative LivepatchSet {}, which goes on there; a node has one \
                     Cumulative set: change the nodeSelector of {} or of {}",
                    contested.0, other.name, set.name, other.name
                ),
            ))
        })
}
