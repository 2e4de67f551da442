//! A node with the real agent, and the test in the operator's place. IO.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use livepatch_rig::bare_node::{BareNode, BareNodeSpec};
use livepatch_rig::http::Method;
use livepatch_rig::kernel_vm::GuestFile;
use livepatch_rig::kernels::{Kernel, Series};
use livepatch_rig::progress::{Waited, wait_for};
use serde_json::{Value, json};

use crate::samples::Samples;
use crate::stage::{Module, NAMESPACE, Stage, modules_for};

/// For anything that is expected to happen, on a machine that is busy with builds.
pub const PATIENCE: Duration = Duration::from_mins(15);
/// Length of the probation after a load, as the agent has it.
pub const PROBATION: Duration = Duration::from_mins(10);

/// What a cumulative livepatch patches.
pub const VERSION: &str = "/proc/version";
/// What a later cumulative patches besides.
pub const UPTIME: &str = "/proc/uptime";
/// Off-band A.
pub const EXECDOMAINS: &str = "/proc/execdomains";
/// Off-band B.
pub const LOADAVG: &str = "/proc/loadavg";
/// All of them.
pub const FILES: [&str; 4] = [VERSION, UPTIME, EXECDOMAINS, LOADAVG];

/// A running node.
#[derive(Debug)]
pub struct Node<'a> {
    vm: BareNode,
    stage: &'a Stage,
    kernel_build_id: String,
}

/// One thing the test, in the operator's place, grants.
#[derive(Debug, Clone)]
pub struct Grant(Value);

impl Grant {
    /// As a field of another value.
    #[must_use]
    pub fn with(mut self, field: &str, value: Value) -> Self {
        self.0[field] = value;
        self
    }

    /// With a predecessor: the module that the set had on the node.
    #[must_use]
    pub fn after(self, module: &Module, node: &Node<'_>) -> Self {
        self.with("previous", node.reference(module))
    }

    /// The way back from it, as the operator grants it: the former module in the same rollout, with what the revision
    /// before allowed.
    #[must_use]
    pub fn back_to(self, module: &Module, node: &Node<'_>) -> Self {
        let mut grant = self.with("module", node.reference(module)).with("back", json!(true));
        if let Some(fields) = grant.0.as_object_mut() {
            fields.retain(|name, _| name != "previous" && name != "policy");
        }
        grant
    }
}

