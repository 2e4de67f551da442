//! A pod with the rights of the node agent, and no others, can do on a node what the agent has to do.
//!
//! This is the ground the chart stands on: the security context and mounts below are those of its `DaemonSet`.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use livepatch_rig::cluster::{Cluster, ClusterSpec};
use livepatch_rig::debian;
use livepatch_rig::image::{Contents, File, Image};
use livepatch_rig::kernels::{Kernel, Series};
use livepatch_rig::node_vm::{NodeSpec, NodeVm};
use livepatch_rig::{modules, progress};
use serde_json::{Value, json};

/// What the pod tries; each line of its output is checked below.
const SCRIPT: &str = r#"
export PATH=/bin
profile=$(cat /proc/self/attr/apparmor/current 2>/dev/null || cat /proc/self/attr/current)
echo "profile: $profile"
insmod /var/lib/livepatch/lp_cumulative_v1.ko; echo "load: $?"
echo "marker: $(sed -n 's/^livepatch: //p' /proc/version)"
while grep -q 1 /host/livepatch/lp_cumulative_v1/transition; do sleep 0.2; done
tasks=0 unreadable=0
for state in /host/proc/[0-9]*/patch_state; do
	if read -r value <$state; then tasks=$((tasks + 1)); else [ -e "$state" ] && unreadable=$((unreadable + 1)); fi
done
[ $tasks -gt 40 ] && echo "host tasks: many"
echo "unreadable: $unreadable"
echo 0 >/host/livepatch/lp_cumulative_v1/enabled; echo "disable: $?"
while [ -e /host/livepatch/lp_cumulative_v1 ]; do sleep 0.2; done
tries=0
until rmmod lp_cumulative_v1 2>/dev/null; do tries=$((tries + 1)); [ $tries -lt 50 ] || break; sleep 0.2; done
grep -q ^lp_cumulative_v1 /proc/modules && echo "remove: failed" || echo "remove: 0"
dmesg >/dev/null 2>&1; echo "kernel log: $?"
cat /sys/kernel/notes >/dev/null; echo "notes: $?"
(echo x >/sys/kernel/uevent_seqnum) 2>/dev/null; echo "write to sys: $?"
cat /host/proc/1/stack >/dev/null 2>&1; echo "stack of another: $?"
touch /forbidden 2>/dev/null; echo "write to root: $?"
touch "/var/lib/livepatch/$(cat /proc/sys/kernel/random/boot_id)"; echo "write to state: $?"
[ -e /dev/kmsg ]; echo "kmsg: $?"
echo done
while :; do sleep 1; done
"#;

fn daemon_set(image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": { "name": "agent", "namespace": "default" },
        "spec": {
            "selector": { "matchLabels": { "app": "agent" } },
            "template": {
                "metadata": { "labels": { "app": "agent" } },
                "spec": {
                    "hostPID": false,
                    "dnsPolicy": "Default",
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{
                        "name": "agent",
                        "image": image,
                        "command": ["/bin/busybox", "sh", "-c", SCRIPT],
                        "securityContext": {
                            "privileged": false, "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                            "runAsUser": 0,
                            "capabilities": { "drop": ["ALL"], "add": ["SYS_MODULE", "DAC_READ_SEARCH", "SYSLOG"] },
                            "seccompProfile": { "type": "RuntimeDefault" },
                            "appArmorProfile": { "type": "RuntimeDefault" },
                        },
                        "volumeMounts": [
                            { "name": "livepatch", "mountPath": "/host/livepatch" },
                            { "name": "proc", "mountPath": "/host/proc", "readOnly": true },
                            { "name": "state", "mountPath": "/var/lib/livepatch" },
                            { "name": "config", "mountPath": "/etc/livepatch", "readOnly": true },
                            { "name": "modules", "mountPath": "/lib/modules", "readOnly": true },
                            { "name": "tmp", "mountPath": "/tmp" },
                        ],
                    }],
                    "volumes": [
                        { "name": "livepatch", "hostPath": { "path": "/sys/kernel/livepatch", "type": "Directory" } },
                        { "name": "proc", "hostPath": { "path": "/proc" } },
                        { "name": "state", "hostPath": { "path": "/var/lib/livepatch", "type": "DirectoryOrCreate" } },
                        { "name": "config", "hostPath": { "path": "/etc/livepatch", "type": "DirectoryOrCreate" } },
                        { "name": "modules", "hostPath": { "path": "/lib/modules" } },
                        // For the script's own notes.
                        { "name": "tmp", "emptyDir": {} },
                    ],
                },
            },
        },
    })
}

