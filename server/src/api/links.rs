//! The pages behind the links in messages: acknowledging an alarm and ending a
//! subscription, in the name of the person to whom the message went.
//!
//! A link is opened with GET, which only asks, because mail scanners open every
//! link that they find; the button behind it, or the one click of RFC 8058, is a
//! POST. Each link acts once, and says in its reader's language what came of it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use alarms::CommandError;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use notifier::links::{Ask, Link, LinkAction, LinkError, open};
use schema::{
    AlarmAction, AlarmId, Author, DocumentBody, Language, OfflineProfile, Provenance, Recipient,
};
use store::Directory;

use super::peer::Peer;
use super::state::AppState;
use crate::clock::now;

/// The routes of this module, beside `/api/v1`.
pub fn routes() -> Router<AppState> {
    Router::new().route("/links/{token}", get(ask).post(act))
}

/// What a page says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    AskAcknowledge { alarm: String },
    AskUnsubscribe,
    Acknowledged,
    AcknowledgedAlready,
    Unsubscribed,
    Used,
    Expired,
    Unknown,
    Gone,
    TooMany,
    NotNow,
}

impl Said {
    fn status(&self) -> StatusCode {
        match self {
            Self::AskAcknowledge { .. }
            | Self::AskUnsubscribe
            | Self::Acknowledged
            | Self::AcknowledgedAlready
            | Self::Unsubscribed => StatusCode::OK,
            Self::Used | Self::Expired | Self::Gone => StatusCode::GONE,
            Self::Unknown => StatusCode::NOT_FOUND,
            Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Self::NotNow => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn text(&self, language: Language) -> String {
        let (nl, en) = match self {
            Self::AskAcknowledge { alarm } => {
                return match language {
                    Language::Nl => format!("Wilt u deze melding bevestigen?\n{alarm}"),
                    Language::En => format!("Acknowledge this alarm?\n{alarm}"),
                };
            }
            Self::AskUnsubscribe => (
                "Wilt u deze meldingen niet meer ontvangen?",
                "Stop receiving these notifications?",
            ),
            Self::Acknowledged => ("De melding is bevestigd.", "The alarm is acknowledged."),
            Self::AcknowledgedAlready => {
                ("De melding was al bevestigd.", "The alarm was acknowledged already.")
            }
            Self::Unsubscribed => (
                "U ontvangt deze meldingen niet meer.",
                "You will not receive these notifications any more.",
            ),
            Self::Used => ("Deze link is al gebruikt.", "This link was used already."),
            Self::Expired => ("Deze link is verlopen.", "This link has expired."),
            Self::Unknown => (
                "Deze link klopt niet. Misschien ontbreekt er een stuk.",
                "This link is not right. Perhaps a part of it is missing.",
            ),
            Self::Gone => ("Dit bestaat niet meer.", "This is no longer there."),
            Self::TooMany => (
                "Te veel onjuiste links vanaf dit adres; probeer het later opnieuw.",
                "Too many wrong links from this address; try again later.",
            ),
            Self::NotNow => (
                "Dit lukt nu niet; probeer het zo opnieuw.",
                "This can't be done right now; try again in a moment.",
            ),
        };
        match language {
            Language::Nl => nl.to_owned(),
            Language::En => en.to_owned(),
        }
    }

    fn button(&self, language: Language) -> Option<&'static str> {
        match (self, language) {
            (Self::AskAcknowledge { .. }, Language::Nl) => Some("Bevestigen"),
            (Self::AskAcknowledge { .. }, Language::En) => Some("Acknowledge"),
            (Self::AskUnsubscribe, Language::Nl) => Some("Afmelden"),
            (Self::AskUnsubscribe, Language::En) => Some("Unsubscribe"),
            _ => None,
        }
    }
}

fn page(said: &Said, language: Language) -> Response {
    let lines: Vec<String> =
        said.text(language).lines().map(|line| format!("<p>{}</p>", escaped(line))).collect();
    let button = said.button(language).map_or_else(String::new, |label| {
        format!("<form method=\"post\"><button type=\"submit\">{label}</button></form>")
    });
    let html = format!(
        "<!doctype html><html lang=\"{}\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"robots\" content=\"noindex\"><meta name=\"color-scheme\" content=\"light dark\">\
         <title>Baken</title><style>body{{font:1.1rem/1.5 system-ui,sans-serif;max-width:32rem;\
         margin:15vh auto;padding:0 1rem}}button{{font:inherit;padding:.6rem 1.4rem;\
         border-radius:.4rem;border:0;background:#0b5cad;color:#fff}}</style></head>\
         <body>{}{button}</body></html>",
        language.as_str(),
        lines.concat(),
    );
    let mut response = (said.status(), Html(html)).into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; \
             frame-ancestors 'none'; base-uri 'none'",
        ),
    );
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, c| {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
        escaped
    })
}

