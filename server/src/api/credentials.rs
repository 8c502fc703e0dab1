//! A router's credentials, from what a client of the API writes to what is
//! stored: tokens and passwords as hashes, fingerprints in one spelling.

use std::sync::{Arc, LazyLock};

use argon2::Argon2;
use argon2::password_hash::PasswordHasher as _;
use argon2::password_hash::phc::PasswordHash;
use schema::{Credentials, MAX_NAME_BYTES};
use serde::{Deserialize, Serialize};
use store::{Directory, DirectoryError};
use tokio::sync::Semaphore;
use utoipa::ToSchema;

use super::problem::{ApiResult, Problem};
use crate::secret::{Secret, generate_token};

/// The longest password, in bytes.
const MAX_PASSWORD_BYTES: usize = 1_024;

/// Passwords that are hashed at once over all requests; each takes a thread and
/// some 19 MiB for as long as a core needs for 50 ms or less.
const PASSWORD_HASHES: usize = 2;

/// The most passwords of one request, so that it ends before its time is over.
const MAX_PASSWORDS_AT_ONCE: usize = 200;

const SALT_BYTES: usize = 16;

static HASHING: LazyLock<Arc<Semaphore>> =
    LazyLock::new(|| Arc::new(Semaphore::new(PASSWORD_HASHES)));

/// How a router is to prove who it is.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[schema(as = CredentialsInput)]
pub enum Input {
    /// The MQTT user name is an access token.
    AccessToken {
        /// 1 to 255 bytes; generated, and shown once, when not given.
        token: Option<String>,
    },
    /// MQTT user name and password.
    Password {
        user: String,
        password: String,
        /// The MQTT client id that the router must have, where one is given.
        client_id: Option<String>,
    },
    /// A client certificate by its SHA-256 fingerprint.
    Fingerprint {
        /// 64 hexadecimal digits; colons and upper case are taken too.
        sha256: String,
    },
    /// A client certificate that the configured CA signed, by its common name.
    CommonName { common_name: String },
}

/// How a router proves who it is; never a secret.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = Credentials)]
pub enum Shown {
    AccessToken {},
    Password {
        user: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        client_id: Option<String>,
    },
    Fingerprint {
        sha256: String,
    },
    CommonName {
        common_name: String,
    },
}

impl Shown {
    pub fn of(credentials: &Credentials) -> Self {
        match credentials {
            Credentials::AccessToken { .. } => Self::AccessToken {},
            Credentials::Password { user, client_id, .. } => {
                Self::Password { user: user.clone(), client_id: client_id.clone() }
            }
            Credentials::Fingerprint { sha256 } => Self::Fingerprint { sha256: sha256.clone() },
            Credentials::CommonName { common_name } => {
                Self::CommonName { common_name: common_name.clone() }
            }
        }
    }
}

/// Credentials as they are stored, and the token if it was generated here.
pub struct Prepared {
    pub credentials: Credentials,
    pub token: Option<String>,
}

/// Checks and hashes the credentials of the routers of one request. An error
/// comes with the place of the first router that is wrong.
pub async fn prepare(
    directory: &Directory,
    secret: &Secret,
    inputs: Vec<Input>,
) -> Result<Vec<Prepared>, (usize, Problem)> {
    let mut prepared = Vec::with_capacity(inputs.len());
    let mut passwords = Vec::new();
    for (index, input) in inputs.into_iter().enumerate() {
        let (one, password) = check(secret, input).map_err(|problem| (index, problem))?;
        if let Some(password) = password {
            // Told before the work of hashing; the directory checks again.
            if directory.router_by_lookup_key(&one.credentials.lookup_key()).is_some() {
                return Err((index, DirectoryError::CredentialsInUse.into()));
            }
            passwords.push((index, password));
        }
        prepared.push(one);
    }
    if passwords.len() > MAX_PASSWORDS_AT_ONCE {
        let detail = format!(
            "At most {MAX_PASSWORDS_AT_ONCE} routers with passwords are made at once, because \
             hashing takes time."
        );
        let (index, _) = passwords[MAX_PASSWORDS_AT_ONCE];
        return Err((index, Problem::invalid("credentials.type", detail)));
    }
    let Some(&(first, _)) = passwords.first() else { return Ok(prepared) };
    let hashes = hash_all(passwords).await.map_err(|problem| (first, problem))?;
    for (index, hash) in hashes {
        if let Credentials::Password { password_hash, .. } = &mut prepared[index].credentials {
            *password_hash = hash;
        }
    }
    Ok(prepared)
}

/// The credentials that a router is to have instead of its former ones. The user
/// may be its own, so the directory alone says whether the name is in use.
pub async fn renew(secret: &Secret, input: Input) -> ApiResult<Prepared> {
    let (mut prepared, password) = check(secret, input)?;
    if let (Credentials::Password { password_hash, .. }, Some(password)) =
        (&mut prepared.credentials, password)
    {
        let mut hashes = hash_all(vec![(0, password)]).await?;
        *password_hash = hashes.pop().expect("one was asked for").1;
    }
    Ok(prepared)
}

