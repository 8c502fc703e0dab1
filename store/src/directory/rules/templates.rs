//! What a message template must hold to. Whether its text is a template that can
//! be rendered is asked by who takes it in.

use schema::{Channel, DocumentKind, MessageTemplate};

use super::super::draft::Draft;
use super::super::index::Claim;
use super::super::limits::{MAX_SUBJECT_BYTES, MAX_TEMPLATE_BYTES, MAX_TEMPLATES};
use super::{DirectoryError, check_count, check_line, refuse, tenant};

pub(super) fn check_template(
    draft: &Draft<'_>,
    new: &MessageTemplate,
    id: Option<u64>,
) -> Result<(), DirectoryError> {
    tenant(draft, new.tenant)?;
    check_count(draft, new.tenant, DocumentKind::MessageTemplate, MAX_TEMPLATES, id)?;
    if new.channel == Channel::Webhook {
        let allowed = "email or sms: the body of a webhook has a fixed form";
        return refuse("channel", new.channel.to_string(), allowed);
    }
    check_length("text", &new.text)?;
    new.html.as_deref().map_or(Ok(()), |html| check_length("html", html))?;
    if let Some(subject) = &new.subject {
        check_line("subject", subject, MAX_SUBJECT_BYTES)?;
    }
    if new.channel == Channel::Sms {
        for (field, part) in [("subject", &new.subject), ("html", &new.html)] {
            if part.is_some() {
                let allowed = "nothing: an SMS has its text only";
                return refuse(field, "given".to_owned(), allowed);
            }
        }
    }
    let claim = Claim::Template(new.tenant, new.channel, new.language, new.kind);
    match draft.holder(&claim) {
        holder if holder.is_none() || holder == id => Ok(()),
        _ => Err(DirectoryError::TemplateTaken {
            channel: new.channel,
            language: new.language,
            about: new.kind,
        }),
    }
}

fn check_length(field: &'static str, text: &str) -> Result<(), DirectoryError> {
    if (1..=MAX_TEMPLATE_BYTES).contains(&text.len()) {
        return Ok(());
    }
    let value = format!("a text of {} bytes", text.len());
    refuse(field, value, format!("1 to {MAX_TEMPLATE_BYTES} bytes"))
}
