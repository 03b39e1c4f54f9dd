//! PASSporTs that were used already: each is good for one call (RFC 8224 §12.1).

use std::collections::{HashMap, VecDeque};

/// A signature: `r` and `s`.
type Signature = [u8; 64];
/// What is remembered of one: its `r`, which no two calls share, for ES256 draws a new number for each. Of `s` anybody
/// can make another that verifies as well, by taking it from the order of the curve.
type Mark = [u8; 32];

/// The signatures of as many calls as may come while they are fresh.
#[derive(Debug)]
pub struct ReplayGuard {
    most: usize,
    seen: HashMap<Mark, String>,
    /// In the order they came, with the second each is forgotten.
    order: VecDeque<(i64, Mark)>,
}

impl ReplayGuard {
    /// Remembers up to `most`; then the oldest is forgotten early. Only what verified is remembered, so nobody can
    /// fill it with junk.
    pub fn new(most: usize) -> ReplayGuard {
        ReplayGuard { most, seen: HashMap::new(), order: VecDeque::new() }
    }

    /// Notes a use; false where another call used it before. One call may use it again: its INVITE is repeated with
    /// credentials, or comes by a second way.
    pub fn admit(&mut self, now: i64, keep_until: i64, signature: &Signature, call_id: &str) -> bool {
        self.forget(now);
        let mut mark = Mark::default();
        mark.copy_from_slice(&signature[..32]);
        if let Some(known) = self.seen.get(&mark) {
            return known == call_id;
        }
        if self.order.len() >= self.most
            && let Some((_, oldest)) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        self.seen.insert(mark, call_id.to_owned());
        self.order.push_back((keep_until, mark));
        true
    }

    fn forget(&mut self, now: i64) {
        while let Some((_, mark)) = self.order.pop_front_if(|(until, _)| *until < now) {
            self.seen.remove(&mark);
        }
    }

    pub fn len(&self) -> usize {
        self.seen.len()
    }

    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passport_serves_one_call_as_often_as_that_comes() {
        let mut guard = ReplayGuard::new(10);
        assert!(guard.admit(100, 160, &[1; 64], "a"));
        assert!(guard.admit(101, 160, &[1; 64], "a"), "the same INVITE with credentials");
        assert!(!guard.admit(102, 160, &[1; 64], "b"));
        assert!(guard.admit(103, 160, &[2; 64], "b"));
    }

    #[test]
    fn the_other_s_that_verifies_as_well_makes_no_new_signature() {
        let mut guard = ReplayGuard::new(10);
        let (mut one, mut other) = ([7; 64], [7; 64]);
        (one[63], other[63]) = (1, 2);
        assert!(guard.admit(100, 160, &one, "a"));
        assert!(!guard.admit(100, 160, &other, "b"));
    }

    #[test]
    fn what_can_not_be_used_any_more_is_forgotten_and_the_rest_is_bounded() {
        let mut guard = ReplayGuard::new(3);
        for call in 0..100_u8 {
            assert!(guard.admit(100, 160, &[call; 64], "x"));
            assert!(guard.len() <= 3);
        }
        assert!(guard.admit(161, 221, &[200; 64], "y"));
        assert_eq!(guard.len(), 1);
    }
}