/// The link, if it is genuine, good and unused; the page that says why not.
async fn opened(state: &AppState, token: &str, from: IpAddr) -> Result<(Link, Language), Response> {
    let link = match open(&state.links, token, now()) {
        Ok(link) => link,
        Err(LinkError::Expired) => return Err(page(&Said::Expired, Language::default())),
        Err(LinkError::Malformed | LinkError::Forged) => {
            let said = match state.failures.note(from, Instant::now()) {
                Some(_) => Said::TooMany,
                None => Said::Unknown,
            };
            return Err(page(&said, Language::default()));
        }
    };
    let language = language(state.store.directory(), &link);
    match state.store.alarms().link_used(link.id()).await {
        Ok(false) => Ok((link, language)),
        Ok(true) => Err(page(&Said::Used, language)),
        Err(error) => {
            tracing::error!(%error, "whether a link was used can't be read");
            Err(page(&Said::NotNow, language))
        }
    }
}

fn language(directory: &Directory, link: &Link) -> Language {
    let of_ask = match link.action {
        LinkAction::Unsubscribe(Ask::OfflineProfile(id)) => {
            directory.offline_profile(id).map(|profile| profile.language)
        }
        LinkAction::Unsubscribe(Ask::Subscription(_)) | LinkAction::Acknowledge { .. } => None,
    };
    match &link.recipient {
        Recipient::User(id) => directory.user(*id).map(|user| user.language),
        Recipient::Address(_) => of_ask,
    }
    .unwrap_or_default()
}

async fn ask(
    State(state): State<AppState>,
    Peer(from): Peer,
    Path(token): Path<String>,
) -> Response {
    let (link, language) = match opened(&state, &token, from).await {
        Ok(opened) => opened,
        Err(refused) => return refused,
    };
    let said = match link.action {
        LinkAction::Unsubscribe(_) => Said::AskUnsubscribe,
        LinkAction::Acknowledge { alarm, .. } => match state.store.alarms().alarm(alarm).await {
            Ok(Some(found)) if found.status.acknowledged => Said::AcknowledgedAlready,
            Ok(Some(found)) => {
                let text = found.last_details["description"].as_str().unwrap_or_default();
                Said::AskAcknowledge { alarm: text.to_owned() }
            }
            Ok(None) => Said::Gone,
            Err(error) => {
                tracing::error!(%error, "the alarm of a link can't be read");
                Said::NotNow
            }
        },
    };
    page(&said, language)
}

async fn act(
    State(state): State<AppState>,
    Peer(from): Peer,
    Path(token): Path<String>,
) -> Response {
    let (link, language) = match opened(&state, &token, from).await {
        Ok(opened) => opened,
        Err(refused) => return refused,
    };
    let author = author(state.store.directory(), &link.recipient, from);
    let said = match link.action {
        LinkAction::Acknowledge { alarm, .. } => acknowledge(&state, alarm, author).await,
        LinkAction::Unsubscribe(ask) => unsubscribe(&state, ask, &link.recipient, author).await,
    };
    // It has acted, or there is nothing to act on: it never will again. What
    // failed for now can be tried again.
    if said != Said::NotNow
        && let Err(error) = state.store.alarms().use_link(link.id(), now(), link.expires).await
    {
        tracing::error!(%error, "that a link was used can't be written; it may act again");
    }
    page(&said, language)
}

