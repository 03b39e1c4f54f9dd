//! Opus (RFC 6716) behind one face over libopus: decoding and encoding at any of its sample rates, mono.

use super::background::mean_square;
use crate::media::config::OpusSettings;

/// RTP clock of Opus whatever its sample rate (RFC 7587 §4.1).
pub const CLOCK_RATE: u32 = 48_000;
/// Longest packet: 120 ms (RFC 6716 §2.1.4).
pub const MAX_PACKET_MS: usize = 120;
/// Nothing the encoder makes here is longer: 60 ms at the highest bit rate the settings allow.
pub const MAX_ENCODED: usize = 1_276;
/// A packet of this length or less says "nothing to say" and need not be sent (opus_encoder.h, `OPUS_SET_DTX`).
const DTX_LEN: usize = 2;
/// Mean square of a frame above which it is always sent: −48 dBm0. libopus takes any steady sound for background noise,
/// and a ringing or busy tone must not turn into comfort noise.
const DTX_CEILING: i64 = 64 * 64;

/// The highest there is.
pub const MAX_COMPLEXITY: u8 = 10;

/// A frame of a silence may be louder than the first one that was left out by this factor (6 dB): a voice is.
const LOUDER: i64 = 4;
/// Mean square of what no telephone line is quieter than, −66 dBm0.
const FAINTEST: i64 = 64;

/// libopus refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpusError {
    #[error("not an Opus packet")]
    BadPacket,
    #[error("the Opus codec could not be set up")]
    Setup,
    #[error("a frame length Opus does not have")]
    BadFrame,
}

/// A decoder: about 19 KB.
pub struct Decoder(opus::Decoder);

impl Decoder {
    /// `sample_rate`: 8, 12, 16, 24 or 48 kHz; libopus decodes straight to it. Stereo is mixed down.
    pub fn new(sample_rate: u32) -> Result<Decoder, OpusError> {
        opus::Decoder::new(sample_rate, opus::Channels::Mono).map(Decoder).map_err(|_| OpusError::Setup)
    }

    /// Decodes a packet, returns the number of samples.
    #[inline]
    pub fn decode(&mut self, packet: &[u8], pcm: &mut [i16]) -> Result<usize, OpusError> {
        if packet.is_empty() {
            return Err(OpusError::BadPacket);
        }
        self.0.decode(packet, pcm, false).map_err(|_| OpusError::BadPacket)
    }

    /// Fills `pcm` for packets that are lost or were never sent: concealment, then comfort noise. Its length must be
    /// a multiple of 2.5 ms.
    #[inline]
    pub fn conceal(&mut self, pcm: &mut [i16]) -> Result<(), OpusError> {
        self.0.decode(&[], pcm, false).map(|_| ()).map_err(|_| OpusError::BadFrame)
    }

    /// Fills `pcm` for the packets lost just before `next`: the last of them from the redundancy in `next` if it has
    /// any, the others concealed. Decode `next` itself afterwards.
    #[inline]
    pub fn recover(&mut self, next: &[u8], pcm: &mut [i16]) -> Result<(), OpusError> {
        if next.is_empty() {
            return Err(OpusError::BadPacket);
        }
        self.0.decode(next, pcm, true).map(|_| ()).map_err(|_| OpusError::BadPacket)
    }
}

/// An encoder for a voice: about 32 KB at 8 kHz.
pub struct Encoder {
    inner: opus::Encoder,
    settings: OpusSettings,
    /// What it has now: as set, or less where the thread has much to do.
    complexity: u8,
    loss_percent: u8,
    /// Whether libopus may skip frames at present.
    skipping: bool,
    /// Samples between two frames that are sent in a silence.
    refresh: usize,
    silence: Option<Silence>,
}

/// A silence libopus has found: frames that are no louder need not be encoded to be left out.
#[derive(Debug, Clone, Copy)]
struct Silence {
    /// Mean square up to which a frame belongs to it.
    loudest: i64,
    /// Samples since the last frame that was sent.
    passed: usize,
}

/// What encoding a frame gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoded {
    /// So many bytes to send.
    Packet(usize),
    /// Nobody speaks: send nothing, time goes on.
    Silence,
}

