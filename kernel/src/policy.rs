//! Settings of the running kernel that decide whether a livepatch may be loaded at all. No IO.

use serde::{Deserialize, Serialize};

use crate::seen::Seen;

/// The lockdown level (`/sys/kernel/security/lockdown`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Lockdown {
    /// Not locked down, or built without.
    None,
    /// Unsigned modules are refused.
    Integrity,
    /// As integrity, and more is hidden.
    Confidentiality,
}

/// What the kernel's settings say about loading modules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// `kernel.modules_disabled`: once set, nothing is loaded or unloaded until the next boot.
    pub modules_disabled: Seen<bool>,
    /// `/sys/module/module/parameters/sig_enforce`: unsigned modules are refused.
    pub signature_enforced: Seen<bool>,
    /// Lockdown, seen only where securityfs is.
    pub lockdown: Seen<Lockdown>,
    /// `kernel.ftrace_enabled`: livepatching needs it on. False as well when ftrace has switched itself off after a fault.
    pub ftrace_enabled: Seen<bool>,
    /// `LoadPin` enforces that modules come from one file system, which an image in memory never does.
    pub loadpin_enforced: Seen<bool>,
    /// Whether sysfs has `replace_set` in place of `replace`, whose rules this version does not know.
    pub replace_set: Seen<bool>,
}
