//! `a=crypto` lines: SRTP keys inside the session description (RFC 4568).

use crate::types::SrtpSuite;

/// Octets of a master key identifier; nobody numbers more keys than this.
const LONGEST_MKI: u32 = 8;
/// A master key protects at most 2^48 packets (RFC 3711 §9.2).
const LONGEST_LIFETIME: u32 = 48;

/// One usable `a=crypto` line.
#[derive(Clone, PartialEq, Eq)]
pub struct Crypto {
    /// Chosen by the offerer, repeated by the answerer (RFC 4568 §4.1).
    pub tag: u32,
    pub suite: SrtpSuite,
    /// Master key followed by master salt.
    pub key: Vec<u8>,
    /// The identifier of the key, which then stands in each packet that is protected with it; empty: none.
    pub mki: Vec<u8>,
}

/// Keys never reach a log.
impl std::fmt::Debug for Crypto {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Crypto({} {})", self.tag, self.suite.as_str())
    }
}

/// Why an `a=crypto` line can't be used; the next line is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CryptoError {
    #[error("not of the form TAG SUITE inline:KEY")]
    Malformed,
    #[error("unknown crypto suite")]
    UnknownSuite,
    #[error("the key is not as long as its suite wants")]
    KeyLength,
    #[error("several keys, or a master key identifier that is none")]
    KeyIdentifier,
    #[error("a lifetime that is none")]
    Lifetime,
    #[error("a session parameter that changes the protection")]
    SessionParameter,
}

impl Crypto {
    /// Reads the value of an `a=crypto` attribute. Refuses what we could not honour: several keys, session parameters other than `WSH` (RFC 4568 §6.3: an unknown one makes the line unusable, a `-` in
    /// front makes it optional).
    pub fn parse(value: &str) -> Result<Crypto, CryptoError> {
        let mut words = value.split_ascii_whitespace();
        let tag = words.next().ok_or(CryptoError::Malformed)?;
        if tag.len() > 9 || !tag.bytes().all(|b| b.is_ascii_digit()) {
            return Err(CryptoError::Malformed);
        }
        let tag = tag.parse().map_err(|_| CryptoError::Malformed)?;
        let name = words.next().ok_or(CryptoError::Malformed)?;
        let suite = SrtpSuite::ALL
            .into_iter()
            .find(|suite| suite.as_str().eq_ignore_ascii_case(name))
            .ok_or(CryptoError::UnknownSuite)?;
        let parameters = words.next().ok_or(CryptoError::Malformed)?;
        if parameters.contains(';') {
            return Err(CryptoError::KeyIdentifier);
        }
        let (method, rest) = parameters.split_once(':').ok_or(CryptoError::Malformed)?;
        if !method.eq_ignore_ascii_case("inline") {
            return Err(CryptoError::Malformed);
        }
        let mut fields = rest.split('|');
        let key = base64_decode(fields.next().unwrap_or_default()).ok_or(CryptoError::Malformed)?;
        let (key_len, salt_len) = suite.key_and_salt_len();
        if key.len() != key_len + salt_len {
            return Err(CryptoError::KeyLength);
        }
        // RFC 4568 §6.1: a lifetime, then `MKI:length`, each where it is wanted. Whoever protects with the key keeps
        // to its lifetime and brings a new one in a new offer.
        let mut next = fields.next();
        if let Some(lifetime) = next.filter(|field| !field.contains(':')) {
            if !is_lifetime(lifetime) {
                return Err(CryptoError::Lifetime);
            }
            next = fields.next();
        }
        let mki = next.map_or(Some(Vec::new()), mki).ok_or(CryptoError::KeyIdentifier)?;
        if fields.next().is_some() {
            return Err(CryptoError::Malformed);
        }
        if !words.all(|word| word.starts_with('-') || word.to_ascii_uppercase().starts_with("WSH=")) {
            return Err(CryptoError::SessionParameter);
        }
        Ok(Crypto { tag, suite, key, mki })
    }

    /// The value of the `a=crypto` attribute.
    pub fn to_value(&self) -> String {
        let value = self.mki.iter().fold(0u64, |value, octet| value << 8 | u64::from(*octet));
        let mki = if self.mki.is_empty() { String::new() } else { format!("|{value}:{}", self.mki.len()) };
        format!("{} {} inline:{}{mki}", self.tag, self.suite.as_str(), base64_encode(&self.key))
    }
}

/// `2^20` or `1048576` packets.
fn is_lifetime(text: &str) -> bool {
    let number = |text: &str| text.parse::<u64>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
    match text.strip_prefix("2^") {
        Some(power) => number(power).is_some_and(|power| power <= LONGEST_LIFETIME.into()),
        None => number(text).is_some_and(|count| (1..=1 << LONGEST_LIFETIME).contains(&count)),
    }
}