fn author(directory: &Directory, recipient: &Recipient, from: IpAddr) -> Author {
    let name = match recipient {
        Recipient::User(id) => directory
            .user(*id)
            .map_or_else(|| format!("user {id}"), |user| format!("user {id} ({})", user.name)),
        Recipient::Address(address) => address.clone(),
    };
    let provenance = Provenance { token: None, from: Some(from.to_canonical().to_string()) };
    Author { by: format!("{name} by link").into(), provenance: Some(Arc::new(provenance)) }
}

async fn acknowledge(state: &AppState, alarm: AlarmId, author: Author) -> Said {
    match state.alarms.commands().act(alarm, AlarmAction::Acknowledge, author).await {
        Ok(()) => Said::Acknowledged,
        Err(CommandError::Already(_)) => Said::AcknowledgedAlready,
        Err(CommandError::NoSuchAlarm) => Said::Gone,
        Err(error) => {
            tracing::warn!(%error, "an alarm can't be acknowledged by link");
            Said::NotNow
        }
    }
}

async fn unsubscribe(state: &AppState, ask: Ask, recipient: &Recipient, author: Author) -> Said {
    let directory = state.store.directory().by(author);
    let (id, version, body) = match (ask, recipient) {
        (Ask::Subscription(id), Recipient::User(user)) => {
            let Some(found) = directory.subscription(id).filter(|it| it.user == *user) else {
                return Said::Unsubscribed;
            };
            let mut changed = found.body.clone();
            changed.enabled = false;
            (id, found.version, DocumentBody::Subscription(changed))
        }
        (Ask::OfflineProfile(id), _) => {
            let Some(found) = directory.offline_profile(id) else { return Said::Unsubscribed };
            let changed = without(found.body.clone(), recipient);
            (id, found.version, DocumentBody::OfflineProfile(changed))
        }
        (Ask::Subscription(_), Recipient::Address(_)) => return Said::Gone,
    };
    match directory.update(id, Some(version), body).await {
        Ok(_) => Said::Unsubscribed,
        Err(error) => {
            tracing::warn!(%error, "a subscription can't be ended by link");
            Said::NotNow
        }
    }
}

/// The profile without one of its recipients; one that has no other is switched
/// off instead, because nobody at all would be no profile.
fn without(mut profile: OfflineProfile, recipient: &Recipient) -> OfflineProfile {
    let all = profile.users.len() + profile.emails.len() + profile.phones.len();
    if all == 1 {
        profile.enabled = false;
        return profile;
    }
    match recipient {
        Recipient::User(user) => profile.users.retain(|known| known != user),
        Recipient::Address(address) => {
            profile.emails.retain(|known| known != address);
            profile.phones.retain(|known| known != address);
        }
    }
    profile
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_shows_what_a_router_wrote_as_text_and_loads_nothing() {
        let alarm = "<script>alert(1)</script> & more".to_owned();
        let response = page(&Said::AskAcknowledge { alarm }, Language::Nl);
        assert_eq!(response.status(), StatusCode::OK);
        let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
        assert_eq!(escaped("<b>'\"&"), "&lt;b&gt;&#39;&quot;&amp;");
    }

    #[test]
    fn the_last_recipient_switches_the_profile_off() {
        let text = r#"{"tenant":1,"name":"x","after_s":600,"emails":["a@b.nl","c@d.nl"]}"#;
        let profile: OfflineProfile = serde_json::from_str(text).unwrap();
        let one = without(profile, &Recipient::Address("a@b.nl".to_owned()));
        assert_eq!((one.enabled, one.emails.as_slice()), (true, ["c@d.nl".to_owned()].as_slice()));
        let none = without(one, &Recipient::Address("c@d.nl".to_owned()));
        assert_eq!((none.enabled, none.emails.len()), (false, 1));
    }
}
