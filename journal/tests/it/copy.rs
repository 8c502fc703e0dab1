//! A copy that is taken while the journal goes on opens as a journal of its own.

use std::path::Path;

use journal::{EmbeddedJournal, Journal, JournalFile};
use schema::Position;

use crate::support::{P0, P1, append, open, options, read_whole, segment_files};

fn embedded(journal: &Journal) -> &EmbeddedJournal {
    let Journal::Embedded(journal) = journal else { panic!("it is in a folder") };
    journal
}

fn copy(files: &[JournalFile], to: &Path) {
    for file in files {
        let bytes = std::fs::read(&file.path).unwrap();
        let bytes = &bytes[..usize::try_from(file.bytes).unwrap()];
        std::fs::write(to.join(file.path.file_name().unwrap()), bytes).unwrap();
    }
}

async fn append_many(journal: &Journal, count: u8) {
    for number in 0..count {
        append(journal, P0, &[number; 3_000]).await;
        append(journal, P1, &[number; 500]).await;
    }
}

#[tokio::test]
async fn a_copy_holds_all_from_the_needed_positions_on_and_no_more_segments() {
    let (dir, whole, part) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let journal = open(options(dir.path()));
    append_many(&journal, 100).await;
    let expected = (read_whole(&journal, P0), read_whole(&journal, P1));
    let ends = (journal.bounds(P0).next, journal.bounds(P1).next);
    let kept = embedded(&journal).keep();
    let files = embedded(&journal).files(&kept).unwrap();
    // What comes behind the moment is not in it, though the last file grows.
    append_many(&journal, 3).await;
    copy(&files.needed(&[Position(0); 3]), whole.path());
    copy(&files.needed(&[Position(60), Position(90), Position(0)]), part.path());

    let copied = open(options(whole.path()));
    assert_eq!((copied.bounds(P0).next, copied.bounds(P1).next), ends);
    for (entries, copied) in
        [(&expected.0, read_whole(&copied, P0)), (&expected.1, read_whole(&copied, P1))]
    {
        let of = |entries: &[journal::Entry]| -> Vec<_> {
            entries.iter().map(|entry| (entry.position, entry.payload.clone())).collect()
        };
        assert_eq!(of(entries), of(&copied));
    }
    let copied = open(options(part.path()));
    let bounds = (copied.bounds(P0), copied.bounds(P1));
    assert!(bounds.0.oldest <= Position(60) && bounds.1.oldest <= Position(90), "{bounds:?}");
    assert_eq!((bounds.0.next, bounds.1.next), ends);
    let (all, some) = (segment_files(whole.path()).len(), segment_files(part.path()).len());
    assert!(some < all && some > 1, "{some} of {all} segments");
    assert_eq!(append(&copied, P0, b"goes on").await, ends.0);
}

#[tokio::test]
async fn what_readers_needed_stays_as_long_as_it_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.retention_bytes = 100 << 10;
    let journal = open(options);
    journal.hold("history", P0, Position(0));
    append_many(&journal, 20).await;
    journal.hold("history", P0, Position(10));
    let kept = embedded(&journal).keep();
    // The reader goes on; what it needed a moment ago stays.
    journal.hold("history", P0, Position(20));
    append_many(&journal, 100).await;
    assert!(journal.bounds(P0).oldest <= Position(10), "{:?}", journal.bounds(P0));
    journal.hold("history", P0, Position(120));
    drop(kept);
    append_many(&journal, 10).await;
    assert!(journal.bounds(P0).oldest > Position(10), "{:?}", journal.bounds(P0));
}
