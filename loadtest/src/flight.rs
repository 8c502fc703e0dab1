//! The messages of one connection that are sent and not yet acknowledged.
//!
//! Stands between offering and the ledger, and outlives a broken connection:
//! what was under way is sent again on the next one. It never performs IO.

/// A ring of messages in the order in which they were first sent. A message's
/// packet id is its place in the ring, plus one.
#[derive(Debug)]
pub struct Flight {
    places: Vec<Place>,
    /// Ordinal of the oldest that waits; ordinals grow for ever.
    oldest: u64,
    /// Ordinal of the next to be sent for the first time.
    next: u64,
    /// Those from `oldest` to here are sent on the present connection.
    resent_to: u64,
    /// Sent on the present connection and waiting.
    under_way: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    message: u64,
    sent_us: u64,
    waiting: bool,
}

/// A message that left the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Landed {
    pub message: u64,
    /// When it was first sent.
    pub sent_us: u64,
    /// Whether it was the oldest that waited, as MQTT demands of the server.
    pub in_order: bool,
}

impl Flight {
    /// A ring of `window` messages at most.
    #[must_use]
    pub fn new(window: u16) -> Self {
        Self {
            places: vec![Place::default(); usize::from(window.max(1))],
            oldest: 0,
            next: 0,
            resent_to: 0,
            under_way: 0,
        }
    }

    /// Whether a message can be sent for the first time.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.resent_to == self.next && self.next - self.oldest < self.places.len() as u64
    }

    /// Messages that are sent on the present connection and wait.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.under_way
    }

    /// Messages that wait, sent again on the present connection or not yet.
    pub fn waiting(&self) -> impl Iterator<Item = u64> {
        (self.oldest..self.next)
            .map(|ordinal| &self.places[self.index(ordinal)])
            .filter(|place| place.waiting)
            .map(|place| place.message)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.oldest == self.next
    }

    /// Takes in a message that is sent for the first time; gives its packet id.
    pub fn launch(&mut self, message: u64, now_us: u64) -> u16 {
        debug_assert!(self.has_room(), "the caller asks first");
        let index = self.index(self.next);
        self.places[index] = Place { message, sent_us: now_us, waiting: true };
        self.next += 1;
        self.resent_to = self.next;
        self.under_way += 1;
        packet_id(index)
    }

    /// The connection broke: all that waits has to be sent again.
    pub fn ground(&mut self) {
        self.resent_to = self.oldest;
        self.under_way = 0;
    }

    /// The next message to be sent again, with its packet id.
    pub fn relaunch(&mut self) -> Option<(u64, u16)> {
        while self.resent_to < self.next {
            let index = self.index(self.resent_to);
            self.resent_to += 1;
            let place = self.places[index];
            if place.waiting {
                self.under_way += 1;
                return Some((place.message, packet_id(index)));
            }
        }
        None
    }

    /// The server answered; `None` if nothing of that id is under way.
    pub fn land(&mut self, packet_id: u16) -> Option<Landed> {
        let index = usize::from(packet_id).checked_sub(1)?;
        let in_order = index == self.index(self.oldest);
        let place = self.places.get_mut(index).filter(|place| place.waiting)?;
        place.waiting = false;
        let landed = Landed { message: place.message, sent_us: place.sent_us, in_order };
        self.under_way = self.under_way.saturating_sub(1);
        while self.oldest < self.next && !self.places[self.index(self.oldest)].waiting {
            self.oldest += 1;
        }
        self.resent_to = self.resent_to.max(self.oldest);
        Some(landed)
    }

    fn index(&self, ordinal: u64) -> usize {
        usize::try_from(ordinal % self.places.len() as u64).expect("below the ring's length")
    }
}

fn packet_id(index: usize) -> u16 {
    u16::try_from(index + 1).expect("a window has at most 65,535 places")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_holds_until_an_acknowledgement_makes_room() {
        let mut flight = Flight::new(2);
        assert_eq!(flight.launch(10, 5), 1);
        assert_eq!(flight.launch(11, 6), 2);
        assert!(!flight.has_room());
        assert_eq!(flight.land(1), Some(Landed { message: 10, sent_us: 5, in_order: true }));
        assert!(flight.has_room());
        assert_eq!(flight.launch(12, 7), 1);
        assert_eq!(flight.under_way(), 2);
        assert_eq!(flight.land(3), None);
        assert_eq!(flight.land(0), None);
    }

    #[test]
    fn an_answer_out_of_turn_is_seen_and_one_given_twice_is_nothing() {
        let mut flight = Flight::new(3);
        for message in 0..3 {
            flight.launch(message, 0);
        }
        assert_eq!(flight.land(2).map(|landed| landed.in_order), Some(false));
        assert_eq!(flight.land(2), None);
        assert!(!flight.has_room(), "the oldest still holds its place");
        assert_eq!(flight.land(1).map(|landed| landed.in_order), Some(true));
        assert!(flight.has_room());
        assert_eq!(flight.waiting().collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn what_waits_is_sent_again_in_order_before_anything_new() {
        let mut flight = Flight::new(4);
        for message in 0..4 {
            flight.launch(message, 0);
        }
        flight.land(3);
        flight.ground();
        assert_eq!(flight.under_way(), 0);
        assert!(!flight.has_room());
        assert_eq!(flight.relaunch(), Some((0, 1)));
        assert_eq!(flight.land(1).map(|landed| landed.message), Some(0));
        assert!(!flight.has_room(), "two are not sent again yet");
        assert_eq!(flight.relaunch(), Some((1, 2)));
        assert_eq!(flight.relaunch(), Some((3, 4)));
        assert_eq!(flight.relaunch(), None);
        assert!(flight.has_room());
        assert_eq!(flight.under_way(), 2);
        assert_eq!(flight.waiting().collect::<Vec<_>>(), [1, 3]);
    }
}
