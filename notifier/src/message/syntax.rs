//! What a template may be written in: a small part of Jinja in which nothing can
//! grow. The engine bounds the steps of a run but not what one step makes
//! (`{% set a = a ~ a %}`, written thirty times, is a gigabyte), so a template is
//! read here before the engine sees it. It may show facts, ask conditions and go
//! through lists; it can bind no name but that of a list's item, and join, repeat
//! or call nothing. Names are compared with the tables of [`super::variables`],
//! also where no sample would come by.

use schema::TemplateKind;

use super::error::{TemplateFault, TemplateField};
use super::syntax::lexer::{Lexer, Part, Tag, Token};
use super::variables::{FILTERS, LOOP, Shape, Variable, of_kind};

mod lexer;

/// What is wrong, and on which line.
pub(super) type Problem = (usize, TemplateFault);

const EXPRESSIONS: &str =
    "a template has names, texts, numbers, comparisons, `and`, `or`, `not`, `in` and filters";
const STATEMENTS: &str = "known are `if`, `elif`, `else`, `endif`, `for` and `endfor`";
const LISTS: &str = "`for` goes through a list by its name, or through `range(…)`";

/// Reads the whole template and says the first thing that is wrong with it.
pub(super) fn check(source: &str, field: TemplateField, kind: TemplateKind) -> Result<(), Problem> {
    let mut markup = Markup::default();
    let mut scopes = Scopes { kind, open: Vec::new() };
    for part in Lexer::new(source) {
        match part? {
            Part::Text { line, text } => {
                if field == TemplateField::Html {
                    markup = markup.after(text, line)?;
                }
            }
            Part::Tag(Tag { line, is_output: true, tokens }) => {
                if matches!(markup, Markup::Within) {
                    // A value would end at its first space, and the rest be attributes.
                    let instead = "put it in quotes, as in `href=\"{{ … }}\"`";
                    return Err((
                        line,
                        not_allowed("a value within `<…>` without quotes", instead),
                    ));
                }
                scopes.expression(line, &tokens, true)?;
            }
            Part::Tag(Tag { line, is_output: false, tokens }) => {
                scopes.statement(line, &tokens)?;
            }
        }
    }
    Ok(())
}

/// Where in its markup an HTML text stands.
#[derive(Clone, Copy, Default)]
enum Markup {
    #[default]
    Between,
    Within,
    /// Of an attribute's value.
    Quoted(char),
}

impl Markup {
    /// Where it stands behind the text. A script is refused: escaping is no
    /// protection there, and mail programs run none.
    fn after(mut self, text: &str, line: usize) -> Result<Self, Problem> {
        let lower = text.to_ascii_lowercase();
        if let Some(at) = lower.find("<script") {
            let line = line + lower[..at].matches('\n').count();
            return Err((line, not_allowed("<script>", "mail programs run no scripts")));
        }
        for letter in text.chars() {
            self = match (self, letter) {
                (Self::Between, '<') => Self::Within,
                (Self::Within, '>') => Self::Between,
                (Self::Within, '"' | '\'') => Self::Quoted(letter),
                (Self::Quoted(quote), _) if quote == letter => Self::Within,
                (unchanged, _) => unchanged,
            };
        }
        Ok(self)
    }
}

fn not_allowed(what: &str, instead: &'static str) -> TemplateFault {
    let what = if what.contains(' ') { what.to_owned() } else { format!("`{what}`") };
    TemplateFault::NotAllowed { what, instead }
}

/// The names in scope: those of the message and of the loops around.
struct Scopes<'a> {
    kind: TemplateKind,
    /// The blocks that are open, a loop's with the name of its item.
    open: Vec<Option<(&'a str, Shape)>>,
}

