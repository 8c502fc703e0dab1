//! TLS of connections that we make: rustls with ring, the usual authorities or
//! a customer's own, and client certificates.

use std::sync::{Arc, LazyLock};

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use x509_parser::prelude::{FromDer as _, X509Certificate, X509Version};

/// Why a certificate or key is of no use. Bears nothing of a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    #[error("it holds no certificate in PEM form")]
    NoCertificate,
    #[error("it holds no private key in PEM form")]
    NoKey,
    #[error("a certificate can't be read: {0}")]
    Damaged(String),
    #[error("a certificate is X.509 version 1, which TLS libraries refuse; issue one of version 3")]
    Version1,
    #[error("the key is of a kind that can't be used: {0}")]
    Key(String),
    #[error("the key does not fit the certificate")]
    Mismatch,
}

/// Authorities that are trusted where the customer names none: Mozilla's list,
/// in which those of Azure and AWS are.
static ROOTS: LazyLock<Arc<RootCertStore>> = LazyLock::new(|| {
    Arc::new(RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()))
});

/// One for all connections that ask for nothing of their own, so that they
/// share its memory.
static USUAL: LazyLock<ClientConfig> = LazyLock::new(|| {
    ClientConfig::builder().with_root_certificates(Arc::clone(&ROOTS)).with_no_client_auth()
});

/// A client's certificate, with those that lead to its authority, and its key.
#[derive(Debug)]
pub struct ClientIdentity {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

impl ClientIdentity {
    /// Reads both and sees that they belong together.
    ///
    /// # Errors
    /// [`TlsError`]; those of the key are [`TlsError::is_of_key`].
    pub fn parse(certificate: &str, key: &str) -> Result<Self, TlsError> {
        let chain = certificates(certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| TlsError::NoKey)?;
        let provider = rustls::crypto::ring::default_provider();
        let signing = provider
            .key_provider
            .load_private_key(key.clone_key())
            .map_err(|error| TlsError::Key(error.to_string()))?;
        rustls::sign::CertifiedKey::new(chain.clone(), signing)
            .keys_match()
            .map_err(|_| TlsError::Mismatch)?;
        Ok(Self { chain, key })
    }

    /// The common name of the certificate itself.
    #[must_use]
    pub fn common_name(&self) -> Option<String> {
        let (_, leaf) = X509Certificate::from_der(self.chain.first()?).ok()?;
        let name = leaf.subject().iter_common_name().next()?.as_str().ok()?.to_owned();
        Some(name)
    }
}

impl TlsError {
    /// Whether the key is what is wrong.
    #[must_use]
    pub fn is_of_key(&self) -> bool {
        matches!(self, Self::NoKey | Self::Key(_) | Self::Mismatch)
    }
}

/// The certificates of a PEM text, none of them of version 1.
///
/// # Errors
/// [`TlsError`].
pub fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let mut chain = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| TlsError::Damaged(error.to_string()))?;
        let (_, parsed) = X509Certificate::from_der(&certificate)
            .map_err(|error| TlsError::Damaged(error.to_string()))?;
        if parsed.version() == X509Version::V1 {
            return Err(TlsError::Version1);
        }
        chain.push(certificate);
    }
    if chain.is_empty() { Err(TlsError::NoCertificate) } else { Ok(chain) }
}

/// What a connection needs: authorities (`ca`, or the usual ones), a client's
/// certificate, and protocols to be named.
///
/// # Errors
/// [`TlsError`] for what can't be used of it.
pub fn client_config(
    ca: Option<&str>,
    identity: Option<ClientIdentity>,
    protocols: &[&[u8]],
) -> Result<ClientConfig, TlsError> {
    if ca.is_none() && identity.is_none() && protocols.is_empty() {
        return Ok(USUAL.clone());
    }
    let roots = match ca {
        None => Arc::clone(&ROOTS),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(ca)? {
                roots.add(certificate).map_err(|error| TlsError::Damaged(error.to_string()))?;
            }
            Arc::new(roots)
        }
    };
    let builder = ClientConfig::builder().with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(ClientIdentity { chain, key }) => {
            let config = builder.with_client_auth_cert(chain, key);
            let mut config = config.map_err(|error| TlsError::Key(error.to_string()))?;
            // It is one forwarder's own and connects to one server; room for the
            // usual 256 would be the larger part of the connection's memory.
            config.resumption = Resumption::in_memory_sessions(1);
            config
        }
    };
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn certificate(name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn a_certificate_and_its_key_belong_together_and_others_do_not() {
        let (certificate, key) = certificate("device-1");
        let identity = ClientIdentity::parse(&certificate, &key).unwrap();
        assert_eq!(identity.common_name().as_deref(), Some("device-1"));
        let other = self::certificate("device-2").1;
        let error = ClientIdentity::parse(&certificate, &other).unwrap_err();
        assert_eq!(error, TlsError::Mismatch);
        assert!(error.is_of_key());
        let error = ClientIdentity::parse(&certificate, "nothing").unwrap_err();
        assert_eq!(error, TlsError::NoKey);
        let error = ClientIdentity::parse(&key, &key).unwrap_err();
        assert_eq!(error, TlsError::NoCertificate);
    }

    #[test]
    fn a_certificate_of_version_1_is_told_before_a_platform_is_asked() {
        let pem = include_str!("../tests/data/version-1.pem");
        assert_eq!(certificates(pem), Err(TlsError::Version1));
    }
}