impl Encoder {
    /// `sample_rate`: 8, 12, 16, 24 or 48 kHz, which is also the rate of what [`encode`](Self::encode) takes.
    pub fn new(sample_rate: u32, settings: OpusSettings) -> Result<Encoder, OpusError> {
        let inner = opus::Encoder::new(sample_rate, opus::Channels::Mono, opus::Application::Voip)
            .map_err(|_| OpusError::Setup)?;
        let complexity = settings.complexity;
        let mut encoder = Encoder {
            inner,
            settings,
            complexity,
            loss_percent: 0,
            skipping: false,
            // As libopus does it: 400 ms.
            refresh: sample_rate as usize * 2 / 5,
            silence: None,
        };
        encoder.apply().map_err(|_| OpusError::Setup)?;
        Ok(encoder)
    }

    /// Changes the settings from the next frame on.
    pub fn configure(&mut self, settings: OpusSettings) -> Result<(), OpusError> {
        if settings == self.settings {
            return Ok(());
        }
        self.settings = settings;
        self.apply().map_err(|_| OpusError::Setup)
    }

    fn apply(&mut self) -> Result<(), opus::Error> {
        let OpusSettings { bitrate, complexity, fec, cbr, most_bitrate: _, dtx: _, max_ptime_ms: _ } =
            self.settings;
        // The range libopus has for one channel.
        self.inner.set_bitrate(opus::Bitrate::Bits(bitrate.clamp(6_000, 510_000) as i32))?;
        self.inner.set_complexity(i32::from(complexity.min(MAX_COMPLEXITY)))?;
        self.complexity = complexity;
        self.inner.set_vbr(!cbr)?;
        self.inner.set_inband_fec(fec)?;
        self.inner.set_dtx(false)?;
        self.skipping = false;
        // The input is a telephone call: telling so spares the search for music.
        self.inner.set_signal(opus::Signal::Voice)
    }

    /// Spends no more than `most` from the next frame on, whatever the settings allow; libopus changes over without a
    /// sound.
    #[inline]
    pub fn limit_complexity(&mut self, most: u8) {
        let wanted = self.settings.complexity.min(most);
        if wanted != self.complexity && self.inner.set_complexity(i32::from(wanted)).is_ok() {
            self.complexity = wanted;
        }
    }

    /// Tells how much the far side loses; redundancy is added only for loss above zero.
    pub fn set_expected_loss(&mut self, percent: u8) {
        if percent != self.loss_percent
            && self.inner.set_packet_loss_perc(i32::from(percent.min(100))).is_ok()
        {
            self.loss_percent = percent;
        }
    }

    /// Encodes one frame of 2.5, 5, 10, 20, 40 or 60 ms.
    #[inline]
    pub fn encode(&mut self, pcm: &[i16], packet: &mut [u8]) -> Result<Encoded, OpusError> {
        let level = mean_square(pcm);
        let quiet = self.settings.dtx && level < DTX_CEILING;
        match &mut self.silence {
            Some(silence) if quiet && level <= silence.loudest => {
                silence.passed += pcm.len();
                return if silence.passed < self.refresh {
                    Ok(Encoded::Silence)
                } else {
                    self.tell_silence(pcm, packet)
                };
            }
            Some(_) | None => self.silence = None,
        }
        if quiet != self.skipping && self.inner.set_dtx(quiet).is_ok() {
            self.skipping = quiet;
        }
        let len = self.inner.encode(pcm, packet).map_err(|_| OpusError::BadFrame)?;
        if len > DTX_LEN {
            return Ok(Encoded::Packet(len));
        }
        self.silence = Some(Silence { loudest: (level * LOUDER).max(FAINTEST), passed: pcm.len() });
        Ok(Encoded::Silence)
    }

    /// Sends a frame of a silence, so that the listener's comfort noise follows it.
    fn tell_silence(&mut self, pcm: &[i16], packet: &mut [u8]) -> Result<Encoded, OpusError> {
        if let Some(silence) = &mut self.silence {
            silence.passed = 0;
        }
        if self.skipping && self.inner.set_dtx(false).is_ok() {
            self.skipping = false;
        }
        let len = self.inner.encode(pcm, packet).map_err(|_| OpusError::BadFrame)?;
        Ok(if len > DTX_LEN { Encoded::Packet(len) } else { Encoded::Silence })
    }
}

