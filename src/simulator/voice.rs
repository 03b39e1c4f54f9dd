//! What a side says, as coded frames, and what it heard, as samples: the simulator's own use of the codecs.

use super::wav::{Wav, resample};
use crate::media::OpusSettings;
use crate::media::codec::g711::Law;
use crate::media::codec::opus::{Decoder, Encoded, Encoder, MAX_ENCODED, OpusError};
use crate::types::AudioCodec;
use std::sync::Arc;

/// Rate at which Opus is encoded and decoded here: wide band, more than any telephone needs.
const OPUS_RATE: u32 = 16_000;

/// Samples per second that a codec is fed with and gives back.
pub fn sample_rate(codec: AudioCodec) -> u32 {
    match codec {
        AudioCodec::Opus => OPUS_RATE,
        AudioCodec::Pcma | AudioCodec::Pcmu => 8_000,
    }
}

/// What to say during a call.
#[derive(Debug, Clone)]
pub enum Speech {
    /// Silence, but packets.
    Quiet,
    /// Once, after a pause in milliseconds, then silence.
    Once { wav: Arc<Wav>, after_ms: u32 },
    /// Over and over, without a pause.
    Loop(Arc<Wav>),
    /// Coded before, shared by many calls: for load.
    Frames(Arc<Frames>),
}

/// Speech coded ahead of time, repeated without end.
#[derive(Debug)]
pub struct Frames {
    codec: AudioCodec,
    ptime_ms: u8,
    frames: Vec<Vec<u8>>,
}

impl Frames {
    /// Codes a whole recording.
    pub fn encode(
        wav: &Wav,
        codec: AudioCodec,
        ptime_ms: u8,
        opus: OpusSettings,
    ) -> Result<Frames, OpusError> {
        let speech = Speech::Once { wav: Arc::new(wav.clone()), after_ms: 0 };
        // Without DTX every frame has bytes, so that frames and time are the same.
        let mut speaker = Speaker::new(codec, ptime_ms, OpusSettings { dtx: false, ..opus }, speech)?;
        let count = (wav.seconds() * 1000.0 / f32::from(ptime_ms.max(1))) as usize;
        let mut frame = [0; MAX_ENCODED];
        let mut frames = Vec::with_capacity(count);
        for _ in 0..count.max(1) {
            let len = speaker.next(&mut frame)?.unwrap_or(0);
            frames.push(frame[..len].to_vec());
        }
        Ok(Frames { codec, ptime_ms, frames })
    }
}

impl Frames {
    /// What the far end of a perfect wire hears of one round, when the frames went round before.
    pub fn sound(&self) -> Wav {
        let mut recorder = Recorder::default();
        let step = self.codec.clock_rate() / 1000 * u32::from(self.ptime_ms);
        let rounds = self.frames.iter().chain(&self.frames);
        for (n, frame) in rounds.enumerate() {
            let ms = n as i64 * i64::from(self.ptime_ms);
            recorder.push(self.codec, 0, (n as u32).wrapping_mul(step), ms, frame);
        }
        let mut heard = recorder.finish();
        heard.samples.drain(..heard.samples.len() / 2);
        heard
    }
}

/// Gives one coded frame after the other.
pub struct Speaker {
    codec: AudioCodec,
    source: Source,
    pcm: Vec<i16>,
}

enum Source {
    Live { encoder: Option<Encoder>, samples: Vec<i16>, at: usize, repeat: bool },
    Frames { frames: Arc<Frames>, at: usize },
}

impl Speaker {
    /// Frames of `ptime_ms` in `codec`. Speech coded ahead for another codec or length is not used: silence is sent.
    pub fn new(
        codec: AudioCodec,
        ptime_ms: u8,
        opus: OpusSettings,
        speech: Speech,
    ) -> Result<Speaker, OpusError> {
        let rate = sample_rate(codec);
        let encoder = || match codec {
            AudioCodec::Opus => Encoder::new(rate, opus).map(Some),
            AudioCodec::Pcma | AudioCodec::Pcmu => Ok(None),
        };
        let source = match speech {
            Speech::Frames(frames) if frames.codec == codec && frames.ptime_ms == ptime_ms => {
                Source::Frames { frames, at: 0 }
            }
            Speech::Quiet | Speech::Frames(_) => {
                Source::Live { encoder: encoder()?, samples: Vec::new(), at: 0, repeat: false }
            }
            Speech::Once { wav, after_ms } => {
                let mut samples = vec![0; (after_ms * rate / 1000) as usize];
                samples.extend(resample(&wav.samples, wav.rate, rate));
                Source::Live { encoder: encoder()?, samples, at: 0, repeat: false }
            }
            Speech::Loop(wav) => {
                let samples = resample(&wav.samples, wav.rate, rate);
                Source::Live { encoder: encoder()?, samples, at: 0, repeat: true }
            }
        };
        let pcm = vec![0; rate as usize / 1000 * usize::from(ptime_ms)];
        Ok(Speaker { codec, source, pcm })
    }

