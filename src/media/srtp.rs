//! SRTP and SRTCP (RFC 3711, RFC 6188, RFC 7714) in place, over the ciphers of rtc-srtp.
//!
//! The packet framing is ours because rtc-srtp's contexts copy every packet into a new buffer, keep state for any
//! source a stranger claims, and take SRTCP without the encryption bit unchecked; a test holds both against each
//! other.

use super::rtp;
use crate::types::{SrtpKeys, SrtpSuite};
use rtc_srtp::crypto::{
    AeadAlgorithm, AeadCipher, BlockCipherAlgorithm, HmacAlgorithm, Mac, RTCCrypto, StreamCipher,
    StreamCipherAlgorithm, constant_time_eq, default_provider,
};

/// The most a packet grows: a 16-byte tag, four bytes of index on RTCP, and a key identifier.
pub const MAX_TRAILER: usize = 20 + MAX_MKI;
const MAX_MKI: usize = 8;
const RTCP_HEADER_LEN: usize = 8;
const RTCP_INDEX_LEN: usize = 4;
const ENCRYPTED: u32 = 1 << 31;
const GCM_TAG_LEN: usize = 16;
/// SRTCP's tag is 80 bits in both HMAC suites (RFC 4568 §6.2).
const HMAC_RTCP_TAG_LEN: usize = 10;
/// Sources whose place is remembered per leg; the least recently heard makes room. A source is only entered once its
/// first packet was proven.
const MAX_SOURCES: usize = 8;

/// Why a packet is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SrtpError {
    #[error("key and salt, or the key's identifier, have the wrong length for the suite")]
    KeyLength,
    #[error("the cipher is not available")]
    Unavailable,
    #[error("too short or malformed")]
    Malformed,
    #[error("the authentication tag is wrong")]
    BadTag,
    #[error("seen before or too old")]
    Replayed,
    #[error("no room for the authentication tag")]
    NoRoom,
    #[error("the key has protected all the packets it may")]
    KeyExhausted,
}

/// Protects what we send on one leg.
pub struct Outgoing {
    keys: SessionKeys,
    /// The source, and which packet indices (rollover counter and sequence number) were used.
    rtp: Option<(u32, Window)>,
    rtcp_index: u32,
    mki: Mki,
}

/// Checks and opens what we receive on one leg.
pub struct Incoming {
    keys: SessionKeys,
    rtp: Sources,
    /// Where the sources were under the key before this one.
    before: Sources,
    rtcp: Sources,
    mki: Mki,
}

/// The identifier that stands in each packet of a key (RFC 3711 §3.1): before the tag of HMAC, behind all that GCM
/// writes (RFC 7714 §9, §10). It is protected by neither.
#[derive(Default)]
struct Mki {
    octets: [u8; MAX_MKI],
    len: usize,
}

/// Both directions of a leg.
pub fn session(keys: &SrtpKeys) -> Result<(Outgoing, Incoming), SrtpError> {
    let mut outgoing = Outgoing::new(keys.suite, &keys.local)?;
    let mut incoming = Incoming::new(keys.suite, &keys.remote)?;
    outgoing.identify(&keys.local_mki)?;
    incoming.identify(&keys.remote_mki)?;
    Ok((outgoing, incoming))
}

impl Outgoing {
    /// `key_and_salt` is the master key followed by the master salt. Never make a second one of the same key while the
    /// stream goes on: its rollover counter starts at zero, and what was protected would be protected alike again.
    pub fn new(suite: SrtpSuite, key_and_salt: &[u8]) -> Result<Outgoing, SrtpError> {
        let keys = SessionKeys::new(suite, key_and_salt)?;
        Ok(Outgoing { keys, rtp: None, rtcp_index: 0, mki: Mki::default() })
    }

    /// Writes this identifier into each packet from now on; none where it is empty.
    pub fn identify(&mut self, mki: &[u8]) -> Result<(), SrtpError> {
        self.mki = Mki::new(mki)?;
        Ok(())
    }

