//! What the name of a webhook's host resolves to, unless it is inside.
//!
//! The check stands here and not before the request because this is what the
//! connection is made to: a name that is looked up twice can resolve to two things.

use std::net::{IpAddr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use schema::is_public_address;

/// The name leads to where webhooks may not go.
#[derive(Debug, thiserror::Error)]
#[error("the host's name resolves to {0}, which is no address of the public Internet")]
struct OwnAddress(IpAddr);

#[derive(Clone, Copy, Debug)]
pub(super) struct Resolver {
    allow_private: bool,
}

impl Resolver {
    pub(super) fn new(allow_private: bool) -> Self {
        Self { allow_private }
    }

    /// One address inside spoils the name: which of them a connection takes is not
    /// ours to say.
    fn check(self, found: &[SocketAddr]) -> Result<(), OwnAddress> {
        let own = found.iter().map(SocketAddr::ip).find(|address| !is_public_address(*address));
        match own {
            Some(address) if !self.allow_private => Err(OwnAddress(address)),
            _ => Ok(()),
        }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = *self;
        Box::pin(async move {
            // The port 0 is replaced by the URL's.
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let found: Vec<SocketAddr> = found.collect();
            resolver.check(&found)?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_that_leads_inside_is_refused() {
        let resolve = |resolver: Resolver| resolver.resolve("localhost".parse().unwrap());
        let Err(error) = resolve(Resolver::new(false)).await else { panic!("it resolved") };
        assert!(error.to_string().contains("no address of the public Internet"), "{error}");
        let found: Vec<_> = resolve(Resolver::new(true)).await.unwrap().collect();
        assert!(!found.is_empty() && found.iter().all(|address| address.ip().is_loopback()));
    }

    #[test]
    fn one_address_inside_spoils_the_name() {
        let addresses = |all: &[&str]| -> Vec<SocketAddr> {
            all.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0)).collect()
        };
        let public = addresses(&["1.1.1.1", "2606:4700::1111"]);
        let mixed = addresses(&["1.1.1.1", "10.0.0.1"]);
        assert!(Resolver::new(false).check(&public).is_ok());
        assert_eq!(
            Resolver::new(false).check(&mixed).unwrap_err().to_string(),
            "the host's name resolves to 10.0.0.1, which is no address of the public Internet"
        );
        assert!(Resolver::new(true).check(&mixed).is_ok());
    }
}