    /// Writes the next frame, returns its length; `None` if there is nothing to send for it (DTX).
    pub fn next(&mut self, out: &mut [u8]) -> Result<Option<usize>, OpusError> {
        match &mut self.source {
            Source::Frames { frames, at } => {
                let frame = &frames.frames[*at];
                *at = (*at + 1) % frames.frames.len();
                out[..frame.len()].copy_from_slice(frame);
                Ok(Some(frame.len()).filter(|len| *len > 0))
            }
            Source::Live { encoder, samples, at, repeat } => {
                for sample in &mut self.pcm {
                    if *repeat && *at >= samples.len() {
                        *at = 0;
                    }
                    *sample = samples.get(*at).copied().unwrap_or(0);
                    *at += 1;
                }
                match encoder {
                    Some(encoder) => Ok(match encoder.encode(&self.pcm, out)? {
                        Encoded::Packet(len) => Some(len),
                        Encoded::Silence => None,
                    }),
                    None => Ok(Some(law(self.codec).compress_into(&self.pcm, out))),
                }
            }
        }
    }

    /// True once everything there is to say has been said.
    pub fn is_done(&self) -> bool {
        match &self.source {
            Source::Live { samples, at, repeat, .. } => !repeat && *at >= samples.len(),
            Source::Frames { .. } => false,
        }
    }
}

fn law(codec: AudioCodec) -> Law {
    match codec {
        AudioCodec::Pcma | AudioCodec::Opus => Law::A,
        AudioCodec::Pcmu => Law::Mu,
    }
}

/// One received packet, kept to be decoded when the call is over.
#[derive(Debug, Clone)]
struct Kept {
    /// On the stream's clock, without wraps.
    at: i64,
    payload: Vec<u8>,
}

/// Packets of one codec and source, in one timeline.
#[derive(Debug, Clone)]
struct Segment {
    codec: AudioCodec,
    ssrc: u32,
    /// Milliseconds after the recorder's start at which its first packet came.
    begins_ms: i64,
    last: i64,
    packets: Vec<Kept>,
}

/// Keeps what was received and decodes it in order afterwards: reordering does no harm, and it costs nothing while
/// the call runs.
#[derive(Debug, Default)]
pub struct Recorder {
    segments: Vec<Segment>,
}

/// A pause longer than this that the timestamps claim is a clock set anew, not silence.
const LONGEST_GAP_SECONDS: i64 = 60;
/// Lost packets are concealed up to here; more becomes silence, as on a telephone.
const CONCEALED_MS: i64 = 100;

impl Recorder {
    /// Keeps one packet that came `ms` after the recorder's start.
    pub fn push(&mut self, codec: AudioCodec, ssrc: u32, timestamp: u32, ms: i64, payload: &[u8]) {
        let clock = i64::from(codec.clock_rate());
        let current = self.segments.last_mut().filter(|s| s.codec == codec && s.ssrc == ssrc);
        if let Some(segment) = current {
            let step = i64::from(timestamp.wrapping_sub(segment.last as u32) as i32);
            if step.abs() < LONGEST_GAP_SECONDS * clock {
                let at = segment.last + step;
                segment.last = segment.last.max(at);
                segment.packets.push(Kept { at, payload: payload.to_vec() });
                return;
            }
        }
        let at = i64::from(timestamp);
        let packets = vec![Kept { at, payload: payload.to_vec() }];
        self.segments.push(Segment { codec, ssrc, begins_ms: ms, last: at, packets });
    }

    /// Decodes everything onto one timeline that begins with the recorder.
    pub fn finish(self) -> Wav {
        let rate = self.segments.iter().map(|s| sample_rate(s.codec)).max().unwrap_or(8_000);
        let mut samples: Vec<i16> = Vec::new();
        for segment in self.segments {
            let begins = (segment.begins_ms.max(0) * i64::from(rate) / 1000) as usize;
            let decoded = segment.decode();
            let from = decoded.rate;
            let decoded = resample(&decoded.samples, from, rate);
            // A segment that overlaps the one before begins where that ends.
            samples.resize(samples.len().max(begins), 0);
            samples.extend(decoded);
        }
        Wav { rate, samples }
    }
}