    /// Protects the RTP packet in the first `len` bytes of `buffer` in place, returns its new length. Sequence numbers
    /// may step back by less than 64 (a relayed packet that came late). No number is used twice, whoever chose it: two
    /// packets under one key stream give each other away (RFC 3711 §9.1, RFC 7714 §8.4).
    pub fn protect_rtp(&mut self, buffer: &mut [u8], len: usize) -> Result<usize, SrtpError> {
        let header_len = rtp::header_len(&buffer[..len]).ok_or(SrtpError::Malformed)?;
        let (sequence, ssrc) = sequence_and_ssrc(buffer);
        let known = self.rtp.filter(|(same, _)| *same == ssrc).map(|(_, used)| used);
        let index = match &known {
            Some(used) => packet_index(used.highest, sequence).ok_or(SrtpError::Replayed)?,
            None => u64::from(sequence),
        };
        if index >> 48 != 0 {
            return Err(SrtpError::KeyExhausted);
        }
        if known.is_some_and(|used| used.has(index)) {
            return Err(SrtpError::Replayed);
        }
        let len = self.keys.seal_rtp(buffer, header_len, len, ssrc, index)?;
        let mut used = known.unwrap_or(Window::new(index));
        used.note(index);
        self.rtp = Some((ssrc, used));
        self.mki.insert(buffer, len, self.keys.rtp_mki_behind())
    }

    /// Protects the RTCP packet in the first `len` bytes of `buffer` in place, returns its new length.
    pub fn protect_rtcp(&mut self, buffer: &mut [u8], len: usize) -> Result<usize, SrtpError> {
        if len < RTCP_HEADER_LEN {
            return Err(SrtpError::Malformed);
        }
        if self.rtcp_index >= ENCRYPTED - 1 {
            return Err(SrtpError::KeyExhausted);
        }
        let ssrc = be32(&buffer[4..]);
        self.rtcp_index += 1;
        let len = self.keys.seal_rtcp(buffer, len, ssrc, self.rtcp_index)?;
        self.mki.insert(buffer, len, self.keys.rtcp_mki_behind())
    }
}

impl Incoming {
    /// `key_and_salt` is the master key followed by the master salt.
    pub fn new(suite: SrtpSuite, key_and_salt: &[u8]) -> Result<Incoming, SrtpError> {
        let keys = SessionKeys::new(suite, key_and_salt)?;
        let (rtp, before, rtcp) = (Sources::default(), Sources::default(), Sources::default());
        Ok(Incoming { keys, rtp, before, rtcp, mki: Mki::default() })
    }

    /// This key comes after that of `former` in the same session.
    pub fn follow(&mut self, former: &Incoming) {
        // A source that was not heard under the former key either may still go on from the one before.
        self.before = if former.rtp.is_empty() { former.before } else { former.rtp };
    }

    /// Takes only packets with this identifier from now on; with none where it is empty.
    pub fn identify(&mut self, mki: &[u8]) -> Result<(), SrtpError> {
        self.mki = Mki::new(mki)?;
        Ok(())
    }

    /// Checks and opens an RTP packet in place, returns its length without the tag. Nothing is learnt from a packet
    /// whose tag is wrong.
    pub fn unprotect_rtp(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        let len = self.mki.remove(packet, self.keys.rtp_mki_behind())?;
        let packet = &mut packet[..len];
        let header_len = rtp::header_len(packet).ok_or(SrtpError::Malformed)?;
        let (sequence, ssrc) = sequence_and_ssrc(packet);
        let index = match self.rtp.highest(ssrc) {
            Some(highest) => packet_index(highest, sequence).ok_or(SrtpError::Replayed)?,
            None => match self.before.highest(ssrc).and_then(|highest| packet_index(highest, sequence)) {
                Some(index) if index != u64::from(sequence) => {
                    return self.open_after_rekey(packet, header_len, ssrc, index);
                }
                Some(_) | None => u64::from(sequence),
            },
        };
        if self.rtp.was_seen(ssrc, index) {
            return Err(SrtpError::Replayed);
        }
        let len = self.keys.open_rtp(packet, header_len, ssrc, index)?;
        self.rtp.note(ssrc, index);
        Ok(len)
    }

