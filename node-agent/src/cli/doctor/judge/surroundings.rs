//! What the kernel runs by now, and who else is at work on this host. No IO.

use livepatch_kernel::{RefusalReason, Taints};

use super::{bad, good, unseen};
use crate::cli::doctor::look::Symptoms;
use crate::cli::doctor::{Finding, Item};

pub(super) fn leftovers(seen: &Symptoms) -> Item {
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

pub(super) fn taints(seen: &Symptoms) -> Item {
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

pub(super) fn transition(seen: &Symptoms) -> Item {
    const CHECK: &str = "transition";
    let livepatches = match &seen.livepatches {
        Ok(livepatches) => livepatches,
        Err(why) => return unseen(CHECK, why),
    };
    match livepatches.iter().find(|livepatch| livepatch.standing.transition) {
        None => good(CHECK, "none runs"),
        Some(livepatch) => {
            let message = format!("{} is in transition", livepatch.name);
            let reason = RefusalReason::TransitionRunning.into();
            bad(
                CHECK,
                Finding::Notice,
                reason,
                message,
                "`watch` shows what holds it up",
            )
        }
    }
}

pub(super) fn others(seen: &Symptoms) -> Item {
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

pub(super) fn log(seen: &Symptoms) -> Item {
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

pub(super) fn modules(seen: &Symptoms) -> Item {
    if seen.modules {
        return good("module files", "/lib/modules has this kernel's");
    }
    let message = "/lib/modules has none of this kernel: functions of modules that are not loaded are not checked";
    bad("module files", Finding::Notice, "NotVisible", message, "")
}

pub(super) fn stop(seen: &Symptoms) -> Item {
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

pub(super) fn state(seen: &Symptoms) -> Item {
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

pub(super) fn lock(seen: &Symptoms) -> Item {
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
