//! The commands of `livepatch-agent` for a person on the host, run as they are on real kernels.
//!
//! A script in the guest runs them and prints what each wrote and how it ended; what that has to be is said here.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code fails by panicking"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use livepatch_rig::certs::Authority;
use livepatch_rig::kernel_vm::{self, Boot, GuestFile, KernelVmSpec};
use livepatch_rig::kernels::{Kernel, Series};
use livepatch_rig::{modules, payload};
use serde_json::{Value, json};

/// `step NAME COMMAND...` runs a command; `began NAME COMMAND...` begins one and `ended NAME` waits for it.
const SCRIPT: &str = r#"
mount -t securityfs x /sys/kernel/security
A=/livepatch-agent
M=/modules
ended() {
    wait $2; code=$?
    echo "@@ $1"; cat /tmp/$1.out; sed 's/^/!! /' /tmp/$1.err; echo "@@ exit $code"
}
began() { name=$1; shift; "$@" >/tmp/$name.out 2>/tmp/$name.err & last=$!; }
step() { began "$@"; ended $1 $last; }
say() { echo "@@ $1"; shift; "$@" 2>/dev/null; echo "@@ exit 0"; }
until_is() { n=0; while [ "$(cat $1 2>/dev/null)" != $2 ] && [ $n -lt 600 ]; do sleep 0.1; n=$((n + 1)); done; }

step doctor $A doctor -o json
step inspect $A inspect -o json $M/lp_offband_v1.ko /init
step inspect-one $A inspect -o json $M/lp_cumulative_v1.ko
step inspect-table $A inspect $M/lp_stalling.ko
step status-empty $A status -o json
step check-good $A check -o json $M/lp_cumulative_v1.ko
step check-refused $A check -o json $M/lp_unknown_symbol.ko
step check-table $A check $M/lp_unknown_symbol.ko
step check-script $A check -o json /init
step dry-run $A load --dry-run -o json $M/lp_cumulative_v1.ko
say dry-run-left ls /sys/kernel/livepatch
step load $A load -o json $M/lp_cumulative_v1.ko
say load-effective sed -n 's/^livepatch: //p' /proc/version
step load-again $A load -o json $M/lp_cumulative_v1.ko
step load-refused $A load -o json $M/lp_refusing_callback.ko
step load-shared $A load -o json $M/lp_offband_conflict.ko
step load-parameters $A load -o json $M/lp_offband_v1.ko -- 'bogus=the world'
say parameters-seen sh -c 'dmesg | grep -c "unknown parameter .bogus. ignored"'
step load-lost $A load -o json $M/lp_cumulative_v2.ko
step status $A status -o json
step status-table $A status

ifconfig lo 127.0.0.1 up
export KUBECONFIG=/kubeconfig NODE_NAME=guest POD_NAMESPACE=livepatch-system
began agent $A run --livepatch-dir /sys/kernel/livepatch --proc-dir /proc --log-format text; agent=$last
n=0; while ! grep -q FLOCK /proc/locks && [ $n -lt 600 ]; do sleep 0.1; n=$((n + 1)); done
step status-agent $A status -o json
step load-locked $A load -o json $M/lp_offband_other.ko
step unload-locked $A unload -o json lp_offband_v1
step unload-despite $A unload -o json --despite-agent lp-offband-v1
kill -TERM $agent
ended agent $agent

insmod $M/lp_sleeper.ko
sh -c 'printf "e\033[2Jvil" > /proc/self/comm; read x < /proc/lp_sleeper' & sleeper=$!
while ! grep -q lp_sleeper_read /proc/$sleeper/stack 2>/dev/null; do sleep 0.1; done
began load-interrupted $A load -o json --timeout 10m $M/lp_stalling.ko; load=$last
until_is /sys/kernel/livepatch/lp_stalling/transition 1
began watch $A watch --until-done -o json; watch=$last
began watch-lines $A watch --until-done; lines=$last
sleep 4
step status-transition $A status -o json
step status-transition-table $A status
step doctor-transition $A doctor -o json
step load-meanwhile $A load -o json $M/lp_offband_other.ko
kill -INT $load
ended load-interrupted $load
ended watch $watch
ended watch-lines $lines
step status-after $A status -o json
step load-timeout $A load -o json --timeout 4s $M/lp_stalling.ko
step load-timeout-table $A load --timeout 4s $M/lp_stalling.ko
say transitions-left sh -c 'cat /sys/kernel/livepatch/*/transition'

kill -9 $sleeper
n=0
for pause in 0.05 0.2 0.4 0.7 1.1 2; do
    n=$((n + 1))
    $A load -q $M/lp_offband_v2.ko >/dev/null || echo "@@ cannot load"
    began unload-signal-$n $A unload -q -o json lp_offband_v2; one=$last
    sleep $pause
    kill -TERM $one 2>/dev/null
    ended unload-signal-$n $one
    say unload-left-$n cat /sys/kernel/livepatch/lp_offband_v2/enabled
    [ -d /sys/module/lp_offband_v2 ] && $A unload -q lp_offband_v2 >/dev/null