/// The credentials without the hash of the password, which comes beside them.
fn check(secret: &Secret, input: Input) -> ApiResult<(Prepared, Option<String>)> {
    let stored = |credentials| Prepared { credentials, token: None };
    Ok(match input {
        Input::AccessToken { token: Some(token) } => {
            check_text("credentials.token", &token)?;
            let hash = secret.token_hash(&token);
            (stored(Credentials::AccessToken { hash }), None)
        }
        Input::AccessToken { token: None } => {
            let token = generate_token().map_err(|error| Problem::internal(&error))?;
            let hash = secret.token_hash(&token);
            let credentials = Credentials::AccessToken { hash };
            (Prepared { credentials, token: Some(token) }, None)
        }
        Input::Password { user, password, client_id } => {
            check_text("credentials.user", &user)?;
            if let Some(client_id) = &client_id {
                check_text("credentials.client_id", client_id)?;
            }
            if !(1..=MAX_PASSWORD_BYTES).contains(&password.len()) {
                let detail = format!(
                    "It has {} bytes, and must have 1 to {MAX_PASSWORD_BYTES}.",
                    password.len()
                );
                return Err(Problem::invalid("credentials.password", detail));
            }
            let credentials =
                Credentials::Password { user, client_id, password_hash: String::new() };
            (stored(credentials), Some(password))
        }
        Input::Fingerprint { sha256 } => {
            (stored(Credentials::Fingerprint { sha256: checked_fingerprint(&sha256)? }), None)
        }
        Input::CommonName { common_name } => {
            check_text("credentials.common_name", &common_name)?;
            (stored(Credentials::CommonName { common_name }), None)
        }
    })
}

/// As it is stored and compared: lower-case digits without colons.
fn checked_fingerprint(text: &str) -> ApiResult<String> {
    let digits: String =
        text.trim().chars().filter(|&c| c != ':').map(|c| c.to_ascii_lowercase()).collect();
    if digits.len() == 64 && digits.chars().all(|c| c.is_ascii_hexdigit()) {
        return Ok(digits);
    }
    let text: String = text.chars().take(128).collect();
    let detail = format!(
        "It is {text:?}, and must be a SHA-256 fingerprint: 64 hexadecimal digits, with or \
         without colons."
    );
    Err(Problem::invalid("credentials.sha256", detail))
}

/// The secret among the texts, the token, is not repeated in the answer.
fn check_text(field: &str, text: &str) -> ApiResult<()> {
    if (1..=MAX_NAME_BYTES).contains(&text.len()) && !text.chars().any(char::is_control) {
        return Ok(());
    }
    let controls = text.chars().filter(|c| c.is_control()).count();
    let detail = format!(
        "It has {} bytes with {controls} control characters, and must have 1 to \
         {MAX_NAME_BYTES} bytes without any.",
        text.len()
    );
    Err(Problem::invalid(field, detail))
}

/// PHC strings by argon2id with its default cost (19 MiB, 2 passes), which is
/// what OWASP advises.
async fn hash_all(passwords: Vec<(usize, String)>) -> ApiResult<Vec<(usize, String)>> {
    let place = Arc::clone(&HASHING).acquire_owned().await;
    let place = place.map_err(|error| Problem::internal(&error))?;
    let work = move || {
        // Goes along, so that a client that hangs up does not make room.
        let _place = place;
        let hash = |(index, password): (usize, String)| {
            let mut salt = [0; SALT_BYTES];
            getrandom::fill(&mut salt).map_err(|error| Problem::internal(&error))?;
            let hash: PasswordHash = Argon2::default()
                .hash_password_with_salt(password.as_bytes(), &salt)
                .map_err(|error| Problem::internal(&error))?;
            Ok((index, hash.to_string()))
        };
        passwords.into_iter().map(hash).collect()
    };
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(Problem::internal(&error)))
}

#[cfg(test)]
mod tests {
    use argon2::password_hash::PasswordVerifier as _;

    use super::*;

    fn secret() -> Secret {
        Secret::from_hex(&"0b".repeat(32)).unwrap()
    }

    #[test]
    fn a_fingerprint_has_one_spelling() {
        let stored = "ab".repeat(32);
        for text in [stored.clone(), stored.to_uppercase(), vec!["AB"; 32].join(":")] {
            assert_eq!(checked_fingerprint(&text).unwrap(), stored);
        }
        for text in ["", "ab", &"zz".repeat(32), &"ab".repeat(33)] {
            let problem = checked_fingerprint(text).unwrap_err();
            assert_eq!(problem.field.as_deref(), Some("credentials.sha256"));
        }
    }

    #[test]
    fn a_token_is_kept_as_its_hash_and_shown_only_if_generated() {
        let given = Input::AccessToken { token: Some("A1_TEST_TOKEN".to_owned()) };
        let (prepared, _) = check(&secret(), given).unwrap();
        let hash = secret().token_hash("A1_TEST_TOKEN");
        assert_eq!(prepared.credentials, Credentials::AccessToken { hash });
        assert_eq!(prepared.token, None);
        let (prepared, _) = check(&secret(), Input::AccessToken { token: None }).unwrap();
        let hash = secret().token_hash(&prepared.token.unwrap());
        assert_eq!(prepared.credentials, Credentials::AccessToken { hash });
    }

    #[test]
    fn a_refused_token_is_not_repeated() {
        for token in ["", "a\nb", &"x".repeat(256)] {
            let input = Input::AccessToken { token: Some(token.to_owned()) };
            let Err(problem) = check(&secret(), input) else { panic!("{token:?} was taken") };
            assert_eq!(problem.field.as_deref(), Some("credentials.token"));
            assert!(token.is_empty() || !problem.detail.contains(token), "{}", problem.detail);
        }
    }

    #[tokio::test]
    async fn a_password_is_hashed_with_a_salt_of_its_own() {
        let passwords = vec![(0, "secret".to_owned()), (7, "secret".to_owned())];
        let hashes = hash_all(passwords).await.unwrap();
        assert_eq!((hashes[0].0, hashes[1].0), (0, 7));
        assert_ne!(hashes[0].1, hashes[1].1);
        for (_, hash) in hashes {
            assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
            assert!(hash.len() <= MAX_NAME_BYTES);
            assert!(Argon2::default().verify_password(b"secret", hash.as_str()).is_ok());
            assert!(Argon2::default().verify_password(b"Secret", hash.as_str()).is_err());
        }
    }
}
