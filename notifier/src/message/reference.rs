//! The text of `docs/reference/templates.md`.

use std::fmt::Write as _;

use schema::{Channel, Language, TemplateKind, TenantId};

use super::limits::{
    FUEL, MAX_HTML_BYTES, MAX_LISTED, MAX_QUOTED_BYTES, MAX_SMS_CHARS, MAX_SUBJECT_CHARS,
    MAX_TEMPLATE_BYTES, MAX_TEXT_BYTES,
};
use super::own::own_template;
use super::variables::{ALARM, FILTERS, LOOP, MESSAGE, Shape, Variable};

/// The reference of message templates, made from the tables by which they are
/// checked.
#[must_use]
pub fn reference() -> String {
    let mut text = HEAD.to_owned();
    let mut lists: Vec<(String, &'static [Variable])> = Vec::new();
    table(&mut text, "What every template has", "", MESSAGE.iter().chain([&ALARM]), &mut lists);
    let mut done = 0;
    while let Some((name, items)) = lists.get(done).cloned() {
        done += 1;
        let lead = format!("Each item of `{name}` has:\n\n");
        table(&mut text, &name, &lead, items.iter(), &mut lists);
    }
    let lead = "Inside of a `for`, `loop` has:\n\n";
    table(&mut text, "loop", lead, LOOP.iter(), &mut lists);
    text.push_str("## Filters\n\n| filter | gives |\n| --- | --- |\n");
    for (name, meaning) in &FILTERS {
        let meaning = meaning.replace('|', "\\|");
        line(&mut text, format_args!("| `{name}` | {meaning} |"));
    }
    text.push_str("\n## Limits\n\n| what | limit |\n| --- | --- |\n");
    for (what, limit) in [
        ("a field of a template, bytes", MAX_TEMPLATE_BYTES as u64),
        ("a text in quotes within a tag, bytes", MAX_QUOTED_BYTES as u64),
        ("notices that are listed", MAX_LISTED as u64),
        ("a subject, characters; the rest is cut", MAX_SUBJECT_CHARS as u64),
        ("the text of an e-mail, bytes", MAX_TEXT_BYTES as u64),
        ("its HTML, bytes", MAX_HTML_BYTES as u64),
        ("an SMS, characters of the GSM alphabet; the rest is cut", MAX_SMS_CHARS as u64),
        ("steps that a field takes", FUEL),
    ] {
        line(&mut text, format_args!("| {what} | {limit} |"));
    }
    text.push_str(
        "\n## Baken's own\n\nThe SMS of a raised alarm in Dutch, as a beginning for an own one:\n\n",
    );
    let own = own_template(TenantId(1), Channel::Sms, Language::Nl, TemplateKind::Raised);
    let own = own.expect("an SMS has a template").text;
    line(&mut text, format_args!("```jinja\n{own}\n```"));
    text
}

const HEAD: &str = "# Message templates

A tenant can put an own text in the place of Baken's for each channel (e-mail or SMS), language and kind of message. It is written in a small part of [Jinja](https://jinja.palletsprojects.com/): `{{ name }}` shows something, `{% if … %} … {% elif … %} … {% else %} … {% endif %}` asks, `{% for item in list %} … {% endfor %}` goes through a list, `{# … #}` is left out. A line that holds nothing but such a statement leaves no empty line behind; a line break straight behind a statement is left out too, unless it ends in `+%}`. Conditions know `==`, `!=`, `<`, `<=`, `>`, `>=`, `and`, `or`, `not`, `in` and parentheses. There is nothing else: no own names, no arithmetic, no includes.

A template is checked when it is saved, with made-up facts that are usual, few, and many and long; the first thing that is wrong is told with its field and line. Should it fail all the same when it is used, Baken's own takes its place and the failure is counted.

In HTML everything that is shown is escaped; attributes need quotes. A subject is one line. An SMS has no control characters and is written in the GSM alphabet where a plain spelling of a few letters makes that possible (`ë` as `e`), because each segment holds 160 characters then in the place of 70.

A text is empty where there is nothing to say, and an empty text is false in a condition.

";

fn table<'a>(
    text: &mut String,
    title: &str,
    lead: &str,
    variables: impl Iterator<Item = &'a Variable>,
    lists: &mut Vec<(String, &'static [Variable])>,
) {
    let title = if title.contains(' ') { title.to_owned() } else { format!("`{title}`") };
    line(text, format_args!("## {title}\n\n{lead}| name | kind | meaning |\n| --- | --- | --- |"));
    for Variable { name, shape, meaning } in variables {
        let kind = match *shape {
            Shape::Text => "text",
            Shape::Number => "number",
            Shape::Flag => "yes or no",
            Shape::Record(_) => "an item of `notices`",
            Shape::List(items) => {
                if !lists.iter().any(|(_, known)| std::ptr::eq(*known, items)) {
                    lists.push(((*name).to_owned(), items));
                }
                "list"
            }
        };
        line(text, format_args!("| `{name}` | {kind} | {meaning} |"));
    }
    text.push('\n');
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    text.write_fmt(line).expect("text in memory takes any");
    text.push('\n');
}
