//! What a case needs of the kernel it runs on. No IO.

use std::ffi::CString;
use std::sync::Arc;
use std::time::Duration;

use livepatch_kernel::operation::{
    Disable, DisableOutcome, Load, LoadOutcome, LoadRequest, OnTimeout, Operation as _, Unload, UnloadOutcome, run,
};
use livepatch_kernel::{BuildId, Kernel};

/// One module of the tests.
#[derive(Debug, Clone)]
pub struct Module {
    /// Name in kernel spelling.
    pub name: String,
    /// Build id.
    pub build_id: Option<BuildId>,
    /// The file.
    pub image: Arc<[u8]>,
}

/// A kernel under test with what surrounds it.
pub trait Lab {
    /// The kernel.
    fn kernel(&self) -> &dyn Kernel;

    /// A module of the test modules, by name.
    fn module(&self, name: &str) -> Module;

    /// The module whose replacement of a function of `/proc` is effective, as seen by reading that file.
    fn effective(&self, file: ProcFile) -> Option<String>;

    /// Puts a task to sleep in a function of the module `lp_sleeper`, which is loaded first; its pid.
    fn put_to_sleep(&self) -> u32;

    /// Wakes all those tasks, and removes `lp_sleeper` when no livepatch is in its way.
    fn wake(&self);

    /// Writes `kernel.ftrace_enabled`.
    fn set_ftrace(&self, enabled: bool);

    /// Lets a kprobe with a post handler hold `version_proc_show`, or takes it away.
    fn hold_version(&self, held: bool);

    /// Writes `force` of a livepatch in transition.
    fn force(&self, name: &str);
}

/// A file of `/proc` that livepatches of the tests change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcFile {
    /// `version`, by the cumulatives and `lp_offband_conflict`.
    Version,
    /// `execdomains`, by the off-bands and `lp_cumulative_v3`.
    Execdomains,
    /// `loadavg`, by `lp_offband_state`, `lp_stalling` and `lp_cumulative_v2`.
    Loadavg,
}

/// Enough for any transition that nothing holds up, on a slow guest.
const AMPLE: Duration = Duration::from_mins(5);

impl dyn Lab + '_ {
    /// A request to load a module within a time.
    pub fn request(&self, name: &str, within: Duration, on_timeout: OnTimeout) -> LoadRequest {
        let module = self.module(name);
        LoadRequest {
            name: module.name,
            build_id: module.build_id,
            image: module.image,
            parameters: CString::default(),
            deadline: self.kernel().now() + within,
            on_timeout,
        }
    }

    /// Loads a module, with ample time.
    pub fn load(&self, name: &str) -> LoadOutcome {
        run(
            &mut Load::new(self.request(name, AMPLE, OnTimeout::Revert)),
            self.kernel(),
            |_| (),
        )
    }

    /// Loads a module that has to load.
    pub fn loaded(&self, name: &str) {
        match self.load(name) {
            LoadOutcome::Loaded(loaded) => assert_eq!(loaded.repair, None, "{name}"),
            outcome => panic!("{name} was not loaded: {outcome:?}"),
        }
    }

    /// Begins to load a module and stops looking when its transition is under way.
    pub fn begun(&self, name: &str, within: Duration, on_timeout: OnTimeout) -> Load {
        let mut load = Load::new(self.request(name, within, on_timeout));
        loop {
            match load.step(self.kernel()) {
                livepatch_kernel::operation::Step::Wait(span) => self.kernel().sleep(span),
                livepatch_kernel::operation::Step::Done(outcome) => panic!("{name} ended: {outcome:?}"),
            }
            if self
                .kernel()
                .standing(name)
                .unwrap()
                .is_some_and(|standing| standing.transition)
            {
                return load;
            }
        }
    }

    /// Disables a livepatch, with ample time.
    pub fn disable(&self, name: &str) -> DisableOutcome {
        let deadline = self.kernel().now() + AMPLE;
        run(
            &mut Disable::new(name, deadline, OnTimeout::Revert),
            self.kernel(),
            |_| (),
        )
    }

    /// Disables a livepatch that has to be disabled.
    pub fn disabled(&self, name: &str) {
        let outcome = self.disable(name);
        assert!(matches!(outcome, DisableOutcome::Disabled), "{name}: {outcome:?}");
    }

    /// Removes a module.
    pub fn unload(&self, name: &str) -> UnloadOutcome {
        let deadline = self.kernel().now() + Duration::from_secs(15);
        run(&mut Unload::new(name, deadline), self.kernel(), |_| ())
    }

    /// Removes a module that has to go.
    pub fn unloaded(&self, name: &str) {
        let outcome = self.unload(name);
        assert!(matches!(outcome, UnloadOutcome::Unloaded), "{name}: {outcome:?}");
    }

    /// Names of the livepatches that are enabled and out of transition, sorted.
    pub fn active(&self) -> Vec<String> {
        let all = self.kernel().livepatches().unwrap();
        let mut names: Vec<String> = all
            .into_iter()
            .filter(|l| l.standing.is_effective())
            .map(|l| l.name)
            .collect();
        names.sort();
        names
    }

    /// Names of the leftovers, sorted.
    pub fn leftovers(&self) -> Vec<String> {
        let mut names: Vec<String> = self.kernel().leftovers().unwrap().into_iter().map(|m| m.name).collect();
        names.sort();
        names
    }

    /// Waits until something holds.
    pub fn eventually(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let until = self.kernel().now() + AMPLE;
        while !holds() {
            assert!(self.kernel().now() < until, "never: {what}");
            self.kernel().sleep(Duration::from_millis(50));
        }
    }

    /// Removes everything that a case may have left.
    pub fn clear(&self) {
        self.wake();
        self.hold_version(false);
        self.set_ftrace(true);
        self.eventually("no transition", || self.kernel().in_transition().unwrap().is_none());
        for name in self.active() {
            self.disabled(&name);
        }
        for name in self.leftovers() {
            self.unloaded(&name);
        }
        self.wake();
        assert!(self.kernel().livepatches().unwrap().is_empty());
    }
}