done
step unload $A unload -o json lp_cumulative_v1
step unload-again $A unload -o json lp_cumulative_v1
step unload-ordinary $A unload -o json lp_sleeper
echo 1 > /proc/sys/kernel/ftrace_enabled
step usage $A load
mkdir -p /etc/livepatch; touch /etc/livepatch/stop
echo 0 > /proc/sys/kernel/ftrace_enabled
step doctor-unfit $A doctor -o json
step doctor-table $A doctor
step check-ftrace $A check -o json $M/lp_cumulative_v1.ko
"#;

/// For the real agent: an API server that nobody is.
const KUBECONFIG: &str = r#"{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c, user: u}}],
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1", certificate-authority: /ca.crt}}], users: [{name: u, user: {}}]}"#;

/// What is left of the sleeper's name, which holds an escape sequence.
const SLEEPER: &str = "e\u{fffd}[2Jvil";

/// What one command wrote and how it ended.
struct Step {
    code: i32,
    out: String,
    err: String,
}

/// All that happened, by name.
struct Steps(BTreeMap<String, Step>);

impl Steps {
    fn of(output: &str) -> Self {
        let mut steps = BTreeMap::new();
        let mut open: Option<(String, Step)> = None;
        for line in output.lines() {
            if let Some(code) = line.strip_prefix("@@ exit ") {
                let (name, mut step) = open.take().expect("a step");
                step.code = code.parse().unwrap();
                steps.insert(name, step);
            } else if let Some(name) = line.strip_prefix("@@ ") {
                let step = Step {
                    code: -1,
                    out: String::new(),
                    err: String::new(),
                };
                open = Some((name.to_owned(), step));
            } else if let Some((_, step)) = &mut open {
                let (into, line) = line
                    .strip_prefix("!! ")
                    .map_or((&mut step.out, line), |line| (&mut step.err, line));
                into.push_str(line);
                into.push('\n');
            }
        }
        Self(steps)
    }

    fn step(&self, name: &str) -> &Step {
        self.0.get(name).unwrap_or_else(|| panic!("no step {name}"))
    }

    /// The exit code and the answer in JSON.
    fn json(&self, name: &str) -> (i32, Value) {
        let step = self.step(name);
        let answer = serde_json::from_str(&step.out).unwrap_or_else(|error| panic!("{name}: {error}: {}", step.out));
        (step.code, answer)
    }

    /// Exit code, `result` and `reason` of a command that changes the host.
    fn changed(&self, name: &str) -> (i32, String, Value) {
        let (code, answer) = self.json(name);
        (
            code,
            answer["result"].as_str().unwrap().to_owned(),
            answer["reason"].clone(),
        )
    }
}

fn ended(code: i32, result: &str, reason: Value) -> (i32, String, Value) {
    (code, result.to_owned(), reason)
}

fn run_on(series: Series) {
    let kernel = Kernel::get(series).unwrap();
    let mut files = GuestFile::folder("modules", &modules::build(&kernel).unwrap()).unwrap();
    let program = payload::program("livepatch-agent", "livepatch-agent").unwrap();
    files.push(GuestFile::copy("livepatch-agent", program));
    files.push(GuestFile::text("kubeconfig", KUBECONFIG));
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::create(folder.path(), "ca").unwrap();
    files.push(GuestFile::text("ca.crt", authority.pem()));
    let spec = KernelVmSpec {
        kernel: &kernel,
        files,
        command: ["sh", "-uc", SCRIPT].map(str::to_owned).to_vec(),
        deadline: Duration::from_mins(40),
        // These tests take minutes: on a machine with little time to give, the guest's clocks must not be what fails.
        boot: Boot {
            parameters: "no_timer_check nowatchdog rcupdate.rcu_cpu_stall_suppress=1",
            ..Boot::default()
        },
    };
    let outcome = kernel_vm::run(&spec).unwrap();
    print!("{}", outcome.output);
    assert!(
        !outcome.output.contains('\u{1b}'),
        "an escape sequence reached the terminal"
    );
    let steps = Steps::of(&outcome.output);
    files_are_described(&steps, &kernel);
    checks(&steps);
    loads(&steps);
    the_lock_of_the_host(&steps);
    a_stalled_load(&steps);
    unloads(&steps);
    doctor(&steps);
}

