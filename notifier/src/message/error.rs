//! What can be wrong with a template, told so that its author can mend it.

use std::fmt;

/// A part of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TemplateField {
    Subject,
    Text,
    Html,
}

impl TemplateField {
    /// As the field of [`schema::MessageTemplate`] is called.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::Text => "text",
            Self::Html => "html",
        }
    }
}

impl fmt::Display for TemplateField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is wrong with a template, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}`{}: {fault}", .line.map(|line| format!(", line {line}")).unwrap_or_default())]
pub struct TemplateError {
    pub field: TemplateField,
    /// Counted from 1; none where it is of the field as a whole.
    pub line: Option<usize>,
    pub fault: TemplateFault,
}

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateFault {
    #[error("a webhook's body has a fixed form and no template")]
    NoTemplate,
    #[error("an SMS has a text only")]
    NotUsed,
    #[error("it has {bytes} bytes, more than {max}")]
    TooLong { bytes: usize, max: usize },
    #[error("it says nothing")]
    Empty,
    /// `known` are the names that would do there.
    #[error("`{name}` is not known{}; known are {}", hint(.nearest.as_deref()), list(.known))]
    Unknown { name: String, nearest: Option<String>, known: Vec<String> },
    #[error("{what} can't be used here; {instead}")]
    NotAllowed { what: String, instead: &'static str },
    #[error("{0}")]
    Syntax(String),
    #[error("it fails when it is used: {0}")]
    Fails(String),
    #[error("it takes more than {max} steps")]
    OutOfFuel { max: u64 },
    #[error("it gives more than {max} bytes with long names and many notices")]
    TooMuch { max: usize },
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map(|name| format!(", did you mean `{name}`?")).unwrap_or_default()
}

fn list(known: &[String]) -> String {
    known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Why there is no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    #[error("a message of the kind `{0}` is about one alarm and needs its notice")]
    NoNotice(&'static str),
    /// No tenant's, whose place Baken's own takes.
    #[error("Baken's own template failed: {0}")]
    Own(#[from] TemplateError),
}
