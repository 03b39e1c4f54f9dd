//! The stream we send on one leg: its numbers, its protection, and where it goes.

use super::codec::comfort_noise;
use super::config::{DtmfFormat, LegConfig};
use super::load;
use super::rtp::{self, RtpHeader};
use super::srtp;
use crate::types::DtmfMode;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Which of a leg's two ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    Rtp,
    Rtcp,
}

/// What carries packets away. Called for each packet at once; must not keep `packet`.
pub trait Wire {
    fn send(&mut self, channel: Channel, to: SocketAddr, packet: &[u8]);
}

/// Buffers of one thread, shared by all its legs, so that nothing is allocated per packet and little per leg.
pub struct Workspace {
    /// Room for the longest Opus packet at 8 kHz, 120 ms.
    pub pcm: [i16; 960],
    pub coded: [u8; rtp::MAX_PACKET],
    pub packet: [u8; rtp::MAX_PACKET + srtp::MAX_TRAILER],
    /// Highest complexity an encoder of this thread may have at present.
    pub complexity: u8,
}

impl Default for Workspace {
    fn default() -> Workspace {
        Workspace {
            pcm: [0; 960],
            coded: [0; rtp::MAX_PACKET],
            packet: [0; rtp::MAX_PACKET + srtp::MAX_TRAILER],
            complexity: load::UNLIMITED,
        }
    }
}

/// Where results go: the wire of the leg that sends, and room to build them in.
pub struct Out<'a> {
    pub wire: &'a mut dyn Wire,
    pub work: &'a mut Workspace,
}

/// The lower half of the sequence numbers.
const LOWER_HALF: u16 = 0x7fff;

/// Where a source begins to count: in the lower half, so that a receiver that joins late still guesses the SRTP
/// rollover counter (RFC 3711 §3.3.1).
fn first_sequence(seed: u64) -> u16 {
    (seed >> 32) as u16 & LOWER_HALF
}

/// One packet's worth of sound.
#[derive(Debug, Clone, Copy)]
pub struct Chunk<'a> {
    pub timestamp: u32,
    pub marker: bool,
    /// In clock units; what follows belongs this much later.
    pub duration: u32,
    pub payload: &'a [u8],
}

/// The sending side of a leg.
pub struct Transmitter {
    remote: SocketAddr,
    srtp: Option<srtp::Outgoing>,
    voice_payload_type: u8,
    dtmf: Option<DtmfFormat>,
    comfort_noise: bool,
    clock_rate: u32,
    ssrc: u32,
    next_sequence: u16,
    next_timestamp: u32,
    /// When `next_timestamp` would be due by the clock on the wall.
    due: Option<Instant>,
    packets: u64,
    bytes: u64,
    /// Since this SSRC began, as SR counts them.
    stream_packets: u32,
    stream_octets: u32,
    /// Numbers of it that no packet had: gaps of a relayed source.
    skipped: u32,
}

impl Transmitter {
    /// A stream that is nobody's yet; `seed` gives it its SSRC and where its numbers start (RFC 3550 §5.1: random).
    pub fn new(config: &LegConfig, srtp: Option<srtp::Outgoing>, seed: u64) -> Transmitter {
        Transmitter {
            remote: config.remote_rtp,
            srtp,
            voice_payload_type: config.send_payload_type,
            dtmf: usable_dtmf(config),
            comfort_noise: config.comfort_noise,
            clock_rate: config.codec.clock_rate(),
            ssrc: seed as u32,
            next_sequence: first_sequence(seed),
            next_timestamp: (seed >> 16) as u32,
            due: None,
            packets: 0,
            bytes: 0,
            stream_packets: 0,
            stream_octets: 0,
            skipped: 0,
        }
    }

    /// Applies a new SDP. The stream goes on, unless its clock changes: then it is a new one (RFC 7160 §4.1).
    pub fn configure(&mut self, config: &LegConfig, seed: u64) {
        self.voice_payload_type = config.send_payload_type;
        self.dtmf = usable_dtmf(config);
        self.comfort_noise = config.comfort_noise;
        if self.clock_rate != config.codec.clock_rate() {
            self.clock_rate = config.codec.clock_rate();
            self.begin_stream(seed);
            self.next_timestamp = (seed >> 16) as u32;
            self.due = None;
        }
    }

