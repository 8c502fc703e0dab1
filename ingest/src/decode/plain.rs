//! The usual message in one pass: an object of plain keys and values, or one
//! with `ts` and `values` in this order, or a list of such.
//!
//! It takes only what it can read to the end with the same outcome as the
//! general way in `object.rs`. At the first thing that is unusual (an escape,
//! an exponent, a nested value, a key out of place, anything wrong) it gives up,
//! and the general way reads the message from its beginning and says what is
//! wrong with it. Tests put every payload through both and compare.

use schema::{TimestampMs, Value};

use super::Nulls;
use super::object::{Decoder, Form, is_reserved};
use crate::batch::{Found, NAMES_WITH_A_MEANING};

/// Digits of a number that is read here: any mantissa of so many fits in an i64.
const MAX_DIGITS: usize = 18;

/// Integers up to this are exact as floats, and so are these powers of ten; the
/// quotient of the two is then the nearest float to the decimal (Clinger 1990).
const MAX_EXACT: u64 = 1 << 53;
const POWERS_OF_TEN: [f64; MAX_DIGITS + 1] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18,
];

impl Decoder<'_> {
    /// Adds the rows of a part if all of it is plain. If not, no row is added
    /// and nothing is rejected.
    pub(super) fn take_plain(&mut self, text: &str, form: Form, list_allowed: bool) -> bool {
        if self.nulls == Nulls::Deleted {
            return false;
        }
        let mark = self.rows.mark();
        let mut scan = Scan { text, bytes: text.as_bytes(), at: 0 };
        let taken = scan.part(self, form, list_allowed).is_some();
        if !taken {
            self.rows.truncate(mark);
            self.rejection = None;
        }
        taken
    }

    /// The expected key, if the row that it is for is not one too many.
    fn expected_key(&mut self) -> Option<Found> {
        let row = self.rows.len();
        let found = self.keys.take_expected(row);
        let is_room = row - self.rows_before < self.context.limits.max_keys_per_message;
        (is_room || found.earlier_row.is_some()).then_some(found)
    }
}

/// A place in a JSON text. Every method gives nothing where the text is not
/// plain; the place then means nothing any more.
struct Scan<'t> {
    text: &'t str,
    bytes: &'t [u8],
    at: usize,
}

impl<'t> Scan<'t> {
    fn part(&mut self, decoder: &mut Decoder<'_>, form: Form, list_allowed: bool) -> Option<()> {
        match self.next()? {
            b'{' => self.object(decoder, form)?,
            b'[' if list_allowed => loop {
                self.expect(b'{')?;
                self.object(decoder, form)?;
                match self.next()? {
                    b',' => {}
                    b']' => break,
                    _ => return None,
                }
            },
            _ => return None,
        }
        self.skip_blanks();
        (self.at == self.bytes.len()).then_some(())
    }

    /// An object behind its brace.
    fn object(&mut self, decoder: &mut Decoder<'_>, form: Form) -> Option<()> {
        if form != Form::Plain && self.begins_with(b"\"ts\"") {
            return self.timestamped(decoder);
        }
        self.values(decoder, form, decoder.context.received_at)
    }

    /// `"ts": …, "values": {…}` and nothing else.
    fn timestamped(&mut self, decoder: &mut Decoder<'_>) -> Option<()> {
        self.expect(b':')?;
        self.skip_blanks();
        let from = self.at;
        self.number()?;
        let observed_at = decoder.time(&self.text[from..self.at]).ok()?;
        self.expect(b',')?;
        if !self.begins_with(b"\"values\"") {
            return None;
        }
        self.expect(b':')?;
        self.expect(b'{')?;
        self.values(decoder, Form::Plain, observed_at)?;
        self.expect(b'}')
    }

    /// Keys and values up to the closing brace.
    fn values(
        &mut self,
        decoder: &mut Decoder<'_>,
        form: Form,
        observed_at: TimestampMs,
    ) -> Option<()> {
        let mark = decoder.rows.mark();
        decoder.keys.begin_object();
        loop {
            let found = self.key(decoder, form)?;
            self.expect(b':')?;
            self.value(decoder, found, observed_at)?;
            match self.next()? {
                b',' => {}
                b'}' => break,
                _ => return None,
            }
        }
        decoder.rows.compact(mark);
        Some(())
    }

