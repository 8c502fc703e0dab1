//! What holds for every message, whatever the facts and the template.

use std::collections::BTreeSet;

use minijinja::Value;
use proptest::prelude::*;
use schema::{
    AlarmId, Channel, ClearReason, Language, MessageTemplate, Moment, Severity, TemplateKind,
    TenantId, TimestampMs, TransitionId,
};
use serde_json::json;

use super::context::Context;
use super::sample::{bare, extreme, usual};
use super::variables::{Shape, Variable, of_kind};
use super::{
    MAX_DATA_BYTES, MAX_HTML_BYTES, MAX_SMS_CHARS, MAX_SUBJECT_CHARS, MAX_TEXT_BYTES, MessageFacts,
    NoticeFacts, RenderError, TemplateError, TemplateFault, TemplateField, check_template,
    own_template, preview, preview_own, render,
};
use crate::channel::Content;

fn template(kind: TemplateKind, text: &str) -> MessageTemplate {
    MessageTemplate {
        tenant: TenantId(1),
        channel: Channel::Email,
        language: Language::En,
        kind,
        subject: Some("{{ alarm.severity_name }}".to_owned()),
        text: text.to_owned(),
        html: None,
    }
}

fn raised(text: &str) -> Result<(), TemplateError> {
    check_template(&template(TemplateKind::Raised, text))
}

fn html(html: &str) -> MessageTemplate {
    MessageTemplate { html: Some(html.to_owned()), ..template(TemplateKind::Raised, "x") }
}

fn all_kinds() -> impl Iterator<Item = (Language, TemplateKind)> {
    let kinds = |language| TemplateKind::ALL.into_iter().map(move |kind| (language, kind));
    Language::ALL.into_iter().flat_map(kinds)
}

fn assert_within_limits(content: &Content) {
    assert!(content.subject.chars().count() <= MAX_SUBJECT_CHARS);
    assert!(!content.subject.contains(char::is_control), "{:?}", content.subject);
    assert!(content.text.len() <= MAX_TEXT_BYTES);
    let is_wrong = |letter: char| letter.is_control() && letter != '\n';
    assert!(!content.text.contains(is_wrong), "{:?}", content.text);
    let html = content.html.as_deref().unwrap_or_default();
    assert!(html.len() <= MAX_HTML_BYTES, "{}", html.len());
    let data = content.data.as_ref().map(|data| data.to_string().len());
    assert!(data.unwrap_or_default() <= MAX_DATA_BYTES, "{data:?}");
}

#[test]
fn what_the_tables_name_is_what_a_template_gets() {
    fn fields(value: &Value) -> BTreeSet<String> {
        value.try_iter().unwrap().map(|key| key.to_string()).collect()
    }
    fn compare<'a>(value: &Value, variables: impl Iterator<Item = &'a Variable> + Clone) {
        let names: BTreeSet<String> =
            variables.clone().map(|field| field.name.to_owned()).collect();
        assert_eq!(fields(value), names);
        for Variable { name, shape, .. } in variables {
            let value = value.get_attr(name).unwrap();
            match shape {
                Shape::Text => assert!(value.as_str().is_some(), "{name}: {value:?}"),
                Shape::Number => assert!(value.as_usize().is_some(), "{name}: {value:?}"),
                Shape::Flag => assert!(bool::try_from(value).is_ok(), "{name}"),
                Shape::Record(fields) => compare(&value, fields.iter()),
                Shape::List(items) => {
                    value.try_iter().unwrap().for_each(|item| compare(&item, items.iter()));
                }
            }
        }
    }
    for (language, kind) in all_kinds() {
        for facts in [usual, bare, extreme].map(|sample| sample(language, kind)) {
            compare(&Value::from_serialize(Context::new(&facts)), of_kind(kind));
        }
    }
}

#[test]
fn our_own_templates_pass_the_check_that_a_tenants_must_pass() {
    for (language, kind) in all_kinds() {
        for channel in [Channel::Email, Channel::Sms] {
            let template = own_template(TenantId(1), channel, language, kind).unwrap();
            assert_eq!(check_template(&template), Ok(()), "{channel} {language:?} {kind:?}");
            assert_eq!(
                preview(&template).unwrap(),
                preview_own(channel, language, kind).unwrap(),
                "{kind:?}"
            );
        }
        assert_eq!(own_template(TenantId(1), Channel::Webhook, language, kind), None);
    }
}