impl<'a> Scopes<'a> {
    fn statement(&mut self, line: usize, tokens: &[Token<'a>]) -> Result<(), Problem> {
        let Some((first, rest)) = tokens.split_first() else {
            return Err((line, TemplateFault::Syntax("a statement is empty".to_owned())));
        };
        match first {
            Token::Name("if") => {
                self.open.push(None);
                self.expression(line, rest, false)
            }
            Token::Name("elif") => self.expression(line, rest, false),
            Token::Name("for") => self.for_loop(line, rest),
            Token::Name("else") if rest.is_empty() => Ok(()),
            // The engine's parser says it where they don't match.
            Token::Name("endif" | "endfor") if rest.is_empty() => {
                self.open.pop();
                Ok(())
            }
            other => Err((line, not_allowed(&format!("{{% {other} %}}"), STATEMENTS))),
        }
    }

    /// `NAME in LIST`, with `if CONDITION` behind it or not.
    fn for_loop(&mut self, line: usize, tokens: &[Token<'a>]) -> Result<(), Problem> {
        let refused = || (line, not_allowed("this kind of `for`", LISTS));
        let [Token::Name(item), Token::Name("in"), Token::Name(list), rest @ ..] = tokens else {
            return Err(refused());
        };
        let (shape, rest) = if *list == "range" {
            let end = rest.iter().position(|token| *token == Token::Sign(")"));
            let (arguments, rest) = rest.split_at(end.ok_or_else(refused)? + 1);
            let is_plain =
                |token: &Token<'_>| matches!(token, Token::Number | Token::Sign("(" | ")" | ","));
            if !arguments.iter().all(is_plain) {
                return Err(refused());
            }
            (Shape::Number, rest)
        } else {
            let (shape, used) = self.path(line, list, rest)?;
            let Shape::List(items) = shape else { return Err(refused()) };
            (Shape::Record(items), &rest[used..])
        };
        self.open.push(Some((item, shape)));
        match rest {
            [] => Ok(()),
            [Token::Name("if"), condition @ ..] => self.expression(line, condition, false),
            _ => Err(refused()),
        }
    }

    fn expression(&self, line: usize, tokens: &[Token<'a>], is_shown: bool) -> Result<(), Problem> {
        let mut at = 0;
        while at < tokens.len() {
            let token = &tokens[at];
            at += 1;
            match *token {
                Token::Text | Token::Number => {}
                Token::Name(
                    "and" | "or" | "not" | "in" | "if" | "else" | "true" | "false" | "none",
                ) => {}
                Token::Name(name) => {
                    let (shape, used) = self.path(line, name, &tokens[at..])?;
                    at += used;
                    let filtered = tokens.get(at) == Some(&Token::Sign("|"));
                    if is_shown && !filtered && matches!(shape, Shape::List(_) | Shape::Record(_)) {
                        let instead = "go through a list with `for`, and name a part of the rest";
                        return Err((line, not_allowed(name, instead)));
                    }
                    if tokens.get(at) == Some(&Token::Sign("(")) {
                        return Err((line, not_allowed(&format!("{name}(…)"), EXPRESSIONS)));
                    }
                }
                Token::Sign("|") => {
                    let Some(Token::Name(name)) = tokens.get(at) else {
                        let what = "a name must stand behind `|`".to_owned();
                        return Err((line, TemplateFault::Syntax(what)));
                    };
                    let known = FILTERS.iter().map(|(name, _)| *name);
                    if !known.clone().any(|known| known == *name) {
                        return Err((line, unknown(name, known)));
                    }
                    at += 1;
                }
                Token::Sign("(" | ")" | "," | "==" | "!=" | "<" | "<=" | ">" | ">=") => {}
                Token::Sign(sign) => return Err((line, not_allowed(sign, EXPRESSIONS))),
            }
        }
        Ok(())
    }

    /// What a name with the names behind its dots stands for, and how many tokens
    /// those take.
    fn path(&self, line: usize, root: &str, rest: &[Token<'a>]) -> Result<(Shape, usize), Problem> {
        let mut shape = self.root(root).map_err(|fault| (line, fault))?;
        let mut used = 0;
        while rest.get(used) == Some(&Token::Sign(".")) {
            let Some(Token::Name(name)) = rest.get(used + 1) else {
                let what = "a name must stand behind a dot".to_owned();
                return Err((line, TemplateFault::Syntax(what)));
            };
            let fields: &[Variable] = match shape {
                Shape::Record(fields) => fields,
                Shape::List(_) => {
                    let what = format!("`.{name}` of a list");
                    let instead = "go through it with `for`";
                    return Err((line, TemplateFault::NotAllowed { what, instead }));
                }
                Shape::Text | Shape::Number | Shape::Flag => {
                    let what = format!("`.{name}` of a single value");
                    let instead = "it has no parts";
                    return Err((line, TemplateFault::NotAllowed { what, instead }));
                }
            };
            let Some(found) = fields.iter().find(|field| field.name == *name) else {
                return Err((line, unknown(name, fields.iter().map(|field| field.name))));
            };
            shape = found.shape;
            used += 2;
        }
        Ok((shape, used))
    }

    fn root(&self, name: &str) -> Result<Shape, TemplateFault> {
        let loops = self.open.iter().rev().flatten();
        if let Some((_, shape)) = loops.clone().find(|(item, _)| *item == name) {
            return Ok(*shape);
        }
        let is_in_loop = loops.clone().next().is_some();
        if name == "loop" && is_in_loop {
            return Ok(Shape::Record(&LOOP));
        }
        if let Some(variable) = of_kind(self.kind).find(|variable| variable.name == name) {
            return Ok(variable.shape);
        }
        let items = loops.map(|(item, _)| *item).chain(is_in_loop.then_some("loop"));
        Err(unknown(name, items.chain(of_kind(self.kind).map(|variable| variable.name))))
    }
}

/// The fault of a name that isn't known, with the nearest one that is.
fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> TemplateFault {
    let known: Vec<String> = known.map(str::to_owned).collect();
    // Nobody mistypes a longer name, and comparing takes time by the square.
    let name: String = name.chars().take(60).collect();
    let lower = name.to_lowercase();
    let nearest = known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(&lower, known), known))
        .filter(|(distance, known)| *distance <= 2.max(known.len() / 3) && *distance < known.len())
        .min()
        .map(|(_, known)| known.clone());
    TemplateFault::Unknown { name, nearest, known }
}
