//! A part of a request with places to be filled in.

use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, context};
use url::form_urlencoded::byte_serialize;

use crate::sms::SmsOptionsError;

/// The most steps that one template may take; one with a filter for each value
/// takes less than a hundred.
const MAX_TEMPLATE_STEPS: u64 = 10_000;

/// How a value is written into its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Escaping {
    None,
    /// For a URL or a form. A space is `%20`, which is right in both.
    Percent,
    /// Inside the quotes of a JSON string.
    Json,
    Xml,
}

impl Escaping {
    pub(super) fn escaped(self, text: &str) -> String {
        match self {
            Self::None => text.to_owned(),
            Self::Percent => {
                byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
            }
            Self::Json => {
                let quoted = serde_json::Value::from(text).to_string();
                quoted[1..quoted.len() - 1].to_owned()
            }
            Self::Xml => text
                .replace('&', "&amp;")
                .replace('<', "&lt;")
                .replace('>', "&gt;")
                .replace('"', "&quot;")
                .replace('\'', "&apos;"),
        }
    }
}

/// What fills the places.
#[derive(Clone, Copy)]
pub(super) struct Values<'a> {
    pub to: &'a str,
    pub from: &'a str,
    /// None in headers, which take neither line breaks nor most letters.
    pub text: Option<&'a str>,
    pub id: &'a str,
    pub callback: &'a str,
    pub secret: &'a str,
}

pub(super) struct Template {
    field: &'static str,
    text: String,
    environment: Environment<'static>,
}

impl Template {
    pub(super) fn new(
        field: &'static str,
        text: &str,
        escaping: Escaping,
    ) -> Result<Self, SmsOptionsError> {
        let mut environment = Environment::new();
        environment.set_fuel(Some(MAX_TEMPLATE_STEPS));
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_keep_trailing_newline(true);
        environment.set_formatter(move |out, _, value| {
            // A misspelt name is an error and no empty place.
            if value.kind() == ValueKind::Undefined {
                return Err(Error::from(ErrorKind::UndefinedError));
            }
            out.write_str(&escaping.escaped(&value.to_string())).map_err(Error::from)
        });
        let template = Self { field, text: text.to_owned(), environment };
        template.environment.template_from_str(&template.text).map_err(|e| template.failed(&e))?;
        Ok(template)
    }

    pub(super) fn render(&self, values: &Values<'_>) -> Result<String, SmsOptionsError> {
        let Values { to, from, text, id, callback, secret } = *values;
        let filled = match text {
            Some(text) => context! { to, from, text, id, callback, secret },
            None => context! { to, from, id, callback, secret },
        };
        self.environment.render_str(&self.text, filled).map_err(|error| self.failed(&error))
    }

    /// The kind of the error and where it is, without what the template says there,
    /// which may be a secret.
    fn failed(&self, error: &Error) -> SmsOptionsError {
        let line = error.line().map(|line| format!(" in line {line}")).unwrap_or_default();
        SmsOptionsError::Template { field: self.field, why: format!("{}{line}", error.kind()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUES: Values<'_> = Values {
        to: "+31612345678",
        from: "Baken",
        text: Some("\"a\" & <b> 'c' \\ é\n50%"),
        id: "0a",
        callback: "",
        secret: "k&y",
    };

    fn rendered(text: &str, escaping: Escaping) -> String {
        Template::new("body", text, escaping).unwrap().render(&VALUES).unwrap()
    }

    #[test]
    fn values_are_escaped_for_their_place_and_the_template_is_not() {
        let text = rendered("https://x.nl/{{to}}?t={{text}}&k={{secret}}", Escaping::Percent);
        assert_eq!(
            text,
            "https://x.nl/%2B31612345678?t=%22a%22%20%26%20%3Cb%3E%20%27c%27%20%5C%20%C3%A9%0A50%25\
             &k=k%26y"
        );
        let text = rendered(r#"{"t": "{{text}}"}"#, Escaping::Json);
        assert_eq!(text, r#"{"t": "\"a\" & <b> 'c' \\ é\n50%"}"#);
        let text = rendered("<t>{{text}}</t>\n", Escaping::Xml);
        assert_eq!(text, "<t>&quot;a&quot; &amp; &lt;b&gt; &apos;c&apos; \\ é\n50%</t>\n");
        assert_eq!(rendered("{{to}} {{id}}", Escaping::None), "+31612345678 0a");
        // A template can't take the escaping off.
        assert_eq!(rendered("{{secret | safe}}", Escaping::Percent), "k%26y");
        assert_eq!(rendered("{{to | replace('+', '00')}}", Escaping::None), "0031612345678");
    }

    #[test]
    fn a_template_that_cannot_work_names_its_field_and_tells_no_text_of_it() {
        let syntax = Template::new("url", "key=s3cret {{to", Escaping::Percent).err().unwrap();
        let template = Template::new("body", "s3cret {{number}}", Escaping::Json).unwrap();
        let unknown = template.render(&VALUES).unwrap_err();
        let endless =
            "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}";
        let endless = Template::new("body", endless, Escaping::Json).unwrap();
        let endless = endless.render(&VALUES).unwrap_err();
        for (field, error) in [("url: ", syntax), ("body: ", unknown), ("body: ", endless)] {
            let error = error.to_string();
            assert!(error.starts_with(field) && !error.contains("s3cret"), "{error}");
        }
        let header = Template::new("headers", "{{text}}", Escaping::None).unwrap();
        assert!(header.render(&Values { text: None, ..VALUES }).is_err());
    }
}
