//! The two live reads before something new is begun, as `livepatch_agent::fetch` makes and judges them.

use std::sync::Arc;

use livepatch_agent::confirm;
use livepatch_agent::journal::{Entry, Failure};
use livepatch_agent::retry::Subject;
use livepatch_crds::node::Grant;
use livepatch_operator::watch::seen::{NodeObjectContent, Seen};

use super::load::{Purpose, Stage, Working};
use super::{Agent, CALL, Confirmed, Doing, Host};
use crate::api::ask::{Answer, Ask, Lease};
use crate::coverage::{Moment, Point};
use crate::ctx::Ctx;
use crate::mutant::{self, Mutant};

/// What is being read.
pub(crate) struct Confirming {
    grant: Grant,
    object: Live<Option<Arc<Seen<NodeObjectContent>>>>,
    lease: Live<Option<Lease>>,
}

/// A live read.
enum Live<T> {
    Asked(u64),
    Answered(T),
    Failed,
}

impl<T> Live<T> {
    fn is_of(&self, id: u64) -> bool {
        matches!(self, Self::Asked(asked) if *asked == id)
    }

    fn is_open(&self) -> bool {
        matches!(self, Self::Asked(_))
    }
}

impl Agent {
    pub(super) fn ask_to_confirm(
        &mut self,
        ctx: &mut Ctx,
        entry: Entry,
        subject: Subject,
        purpose: Purpose,
        grant: Grant,
    ) {
        if self.dies(ctx, Point::ConfirmGrant, Moment::Before) {
            return;
        }
        let node = self.node.clone();
        let object = ctx.call(self.caller(), Ask::GetNodeObject { node }, CALL);
        let lease = ctx.call(self.caller(), Ask::GetLease, CALL);
        let confirming = Confirming {
            grant,
            object: Live::Asked(object),
            lease: Live::Asked(lease),
        };
        self.doing = Doing::Working(Box::new(Working {
            entry,
            subject,
            purpose,
            stage: Stage::Confirming(confirming),
        }));
        self.dies(ctx, Point::ConfirmGrant, Moment::Sent);
    }

    /// One of the two live reads was answered.
    pub(super) fn confirmation(&mut self, ctx: &mut Ctx, host: &mut Host<'_>, id: u64, answer: Answer) {
        let Doing::Working(working) = &mut self.doing else {
            return;
        };
        let Stage::Confirming(confirming) = &mut working.stage else {
            return;
        };
        match answer {
            Answer::NodeObject(read) if confirming.object.is_of(id) => confirming.object = Live::Answered(read),
            Answer::Lease(read) if confirming.lease.is_of(id) => confirming.lease = Live::Answered(read),
            _ if confirming.object.is_of(id) => confirming.object = Live::Failed,
            _ if confirming.lease.is_of(id) => confirming.lease = Live::Failed,
            _ => return,
        }
        if confirming.object.is_open() || confirming.lease.is_open() {
            return;
        }
        if self.dies(ctx, Point::ConfirmGrant, Moment::After) {
            return;
        }
        let Doing::Working(working) = std::mem::replace(&mut self.doing, Doing::Stepping) else {
            return;
        };
        let Working {
            entry,
            subject,
            purpose,
            stage,
        } = *working;
        let Stage::Confirming(confirming) = stage else { return };
        match self.confirmed_by(ctx, &confirming) {
            Ok(()) => {
                self.confirmed = Some(Confirmed {
                    at: ctx.now(),
                    grant: confirming.grant,
                });
                self.begin(ctx, host, entry, subject, purpose);
            }
            Err(failure) => self.wait_with(ctx, host, subject, failure),
        }
        self.next_step(ctx);
    }

    /// Whether the grant still stands, by what was read.
    fn confirmed_by(&self, ctx: &Ctx, confirming: &Confirming) -> Result<(), Failure> {
        let Confirming { grant, object, lease } = confirming;
        let unavailable = || Failure::new("ApiServerUnavailable", "reading failed");
        let Live::Answered(object) = object else {
            return Err(unavailable());
        };
        let mut content = match object.as_ref().map(|object| &object.content) {
            Some(Ok(content)) => Some(content.spec.clone()),
            Some(Err(_)) => return Err(unavailable()),
            None => None,
        };
        if let Some(spec) = &mut content {
            mutant::change_read(ctx, spec, grant);
        }
        let known = self.desired.object().and_then(|known| known.metadata.uid.as_deref());
        let uid = object.as_ref().map(|object| object.uid.as_str());
        confirm::by_object(grant, known, content.as_ref().map(|spec| (uid, spec)))?;
        let Live::Answered(lease) = lease else {
            return Err(unavailable());
        };
        if ctx.is(Mutant::EpochIgnored) {
            return Ok(());
        }
        confirm::by_lease(grant, lease.as_ref().map(Lease::epoch).as_deref())
    }
}