#[test]
fn a_digest_of_all_values_can_be_saved() {
    let all = "{% for n in notices %}{{ n.at }} {{ n.event }} {{ n.description }} {{ n.place }}
        {% for v in n.values %}{{ v.key }} = {{ v.value }}{% endfor %}{% endfor %}";
    let digest = MessageTemplate {
        subject: None,
        html: Some(format!("<p>{all}</p>")),
        ..template(TemplateKind::Digest, all)
    };
    assert_eq!(check_template(&digest), Ok(()));
}

#[test]
fn our_own_html_is_shown_at_once_by_gmail() {
    for (language, kind) in all_kinds() {
        let html = render(Channel::Email, &extreme(language, kind), None).unwrap().content.html;
        let bytes = html.unwrap().len();
        assert!(bytes < 100 * 1024, "{kind:?}: {bytes}");
    }
}

#[test]
fn an_sms_with_usual_names_is_one_segment() {
    for (language, kind) in all_kinds() {
        let text = preview_own(Channel::Sms, language, kind).unwrap().text;
        assert!(text.len() <= 160 && text.is_ascii(), "{}: {text}", text.len());
    }
}

#[test]
fn a_test_message_says_that_there_is_no_alarm() {
    let now = TimestampMs(1_768_356_845_000);
    let facts = MessageFacts::test("Water", "Eva", Language::Nl, "Europe/Amsterdam", now);
    let content = render(Channel::Email, &facts, None).unwrap().content;
    assert!(content.text.contains("testbericht voor Eva, namens Water"), "{}", content.text);
    assert!(content.text.contains("Er is geen alarm."), "{}", content.text);
    assert!(content.text.contains("14 januari 2026 03:14:05 CET"), "{}", content.text);
    assert_eq!((content.alarm, content.unsubscribe), (None, None));
}

#[test]
fn a_message_says_which_alarm_it_is_about_unless_it_is_a_digest() {
    for channel in Channel::ALL {
        let alarm = |kind| render(channel, &usual(Language::En, kind), None).unwrap().content.alarm;
        assert_eq!(alarm(TemplateKind::Raised), Some(AlarmId(0xa1)));
        assert_eq!(alarm(TemplateKind::Digest), None);
    }
    let facts = MessageFacts { notices: Vec::new(), ..usual(Language::En, TemplateKind::Raised) };
    let refused = render(Channel::Sms, &facts, None);
    assert_eq!(refused, Err(RenderError::NoNotice("raised")));
}

#[test]
fn hostile_names_are_shown_and_do_nothing() {
    let facts = extreme(Language::Nl, TemplateKind::Raised);
    for (language, kind) in all_kinds() {
        let facts = extreme(language, kind);
        let email = render(Channel::Email, &facts, None).unwrap().content;
        let html = email.html.as_deref().unwrap();
        assert!(!html.to_lowercase().contains("<script"), "{kind:?}: {html}");
        assert!(html.contains("&lt;script&gt;"), "{kind:?}");
        assert!(!email.subject.contains('\n') && !email.text.contains("\nBcc"), "{kind:?}");
        assert_within_limits(&email);
        let sms = render(Channel::Sms, &facts, None).unwrap().content;
        assert!(sms.text.chars().count() <= MAX_SMS_CHARS && !sms.text.contains('\r'));
        assert_within_limits(&render(Channel::Webhook, &facts, None).unwrap().content);
    }
    let shown = html("{{ '<&>' }}<a href=\"{{ '\\'\\\"/' }}\">x</a>{{ 1 if false }}");
    let fault = preview(&shown).unwrap_err().fault;
    assert!(matches!(fault, TemplateFault::Fails(_)), "{fault}");
    let shown = html("{{ '<&>' }}<a href=\"{{ '\\'\\\"/' }}\">x</a>");
    let expected = "&lt;&amp;&gt;<a href=\"&#39;&quot;/\">x</a>";
    assert_eq!(preview(&shown).unwrap().html.unwrap(), expected);
    // A tenant's template has the same protection.
    let own = html("<p title=\"{{ alarm.device }}\">{{ alarm.description|upper }}</p>");
    let html = render(Channel::Email, &facts, Some(&own)).unwrap();
    assert_eq!(html.own_failed, None);
    let html = html.content.html.unwrap();
    assert!(!html.to_lowercase().contains("<script") && html.matches('"').count() == 2, "{html}");
}

