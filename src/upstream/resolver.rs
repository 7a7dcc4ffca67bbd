//! Looks names up as the system is told to: `/etc/hosts`, search domains and the servers of `/etc/resolv.conf`.
//!
//! Nothing is cached here: who asks keeps the answer for as long as it is good.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{Resolver as Hickory, TokioResolver};
use thiserror::Error;

/// How long a look-up may take, all servers and search domains included.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long one server may take for one question.
const SERVER_PATIENCE: Duration = Duration::from_secs(2);
/// An answer that is said to be good for less is good for this long.
const TTL_MIN: Duration = Duration::from_secs(1);
/// So long after a change at the latest, of `/etc/hosts` too, it is noticed.
const TTL_MAX: Duration = Duration::from_secs(300);
/// What the system's answers are made of.
const SOURCES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// Why a name has no addresses.
#[derive(Debug, Error)]
pub enum LookUpError {
    /// Nobody answered in time.
    #[error("no answer within {} s", PATIENCE.as_secs())]
    TimedOut,
    /// There are none.
    #[error("the name has no address")]
    NoAddress,
    /// It does not exist, or whoever knows does not say.
    #[error("{0}")]
    Refused(#[source] NetError),
}

/// Asks for addresses. Clones share what they know about servers.
#[derive(Clone, Debug, Default)]
pub struct Resolver {
    /// Whoever the system is told to ask, if nobody is named.
    only: Option<SocketAddr>,
    configured: Arc<Mutex<Option<Configured>>>,
}

#[derive(Debug)]
struct Configured {
    by: Option<ModifiedAt>,
    resolver: TokioResolver,
}

type ModifiedAt = [Option<std::time::SystemTime>; SOURCES.len()];

impl Resolver {
    /// Asks one server only, by UDP, whatever the system is told.
    pub fn asking(server: SocketAddr) -> Self {
        Self { only: Some(server), ..Self::default() }
    }

    /// All addresses of a name, and how long they are good. Done within seconds.
    ///
    /// # Errors
    ///
    /// When the name has none, or nobody answers.
    pub async fn look_up(&self, host: &str) -> Result<(Vec<IpAddr>, Duration), LookUpError> {
        let resolver = self.configured().map_err(LookUpError::Refused)?;
        let answer = tokio::time::timeout(PATIENCE, resolver.lookup_ip(host))
            .await
            .map_err(|_| LookUpError::TimedOut)?
            .map_err(LookUpError::Refused)?;
        let mut addresses: Vec<IpAddr> = Vec::new();
        for address in answer.iter() {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if addresses.is_empty() {
            return Err(LookUpError::NoAddress);
        }
        let seconds = answer.as_lookup().answers().iter().map(|record| record.ttl).min().unwrap_or(0);
        Ok((addresses, Duration::from_secs(seconds.into()).clamp(TTL_MIN, TTL_MAX)))
    }

    /// Configured anew when the system was.
    fn configured(&self) -> Result<TokioResolver, NetError> {
        let modified = |path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        let by = Some(SOURCES.map(modified));
        let mut configured = self.configured.lock().unwrap_or_else(PoisonError::into_inner);
        match &*configured {
            Some(known) if known.by == by => Ok(known.resolver.clone()),
            _ => {
                let resolver = configure(self.only)?;
                *configured = Some(Configured { by, resolver: resolver.clone() });
                Ok(resolver)
            }
        }
    }
}

fn configure(only: Option<SocketAddr>) -> Result<TokioResolver, NetError> {
    let with = |config| Hickory::builder_with_config(config, TokioRuntimeProvider::default());
    let mut builder = match only {
        Some(server) => {
            let mut connection = ConnectionConfig::udp();
            connection.port = server.port();
            let server = NameServerConfig::new(server.ip(), true, vec![connection]);
            with(ResolverConfig::from_parts(None, Vec::new(), vec![server]))
        }
        // Without servers there are still /etc/hosts and localhost.
        None => TokioResolver::builder_tokio().unwrap_or_else(|_| with(ResolverConfig::default())),
    };
    let options: &mut ResolverOpts = builder.options_mut();
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.timeout = options.timeout.min(SERVER_PATIENCE);
    options.cache_size = 0;
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn localhost_needs_no_server() {
        let (addresses, ttl) = Resolver::default().look_up("localhost").await.unwrap();
        assert!(addresses.iter().all(IpAddr::is_loopback), "{addresses:?}");
        assert!(!addresses.is_empty() && ttl <= TTL_MAX && ttl >= TTL_MIN);
    }

    #[tokio::test]
    async fn what_is_no_name_is_refused() {
        assert!(Resolver::default().look_up("a..b").await.is_err());
    }
}
