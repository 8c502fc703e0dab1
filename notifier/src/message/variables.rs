//! What a template may name. The check of templates, the reference for people and
//! the facts that are given to the engine follow these tables; a test holds them
//! together.

use schema::TemplateKind;

/// One name and what stands behind it.
#[derive(Debug)]
pub(super) struct Variable {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    pub(super) meaning: &'static str,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    /// Empty (and so false in a condition) where there is none.
    Text,
    Number,
    Flag,
    /// What has names of its own.
    Record(&'static [Variable]),
    /// Many of such.
    List(&'static [Variable]),
}

const fn text(name: &'static str, meaning: &'static str) -> Variable {
    Variable { name, shape: Shape::Text, meaning }
}

const fn number(name: &'static str, meaning: &'static str) -> Variable {
    Variable { name, shape: Shape::Number, meaning }
}

const fn flag(name: &'static str, meaning: &'static str) -> Variable {
    Variable { name, shape: Shape::Flag, meaning }
}

const fn list(name: &'static str, items: &'static [Variable], meaning: &'static str) -> Variable {
    Variable { name, shape: Shape::List(items), meaning }
}

/// The names that every template has.
pub(super) static MESSAGE: [Variable; 13] = [
    text("kind", "what the message is about, such as `raised`"),
    text("language", "`nl` or `en`"),
    text("tenant", "the tenant's name"),
    text("recipient", "the recipient's name, or their address where they have none"),
    text("now", "when the message was written"),
    text("color", "of the worst severity, for HTML; white text can be read on it"),
    list("notices", &NOTICE, "what is told, in the order in which it happened"),
    list("locations", &LOCATION, "the same notices by location"),
    list("by_severity", &COUNT, "how many of each severity, the worst first"),
    number("total", "of all that is told, whether it is listed or not"),
    number("more", "how many of them are not listed"),
    number("over", "how many of the alarms are over by now"),
    text("unsubscribe", "a link that ends the subscription"),
];

/// One more, where a message is about one alarm.
pub(super) static ALARM: Variable = Variable {
    name: "alarm",
    shape: Shape::Record(&NOTICE),
    meaning: "the newest of `notices`; not in `digest` and `test`",
};

pub(super) static NOTICE: [Variable; 31] = [
    text("moment", "`raised`, `severity_changed`, `acknowledged` or `cleared`"),
    text("event", "the same in words, such as \"Cleared after 6 min\""),
    text("description", "the rule's description with its values; the rule's key where it has none"),
    text("rule", "the rule's key"),
    text("severity", "`critical`, `major`, `minor`, `warning` or `indeterminate`"),
    text("severity_name", "its name, such as \"Critical\""),
    text("severity_before", "the severity's name before it changed"),
    text("highest", "the name of the highest severity that the alarm has had"),
    flag("was_higher", "whether that is higher than the severity"),
    text("color", "of the severity, for HTML"),
    text("at", "when it happened, with date and time zone"),
    text("at_short", "the same as time of day, with the date where it is not the day of `now`"),
    text("learned_at", "when Baken came to know of it, where that is over a minute later"),
    text("raised_at", "when the alarm was raised"),
    text("raised_at_short", "the same in short"),
    flag("cleared", "whether the alarm is over by now"),
    text("cleared_at", "since when it is over"),
    text("cleared_at_short", "the same in short"),
    text("clear_reason", "why it is over, in words"),
    text("duration", "from its raise to its end, or to `now`, such as \"2 h 5 min\""),
    flag("acknowledged", "whether somebody has acknowledged it by now"),
    text("acknowledged_by", "who has"),
    text("by", "who made the transition, where a person did"),
    text("status", "how the alarm stands by now, in words"),
    text("location", "the location's name"),
    text("device", "the device's name"),
    text("place", "device and location together"),
    list("values", &VALUE, "the values of the rule's keys, in a list of notices the first five"),
    text("acknowledge", "a link that acknowledges the alarm"),
    text("alarm_id", "the alarm's identity, for tools"),
    text("transition_id", "the transition's identity, for tools"),
];

pub(super) static VALUE: [Variable; 2] =
    [text("key", "the key"), text("value", "its value as the language writes it")];

static LOCATION: [Variable; 2] = [
    text("name", "the location's name; empty for alarms of the tenant as a whole"),
    list("notices", &NOTICE, "those of the location"),
];

static COUNT: [Variable; 4] = [
    text("severity", "`critical`, `major`, `minor`, `warning` or `indeterminate`"),
    number("count", "how many"),
    text("counted", "both in words, such as \"3 warnings\""),
    text("color", "of the severity, for HTML"),
];

/// Inside a loop.
pub(super) static LOOP: [Variable; 6] = [
    number("index", "counted from 1"),
    number("index0", "counted from 0"),
    number("revindex", "counted from the end, down to 1"),
    number("length", "how many rounds there are"),
    flag("first", "whether it is the first round"),
    flag("last", "whether it is the last round"),
];

/// What can be done with a value by `|`.
pub(super) static FILTERS: [(&str, &str); 5] = [
    ("cut", "at most so many characters, as in `description|cut(60)`"),
    ("default", "another value where it is empty, as in `location|default(\"-\")`"),
    ("length", "how many, of a list; how many characters, of a text"),
    ("lower", "in small letters"),
    ("upper", "in capital letters"),
];

/// Whether a message of the kind is about one alarm.
pub(super) fn is_about_one_alarm(kind: TemplateKind) -> bool {
    !matches!(kind, TemplateKind::Digest | TemplateKind::Test)
}

/// What a template of the kind may name outside of loops.
pub(super) fn of_kind(kind: TemplateKind) -> impl Iterator<Item = &'static Variable> + Clone {
    MESSAGE.iter().chain(is_about_one_alarm(kind).then_some(&ALARM))
}
