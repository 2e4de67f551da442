//! What follows from what `doctor` saw. No IO.

#[cfg(test)]
mod tests;

use livepatch_kernel::{Lockdown, RefusalReason, Seen, Taints};

use super::look::{Config, Symptoms};
use super::{Finding, Item};

/// Options without which livepatching does not work (kernel/livepatch/Kconfig and what it depends on, 6.1-7.2).
const NEEDED: [&str; 4] = ["LIVEPATCH", "MODULES", "KALLSYMS_ALL", "SYSFS"];

/// Options without which it works badly, and what then happens.
const WANTED: [(&str, &str); 2] = [
    (
        "MODULE_UNLOAD",
        "modules that are no longer in use stay until the next boot",
    ),
    ("HAVE_RELIABLE_STACKTRACE", "a transition may never end"),
];

/// The first kernel whose livepatching this project has been tried on.
const OLDEST: (u32, u32) = (6, 1);

/// What sysfs shows since when (Documentation/ABI/testing/sysfs-kernel-livepatch).
const ATTRIBUTES: [((u32, u32), &str); 3] = [
    ((6, 1), "which objects are patched"),
    ((6, 11), "the replace flag"),
    ((6, 14), "the load order"),
];

/// All matters, in the order in which a person would look at them.
pub(super) fn judge(seen: &Symptoms) -> Vec<Item> {
    let mut items = vec![kernel(seen), livepatching(seen), config(seen.config.as_ref())];
    items.extend([patch_state(seen), rights(seen), settings_of_modules(seen)]);
    items.extend([
        signatures(seen),
        ftrace(seen),
        replace_sets(seen),
        leftovers(seen),
        taints(seen),
    ]);
    items.extend([
        transition(seen),
        others(seen),
        log(seen),
        modules(seen),
        stop(seen),
        state(seen),
        lock(seen),
    ]);
    items
}

fn good(check: &'static str, message: impl Into<String>) -> Item {
    Item {
        check,
        finding: Finding::Good,
        reason: None,
        message: message.into(),
        advice: None,
    }
}

fn bad(check: &'static str, finding: Finding, reason: &'static str, message: impl Into<String>, advice: &str) -> Item {
    Item {
        check,
        finding,
        reason: Some(reason),
        message: message.into(),
        advice: Some(advice.to_owned()).filter(|advice| !advice.is_empty()),
    }
}

/// A reason that the kernel crate has an advice for.
fn refused(check: &'static str, reason: RefusalReason, message: impl Into<String>) -> Item {
    bad(check, Finding::Unfit, reason.into(), message, reason.advice())
}

fn unseen(check: &'static str, why: &str) -> Item {
    let advice = "look from the host itself, as root";
    bad(
        check,
        Finding::Unknown,
        "NotVisible",
        format!("cannot be seen: {why}"),
        advice,
    )
}

fn kernel(seen: &Symptoms) -> Item {
    let identity = match &seen.identity {
        Ok(identity) => identity,
        Err(why) => return unseen("kernel", why),
    };
    let Some(version) = version(&identity.release) else {
        let message = format!("release {} is in an unknown spelling", identity.release);
        return bad("kernel", Finding::Notice, "KernelVersionUnknown", message, "");
    };
    if version < OLDEST {
        let message = format!(
            "{} is older than the kernels this program has been tried on",
            identity.release
        );
        return bad(
            "kernel",
            Finding::Notice,
            "KernelOld",
            message,
            "try a livepatch on a host of no importance first",
        );
    }
    if identity.build_id.is_none() {
        let message = format!(
            "{} has no build id: two builds of one release cannot be told apart",
            identity.release
        );
        return bad("kernel", Finding::Notice, "BuildIdMissing", message, "");
    }
    let (shown, hidden): (Vec<_>, Vec<_>) = ATTRIBUTES.iter().partition(|(since, _)| version >= *since);
    let names = |list: &[&((u32, u32), &str)]| {
        let names: Vec<&str> = list.iter().map(|(_, name)| *name).collect();
        names.join(", ")
    };
    let mut message = format!(
        "{} {}, shows {}",
        identity.release,
        identity.architecture,
        names(&shown)
    );
    if !hidden.is_empty() {
        message = format!("{message}; not {}", names(&hidden));
    }
    good("kernel", message)
}

