//! One node whose agent can be cut off between any two things it does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use livepatch_agent::aftermath::{self, Aftermath};
use livepatch_agent::decide::{Decision, Disable, IDLE, JournalState, Key, Load, Snapshot, Step, decide};
use livepatch_agent::journal::{Entry, Failure, Journal, Phase};
use livepatch_agent::retry::{Retries, Subject};
use livepatch_agent::truth::Truth;
use livepatch_crds::NodeLivepatchSpec;
use livepatch_crds::node::GrantResult;
use livepatch_kernel::operation::{self, LoadRequest, OnTimeout, Operation, Roster, Unload};
use livepatch_kernel::{BootId, BuildId, FakeKernel, Kernel as _};
use livepatch_module::Inspection;
use livepatch_planner::node::Mode;

use crate::modules::{BUILT, Built};

const SETTLE: Duration = Duration::from_mins(10);

/// The agent or the whole node has come to a sudden end.
#[derive(Debug)]
pub struct Cut;

/// One node.
pub struct Node {
    pub kernel: FakeKernel,
    pub spec: NodeLivepatchSpec,
    /// Whether the API server confirms grants.
    pub api: bool,
    /// What is on disk.
    pub disk: Option<Journal>,
    memory: JournalState,
    retries: Retries,
    prepared: BTreeMap<String, Inspection>,
    /// Things that may still be done before the end.
    pub fuse: Option<u32>,
    pub boots: u32,
    /// Somebody else took livepatches out by hand.
    pub meddled: bool,
}

impl Node {
    pub fn new() -> Self {
        let kernel = FakeKernel::new();
        kernel.transition_takes(Duration::from_millis(30));
        for built in &BUILT {
            kernel.provide(built.name.as_bytes(), built.fake());
        }
        Self {
            kernel,
            spec: NodeLivepatchSpec::default(),
            api: true,
            disk: None,
            memory: JournalState::Missing,
            retries: Retries::default(),
            prepared: BTreeMap::new(),
            fuse: None,
            boots: 1,
            meddled: false,
        }
    }

    /// The agent begins anew, in the same boot.
    pub fn restart(&mut self) {
        self.fuse = None;
        self.retries = Retries::default();
        self.prepared = BTreeMap::new();
        self.memory = self.disk.clone().map_or(JournalState::Missing, JournalState::Known);
    }

    pub fn reboot(&mut self, cleanly: bool) {
        if let Some(journal) = self.disk.as_mut().filter(|_| cleanly) {
            journal.boots.left = true;
        }
        self.boots += 1;
        self.kernel.reboot(BootId(format!("boot-{}", self.boots)));
        self.kernel.transition_takes(Duration::from_millis(30));
        self.restart();
    }

    /// The agent takes in what has become of its node, and does nothing yet.
    pub fn wake_up(&mut self) {
        if let Step::Write(journal) = self.decide().step {
            self.keep(journal).unwrap();
        }
    }

    pub fn truth(&self) -> Truth {
        let names: BTreeSet<String> = match &self.memory {
            JournalState::Known(journal) => journal.entries.iter().map(|entry| entry.module.clone()).collect(),
            _ => BTreeSet::new(),
        };
        Truth::read(&self.kernel, &names).unwrap()
    }

    pub fn decide(&self) -> Decision {
        let truth = self.truth();
        decide(&Snapshot {
            spec: Some(&self.spec),
            truth: &truth,
            journal: &self.memory,
            stop: None,
            prepared: &self.prepared,
            retries: &self.retries,
            blockers: &[],
            settle: SETTLE,
        })
    }

    /// Steps until there is nothing to do. Gives back what was decided last.
    pub fn pass(&mut self) -> Result<Decision, Cut> {
        for _ in 0..64 {
            let decision = self.decide();
            if decision.step == Step::Nothing {
                return Ok(decision);
            }
            self.apply(decision.step)?;
        }
        Ok(Decision {
            recheck: Duration::from_secs(1),
            ..self.decide()
        })
    }