    /// Another source from here on; its timestamps go on.
    fn begin_stream(&mut self, seed: u64) {
        self.ssrc = seed as u32;
        self.next_sequence = first_sequence(seed);
        self.stream_packets = 0;
        self.stream_octets = 0;
        self.skipped = 0;
    }

    /// New keys begin at rollover counter zero. A receiver that goes on counting (RFC 3711 §3.3.1) begins there only with
    /// a stream whose numbers have never wrapped, and near their wrap one that lost the first packets would guess wrongly:
    /// in both cases it would hear nothing more, so that the stream begins anew too.
    pub fn set_srtp(&mut self, srtp: Option<srtp::Outgoing>, seed: u64) {
        self.srtp = srtp;
        // The first number was of the lower half: whoever has come less far has not wrapped.
        let come = u64::from(self.stream_packets) + u64::from(self.skipped);
        let wrapped = come > u64::from(LOWER_HALF);
        if self.srtp.is_some() && (wrapped || self.next_sequence > LOWER_HALF) {
            self.begin_stream(seed);
        }
    }

    /// Gives the key in use another identifier.
    pub fn identify(&mut self, mki: &[u8]) -> Result<(), srtp::SrtpError> {
        self.srtp.as_mut().map_or(Ok(()), |srtp| srtp.identify(mki))
    }

    pub fn set_remote(&mut self, remote: SocketAddr) {
        self.remote = remote;
    }

    /// The format key presses go out in; `None` if they go as tones.
    pub fn dtmf(&self) -> Option<DtmfFormat> {
        self.dtmf
    }

    /// True if the far side takes comfort noise.
    pub fn takes_comfort_noise(&self) -> bool {
        self.comfort_noise
    }

    pub fn clock_rate(&self) -> u32 {
        self.clock_rate
    }

    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Packets and bytes sent on the leg so far, RTP headers included.
    pub fn sent(&self) -> (u64, u64) {
        (self.packets, self.bytes)
    }

    /// Packets and payload octets of the present stream, as an SR states them.
    pub fn stream_totals(&self) -> (u32, u32) {
        (self.stream_packets, self.stream_octets)
    }

    /// Numbers of the present stream that nothing was sent under: its receiver counts them as lost.
    pub fn skipped(&self) -> u32 {
        self.skipped
    }

    pub fn next_sequence(&self) -> u16 {
        self.next_sequence
    }

    /// The timestamp of what is heard at `now`: right behind what was sent, plus the time nothing was.
    pub fn position_at(&self, now: Instant) -> u32 {
        let idle = self.due.map_or(Duration::ZERO, |due| now.saturating_duration_since(due));
        self.next_timestamp.wrapping_add(in_clock(idle, self.clock_rate))
    }

    /// The timestamp right behind what was sent.
    pub fn reached(&self) -> u32 {
        self.next_timestamp
    }

    /// Time passes without a packet: the next one follows `timestamp + duration`.
    pub fn skip(&mut self, now: Instant, timestamp: u32, duration: u32) {
        self.next_timestamp = timestamp.wrapping_add(duration);
        self.due = Some(now + from_clock(duration, self.clock_rate));
    }

    /// Sends voice as the next packet.
    #[inline]
    pub fn send_voice(&mut self, now: Instant, chunk: Chunk<'_>, wire: &mut dyn Wire, buffer: &mut [u8]) {
        let sequence = self.next_sequence;
        self.send(now, self.voice_payload_type, sequence, chunk, wire, buffer);
    }

    /// Sends voice with a sequence number of the caller's choice: relayed streams keep their gaps.
    #[inline]
    pub fn send_voice_as(
        &mut self,
        now: Instant,
        sequence: u16,
        chunk: Chunk<'_>,
        wire: &mut dyn Wire,
        buffer: &mut [u8],
    ) {
        self.send(now, self.voice_payload_type, sequence, chunk, wire, buffer);
    }

