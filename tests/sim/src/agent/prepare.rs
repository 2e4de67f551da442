//! Bringing a module into the local store, checked, as `livepatch_agent::prepare` does.

use std::sync::Arc;
use std::time::Duration;

use livepatch_agent::decide::Preparation;
use livepatch_agent::journal::Failure;
use livepatch_agent::store::sha256_of;
use livepatch_agent::truth::Truth;
use livepatch_agent::verify;
use livepatch_kernel::Identity;

use super::{Agent, Doing, Host, PROGRESS};
use crate::coverage::{Moment, Point};
use crate::ctx::Ctx;
use crate::event::AgentTick;
use crate::modules::Shelf;
use crate::mutant::Mutant;

/// A module that is being pulled.
#[derive(Debug)]
pub(crate) struct Preparing {
    preparation: Preparation,
    identity: Identity,
}

impl Agent {
    pub(super) fn prepare(
        &mut self,
        ctx: &mut Ctx,
        shelf: &Shelf,
        host: &mut Host<'_>,
        preparation: Preparation,
        truth: &Truth,
    ) {
        let sha256 = preparation.wanted.pair.sha256.clone();
        let identity = truth.identity.clone();
        let stored = host.disk.store.get(&sha256).filter(|bytes| sha256_of(bytes) == sha256);
        if let Some(module) = stored.and_then(|bytes| shelf.by_bytes(bytes)) {
            let inspection = module.inspection.clone();
            match verify::module(&preparation.wanted, &identity, &sha256, &inspection) {
                Ok(()) => _ = self.memory.prepared.insert(sha256, inspection),
                Err(error) => self.refuse(
                    ctx,
                    host,
                    preparation,
                    &Failure::new(error.reason(), &error.to_string()),
                ),
            }
            return;
        }
        let preparing = Preparing { preparation, identity };
        self.doing = Doing::Preparing(Box::new(preparing));
        let takes = ctx.between(Duration::from_millis(5), Duration::from_millis(800));
        self.schedule(ctx, takes, AgentTick::Pulled);
        self.schedule(ctx, PROGRESS, AgentTick::Progress);
    }

    pub(super) fn pulled(&mut self, ctx: &mut Ctx, shelf: &Shelf, host: &mut Host<'_>) {
        let Doing::Preparing(preparing) = std::mem::replace(&mut self.doing, Doing::Stepping) else {
            return;
        };
        let Preparing { preparation, identity } = *preparing;
        let (subject, sha256) = (preparation.subject.clone(), preparation.wanted.pair.sha256.clone());
        let now = ctx.now();
        let module = shelf.module(&preparation.wanted.digest);
        if now < shelf.away_until || module.is_none() {
            let failure = Failure::new("RegistryUnavailable", "connection refused");
            self.wait_with(ctx, host, subject, failure);
        } else if let Some(module) = module {
            let mut bytes = module.bytes.to_vec();
            if now < shelf.damaged_until {
                bytes.push(0);
            }
            let checked = if ctx.is(Mutant::DigestUnchecked) {
                Ok(())
            } else {
                verify::module(&preparation.wanted, &identity, &sha256_of(&bytes), &module.inspection)
            };
            match checked {
                Ok(()) => {
                    if self.dies(ctx, Point::StoreModule, Moment::Before) {
                        return;
                    }
                    host.disk.store.insert(sha256.clone(), Arc::from(bytes));
                    self.memory.prepared.insert(sha256, module.inspection.clone());
                    if self.dies(ctx, Point::StoreModule, Moment::After) {
                        return;
                    }
                }
                // The real puller finds out first, and takes a registry that serves something else for one to be
                // asked again.
                Err(error) if now < shelf.damaged_until => {
                    let failure = Failure::new("DigestMismatch", &error.to_string());
                    self.wait_with(ctx, host, subject, failure);
                }
                Err(error) => {
                    let failure = Failure::new(error.reason(), &error.to_string());
                    self.refuse(ctx, host, preparation, &failure);
                }
            }
        }
        if self.reporting.is_none() {
            self.pass_at(ctx, Duration::from_millis(1));
        }
    }

    fn refuse(&mut self, ctx: &mut Ctx, host: &mut Host<'_>, preparation: Preparation, failure: &Failure) {
        let Preparation { mut target, .. } = preparation;
        if let Ok(boot) = livepatch_kernel::Kernel::boot_id(host.seam) {
            target.boot = boot;
        }
        self.give_up(ctx, host, target, failure.clone());
    }
}
