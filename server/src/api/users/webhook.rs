//! A user's webhook, from what a client of the API writes to what is stored.

use notifier::webhook::check_url;
use schema::{TenantId, Webhook};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::extract::given;
use crate::api::problem::{ApiResult, Problem};
use crate::api::state::AppState;
use crate::secret::{generate_token, webhook_context};

/// The shortest secret that a client may give: as many bits as nobody guesses.
const MIN_SECRET_BYTES: usize = 16;

/// The longest one.
const MAX_SECRET_BYTES: usize = 255;

/// Where a tool takes messages. Each request to it is signed.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = WebhookInput)]
pub struct Input {
    /// An address of the public Internet that begins with `https://`, unless the
    /// server's settings allow others. Stays when not given.
    url: Option<String>,
    /// Signs each request (HMAC-SHA-256); 16 to 255 bytes without control characters.
    /// Stays when not given; `null`, or none where there is none yet, makes one,
    /// which is shown once.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    secret: Option<Option<String>>,
}

/// Where a tool takes messages.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Webhook)]
pub struct Shown {
    url: String,
    /// A secret signs each request; always true.
    has_secret: bool,
    /// The secret itself, in the answer to the request for which it was made and
    /// never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

impl Shown {
    pub fn of(webhook: &Webhook) -> Self {
        Self { url: webhook.url.clone(), has_secret: true, secret: None }
    }
}

/// The webhook as it is stored, and its secret if that was made here.
pub fn taken(
    state: &AppState,
    tenant: TenantId,
    was: Option<&Webhook>,
    input: Option<Input>,
) -> ApiResult<(Option<Webhook>, Option<String>)> {
    let Some(Input { url, secret }) = input else { return Ok((None, None)) };
    let url = match (url, was) {
        (Some(url), _) => checked_url(state, url)?,
        (None, Some(was)) => was.url.clone(),
        (None, None) => {
            let detail = "It is missing; give the address that takes the messages.";
            return Err(Problem::invalid("webhook.url", detail));
        }
    };
    let seal = |plain: &str| {
        let sealed = state.secret.seal(&webhook_context(tenant), plain);
        sealed.map_err(|error| Problem::internal(&error))
    };
    match (secret, was) {
        (None, Some(was)) => Ok((Some(Webhook { url, secret: was.secret.clone() }), None)),
        (Some(Some(given)), _) => {
            check_secret(&given)?;
            Ok((Some(Webhook { url, secret: seal(&given)? }), None))
        }
        (Some(None) | None, _) => {
            let made = generate_token().map_err(|error| Problem::internal(&error))?;
            Ok((Some(Webhook { url, secret: seal(&made)? }), Some(made)))
        }
    }
}

/// The URL where the installation allows it. What its name resolves to is checked
/// with each request.
fn checked_url(state: &AppState, url: String) -> ApiResult<String> {
    let Err(error) = check_url(&url, &state.webhook) else { return Ok(url) };
    let shown: String = url.chars().take(128).collect();
    let detail = format!(
        "It is {shown:?}, but {error}; an address such as \"https://chat.example.com/hook\" is \
         taken."
    );
    Err(Problem::invalid("webhook.url", detail))
}

/// The secret is not repeated in the answer.
fn check_secret(secret: &str) -> ApiResult<()> {
    let controls = secret.chars().filter(|c| c.is_control()).count();
    if (MIN_SECRET_BYTES..=MAX_SECRET_BYTES).contains(&secret.len()) && controls == 0 {
        return Ok(());
    }
    let detail = format!(
        "It has {} bytes with {controls} control characters, and must have {MIN_SECRET_BYTES} to \
         {MAX_SECRET_BYTES} bytes without any.",
        secret.len()
    );
    Err(Problem::invalid("webhook.secret", detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_secret_is_not_repeated() {
        for secret in ["short", "with a\ncontrol character", &"x".repeat(256)] {
            let problem = check_secret(secret).unwrap_err();
            assert_eq!(problem.field.as_deref(), Some("webhook.secret"));
            assert!(!problem.detail.contains(secret), "{}", problem.detail);
        }
        check_secret("exactly 16 bytes").unwrap();
    }
}
