use arrow_ipc::reader::StreamReader;
use axum::body::to_bytes;
use store::history::{Page, ReadingValue, Sample};

use super::*;

fn samples() -> Vec<Sample> {
    let values = [
        ReadingValue::Number(21.0),
        ReadingValue::Integer(i64::MIN),
        ReadingValue::Boolean(false),
        ReadingValue::Text("say \"ä\",\nplease".into()),
        ReadingValue::Json("{\"a\": [1]}".into()),
    ];
    let sample = |(at, value)| Sample { observed_at: TimestampMs(at), value };
    (-2..).zip(values).map(sample).collect()
}

fn buckets() -> Vec<Bucket> {
    let [first, _, _, text, _]: [Sample; 5] = samples().try_into().unwrap();
    let (from, to) = (TimestampMs(0), TimestampMs(10));
    let (min, max, avg) = (Some(0.5), Some(21.0), Some(1.0 / 3.0));
    vec![
        Bucket { from, to, min, max, avg, first: first.value, last: text.value.clone(), count: 3 },
        Bucket {
            from: to,
            to: TimestampMs(15),
            min: None,
            max: None,
            avg: None,
            first: text.value.clone(),
            last: text.value,
            count: 1,
        },
    ]
}

#[test]
fn json_keeps_the_types() {
    let mut out = Vec::new();
    let page = Page { samples: samples(), next: Some("1a5".to_owned()) };
    json::readings("k\"", page, &mut out).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        r#"{"key":"k\"","readings":[{"ts":-2,"value":21.0},{"ts":-1,"value":-9223372036854775808},{"ts":0,"value":false},{"ts":1,"value":"say \"ä\",\nplease"},{"ts":2,"value":{"a": [1]}}],"next":"1a5"}"#
    );
    let mut out = Vec::new();
    json::readings("k", Page { samples: Vec::new(), next: None }, &mut out).unwrap();
    assert_eq!(out, br#"{"key":"k","readings":[]}"#);
    let mut out = Vec::new();
    json::buckets("k", buckets(), &mut out).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        r#"{"key":"k","buckets":[{"from":0,"to":10,"min":0.5,"max":21.0,"avg":0.3333333333333333,"first":21.0,"last":"say \"ä\",\nplease","count":3},{"from":10,"to":15,"min":null,"max":null,"avg":null,"first":"say \"ä\",\nplease","last":"say \"ä\",\nplease","count":1}]}"#
    );
}

#[test]
fn csv_quotes_and_has_a_column_for_each_type() {
    let mut out = Vec::new();
    csv::readings(&samples(), &mut out).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "ts,number,integer,boolean,text,json\n-2,21,,,,\n-1,,-9223372036854775808,,,\n\
         0,,,false,,\n1,,,,\"say \"\"ä\"\",\nplease\",\n2,,,,,\"{\"\"a\"\": [1]}\"\n"
    );
    let mut out = Vec::new();
    csv::buckets(&buckets()[..1], &mut out).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "from,to,min,max,avg,first,last,count\n\
         0,10,0.5,21,0.3333333333333333,21,\"say \"\"ä\"\",\nplease\",3\n"
    );
}

#[test]
fn arrow_streams_are_read_back() {
    let many: Vec<Sample> = samples().into_iter().cycle().take(20_000).collect();
    for samples in [many.as_slice(), &[]] {
        let mut out = Vec::new();
        arrow::readings(samples, &mut out).unwrap();
        let reader = StreamReader::try_new(out.as_slice(), None).unwrap();
        let names: Vec<_> = reader.schema().fields().iter().map(|f| f.name().clone()).collect();
        assert_eq!(names, ["ts", "number", "integer", "boolean", "text", "json"]);
        let batches: Vec<_> = reader.map(Result::unwrap).collect();
        let rows: usize = batches.iter().map(|batch| batch.num_rows()).sum();
        assert_eq!(rows, samples.len());
        for batch in &batches {
            let filled: usize = batch.columns()[1..].iter().map(|c| c.len() - c.null_count()).sum();
            assert_eq!(filled, batch.num_rows(), "one value a reading");
        }
    }
    let mut out = Vec::new();
    arrow::buckets(&buckets(), &mut out).unwrap();
    let batch = StreamReader::try_new(out.as_slice(), None).unwrap().next().unwrap().unwrap();
    assert_eq!((batch.num_rows(), batch.num_columns()), (2, 8));
}

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

#[tokio::test]
async fn an_encoder_ends_when_its_client_takes_nothing_and_what_came_is_no_whole() {
    let (ended, end) = tokio::sync::oneshot::channel();
    let body = stream::body(std::time::Duration::from_millis(20), move |out| {
        let result = loop {
            if let Err(error) = std::io::Write::write_all(out, &[b'x'; 4_096]) {
                break error;
            }
        };
        let _ = ended.send(result.kind());
        Err(result)
    });
    assert_eq!(end.await.unwrap(), std::io::ErrorKind::TimedOut);
    assert!(to_bytes(body, usize::MAX).await.is_err());
}

#[tokio::test]
async fn a_body_whose_encoder_panics_is_no_whole() {
    let body = stream::body(PATIENCE, |out| {
        std::io::Write::write_all(out, &[b'x'; 100_000])?;
        panic!("an encoder's panic, on purpose");
    });
    assert!(to_bytes(body, usize::MAX).await.is_err());
}

#[tokio::test]
async fn a_body_is_sent_whole_and_a_failure_cuts_it_off() {
    let whole = stream::body(PATIENCE, |out| {
        (0..100_000)
            .try_for_each(|line| std::io::Write::write_all(out, format!("{line}\n").as_bytes()))
    });
    let bytes = to_bytes(whole, usize::MAX).await.unwrap();
    assert_eq!((bytes.len(), bytes.ends_with(b"\n99999\n")), (588_890, true));
    let failing = stream::body(PATIENCE, |out| {
        std::io::Write::write_all(out, b"a part")?;
        Err(std::io::Error::other("broken"))
    });
    assert!(to_bytes(failing, usize::MAX).await.is_err());
}

#[tokio::test]
async fn an_encoder_ends_when_its_client_has_gone() {
    let (ended, end) = tokio::sync::oneshot::channel();
    let body = stream::body(PATIENCE, move |out| {
        let result = loop {
            if let Err(error) = std::io::Write::write_all(out, &[b'x'; 4_096]) {
                break error;
            }
        };
        let _ = ended.send(result.kind());
        Ok(())
    });
    drop(body);
    assert_eq!(end.await.unwrap(), std::io::ErrorKind::BrokenPipe);
}
