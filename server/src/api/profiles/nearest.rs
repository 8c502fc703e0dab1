//! Which name was meant, where one is near: bounded work for one profile, which
//! ends when nobody waits for it any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The names for which a near one is looked for, in one profile; those that are
/// written first.
const MAX_SUGGESTIONS: usize = 20;

/// Names that are longer get no suggestion and are none. A slip of the pen is
/// found in shorter ones.
const MAX_COMPARED_BYTES: usize = 128;

/// The work for all names of one profile: products of the lengths of two names
/// that were compared.
const MAX_COMPARED_CELLS: usize = 50_000_000;

/// Whoever asks. Dropped, it says that the answer is wanted no more.
#[derive(Debug, Default)]
pub(super) struct Asking(Arc<AtomicBool>);

impl Asking {
    pub fn gone(&self) -> Gone {
        Gone(Arc::clone(&self.0))
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Whether who asked has gone.
#[derive(Clone, Debug)]
pub(super) struct Gone(Arc<AtomicBool>);

impl Gone {
    pub fn is(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Looks for near names, as far as there is room for it.
#[derive(Debug)]
pub(super) struct Suggestions {
    names_left: usize,
    cells_left: usize,
    pub gone: Gone,
}

impl Suggestions {
    pub fn new(gone: Gone) -> Self {
        Self { names_left: MAX_SUGGESTIONS, cells_left: MAX_COMPARED_CELLS, gone }
    }

    /// The known name that was most likely meant, where one is near. Ask once
    /// for each name.
    pub fn nearest<'a>(
        &mut self,
        written: &str,
        known: impl Iterator<Item = &'a str>,
    ) -> Option<&'a str> {
        if written.len() > MAX_COMPARED_BYTES || self.names_left == 0 {
            return None;
        }
        self.names_left -= 1;
        let written = written.to_lowercase();
        let mut nearest: Option<(usize, &str)> = None;
        for known in known.filter(|known| known.len() <= MAX_COMPARED_BYTES) {
            let cells = written.len().saturating_mul(known.len());
            if cells > self.cells_left || self.gone.is() {
                self.names_left = 0;
                break;
            }
            let farthest = 2.max(known.len() / 3);
            // A distance is never less than the lengths' difference.
            if written.chars().count().abs_diff(known.chars().count()) > farthest {
                continue;
            }
            self.cells_left -= cells;
            let distance = strsim::damerau_levenshtein(&written, &known.to_lowercase());
            if distance <= farthest && distance < known.len() {
                let found = (distance, known);
                nearest = Some(nearest.map_or(found, |nearest| nearest.min(found)));
            }
        }
        nearest.map(|(_, known)| known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suggestions() -> (Asking, Suggestions) {
        let asking = Asking::default();
        let gone = asking.gone();
        (asking, Suggestions::new(gone))
    }

    #[test]
    fn the_nearest_name_is_found_where_one_is_near() {
        let (_asking, mut suggestions) = suggestions();
        let mut near =
            |name: &str| suggestions.nearest(name, ["temperature", "pressure"].into_iter());
        assert_eq!(near("Temprature"), Some("temperature"));
        assert_eq!(near("humidity"), None);
    }

    #[test]
    fn so_many_names_have_a_suggestion_and_no_more() {
        let (_asking, mut suggestions) = suggestions();
        for _ in 0..MAX_SUGGESTIONS {
            assert!(suggestions.nearest("presure", ["pressure"].into_iter()).is_some());
        }
        assert_eq!(suggestions.nearest("presure", ["pressure"].into_iter()), None);
    }

    #[test]
    fn long_names_and_more_work_than_there_is_room_for_are_left_out() {
        let (_asking, mut suggestions) = suggestions();
        let long = "x".repeat(MAX_COMPARED_BYTES + 1);
        assert_eq!(suggestions.nearest(&long, [&*long].into_iter()), None);
        assert_eq!(
            suggestions.nearest("presure", [&*long, "pressure"].into_iter()),
            Some("pressure")
        );
        let most = "x".repeat(MAX_COMPARED_BYTES);
        let looked_at = std::cell::Cell::new(0usize);
        let endless = std::iter::repeat_with(|| {
            looked_at.set(looked_at.get() + 1);
            &*most
        });
        suggestions.cells_left = 10 * most.len() * most.len();
        assert_eq!(suggestions.nearest(&most, endless), Some(&*most));
        assert_eq!(looked_at.get(), 11);
        assert_eq!(suggestions.nearest("presure", ["pressure"].into_iter()), None);
    }

    #[test]
    fn it_ends_when_nobody_waits_for_it() {
        let (asking, mut suggestions) = suggestions();
        drop(asking);
        assert!(suggestions.gone.is());
        assert_eq!(suggestions.nearest("presure", std::iter::repeat("pressure")), None);
    }
}