    /// The first packet that a source sends under a new key. Its rollover counter goes on (RFC 3711 §3.3.1), or begins at
    /// zero, as where the address changes with the key (RFC 4568 §7.1.4) and at peers that always do so: the tag tells.
    #[cold]
    fn open_after_rekey(
        &mut self,
        packet: &mut [u8],
        header_len: usize,
        ssrc: u32,
        index: u64,
    ) -> Result<usize, SrtpError> {
        // A cipher may leave anything where it opens nothing.
        let mut kept = [0; rtp::MAX_PACKET + MAX_TRAILER];
        let kept = kept.get_mut(..packet.len()).ok_or(SrtpError::Malformed)?;
        kept.copy_from_slice(packet);
        let from_zero = index & 0xffff;
        let (len, index) = match self.keys.open_rtp(packet, header_len, ssrc, index) {
            Ok(len) => (len, index),
            Err(_) => {
                packet.copy_from_slice(kept);
                (self.keys.open_rtp(packet, header_len, ssrc, from_zero)?, from_zero)
            }
        };
        self.rtp.note(ssrc, index);
        Ok(len)
    }

    /// Checks and opens an RTCP packet in place, returns its length without index and tag.
    pub fn unprotect_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        let len = self.mki.remove(packet, self.keys.rtcp_mki_behind())?;
        let packet = &mut packet[..len];
        let trailer = RTCP_INDEX_LEN + self.keys.rtcp_tag_len();
        if packet.len() < RTCP_HEADER_LEN + trailer || packet[0] >> 6 != 2 {
            return Err(SrtpError::Malformed);
        }
        let ssrc = be32(&packet[4..]);
        let word = be32(&packet[self.keys.rtcp_index_at(packet.len())..]);
        // Every suite offered encrypts SRTCP; what claims not to be encrypted was not sent by the far side.
        if word & ENCRYPTED == 0 {
            return Err(SrtpError::BadTag);
        }
        let index = u64::from(word & !ENCRYPTED);
        if self.rtcp.was_seen(ssrc, index) {
            return Err(SrtpError::Replayed);
        }
        let len = self.keys.open_rtcp(packet, ssrc, word & !ENCRYPTED)?;
        self.rtcp.note(ssrc, index);
        Ok(len)
    }
}

impl Mki {
    fn new(octets: &[u8]) -> Result<Mki, SrtpError> {
        let mut mki = Mki { octets: [0; MAX_MKI], len: octets.len() };
        mki.octets.get_mut(..octets.len()).ok_or(SrtpError::KeyLength)?.copy_from_slice(octets);
        Ok(mki)
    }

    /// Puts it into a protected packet, before its last `behind` octets.
    fn insert(&self, buffer: &mut [u8], len: usize, behind: usize) -> Result<usize, SrtpError> {
        if self.len == 0 {
            return Ok(len);
        }
        let (at, end) = (len - behind, len + self.len);
        if buffer.len() < end {
            return Err(SrtpError::NoRoom);
        }
        buffer.copy_within(at..len, at + self.len);
        buffer[at..at + self.len].copy_from_slice(&self.octets[..self.len]);
        Ok(end)
    }

    /// Takes it out of a packet that came; the length without it.
    fn remove(&self, packet: &mut [u8], behind: usize) -> Result<usize, SrtpError> {
        if self.len == 0 {
            return Ok(packet.len());
        }
        let len = packet.len().checked_sub(self.len).ok_or(SrtpError::Malformed)?;
        let at = len.checked_sub(behind).ok_or(SrtpError::Malformed)?;
        if packet[at..at + self.len] != self.octets[..self.len] {
            return Err(SrtpError::BadTag);
        }
        packet.copy_within(at + self.len.., at);
        Ok(len)
    }
}

/// The packet index a sequence number stands for, nearest to the highest known (RFC 3711 §3.3.1, appendix A).
/// `None` for one before the very first.
fn packet_index(highest: u64, sequence: u16) -> Option<u64> {
    let ahead = rtp::sequence_distance(highest as u16, sequence);
    highest.checked_add_signed(i64::from(ahead))
}

/// Which of the last 64 packet indices of a source were used (RFC 3711 §3.3.2); older ones count as used.
#[derive(Clone, Copy)]
struct Window {
    highest: u64,
    used: u64,
}

impl Window {
    fn new(index: u64) -> Window {
        Window { highest: index, used: 1 }
    }

    fn has(&self, index: u64) -> bool {
        match self.highest.checked_sub(index) {
            None => false,
            Some(behind) if behind < 64 => self.used >> behind & 1 == 1,
            Some(_) => true,
        }
    }

