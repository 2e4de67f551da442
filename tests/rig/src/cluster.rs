//! A whole cluster: a control plane, a registry and nodes with livepatch kernels.
//!
//! Does IO. Nodes boot side by side. Dropping the cluster ends everything; in a panic, logs, consoles and objects are
//! kept and their place is told.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};

use crate::control_plane::{self, ControlPlane};
use crate::kubectl::Kubectl;
use crate::node_vm::{NodeSpec, NodeVm};
use crate::registry::{self, Registry};
use crate::{node_image, progress, turn};

/// From power-on to Ready. 25 s are enough on two processors that nobody else uses; beside builds it was ten times that.
const READY: Duration = Duration::from_mins(10);

/// What cluster to start.
#[derive(Debug, Clone)]
pub struct ClusterSpec {
    /// Its nodes.
    pub nodes: Vec<NodeSpec>,
    /// The control plane; [`control_plane::Options::full`] unless a test needs other flags.
    pub control_plane: control_plane::Options,
}

impl ClusterSpec {
    /// A cluster of these nodes.
    pub fn new(nodes: impl IntoIterator<Item = NodeSpec>) -> Self {
        Self {
            nodes: nodes.into_iter().collect(),
            control_plane: control_plane::Options::full(),
        }
    }
}

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    // In the order of the drop: nodes before what they talk to.
    nodes: Vec<NodeVm>,
    registry: Registry,
    plane: ControlPlane,
    /// Last: the turn is over when nothing runs any more.
    _turn: File,
}

impl Cluster {
    /// Starts one and waits until all nodes are Ready. On a small machine it first waits for a cluster of another process
    /// to end; a process that holds one and starts another there waits for ever.
    pub fn start(spec: ClusterSpec) -> Result<Self> {
        // Built before anything runs, so that a build does not slow a booting node down.
        node_image::disk()?;
        let sandbox = node_image::sandbox()?;
        let turn = turn::take()?;
        let registry = Registry::start(registry::Options::default())?;
        registry.push(&sandbox, node_image::SANDBOX, "1")?;
        let plane = ControlPlane::start(spec.control_plane)?;
        let mut cluster = Self {
            nodes: Vec::new(),
            registry,
            plane,
            _turn: turn,
        };
        let started = cluster.start_nodes(&spec.nodes);
        if started.is_err() {
            cluster.keep();
        }
        started.map(|()| cluster)
    }

    fn start_nodes(&mut self, specs: &[NodeSpec]) -> Result<()> {
        let names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
        progress::step(&format!("start the nodes {}", names.join(", ")), || {
            let registry = self.registry.host_seen_from_vm();
            let started: Vec<Result<NodeVm>> = thread::scope(|scope| {
                let starting: Vec<_> = (0..=u8::MAX)
                    .zip(specs)
                    .map(|(index, spec)| {
                        let (plane, registry) = (&self.plane, &registry);
                        scope.spawn(move || NodeVm::start(plane, registry, index, spec.clone()))
                    })
                    .collect();
                starting.into_iter().map(joined).collect()
            });
            for node in started {
                self.nodes.push(node?);
            }
            self.on_each_node(NodeVm::wait_booted)?;
            Ok(())
        })?;
        for node in &self.nodes {
            self.wait_ready(node.name())?;
        }
        // What a power cut loses shall be the test's doing, not what the node had not yet written of its own.
        self.on_each_node(|node| node.shell("sync"))?;
        Ok(())
    }

    /// Does something on all nodes at once; the first error counts.
    pub fn on_each_node<T: Send>(&self, work: impl Fn(&NodeVm) -> Result<T> + Sync) -> Result<Vec<T>> {
        thread::scope(|scope| {
            let running: Vec<_> = self.nodes.iter().map(|node| scope.spawn(|| work(node))).collect();
            running.into_iter().map(joined).collect()
        })
    }

    /// Waits until the API server shows a node as Ready, in its present boot.
    pub fn wait_ready(&self, node: &str) -> Result<()> {
        let boot_id = self.node(node)?.boot_id()?;
        let query = "--output=jsonpath={.status.nodeInfo.bootID} {.status.conditions[?(@.type=='Ready')].status} \
                     {.status.conditions[?(@.type=='Ready')].message}";
        let wanted = format!("{boot_id} True");
        progress::wait_for(&format!("node {node} to be Ready"), READY, || {
            Ok(match self.plane.admin().run(&["get", "node", node, query]) {
                Ok(seen) if seen.starts_with(&wanted) => progress::Waited::Ready(()),
                Ok(seen) => progress::Waited::NotYet(seen),
                Err(error) => progress::Waited::NotYet(format!("{error:#}")),
            })
        })
    }

    /// Pulls a node's plug, switches it on and waits until it is Ready again. How long that took.
    pub fn hard_reset(&self, node: &str) -> Result<Duration> {
        let started = Instant::now();
        self.node(node)?.hard_reset()?;
        self.wait_ready(node)?;
        Ok(started.elapsed())
    }

    /// A node by its name.
    pub fn node(&self, name: &str) -> Result<&NodeVm> {
        match self.nodes.iter().find(|node| node.name() == name) {
            Some(node) => Ok(node),
            None => bail!("the cluster has no node {name}"),
        }
    }

    /// All nodes, in the order of the specification.
    pub fn nodes(&self) -> &[NodeVm] {
        &self.nodes
    }

    /// The control plane.
    pub fn control_plane(&self) -> &ControlPlane {
        &self.plane
    }

    /// The registry that nodes pull from; references begin with [`Registry::host_seen_from_vm`].
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// kubectl as cluster administrator.
    pub fn kubectl(&self) -> &Kubectl {
        self.plane.admin()
    }

    /// The administrator's kubeconfig file.
    pub fn kubeconfig(&self) -> &Path {
        self.plane.admin().kubeconfig()
    }

    /// Keeps logs, consoles and objects and says where. Called on a failure, before the drop.
    pub fn keep(&self) {
        self.plane.keep();
        for node in &self.nodes {
            node.keep();
        }
        let registry = Arc::clone(self.registry.folder());
        registry.keep();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if thread::panicking() {
            self.keep();
        }
    }
}

fn joined<T>(thread: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread
        .join()
        .map_err(|_| anyhow!("the thread of a node panicked"))
        .flatten()
}