    /// Sends a description of silence in place of voice.
    pub fn send_comfort_noise(
        &mut self,
        now: Instant,
        sequence: u16,
        chunk: Chunk<'_>,
        wire: &mut dyn Wire,
        buffer: &mut [u8],
    ) {
        self.send(now, comfort_noise::PAYLOAD_TYPE, sequence, chunk, wire, buffer);
    }

    /// Sends a telephone event. It takes no time on the voice's timeline: that is the voice's own matter.
    pub fn send_event(
        &mut self,
        now: Instant,
        sequence: u16,
        chunk: Chunk<'_>,
        wire: &mut dyn Wire,
        buffer: &mut [u8],
    ) {
        let Some(format) = self.dtmf else { return };
        let (timestamp, due) = (self.next_timestamp, self.due);
        self.send(now, format.send_payload_type, sequence, chunk, wire, buffer);
        (self.next_timestamp, self.due) = (timestamp, due);
    }

    fn send(
        &mut self,
        now: Instant,
        payload_type: u8,
        sequence: u16,
        chunk: Chunk<'_>,
        wire: &mut dyn Wire,
        buffer: &mut [u8],
    ) {
        let Chunk { timestamp, marker, duration, payload } = chunk;
        let header = RtpHeader { payload_type, marker, sequence, timestamp, ssrc: self.ssrc };
        let Some(mut len) = header.write(payload, buffer) else { return };
        if let Some(srtp) = &mut self.srtp {
            match srtp.protect_rtp(buffer, len) {
                Ok(protected) => len = protected,
                // Better not sent than sent in the clear.
                Err(_) => return,
            }
        }
        // Where the far side is may show only with its first packet; until then time passes without it.
        if !self.remote.ip().is_unspecified() {
            wire.send(Channel::Rtp, self.remote, &buffer[..len]);
            self.packets += 1;
            self.bytes += len as u64;
            self.stream_packets = self.stream_packets.wrapping_add(1);
            self.stream_octets = self.stream_octets.wrapping_add(payload.len() as u32);
        }
        // A relayed packet that came late leaves the numbers where they are, and fills a gap.
        let ahead = rtp::sequence_distance(self.next_sequence, sequence);
        self.skipped = self.skipped.saturating_add_signed(ahead.max(-1).into());
        if ahead >= 0 {
            self.next_sequence = sequence.wrapping_add(1);
            self.skip(now, timestamp, duration);
        }
    }

    /// Protects and sends an RTCP compound that lies in the first `len` bytes of `buffer`. A far side that holds the old
    /// way (RFC 2543 §B.5) has named an address that is none: what goes there reaches a program of this machine.
    pub fn send_rtcp(
        &mut self,
        channel: Channel,
        to: SocketAddr,
        len: usize,
        wire: &mut dyn Wire,
        buffer: &mut [u8],
    ) {
        if to.ip().is_unspecified() || to.port() == 0 {
            return;
        }
        let len = match &mut self.srtp {
            Some(srtp) => match srtp.protect_rtcp(buffer, len) {
                Ok(protected) => protected,
                Err(_) => return,
            },
            None => len,
        };
        wire.send(channel, to, &buffer[..len]);
    }
}

/// Events are used where both the far side and our configuration want them.
fn usable_dtmf(config: &LegConfig) -> Option<DtmfFormat> {
    match config.dtmf_mode {
        DtmfMode::Rfc4733 => config.dtmf,
        DtmfMode::Inband => None,
    }
}

/// A time in units of an RTP clock.
pub fn in_clock(time: Duration, clock_rate: u32) -> u32 {
    (time.as_micros() as u64 * u64::from(clock_rate) / 1_000_000) as u32
}

/// Units of an RTP clock as time.
pub fn from_clock(units: u32, clock_rate: u32) -> Duration {
    Duration::from_micros(u64::from(units) * 1_000_000 / u64::from(clock_rate))
}
