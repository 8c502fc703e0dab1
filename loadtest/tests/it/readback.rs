//! The audit's way through HTTP, against a server of the test's own that gives
//! back what it is told to: an honest one, and ones that lose, double or change
//! a reading.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMillisecondArray,
};
use arrow_ipc::writer::StreamWriter;
use loadtest::api::Api;
use loadtest::audit::Verdict;
use loadtest::ledger::Ledger;
use loadtest::plan::{Lane, Plan};
use loadtest::readback::Evidence;
use loadtest::values::{self, Sample};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

const MESSAGES: u64 = 100;
const CONNECTIONS: u32 = 2;
/// Far fewer than a server gives, so that a series has many pages.
const PAGE_ROWS: usize = 7;

type Rows = BTreeMap<(u64, String), Vec<(i64, Sample)>>;

fn plan() -> Plan {
    Plan { devices_behind: 0, ..crate::mosquitto::plan() }
}

fn device(connection: u32) -> u64 {
    1_000 + u64::from(connection)
}

/// What an honest server has stored.
fn honest() -> Rows {
    let plan = plan();
    let mut rows = Rows::new();
    for connection in 0..CONNECTIONS {
        for key in 0..plan.keys {
            let series = rows.entry((device(connection), format!("k{key}"))).or_default();
            for lane in [Lane::Buffered, Lane::Live] {
                let seed = values::series(connection, 0, lane == Lane::Buffered);
                for number in 0..plan.readings_offered(lane, 0, MESSAGES) {
                    let sample = values::sample(seed, key, number);
                    series.push((plan.time_of(lane, number).0, sample));
                }
            }
        }
    }
    rows
}

async fn judge(rows: Rows) -> Verdict {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let rows = Arc::new(rows);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(stream, Arc::clone(&rows)));
        }
    });
    let mut ledger = Ledger::default();
    for _ in 0..MESSAGES {
        let message = ledger.offer();
        ledger.acknowledge(message);
    }
    let evidence = Arc::new(Evidence {
        plan: plan(),
        ledgers: vec![ledger; CONNECTIONS as usize],
        devices: (0..CONNECTIONS).map(|connection| vec![Some(device(connection))]).collect(),
    });
    let api = Api::new(&format!("http://{address}"), "token").unwrap();
    assert!(evidence.catch_up(&api, Duration::ZERO).await.is_ok());
    evidence.judge(&api).await.unwrap().verdict
}

/// Answers the requests of one connection.
async fn serve(stream: TcpStream, rows: Arc<Rows>) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                return;
            }
            if line == "\r\n" {
                break;
            }
            head.push(line);
        }
        let target = head[0].split(' ').nth(1).unwrap().to_owned();
        let arrow = head.iter().any(|line| line.contains("vnd.apache.arrow.stream"));
        let answer = answer(&target, arrow, &rows);
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

fn answer(target: &str, arrow: bool, rows: &Rows) -> Vec<u8> {
    let (path, query) = target.split_once('?').unwrap();
    let query: BTreeMap<&str, &str> =
        query.split('&').map(|pair| pair.split_once('=').unwrap()).collect();
    let device: u64 = path.split('/').nth(4).unwrap().parse().unwrap();
    let range = query["from"].parse::<i64>().unwrap()..query["to"].parse::<i64>().unwrap();
    let all: Vec<(i64, Sample)> = rows[&(device, query["key"].to_owned())]
        .iter()
        .copied()
        .filter(|(time, _)| range.contains(time))
        .collect();
    if !arrow {
        let readings: Vec<i64> = all.iter().map(|&(time, _)| time).take(1).collect();
        let body = serde_json::json!({
            "readings": readings,
            "buckets": [{"count": all.len()}],
        });
        return http("application/json", None, body.to_string().as_bytes());
    }
    let start: usize = query.get("cursor").map_or(0, |cursor| cursor.parse().unwrap());
    let page = &all[start..all.len().min(start + PAGE_ROWS)];
    let next = (start + PAGE_ROWS < all.len()).then_some(start + PAGE_ROWS);
    http("application/vnd.apache.arrow.stream", next, &arrow_stream(page))
}

