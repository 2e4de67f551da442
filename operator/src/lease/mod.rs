//! Leadership by a Lease. Does IO: reads and replaces that one object.
//!
//! Every write replaces the version that was judged, so of two candidates one gets a conflict. What a holder may do ends
//! with a deadline on its own monotonic clock, counted from before the renewal was sent.

pub mod evaluate;
pub mod term;

use evaluate::{Timing, Verdict, evaluate, first, released};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};
use std::time::{Duration, Instant};
use term::Term;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::api_error::words;
use crate::writes::FIELD_MANAGER;

/// One request for the lease takes no longer than one part in so many of the deadline: a renewal that hangs must leave time
/// for another.
const TRIES: u32 = 3;
/// Giving the lease up takes no longer: nobody waits for it longer than it saves.
const RELEASE: Duration = Duration::from_secs(1);
/// The same trouble is logged again after this time.
const LOG_AGAIN: Duration = Duration::from_mins(1);

/// Why a look at the lease, or a write of it, came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// No answer in time.
    #[error("no answer about the lease within {} s", .0.as_secs())]
    Timeout(Duration),
    /// The API server refused, or could not be reached. The source's words are in the message.
    #[error("{action} the lease: {}", words(source))]
    Api {
        /// What was tried.
        action: &'static str,
        /// What came of it.
        source: kube::Error,
    },
    /// Another candidate was quicker.
    #[error("another candidate wrote the lease first")]
    Lost,
}

impl LeaseError {
    /// Reason code for the log.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Timeout(_) => "LeaseTimeout",
            Self::Api { .. } => "LeaseFailed",
            Self::Lost => "LeaseLost",
        }
    }
}

/// Takes and keeps the lease.
#[derive(Debug)]
pub struct Keeper {
    api: Api<Lease>,
    name: String,
    identity: String,
    timing: Timing,
    terms: watch::Sender<Option<Term>>,
    seen: Option<Observed>,
}

/// A lease as it was last seen, and since when it has not changed.
#[derive(Debug)]
struct Observed {
    lease: Lease,
    since: Instant,
}