impl Segment {
    fn decode(mut self) -> Wav {
        let rate = sample_rate(self.codec);
        // Clock units to samples: Opus counts at 48 kHz whatever its rate.
        let samples_at = |units: i64| units * i64::from(rate) / i64::from(self.codec.clock_rate());
        self.packets.sort_by_key(|packet| packet.at);
        self.packets.dedup_by_key(|packet| packet.at);
        let first = self.packets.first().map_or(0, |packet| packet.at);
        let mut decoder = match self.codec {
            AudioCodec::Opus => Decoder::new(rate).ok(),
            AudioCodec::Pcma | AudioCodec::Pcmu => None,
        };
        let mut samples: Vec<i16> = Vec::new();
        let mut frame = vec![0i16; rate as usize / 1000 * 120];
        for packet in &self.packets {
            let position = samples_at(packet.at - first);
            let gap = position - samples.len() as i64;
            if gap > 0 {
                fill(&mut samples, gap as usize, decoder.as_mut(), rate);
            }
            let len = match decoder.as_mut() {
                Some(decoder) => decoder.decode(&packet.payload, &mut frame).unwrap_or(0),
                None => law(self.codec).expand_into(&packet.payload, &mut frame),
            };
            // What overlaps (a repeated or damaged timestamp) is cut to keep time true.
            let skip = usize::try_from(-gap).unwrap_or(0).min(len);
            samples.extend_from_slice(&frame[skip..len]);
        }
        Wav { rate, samples }
    }
}

/// Fills a hole: concealed by the codec where it is short and the codec can, else silent.
fn fill(samples: &mut Vec<i16>, gap: usize, decoder: Option<&mut Decoder>, rate: u32) {
    let start = samples.len();
    samples.resize(start + gap, 0);
    let unit = rate as usize / 400;
    let whole = gap / unit * unit;
    if gap as i64 * 1000 <= CONCEALED_MS * i64::from(rate)
        && whole > 0
        && let Some(decoder) = decoder
    {
        // A refusal leaves the silence that is there.
        let _ = decoder.conceal(&mut samples[start..start + whole]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::{heard, speech};

    const FRAME_MS: u8 = 20;

    fn record(codec: AudioCodec, speech: Speech, frames: usize, lose: impl Fn(usize) -> bool) -> Wav {
        let opus = OpusSettings { dtx: true, ..OpusSettings::default() };
        let mut speaker = Speaker::new(codec, FRAME_MS, opus, speech).unwrap();
        let mut recorder = Recorder::default();
        let mut packet = [0; MAX_ENCODED];
        let step = codec.clock_rate() / 50;
        for n in 0..frames {
            let Some(len) = speaker.next(&mut packet).unwrap() else { continue };
            if !lose(n) {
                let timestamp = u32::MAX.wrapping_sub(5 * step).wrapping_add(n as u32 * step);
                recorder.push(codec, 7, timestamp, 40 + n as i64 * 20, &packet[..len]);
            }
        }
        recorder.finish()
    }

    #[test]
    fn speech_survives_each_codec_with_silence_suppression_and_some_loss() {
        let (said, own) = (speech::caller(), speech::callee());
        for codec in [AudioCodec::Opus, AudioCodec::Pcma, AudioCodec::Pcmu] {
            let speech = Speech::Once { wav: Arc::new(said.clone()), after_ms: 200 };
            let recording = record(codec, speech, 480, |n| n % 50 == 7);
            assert_eq!(recording.rate, sample_rate(codec));
            let verdict = heard::judge(&said, &recording, Some(&own));
            assert!(verdict.heard, "{codec}: {verdict:?}");
            // 40 ms until the first packet, 200 ms of pause, and Opus's own delay.
            assert!((239.0..250.0).contains(&verdict.offset_ms), "{codec}: {}", verdict.offset_ms);
        }
    }

    #[test]
    fn coded_frames_repeat_and_a_loop_goes_on() {
        let short = Wav { rate: 8_000, samples: speech::caller().samples[8_000..16_000].to_vec() };
        let frames = Frames::encode(&short, AudioCodec::Pcma, FRAME_MS, OpusSettings::default()).unwrap();
        assert_eq!(frames.frames.len(), 50);
        let shared = record(AudioCodec::Pcma, Speech::Frames(Arc::new(frames)), 100, |_| false);
        let looped = record(AudioCodec::Pcma, Speech::Loop(Arc::new(short)), 100, |_| false);
        assert_eq!(shared, looped);
        assert_eq!(shared.samples[320..8_320], shared.samples[8_320..16_320]);
    }

    #[test]
    fn a_change_of_source_or_codec_keeps_the_recorders_time() {
        let mut recorder = Recorder::default();
        recorder.push(AudioCodec::Pcma, 1, 160, 100, &[0x55; 160]);
        recorder.push(AudioCodec::Pcma, 1, 320, 120, &[0x55; 160]);
        recorder.push(AudioCodec::Pcmu, 2, 9_999_999, 1_000, &[0x00; 160]);
        let wav = recorder.finish();
        assert_eq!(wav.samples.len(), 8_000 + 160);
        assert!(wav.samples[8_000..].iter().all(|s| s.abs() > 30_000));
        assert!(wav.samples[..8_000].iter().all(|s| s.abs() < 100));
        assert_eq!(Recorder::default().finish(), Wav { rate: 8_000, samples: Vec::new() });
    }
}
