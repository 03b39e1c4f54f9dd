//! `a=crypto` lines: SRTP keys inside the session description (RFC 4568).

use crate::types::SrtpSuite;

const SUITES: [SrtpSuite; 4] = [
    SrtpSuite::AesCm128HmacSha1_80,
    SrtpSuite::AesCm128HmacSha1_32,
    SrtpSuite::AeadAes128Gcm,
    SrtpSuite::AeadAes256Gcm,
];

/// One usable `a=crypto` line.
#[derive(Clone, PartialEq, Eq)]
pub struct Crypto {
    /// Chosen by the offerer, repeated by the answerer (RFC 4568 §4.1).
    pub tag: u32,
    pub suite: SrtpSuite,
    /// Master key followed by master salt.
    pub key: Vec<u8>,
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
    #[error("several keys or a master key identifier")]
    KeyIdentifier,
    #[error("a session parameter that changes the protection")]
    SessionParameter,
}

impl Crypto {
    /// Reads the value of an `a=crypto` attribute. Refuses what we could not honour: a master key identifier, several
    /// keys, session parameters other than `WSH` (RFC 4568 §6.3: an unknown one makes the line unusable, a `-` in
    /// front makes it optional).
    pub fn parse(value: &str) -> Result<Crypto, CryptoError> {
        let mut words = value.split_ascii_whitespace();
        let tag = words.next().ok_or(CryptoError::Malformed)?;
        if tag.len() > 9 || !tag.bytes().all(|b| b.is_ascii_digit()) {
            return Err(CryptoError::Malformed);
        }
        let tag = tag.parse().map_err(|_| CryptoError::Malformed)?;
        let name = words.next().ok_or(CryptoError::Malformed)?;
        let suite = SUITES
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
        // What has a colon is `MKI:length`, what has none a lifetime: a call ends long before 2^31 packets.
        if fields.any(|field| field.contains(':')) {
            return Err(CryptoError::KeyIdentifier);
        }
        if !words.all(|word| word.starts_with('-') || word.to_ascii_uppercase().starts_with("WSH=")) {
            return Err(CryptoError::SessionParameter);
        }
        Ok(Crypto { tag, suite, key })
    }

    /// The value of the `a=crypto` attribute.
    pub fn to_value(&self) -> String {
        format!("{} {} inline:{}", self.tag, self.suite.as_str(), base64_encode(&self.key))
    }
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
            (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^20|1:4"), KeyIdentifier),
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