/// Major and minor number of a release such as `6.12.107-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn livepatching(seen: &Symptoms) -> Item {
    match &seen.livepatching {
        Ok(()) => good(
            "livepatching",
            format!("/sys/kernel/livepatch is there, {} loaded", seen.livepatches.len()),
        ),
        Err(why) => refused("livepatching", RefusalReason::LivepatchUnsupported, why.clone()),
    }
}

fn config(config: Option<&Config>) -> Item {
    // The rest tells whether livepatching works: the configuration says why, if it does not.
    let Some(Config { path, options }) = config else {
        return good(
            "configuration",
            "not to be found, and not needed: what it decides is looked at",
        );
    };
    let has = |name: &str| options.get(name).is_some_and(|value| value == "y");
    let missing: Vec<String> = NEEDED
        .iter()
        .filter(|name| !has(name))
        .map(|name| format!("CONFIG_{name}"))
        .collect();
    if !missing.is_empty() {
        let message = format!("{} lacks {}", path.display(), missing.join(", "));
        return refused("configuration", RefusalReason::LivepatchUnsupported, message);
    }
    if !has("DYNAMIC_FTRACE_WITH_REGS") && !has("DYNAMIC_FTRACE_WITH_ARGS") {
        let message = format!("{} lacks CONFIG_DYNAMIC_FTRACE_WITH_REGS or _ARGS", path.display());
        return refused("configuration", RefusalReason::LivepatchUnsupported, message);
    }
    match WANTED.iter().find(|(name, _)| !has(name)) {
        Some((name, then)) => {
            let message = format!("{} lacks CONFIG_{name}: {then}", path.display());
            bad("configuration", Finding::Notice, "KernelConfiguration", message, "")
        }
        None => good(
            "configuration",
            format!("{} has what livepatching needs", path.display()),
        ),
    }
}

fn patch_state(seen: &Symptoms) -> Item {
    const CHECK: &str = "tasks";
    if !seen.patch_state {
        return refused(CHECK, RefusalReason::LivepatchUnsupported, "no patch_state in /proc");
    }
    match &seen.tasks {
        Seen::Unknown(why) => unseen(CHECK, why),
        Seen::Known(tasks) if tasks.unreadable > 0 => {
            let message = format!("the patch state of {} tasks cannot be read", tasks.unreadable);
            let advice = "run as root: a stalled load is only taken back when the task that stalls it is seen";
            bad(CHECK, Finding::Unknown, "TasksNotVisible", message, advice)
        }
        Seen::Known(_) => good(CHECK, "the patch state of all tasks can be read"),
    }
}

fn rights(seen: &Symptoms) -> Item {
    const CHECK: &str = "rights";
    let Some(rights) = seen.rights else {
        return unseen(CHECK, "/proc/self is not there");
    };
    if rights.modules && rights.log {
        return good(CHECK, "CAP_SYS_MODULE and CAP_SYSLOG");
    }
    if rights.modules {
        let message = "no CAP_SYSLOG: why the kernel refuses a load is told less exactly";
        return bad(CHECK, Finding::Notice, "NotPermitted", message, "add CAP_SYSLOG");
    }
    let message = "no CAP_SYS_MODULE in the host's user namespace: nothing can be loaded";
    let finding = if rights.root { Finding::Unfit } else { Finding::Unknown };
    bad(
        CHECK,
        finding,
        "NotPermitted",
        message,
        RefusalReason::NotPermitted.advice(),
    )
}

