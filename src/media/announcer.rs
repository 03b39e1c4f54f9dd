//! Plays a tone into a leg at its packet pace.

use super::config::{LegConfig, Tone};
use super::tone::TonePlayer;
use super::transcoder::{G711ToG711, G711ToOpus, law};
use super::transmit::{Out, Transmitter};
use std::time::{Duration, Instant};

/// After a standstill of the machine the tone goes on from now.
const STANDSTILL: Duration = Duration::from_millis(200);

/// A tone being played.
pub struct Announcer {
    tone: Tone,
    player: TonePlayer,
    coder: Coder,
    frame: Frame,
    next: Instant,
}

enum Coder {
    G711(Box<G711ToG711>),
    Opus(Box<G711ToOpus>),
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    samples: usize,
    time: Duration,
}

impl Announcer {
    /// Starts at `now`.
    pub fn new(tone: Tone, config: &LegConfig, now: Instant) -> Announcer {
        let ptime_ms = config.ptime_ms.clamp(10, 60);
        let coder = match law(config.codec) {
            Some(law) => Coder::G711(Box::new(G711ToG711::new(law, law, ptime_ms))),
            None => Coder::Opus(Box::new(G711ToOpus::new(
                crate::media::codec::g711::Law::A,
                ptime_ms,
                config.opus,
            ))),
        };
        let time = Duration::from_millis(ptime_ms.into());
        let frame = Frame { samples: usize::from(ptime_ms) * 8, time };
        Announcer { tone, player: TonePlayer::new(tone), coder, frame, next: now }
    }

    /// What is being played.
    pub fn tone(&self) -> Tone {
        self.tone
    }

    pub fn poll_timeout(&self) -> Instant {
        self.next
    }

    /// Sends what is due.
    pub fn handle_timeout(&mut self, now: Instant, tx: &mut Transmitter, out: &mut Out<'_>) {
        if now.saturating_duration_since(self.next) > STANDSTILL {
            self.next = now;
        }
        while self.next <= now {
            self.player.fill(&mut out.work.pcm[..self.frame.samples]);
            match &mut self.coder {
                Coder::G711(coder) => coder.inject(self.frame.samples, now, tx, out),
                Coder::Opus(coder) => coder.inject(self.frame.samples, now, tx, out),
            }
            self.next += self.frame.time;
        }
    }
}