    /// Passes and lets the time between them pass, until all is at rest.
    pub fn rest(&mut self, most: usize) -> Result<Decision, Cut> {
        for _ in 0..most {
            let decision = self.pass()?;
            let open = decision
                .verdicts
                .iter()
                .any(|verdict| matches!(verdict.result, GrantResult::Pending | GrantResult::Transitioning));
            let waits = open
                || matches!(&self.memory, JournalState::Known(journal)
                if journal.entries.iter().any(|entry| entry.absence.is_some() || entry.is_going() || entry.is_under_way()));
            if decision.recheck >= IDLE && !waits {
                return Ok(decision);
            }
            self.kernel.advance(decision.recheck);
        }
        self.pass()
    }

    fn apply(&mut self, step: Step) -> Result<(), Cut> {
        match step {
            Step::Nothing => {}
            Step::Write(journal) => self.keep(journal)?,
            Step::Prepare(preparation) => {
                let sha256 = preparation.wanted.pair.sha256;
                let built = BUILT.iter().find(|built| built.sha256() == sha256).unwrap();
                self.prepared.insert(sha256, built.inspection());
            }
            Step::Load(load) => self.load(*load)?,
            Step::Disable(disable) => self.disable(*disable)?,
            Step::Follow(key) => self.follow(&key)?,
            Step::RemoveLeftover(name) => {
                let mut unload = Unload::new(name.clone(), self.kernel.now() + Duration::from_secs(1));
                self.operate(&mut unload)?;
                if self.kernel.module(&name).unwrap().is_some() {
                    let failure = Failure::new("LeftoverNotRemoved", "it stays");
                    self.wait(Subject::Leftover(name), failure);
                }
            }
        }
        Ok(())
    }

    fn load(&mut self, load: Load) -> Result<(), Cut> {
        let Load {
            mut entry,
            grant,
            subject,
        } = load;
        if grant.is_some() && !self.api {
            self.wait(subject, Failure::new("ApiUnavailable", "away"));
            return Ok(());
        }
        entry.roster = Roster::take(&self.kernel).unwrap();
        let journal = aftermath::before_load(self.journal(), &mut entry, self.kernel.now());
        self.keep(journal)?;
        let mut operation = operation::Load::new(request(&entry));
        let outcome = self.operate(&mut operation)?;
        let aftermath = aftermath::after_load(self.journal(), entry, subject, outcome);
        self.face(aftermath)
    }

    fn disable(&mut self, disable: Disable) -> Result<(), Cut> {
        let Disable {
            mut entry,
            target,
            grant,
            subject,
        } = disable;
        if grant.is_some() && !self.api {
            self.wait(subject, Failure::new("ApiUnavailable", "away"));
            return Ok(());
        }
        let journal = aftermath::before_disable(self.journal(), &mut entry, target.as_ref(), self.kernel.now());
        self.keep(journal)?;
        self.disabling(&entry, subject)
    }

    fn disabling(&mut self, entry: &Entry, subject: Subject) -> Result<(), Cut> {
        let mut operation = operation::Disable::new(&entry.module, entry.deadline, OnTimeout::Revert);
        let outcome = self.operate(&mut operation)?;
        let aftermath = aftermath::after_disable(self.journal(), entry, subject, outcome);
        self.face(aftermath)
    }

    fn follow(&mut self, key: &Key) -> Result<(), Cut> {
        let entry = self.journal().entry(&key.set_uid, &key.pair).cloned().unwrap();
        let subject = Subject::Follow(entry.pair.clone());
        if entry.is_going() {
            return self.disabling(&entry, subject);
        }
        let mut operation = operation::Load::resume(request(&entry), entry.started, entry.roster.clone());
        let outcome = self.operate(&mut operation)?;
        let aftermath = aftermath::after_load(self.journal(), entry, subject, outcome);
        self.face(aftermath)
    }

    fn face(&mut self, aftermath: Aftermath) -> Result<(), Cut> {
        if let Some(journal) = aftermath.journal {
            self.keep(journal)?;
        }
        if let Some(subject) = aftermath.ended {
            self.retries.forget(&subject);
        }
        if let Some((subject, failure)) = aftermath.waits {
            self.wait(subject, failure);
        }
        Ok(())
    }

    fn wait(&mut self, subject: Subject, failure: Failure) {
        self.retries.failed(subject, failure, self.kernel.now(), 0.5);
    }