    fn note(&mut self, index: u64) {
        if index > self.highest {
            let ahead = index - self.highest;
            self.used = if ahead < 64 { self.used << ahead | 1 } else { 1 };
            self.highest = index;
        } else if self.highest - index < 64 {
            self.used |= 1 << (self.highest - index);
        }
    }
}

/// The replay list of a few sources (RFC 3711 §3.3.2), a window of 64 packets each.
#[derive(Default, Clone, Copy)]
struct Sources {
    entries: [Option<Seen>; MAX_SOURCES],
    clock: u32,
}

#[derive(Clone, Copy)]
struct Seen {
    ssrc: u32,
    window: Window,
    heard: u32,
}

impl Sources {
    fn is_empty(&self) -> bool {
        self.entries.iter().all(Option::is_none)
    }

    fn find(&self, ssrc: u32) -> Option<&Seen> {
        self.entries.iter().flatten().find(|seen| seen.ssrc == ssrc)
    }

    fn highest(&self, ssrc: u32) -> Option<u64> {
        self.find(ssrc).map(|seen| seen.window.highest)
    }

    fn was_seen(&self, ssrc: u32, index: u64) -> bool {
        self.find(ssrc).is_some_and(|seen| seen.window.has(index))
    }

    fn note(&mut self, ssrc: u32, index: u64) {
        self.clock = self.clock.wrapping_add(1);
        let heard = self.clock;
        if let Some(seen) = self.entries.iter_mut().flatten().find(|seen| seen.ssrc == ssrc) {
            seen.heard = heard;
            seen.window.note(index);
            return;
        }
        // An empty place, else the one not heard for longest.
        let age = |entry: &Option<Seen>| entry.map_or(u32::MAX, |seen| heard.wrapping_sub(seen.heard));
        if let Some(place) = self.entries.iter_mut().max_by_key(|entry| age(entry)) {
            *place = Some(Seen { ssrc, window: Window::new(index), heard });
        }
    }
}

/// Keys derived from one master key (RFC 3711 §4.3, key derivation rate 0).
enum SessionKeys {
    Counter { rtp: CounterKeys, rtcp: CounterKeys, rtp_tag_len: usize },
    Gcm { rtp: GcmKeys, rtcp: GcmKeys },
}

/// AES in counter mode with HMAC-SHA1 (RFC 3711 §4.1.1, §4.2.1).
struct CounterKeys {
    cipher: Box<dyn StreamCipher>,
    mac: Box<dyn Mac>,
    salt: [u8; 14],
}

/// AES in Galois counter mode (RFC 7714).
struct GcmKeys {
    cipher: Box<dyn AeadCipher>,
    salt: [u8; 12],
}

/// Labels of the key derivation (RFC 3711 §4.3.1, §4.3.2).
#[derive(Clone, Copy)]
struct Labels {
    encryption: u8,
    authentication: u8,
    salt: u8,
}

const RTP_LABELS: Labels = Labels { encryption: 0, authentication: 1, salt: 2 };
const RTCP_LABELS: Labels = Labels { encryption: 3, authentication: 4, salt: 5 };

impl SessionKeys {
    fn new(suite: SrtpSuite, key_and_salt: &[u8]) -> Result<SessionKeys, SrtpError> {
        let (key_len, salt_len) = suite.key_and_salt_len();
        if key_and_salt.len() != key_len + salt_len {
            return Err(SrtpError::KeyLength);
        }
        let (key, salt) = key_and_salt.split_at(key_len);
        let provider = default_provider().map_err(|_| SrtpError::Unavailable)?;
        let master = Master { crypto: provider.crypto(), key, salt };
        Ok(match suite {
            SrtpSuite::AesCm128HmacSha1_80 => SessionKeys::Counter {
                rtp: master.counter_keys(RTP_LABELS)?,
                rtcp: master.counter_keys(RTCP_LABELS)?,
                rtp_tag_len: 10,
            },
            SrtpSuite::AesCm128HmacSha1_32 => SessionKeys::Counter {
                rtp: master.counter_keys(RTP_LABELS)?,
                rtcp: master.counter_keys(RTCP_LABELS)?,
                rtp_tag_len: 4,
            },
            SrtpSuite::AesCm256HmacSha1_80 => SessionKeys::Counter {
                rtp: master.counter_keys(RTP_LABELS)?,
                rtcp: master.counter_keys(RTCP_LABELS)?,
                rtp_tag_len: 10,
            },
            SrtpSuite::AesCm256HmacSha1_32 => SessionKeys::Counter {
                rtp: master.counter_keys(RTP_LABELS)?,
                rtcp: master.counter_keys(RTCP_LABELS)?,
                rtp_tag_len: 4,
            },
            SrtpSuite::AeadAes128Gcm => SessionKeys::Gcm {
                rtp: master.gcm_keys(RTP_LABELS, AeadAlgorithm::Aes128Gcm)?,
                rtcp: master.gcm_keys(RTCP_LABELS, AeadAlgorithm::Aes128Gcm)?,
            },
            SrtpSuite::AeadAes256Gcm => SessionKeys::Gcm {
                rtp: master.gcm_keys(RTP_LABELS, AeadAlgorithm::Aes256Gcm)?,
                rtcp: master.gcm_keys(RTCP_LABELS, AeadAlgorithm::Aes256Gcm)?,
            },
        })
    }

