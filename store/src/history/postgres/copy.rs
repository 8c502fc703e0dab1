//! Rows as PostgreSQL's binary COPY takes them, written by hand into buffers
//! that are used again.

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::SinkExt as _;
use schema::Value;
use tokio_postgres::{Statement, Transaction};

use super::values::Stored;
use crate::history::HistoryError;

/// The columns of a reading, as all statements name them.
pub(super) const COLUMNS: &str = "number, integer, boolean, escaped, text, json";

/// Bytes of one message of a COPY: large enough that messages cost nothing,
/// small enough that PostgreSQL works on one while the next is on its way.
const CHUNK_BYTES: usize = 128 << 10;

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// A series, a time, and the six columns of a value.
const FIELDS: i16 = 8;
const NULL: i32 = -1;

/// The rows of one COPY.
#[derive(Debug, Default)]
pub(super) struct CopyRows {
    chunks: Vec<Bytes>,
    buffer: BytesMut,
    rows: u64,
    bytes: u64,
}

impl CopyRows {
    pub fn clear(&mut self) {
        self.chunks.clear();
        self.buffer.clear();
        (self.rows, self.bytes) = (0, 0);
    }

    pub fn rows(&self) -> u64 {
        self.rows
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds a row; `time` is what stands in the column of time.
    #[inline]
    pub fn push(&mut self, series: i64, time: i64, value: Value<'_>) {
        let out = &mut self.buffer;
        if out.capacity() - out.len() < 256 {
            out.reserve(CHUNK_BYTES + 4_096);
        }
        if self.rows == 0 {
            out.extend_from_slice(SIGNATURE);
        }
        let mut head = [0u8; 26];
        head[..2].copy_from_slice(&FIELDS.to_be_bytes());
        head[2..6].copy_from_slice(&8i32.to_be_bytes());
        head[6..14].copy_from_slice(&series.to_be_bytes());
        head[14..18].copy_from_slice(&8i32.to_be_bytes());
        head[18..].copy_from_slice(&time.to_be_bytes());
        out.extend_from_slice(&head);
        match value {
            Value::Number(number) => {
                out.put_i32(8);
                out.put_f64(number);
                nulls(out, 5);
            }
            Value::Integer(integer) => {
                nulls(out, 1);
                out.put_i32(8);
                out.put_i64(integer);
                nulls(out, 4);
            }
            Value::Boolean(boolean) => {
                nulls(out, 2);
                out.put_i32(1);
                out.put_u8(u8::from(boolean));
                nulls(out, 3);
            }
            Value::Text(text) => {
                nulls(out, 3);
                stored(out, &Stored::text(text));
                nulls(out, 1);
            }
            Value::Json(json) => {
                nulls(out, 3);
                let json = Stored::json(json);
                escaped(out, json.escaped);
                nulls(out, 1);
                text(out, &json.text);
            }
        }
        self.rows += 1;
        if self.buffer.len() >= CHUNK_BYTES {
            self.cut();
        }
    }

    fn cut(&mut self) {
        self.bytes += self.buffer.len() as u64;
        self.chunks.push(self.buffer.split().freeze());
    }

    /// Ends the rows; nothing may be added until they are cleared.
    pub fn finish(&mut self) {
        if self.rows > 0 {
            self.buffer.put_i16(-1);
            self.cut();
        }
    }

    /// Sends them by a COPY.
    pub async fn send(
        &self,
        transaction: &Transaction<'_>,
        copy: &Statement,
    ) -> Result<(), HistoryError> {
        let sink = transaction.copy_in::<_, Bytes>(copy).await?;
        let mut sink = std::pin::pin!(sink);
        for chunk in &self.chunks {
            // What PostgreSQL says to it comes with the end.
            if sink.feed(chunk.clone()).await.is_err() {
                break;
            }
        }
        sink.finish().await?;
        Ok(())
    }
}

fn nulls(out: &mut BytesMut, count: usize) {
    const NULLS: [u8; 20] = [0xff; 20];
    debug_assert_eq!(NULL.to_be_bytes(), NULLS[..4]);
    out.extend_from_slice(&NULLS[..4 * count]);
}

fn stored(out: &mut BytesMut, value: &Stored<'_>) {
    escaped(out, value.escaped);
    text(out, &value.text);
}

fn escaped(out: &mut BytesMut, escaped: bool) {
    if escaped {
        out.put_i32(1);
        out.put_u8(1);
    } else {
        nulls(out, 1);
    }
}

fn text(out: &mut BytesMut, text: &str) {
    let bytes = i32::try_from(text.len()).expect("a record, and so a text, is far below 2 GiB");
    out.put_i32(bytes);
    out.extend_from_slice(text.as_bytes());
}
