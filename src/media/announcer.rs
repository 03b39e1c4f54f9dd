//! Plays sound of our own into a leg at its packet pace: a tone, a recording, the keys of a digits line.

use super::config::{LegConfig, Tone};
use super::leg::Heard;
use super::readback::{Readback, Saying};
use super::recording::Recording;
use super::tone::TonePlayer;
use super::transcoder::{G711ToG711, G711ToOpus, law};
use super::transmit::{Chunk, Out, Transmitter};
use std::time::{Duration, Instant};

/// After a standstill of the machine the sound goes on from now.
const STANDSTILL: Duration = Duration::from_millis(200);

/// What is being played.
pub enum Sound {
    Tone(TonePlayer),
    Speech(Recording),
    Digits(Box<Readback>),
}

impl Sound {
    pub fn tone(tone: Tone) -> Sound {
        Sound::Tone(TonePlayer::new(tone))
    }
}

/// A sound being played.
pub struct Announcer {
    sound: Sound,
    coder: Coder,
    frame: Frame,
    next: Instant,
    /// Something else took its place: it has to find its own again.
    lost: bool,
}

enum Coder {
    G711(Box<G711ToG711>),
    Opus(Box<G711ToOpus>),
}

impl Coder {
    fn new(config: &LegConfig) -> Coder {
        let ptime_ms = config.ptime_ms.clamp(10, 60);
        match law(config.codec) {
            Some(law) => Coder::G711(Box::new(G711ToG711::new(law, law, ptime_ms))),
            None => Coder::Opus(Box::new(G711ToOpus::new(
                crate::media::codec::g711::Law::A,
                ptime_ms,
                config.opus,
            ))),
        }
    }

    fn inject(&mut self, samples: usize, now: Instant, tx: &mut Transmitter, out: &mut Out<'_>) {
        match self {
            Coder::G711(coder) => coder.inject(samples, now, tx, out),
            Coder::Opus(coder) => coder.inject(samples, now, tx, out),
        }
    }

    fn forget(&mut self) {
        match self {
            Coder::G711(coder) => coder.forget(),
            Coder::Opus(coder) => coder.forget(),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    samples: usize,
    time: Duration,
}

impl Frame {
    fn new(config: &LegConfig) -> Frame {
        let ptime_ms = config.ptime_ms.clamp(10, 60);
        Frame { samples: usize::from(ptime_ms) * 8, time: Duration::from_millis(ptime_ms.into()) }
    }
}

impl Announcer {
    /// Starts at `now`.
    pub fn new(sound: Sound, config: &LegConfig, now: Instant) -> Announcer {
        Announcer { sound, coder: Coder::new(config), frame: Frame::new(config), next: now, lost: false }
    }

    /// Goes on in another codec or packet length.
    pub fn renew(&mut self, config: &LegConfig, now: Instant) {
        (self.coder, self.frame, self.next) = (Coder::new(config), Frame::new(config), now);
        match &mut self.sound {
            Sound::Digits(readback) => readback.renew(config),
            Sound::Tone(_) | Sound::Speech(_) => {}
        }
    }

    /// Takes what the far side sends; only a line of digits listens.
    pub fn hear(&mut self, heard: Heard<'_>, now: Instant, tx: &Transmitter, out: &mut Out<'_>) {
        match &mut self.sound {
            Sound::Digits(readback) => readback.hear(heard, tx.dtmf().is_some(), now, &mut out.work.pcm),
            Sound::Tone(_) | Sound::Speech(_) => {}
        }
    }

    pub fn poll_timeout(&self) -> Instant {
        self.next
    }

    /// Sends what is due.
    pub fn handle_timeout(&mut self, now: Instant, tx: &mut Transmitter, out: &mut Out<'_>) {
        if now.saturating_duration_since(self.next) > STANDSTILL {
            self.next = now;
            self.lost = true;
        }
        while self.next <= now {
            let pcm = &mut out.work.pcm[..self.frame.samples];
            let saying = match &mut self.sound {
                Sound::Tone(player) => {
                    player.fill(pcm);
                    Saying::Sound
                }
                Sound::Speech(recording) => {
                    recording.fill(pcm);
                    Saying::Sound
                }
                Sound::Digits(readback) => readback.say(self.next, tx.position_at(now), tx.dtmf(), pcm),
            };
            match saying {
                Saying::Sound => {
                    if std::mem::take(&mut self.lost) {
                        self.coder.forget();
                    }
                    self.coder.inject(self.frame.samples, now, tx, out);
                }
                Saying::Event { event, timestamp, marker } => {
                    self.lost = true;
                    let payload = event.to_bytes();
                    let chunk = Chunk { timestamp, marker, duration: 0, payload: &payload };
                    tx.send_event(now, tx.next_sequence(), chunk, out.wire, &mut out.work.packet);
                }
                Saying::Nothing => self.lost = true,
            }
            self.next += self.frame.time;
        }
    }
}