/// `1:4`: a value and the number of octets it is written in.
fn mki(text: &str) -> Option<Vec<u8>> {
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let (value, length) = text.split_once(':').filter(|(value, length)| digits(value) && digits(length))?;
    let (value, length): (u64, u32) = (value.parse().ok()?, length.parse().ok()?);
    let fits = (1..=LONGEST_MKI).contains(&length) && value.checked_shr(length * 8).unwrap_or(0) == 0;
    fits.then(|| value.to_be_bytes()[8 - length as usize..].to_vec())
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64_encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().enumerate().fold(0u32, |word, (i, byte)| word | u32::from(*byte) << (16 - 8 * i));
        for i in 0..4 {
            if i <= chunk.len() {
                text.push(char::from(ALPHABET[(word >> (18 - 6 * i) & 63) as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

/// Padding may be missing, as some phones leave it out.
fn base64_decode(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    if text.len() % 4 == 1 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    for chunk in text.as_bytes().chunks(4) {
        let mut word = 0u32;
        for (i, byte) in chunk.iter().enumerate() {
            let digit = ALPHABET.iter().position(|candidate| candidate == byte)?;
            word |= (digit as u32) << (18 - 6 * i);
        }
        bytes.extend_from_slice(&word.to_be_bytes()[1..chunk.len()]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";

    #[test]
    fn lines_of_real_phones_are_read() {
        // RFC 4568 §9.1's own key, as Linphone, Cisco, Snom and Chrome's old stack would write it.
        for line in [
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^31"),
            format!("2 AES_CM_128_HMAC_SHA1_32 inline:{KEY}|1048576"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} WSH=128"),
            format!("1 AES_CM_128_HMAC_SHA1_80 INLINE:{KEY}|2^20 -FEC_ORDER=FEC_SRTP"),
        ] {
            let crypto = Crypto::parse(&line).unwrap_or_else(|e| panic!("{line}: {e}"));
            assert_eq!(crypto.key.len(), 30);
            assert_eq!(&crypto.key[..4], b"YS__");
        }
    }

    #[test]
    fn lines_we_could_not_honour_are_refused() {
        use CryptoError::*;
        for (line, why) in [
            (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^20|256:1"), KeyIdentifier),
            (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|1:9"), KeyIdentifier),
            (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|1:0"), KeyIdentifier),
            (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|-1:4"), KeyIdentifier),
            (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^20|2^20"), KeyIdentifier),
            (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^20|1:4|x"), Malformed),
            (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^49"), Lifetime),
            (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|0"), Lifetime),
            (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|soon"), Lifetime),
            (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|"), Lifetime),
            (format!("1 AES_256_CM_HMAC_SHA1_80 inline:{KEY}"), KeyLength),
            (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY};inline:{KEY}"), KeyIdentifier),
            (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} UNENCRYPTED_SRTP"), SessionParameter),
            (format!("1 F8_128_HMAC_SHA1_80 inline:{KEY}"), UnknownSuite),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:WVNf".into(), KeyLength),
            (format!("1 AEAD_AES_256_GCM inline:{KEY}"), KeyLength),
            (format!("x AES_CM_128_HMAC_SHA1_80 inline:{KEY}"), Malformed),
            (format!("1234567890 AES_CM_128_HMAC_SHA1_80 inline:{KEY}"), Malformed),
            (format!("1 AES_CM_128_HMAC_SHA1_80 uri:{KEY}"), Malformed),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:W!Nf".into(), Malformed),
            ("1 AES_CM_128_HMAC_SHA1_80".into(), Malformed),
            (String::new(), Malformed),
        ] {
            assert_eq!(Crypto::parse(&line).unwrap_err(), why, "{line}");
        }
    }

    #[test]
    fn a_key_identifier_is_read_and_written_in_its_octets() {
        for (text, octets) in [("1:1", vec![1]), ("1:4", vec![0, 0, 0, 1]), ("65535:2", vec![255, 255])] {
            for lifetime in ["", "|2^31", "|1048576"] {
                let line = format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}{lifetime}|{text}");
                let crypto = Crypto::parse(&line).unwrap();
                assert_eq!(crypto.mki, octets, "{line}");
                assert_eq!(crypto.to_value(), format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|{text}"));
            }
        }
        let widest = format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|{}:8", u64::MAX);
        assert_eq!(Crypto::parse(&widest).unwrap().mki, [255; 8]);
    }

    #[test]
    fn every_suite_is_named_as_its_rfc_names_it() {
        for suite in SrtpSuite::ALL {
            let (key, salt) = suite.key_and_salt_len();
            let crypto = Crypto { tag: 3, suite, key: vec![7; key + salt], mki: Vec::new() };
            assert_eq!(Crypto::parse(&crypto.to_value()), Ok(crypto));
        }
        let names = SrtpSuite::ALL.map(SrtpSuite::as_str);
        assert_eq!(names[2..4], ["AES_256_CM_HMAC_SHA1_80", "AES_256_CM_HMAC_SHA1_32"], "RFC 6188 §4.2");
    }

    #[test]
    fn a_key_is_never_printed() {
        let crypto = Crypto::parse(&format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}")).unwrap();
        assert_eq!(format!("{crypto:?}"), "Crypto(1 AES_CM_128_HMAC_SHA1_80)");
    }

    proptest! {
        #[test]
        fn every_key_survives_the_way_through_text(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(base64_decode(&base64_encode(&bytes)), Some(bytes));
        }

        #[test]
        fn no_line_makes_the_reader_panic(line in "\\PC{0,80}") {
            let _ = Crypto::parse(&line);
        }
    }
}