fn settings_of_modules(seen: &Symptoms) -> Item {
    const CHECK: &str = "modules";
    match (&seen.policy.modules_disabled, &seen.policy.loadpin_enforced) {
        (Seen::Known(true), _) => refused(CHECK, RefusalReason::ModulesDisabled, "kernel.modules_disabled is 1"),
        (_, Seen::Known(true)) => refused(CHECK, RefusalReason::LoadPinActive, "LoadPin enforces"),
        (Seen::Unknown(why), _) | (_, Seen::Unknown(why)) => unseen(CHECK, why),
        (Seen::Known(false), Seen::Known(false)) => good(CHECK, "may be loaded"),
    }
}

fn signatures(seen: &Symptoms) -> Item {
    const CHECK: &str = "signatures";
    const SIGN: &str = "sign livepatches with a key that the kernel trusts; unsigned ones are refused";
    match (&seen.policy.signature_enforced, &seen.policy.lockdown) {
        (Seen::Known(true), _) => {
            let message = "the kernel enforces module signatures";
            bad(
                CHECK,
                Finding::Notice,
                RefusalReason::SignatureRequired.into(),
                message,
                SIGN,
            )
        }
        (_, Seen::Known(Lockdown::Integrity | Lockdown::Confidentiality)) => {
            let message = "the kernel is locked down";
            bad(
                CHECK,
                Finding::Notice,
                RefusalReason::LockdownActive.into(),
                message,
                SIGN,
            )
        }
        (Seen::Unknown(why), _) => unseen(CHECK, why),
        (_, Seen::Unknown(why)) => {
            let message = format!("not enforced; lockdown cannot be seen: {why}");
            let advice = "mount securityfs on /sys/kernel/security, or sign livepatches";
            bad(CHECK, Finding::Unknown, "LockdownUnknown", message, advice)
        }
        (Seen::Known(false), Seen::Known(Lockdown::None)) => good(CHECK, "not enforced, no lockdown"),
    }
}

fn ftrace(seen: &Symptoms) -> Item {
    match &seen.policy.ftrace_enabled {
        Seen::Known(true) => good("ftrace", "enabled"),
        Seen::Known(false) => refused("ftrace", RefusalReason::FtraceDisabled, "kernel.ftrace_enabled is 0"),
        Seen::Unknown(why) => unseen("ftrace", why),
    }
}

fn replace_sets(seen: &Symptoms) -> Item {
    match &seen.policy.replace_set {
        Seen::Known(false) => good("replace sets", "the kernel has none"),
        Seen::Known(true) => {
            let message = "the kernel has replace sets, whose rules this version does not know";
            let advice = "take a version of this program that knows them";
            bad("replace sets", Finding::Unfit, "ReplaceSetUnsupported", message, advice)
        }
        Seen::Unknown(why) => unseen("replace sets", why),
    }
}

fn leftovers(seen: &Symptoms) -> Item {
    const CHECK: &str = "leftovers";
    let leftovers = match &seen.leftovers {
        Ok(leftovers) => leftovers,
        Err(why) => return unseen(CHECK, why),
    };
    if let Some(pinned) = leftovers.iter().find(|module| module.refcount > 0) {
        let message = format!(
            "{} is no longer in use and has {} references: a transition was forced",
            pinned.name, pinned.refcount
        );
        return bad(CHECK, Finding::Unfit, "RebootRequired", message, "reboot the host");
    }
    if leftovers.is_empty() {
        return good(CHECK, "none");
    }
    let names: Vec<&str> = leftovers.iter().map(|module| module.name.as_str()).collect();
    let message = format!("no longer in use: {}", names.join(", "));
    bad(CHECK, Finding::Notice, "Leftovers", message, "`unload` removes them")
}