fn files_are_described(steps: &Steps, kernel: &Kernel) {
    let (code, several) = steps.json("inspect");
    assert_eq!(
        (code, several.as_array().unwrap().len()),
        (1, 1),
        "the other file is no livepatch"
    );
    assert_eq!(several[0]["name"], "lp_offband_v1");
    assert!(
        steps.step("inspect").err.contains("/init: NotElf"),
        "{}",
        steps.step("inspect").err
    );
    let (code, one) = steps.json("inspect-one");
    assert_eq!((code, &one["replace"]["value"]), (0, &json!("true")));
    assert_eq!(one["kernelRelease"], kernel.release());
    assert_eq!(one["objects"][0]["functions"][0]["name"], "version_proc_show");
    assert!(
        steps
            .step("inspect-table")
            .out
            .contains("lp_sleeper  lp_sleeper_read    1")
    );
}

fn checks(steps: &Steps) {
    let (code, good) = steps.json("check-good");
    assert_eq!(
        (code, &good["verdict"], &good["findings"]),
        (0, &json!("wouldLoad"), &json!([])),
        "{good}"
    );
    let (code, refused) = steps.json("check-refused");
    assert_eq!((code, &refused["verdict"]), (2, &json!("wouldBeRefused")));
    let finding = &refused["findings"][0];
    assert_eq!(
        (&finding["weight"], &finding["reason"]),
        (&json!("fails"), &json!("SymbolNotFound"))
    );
    assert!(
        finding["advice"]
            .as_str()
            .unwrap()
            .contains("build the livepatch from its sources")
    );
    let table = &steps.step("check-table").out;
    assert!(
        table.starts_with("lp_unknown_symbol would be refused\n") && table.contains("SymbolNotFound: "),
        "{table}"
    );
    let (code, script) = steps.json("check-script");
    assert_eq!((code, &script["findings"][0]["reason"]), (2, &json!("NotElf")));
    assert_eq!(steps.json("dry-run").0, 0);
    assert_eq!(steps.step("dry-run-left").out, "");
}

