//! One field of a template, run within its limits.

use std::io;

use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value,
};
use schema::TemplateKind;

use super::error::{TemplateError, TemplateFault, TemplateField};
use super::limits::{FUEL, MAX_RECURSION, MAX_TEMPLATE_BYTES};
use super::syntax;
use super::text::cut;

/// Runs the source with the facts. What the source may use is checked each time,
/// for what is stored was perhaps checked by an older Baken.
pub(super) fn run(
    field: TemplateField,
    source: &str,
    kind: TemplateKind,
    facts: &Value,
    max_bytes: usize,
) -> Result<String, TemplateError> {
    let wrong = |line, fault| TemplateError { field, line, fault };
    if source.len() > MAX_TEMPLATE_BYTES {
        let fault = TemplateFault::TooLong { bytes: source.len(), max: MAX_TEMPLATE_BYTES };
        return Err(wrong(None, fault));
    }
    syntax::check(source, field, kind).map_err(|(line, fault)| wrong(Some(line), fault))?;
    let environment = environment();
    let mut output = Limited { bytes: Vec::new(), max: max_bytes, is_over: false };
    let outcome = environment
        .template_from_named_str(field.as_str(), source)
        .and_then(|template| template.render_captured_to(facts, &mut output).map(drop));
    if output.is_over {
        return Err(wrong(None, TemplateFault::TooMuch { max: max_bytes }));
    }
    outcome.map_err(|error| wrong(error.line(), fault(&error)))?;
    Ok(String::from_utf8(output.bytes).expect("the engine writes text"))
}

/// An engine without loader, functions that reach anything, or tests; with the
/// filters of [`super::variables::FILTERS`].
fn environment() -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|name| {
        if name == TemplateField::Html.as_str() { AutoEscape::Html } else { AutoEscape::None }
    });
    environment.set_formatter(show);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(MAX_RECURSION);
    // A line that holds nothing but a statement leaves no empty line behind.
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.add_function("range", minijinja::functions::range);
    environment.add_filter("upper", minijinja::filters::upper);
    environment.add_filter("lower", minijinja::filters::lower);
    environment.add_filter("length", minijinja::filters::length);
    environment.add_filter("cut", |text: &str, max_chars: usize| cut(text, max_chars));
    environment.add_filter(
        "default",
        |value: Value, other: Value| {
            if value.is_true() { value } else { other }
        },
    );
    environment
}

/// Writes a value, in HTML with the five characters escaped that mean something in
/// text or in a quoted attribute. The engine's own way escapes slashes too, which
/// makes links of mails look like those of swindlers to some filters.
fn show(output: &mut Output<'_>, state: &State<'_, '_>, value: &Value) -> Result<(), Error> {
    if value.is_undefined() {
        return Err(ErrorKind::UndefinedError.into());
    }
    if state.auto_escape() == AutoEscape::None {
        return Ok(write!(output, "{value}")?);
    }
    let text = value.to_string();
    let mut rest = text.as_str();
    while let Some(at) = rest.find(['&', '<', '>', '"', '\'']) {
        output.write_str(&rest[..at])?;
        output.write_str(match rest.as_bytes()[at] {
            b'&' => "&amp;",
            b'<' => "&lt;",
            b'>' => "&gt;",
            b'"' => "&quot;",
            _ => "&#39;",
        })?;
        rest = &rest[at + 1..];
    }
    Ok(output.write_str(rest)?)
}

fn fault(error: &Error) -> TemplateFault {
    let detail = || match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    match error.kind() {
        ErrorKind::OutOfFuel => TemplateFault::OutOfFuel { max: FUEL },
        ErrorKind::SyntaxError | ErrorKind::BadEscape => TemplateFault::Syntax(detail()),
        _ => TemplateFault::Fails(detail()),
    }
}

/// Text in memory that takes so much and no more.
struct Limited {
    bytes: Vec<u8>,
    max: usize,
    is_over: bool,
}

impl io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.max {
            self.is_over = true;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
