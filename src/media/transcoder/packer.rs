//! Cuts a run of samples into G.711 packets of one length.

use crate::media::codec::g711::{Law, SAMPLE_RATE};
use crate::media::transmit::{Chunk, Transmitter, Wire};
use std::time::Instant;

/// The longest packet made: 60 ms.
const MAX_FRAME: usize = 480;

/// Samples that wait for their packet to be full; none wait if what comes in divides into packets.
pub struct Packer {
    law: Law,
    frame: usize,
    /// The length of the packets from the next one on.
    next_frame: usize,
    /// Timestamp of the first sample waiting.
    start: u32,
    waiting: [u8; MAX_FRAME],
    len: usize,
    marker: bool,
}

impl Packer {
    /// Packets of `ptime_ms`, limited to 10 to 60 ms.
    pub fn new(law: Law, ptime_ms: u8) -> Packer {
        let frame = frame_samples(ptime_ms);
        Packer { law, frame, next_frame: frame, start: 0, waiting: [0; MAX_FRAME], len: 0, marker: true }
    }

    /// Changes the length of the packets, from the next one on.
    pub fn set_ptime(&mut self, ptime_ms: u8) {
        self.next_frame = frame_samples(ptime_ms);
        if self.len == 0 {
            self.frame = self.next_frame;
        }
    }

    /// The next samples belong at `position`; where that leaves a hole, what waits goes out short and the next packet
    /// is marked (RFC 3551 §4.1).
    pub fn seek(
        &mut self,
        position: u32,
        now: Instant,
        tx: &mut Transmitter,
        wire: &mut dyn Wire,
        buffer: &mut [u8],
    ) {
        if self.start.wrapping_add(self.len as u32) == position {
            return;
        }
        if self.len > 0 {
            self.flush(now, tx, wire, buffer);
        }
        self.start = position;
        self.marker = true;
    }

    /// Sends what waits, short of a whole packet.
    pub fn finish(&mut self, now: Instant, tx: &mut Transmitter, wire: &mut dyn Wire, buffer: &mut [u8]) {
        if self.len > 0 {
            self.flush(now, tx, wire, buffer);
        }
    }

    /// Leaves out what waits.
    pub fn clear(&mut self) {
        self.len = 0;
        self.frame = self.next_frame;
    }

    /// True if nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds samples and sends each packet that becomes full.
    #[inline]
    pub fn push(
        &mut self,
        mut pcm: &[i16],
        now: Instant,
        tx: &mut Transmitter,
        wire: &mut dyn Wire,
        buffer: &mut [u8],
    ) {
        while !pcm.is_empty() {
            let taken = self.law.compress_into(pcm, &mut self.waiting[self.len..self.frame]);
            self.len += taken;
            pcm = &pcm[taken..];
            if self.len == self.frame {
                self.flush(now, tx, wire, buffer);
            }
        }
    }

    /// The same with code words of the law, as they are.
    pub fn push_codes(
        &mut self,
        mut codes: &[u8],
        now: Instant,
        tx: &mut Transmitter,
        wire: &mut dyn Wire,
        buffer: &mut [u8],
    ) {
        while !codes.is_empty() {
            let (next, later) = codes.split_at(codes.len().min(self.frame - self.len));
            self.waiting[self.len..self.len + next.len()].copy_from_slice(next);
            self.len += next.len();
            codes = later;
            if self.len == self.frame {
                self.flush(now, tx, wire, buffer);
            }
        }
    }

    #[inline]
    fn flush(&mut self, now: Instant, tx: &mut Transmitter, wire: &mut dyn Wire, buffer: &mut [u8]) {
        let duration = self.len as u32;
        let chunk = Chunk {
            timestamp: self.start,
            marker: self.marker,
            duration,
            payload: &self.waiting[..self.len],
        };
        tx.send_voice(now, chunk, wire, buffer);
        self.start = self.start.wrapping_add(duration);
        self.len = 0;
        self.frame = self.next_frame;
        self.marker = false;
    }
}

fn frame_samples(ptime_ms: u8) -> usize {
    usize::from(ptime_ms.clamp(10, 60)) * (SAMPLE_RATE as usize / 1000)
}