/// busybox with links for what the script calls.
fn image() -> Result<Image> {
    let busybox = fs::read(debian::program_path("busybox").context("no busybox")?)?;
    let mut files = vec![File {
        path: "bin/busybox".into(),
        mode: 0o755,
        content: busybox,
    }];
    for name in [
        "cat", "dmesg", "grep", "insmod", "mount", "rmmod", "sed", "sleep", "tail", "touch",
    ] {
        let content = format!("#!/bin/busybox sh\nexec /bin/busybox {name} \"$@\"\n").into_bytes();
        files.push(File {
            path: format!("bin/{name}"),
            mode: 0o755,
            content,
        });
    }
    Image::assemble(&Contents {
        files,
        entrypoint: "/bin/busybox".into(),
        user: "0:0".into(),
    })
}

fn node(name: &str, kernel: Series) -> Result<NodeSpec> {
    let built = modules::build(&Kernel::get(kernel)?)?;
    let mut spec = NodeSpec::new(name, kernel);
    let module = fs::read(built.join("lp_cumulative_v1.ko"))?;
    spec.files
        .push(("var/lib/livepatch/lp_cumulative_v1.ko".into(), 0o600, module));
    Ok(spec)
}

#[test]
fn a_pod_with_the_rights_of_the_agent_can_do_its_work() {
    let cluster = Cluster::start(ClusterSpec::new([
        node("old", Series::Linux6_1).unwrap(),
        node("new", Series::Linux6_12).unwrap(),
    ]))
    .unwrap();
    let started = Instant::now();
    let image = cluster.registry().push(&image().unwrap(), "busybox", "1").unwrap();
    let image = format!("{}/{image}", cluster.registry().host_seen_from_vm());
    cluster.kubectl().apply(&daemon_set(&image).to_string()).unwrap();
    for node in cluster.nodes() {
        let selector = format!("--field-selector=spec.nodeName={}", node.name());
        let printed = progress::wait_for(&format!("the pod on {}", node.name()), Duration::from_mins(3), || {
            let pods = cluster.kubectl().get(&["pods", "--selector=app=agent", &selector])?;
            let Some(name) = pods["items"][0]["metadata"]["name"].as_str() else {
                return Ok(progress::Waited::NotYet("no pod".into()));
            };
            Ok(match cluster.kubectl().run(&["logs", name]) {
                Ok(log) if log.contains("\ndone\n") => progress::Waited::Ready(log),
                Ok(log) => progress::Waited::NotYet(format!("{}\n{log}", pods["items"][0]["status"])),
                Err(error) => progress::Waited::NotYet(format!("{error:#}\n{}", pods["items"][0]["status"])),
            })
        })
        .unwrap();
        assert_eq!(
            printed.lines().collect::<Vec<_>>(),
            [
                "profile: cri-containerd.apparmor.d (enforce)",
                "load: 0",
                "marker: cumulative-v1",
                "host tasks: many",
                "unreadable: 0",
                "disable: 0",
                "remove: 0",
                "kernel log: 0",
                "notes: 0",
                "write to sys: 1",
                "stack of another: 1",
                "write to root: 1",
                "write to state: 0",
                "kmsg: 1",
                "done",
            ],
            "node {}",
            node.name()
        );
    }
    progress::line(&format!("pods done after {}", progress::seconds(started.elapsed())));

    // A power cut and a panic: same node, same machine, another boot, and the pod comes back.
    let look = |what: &str| {
        let path = format!("--output=jsonpath={{{what}}}");
        cluster.kubectl().run(&["get", "node", "new", &path]).unwrap()
    };
    let identity = || (look(".metadata.uid"), look(".status.nodeInfo.machineID"));
    let (before, boot) = (identity(), look(".status.nodeInfo.bootID"));
    let took = cluster.hard_reset("new").unwrap();
    progress::line(&format!("Ready again after {}", progress::seconds(took)));
    assert_eq!(identity(), before);
    assert_ne!(look(".status.nodeInfo.bootID"), boot);
    let node = cluster.node("new").unwrap();
    wait_for_pod(node).unwrap();
    node.crash().unwrap();
    cluster.wait_ready("new").unwrap();
    assert_eq!(identity(), before);
    wait_for_pod(node).unwrap();
}

/// Waits until the script in the pod has left the file named after the node's boot.
fn wait_for_pod(node: &NodeVm) -> Result<()> {
    let looked = format!("test -e /var/lib/livepatch/{}", node.boot_id()?);
    progress::wait_for("the pod to run again", Duration::from_mins(10), || {
        Ok(match node.run_command(&looked)?.code {
            0 => progress::Waited::Ready(()),
            code => progress::Waited::NotYet(format!("exit code {code}")),
        })
    })
}
