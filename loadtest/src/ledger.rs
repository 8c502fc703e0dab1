//! What one connection has offered, and what of it was acknowledged.
//!
//! A bit for each message, so that hundreds of millions of readings fit.

/// Messages are numbered from 0 in the order in which they are first offered.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    offered: u64,
    acknowledged: u64,
    refused: u64,
    marks: Bits,
}

impl Ledger {
    /// Takes the number of the next message to offer.
    pub fn offer(&mut self) -> u64 {
        let message = self.offered;
        self.offered += 1;
        message
    }

    /// Notes a PUBACK of success.
    pub fn acknowledge(&mut self, message: u64) {
        if self.marks.set(message) {
            self.acknowledged += 1;
        }
    }

    /// Notes a PUBACK that says no; the message is not offered again.
    pub fn refuse(&mut self) {
        self.refused += 1;
    }

    #[must_use]
    pub fn offered(&self) -> u64 {
        self.offered
    }

    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    #[must_use]
    pub fn is_acknowledged(&self, message: u64) -> bool {
        self.marks.get(message)
    }
}

/// A set of small numbers.
#[derive(Clone, Debug, Default)]
pub struct Bits(Vec<u64>);

impl Bits {
    /// Adds a number; false if it was there already.
    pub fn set(&mut self, number: u64) -> bool {
        let word = usize::try_from(number / 64).expect("memory holds a bit for each message");
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        let bit = 1 << (number % 64);
        let new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        new
    }

    #[must_use]
    pub fn get(&self, number: u64) -> bool {
        usize::try_from(number / 64)
            .ok()
            .and_then(|word| self.0.get(word))
            .is_some_and(|word| word & (1 << (number % 64)) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_counts_once() {
        let mut ledger = Ledger::default();
        let messages: Vec<u64> = (0..200).map(|_| ledger.offer()).collect();
        for message in [0, 63, 64, 199, 64] {
            ledger.acknowledge(messages[message]);
        }
        assert_eq!((ledger.offered(), ledger.acknowledged()), (200, 4));
        let marked: Vec<u64> =
            (0..300).filter(|&message| ledger.is_acknowledged(message)).collect();
        assert_eq!(marked, [0, 63, 64, 199]);
    }
}
