//! What holds for all sets together: a cap and a freeze, read from a `ConfigMap` every few seconds. Does IO.
//!
//! A mounted file would need no right at all, but a kubelet takes a minute or more to bring a change to a running pod, and
//! whoever freezes everything is in a hurry. So the operator may read this one object, by its name, and nothing else.

use crate::api_error::words;
use crate::watch::world::World;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use livepatch_crds::bounded::bounded;
use livepatch_planner::fleet::snapshot::Limits;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(5);
/// One look takes no longer.
const READING: Duration = Duration::from_secs(4);
/// The longest reason for a freeze.
const MAX_REASON: usize = 200;

/// Key: most grants of all sets in flight at once; absent or empty is no limit.
const MAX_IN_FLIGHT: &str = "maxInFlight";
/// Key: why nothing may be begun; absent or empty is no freeze.
const FREEZE: &str = "freeze";

/// The limits as last read. Copies are the same.
#[derive(Clone, Debug)]
pub struct LimitsReader {
    known: Arc<Mutex<Limits>>,
}

impl LimitsReader {
    /// For an operator that was given no `ConfigMap`: no limits.
    pub fn unlimited() -> Self {
        Self { known: Arc::default() }
    }

    /// For an operator with a `ConfigMap`: nothing may be begun before it was read.
    pub fn unread() -> Self {
        let limits = Limits {
            frozen: Some("the limits of the operator were not read yet".to_owned()),
            ..Limits::default()
        };
        Self {
            known: Arc::new(Mutex::new(limits)),
        }
    }

    /// The limits as last read.
    pub fn limits(&self) -> Limits {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads them again and again, for ever, and wakes `world` when they changed.
    pub async fn run(self, client: Client, namespace: String, name: String, world: Arc<World>) {
        let api: Api<ConfigMap> = Api::namespaced(client, &namespace);
        loop {
            let read = timeout(READING, api.get_opt(&name)).await;
            let limits = match read {
                Ok(Ok(Some(config_map))) => Some(parse(&config_map.data.unwrap_or_default())),
                Ok(Ok(None)) => Some(Err(format!(
                    "the ConfigMap {namespace}/{name} with the limits is not there"
                ))),
                Ok(Err(error)) => {
                    tracing::warn!(
                        reason = "LimitsUnreadable",
                        "read {namespace}/{name}: {}",
                        words(&error)
                    );
                    None
                }
                Err(_) => None,
            };
            // What cannot be read now holds as it was: the API server that does not answer takes no grant either.
            if let Some(limits) = limits {
                self.take(
                    limits.unwrap_or_else(|why| Limits {
                        frozen: Some(bounded(&why, MAX_REASON)),
                        max_in_flight: None,
                    }),
                    &world,
                );
            }
            sleep(EVERY).await;
        }
    }

    fn take(&self, limits: Limits, world: &World) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if *known != limits {
            tracing::info!(
                max_in_flight = limits.max_in_flight,
                frozen = limits.frozen,
                "the limits changed"
            );
            *known = limits;
            drop(known);
            world.wake();
        }
    }
}

/// What a `ConfigMap` says. What cannot be understood is no leave.
fn parse(data: &BTreeMap<String, String>) -> Result<Limits, String> {
    let value = |key: &str| {
        data.get(key)
            .map(|value| value.trim())
            .filter(|value| !value.is_empty())
    };
    let max_in_flight = match value(MAX_IN_FLIGHT) {
        None => None,
        Some(text) => match text.parse::<usize>() {
            Ok(limit) if limit > 0 => Some(limit),
            _ => {
                return Err(format!(
                    "{MAX_IN_FLIGHT} in the limits is {text:?}, which is no number of at least 1"
                ));
            }
        },
    };
    let frozen = value(FREEZE).map(|why| format!("everything is frozen: {}", bounded(why, MAX_REASON)));
    Ok(Limits { max_in_flight, frozen })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(entries: &[(&str, &str)]) -> Result<Limits, String> {
        let data = entries
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        parse(&data.collect())
    }

    #[test]
    fn empty_is_no_limit_and_what_is_not_understood_is_no_leave() {
        assert_eq!(parsed(&[]), Ok(Limits::default()));
        assert_eq!(parsed(&[("maxInFlight", " "), ("freeze", "")]), Ok(Limits::default()));
        assert_eq!(parsed(&[("maxInFlight", "20\n")]).unwrap().max_in_flight, Some(20));
        let frozen = parsed(&[("freeze", "until Monday")]).unwrap().frozen.unwrap();
        assert!(frozen.contains("until Monday"), "{frozen}");
        for odd in ["0", "-1", "many", "5%"] {
            assert!(parsed(&[("maxInFlight", odd)]).unwrap_err().contains(odd));
        }
    }

    #[test]
    fn before_the_first_look_nothing_may_be_begun() {
        assert!(LimitsReader::unread().limits().frozen.is_some());
        assert_eq!(LimitsReader::unlimited().limits(), Limits::default());
    }
}