    fn key(&mut self, decoder: &mut Decoder<'_>, form: Form) -> Option<Found> {
        self.expect(b'"')?;
        if let Some(len) = decoder.keys.expected_len(&self.bytes[self.at..]) {
            self.at += len + 1;
            return decoder.expected_key();
        }
        let name = self.rest_of_string()?;
        let has_meaning = form != Form::Plain && NAMES_WITH_A_MEANING.contains(&name);
        if has_meaning || is_reserved(name) {
            return None;
        }
        decoder.key(name)
    }

    fn value(
        &mut self,
        decoder: &mut Decoder<'_>,
        found: Found,
        observed_at: TimestampMs,
    ) -> Option<()> {
        self.skip_blanks();
        let value = match *self.bytes.get(self.at)? {
            b'-' | b'0'..=b'9' => Some(self.number()?),
            b'"' => {
                self.at += 1;
                let text = self.rest_of_string()?;
                decoder.place_text(found, observed_at, text);
                return decoder.rejection.is_none().then_some(());
            }
            b't' => self.word(b"true", Some(Value::Boolean(true)))?,
            b'f' => self.word(b"false", Some(Value::Boolean(false)))?,
            b'n' => self.word(b"null", None)?,
            _ => return None,
        };
        decoder.place(found, observed_at, value);
        Some(())
    }

    fn word(
        &mut self,
        word: &[u8],
        value: Option<Value<'static>>,
    ) -> Option<Option<Value<'static>>> {
        self.bytes[self.at..].starts_with(word).then(|| {
            self.at += word.len();
            value
        })
    }

    /// A number of at most [`MAX_DIGITS`] digits and no exponent.
    fn number(&mut self) -> Option<Value<'static>> {
        let from = self.at;
        let negative = self.bytes.get(self.at) == Some(&b'-');
        self.at += usize::from(negative);
        let mut mantissa = 0;
        let whole = self.digits(&mut mantissa);
        if whole == 0 || (whole > 1 && self.bytes[self.at - whole] == b'0') {
            return None;
        }
        let mut decimals = 0;
        let has_point = self.bytes.get(self.at) == Some(&b'.');
        if has_point {
            self.at += 1;
            decimals = self.digits(&mut mantissa);
            if decimals == 0 {
                return None;
            }
        }
        let ends = !matches!(self.bytes.get(self.at), Some(b'e' | b'E'));
        if !ends || whole + decimals > MAX_DIGITS {
            return None;
        }
        if !has_point {
            let integer = mantissa.cast_signed();
            return Some(Value::Integer(if negative { -integer } else { integer }));
        }
        if mantissa > MAX_EXACT {
            return self.text[from..self.at].parse().ok().map(Value::Number);
        }
        #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
        let number = mantissa as f64 / POWERS_OF_TEN[decimals];
        Some(Value::Number(if negative { -number } else { number }))
    }

    /// Takes digits in; how many there were. The mantissa means nothing if it
    /// has more than [`MAX_DIGITS`].
    fn digits(&mut self, mantissa: &mut u64) -> usize {
        let from = self.at;
        while let Some(digit @ b'0'..=b'9') = self.bytes.get(self.at) {
            *mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            self.at += 1;
        }
        self.at - from
    }

    /// A text behind its opening quote, up to behind the closing one.
    fn rest_of_string(&mut self) -> Option<&'t str> {
        let from = self.at;
        loop {
            match *self.bytes.get(self.at)? {
                b'"' => break,
                b'\\' | 0..=0x1f => return None,
                _ => self.at += 1,
            }
        }
        let text = &self.text[from..self.at];
        self.at += 1;
        Some(text)
    }

    fn begins_with(&mut self, word: &[u8]) -> bool {
        self.skip_blanks();
        let begins = self.bytes[self.at..].starts_with(word);
        self.at += if begins { word.len() } else { 0 };
        begins
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    /// The next byte that is no blank.
    fn next(&mut self) -> Option<u8> {
        self.skip_blanks();
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn skip_blanks(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }
}