fn taints(seen: &Symptoms) -> Item {
    const CHECK: &str = "taints";
    let Some(taints) = seen.taints else {
        return unseen(CHECK, "no /proc/sys/kernel/tainted");
    };
    let troubles: Vec<&str> = taints
        .flags()
        .filter(|taint| [Taints::DIE, Taints::WARN, Taints::SOFT_LOCKUP].contains(&taint.bit))
        .map(|taint| taint.meaning)
        .collect();
    if troubles.is_empty() {
        return good(CHECK, "no oops, warning or lockup since the boot");
    }
    let message = format!("since the boot: {}", troubles.join(", "));
    bad(
        CHECK,
        Finding::Notice,
        "KernelTroubled",
        message,
        "read the kernel log before loading anything",
    )
}

fn transition(seen: &Symptoms) -> Item {
    match seen.livepatches.iter().find(|livepatch| livepatch.standing.transition) {
        None => good("transition", "none runs"),
        Some(livepatch) => {
            let message = format!("{} is in transition", livepatch.name);
            let reason = RefusalReason::TransitionRunning.into();
            bad(
                "transition",
                Finding::Notice,
                reason,
                message,
                "`watch` shows what holds it up",
            )
        }
    }
}

fn others(seen: &Symptoms) -> Item {
    const CHECK: &str = "other services";
    if !seen.others.active.is_empty() {
        let message = format!("also load livepatches here: {}", seen.others.active.join(", "));
        let advice = "let one service load livepatches on a host, and stop the others";
        return bad(CHECK, Finding::Notice, "OtherLivepatchService", message, advice);
    }
    if !seen.others.units_seen {
        let message = "no process or module of one is to be seen; units cannot be seen from a container";
        return bad(
            CHECK,
            Finding::Notice,
            "NotVisible",
            message,
            "look from the host itself",
        );
    }
    good(
        CHECK,
        "kpatch, canonical-livepatch, KernelCare and Ksplice are not active",
    )
}

fn log(seen: &Symptoms) -> Item {
    if seen.log {
        return good("kernel log", "can be read");
    }
    let message = "cannot be read: why the kernel refuses a load is told less exactly";
    bad(
        "kernel log",
        Finding::Notice,
        "NotVisible",
        message,
        "run as root, or add CAP_SYSLOG",
    )
}

fn modules(seen: &Symptoms) -> Item {
    if seen.modules {
        return good("module files", "/lib/modules has this kernel's");
    }
    let message = "/lib/modules has none of this kernel: functions of modules that are not loaded are not checked";
    bad("module files", Finding::Notice, "NotVisible", message, "")
}

fn stop(seen: &Symptoms) -> Item {
    match &seen.stopped {
        None => good("stop switches", "none is set"),
        Some(why) => {
            let message = format!("the agent begins nothing here: {why}");
            bad(
                "stop switches",
                Finding::Notice,
                "Stopped",
                message,
                "take the switch away when the reason for it is gone",
            )
        }
    }
}

fn state(seen: &Symptoms) -> Item {
    const CHECK: &str = "state directory";
    if let Err(why) = &seen.state_dir {
        let finding = match seen.rights {
            Some(rights) if rights.root => Finding::Unfit,
            _ => Finding::Unknown,
        };
        return bad(
            CHECK,
            finding,
            "StateDirUnusable",
            why.clone(),
            "make it writable, or name another with --state-dir",
        );
    }
    match &seen.journal {
        Ok(()) => good(CHECK, "can be written"),
        Err(why) => {
            let finding = match seen.rights {
                Some(rights) if rights.root => Finding::Unfit,
                _ => Finding::Unknown,
            };
            let advice = "the agent changes nothing here until its journal can be read";
            bad(CHECK, finding, "JournalUnreadable", why.clone(), advice)
        }
    }
}

fn lock(seen: &Symptoms) -> Item {
    match &seen.lock_held {
        Ok(true) => good("agent", "an agent or a command holds the lock of this host"),
        Ok(false) => good("agent", "none runs: commands may change this host"),
        Err(why) => bad(
            "agent",
            Finding::Notice,
            "NotVisible",
            format!("the lock cannot be seen: {why}"),
            "",
        ),
    }
}