fn http(kind: &str, next: Option<usize>, body: &[u8]) -> Vec<u8> {
    let next = next.map_or(String::new(), |next| format!("X-Next-Cursor: {next}\r\n"));
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{next}Content-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    answer.extend_from_slice(body);
    answer
}

fn arrow_stream(page: &[(i64, Sample)]) -> Vec<u8> {
    let times = TimestampMillisecondArray::from_iter_values(page.iter().map(|&(time, _)| time));
    let samples = || page.iter().map(|&(_, sample)| sample);
    let columns: [(&str, ArrayRef); 6] = [
        ("ts", Arc::new(times.with_timezone("UTC"))),
        ("number", Arc::new(samples().map(number).collect::<Float64Array>())),
        ("integer", Arc::new(samples().map(integer).collect::<Int64Array>())),
        ("boolean", Arc::new(samples().map(boolean).collect::<BooleanArray>())),
        ("text", Arc::new(samples().map(text).collect::<StringArray>())),
        ("json", Arc::new(samples().map(|_| None::<String>).collect::<StringArray>())),
    ];
    let columns = columns.map(|(name, column)| (name, column, true));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

fn number(sample: Sample) -> Option<f64> {
    if let Sample::Hundredths(value) = sample { Some(f64::from(value) / 100.0) } else { None }
}

fn integer(sample: Sample) -> Option<i64> {
    if let Sample::Integer(value) = sample { Some(i64::from(value)) } else { None }
}

fn boolean(sample: Sample) -> Option<bool> {
    if let Sample::Boolean(value) = sample { Some(value) } else { None }
}

fn text(sample: Sample) -> Option<String> {
    if let Sample::Text(value) = sample { Some(format!("s{value}")) } else { None }
}

#[tokio::test]
async fn an_honest_server_passes() {
    let verdict = judge(honest()).await;
    assert!(verdict.is_clean(), "{verdict:?}");
    // 90 live messages with one time, 10 batches with four; 5 keys.
    assert_eq!(verdict.stored, u64::from(CONNECTIONS) * (90 + 40) * 5);
}

#[tokio::test]
async fn one_lost_reading_is_found() {
    for (key, row) in [("k0", 0), ("k3", 64), ("k4", 129)] {
        let mut rows = honest();
        rows.get_mut(&(device(1), key.to_owned())).unwrap().remove(row);
        let verdict = judge(rows).await;
        assert_eq!((verdict.missing, verdict.doubled, verdict.wrong), (1, 0, 0), "{verdict:?}");
    }
}

#[tokio::test]
async fn one_doubled_reading_is_found_also_across_pages() {
    for row in [PAGE_ROWS - 1, PAGE_ROWS, 129] {
        let mut rows = honest();
        let series = rows.get_mut(&(device(0), "k1".to_owned())).unwrap();
        series.insert(row, series[row]);
        let verdict = judge(rows).await;
        assert_eq!((verdict.missing, verdict.doubled, verdict.wrong), (0, 1, 0), "{verdict:?}");
    }
}

#[tokio::test]
async fn a_changed_value_and_a_swap_between_devices_are_found() {
    let mut rows = honest();
    rows.get_mut(&(device(0), "k2".to_owned())).unwrap()[50].1 = Sample::Hundredths(1);
    let verdict = judge(rows).await;
    assert_eq!((verdict.missing, verdict.doubled, verdict.wrong), (0, 0, 1), "{verdict:?}");

    let mut rows = honest();
    let one = rows.remove(&(device(0), "k1".to_owned())).unwrap();
    let other = rows.insert((device(1), "k1".to_owned()), one).unwrap();
    rows.insert((device(0), "k1".to_owned()), other);
    let verdict = judge(rows).await;
    assert!(verdict.wrong > 250, "{verdict:?}");
}
