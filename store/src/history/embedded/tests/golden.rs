//! What version 1 of the format wrote is read for ever.
//!
//! The folder `golden/v1` is what [`write_sample`] left in an empty folder when
//! the version was fixed. If a new version writes other bytes, it gets a folder
//! of its own beside this one, which stays.

use super::*;

async fn write_sample(dir: &Path) {
    let history = open(dir, tiny());
    let mut writer = history.writer(PartitionId(0)).unwrap();
    let values = [
        ("number", Value::Number(-0.125)),
        ("integer", Value::Integer(i64::MIN)),
        ("boolean", Value::Boolean(true)),
        ("text", Value::Text("läuft")),
        ("json", Value::Json("{\"a\":[1]}")),
        ("mixed", Value::Integer(7)),
        ("mixed", Value::Text("sieben")),
    ];
    for flush in 0..2 {
        let mut readings = Vec::new();
        for (place, (key, value)) in (0..).zip(values) {
            let at = 1_764_000_000_000 + 60_000 * flush + place;
            readings.push((100, key, at, value));
            readings.push((203, key, -at, value));
        }
        writer.write(Position(flush as u64), &rows(&readings)).unwrap();
        history.flush().await.unwrap();
    }
    history.close().await;
}

async fn answers(dir: &Path) -> Vec<(Vec<Reading>, Vec<Vec<Sample>>)> {
    let history = open(dir, tiny());
    assert_eq!(history.durable_position(PartitionId(0)), Position(2));
    let mut answers = Vec::new();
    for device in [100, 203] {
        let latest = history.latest(DeviceId(device), None).await.unwrap();
        assert_eq!(latest.len(), 6);
        let mut series = Vec::new();
        for key in history.keys(DeviceId(device)) {
            series.push(history.range(all(device, &key)).await.unwrap().samples);
        }
        answers.push((latest, series));
    }
    history.halt().await;
    answers
}

#[tokio::test]
async fn files_of_version_1_are_read() {
    let (golden, now) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/history/embedded/tests/golden/v1");
    std::fs::create_dir(golden.path().join("history")).unwrap();
    std::fs::copy(folder.join("history.db"), golden.path().join("history.db")).unwrap();
    for entry in std::fs::read_dir(folder.join("history")).unwrap() {
        let entry = entry.unwrap();
        let to = golden.path().join("history").join(entry.file_name());
        std::fs::copy(entry.path(), to).unwrap();
    }
    write_sample(now.path()).await;
    let answers = (answers(golden.path()).await, answers(now.path()).await);
    assert_eq!(answers.0, answers.1);
    let mixed = &answers.0[0].1[3];
    assert_eq!(mixed.len(), 4, "two readings a flush");
    assert_eq!(mixed[3].value, ReadingValue::Text("sieben".into()));
}