    /// What stands behind a key identifier in RTP and in RTCP.
    fn rtp_mki_behind(&self) -> usize {
        match self {
            SessionKeys::Counter { rtp_tag_len, .. } => *rtp_tag_len,
            SessionKeys::Gcm { .. } => 0,
        }
    }

    fn rtcp_mki_behind(&self) -> usize {
        match self {
            SessionKeys::Counter { .. } => HMAC_RTCP_TAG_LEN,
            SessionKeys::Gcm { .. } => 0,
        }
    }

    fn rtcp_tag_len(&self) -> usize {
        match self {
            SessionKeys::Counter { .. } => HMAC_RTCP_TAG_LEN,
            SessionKeys::Gcm { .. } => GCM_TAG_LEN,
        }
    }

    /// The index stands before the HMAC tag (RFC 3711 §3.4), but behind the GCM tag (RFC 7714 §9.2).
    fn rtcp_index_at(&self, len: usize) -> usize {
        match self {
            SessionKeys::Counter { .. } => len - HMAC_RTCP_TAG_LEN - RTCP_INDEX_LEN,
            SessionKeys::Gcm { .. } => len - RTCP_INDEX_LEN,
        }
    }

    fn seal_rtp(
        &mut self,
        buffer: &mut [u8],
        header_len: usize,
        len: usize,
        ssrc: u32,
        index: u64,
    ) -> Result<usize, SrtpError> {
        match self {
            SessionKeys::Counter { rtp, rtp_tag_len, .. } => {
                let tag_at = len..len + *rtp_tag_len;
                if buffer.len() < tag_at.end {
                    return Err(SrtpError::NoRoom);
                }
                rtp.apply(ssrc, index, &mut buffer[header_len..len])?;
                let rollovers = ((index >> 16) as u32).to_be_bytes();
                let tag = rtp.tag(&[&buffer[..len], &rollovers])?;
                buffer[tag_at.clone()].copy_from_slice(&tag[..*rtp_tag_len]);
                Ok(tag_at.end)
            }
            SessionKeys::Gcm { rtp, .. } => {
                let end = len + GCM_TAG_LEN;
                if buffer.len() < end {
                    return Err(SrtpError::NoRoom);
                }
                let (header, rest) = buffer[..end].split_at_mut(header_len);
                let (text, tag) = rest.split_at_mut(len - header_len);
                let nonce = rtp.nonce(ssrc, index);
                rtp.cipher.seal_in_place(&nonce, header, text, tag).map_err(|_| SrtpError::Unavailable)?;
                Ok(end)
            }
        }
    }

