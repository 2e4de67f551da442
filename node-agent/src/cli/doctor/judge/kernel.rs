//! The kernel and what it lets this process do. No IO.

use livepatch_kernel::{Lockdown, RefusalReason, Seen};

use super::{bad, good, refused, unseen};
use crate::cli::doctor::look::{Config, Symptoms};
use crate::cli::doctor::{Finding, Item};

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

pub(super) fn kernel(seen: &Symptoms) -> Item {
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

pub(super) fn livepatching(seen: &Symptoms) -> Item {
    const CHECK: &str = "livepatching";
    match (&seen.livepatching, &seen.livepatches) {
        (Ok(()), Ok(livepatches)) => {
            let enabled = livepatches.iter().filter(|livepatch| livepatch.standing.enabled);
            good(CHECK, format!("there; {} livepatches enabled", enabled.count()))
        }
        (Err(why), _) => refused(CHECK, RefusalReason::LivepatchUnsupported, why.clone()),
        (_, Err(why)) => unseen(CHECK, why),
    }
}

pub(super) fn config(config: Option<&Config>) -> Item {
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

pub(super) fn patch_state(seen: &Symptoms) -> Item {
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

pub(super) fn rights(seen: &Symptoms) -> Item {
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

pub(super) fn settings_of_modules(seen: &Symptoms) -> Item {
    const CHECK: &str = "modules";
    match (&seen.policy.modules_disabled, &seen.policy.loadpin_enforced) {
        (Seen::Known(true), _) => refused(CHECK, RefusalReason::ModulesDisabled, "kernel.modules_disabled is 1"),
        (_, Seen::Known(true)) => refused(CHECK, RefusalReason::LoadPinActive, "LoadPin enforces"),
        (Seen::Unknown(why), _) | (_, Seen::Unknown(why)) => unseen(CHECK, why),
        (Seen::Known(false), Seen::Known(false)) => good(CHECK, "may be loaded"),
    }
}

pub(super) fn signatures(seen: &Symptoms) -> Item {
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

pub(super) fn ftrace(seen: &Symptoms) -> Item {
    match &seen.policy.ftrace_enabled {
        Seen::Known(true) => good("ftrace", "enabled"),
        Seen::Known(false) => refused("ftrace", RefusalReason::FtraceDisabled, "ftrace is off"),
        Seen::Unknown(why) => unseen("ftrace", why),
    }
}

pub(super) fn replace_sets(seen: &Symptoms) -> Item {
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
