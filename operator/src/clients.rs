//! Clients of the API server. Does IO.

use kube::{Client, Config};
use std::time::Duration;

/// The clients of one operator.
#[derive(Clone)]
pub struct Clients {
    /// For watches and writes. Without kube's own retries: a grant that is repeated behind our back would be one of which
    /// nobody knows whether it was given, and a wait of minutes would be hidden in one call.
    pub main: Client,
    /// For the lease: with connections of its own, so that a slow watch or write never delays a renewal.
    pub lease: Client,
}

const CONNECTING: Duration = Duration::from_secs(5);
const LEASE_CONNECTING: Duration = Duration::from_secs(2);
const LEASE_ANSWER: Duration = Duration::from_secs(4);

impl Clients {
    /// From one configuration.
    ///
    /// # Errors
    /// A configuration from which no client can be made.
    pub fn new(mut config: Config) -> kube::Result<Self> {
        config.default_retry = false;
        config.connect_timeout = Some(CONNECTING);
        let mut lease = config.clone();
        lease.connect_timeout = Some(LEASE_CONNECTING);
        lease.read_timeout = Some(LEASE_ANSWER);
        lease.reset_reader_on_write = true;
        lease.write_timeout = Some(LEASE_ANSWER);
        Ok(Self {
            main: Client::try_from(config)?,
            lease: Client::try_from(lease)?,
        })
    }
}