    fn open_rtp(
        &mut self,
        packet: &mut [u8],
        header_len: usize,
        ssrc: u32,
        index: u64,
    ) -> Result<usize, SrtpError> {
        match self {
            SessionKeys::Counter { rtp, rtp_tag_len, .. } => {
                let len = packet.len().checked_sub(*rtp_tag_len).ok_or(SrtpError::Malformed)?;
                if len < header_len {
                    return Err(SrtpError::Malformed);
                }
                let rollovers = ((index >> 16) as u32).to_be_bytes();
                let tag = rtp.tag(&[&packet[..len], &rollovers])?;
                if !constant_time_eq(&tag[..*rtp_tag_len], &packet[len..]) {
                    return Err(SrtpError::BadTag);
                }
                rtp.apply(ssrc, index, &mut packet[header_len..len])?;
                Ok(len)
            }
            SessionKeys::Gcm { rtp, .. } => {
                let len = packet.len().checked_sub(GCM_TAG_LEN).ok_or(SrtpError::Malformed)?;
                if len < header_len {
                    return Err(SrtpError::Malformed);
                }
                let (header, rest) = packet.split_at_mut(header_len);
                let (text, tag) = rest.split_at_mut(len - header_len);
                let nonce = rtp.nonce(ssrc, index);
                rtp.cipher.open_in_place(&nonce, header, text, tag).map_err(|_| SrtpError::BadTag)?;
                Ok(len)
            }
        }
    }

    fn seal_rtcp(
        &mut self,
        buffer: &mut [u8],
        len: usize,
        ssrc: u32,
        index: u32,
    ) -> Result<usize, SrtpError> {
        let end = len + RTCP_INDEX_LEN + self.rtcp_tag_len();
        if buffer.len() < end {
            return Err(SrtpError::NoRoom);
        }
        let word = (index | ENCRYPTED).to_be_bytes();
        match self {
            SessionKeys::Counter { rtcp, .. } => {
                rtcp.apply(ssrc, u64::from(index), &mut buffer[RTCP_HEADER_LEN..len])?;
                buffer[len..len + RTCP_INDEX_LEN].copy_from_slice(&word);
                let tag = rtcp.tag(&[&buffer[..len + RTCP_INDEX_LEN]])?;
                buffer[len + RTCP_INDEX_LEN..end].copy_from_slice(&tag[..HMAC_RTCP_TAG_LEN]);
            }
            SessionKeys::Gcm { rtcp, .. } => {
                let aad = gcm_rtcp_aad(buffer, word);
                let (text, rest) = buffer[RTCP_HEADER_LEN..end].split_at_mut(len - RTCP_HEADER_LEN);
                let (tag, trailer) = rest.split_at_mut(GCM_TAG_LEN);
                let nonce = rtcp.nonce(ssrc, u64::from(index));
                rtcp.cipher.seal_in_place(&nonce, &aad, text, tag).map_err(|_| SrtpError::Unavailable)?;
                trailer.copy_from_slice(&word);
            }
        }
        Ok(end)
    }

    fn open_rtcp(&mut self, packet: &mut [u8], ssrc: u32, index: u32) -> Result<usize, SrtpError> {
        let len = packet.len() - RTCP_INDEX_LEN - self.rtcp_tag_len();
        match self {
            SessionKeys::Counter { rtcp, .. } => {
                let tag_at = len + RTCP_INDEX_LEN;
                let tag = rtcp.tag(&[&packet[..tag_at]])?;
                if !constant_time_eq(&tag[..HMAC_RTCP_TAG_LEN], &packet[tag_at..]) {
                    return Err(SrtpError::BadTag);
                }
                rtcp.apply(ssrc, u64::from(index), &mut packet[RTCP_HEADER_LEN..len])?;
            }
            SessionKeys::Gcm { rtcp, .. } => {
                let aad = gcm_rtcp_aad(packet, (index | ENCRYPTED).to_be_bytes());
                let (text, rest) = packet[RTCP_HEADER_LEN..].split_at_mut(len - RTCP_HEADER_LEN);
                let nonce = rtcp.nonce(ssrc, u64::from(index));
                rtcp.cipher
                    .open_in_place(&nonce, &aad, text, &rest[..GCM_TAG_LEN])
                    .map_err(|_| SrtpError::BadTag)?;
            }
        }
        Ok(len)
    }
}

/// The associated data of an encrypted SRTCP packet: header, source and index (RFC 7714 §9.2).
fn gcm_rtcp_aad(packet: &[u8], word: [u8; 4]) -> [u8; 12] {
    let mut aad = [0; 12];
    aad[..RTCP_HEADER_LEN].copy_from_slice(&packet[..RTCP_HEADER_LEN]);
    aad[RTCP_HEADER_LEN..].copy_from_slice(&word);
    aad
}

