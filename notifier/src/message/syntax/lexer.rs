//! A template as plain text and tags. It reads exactly what the engine would read
//! as a tag, for where the two differed a tag could pass unchecked.

use std::fmt;

use super::Problem;
use crate::message::error::TemplateFault;
use crate::message::limits::MAX_QUOTED_BYTES;

/// What stands in a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    Name(&'a str),
    /// A text in quotes.
    Text,
    Number,
    Sign(&'a str),
}

impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(text) | Self::Sign(text) => f.write_str(text),
            Self::Text => f.write_str("\"…\""),
            Self::Number => f.write_str("number"),
        }
    }
}

/// `{{ … }}` (an output) or `{% … %}` (a statement).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tag<'a> {
    /// On which it begins, counted from 1.
    pub(super) line: usize,
    pub(super) is_output: bool,
    pub(super) tokens: Vec<Token<'a>>,
}

/// A piece of a template. Comments are left out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// With the line on which it begins.
    Text {
        line: usize,
        text: &'a str,
    },
    Tag(Tag<'a>),
}

/// Goes through a template once. Behind an error there is nothing more.
pub(super) struct Lexer<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(source: &'a str) -> Self {
        Self { rest: source, line: 1 }
    }

    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.rest = rest;
        self.line += taken.matches('\n').count();
        taken
    }

    /// Up to the next tag or comment.
    fn text(&mut self) -> Option<Part<'a>> {
        let bytes = self.rest.as_bytes();
        let opens = |pair: &[u8]| pair[0] == b'{' && matches!(pair[1], b'{' | b'%' | b'#');
        let end = bytes.windows(2).position(opens).unwrap_or(bytes.len());
        let line = self.line;
        (end > 0).then(|| Part::Text { line, text: self.take(end) })
    }

    fn comment(&mut self) -> Result<(), Problem> {
        let line = self.line;
        let Some(end) = self.rest.find("#}") else {
            return Err((line, TemplateFault::Syntax("a comment has no end".to_owned())));
        };
        self.take(end + 2);
        Ok(())
    }

    fn tag(&mut self) -> Result<Tag<'a>, Problem> {
        let (line, is_output) = (self.line, self.rest.starts_with("{{"));
        let end = if is_output { "}}" } else { "%}" };
        self.take(2);
        if self.rest.starts_with(['-', '+']) {
            self.take(1);
        }
        let mut tokens = Vec::new();
        let mut depth = 0_usize;
        loop {
            self.take(self.rest.len() - self.rest.trim_ascii_start().len());
            if self.rest.is_empty() {
                return Err((line, TemplateFault::Syntax(format!("`{end}` is missing"))));
            }
            let stripped = self.rest.strip_prefix(['-', '+']).unwrap_or(self.rest);
            if stripped.starts_with(end) {
                if depth > 0 {
                    return Err((line, TemplateFault::Syntax("`)` is missing".to_owned())));
                }
                self.take(self.rest.len() - stripped.len() + 2);
                return Ok(Tag { line, is_output, tokens });
            }
            let token = self.token()?;
            match token {
                Token::Sign("(") => depth += 1,
                Token::Sign(")") if depth == 0 => {
                    return Err((line, TemplateFault::Syntax("`(` is missing".to_owned())));
                }
                Token::Sign(")") => depth -= 1,
                _ => {}
            }
            tokens.push(token);
        }
    }

    fn token(&mut self) -> Result<Token<'a>, Problem> {
        let first = self.rest.chars().next().expect("there is something left");
        let length = |part: fn(char) -> bool| {
            self.rest.find(|letter| !part(letter)).unwrap_or(self.rest.len())
        };
        Ok(match first {
            '"' | '\'' => {
                let length = self.text_length(first)?;
                if length > MAX_QUOTED_BYTES {
                    let what = format!("a text in quotes has more than {MAX_QUOTED_BYTES} bytes");
                    return Err((self.line, TemplateFault::Syntax(what)));
                }
                self.take(length);
                Token::Text
            }
            '0'..='9' => {
                let digits = length(|letter| letter.is_ascii_alphanumeric() || letter == '_');
                let digits = self.take(digits);
                if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                    let what = format!("`{digits}` is no number");
                    return Err((self.line, TemplateFault::Syntax(what)));
                }
                Token::Number
            }
            'a'..='z' | 'A'..='Z' | '_' => {
                let end = length(|letter| letter.is_ascii_alphanumeric() || letter == '_');
                Token::Name(self.take(end))
            }
            _ => {
                let is_pair =
                    ["==", "!=", "<=", ">="].iter().any(|sign| self.rest.starts_with(sign));
                Token::Sign(self.take(if is_pair { 2 } else { first.len_utf8() }))
            }
        })
    }

    /// Of a text in quotes, with them.
    fn text_length(&self, quote: char) -> Result<usize, Problem> {
        let mut escaped = false;
        for (at, letter) in self.rest.char_indices().skip(1) {
            match letter {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                _ if letter == quote => return Ok(at + 1),
                _ => {}
            }
        }
        Err((self.line, TemplateFault::Syntax("a text has no end".to_owned())))
    }
}

impl<'a> Iterator for Lexer<'a> {
    type Item = Result<Part<'a>, Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        let part = loop {
            if self.rest.is_empty() {
                return None;
            }
            if let Some(text) = self.text() {
                return Some(Ok(text));
            }
            if self.rest.starts_with("{#") {
                match self.comment() {
                    Ok(()) => continue,
                    Err(problem) => break Err(problem),
                }
            }
            break self.tag().map(Part::Tag);
        };
        if part.is_err() {
            self.rest = "";
        }
        Some(part)
    }
}
