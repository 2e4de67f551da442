//! Host names in a static binary: glibc loads its resolver at run time, which a static binary cannot. Does IO.
//!
//! `/etc/resolv.conf` and `/etc/hosts` are read as glibc does, search domains included; nsswitch.conf is not. If there is
//! no usable resolv.conf that is an error: to ask a public server instead would tell it the names of one's registries.

use std::net::SocketAddr;
use std::sync::Arc;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::OnceCell;

/// Whether this binary has no other resolver.
pub(super) const SYSTEM_RESOLVER_IS_MISSING: bool = cfg!(all(target_os = "linux", target_feature = "crt-static"));

/// A resolver that reads its configuration when it is first used.
#[derive(Debug, Default)]
pub(super) struct Resolver(Arc<OnceCell<TokioResolver>>);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let cell = Arc::clone(&self.0);
        Box::pin(async move {
            let resolver = cell.get_or_try_init(|| async { build() }).await?;
            let found = resolver.lookup_ip(name.as_str()).await?;
            // The port is that of the URL.
            let addresses: Vec<SocketAddr> = found.iter().map(|address| SocketAddr::new(address, 0)).collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

fn build() -> Result<TokioResolver, hickory_resolver::net::NetError> {
    let mut builder = TokioResolver::builder_tokio()?;
    builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_hosts_file_is_read() {
        let resolver = Resolver::default();
        let found: Vec<SocketAddr> = resolver.resolve("localhost".parse().unwrap()).await.unwrap().collect();
        assert!(found.iter().any(|address| address.ip().is_loopback()), "{found:?}");
    }
}
