//! Reason codes of the fleet planner: the same word in condition, event, metric and log.

/// Everything is in place.
pub const COMPLETE: &str = "Complete";
/// Grants are being given or carried out.
pub const PROGRESSING: &str = "Progressing";
/// The nodes of a wave have settled and are watched.
pub const SOAKING: &str = "Soaking";
/// A person has to promote the wave.
pub const AWAITING_PROMOTION: &str = "AwaitingPromotion";
/// The wave takes no node.
pub const WAVE_EMPTY: &str = "WaveEmpty";
/// A person paused the rollout.
pub const PAUSED: &str = "Paused";
/// A person aborted the rollout.
pub const ABORTED: &str = "Aborted";
/// Nodes that the rollout reached go back to what they ran before.
pub const ROLLING_BACK: &str = "RollingBack";
/// They all have.
pub const ROLLED_BACK: &str = "RolledBack";
/// They cannot: the kernel would refuse it.
pub const ROLLBACK_IMPOSSIBLE: &str = "RollbackImpossible";
/// A node failed.
pub const HALTED: &str = "Halted";
/// Nothing has moved for longer than progressDeadlineSeconds.
pub const PROGRESS_DEADLINE_EXCEEDED: &str = "ProgressDeadlineExceeded";
/// Whoever runs the operator stopped everything.
pub const FROZEN: &str = "Frozen";
/// The selector matches no node.
pub const NO_NODES: &str = "NoNodesSelected";
/// The set asks for another revision by now.
pub const SUPERSEDED: &str = "Superseded";
/// The object is taken as it is written.
pub const ACCEPTED: &str = "Accepted";
/// The artefact is being read.
pub const READING_ARTEFACT: &str = "ReadingArtefact";
/// Another Cumulative set is on the node already.
pub const SET_CONFLICT: &str = "SetConflict";
/// A selector is no valid label selector.
pub const INVALID_SELECTOR: &str = "InvalidSelector";
/// The set is being deleted.
pub const DELETING: &str = "Deleting";
/// Nothing is wrong.
pub const NO_FAILURE: &str = "NoFailure";
/// Nothing is being done.
pub const IDLE: &str = "Idle";
/// A node with a grant became unreachable or not ready.
pub const NODE_LOST: &str = "NodeLost";
/// A node rebooted between its grant and the end of the soak.
pub const NODE_REBOOTED: &str = "NodeRebooted";
/// The kernel of a node gained a taint D, W or L between its grant and the end of the soak.
pub const KERNEL_TAINTED: &str = "KernelTainted";
/// A wave begins.
pub const WAVE_STARTED: &str = "WaveStarted";
/// A wave is done.
pub const WAVE_PASSED: &str = "WavePassed";
/// A node failed.
pub const NODE_FAILED: &str = "NodeFailed";
