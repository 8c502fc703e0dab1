//! From facts to content.

use minijinja::Value;
use schema::{Channel, Language, MessageTemplate, TemplateKind};

use super::MessageFacts;
use super::context::Context;
use super::data;
use super::engine::run;
use super::error::{RenderError, TemplateError, TemplateFault, TemplateField};
use super::limits::{
    MAX_HTML_BYTES, MAX_SMS_CHARS, MAX_SUBJECT_CHARS, MAX_TEMPLATE_BYTES, MAX_TEXT_BYTES,
};
use super::own::own;
use super::sample::{bare, extreme, usual};
use super::text::{line, paragraphs, sms};
use super::variables::is_about_one_alarm;
use crate::channel::Content;

/// The bytes of a subject before it is cut.
const MAX_LONG_SUBJECT_BYTES: usize = 16 * 1024;

/// A message as it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    pub content: Content,
    /// Why Baken's own template was taken in the place of the tenant's, where it
    /// was: to be counted and shown, while nobody misses an alarm for it.
    pub own_failed: Option<TemplateError>,
}

/// Writes the message for the channel, by the tenant's template where there is one
/// (of the same channel, language and kind) and it works, else by Baken's own.
pub fn render(
    channel: Channel,
    facts: &MessageFacts,
    own_template: Option<&MessageTemplate>,
) -> Result<Rendered, RenderError> {
    if is_about_one_alarm(facts.kind) && facts.notices.is_empty() {
        return Err(RenderError::NoNotice(facts.kind.as_str()));
    }
    let context = Value::from_serialize(Context::new(facts));
    if channel == Channel::Webhook {
        let short = run(
            TemplateField::Text,
            &own(facts.language, facts.kind).sms,
            facts.kind,
            &context,
            MAX_TEXT_BYTES,
        )?;
        let data = Some(data::data(facts, &line(&short, MAX_SMS_CHARS)));
        let content = Content { data, ..Content::default() };
        return Ok(Rendered { content: about(facts, content), own_failed: None });
    }
    let mut own_failed = None;
    if own_template.is_some() {
        match written(channel, facts, &context, own_template) {
            Ok(content) => return Ok(Rendered { content, own_failed: None }),
            Err(error) => own_failed = Some(error),
        }
    }
    let content = written(channel, facts, &context, None)?;
    Ok(Rendered { content, own_failed })
}

/// Says which alarm it is about.
fn about(facts: &MessageFacts, content: Content) -> Content {
    let newest = facts.notices.last().filter(|_| is_about_one_alarm(facts.kind));
    Content { alarm: newest.map(|notice| notice.alarm), ..content }
}

fn written(
    channel: Channel,
    facts: &MessageFacts,
    context: &Value,
    template: Option<&MessageTemplate>,
) -> Result<Content, TemplateError> {
    let own = own(facts.language, facts.kind);
    let run = |field, source: &str, max_bytes| {
        let text = run(field, source, facts.kind, context, max_bytes)?;
        if text.trim().is_empty() {
            return Err(TemplateError { field, line: None, fault: TemplateFault::Empty });
        }
        Ok(text)
    };
    if channel == Channel::Sms {
        let source = template.map_or(&own.sms, |template| &template.text);
        let text = sms(&run(TemplateField::Text, source, MAX_TEXT_BYTES)?);
        return Ok(about(facts, Content { text, ..Content::default() }));
    }
    let subject = template.and_then(|template| template.subject.as_ref());
    let subject = subject.unwrap_or(&own.subject);
    let subject = run(TemplateField::Subject, subject, MAX_LONG_SUBJECT_BYTES)?;
    let text = template.map_or(&own.text, |template| &template.text);
    let text = run(TemplateField::Text, text, MAX_TEXT_BYTES)?;
    let html = template.map_or(Some(&own.html), |template| template.html.as_ref());
    let html = html.map(|html| run(TemplateField::Html, html, MAX_HTML_BYTES)).transpose()?;
    let content = Content {
        subject: line(&subject, MAX_SUBJECT_CHARS),
        text: paragraphs(&text),
        html,
        unsubscribe: facts.unsubscribe.clone(),
        ..Content::default()
    };
    Ok(about(facts, content))
}

/// Whether a template can be saved: it is read, and run with usual facts, with as
/// few as there can be, and with more and longer ones than anybody would like.
pub fn check_template(template: &MessageTemplate) -> Result<(), TemplateError> {
    let wrong = |field, fault| Err(TemplateError { field, line: None, fault });
    let fields = [
        (TemplateField::Subject, template.subject.as_deref()),
        (TemplateField::Text, Some(template.text.as_str())),
        (TemplateField::Html, template.html.as_deref()),
    ];
    for (field, source) in fields {
        let Some(source) = source else { continue };
        if template.channel == Channel::Webhook {
            return wrong(field, TemplateFault::NoTemplate);
        }
        if template.channel == Channel::Sms && field != TemplateField::Text {
            return wrong(field, TemplateFault::NotUsed);
        }
        if source.len() > MAX_TEMPLATE_BYTES {
            let fault = TemplateFault::TooLong { bytes: source.len(), max: MAX_TEMPLATE_BYTES };
            return wrong(field, fault);
        }
    }
    for facts in [usual, bare, extreme].map(|sample| sample(template.language, template.kind)) {
        let context = Value::from_serialize(Context::new(&facts));
        written(template.channel, &facts, &context, Some(template))?;
    }
    Ok(())
}

/// The message that a template gives of made-up facts.
pub fn preview(template: &MessageTemplate) -> Result<Content, TemplateError> {
    check_template(template)?;
    let facts = usual(template.language, template.kind);
    let context = Value::from_serialize(Context::new(&facts));
    written(template.channel, &facts, &context, Some(template))
}

/// The message that Baken's own template gives of made-up facts.
pub fn preview_own(
    channel: Channel,
    language: Language,
    kind: TemplateKind,
) -> Result<Content, RenderError> {
    render(channel, &usual(language, kind), None).map(|rendered| rendered.content)
}