impl CounterKeys {
    /// RFC 3711 §4.1.1: IV = salt · 2^16 ⊕ SSRC · 2^64 ⊕ index · 2^16.
    fn apply(&mut self, ssrc: u32, index: u64, data: &mut [u8]) -> Result<(), SrtpError> {
        let mut iv = [0; 16];
        iv[..14].copy_from_slice(&self.salt);
        xor(&mut iv[4..8], &ssrc.to_be_bytes());
        xor(&mut iv[8..14], &index.to_be_bytes()[2..]);
        self.cipher.apply_keystream(&iv, data).map_err(|_| SrtpError::Unavailable)
    }

    fn tag(&mut self, parts: &[&[u8]]) -> Result<[u8; 20], SrtpError> {
        let mut tag = [0; 20];
        self.mac.sign(parts, &mut tag).map_err(|_| SrtpError::Unavailable)?;
        Ok(tag)
    }
}

impl GcmKeys {
    /// RFC 7714 §8.1 and §9.1: two zero octets, SSRC, 48 bits of index, all ⊕ salt.
    fn nonce(&self, ssrc: u32, index: u64) -> [u8; 12] {
        let mut nonce = self.salt;
        xor(&mut nonce[2..6], &ssrc.to_be_bytes());
        xor(&mut nonce[6..12], &index.to_be_bytes()[2..]);
        nonce
    }
}

fn xor(target: &mut [u8], with: &[u8]) {
    target.iter_mut().zip(with).for_each(|(a, b)| *a ^= b);
}

struct Master<'a> {
    crypto: &'a dyn RTCCrypto,
    key: &'a [u8],
    salt: &'a [u8],
}

impl Master<'_> {
    fn counter_keys(&self, labels: Labels) -> Result<CounterKeys, SrtpError> {
        let authentication: [u8; 20] = self.derive(labels.authentication)?;
        let cipher = if self.key.len() == 32 {
            let encryption: [u8; 32] = self.derive(labels.encryption)?;
            self.crypto.new_stream_cipher(StreamCipherAlgorithm::Aes256Ctr, &encryption)
        } else {
            let encryption: [u8; 16] = self.derive(labels.encryption)?;
            self.crypto.new_stream_cipher(StreamCipherAlgorithm::Aes128Ctr, &encryption)
        };
        let mac = self.crypto.new_hmac(HmacAlgorithm::Sha1, &authentication);
        Ok(CounterKeys {
            cipher: cipher.map_err(|_| SrtpError::Unavailable)?,
            mac: mac.map_err(|_| SrtpError::Unavailable)?,
            salt: self.derive(labels.salt)?,
        })
    }

    fn gcm_keys(&self, labels: Labels, algorithm: AeadAlgorithm) -> Result<GcmKeys, SrtpError> {
        let cipher = if self.key.len() == 32 {
            self.crypto.new_aead(algorithm, &self.derive::<32>(labels.encryption)?)
        } else {
            self.crypto.new_aead(algorithm, &self.derive::<16>(labels.encryption)?)
        };
        Ok(GcmKeys { cipher: cipher.map_err(|_| SrtpError::Unavailable)?, salt: self.derive(labels.salt)? })
    }

    /// RFC 3711 §4.3.1 and §4.3.3: AES in counter mode over salt ⊕ label, with a key as long as the master key
    /// (RFC 6188 §3 for 256 bits). A 96-bit salt is padded with zeros on its right (RFC 7714 §11).
    fn derive<const N: usize>(&self, label: u8) -> Result<[u8; N], SrtpError> {
        let algorithm = match self.key.len() {
            32 => BlockCipherAlgorithm::Aes256,
            _ => BlockCipherAlgorithm::Aes128,
        };
        let mut out = [0; N];
        for (counter, chunk) in out.chunks_mut(16).enumerate() {
            let mut block = [0; 16];
            block[..self.salt.len()].copy_from_slice(self.salt);
            block[7] ^= label;
            block[15] = counter as u8;
            self.crypto.block_encrypt(algorithm, self.key, &mut block).map_err(|_| SrtpError::Unavailable)?;
            chunk.copy_from_slice(&block[..chunk.len()]);
        }
        Ok(out)
    }
}

fn sequence_and_ssrc(packet: &[u8]) -> (u16, u32) {
    (u16::from_be_bytes([packet[2], packet[3]]), be32(&packet[8..]))
}

fn be32(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

#[cfg(test)]
mod tests;