/// Duration of a packet in samples at `sample_rate`; `None` if it is not an Opus packet.
#[inline]
pub fn packet_samples(packet: &[u8], sample_rate: u32) -> Option<usize> {
    if packet.is_empty() {
        return None;
    }
    let samples = opus::packet::get_nb_samples(packet, sample_rate).ok()?;
    (samples > 0 && samples * 1000 <= MAX_PACKET_MS * sample_rate as usize).then_some(samples)
}

/// Duration of one frame of a packet in samples at `sample_rate`: its redundancy holds one. Zero for what is no packet.
#[inline]
pub fn frame_samples(packet: &[u8], sample_rate: u32) -> usize {
    opus::packet::get_samples_per_frame(packet, sample_rate).unwrap_or(0)
}

/// True if the packet carries redundancy for the one before it (the LBRR flag, RFC 6716 §4.2.4).
#[inline]
pub fn has_redundancy(packet: &[u8]) -> bool {
    let Some(toc) = packet.first() else { return false };
    let config = toc >> 3;
    // Only SILK and hybrid frames have it.
    if config >= 16 {
        return false;
    }
    let Some(first) = first_frame(packet).and_then(|at| packet.get(at)) else { return false };
    // SILK packs 20 ms sub-frames: one bit of voice activity each comes first.
    let subframes = match config {
        0..=11 => [1, 1, 2, 3][usize::from(config & 3)],
        _ => 1,
    };
    first & (0x80 >> subframes) != 0
}

