//! How loud a packet of voice is, as far as telling a dead line from a living one needs it.

use super::codec::g711::Law;

/// What a packet of voice holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Level {
    /// Nobody looked.
    #[default]
    Unknown,
    /// The sender says itself that it pauses (DTX, comfort noise).
    Pause,
    /// A constant, or what an idle converter gives: no microphone ever made this.
    Dead,
    /// The noise of a living room.
    Quiet,
    /// Somebody speaks.
    Talk,
}

/// Peaks up to here (of 32,768) are an idle channel: one step of G.711 to either side.
const IDLE_PEAK: u16 = 24;
/// The same as comfort noise states it, in dB below the loudest: its peaks are about 10 dB above its mean.
const IDLE_DBOV: u8 = 73;
/// Peaks from here, −36 dBm0 and up, are speech or a tone; room noise stays below.
const TALK_PEAK: u16 = 512;
/// An Opus packet of one or two bytes is a pause (RFC 7587 §3.1.3).
const OPUS_PAUSE: usize = 2;
/// What libopus makes of digital silence stays this short, whatever the bit rate.
const OPUS_DEAD: usize = 3;

/// True for an Opus packet whose sender says that it pauses.
#[inline]
pub fn is_pause(payload: &[u8]) -> bool {
    (1..=OPUS_PAUSE).contains(&payload.len())
}

impl Level {
    /// Of decoded samples.
    #[inline]
    pub fn of_samples(pcm: &[i16]) -> Level {
        let Some(first) = pcm.first() else { return Level::Unknown };
        let peak = pcm.iter().fold(0, |peak, sample| sample.unsigned_abs().max(peak));
        if peak >= TALK_PEAK && pcm.iter().any(|sample| sample != first) {
            Level::Talk
        } else if peak <= IDLE_PEAK || pcm.iter().all(|sample| sample == first) {
            Level::Dead
        } else {
            Level::Quiet
        }
    }

    /// Of G.711, without expanding it.
    #[inline]
    pub fn of_g711(law: Law, payload: &[u8]) -> Level {
        let Some(first) = payload.first() else { return Level::Unknown };
        // The code of a larger magnitude is a larger number once the bits that G.711 inverts are put right.
        let turn = match law {
            Law::A => 0xd5,
            Law::Mu => 0xff,
        };
        let peak = payload.iter().fold(0, |peak, code| ((code ^ turn) & 0x7f).max(peak));
        let constant = payload.iter().all(|code| code == first);
        let loudness = law.expand(peak ^ turn).unsigned_abs();
        if constant || loudness <= IDLE_PEAK {
            Level::Dead
        } else if loudness >= TALK_PEAK {
            Level::Talk
        } else {
            Level::Quiet
        }
    }

    /// Of a silence as its sender describes it (RFC 3389 §3): a level in −dBov, and perhaps more.
    pub fn of_description(payload: &[u8]) -> Level {
        match payload.first() {
            None => Level::Unknown,
            Some(level) if level & 0x7f < IDLE_DBOV => Level::Quiet,
            Some(_) => Level::Dead,
        }
    }

    /// Of Opus that nobody decoded: its length alone tells a pause and nothing from the rest, which may be speech.
    #[inline]
    pub fn of_opus(payload: &[u8]) -> Level {
        match payload.len() {
            0 => Level::Unknown,
            1..=OPUS_PAUSE => Level::Pause,
            OPUS_DEAD => Level::Dead,
            _ => Level::Talk,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::codec::speech::speech;

    fn coded(law: Law, pcm: &[i16]) -> Vec<u8> {
        pcm.iter().map(|sample| law.compress(*sample)).collect()
    }

    #[test]
    fn both_laws_and_plain_samples_are_judged_alike() {
        let room: Vec<i16> = (0..160).map(|n| [40, -60, 90, -30, 10][n % 5]).collect();
        let hum: Vec<i16> = (0..160).map(|n| if n % 2 == 0 { 8 } else { -8 }).collect();
        let loud: Vec<i16> = (0..160).map(|n| if n % 16 < 8 { 9_000 } else { -9_000 }).collect();
        let table = [
            ("digital silence", vec![0; 160], Level::Dead),
            ("an idle converter", hum, Level::Dead),
            ("a constant, however high", vec![8_031; 160], Level::Dead),
            ("room noise", room, Level::Quiet),
            ("a tone", loud, Level::Talk),
        ];
        for (name, pcm, level) in table {
            assert_eq!(Level::of_samples(&pcm), level, "{name}");
            for law in [Law::A, Law::Mu] {
                assert_eq!(Level::of_g711(law, &coded(law, &pcm)), level, "{name} as {law:?}");
            }
        }
    }

    #[test]
    fn speech_talks() {
        let pcm = speech(8_000, 8_000);
        let talking = pcm.chunks(160).filter(|frame| Level::of_samples(frame) == Level::Talk).count();
        assert!(talking > 25, "{talking} of 50 frames");
    }

    #[test]
    fn opus_tells_its_pauses_by_their_length() {
        assert_eq!(Level::of_opus(&[0x08]), Level::Pause);
        assert_eq!(Level::of_opus(&[0xf8, 0xff, 0xfe]), Level::Dead);
        assert_eq!(Level::of_opus(&[0x08; 40]), Level::Talk);
    }

    #[test]
    fn a_described_room_lives_and_a_described_nothing_does_not() {
        assert_eq!(Level::of_description(&[50]), Level::Quiet);
        assert_eq!(Level::of_description(&[60, 120, 90]), Level::Quiet);
        assert_eq!(Level::of_description(&[127]), Level::Dead);
    }

    #[test]
    fn an_empty_packet_says_nothing() {
        assert_eq!(Level::of_description(&[]), Level::Unknown);
        assert_eq!(Level::of_samples(&[]), Level::Unknown);
        assert_eq!(Level::of_g711(Law::A, &[]), Level::Unknown);
        assert_eq!(Level::of_opus(&[]), Level::Unknown);
    }
}
