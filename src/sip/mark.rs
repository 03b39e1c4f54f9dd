//! The mark in tags and branches of ours: a short proof under a key that only this process has, so that one glance
//! tells what is ours from what only looks like it.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Hex digits of a dialog's tag: 64 random bits, then 32 bits of proof. RFC 3261 §19.3 asks for 32 random ones.
const TAG_RANDOM: usize = 16;
const TAG_PROOF: usize = 8;
/// Hex digits of proof at the end of a branch.
const BRANCH_PROOF: usize = 16;
/// Nothing of ours is longer, and nothing longer is worth a hash.
const LONGEST: usize = 96;

/// Makes and knows our marks. A copy knows those of the original: all who make marks and all who look at them have
/// one, and one key lasts as long as the process, since no dialog outlives it.
#[derive(Clone)]
pub struct Marks {
    /// SipHash that has taken the key in already.
    keyed: DefaultHasher,
}

impl Marks {
    /// `key` is random: it keeps our marks from being guessed.
    pub fn new(key: u128) -> Marks {
        let mut keyed = DefaultHasher::new();
        keyed.write_u128(key);
        Marks { keyed }
    }

    /// A tag for a dialog of ours, of random octets.
    pub fn tag(&self, random: [u8; TAG_RANDOM / 2]) -> String {
        let mut tag = format!("{:0TAG_RANDOM$x}", u64::from_be_bytes(random));
        let proof = digits(self.hash(tag.as_bytes()));
        tag.extend(proof.iter().take(TAG_PROOF).map(|digit| char::from(*digit)));
        tag
    }

    /// True for a tag that was made by [`tag`](Self::tag).
    pub fn is_own_tag(&self, tag: &[u8]) -> bool {
        let proven = tag.len() == TAG_RANDOM + TAG_PROOF;
        proven && tag.split_at_checked(TAG_RANDOM).is_some_and(|(random, proof)| self.proves(random, proof))
    }

    /// A branch: what it says, and the proof behind a hyphen.
    pub fn branch(&self, mut says: String) -> String {
        let proof = digits(self.hash(says.as_bytes()));
        says.reserve_exact(1 + BRANCH_PROOF);
        says.push('-');
        says.extend(proof.iter().map(|digit| char::from(*digit)));
        says
    }

    /// What a branch of ours says; `None` for all others.
    pub fn branch_says<'b>(&self, branch: &'b [u8]) -> Option<&'b [u8]> {
        let (head, proof) = branch.split_at_checked(branch.len().checked_sub(BRANCH_PROOF)?)?;
        let says = head.strip_suffix(b"-")?;
        (branch.len() <= LONGEST && self.proves(says, proof)).then_some(says)
    }

    /// Anything at all under the key.
    pub fn hash_of(&self, what: impl Hash) -> u64 {
        let mut hasher = self.keyed.clone();
        what.hash(&mut hasher);
        hasher.finish()
    }

    #[inline]
    fn hash(&self, text: &[u8]) -> u64 {
        let mut hasher = self.keyed.clone();
        hasher.write(text);
        hasher.finish()
    }

    #[inline]
    fn proves(&self, text: &[u8], proof: &[u8]) -> bool {
        digits(self.hash(text)).starts_with(proof)
    }
}

/// Whoever sees the key can make marks, so nobody does.
impl fmt::Debug for Marks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Marks")
    }
}

/// In lower case, the first digit first.
#[inline]
fn digits(number: u64) -> [u8; 16] {
    let mut digits = [0; 16];
    for (at, digit) in digits.iter_mut().enumerate() {
        let nibble = (number >> (60 - 4 * at)) as u8 & 0xf;
        *digit = if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_tag_is_known_by_who_has_the_key_and_by_nobody_else(
            key: u128, other: u128, random: [u8; 8], at in 0..24usize, digit in 0..16u8,
        ) {
            let tag = Marks::new(key).tag(random);
            prop_assert!(tag.len() == 24 && tag.bytes().all(|octet| matches!(octet, b'0'..=b'9' | b'a'..=b'f')));
            prop_assert!(Marks::new(key).is_own_tag(tag.as_bytes()));
            // One in 2^32 would be known all the same.
            prop_assert!(key == other || !Marks::new(other).is_own_tag(tag.as_bytes()));
            let mut forged = tag.clone().into_bytes();
            forged[at] = format!("{digit:x}").as_bytes()[0];
            prop_assert_eq!(Marks::new(key).is_own_tag(&forged), forged == tag.as_bytes());
        }

        #[test]
        fn a_branch_says_what_was_said_and_no_digit_of_it_can_be_changed(
            key: u128, says in "z9hG4bK[a-z0-9]{0,8}-[0-9a-f]{1,16}", at in 0..64usize,
        ) {
            let marks = Marks::new(key);
            let branch = marks.branch(says.clone());
            prop_assert_eq!(marks.branch_says(branch.as_bytes()), Some(says.as_bytes()));
            prop_assert_eq!(Marks::new(!key).branch_says(branch.as_bytes()), None);
            let mut forged = branch.clone().into_bytes();
            let at = at % forged.len();
            forged[at] ^= 1;
            prop_assert_eq!(marks.branch_says(&forged), None);
        }

        #[test]
        fn whatever_is_looked_at_a_look_ends(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let marks = Marks::new(7);
            prop_assert!(!marks.is_own_tag(&bytes) && marks.branch_says(&bytes).is_none());
        }
    }

    #[test]
    fn nothing_longer_than_ours_is_worth_a_hash() {
        let marks = Marks::new(7);
        let long = marks.branch("z".repeat(LONGEST));
        assert_eq!(marks.branch_says(long.as_bytes()), None);
        assert_eq!(format!("{marks:?}"), "Marks");
    }
}