fn loads(steps: &Steps) {
    assert_eq!(steps.changed("load"), ended(0, "loaded", Value::Null));
    assert_eq!(steps.step("load-effective").out, "cumulative-v1\n");
    assert_eq!(steps.changed("load-again"), ended(0, "alreadyLoaded", Value::Null));
    assert_eq!(
        steps.changed("load-refused"),
        ended(2, "refused", json!("CallbackRefused"))
    );
    let (_, refused) = steps.json("load-refused");
    assert!(
        refused["kernelLog"][0]
            .as_str()
            .unwrap()
            .contains("pre-patch callback failed"),
        "{refused}"
    );
    assert_eq!(
        steps.changed("load-shared"),
        ended(2, "refused", json!("SharedFunction"))
    );
    assert_eq!(steps.changed("load-parameters"), ended(0, "loaded", Value::Null));
    assert_eq!(steps.step("parameters-seen").out, "1\n");
    assert_eq!(steps.changed("load-lost"), ended(2, "refused", json!("FixWouldBeLost")));
    let (_, status) = steps.json("status");
    let names: Vec<&str> = status["livepatches"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| l["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["lp_cumulative_v1", "lp_offband_v1"]);
    assert_eq!(
        (&status["livepatches"][0]["state"], &status["transition"]),
        (&json!("enabled"), &Value::Null)
    );
    assert_eq!(
        status["livepatches"][0]["buildId"],
        steps.json("inspect-one").1["buildId"]
    );
    assert_eq!(
        (&status["unknown"], &status["agent"]["lockHeld"]),
        (&json!([]), &json!(false))
    );
    assert!(steps.step("status-table").out.contains("lp_offband_v1     enabled"));
    assert_eq!(steps.json("status-empty").1["livepatches"], json!([]));
    assert_eq!(steps.step("usage").code, 64);
}

/// The agent itself holds it, without an API server to talk to.
fn the_lock_of_the_host(steps: &Steps) {
    let (_, status) = steps.json("status-agent");
    assert_eq!(status["agent"]["lockHeld"], true);
    let holder = status["agent"]["holder"].as_str().unwrap();
    assert!(holder.contains("livepatch-agent"), "{holder}");
    for name in ["load-locked", "unload-locked"] {
        assert_eq!(steps.changed(name), ended(2, "refused", json!("AgentOwnsHost")));
        let (_, refused) = steps.json(name);
        assert!(refused["advice"].as_str().unwrap().contains("--despite-agent"));
        assert!(refused["message"].as_str().unwrap().contains("pid "), "{refused}");
    }
    assert_eq!(steps.changed("unload-despite"), ended(0, "unloaded", Value::Null));
}

fn a_stalled_load(steps: &Steps) {
    // On a slow guest others may not have switched either.
    let sleeper = |tasks: &Value| {
        let tasks = tasks.as_array().unwrap().clone();
        tasks.into_iter().find(|task| task["comm"] == SLEEPER).unwrap()
    };
    let (_, status) = steps.json("status-transition");
    let transition = &status["transition"];
    assert_eq!(
        (&transition["name"], &transition["patching"]),
        (&json!("lp_stalling"), &json!(true))
    );
    let task = sleeper(&transition["tasks"]);
    assert!(task["stack"].to_string().contains("lp_sleeper_read"), "{transition}");
    assert_eq!(status["livepatches"][1]["state"], "patching");
    let table = &steps.step("status-transition-table").out;
    assert!(
        table.contains("lp_stalling: patching, ") && table.contains("lp_sleeper_read"),
        "{table}"
    );
    assert_eq!(
        steps.changed("load-meanwhile"),
        ended(2, "refused", json!("AnotherCommandRuns"))
    );

    assert_eq!(
        steps.changed("load-interrupted"),
        ended(4, "takenBack", json!("Interrupted"))
    );
    let (_, interrupted) = steps.json("load-interrupted");
    assert_eq!(interrupted["signal"], "SIGINT");
    sleeper(&interrupted["blockers"]);
    assert!(
        steps
            .step("load-interrupted")
            .err
            .contains("SIGINT: going to the nearest safe end")
    );
    let moments: Vec<Value> = steps
        .step("watch")
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(moments.len() >= 2, "{moments:?}");
    sleeper(&moments[0]["transition"]["tasks"]);
    assert_eq!(moments.last().unwrap()["transition"], Value::Null);
    let lines = &steps.step("watch-lines").out;
    assert!(
        lines.contains("lp_stalling: patching, ") && lines.contains(SLEEPER),
        "{lines}"
    );
    assert!(lines.contains("lp_stalling: gone"), "{lines}");
    let (_, after) = steps.json("status-after");
    assert_eq!(
        (after["livepatches"].as_array().unwrap().len(), &after["leftovers"]),
        (1, &json!([]))
    );
    assert_eq!(after["livepatches"][0]["state"], "enabled");

    assert_eq!(
        steps.changed("load-timeout"),
        ended(4, "takenBack", json!("TransitionTimedOut"))
    );
    let table = &steps.step("load-timeout-table").out;
    assert!(
        table.starts_with("lp_stalling taken back: TransitionTimedOut: "),
        "{table}"
    );
    assert!(table.contains(&format!("in the way: {SLEEPER}")), "{table}");
    assert_eq!(steps.step("transitions-left").out, "0\n");
}

fn unloads(steps: &Steps) {
    for n in 1..=6 {
        let step = steps.step(&format!("unload-signal-{n}"));
        let result = match step.out.as_str() {
            // Ended by the signal before it had begun to listen to any.
            "" => "",
            out if out.contains("\"unloaded\"") => "unloaded",
            _ => "takenBack",
        };
        let left = &steps.step(&format!("unload-left-{n}")).out;
        match (step.code, result, left.as_str()) {
            (0, "unloaded", "") | (4, "takenBack", "1\n") | (143, "", "1\n") => {}
            other => panic!("half done: {other:?}"),
        }
    }
    assert_eq!(steps.changed("unload"), ended(0, "unloaded", Value::Null));
    assert_eq!(steps.changed("unload-again"), ended(2, "refused", json!("NotLoaded")));
    assert_eq!(
        steps.changed("unload-ordinary"),
        ended(2, "refused", json!("NotALivepatch"))
    );
}

fn doctor(steps: &Steps) {
    let (code, fit) = steps.json("doctor");
    assert_eq!((code, &fit["fit"]), (0, &json!(true)), "{fit}");
    let finding = |name: &str, check: &str| {
        let (_, answer) = steps.json(name);
        let checks = answer["checks"].as_array().unwrap().clone();
        let item = checks.into_iter().find(|item| item["check"] == check).unwrap();
        (item["finding"].clone(), item["reason"].clone())
    };
    assert_eq!(
        finding("doctor-transition", "transition"),
        (json!("notice"), json!("TransitionRunning"))
    );
    assert_eq!(finding("doctor-transition", "agent").0, json!("good"));
    assert_eq!(steps.json("doctor-unfit").0, 2);
    assert_eq!(
        finding("doctor-unfit", "ftrace"),
        (json!("unfit"), json!("FtraceDisabled"))
    );
    assert_eq!(
        finding("doctor-unfit", "stop switches"),
        (json!("notice"), json!("Stopped"))
    );
    assert!(
        steps
            .step("doctor-table")
            .out
            .ends_with("This host is not fit for livepatches.\n")
    );
    let (code, check) = steps.json("check-ftrace");
    assert_eq!((code, &check["findings"][0]["reason"]), (2, &json!("FtraceDisabled")));
}

#[test]
fn commands_on_linux_6_1() {
    run_on(Series::Linux6_1);
}

#[test]
fn commands_on_linux_6_12() {
    run_on(Series::Linux6_12);
}
