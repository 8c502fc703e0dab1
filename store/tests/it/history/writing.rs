//! Positions, kinds, re-sends, and times of every sort.

use schema::{PartitionId, Position, Value};
use store::history::{HistoryError, ReadingValue};

use super::{Limits, Place, all, both, integer, replay, rows, samples, times, write_all, writer};

both!(
    every_kind_comes_back_as_it_was_sent,
    what_is_sent_again_replaces,
    times_of_every_sort_are_kept,
    positions_move_with_what_they_stand_for,
    a_partition_has_one_writer_at_a_time,
    another_number_of_partitions_is_refused,
    nothing_is_taken_after_the_end,
    what_was_not_durable_comes_again,
    many_rows_of_many_series_arrive,
);

async fn every_kind_comes_back_as_it_was_sent(place: Place) {
    let history = place.open().await;
    let mut writer = writer(&history, 0).await;
    let long = "ä€\u{1f600}".repeat(5_000);
    let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    let values = [
        Value::Number(0.1),
        Value::Number(-0.0),
        Value::Number(f64::MAX),
        Value::Number(f64::MIN_POSITIVE / 8.0),
        Value::Integer(i64::MAX),
        Value::Integer(i64::MIN),
        Value::Integer(1),
        Value::Boolean(true),
        Value::Boolean(false),
        Value::Text(""),
        Value::Text("1"),
        Value::Text("a\0b\\u0000\"\u{1}"),
        Value::Text("\0"),
        Value::Text("\\N\t\n'"),
        Value::Text(&long),
        Value::Json("{ \"b\" : 1.0,\n \"b\": [true, null] }"),
        Value::Json("[\"\\u0000\", \"\\ud800\"]"),
        Value::Json("[1e400, 123456789012345678901234567890]"),
        Value::Json(&deep),
        Value::Json("no JSON at all \0"),
    ];
    let readings: Vec<_> =
        (0i64..).zip(&values).map(|(at, value)| (100, "schlüssel\0 \\u0000", at, *value)).collect();
    let twin = rows(&[(100, "schlüssel\\u0000 \\u0000", 0, Value::Integer(7))]);
    write_all(&history, &mut writer, &[rows(&readings), twin]).await;
    let expected: Vec<(i64, ReadingValue)> =
        (0i64..).zip(&values).map(|(at, value)| (at, (*value).into())).collect();
    let found = samples(&history, 100, "schlüssel\0 \\u0000").await;
    assert_eq!(found, expected);
    let Value::Number(zero) = found[1].1.as_value() else { panic!("a number") };
    assert!(zero.is_sign_negative());
    let keys = history.keys(schema::DeviceId(100)).await.unwrap();
    assert_eq!(keys, ["schlüssel\0 \\u0000", "schlüssel\\u0000 \\u0000"]);
    for (name, value) in [(&keys[0], expected[19].1.clone()), (&keys[1], ReadingValue::Integer(7))]
    {
        let asked = Some(vec![name.clone()]);
        let latest = history.latest(schema::DeviceId(100), asked).await.unwrap();
        assert_eq!((&latest[0].key, &latest[0].value), (name, &value));
    }
    history.close().await;
}

async fn what_is_sent_again_replaces(place: Place) {
    let history = place.open().await;
    let mut writer = writer(&history, 0).await;
    let of = |values: &[(i64, i64)]| {
        let rows_of: Vec<_> =
            values.iter().map(|(at, value)| (100, "t", *at, Value::Integer(*value))).collect();
        rows(&rows_of)
    };
    // In one record, in one batch, in another one, and behind a restart.
    write_all(&history, &mut writer, &[of(&[(5, 1), (5, 2), (3, 1)]), of(&[(5, 3)])]).await;
    let expected = |values: &[(i64, i64)]| -> Vec<(i64, ReadingValue)> {
        values.iter().map(|(at, value)| (*at, ReadingValue::Integer(*value))).collect()
    };
    assert_eq!(samples(&history, 100, "t").await, expected(&[(3, 1), (5, 3)]));
    write_all(&history, &mut writer, &[of(&[(3, 4), (4, 4), (6, 4)])]).await;
    assert_eq!(samples(&history, 100, "t").await, expected(&[(3, 4), (4, 4), (5, 3), (6, 4)]));
    drop(writer);
    history.close().await;
    let history = place.open().await;
    let mut writer = super::writer(&history, 0).await;
    let text = rows(&[(100, "t", 6, Value::Text("now a text")), (100, "t", 7, Value::Integer(7))]);
    write_all(&history, &mut writer, &[text, of(&[(3, 9)])]).await;
    let mut all = expected(&[(3, 9), (4, 4), (5, 3)]);
    all.push((6, ReadingValue::Text("now a text".into())));
    all.extend(expected(&[(7, 7)]));
    assert_eq!(samples(&history, 100, "t").await, all);
    history.close().await;
}

