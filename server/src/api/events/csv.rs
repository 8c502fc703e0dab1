//! Events as CSV (RFC 4180), page by page. Text that a spreadsheet would take
//! for a formula gets an apostrophe in front.

use bytes::Bytes;
use csv::{Terminator, WriterBuilder};
use store::AlarmStore;
use store::alarms::{EventQuery, EventRow};

use crate::api::outflow::Outflow;

/// Events that are read at once.
const PAGE: usize = 200;

const COLUMNS: [&str; 15] = [
    "sequence",
    "id",
    "at",
    "time",
    "kind",
    "tenant",
    "location",
    "device",
    "alarm",
    "document",
    "severity",
    "actor",
    "actor_token",
    "peer",
    "body",
];

/// Sends all events of the query that there are when it begins.
pub(super) async fn export(store: AlarmStore, mut query: EventQuery, out: Outflow) {
    query.limit = PAGE;
    query.up_to = Some(*store.latest_event().borrow());
    let mut piece = line(COLUMNS.map(str::to_owned));
    loop {
        let page = match store.events(query.clone()).await {
            Ok(page) => page,
            Err(error) => {
                tracing::error!(%error, "an export of events was broken off");
                return;
            }
        };
        query.after = page.last().map(|event| event.sequence);
        let is_last = page.len() < PAGE;
        for event in page {
            piece.extend(line(cells(event)));
        }
        if out.send(Bytes::from(std::mem::take(&mut piece))).await.is_err() {
            return;
        }
        if is_last {
            return out.finish();
        }
    }
}

fn line(cells: [String; 15]) -> Vec<u8> {
    let mut writer = WriterBuilder::new().terminator(Terminator::CRLF).from_writer(Vec::new());
    writer.write_record(cells).expect("writing to memory does not fail");
    writer.into_inner().expect("writing to memory does not fail")
}

fn cells(event: EventRow) -> [String; 15] {
    fn shown(value: Option<impl ToString>) -> String {
        value.map(|value| value.to_string()).unwrap_or_default()
    }
    let time = jiff::Timestamp::from_millisecond(event.at.0).ok();
    [
        event.sequence.to_string(),
        event.id.to_string(),
        event.at.0.to_string(),
        shown(time),
        harmless(event.kind),
        shown(event.tenant),
        shown(event.location),
        shown(event.device),
        shown(event.alarm),
        shown(event.document),
        shown(event.severity),
        harmless(event.actor.unwrap_or_default()),
        shown(event.provenance.token),
        harmless(event.provenance.from.unwrap_or_default()),
        harmless(event.body.to_string()),
    ]
}

/// Numbers stay as they are; a text that begins like a formula does not.
fn harmless(text: String) -> String {
    match text.as_bytes().first() {
        Some(b'=' | b'+' | b'-' | b'@' | b'\t' | b'\r') => format!("'{text}"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use schema::{Provenance, TimestampMs, TransitionId};
    use serde_json::json;

    use super::*;

    #[test]
    fn cells_are_quoted_and_are_no_formulas() {
        for formula in ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx"] {
            assert_eq!(harmless(formula.to_owned()), format!("'{formula}"));
        }
        let event = EventRow {
            sequence: 7,
            id: TransitionId(1),
            tenant: None,
            at: TimestampMs(-1),
            kind: "token_created".to_owned(),
            location: None,
            device: None,
            alarm: None,
            document: Some(3),
            severity: None,
            actor: Some("=cmd|' /C calc'!A0, \"x\"".to_owned()),
            provenance: Provenance { token: Some(4), from: Some("::1".to_owned()) },
            body: json!({ "name": "a\nb" }),
        };
        let text = String::from_utf8(line(cells(event))).unwrap();
        assert_eq!(
            text,
            "7,00000000000000000000000000000001,-1,1969-12-31T23:59:59.999Z,token_created,,,,,3,,\
             \"'=cmd|' /C calc'!A0, \"\"x\"\"\",4,::1,\"{\"\"name\"\":\"\"a\\nb\"\"}\"\r\n"
        );
    }
}
