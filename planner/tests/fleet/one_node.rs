//! One node that was granted and has loaded, and what makes it another one.

use crate::stories::{CANARY, spec, three_nodes};
use crate::world::{World, outcome};
use jiff::SignedDuration;
use livepatch_crds::node::{Grant, GrantResult};
use livepatch_planner::fleet::snapshot::{BundleView, NodeObject, NodeView, RolloutView};
use livepatch_planner::fleet::standing::{
    Standing, Yardstick, is_carried_out, is_effective, is_unresolved, key, standing,
};

/// A node that was granted and has loaded; its rollout and artefact.
pub struct Scene {
    pub node: NodeView,
    pub rollout: RolloutView,
    pub bundle: BundleView,
    pub world: World,
    pub passed: bool,
}

pub fn scene() -> Scene {
    let mut world = three_nodes();
    world.add_set("fix", &spec("Cumulative", "{}", CANARY), &[("6.1", "m"), ("6.12", "m")]);
    world.steps(10);
    let mut node = world.snapshot.nodes["a"].clone();
    let object = node.object.as_ref().unwrap();
    assert!(is_effective(object, &object.spec.livepatches[0]));
    node.effective_since = [(key(&object.spec.livepatches[0]), world.now)].into();
    Scene {
        node,
        rollout: world.rollout("fix").clone(),
        bundle: world.set("fix").bundle.clone(),
        world,
        passed: false,
    }
}

impl Scene {
    pub fn object(&mut self) -> &mut NodeObject {
        self.node.object.as_mut().unwrap()
    }

    pub fn grant(&mut self) -> &mut Grant {
        &mut self.object().spec.livepatches[0]
    }

    pub fn says(&mut self, result: GrantResult, reason: &str) {
        let said = outcome(self.grant(), result, reason, "told");
        self.object().status.livepatches = vec![said];
    }

    pub fn loads_nothing(&mut self) {
        self.object().status.loaded.clear();
    }

    pub fn stands(&self) -> Standing {
        let yardstick = Yardstick {
            set_uid: "uid-fix",
            rollout: Some(&self.rollout),
            start: 1,
            bundle: &self.bundle,
            min_ready: SignedDuration::from_secs(2),
            now: self.world.now + SignedDuration::from_secs(2),
        };
        standing("a", &self.node, self.passed, &yardstick)
    }

    /// In a word, with the reason of a failure.
    pub fn told(&self) -> String {
        match self.stands() {
            Standing::Failed { reason, .. } => reason,
            other => format!("{other:?}"),
        }
    }

    pub fn is_effective(&mut self) -> bool {
        let grant = self.grant().clone();
        is_effective(self.object(), &grant)
    }

    pub fn is_carried_out(&mut self) -> bool {
        let grant = self.grant().clone();
        is_carried_out(self.object(), &grant)
    }

    pub fn is_unresolved(&mut self) -> bool {
        let grant = self.grant().clone();
        is_unresolved(self.object(), &grant)
    }
}

/// What makes a node another one than that of [`scene`].
pub type Change = fn(&mut Scene);

/// Each change by itself, and what is told then.
pub fn each<T: std::fmt::Debug + PartialEq>(of: impl Fn(&mut Scene) -> T, changes: &[(Change, T)]) {
    for (number, (change, expected)) in changes.iter().enumerate() {
        let mut scene = scene();
        change(&mut scene);
        assert_eq!(of(&mut scene), *expected, "change {number}");
    }
}