async fn times_of_every_sort_are_kept(place: Place) {
    let history = place.open().await;
    let mut writer = writer(&history, 0).await;
    let now = store::history::Clock::System.now().0;
    let day = store::history::DAY_MS;
    let mut odd =
        vec![i64::MIN, i64::MIN + 1, -210_866_803_200_001, -210_866_803_200_000, -1, 0, 1];
    odd.extend([9_224_318_015_999_999, 9_224_318_016_000_000, i64::MAX - 1]);
    odd.extend([now - 3_650 * day, now - 400 * day, now - 8 * day, now, now + day, now + 90 * day]);
    // More spans of time than there may be.
    odd.extend((1..40).map(|n| now - n * 40 * day - 7));
    let readings: Vec<_> = odd.iter().map(|at| (100, "t", *at, Value::Integer(*at))).collect();
    write_all(&history, &mut writer, &[rows(&readings[..9]), rows(&readings[9..])]).await;
    odd.sort_unstable();
    let expected: Vec<_> = odd.iter().map(|at| (*at, ReadingValue::Integer(*at))).collect();
    assert_eq!(samples(&history, 100, "t").await, expected);
    let latest = history.latest(schema::DeviceId(100), None).await.unwrap();
    assert_eq!(latest[0].observed_at.0, i64::MAX - 1);
    // All of them once more, which replaces.
    let again: Vec<_> = odd.iter().map(|at| (100, "t", *at, Value::Boolean(true))).collect();
    write_all(&history, &mut writer, &[rows(&again)]).await;
    let expected: Vec<_> = odd.iter().map(|at| (*at, ReadingValue::Boolean(true))).collect();
    assert_eq!(samples(&history, 100, "t").await, expected);
    history.close().await;
}

async fn positions_move_with_what_they_stand_for(place: Place) {
    let history = place.open().await;
    let durable = || history.durable_position(PartitionId(1));
    let mut writer = writer(&history, 1).await;
    assert_eq!((writer.position(), durable()), (Position(0), Position(0)));
    writer.write(Position(0), &integer(1)).unwrap();
    // Records between may be left out.
    writer.write(Position(4), &integer(2)).unwrap();
    let error = writer.write(Position(4), &integer(3)).unwrap_err();
    assert!(matches!(error, HistoryError::Position { next: Position(5), .. }), "{error}");
    assert!(writer.advance(Position(4)).is_err());
    writer.advance(Position(9)).unwrap();
    assert_eq!(writer.position(), Position(9));
    history.flush().await.unwrap();
    assert_eq!(durable(), Position(9));
    assert_eq!(history.durable_position(PartitionId(0)), Position(0));
    assert_eq!(history.durable_position(PartitionId(7)), Position(0), "there is none");
    assert_eq!(times(&history, 100, "t").await, [1, 2]);
    drop(writer);
    history.close().await;
    let history = place.open().await;
    assert_eq!(history.durable_position(PartitionId(1)), Position(9));
    assert_eq!(super::writer(&history, 1).await.position(), Position(9));
    history.close().await;
}

async fn a_partition_has_one_writer_at_a_time(place: Place) {
    let history = place.open().await;
    let first = writer(&history, 1).await;
    let error = history.writer(PartitionId(1)).await.unwrap_err();
    assert!(matches!(error, HistoryError::WriterTaken(PartitionId(1))), "{error}");
    drop(first);
    writer(&history, 1).await;
    let error = history.writer(PartitionId(2)).await.unwrap_err();
    assert_eq!(error.to_string(), "the history has 2 partitions and no partition 2");
    history.close().await;
}

async fn another_number_of_partitions_is_refused(place: Place) {
    place.open().await.close().await;
    let error = place.try_open(&Limits::default(), 3).await.unwrap_err();
    assert!(matches!(error, HistoryError::Partitions { known: 2, asked: 3 }), "{error}");
}

async fn nothing_is_taken_after_the_end(place: Place) {
    let history = place.open().await;
    let mut writer = writer(&history, 0).await;
    writer.write(Position(0), &integer(1)).unwrap();
    history.close().await;
    writer.ready().await;
    let error = writer.write(Position(1), &integer(2)).unwrap_err();
    assert!(matches!(error, HistoryError::Closed), "{error}");
    let history = place.open().await;
    assert_eq!(times(&history, 100, "t").await, [1]);
    history.close().await;
}

async fn what_was_not_durable_comes_again(place: Place) {
    let journal: Vec<_> = (0..60).map(integer).collect();
    let mut stop = 7;
    loop {
        let history = place.open().await;
        let mut writer = writer(&history, 0).await;
        replay(&mut writer, &journal[..stop.min(journal.len())]).await;
        let is_last = stop >= journal.len();
        if is_last {
            history.flush().await.unwrap();
            assert_eq!(times(&history, 100, "t").await, (0..60).collect::<Vec<_>>());
        }
        // What is in memory is gone, as with a process that ends.
        history.halt().await;
        if is_last {
            return;
        }
        stop += 9;
    }
}

async fn many_rows_of_many_series_arrive(place: Place) {
    let history = place.open().await;
    let mut writers = [writer(&history, 0).await, writer(&history, 1).await];
    for round in 0..20i64 {
        for (partition, writer) in (0u64..).zip(&mut writers) {
            let names: Vec<String> = (0..10).map(|key| format!("key-{key}")).collect();
            let mut readings = Vec::new();
            for device in 0..5 {
                let device = 100 + 10 * device + partition;
                let of = |name: &'_ String| (device, name.clone(), round);
                readings.extend(names.iter().map(of));
            }
            let readings: Vec<_> = readings
                .iter()
                .map(|(device, name, at)| (*device, name.as_str(), *at, Value::Number(*at as f64)))
                .collect();
            writer.ready().await;
            writer.write(Position(round as u64), &rows(&readings)).unwrap();
        }
    }
    history.flush().await.unwrap();
    for device in [100, 101, 110, 141] {
        let latest = history.latest(schema::DeviceId(device), None).await.unwrap();
        assert_eq!(latest.len(), 10);
        assert!(latest.iter().all(|one| one.observed_at.0 == 19));
        assert_eq!(history.range(all(device, "key-3")).await.unwrap().samples.len(), 20);
    }
    history.close().await;
}
