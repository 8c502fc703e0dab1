//! TLS of the listener: certificate, key and the CA of client certificates,
//! read again when their files change.
//!
//! Stands between accept and the first packet. A client certificate is asked
//! for, never demanded: any that the client holds the key of is let in here,
//! and the directory decides by its fingerprint, or by its common name if our
//! CA signed it. TLS 1.2 and 1.3, ring. No file is watched by the kernel:
//! their times are looked at, which works on every file system.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use prometheus::{IntGauge, Opts};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{
    DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
};

use crate::auth::{ClientCertificate, fingerprint};
use crate::metrics as names;

/// Where the listener's keys are; all PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate with its chain, the server's own first.
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Who signs the client certificates that are known by common name.
    pub client_ca: Option<PathBuf>,
}

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read {}: {source}", path.display())]
    Pem { path: PathBuf, source: rustls::pki_types::pem::Error },
    #[error("{} holds no certificate", path.display())]
    Empty { path: PathBuf },
    #[error("the certificate and key cannot be used: {0}")]
    Config(#[from] rustls::Error),
    #[error("the client CA cannot be used: {0}")]
    ClientCa(#[from] rustls::server::VerifierBuilderError),
}

/// The current configuration; handshakes take it as they begin.
#[derive(Debug)]
pub(crate) struct Tls {
    files: TlsFiles,
    current: RwLock<Arc<Current>>,
    /// When the first certificate of the chain expires.
    pub expiry: IntGauge,
}

/// What one reading of the files gave.
#[derive(Debug)]
pub(crate) struct Current {
    pub config: Arc<ServerConfig>,
    client_ca: Option<Arc<dyn ClientCertVerifier>>,
    read_of: Vec<Option<SystemTime>>,
    expires_at_s: i64,
}

impl Tls {
    pub(crate) fn open(files: TlsFiles) -> Result<Self, TlsError> {
        let current = read(&files)?;
        let help = "When the first certificate of the chain expires, since 1970";
        let expiry = Opts::new(names::TLS_CERTIFICATE_EXPIRY, help).const_label("listener", "mqtt");
        let expiry = IntGauge::with_opts(expiry).expect("the name and the label are valid");
        expiry.set(current.expires_at_s);
        Ok(Self { files, current: RwLock::new(Arc::new(current)), expiry })
    }

    pub(crate) fn current(&self) -> Arc<Current> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the files again; on an error the former configuration stays.
    /// Connections that stand are not touched.
    pub(crate) fn reload(&self) -> Result<(), TlsError> {
        let fresh = Arc::new(read(&self.files)?);
        self.expiry.set(fresh.expires_at_s);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// Reads the files again if one has another time than when it was read.
    pub(crate) fn reload_if_changed(&self) -> Result<bool, TlsError> {
        if times(&self.files) == self.current().read_of {
            return Ok(false);
        }
        self.reload().map(|()| true)
    }
}

impl Current {
    /// The client's certificate, if it showed one.
    pub(crate) fn client_certificate(
        &self,
        connection: &rustls::ServerConnection,
    ) -> Option<ClientCertificate> {
        let [own, intermediates @ ..] = connection.peer_certificates()? else { return None };
        let is_trusted = self
            .client_ca
            .as_ref()
            .is_some_and(|ca| ca.verify_client_cert(own, intermediates, UnixTime::now()).is_ok());
        let trusted_common_name = if is_trusted { common_name(own) } else { None };
        Some(ClientCertificate { fingerprint: fingerprint(own), trusted_common_name })
    }
}

fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let name = certificate.subject().iter_common_name().next()?;
    name.as_str().ok().map(str::to_owned)
}

/// When a certificate expires, in seconds since 1970.
fn expiry(certificate: &CertificateDer<'_>) -> Option<i64> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

fn times(files: &TlsFiles) -> Vec<Option<SystemTime>> {
    let time = |path: &Path| std::fs::metadata(path).and_then(|meta| meta.modified()).ok();
    let mut times = vec![time(&files.certificate), time(&files.key)];
    times.extend(files.client_ca.as_deref().map(time));
    times
}

fn read(files: &TlsFiles) -> Result<Current, TlsError> {
    // Taken before the files are read: a change in between is seen next time.
    let read_of = times(files);
    let provider = Arc::new(ring::default_provider());
    let client_ca = match &files.client_ca {
        Some(path) => Some(ca_verifier(path, &provider)?),
        None => None,
    };
    let hints = client_ca.as_ref().map(|ca| ca.root_hint_subjects().to_vec()).unwrap_or_default();
    let verifier = AnyClient { algorithms: provider.signature_verification_algorithms, hints };
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|source| TlsError::Pem { path: files.key.clone(), source })?;
    let chain = certificates(&files.certificate)?;
    let expires_at_s = chain.iter().filter_map(expiry).min().unwrap_or(i64::MAX);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(chain, key)?;
    // Tickets let a fleet come back without a full handshake each, and cost no
    // memory here; one is enough for a client that holds one connection.
    config.ticketer = ring::Ticketer::new()?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 1;
    config.alpn_protocols = vec![b"mqtt".to_vec()];
    Ok(Current { config: Arc::new(config), client_ca, read_of, expires_at_s })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = |source| TlsError::Pem { path: path.to_owned(), source };
    let found = CertificateDer::pem_file_iter(path)
        .map_err(pem)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(pem)?;
    if found.is_empty() { Err(TlsError::Empty { path: path.to_owned() }) } else { Ok(found) }
}

fn ca_verifier(
    path: &Path,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate)?;
    }
    let builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    Ok(builder.build()?)
}

/// Takes any certificate whose key the client holds. Who it is, is for the
/// directory to say; a self-signed one is as good as another by fingerprint.
#[derive(Debug)]
struct AnyClient {
    algorithms: WebPkiSupportedAlgorithms,
    hints: Vec<DistinguishedName>,
}

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