/// Where the first frame of a packet begins, behind what says how the frames are packed (RFC 6716 §3.2).
fn first_frame(packet: &[u8]) -> Option<usize> {
    // A length takes one byte, or two from 252 on (§3.2.1).
    let length = |at: usize| packet.get(at).map(|byte| if *byte < 252 { 1 } else { 2 });
    match packet.first()? & 0x03 {
        0 | 1 => Some(1),
        2 => Some(1 + length(1)?),
        _ => {
            let count = *packet.get(1)?;
            let mut at = 2;
            if count & 0x40 != 0 {
                while *packet.get(at)? == 255 {
                    at += 1;
                }
                at += 1;
            }
            if count & 0x80 != 0 {
                for _ in 1..count & 0x3f {
                    at += length(at)?;
                }
            }
            Some(at)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::codec::speech::speech;

    fn encode(encoder: &mut Encoder, pcm: &[i16]) -> Option<Vec<u8>> {
        let mut packet = [0; MAX_ENCODED];
        match encoder.encode(pcm, &mut packet).unwrap() {
            Encoded::Packet(len) => Some(packet[..len].to_vec()),
            Encoded::Silence => None,
        }
    }

    #[test]
    fn constant_bit_rate_makes_packets_of_one_size() {
        let sizes = |cbr| {
            let settings = OpusSettings { dtx: false, cbr, ..OpusSettings::default() };
            let mut encoder = Encoder::new(8_000, settings).unwrap();
            let mut sizes: Vec<usize> = (0..100)
                .map(|n| match encoder.encode(&speech(n * 160, 160), &mut [0; MAX_ENCODED]).unwrap() {
                    Encoded::Packet(len) => len,
                    Encoded::Silence => unreachable!("without DTX every frame is sent"),
                })
                .collect();
            sizes.sort_unstable();
            sizes.dedup();
            sizes.len()
        };
        assert_eq!(sizes(true), 1);
        assert!(sizes(false) > 10, "{} sizes", sizes(false));
    }

    #[test]
    fn a_voice_goes_through_at_8_khz() {
        let settings = OpusSettings { dtx: false, ..OpusSettings::default() };
        let mut encoder = Encoder::new(8_000, settings).unwrap();
        let mut decoder = Decoder::new(8_000).unwrap();
        let (mut sent, mut got) = (Vec::<i16>::new(), Vec::<i16>::new());
        for frame in 0..50 {
            let pcm = speech(frame * 160, 160);
            let packet = encode(&mut encoder, &pcm).expect("speech is sent");
            assert_eq!(packet_samples(&packet, 8_000), Some(160));
            assert_eq!(packet_samples(&packet, CLOCK_RATE), Some(960));
            let mut out = [0; 960];
            assert_eq!(decoder.decode(&packet, &mut out).unwrap(), 160);
            sent.extend(pcm);
            got.extend(&out[..160]);
        }
        // The best match lies at the encoder's look-ahead, 6.5 ms.
        let correlation = |lag: usize| -> f64 {
            let pairs = sent[3200..6400].iter().zip(&got[3200 + lag..]);
            pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        let best = (0..150).max_by(|a, b| correlation(*a).total_cmp(&correlation(*b))).unwrap();
        assert!((48..=56).contains(&best), "best match after {best} samples");
    }

    #[test]
    fn silence_is_not_sent_with_dtx_and_is_without() {
        for (dtx, expected) in [(true, true), (false, false)] {
            let settings = OpusSettings { dtx, ..OpusSettings::default() };
            let mut encoder = Encoder::new(8_000, settings).unwrap();
            let silent = (0..100).filter(|_| encode(&mut encoder, &[0; 160]).is_none()).count();
            assert_eq!(silent > 50, expected, "dtx {dtx}: {silent} of 100 frames were not sent");
        }
    }

    #[test]
    fn a_steady_tone_is_sent_even_with_dtx() {
        let mut encoder = Encoder::new(8_000, OpusSettings::default()).unwrap();
        for frame in 0..100usize {
            let tone = |n: usize| ((n as f32 * 425.0 / 8000.0 * std::f32::consts::TAU).sin() * 4000.0) as i16;
            let pcm: Vec<i16> = (frame * 160..frame * 160 + 160).map(tone).collect();
            assert!(encode(&mut encoder, &pcm).is_some(), "frame {frame}");
        }
    }

    #[test]
    fn the_wire_carries_the_bit_rate_that_is_set() {
        for bitrate in [12_000u32, 18_000, 24_000] {
            let settings = OpusSettings { bitrate, dtx: false, ..OpusSettings::default() };
            let mut encoder = Encoder::new(8_000, settings).unwrap();
            let bytes: usize = (0..500)
                .filter_map(|frame| encode(&mut encoder, &speech(frame * 160, 160)))
                .map(|packet| packet.len())
                .sum();
            let got = bytes as u32 * 8 / 10;
            // The syllables' pauses cost less.
            assert!((bitrate * 6 / 10..bitrate * 13 / 10).contains(&got), "{got} bit/s for {bitrate}");
        }
    }

    #[test]
    fn a_higher_complexity_comes_nearer_to_what_was_said() {
        let error = |complexity| {
            let settings =
                OpusSettings { complexity, bitrate: 12_000, dtx: false, ..OpusSettings::default() };
            let mut encoder = Encoder::new(8_000, settings).unwrap();
            let mut decoder = Decoder::new(8_000).unwrap();
            let (said, mut heard) = (speech(0, 80_000), Vec::<i16>::new());
            for pcm in said.chunks(160) {
                let mut out = [0; 960];
                let samples = decoder.decode(&encode(&mut encoder, pcm).unwrap(), &mut out).unwrap();
                heard.extend(&out[..samples]);
            }
            // Behind the encoder's look-ahead of 6.5 ms.
            let pairs = said.iter().zip(&heard[52..]);
            pairs.map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>()
        };
        assert!(error(10) < error(0), "{} at 10, {} at 0", error(10), error(0));
    }

    #[test]
    fn redundancy_is_seen_behind_every_way_to_pack_frames() {
        let mut encoder =
            Encoder::new(8_000, OpusSettings { dtx: false, ..OpusSettings::default() }).unwrap();
        encoder.set_expected_loss(15);
        let packets: Vec<_> =
            (0..60).filter_map(|frame| encode(&mut encoder, &speech(frame * 160, 160))).collect();
        for packet in &packets[20..] {
            let (toc, frame) = (packet[0], &packet[1..]);
            let expected = has_redundancy(packet);
            let two = [&[toc | 1][..], frame, frame].concat();
            let unequal = [&[toc | 2, frame.len() as u8][..], frame, frame].concat();
            let counted = [&[toc | 3, 2][..], frame, frame].concat();
            let padded = [&[toc | 3, 0x40 | 1, 3][..], frame, &[0; 3]].concat();
            let varied = [&[toc | 3, 0x80 | 2, frame.len() as u8][..], frame, frame].concat();
            for (way, packed) in [two, unequal, counted, padded, varied].iter().enumerate() {
                if frame.len() < 252 {
                    assert!(packet_samples(packed, 8_000).is_some(), "way {way} is one");
                    assert_eq!(has_redundancy(packed), expected, "way {way}");
                }
            }
        }
        for junk in [&[0x03][..], &[0x03, 0x42], &[0x02], &[0x02, 0xff], &[0x03, 0xc2, 0xff]] {
            assert!(!has_redundancy(junk));
        }
    }

    #[test]
    fn redundancy_comes_with_reported_loss_and_recovers_a_packet() {
        let mut encoder = Encoder::new(8_000, OpusSettings::default()).unwrap();
        let packets: Vec<_> =
            (0..20).filter_map(|frame| encode(&mut encoder, &speech(frame * 160, 160))).collect();
        assert!(!packets.iter().any(|packet| has_redundancy(packet)), "no loss, no redundancy");

        encoder.set_expected_loss(10);
        let packets: Vec<_> =
            (20..60).filter_map(|frame| encode(&mut encoder, &speech(frame * 160, 160))).collect();
        assert!(packets.iter().filter(|packet| has_redundancy(packet)).count() > 20);

        let mut decoder = Decoder::new(8_000).unwrap();
        let mut pcm = [0; 160];
        for packet in &packets[..20] {
            decoder.decode(packet, &mut pcm).unwrap();
        }
        decoder.recover(&packets[21], &mut pcm).unwrap();
        let energy = pcm.iter().map(|s| i64::from(*s).pow(2)).sum::<i64>() / 160;
        assert!(energy > 1_000_000, "recovered a voice, not a hole: {energy}");
    }

    #[test]
    fn complexity_is_limited_at_once_and_comes_back() {
        let mut encoder = Encoder::new(8_000, OpusSettings::default()).unwrap();
        for (most, complexity) in [(MAX_COMPLEXITY, 5), (1, 1), (0, 0), (MAX_COMPLEXITY, 5)] {
            encoder.limit_complexity(most);
            assert!(encode(&mut encoder, &speech(0, 160)).is_some());
            assert_eq!(encoder.complexity, complexity);
        }
    }

    #[test]
    fn in_a_silence_one_frame_in_twenty_is_sent_and_speech_from_its_first_frame_on() {
        let mut encoder = Encoder::new(8_000, OpusSettings::default()).unwrap();
        let room = |frame: usize| -> Vec<i16> {
            (0..160).map(|n| ((frame * 160 + n).wrapping_mul(2_654_435_761) >> 7 & 15) as i16 - 8).collect()
        };
        (0..50).for_each(|frame| drop(encode(&mut encoder, &speech(frame * 160, 160))));
        let sent: Vec<usize> =
            (0..150).filter(|frame| encode(&mut encoder, &room(*frame)).is_some()).collect();
        let later: Vec<usize> = sent.into_iter().filter(|frame| *frame >= 30).collect();
        assert!((5..=7).contains(&later.len()), "{later:?}");
        assert!(later.windows(2).all(|pair| pair[1] - pair[0] == 20), "{later:?}");

        let mut decoder = Decoder::new(8_000).unwrap();
        let mut heard = Vec::new();
        for frame in 0..10 {
            let packet = encode(&mut encoder, &speech((50 + frame) * 160, 160)).expect("speech is sent");
            let mut pcm = [0; 160];
            decoder.decode(&packet, &mut pcm).unwrap();
            heard.extend(pcm);
        }
        let level = |pcm: &[i16]| mean_square(pcm) as f64;
        let ratio = level(&heard[..800]) / level(&speech(50 * 160, 800));
        assert!((0.4..2.5).contains(&ratio), "speech is heard at {ratio} of its level");
    }

    #[test]
    fn junk_is_refused_and_changes_nothing() {
        let mut decoder = Decoder::new(8_000).unwrap();
        let mut pcm = [0; 960];
        assert_eq!(decoder.decode(&[], &mut pcm), Err(OpusError::BadPacket));
        // Code 3 with a frame count of zero (RFC 6716 §3.2.5).
        assert_eq!(decoder.decode(&[0x03, 0x00], &mut pcm), Err(OpusError::BadPacket));
        assert_eq!(packet_samples(&[0x03, 0x00], 8_000), None);
        assert_eq!(packet_samples(&[], 8_000), None);
    }

    #[test]
    fn concealment_takes_any_multiple_of_two_and_a_half_milliseconds() {
        let mut decoder = Decoder::new(8_000).unwrap();
        for samples in [20, 80, 160, 960] {
            assert_eq!(decoder.conceal(&mut vec![0; samples]), Ok(()));
        }
        assert_eq!(decoder.conceal(&mut [0; 15]), Err(OpusError::BadFrame));
    }
}
