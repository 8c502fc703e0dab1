//! Where forwarders may connect to: the public Internet, and the networks that
//! the operator names. A host is a tenant's own choice, and Baken may stand where
//! the tenant can't reach.
//!
//! What a name resolves to is checked where the connection is made, and only the
//! addresses that were checked are connected to: a name that is looked up twice
//! can resolve to two things.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns, ResolveDnsError};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use schema::{Networks, is_localhost_name, is_public_address};

/// Why a host can't be connected to.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    #[error(
        "{0} is an address of this machine or of a private network, which the operator of \
         this installation has to allow (forwarders.allowed_networks)"
    )]
    NotAllowed(IpAddr),
    #[error("the name {0} leads nowhere")]
    Nowhere(String),
    #[error("the name can't be looked up: {0}")]
    LookUp(#[from] io::Error),
}

/// Where forwarders may connect to.
#[derive(Clone, Debug, Default)]
pub struct Reach(Arc<Networks>);

impl Reach {
    /// The public Internet and these networks.
    #[must_use]
    pub fn new(networks: Networks) -> Self {
        Self(Arc::new(networks))
    }

    fn admits(&self, address: IpAddr) -> bool {
        is_public_address(address) || self.0.contain(address)
    }

    /// Whether a host may be one, as far as its own text says it: an address, or a
    /// name of this machine. Other names are looked up when they are connected to.
    ///
    /// # Errors
    /// [`ReachError::NotAllowed`].
    pub fn check(&self, host: &str) -> Result<(), ReachError> {
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let address = match host.parse() {
            Ok(address) => address,
            Err(_) if is_localhost_name(host) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Err(_) => return Ok(()),
        };
        match self.admits(address) {
            true => Ok(()),
            false => Err(ReachError::NotAllowed(address)),
        }
    }

    /// The addresses of a host that may be connected to.
    ///
    /// # Errors
    /// [`ReachError`], also where none of its addresses is allowed.
    pub async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, ReachError> {
        self.choose(host, tokio::net::lookup_host((host, port)).await?)
    }

    fn choose(
        &self,
        host: &str,
        found: impl Iterator<Item = SocketAddr>,
    ) -> Result<Vec<SocketAddr>, ReachError> {
        let (allowed, others): (Vec<_>, Vec<_>) = found.partition(|it| self.admits(it.ip()));
        match (allowed.is_empty(), others.first()) {
            (false, _) => Ok(allowed),
            (true, Some(other)) => Err(ReachError::NotAllowed(other.ip())),
            (true, None) => Err(ReachError::Nowhere(host.to_owned())),
        }
    }
}

/// Whether an error is, or comes of, a host that is not allowed.
pub(crate) fn is_not_allowed(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if matches!(error.downcast_ref(), Some(ReachError::NotAllowed(_))) {
            return true;
        }
        cause = error.source();
    }
    false
}

impl Resolve for Reach {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.clone();
        Box::pin(async move {
            // The port 0 is replaced by the address' own.
            let found = Self::resolve(&reach, name.as_str(), 0).await?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

impl ResolveDns for Reach {
    fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
        DnsFuture::new(async move {
            let found = Self::resolve(self, name, 0).await.map_err(ResolveDnsError::new)?;
            Ok(found.iter().map(SocketAddr::ip).collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(networks: &str) -> Reach {
        Reach::new(networks.parse().unwrap())
    }

    #[test]
    fn a_host_inside_is_refused_unless_its_network_is_allowed() {
        let (closed, open) = (Reach::default(), reach("10.0.0.0/8,127.0.0.0/8"));
        for inside in ["10.1.2.3", "127.0.0.1", "localhost", "db.localhost."] {
            assert!(matches!(closed.check(inside), Err(ReachError::NotAllowed(_))), "{inside}");
            assert!(open.check(inside).is_ok(), "{inside}");
        }
        for inside in ["169.254.169.254", "[::1]", "fd00::1", "::ffff:192.168.0.1"] {
            assert!(closed.check(inside).is_err() && open.check(inside).is_err(), "{inside}");
        }
        for outside in ["1.1.1.1", "[2606:4700::1111]", "hub.azure-devices.net"] {
            assert!(closed.check(outside).is_ok(), "{outside}");
        }
    }

    #[tokio::test]
    async fn a_name_is_judged_by_what_it_leads_to_at_that_moment() {
        let error = Reach::default().resolve("localhost", 80).await.unwrap_err();
        assert!(is_not_allowed(&error), "{error}");
        // A way to write 127.0.0.1 that is no literal address to a parser.
        let error = Reach::default().resolve("0x7f.1", 80).await.unwrap_err();
        assert!(is_not_allowed(&error), "{error}");
        let found = reach("127.0.0.0/8,::1").resolve("localhost", 80).await.unwrap();
        assert!(!found.is_empty() && found.iter().all(|it| it.ip().is_loopback()), "{found:?}");
    }

    #[test]
    fn only_addresses_that_are_allowed_are_connected_to() {
        let mixed = || ["10.0.0.1:1", "1.1.1.1:1"].into_iter().map(|it| it.parse().unwrap());
        let chosen = Reach::default().choose("name", mixed()).unwrap();
        assert_eq!(chosen, ["1.1.1.1:1".parse().unwrap()]);
        assert_eq!(reach("10.0.0.0/8").choose("name", mixed()).unwrap().len(), 2);
        let none = Reach::default().choose("name", std::iter::empty()).unwrap_err();
        assert!(matches!(&none, ReachError::Nowhere(name) if name == "name"), "{none}");
    }
}
