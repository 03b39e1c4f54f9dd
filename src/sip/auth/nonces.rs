//! Remembers in bounded memory which nonces were used how often, so that no credentials count twice.

use std::collections::BTreeMap;

/// What tells one nonce from another. The serial number orders them, so that a clock that is set back or
/// forth neither revives a used nonce nor condemns a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NonceId {
    pub serial: u64,
    /// Milliseconds since the epoch.
    pub made_at: i64,
}

/// Counters of the nonces that were used with the right password. What it forgets it refuses, so that running
/// out of room costs a far end one more challenge and never lets a replay through.
#[derive(Debug)]
pub(super) struct UsedNonces {
    capacity: usize,
    windows: BTreeMap<u64, Window>,
    /// Serial numbers up to this one are refused unless they are in `windows`.
    forgotten: u64,
}

/// The counters seen of one nonce: requests over UDP may overtake each other, so the last 64 are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    made_at: i64,
    highest: u32,
    /// Bit n: `highest - n` was used.
    used: u64,
}

impl Window {
    fn take(&mut self, counter: u32) -> bool {
        if counter > self.highest {
            let ahead = counter - self.highest;
            self.used = if ahead < 64 { self.used << ahead } else { 0 } | 1;
            self.highest = counter;
            return true;
        }
        let behind = self.highest - counter;
        if behind >= 64 || self.used & (1 << behind) != 0 {
            return false;
        }
        self.used |= 1 << behind;
        true
    }
}

impl UsedNonces {
    pub fn new(capacity: usize) -> UsedNonces {
        UsedNonces { capacity: capacity.max(1), windows: BTreeMap::new(), forgotten: 0 }
    }

    /// Uses a counter of a nonce. False if it was used before, or might have been.
    pub fn take(&mut self, nonce: NonceId, counter: u32) -> bool {
        if let Some(window) = self.windows.get_mut(&nonce.serial) {
            return window.take(counter);
        }
        if nonce.serial <= self.forgotten {
            return false;
        }
        if self.windows.len() >= self.capacity {
            match self.windows.first_key_value() {
                Some((oldest, _)) if *oldest < nonce.serial => self.forgotten = *oldest,
                Some(_) | None => return false,
            }
            self.windows.pop_first();
        }
        self.windows.insert(nonce.serial, Window { made_at: nonce.made_at, highest: counter, used: 1 });
        true
    }

    /// Frees what was made before `oldest` (milliseconds since the epoch).
    pub fn forget_before(&mut self, oldest: i64) {
        while let Some(entry) = self.windows.first_entry()
            && entry.get().made_at < oldest
        {
            self.forgotten = *entry.key();
            entry.remove();
        }
    }

    pub fn len(&self) -> usize {
        self.windows.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nonce(serial: u64) -> NonceId {
        NonceId { serial, made_at: serial as i64 * 10 }
    }

    #[test]
    fn a_counter_is_good_once_in_any_order() {
        let mut nonces = UsedNonces::new(8);
        for counter in [1, 3, 2, 70, 10, 69] {
            assert!(nonces.take(nonce(1), counter), "{counter}");
        }
        for counter in [1, 2, 3, 70, 10, 69, 6] {
            assert!(!nonces.take(nonce(1), counter), "{counter}");
        }
        assert!(nonces.take(nonce(1), u32::MAX));
        assert!(nonces.take(nonce(2), 1));
    }

    #[test]
    fn memory_is_bounded_and_what_is_forgotten_is_refused() {
        let mut nonces = UsedNonces::new(2);
        for serial in [10, 20, 30] {
            assert!(nonces.take(nonce(serial), 1));
        }
        assert_eq!(nonces.len(), 2);
        assert!(!nonces.take(nonce(10), 2), "the evicted one");
        assert!(!nonces.take(nonce(5), 1), "an older one that may have been evicted");
        assert!(!nonces.take(nonce(15), 1), "older than all that is remembered");
        assert!(nonces.take(nonce(20), 2), "one still known");
    }

    #[test]
    fn expired_nonces_leave_memory_and_stay_refused() {
        let mut nonces = UsedNonces::new(100);
        for serial in 1..=50 {
            nonces.take(nonce(serial), 1);
        }
        nonces.forget_before(400);
        assert_eq!(nonces.len(), 11);
        assert!(!nonces.take(nonce(39), 2));
        assert!(nonces.take(nonce(40), 2));
    }
}