impl<'a> Node<'a> {
    /// Boots one and waits until its agent has said something.
    pub fn start(stage: &'a Stage, series: Series, test: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let kernel = Kernel::get(series)?;
        // Short: the path of a socket in the node's folder has a limit.
        let words: Vec<&str> = test.split('_').filter(|word| word.len() > 2).take(3).collect();
        let name = format!("{}-{}", words.join("-"), COUNT.fetch_add(1, Ordering::Relaxed));
        let kubeconfig = stage.register(&name)?;
        let mirrors = json!([{
            "prefix": crate::stage::REPOSITORY.split('/').next(),
            "endpoint": format!("http://{}", stage.registry().host_seen_from_vm()),
            "only": true,
        }]);
        let mut files = GuestFile::folder("/modules", &modules_for(&kernel)?)?;
        files.extend([
            GuestFile::copy("/livepatch-agent", &stage.programs().agent),
            GuestFile::copy("/hybrid-guest", &stage.programs().guest),
            GuestFile::text("/etc/resolv.conf", "nameserver 10.0.2.3\n"),
            GuestFile::text("/etc/kubeconfig", kubeconfig),
            GuestFile::text("/etc/livepatch-registry/mirrors.yaml", mirrors.to_string()),
        ]);
        let vm = BareNode::start(&BareNodeSpec {
            name: name.clone(),
            kernel,
            files,
            at_boot: "insmod /modules/lp_sleeper.ko\ninsmod /modules/lp_targets.ko\nmkdir -p /disk/livepatch\n"
                .to_owned(),
            program: program(&name),
        })?;
        let mut node = Self {
            vm,
            stage,
            kernel_build_id: String::new(),
        };
        let object = node.kept(node.wait("the agent's first status", PATIENCE, |object| {
            let known = object["status"]["kernel"]["buildID"]
                .as_str()
                .is_some_and(|id| !id.is_empty());
            known.then_some(()).ok_or_else(|| object["status"].to_string())
        }))?;
        node.kernel_build_id = object["status"]["kernel"]["buildID"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        Ok(node)
    }

    /// Keeps logs if this is an error.
    pub fn kept<T>(&self, result: Result<T>) -> Result<T> {
        if result.is_err() {
            self.vm.keep();
            self.stage.plane().keep();
        }
        result
    }

    /// The machine.
    pub fn vm(&self) -> &BareNode {
        &self.vm
    }

    /// What it shares with others.
    pub fn stage(&self) -> &Stage {
        self.stage
    }

    /// A module of `tests/modules/hybrid`, in the registry.
    pub fn module(&self, name: &str) -> Result<Module> {
        self.stage.module(self.vm.kernel(), name)
    }

    fn reference(&self, module: &Module) -> Value {
        json!({
            "name": module.name, "repository": module.repository, "digest": module.digest, "sha256": module.sha256,
            "buildID": module.build_id, "kernelBuildID": self.kernel_build_id,
        })
    }

    fn grant(&self, kind: &str, set: &str, module: &Module) -> Grant {
        Grant(json!({
            "set": {"name": set, "uid": format!("uid-of-{set}")},
            // A revision is a module here: what is told of a rollout is told of its module.
            "rollout": format!("{set}-{}", &module.sha256[..10]), "wave": "rest", "epoch": self.stage.epoch(),
            "attempt": 1, "state": "Loaded", "type": kind, "module": self.reference(module), "bootID": "",
            "kernelTaints": "", "transitionTimeoutSeconds": 120,
        }))
    }

    /// A grant for the cumulative set `base`.
    pub fn cumulative(&self, module: &Module) -> Grant {
        self.grant("Cumulative", "base", module)
    }

    /// A grant for an off-band set.
    pub fn off_band(&self, set: &str, module: &Module) -> Grant {
        self.grant("OffBand", set, module)
    }

    /// Writes all grants of this node, in load order.
    pub fn write(&self, grants: &[Grant]) -> Result<()> {
        let grants: Vec<&Value> = grants.iter().map(|grant| &grant.0).collect();
        let path = format!("nodelivepatches/{}", self.vm.name());
        self.stage
            .send(Method::PATCH, &path, &json!({"spec": {"livepatches": grants}}))
            .map(drop)
    }

    /// The node's object.
    pub fn object(&self) -> Result<Value> {
        let path = format!("nodelivepatches/{}", self.vm.name());
        self.stage.send(Method::GET, &path, &Value::Null)
    }

    /// Waits until the object is as it should be; `holds` says what is wrong with it.
    pub fn wait(
        &self,
        what: &str,
        within: Duration,
        holds: impl Fn(&Value) -> std::result::Result<(), String>,
    ) -> Result<Value> {
        wait_for(&format!("{what} on {}", self.vm.name()), within, || {
            let object = self.object()?;
            Ok(match holds(&object) {
                Ok(()) => Waited::Ready(object),
                Err(seen) => Waited::NotYet(seen),
            })
        })
    }

    /// Waits until everything that is granted is told to be loaded, in this boot.
    pub fn all_loaded(&self) -> Result<Value> {
        let boot = self.vm.boot_id()?;
        self.wait("everything to be loaded", PATIENCE, |object| {
            let status = &object["status"];
            let told = status["livepatches"].as_array().map(Vec::as_slice).unwrap_or_default();
            let granted = object["spec"]["livepatches"].as_array().map_or(0, Vec::len);
            let done = status["observedGeneration"] == object["metadata"]["generation"]
                && status["bootID"] == *boot
                && told.len() == granted
                && told.iter().all(|one| one["result"] == "Loaded");
            done.then_some(()).ok_or_else(|| status.to_string())
        })
    }

    /// Grants, and waits until all of it is loaded.
    pub fn load(&self, grants: &[Grant]) -> Result<Value> {
        self.write(grants)?;
        self.all_loaded()
    }

    /// Waits until this is told of a set.
    pub fn told(&self, set: &str, result: &str, reason: &str) -> Result<Value> {
        self.wait(&format!("{set} to be {result}/{reason}"), PATIENCE, |object| {
            let entry = entry(object, set);
            let told = entry["result"] == result && entry["reason"] == reason;
            let current = object["status"]["observedGeneration"] == object["metadata"]["generation"];
            (told && current)
                .then_some(())
                .ok_or_else(|| object["status"].to_string())
        })
    }

    /// Which livepatch each file shows, by the file itself; `-` for none.
    pub fn effective(&self) -> Result<BTreeMap<String, String>> {
        let files = FILES.join(" ");
        let command = format!("for f in {files}; do echo $f $(grep -m 1 '^livepatch: ' $f || echo '' -); done");
        let printed = self.vm.shell(&command)?;
        printed
            .lines()
            .map(|line| {
                let mut words = line.split_whitespace();
                let file = words.next().context("a file")?;
                Ok((file.to_owned(), words.next_back().unwrap_or("-").to_owned()))
            })
            .collect()
    }

    /// Fails unless the files show these livepatches, in the order of [`FILES`].
    pub fn shows(&self, expected: [&str; 4]) -> Result<()> {
        let effective = self.effective()?;
        let expected: BTreeMap<String, String> = FILES
            .iter()
            .zip(expected)
            .map(|(file, marker)| ((*file).to_owned(), marker.to_owned()))
            .collect();
        ensure!(effective == expected, "effective: {effective:?}, expected {expected:?}");
        Ok(())
    }

    /// Starts to look at these files every 10 ms.
    pub fn sample(&self, files: &[&str]) -> Result<()> {
        let files = files.join(" ");
        self.vm.shell(&format!(
            "setsid /hybrid-guest sample 10 {files} >/tmp/samples 2>/dev/null </dev/null &"
        ))?;
        self.vm.shell("until [ -s /tmp/samples ]; do sleep 0.1; done").map(drop)
    }

    /// What was seen since then.
    pub fn samples(&self) -> Result<Samples> {
        Samples::parse(&self.vm.shell("sleep 0.5; cat /tmp/samples")?)
    }

    /// The agent's process id.
    pub fn agent(&self) -> Result<u32> {
        let printed = self
            .vm
            .shell("until pidof livepatch-agent >/tmp/pid; do sleep 0.1; done; cat /tmp/pid")?;
        printed
            .trim()
            .parse()
            .with_context(|| format!("process id {printed:?}"))
    }

    /// Tells the agent to leave and keeps it away; returns when it is gone.
    pub fn dismiss_agent(&self) -> Result<()> {
        let command = "touch /run/stay-away; while kill -TERM $(pidof livepatch-agent) 2>/dev/null; do sleep 0.2; done";
        self.vm.shell(command).map(drop)
    }

    /// Lets an agent start again that sees the clock this much further ahead than the one before, until the next boot.
    pub fn recall_agent(&self, later: Duration) -> Result<()> {
        let command = format!(
            "later=$(cat /run/later 2>/dev/null || echo 0); echo $((later + {})) >/run/later; rm -f /run/stay-away",
            later.as_secs()
        );
        self.vm.shell(&command)?;
        self.agent().map(drop)
    }

    /// Lets the probation of everything pass: the next agent finds itself so much later.
    pub fn settle(&self) -> Result<()> {
        self.dismiss_agent()?;
        self.recall_agent(PROBATION + Duration::from_secs(5))?;
        let phases = || -> Result<Vec<String>> {
            let journal = self.journal()?;
            let entries = journal["entries"].as_array().context("a journal without entries")?;
            let name = |entry: &Value| entry["phase"]["name"].as_str().unwrap_or_default().to_owned();
            Ok(entries.iter().map(name).collect())
        };
        wait_for("the probation to end", PATIENCE, || {
            let phases = phases()?;
            Ok(
                if phases.iter().any(|phase| phase == "applied" || phase == "starting") {
                    Waited::NotYet(format!("{phases:?}"))
                } else {
                    Waited::Ready(())
                },
            )
        })
    }

    /// Lets the agent be stopped in the system call with which it makes the `count`th version of its journal from now on.
    pub fn stop_agent_at(&self, count: u32) -> Result<()> {
        let pid = self.agent()?;
        self.vm.shell(&format!(
            "rm -f /tmp/stops; setsid /hybrid-guest stop-at {count} /disk/livepatch journal.json {pid} >/tmp/stops 2>&1 \
             </dev/null & until grep -q ready /tmp/stops; do sleep 0.1; done"
        ))?;
        Ok(())
    }

    /// The versions of the journal since [`Self::stop_agent_at`], and whether the agent was stopped.
    pub fn stops(&self) -> Result<(Vec<Value>, bool)> {
        let printed = self.vm.shell("cat /tmp/stops")?;
        let end = printed.rfind('\n').unwrap_or(0);
        let versions = printed[..end].lines().filter_map(|line| line.split_once(' '));
        let versions =
            versions.map(|(_, json)| serde_json::from_str(json).with_context(|| format!("journal {json:?}")));
        Ok((versions.collect::<Result<_>>()?, printed.contains("\nstopped")))
    }

    /// Lets an agent that was stopped go on.
    pub fn continue_agent(&self) -> Result<()> {
        self.vm.shell("kill -CONT $(pidof livepatch-agent)").map(drop)
    }

    /// Puts a task of a pod to sleep in a function; its process id.
    pub fn put_to_sleep(&self, pod_uid: &str) -> Result<u32> {
        let group = format!("/sys/fs/cgroup/kubepods/besteffort/pod{pod_uid}/0a1b2c");
        self.vm.shell(&format!(
            "mkdir -p {group}; setsid sh -c 'echo $$ >{group}/cgroup.procs; echo $$ >/tmp/sleeper; exec /bin/cat /proc/lp_sleeper' \
             >/dev/null 2>&1 </dev/null & sleep 0.3; until grep -q lp_sleeper_read /proc/$(cat /tmp/sleeper)/stack; do sleep 0.1; done"
        ))?;
        let pid = self.vm.shell("cat /tmp/sleeper")?;
        pid.trim().parse().with_context(|| format!("process id {pid:?}"))
    }

    /// What the agent remembers.
    pub fn journal(&self) -> Result<Value> {
        let text = self.vm.shell("cat /disk/livepatch/journal.json")?;
        serde_json::from_str(&text).with_context(|| format!("journal {text:?}"))
    }

    /// What the agent printed.
    pub fn log(&self) -> Result<String> {
        self.vm.shell("cat /disk/program.log")
    }
}

/// How far each set's modules came, as a journal says: `SET MODULE PHASE`.
pub fn phases(journal: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let entries = journal["entries"].as_array().map(Vec::as_slice).unwrap_or_default();
    entries
        .iter()
        .map(|entry| {
            let (module, phase) = (text(&entry["module"]), text(&entry["phase"]["name"]));
            format!("{} {module} {phase}", text(&entry["set"]))
        })
        .collect()
}

/// What is told of a set's grant; null if nothing is.
pub fn entry<'a>(object: &'a Value, set: &str) -> &'a Value {
    static NONE: Value = Value::Null;
    object["status"]["livepatches"]
        .as_array()
        .and_then(|entries| entries.iter().find(|entry| entry["set"] == set))
        .unwrap_or(&NONE)
}

/// Fails unless it is told of a set that its livepatch came to be in this way, and why.
pub fn went(object: &Value, set: &str, mode: &str, because: &str) -> Result<()> {
    let message = entry(object, set)["message"].as_str().unwrap_or_default();
    let told = message.strip_prefix(mode).and_then(|rest| rest.strip_prefix(": "));
    ensure!(
        told.is_some_and(|told| told.contains(because)),
        "{set}: {message:?} does not say {mode}, {because:?}"
    );
    Ok(())
}

/// The modules that the kernel holds, in the order of its list, as the status tells them.
pub fn loaded(object: &Value) -> Vec<&str> {
    let loaded = object["status"]["loaded"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    loaded.iter().filter_map(|one| one["module"].as_str()).collect()
}

fn program(node: &str) -> String {
    format!(
        "later=$(cat /run/later 2>/dev/null || echo 0)\n\
         export KUBECONFIG=/etc/kubeconfig\n\
         exec /hybrid-guest later $later /livepatch-agent run --node-name {node} --lease-namespace {NAMESPACE} \
         --allowed-repository {} --state-dir /disk/livepatch --livepatch-dir /sys/kernel/livepatch --proc-dir /proc \
         --log-format text\n",
        crate::stage::REPOSITORY
    )
}