    /// What to look at when something does not hold.
    pub fn told(&self) -> String {
        let entries = self.journal().entries.iter().map(|entry| {
            format!(
                "  {} {} {:?} {:?} {:?}\n",
                entry.set, entry.module, entry.boot, entry.phase, entry.absence
            )
        });
        let running = self.kernel.livepatches().unwrap();
        let running = running.iter().map(|one| format!("{} {:?}", one.name, one.standing));
        format!(
            "{}  boots {:?}\n  running {:?}\n  calls {:?}\n  retries {:?}",
            entries.collect::<String>(),
            self.journal().boots,
            running.collect::<Vec<_>>(),
            self.kernel.calls(),
            self.retries
        )
    }

    pub fn journal(&self) -> &Journal {
        let JournalState::Known(journal) = &self.memory else {
            unreachable!("each life begins with a pass");
        };
        journal
    }

    fn keep(&mut self, journal: Journal) -> Result<(), Cut> {
        self.tick()?;
        self.disk = Some(journal.clone());
        self.memory = JournalState::Known(journal);
        self.tick()
    }

    fn operate<O: Operation>(&mut self, operation: &mut O) -> Result<O::Outcome, Cut> {
        loop {
            self.tick()?;
            self.no_gap_where_none_is_due();
            self.nobody_is_out_without_need();
            match operation.step(&self.kernel) {
                operation::Step::Done(outcome) => return Ok(outcome),
                operation::Step::Wait(span) => self.kernel.sleep(span),
            }
        }
    }

    fn tick(&mut self) -> Result<(), Cut> {
        match &mut self.fuse {
            Some(0) => Err(Cut),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// But for an atomic replace, nothing of what is in effect by the journal is ever out of it: what is taken out is
    /// written down before.
    fn nobody_is_out_without_need(&self) {
        let JournalState::Known(journal) = &self.memory else {
            return;
        };
        if self.meddled || journal.entries.iter().any(sweeps) {
            return;
        }
        let boot = self.kernel.boot_id().unwrap();
        for entry in journal
            .entries
            .iter()
            .filter(|entry| entry.is_in_effect() && entry.boot == boot)
        {
            let standing = self.kernel.standing(&entry.module).unwrap();
            assert!(
                standing.is_some_and(|standing| standing.enabled),
                "{} is out of effect\n{}",
                entry.module,
                self.told()
            );
        }
    }

    /// While one version is loaded over another, and nothing is replaced, what the former one patches stays patched.
    fn no_gap_where_none_is_due(&self) {
        let JournalState::Known(journal) = &self.memory else {
            return;
        };
        let stacked = |entry: &&Entry| {
            let mode = entry.plan.as_ref().map(|plan| plan.mode);
            matches!(mode, Some(Mode::LoadFirst | Mode::Stacked)) && entry.phase == Phase::Starting { again: false }
        };
        if journal.entries.iter().any(sweeps) {
            return;
        }
        for target in journal.entries.iter().filter(stacked) {
            let holds = |entry: &&Entry| entry.set == target.set && entry.is_in_effect();
            for former in journal.entries.iter().filter(holds) {
                let Some(built) = built(&former.module) else { continue };
                for function in built.functions {
                    assert!(
                        self.meddled || self.kernel.effective(function).is_some(),
                        "{function} is unpatched while {} is loaded over {}",
                        target.module,
                        former.module
                    );
                }
            }
        }
    }
}

/// Whether an atomic replace may be under way.
fn sweeps(entry: &Entry) -> bool {
    let mode = entry.plan.as_ref().map(|plan| plan.mode);
    mode == Some(Mode::Atomic) && entry.is_under_way()
}

pub fn built(module: &str) -> Option<&'static Built> {
    BUILT.iter().find(|built| built.name == module)
}

fn request(entry: &Entry) -> LoadRequest {
    LoadRequest {
        name: entry.module.clone(),
        build_id: BuildId::try_from(entry.build_id.clone()).ok(),
        image: Arc::from(entry.module.as_bytes()),
        parameters: std::ffi::CString::default(),
        deadline: entry.deadline,
        on_timeout: entry.on_timeout(),
    }
}
