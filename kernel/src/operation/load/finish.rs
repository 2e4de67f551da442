//! From a running transition to its end. Reads the kernel.

use std::time::Duration;

use super::super::Step;
use super::super::sampler::Sampler;
use super::{Load, LoadOutcome, Loaded, Next, OnTimeout, Repair, SOON, State};
use crate::seam::Kernel;

impl Load {
    pub(super) fn patching(&mut self, kernel: &dyn Kernel) -> Next {
        let Some(standing) = kernel.standing(&self.request.name)? else {
            return self.entry_gone(kernel);
        };
        if standing.is_effective() {
            return self.read_back(kernel);
        }
        if !standing.enabled {
            // Somebody else took it back, or an earlier process of ours did.
            self.state = State::Unpatching(kernel.now());
            return Ok(Step::Wait(Duration::ZERO));
        }
        if let Some(lost) = &self.repair {
            // A repair only goes forward.
            if kernel.now() >= lost.deadline {
                return Ok(self.still_in_transition(kernel, "it repairs a lost race and only goes forward"));
            }
        } else if self.late(kernel) {
            if self.request.on_timeout == OnTimeout::Wait && !self.interrupted {
                return Ok(self.still_in_transition(kernel, "as asked"));
            }
            self.look(kernel);
            self.state = State::Sampling(Sampler::default(), kernel.now());
            return Ok(Step::Wait(Duration::ZERO));
        }
        Ok(Step::Wait(
            self.watch.as_mut().map_or(SOON, |watch| watch.next(kernel, true)),
        ))
    }

    /// The transition is over: is it what was asked for?
    fn read_back(&mut self, kernel: &dyn Kernel) -> Next {
        let effective = kernel.now();
        let module = kernel.module(&self.request.name)?;
        let found = module.map(|module| module.build_id);
        if found.as_ref().is_none_or(|found| !found.is(&self.request.build_id)) {
            let found = match found {
                None => "no module of that name".to_owned(),
                Some(found) => match found.into_known() {
                    Some(Some(id)) => format!("build id {id}"),
                    Some(None) => "a module without a build id".to_owned(),
                    None => "a build id that cannot be seen from here".to_owned(),
                },
            };
            return Ok(Step::Done(LoadOutcome::Unproven { found }));
        }
        let replaced = match &self.roster {
            Some(roster) => roster.missing(kernel, &self.request.name)?,
            None => Vec::new(),
        };
        let repair = self.repair.take().map(|lost| Repair {
            missing: lost.missing,
            gap: effective.since(lost.since),
            means: lost.means,
        });
        Ok(Step::Done(LoadOutcome::Loaded(Loaded {
            called: self.called,
            effective,
            replaced,
            repair,
        })))
    }

    pub(super) fn still_in_transition(&mut self, kernel: &dyn Kernel, why: &'static str) -> Step<LoadOutcome> {
        self.look(kernel);
        Step::Done(LoadOutcome::StillInTransition {
            stragglers: self.seen(),
            why,
        })
    }

    pub(super) fn look(&mut self, kernel: &dyn Kernel) {
        if let Some(watch) = &mut self.watch {
            watch.look(kernel, true);
        }
    }
}