#[test]
fn a_tenants_template_takes_the_place_of_ours_and_ours_its_place_when_it_fails() {
    let facts = usual(Language::En, TemplateKind::Raised);
    let own = template(TemplateKind::Raised, "{{ alarm.place }}\nis {{ alarm.status }}");
    let rendered = render(Channel::Email, &facts, Some(&own)).unwrap();
    assert_eq!(rendered.own_failed, None);
    let content = rendered.content;
    assert_eq!(content.subject, "Critical");
    assert_eq!(content.text, "pomp-3, Gemaal Noord\nis still active, not acknowledged");
    assert_eq!(content.html, None);
    // One that was saved before names changed.
    let own = MessageTemplate { text: "a\n{{ alarm.sverity }}".to_owned(), ..own };
    let rendered = render(Channel::Email, &facts, Some(&own)).unwrap();
    assert_eq!(rendered.content, preview_own(Channel::Email, Language::En, facts.kind).unwrap());
    let error = rendered.own_failed.unwrap();
    assert_eq!((error.field, error.line), (TemplateField::Text, Some(2)));
}

#[test]
fn an_error_names_the_field_the_line_and_the_nearest_name() {
    let error = raised("a\n{% if alarm.cleared %}\n{{ alarm.claered_at }}{% endif %}").unwrap_err();
    assert_eq!((error.field, error.line), (TemplateField::Text, Some(3)));
    let TemplateFault::Unknown { name, nearest, known } = &error.fault else { panic!("{error}") };
    assert_eq!((name.as_str(), nearest.as_deref()), ("claered_at", Some("cleared_at")));
    assert!(known.contains(&"duration".to_owned()));
    let text = error.to_string();
    let start =
        "`text`, line 3: `claered_at` is not known, did you mean `cleared_at`?; known are `";
    assert!(text.starts_with(start), "{text}");
    for (source, expected) in [
        ("{{ alrm.at }}", "`alrm` is not known, did you mean `alarm`?"),
        ("{{ tenant|uper }}", "`uper` is not known, did you mean `upper`?"),
        ("{% for n in notices %}{{ n.pace }}{% endfor %}", "did you mean `place`?"),
        ("{{ loop.index }}", "`loop` is not known"),
        ("{{ alarm.values.temperature }}", "`.temperature` of a list can't be used here"),
        ("{{ notices }}", "go through a list with `for`"),
        ("{{ tenant.name }}", "`.name` of a single value can't be used here; it has no parts"),
        ("{% if tenant %}", "syntax error: unexpected end of input"),
        ("{{ tenant", "`}}` is missing"),
        ("{{ (tenant }}", "`)` is missing"),
        ("{# note", "a comment has no end"),
        ("{{ 'a }}", "a text has no end"),
        (&format!("{{{{ '{}' }}}}", "a".repeat(201)), "more than 200 bytes"),
        ("{% if %}x{% endif %}", "syntax error"),
        ("   ", "it says nothing"),
    ] {
        let text = raised(source).unwrap_err().to_string();
        assert!(text.contains(expected), "{source}: {text}");
    }
}

