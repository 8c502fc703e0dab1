//! Baken's own templates: a file for each language and kind, in which a line
//! `=== FIELD` begins each field, and `{# part NAME #}` stands for a piece of the
//! language's `parts.jinja` (or of the one of all languages). What is put together
//! is whole in itself, so that a tenant can take it as the beginning of an own one.

use std::collections::HashMap;
use std::sync::LazyLock;

use schema::{Channel, Language, MessageTemplate, TemplateKind, TenantId};

macro_rules! files {
    ($($language:ident / $folder:literal: $($kind:ident $file:literal),+;)+) => {
        fn file(language: Language, kind: TemplateKind) -> &'static str {
            match (language, kind) {
                $($((Language::$language, TemplateKind::$kind) => {
                    include_str!(concat!("templates/", $folder, "/", $file, ".jinja"))
                })+)+
            }
        }
    };
}

files! {
    Nl / "nl": Raised "raised", SeverityChanged "severity_changed", Acknowledged "acknowledged",
        Cleared "cleared", Escalated "escalated", Reminder "reminder", Digest "digest", Test "test";
    En / "en": Raised "raised", SeverityChanged "severity_changed", Acknowledged "acknowledged",
        Cleared "cleared", Escalated "escalated", Reminder "reminder", Digest "digest", Test "test";
}

const PARTS: &str = include_str!("templates/parts.jinja");
const PARTS_NL: &str = include_str!("templates/nl/parts.jinja");
const PARTS_EN: &str = include_str!("templates/en/parts.jinja");

/// All fields of one kind of message in one language, put together.
pub(super) struct Own {
    pub(super) subject: String,
    pub(super) text: String,
    pub(super) html: String,
    pub(super) sms: String,
}

static ALL: LazyLock<HashMap<(Language, TemplateKind), Own>> = LazyLock::new(|| {
    let pairs = Language::ALL
        .into_iter()
        .flat_map(|language| TemplateKind::ALL.into_iter().map(move |kind| (language, kind)));
    pairs.map(|(language, kind)| ((language, kind), put_together(language, kind))).collect()
});

pub(super) fn own(language: Language, kind: TemplateKind) -> &'static Own {
    &ALL[&(language, kind)]
}

/// Baken's own template, for a tenant to begin with; none for a webhook, whose body
/// has a fixed form.
#[must_use]
pub fn own_template(
    tenant: TenantId,
    channel: Channel,
    language: Language,
    kind: TemplateKind,
) -> Option<MessageTemplate> {
    let own = own(language, kind);
    let (subject, text, html) = match channel {
        Channel::Email => (Some(&own.subject), &own.text, Some(&own.html)),
        Channel::Sms => (None, &own.sms, None),
        Channel::Webhook => return None,
    };
    Some(MessageTemplate {
        tenant,
        channel,
        language,
        kind,
        subject: subject.cloned(),
        text: text.clone(),
        html: html.cloned(),
    })
}

fn put_together(language: Language, kind: TemplateKind) -> Own {
    let of_language = match language {
        Language::Nl => PARTS_NL,
        Language::En => PARTS_EN,
    };
    let parts: Vec<(&str, &str)> = sections(of_language).chain(sections(PARTS)).collect();
    let fields: HashMap<&str, &str> = sections(file(language, kind)).collect();
    let field = |name: &str| {
        let source = fields.get(name).expect("each file has each field");
        // Parts have parts, one deep.
        with_parts(&with_parts(source, &parts), &parts)
    };
    Own { subject: field("subject"), text: field("text"), html: field("html"), sms: field("sms") }
}

/// The sections of a file, each with its name.
fn sections(file: &str) -> impl Iterator<Item = (&str, &str)> {
    file.split("=== ").skip(1).map(|section| {
        let (name, text) = section.split_once('\n').expect("a name stands on a line of its own");
        (name.trim(), text.trim_end())
    })
}

fn with_parts(source: &str, parts: &[(&str, &str)]) -> String {
    let replace = |source: String, (name, text): &(&str, &str)| {
        source.replace(&format!("{{# part {name} #}}"), text)
    };
    parts.iter().fold(source.to_owned(), replace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_that_is_named_is_there() {
        for own in ALL.values() {
            for source in [&own.subject, &own.text, &own.html, &own.sms] {
                assert!(!source.contains("{# part") && !source.contains("==="), "{source}");
            }
        }
    }
}
