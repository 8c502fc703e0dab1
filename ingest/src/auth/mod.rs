//! Who a router is: credentials against the directory.
//!
//! Stands between CONNECT and the session. A token or a certificate is one
//! look-up in memory; a password costs an argon2 run, off the runtime's threads,
//! a few at a time, and only once per password and version of the router's
//! document. Nothing here writes, and no secret is kept or logged.

mod verified;

use std::fmt::Write as _;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use schema::{Credentials, Router};
use sha2::{Digest, Sha256};
use store::{Directory, Entry};
use tokio::sync::Semaphore;

use verified::Verified;

/// How much checking is done at once. All are limits of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthLimits {
    /// Argon2 runs at the same time; each takes a thread and some 19 MiB.
    pub password_checks: usize,
    /// Connections that wait for one; more are told that the server is busy.
    pub password_waiters: usize,
    /// Passwords known to be right, 32 bytes each.
    pub verified_passwords: usize,
}

impl Default for AuthLimits {
    fn default() -> Self {
        Self { password_checks: 2, password_waiters: 512, verified_passwords: 131_072 }
    }
}

/// A certificate that the client proved to hold the key of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// SHA-256 of its DER form, lower-case hexadecimal.
    pub fingerprint: String,
    /// Its common name, if the configured CA signed it.
    pub trusted_common_name: Option<String>,
}

/// What a client presented.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    pub user: Option<&'a str>,
    pub password: Option<&'a [u8]>,
    pub client_id: &'a str,
    pub certificate: Option<&'a ClientCertificate>,
}

/// Why a client may not connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    #[error("no router has these credentials")]
    BadCredentials,
    #[error("nothing was presented to go by")]
    NoCredentials,
    #[error("the router is disabled")]
    Disabled,
    #[error("too many passwords are being checked")]
    Busy,
}

impl AuthError {
    /// The same client may succeed later with the same credentials.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        match self {
            Self::Busy => true,
            Self::BadCredentials | Self::NoCredentials | Self::Disabled => false,
        }
    }
}

/// HMAC-SHA-256 of an access token under the installation's secret, in
/// hexadecimal: what the directory stores of a token.
#[must_use]
pub fn token_hash(secret: &[u8], token: &str) -> String {
    hexadecimal(&keyed_hash(secret, &[token.as_bytes()]))
}

/// SHA-256 of a certificate's DER form, in hexadecimal.
#[must_use]
pub fn fingerprint(der: &[u8]) -> String {
    hexadecimal(&Sha256::digest(der))
}

fn keyed_hash(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac =
        <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a string takes all that is written");
    }
    text
}

/// Checks credentials; one per node, shared by its connections.
#[derive(Debug)]
pub struct Authenticator {
    directory: Directory,
    secret: Box<[u8]>,
    checks: Arc<Semaphore>,
    places: Semaphore,
    verified: Verified,
}

impl Authenticator {
    /// `secret` is the installation's; token hashes in the directory are under it.
    ///
    /// # Errors
    /// If the operating system gives no random key for the cache.
    pub fn new(
        directory: Directory,
        secret: &[u8],
        limits: &AuthLimits,
    ) -> Result<Self, getrandom::Error> {
        let checks = limits.password_checks.max(1);
        Ok(Self {
            directory,
            secret: secret.into(),
            checks: Arc::new(Semaphore::new(checks)),
            places: Semaphore::new(checks + limits.password_waiters),
            verified: Verified::new(limits.verified_passwords)?,
        })
    }

    /// The router whose credentials these are.
    ///
    /// A certificate goes before a user name, its fingerprint before its common
    /// name; a user name without a password is an access token.
    ///
    /// # Errors
    /// [`AuthError`]; which part was wrong is never said.
    pub async fn check(&self, presented: Presented<'_>) -> Result<Arc<Entry<Router>>, AuthError> {
        let router = match self.by_certificate(presented.certificate) {
            Some(router) => router,
            None => self.by_name(presented).await?,
        };
        if router.enabled { Ok(router) } else { Err(AuthError::Disabled) }
    }

    fn by_certificate(
        &self,
        certificate: Option<&ClientCertificate>,
    ) -> Option<Arc<Entry<Router>>> {
        let certificate = certificate?;
        let key = format!("fingerprint:{}", certificate.fingerprint);
        self.directory.router_by_lookup_key(&key).or_else(|| {
            let name = certificate.trusted_common_name.as_ref()?;
            self.directory.router_by_lookup_key(&format!("cn:{name}"))
        })
    }

    async fn by_name(&self, presented: Presented<'_>) -> Result<Arc<Entry<Router>>, AuthError> {
        let user =
            presented.user.filter(|user| !user.is_empty()).ok_or(AuthError::NoCredentials)?;
        let Some(password) = presented.password.filter(|password| !password.is_empty()) else {
            let key = format!("token:{}", token_hash(&self.secret, user));
            return self.directory.router_by_lookup_key(&key).ok_or(AuthError::BadCredentials);
        };
        let router = self
            .directory
            .router_by_lookup_key(&format!("user:{user}"))
            .ok_or(AuthError::BadCredentials)?;
        let Credentials::Password { client_id, password_hash, .. } = &router.credentials else {
            return Err(AuthError::BadCredentials);
        };
        if client_id.as_ref().is_some_and(|client_id| client_id != presented.client_id) {
            return Err(AuthError::BadCredentials);
        }
        let proof = self.verified.proof(router.id, router.version, password);
        if !self.verified.contains(&proof) {
            self.verify(password_hash.clone(), password.to_vec()).await?;
            self.verified.insert(proof);
        }
        Ok(router)
    }

    /// What the router is found by, as the directory has it; none where nothing
    /// was presented. Where there are two ways, the first that is tried.
    #[must_use]
    pub fn lookup_key(&self, presented: Presented<'_>) -> Option<String> {
        if let Some(router) = self.by_certificate(presented.certificate) {
            return Some(router.credentials.lookup_key());
        }
        let Some(user) = presented.user.filter(|user| !user.is_empty()) else {
            let certificate = presented.certificate?;
            return Some(format!("fingerprint:{}", certificate.fingerprint));
        };
        Some(match presented.password.filter(|password| !password.is_empty()) {
            Some(_) => format!("user:{user}"),
            None => format!("token:{}", token_hash(&self.secret, user)),
        })
    }

    async fn verify(&self, hash: String, password: Vec<u8>) -> Result<(), AuthError> {
        let _place = self.places.try_acquire().map_err(|_| AuthError::Busy)?;
        let permit = Arc::clone(&self.checks).acquire_owned().await.map_err(|_| AuthError::Busy)?;
        let right = tokio::task::spawn_blocking(move || {
            // The permit goes along, so that a client that hangs up meanwhile
            // does not make room for one run more.
            let _permit = permit;
            is_password_of(&password, &hash)
        });
        match right.await {
            Ok(true) => Ok(()),
            Ok(false) => Err(AuthError::BadCredentials),
            Err(_stopped) => Err(AuthError::Busy),
        }
    }

    /// How many passwords are known to be right, of at most the limit.
    #[must_use]
    pub fn verified_passwords(&self) -> usize {
        self.verified.len()
    }
}

fn is_password_of(password: &[u8], hash: &str) -> bool {
    use argon2::password_hash::PasswordVerifier as _;
    argon2::Argon2::default().verify_password(password, hash).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_what_the_directory_stores() {
        // The well-known vectors; another hash would lock every router out.
        assert_eq!(
            token_hash(b"key", "The quick brown fox jumps over the lazy dog"),
            "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8"
        );
        assert_eq!(
            fingerprint(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