#[test]
fn only_what_cannot_grow_can_be_written() {
    for source in [
        "{% set a = tenant %}",
        "{% set a %}{{ tenant }}{% endset %}",
        "{% with a = tenant %}{% endwith %}",
        "{% filter upper %}a{% endfilter %}",
        "{% autoescape false %}{{ tenant }}{% endautoescape %}",
        "{% include 'x' %}",
        "{% macro m() %}{% endmacro %}",
        "{% raw %}{{ x }}{% endraw %}",
        "{% for a in [tenant ~ tenant] %}{% endfor %}",
        "{% for a in notices recursive %}{% endfor %}",
        "{% for a in notices|list %}{% endfor %}",
        "{% for a, b in notices %}{% endfor %}",
        "{{ 'a' * 1000000000 }}",
        "{{ tenant ~ tenant }}",
        "{{ 1 + 1 }}",
        "{{ 2 ** 200 }}",
        "{{ [tenant] }}",
        "{{ {'a': 1} }}",
        "{{ tenant|safe }}",
        "{{ tenant|replace('a', 'aa') }}",
        "{{ range(9) }}",
        "{{ debug() }}",
        "{{ tenant.upper() }}",
        "{{ 'a'.x }}",
        "{{ tenant[0] }}",
        "{{ tenant is defined }}",
        "{{ self }}",
        "{{ 0x10 }}",
        "{{ ünï }}",
    ] {
        let error = raised(source).unwrap_err();
        assert!((error.field, error.line) == (TemplateField::Text, Some(1)), "{source}: {error}");
        let refused = matches!(
            error.fault,
            TemplateFault::NotAllowed { .. }
                | TemplateFault::Unknown { .. }
                | TemplateFault::Syntax(_)
        );
        assert!(refused, "{source}: {error}");
    }
    let all = "{# x #}{% for n in notices if n.cleared and not (n.by == 'x' or n.device in 'y') -%}
        {{- loop.index }}{{ n.device|default('-')|cut(5)|upper if n.device else \"none}}\" }}
        {% elif n.values|length >= 2 %}{{ total }}{% endfor %}";
    let all = all
        .replace("{% elif", "{% if false %}{% elif")
        .replace("{% endfor", "{% endif %}{% endfor");
    assert_eq!(raised(&format!("x{all}")), Ok(()));
}

#[test]
fn html_is_refused_where_escaping_is_no_protection() {
    for (source, line) in [
        ("<a href={{ alarm.acknowledge }}>x</a>", 1),
        ("<p>\n<a {{ tenant }}>x</a>", 2),
        ("\n<SCRIPT>var a = '{{ tenant }}'</script>", 2),
    ] {
        let error = check_template(&html(source)).unwrap_err();
        assert_eq!((error.field, error.line), (TemplateField::Html, Some(line)), "{source}");
        assert!(matches!(error.fault, TemplateFault::NotAllowed { .. }), "{source}: {error}");
    }
    let fine = "<p>{{ tenant }} = {{ alarm.place }}</p><a href='{{ alarm.acknowledge }}'>x</a>";
    assert_eq!(check_template(&html(fine)), Ok(()));
}

#[test]
fn bombs_run_out_of_steps_or_of_room_and_name_their_field() {
    let fault = |text: &str| raised(text).map_err(|error| (error.field, error.fault));
    let range = "{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}x";
    let (field, steps) = fault(range).unwrap_err();
    assert!(matches!((field, &steps), (TemplateField::Text, TemplateFault::OutOfFuel { .. })));
    let nested = "{% for a in notices %}".repeat(9) + "x" + &"{% endfor %}".repeat(9);
    let digest = check_template(&MessageTemplate {
        subject: None,
        ..template(TemplateKind::Digest, &nested)
    });
    assert!(matches!(digest.unwrap_err().fault, TemplateFault::OutOfFuel { .. }));
    let wide = "{% for a in range(9000) %}{{ alarm.description }}{% endfor %}";
    let (_, room) = fault(wide).unwrap_err();
    assert_eq!(room, TemplateFault::TooMuch { max: MAX_TEXT_BYTES });
    let deep = "(".repeat(10_000) + &")".repeat(10_000);
    assert!(matches!(fault(&format!("{{{{ {deep} }}}}")).unwrap_err().1, TemplateFault::Syntax(_)));
    let blocks = "{% if true %}".repeat(2_000);
    assert!(matches!(fault(&blocks).unwrap_err().1, TemplateFault::Syntax(_)));
    let many = fault(&"x".repeat(40_000)).unwrap_err().1;
    assert!(matches!(many, TemplateFault::TooLong { bytes: 40_000, .. }));
    let mut bomb = html("x");
    bomb.html = Some(range.to_owned());
    assert_eq!(check_template(&bomb).unwrap_err().field, TemplateField::Html);
    bomb.subject = Some(range.to_owned());
    assert_eq!(check_template(&bomb).unwrap_err().field, TemplateField::Subject);
}

#[test]
fn a_template_has_the_fields_of_its_channel_only() {
    let sms = MessageTemplate { channel: Channel::Sms, ..template(TemplateKind::Raised, "x") };
    let error = check_template(&sms).unwrap_err();
    assert_eq!((error.field, error.fault), (TemplateField::Subject, TemplateFault::NotUsed));
    assert_eq!(check_template(&MessageTemplate { subject: None, ..sms.clone() }), Ok(()));
    let webhook = MessageTemplate { channel: Channel::Webhook, ..sms };
    assert_eq!(check_template(&webhook).unwrap_err().fault, TemplateFault::NoTemplate);
}

#[test]
fn a_subject_of_many_lines_is_one() {
    let mut own = template(TemplateKind::Raised, "x");
    own.subject = Some("{{ alarm.severity_name }}\n\nBcc: {{ tenant }}\t!".to_owned());
    assert_eq!(preview(&own).unwrap().subject, "Critical Bcc: Waterschap Noord !");
}

fn any_notice() -> impl Strategy<Value = NoticeFacts> {
    let text = || "\\PC{0,40}|[<>&\"'\\n\\r\\x00{}%#]{0,20}|x{0,3000}";
    let name = move || proptest::option::of(text());
    let severity = || proptest::sample::select(Severity::WORST_FIRST.to_vec());
    let times = (any::<i64>(), any::<i64>(), any::<i64>(), any::<Option<i64>>());
    let people = (any::<bool>(), name(), name());
    let told = (proptest::sample::select(Moment::ALL.to_vec()), text(), text(), any::<bool>());
    let place = (name(), name(), proptest::collection::vec((text(), text()), 0..4), name());
    (told, (severity(), proptest::option::of(severity()), severity()), times, people, place)
        .prop_map(|(told, severities, times, people, place)| NoticeFacts {
            transition: TransitionId(1),
            alarm: AlarmId(2),
            moment: told.0,
            rule: told.1,
            system: told.3,
            description: told.2,
            severity: severities.0,
            severity_before: severities.1,
            highest: severities.2,
            at: TimestampMs(times.0),
            learned_at: TimestampMs(times.1),
            raised_at: TimestampMs(times.2),
            cleared_at: times.3.map(TimestampMs),
            clear_reason: times.3.map(|_| ClearReason::Person),
            acknowledged: people.0,
            acknowledged_by: people.1,
            by: people.2,
            location: place.0,
            device: place.1,
            values: place.2.into_iter().map(|(key, value)| (key, json!(value))).collect(),
            acknowledge: place.3,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_the_facts_a_message_is_written_within_its_limits(
        notices in proptest::collection::vec(any_notice(), 0..4),
        count in prop_oneof![0_usize..200, 0_usize..=20_000],
        kind in proptest::sample::select(TemplateKind::ALL.to_vec()),
        language in proptest::sample::select(Language::ALL.to_vec()),
        now in any::<i64>(),
        zone in proptest::sample::select(vec!["UTC", "Europe/Amsterdam", "Asia/Kathmandu", "?"]),
    ) {
        let facts = MessageFacts::test("<t>\n", "r\u{7}", language, zone, TimestampMs(now));
        let notices: Vec<_> = notices.iter().cycle().take(if notices.is_empty() { 0 } else { count })
            .cloned().collect();
        let facts = MessageFacts { kind, total: count, over: 1, notices, ..facts };
        for channel in Channel::ALL {
            match render(channel, &facts, None) {
                Ok(rendered) => assert_within_limits(&rendered.content),
                Err(error) => {
                    prop_assert!(facts.notices.is_empty());
                    prop_assert_eq!(error, RenderError::NoNotice(kind.as_str()));
                }
            }
        }
    }

    #[test]
    fn whatever_passes_the_check_works_with_hostile_facts(
        source in "([a-z{}%#()|.,'\"=<>~*+ \\n-]|\\{\\{|\\}\\}|\\{%|%\\}|alarm|notices|for|if|in|set){0,60}",
    ) {
        let own = html(&source);
        if check_template(&own).is_ok() {
            let facts = extreme(Language::En, TemplateKind::Raised);
            let rendered = render(Channel::Email, &facts, Some(&own)).unwrap();
            prop_assert_eq!(rendered.own_failed, None);
            let html = rendered.content.html.unwrap().to_lowercase();
            prop_assert!(!html.contains("<script"), "{}", html);
        }
    }
}