impl Keeper {
    /// A keeper, and where it tells whether this operator leads. `client` should have short deadlines and no retries.
    pub fn new(
        client: Client,
        namespace: &str,
        name: &str,
        identity: &str,
        timing: Timing,
    ) -> (Self, watch::Receiver<Option<Term>>) {
        let (terms, told) = watch::channel(None);
        let keeper = Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity: identity.to_owned(),
            timing,
            terms,
            seen: None,
        };
        (keeper, told)
    }

    /// Runs until stopped, then gives the lease up.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut logged: Option<(&'static str, Instant)> = None;
        let mut holder = String::new();
        while !stop.is_cancelled() {
            let turn = tokio::select! {
                turn = self.turn() => turn,
                () = stop.cancelled() => break,
            };
            match turn {
                Ok(None) => {
                    holder.clear();
                    logged = None;
                }
                Ok(Some(other)) => {
                    if holder != other {
                        tracing::info!(holder = other, "another operator leads; this one stands by");
                        holder = other;
                    }
                    logged = None;
                }
                Err(error) => {
                    let news = logged.is_none_or(|(reason, at)| reason != error.reason() || at.elapsed() > LOG_AGAIN);
                    if news {
                        tracing::warn!(reason = error.reason(), "{error}");
                        logged = Some((error.reason(), Instant::now()));
                    }
                }
            }
            self.give_up_what_ran_out();
            tokio::select! {
                () = sleep(self.pause()) => {}
                () = stop.cancelled() => {}
            }
        }
        self.release().await;
    }

    /// One look or renewal; the other holder, if there is one.
    async fn turn(&mut self) -> Result<Option<String>, LeaseError> {
        let leads = self.terms.borrow().as_ref().is_some_and(Term::is_current);
        // A holder knows the version it wrote last; only after a conflict or an unknown answer does it look again.
        if !leads || self.seen.is_none() {
            self.look().await?;
        }
        let Some(observed) = &self.seen else {
            self.create().await?;
            return Ok(None);
        };
        let spec = observed.lease.spec.clone().unwrap_or_default();
        match evaluate(
            &spec,
            &self.identity,
            leads,
            Timestamp::now(),
            observed.since.elapsed(),
            &self.timing,
        ) {
            Verdict::HeldBy(other) => {
                self.end_term("another operator took the lease");
                Ok(Some(other))
            }
            Verdict::Write(spec) => {
                let lease = Lease {
                    metadata: observed.lease.metadata.clone(),
                    spec: Some(spec),
                };
                self.write(lease).await?;
                Ok(None)
            }
        }
    }

    async fn look(&mut self) -> Result<(), LeaseError> {
        let limit = self.request();
        let answer = timeout(limit, self.api.get_opt(&self.name)).await;
        let lease = answer
            .map_err(|_| LeaseError::Timeout(limit))?
            .map_err(|source| LeaseError::Api { action: "read", source })?;
        self.seen = lease.map(|lease| match self.seen.take() {
            Some(known) if version(&known.lease) == version(&lease) => known,
            _ => Observed {
                lease,
                since: Instant::now(),
            },
        });
        Ok(())
    }

    async fn create(&mut self) -> Result<(), LeaseError> {
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(first(&self.identity, Timestamp::now(), &self.timing)),
        };
        let began = Instant::now();
        let limit = self.request();
        let answer = timeout(limit, self.api.create(&post(), &lease)).await;
        self.written(began, answer.map_err(|_| LeaseError::Timeout(limit))?)
    }

    async fn write(&mut self, lease: Lease) -> Result<(), LeaseError> {
        let began = Instant::now();
        let limit = self.request();
        let answer = timeout(limit, self.api.replace(&self.name, &post(), &lease)).await;
        let answer = answer.map_err(|_| {
            // It may have happened or not: look before the next try.
            self.seen = None;
            LeaseError::Timeout(limit)
        })?;
        self.written(began, answer)
    }

    fn written(&mut self, began: Instant, answer: kube::Result<Lease>) -> Result<(), LeaseError> {
        let lease = match answer {
            Ok(lease) => lease,
            Err(kube::Error::Api(status))
                if status.is_conflict() || status.is_already_exists() || status.is_not_found() =>
            {
                // Not ours any more, whoever has it.
                self.seen = None;
                self.end_term("the lease was written by another");
                return Err(LeaseError::Lost);
            }
            Err(source) => {
                self.seen = None;
                return Err(LeaseError::Api {
                    action: "write",
                    source,
                });
            }
        };
        let ends = began + self.timing.deadline;
        let uid = lease.metadata.uid.clone().unwrap_or_default();
        let transitions = lease.spec.as_ref().and_then(|spec| spec.lease_transitions).unwrap_or(0);
        let term = Term::new(&uid, transitions, began, ends);
        self.terms.send_if_modified(|current| match current {
            Some(current) if current.epoch() == term.epoch() && current.is_current() => {
                current.prolong(ends);
                false
            }
            // It ran out before the answer came. The next turn takes the lease anew, with another number.
            Some(current_term) if current_term.epoch() == term.epoch() => {
                current_term.end();
                *current = None;
                true
            }
            _ => {
                tracing::info!(epoch = term.epoch(), identity = self.identity, "this operator leads");
                *current = Some(term);
                true
            }
        });
        self.seen = Some(Observed {
            lease,
            since: Instant::now(),
        });
        Ok(())
    }

    /// A term which ran out is over even if the lease turns out to be still ours: a new one has to look at all afresh.
    fn give_up_what_ran_out(&self) {
        let over = self.terms.borrow().as_ref().is_some_and(|term| !term.is_current());
        if over {
            self.end_term("the lease could not be renewed in time");
        }
    }

    fn end_term(&self, why: &'static str) {
        self.terms.send_if_modified(|current| {
            let Some(term) = current.take() else {
                return false;
            };
            term.end();
            tracing::warn!(
                reason = "LeadershipLost",
                epoch = term.epoch(),
                "this operator leads no more: {why}"
            );
            true
        });
    }

    fn request(&self) -> Duration {
        self.timing.deadline / TRIES
    }

    fn pause(&self) -> Duration {
        let leads = self.terms.borrow().is_some();
        let pause = if leads { self.timing.renewal } else { self.timing.look };
        pause.mul_f64(0.9 + 0.2 * fastrand::f64())
    }

    async fn release(mut self) {
        let led = self.terms.send_replace(None);
        if let Some(term) = &led {
            term.end();
        }
        let released = timeout(RELEASE, async {
            // The renewal that the stop interrupted may have happened.
            self.look().await?;
            let Some(Observed { lease, .. }) = self.seen.take() else {
                return Ok(());
            };
            let spec: LeaseSpec = lease.spec.unwrap_or_default();
            if spec.holder_identity.as_deref() != Some(&self.identity) {
                return Ok(());
            }
            let lease = Lease {
                metadata: lease.metadata,
                spec: Some(released(&spec, Timestamp::now())),
            };
            let answer = self.api.replace(&self.name, &post(), &lease).await;
            answer.map(|_| ()).map_err(|source| LeaseError::Api {
                action: "release",
                source,
            })
        });
        match released.await.unwrap_or(Err(LeaseError::Timeout(RELEASE))) {
            Ok(()) if led.is_some() => tracing::info!("gave the lease up"),
            Ok(()) => {}
            Err(error) => tracing::warn!(reason = error.reason(), "could not give the lease up: {error}"),
        }
    }
}

fn post() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    }
}

fn version(lease: &Lease) -> Option<&str> {
    lease.metadata.resource_version.as_deref()
}
