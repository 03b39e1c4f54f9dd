//! What the far sides say: real speech as packets of either codec, continuous or in conversation.

use std::net::{SocketAddr, UdpSocket};
use tandem::media::codec::g711::Law;
use tandem::media::codec::opus::{Encoded, Encoder, MAX_ENCODED};
use tandem::media::config::OpusSettings;
use tandem::media::rtp::{self, RtpHeader};
use tandem::types::AudioCodec;

/// Samples of 20 ms.
pub const FRAME: usize = 160;
/// Continuous voice: what is measured is talking, not silence.
pub const CONTINUOUS: OpusSettings = OpusSettings {
    bitrate: 24_000,
    complexity: 5,
    fec: true,
    dtx: false,
    cbr: false,
    max_ptime_ms: 20,
    most_bitrate: 510_000,
};
/// Frames of one turn of a conversation in which each side is silent for 55 % of the time.
const TURN: usize = 200;
const TALKING: usize = TURN * 45 / 100;

/// One side's packets, said over and over; `None` is a frame in which nothing is sent.
pub type Said = Vec<Option<Vec<u8>>>;

/// The recording in the tree.
pub fn caller() -> Vec<i16> {
    samples(include_bytes!("../../src/simulator/speech/caller.wav"))
}

/// Frames of a voice without its pauses.
pub fn voiced(speech: &[i16]) -> Vec<&[i16]> {
    speech.chunks_exact(FRAME).filter(|frame| is_voiced(frame)).collect()
}

fn is_voiced(frame: &[i16]) -> bool {
    let sum: i64 = frame.iter().map(|sample| i64::from(*sample).pow(2)).sum();
    sum / FRAME as i64 > 10_000
}

/// What one side of a conversation says: talk spurts, and between them the faint noise of a quiet room.
pub fn conversation(voice: &[&[i16]], side: usize) -> Vec<Vec<i16>> {
    let mut noise = 0x2545_f491_u32;
    let mut room = || {
        noise ^= noise << 13;
        noise ^= noise >> 17;
        noise ^= noise << 5;
        (noise % 17) as i16 - 8
    };
    let mut talked = 0;
    (0..3 * TURN)
        .map(|frame| {
            // The two take turns, and both are silent for a tenth of the time.
            let talks = (frame + side * TURN / 2) % TURN < TALKING;
            if !talks {
                return (0..FRAME).map(|_| room()).collect();
            }
            talked += 1;
            voice[talked % voice.len()].to_vec()
        })
        .collect()
}

/// The frames as payloads; Opus leaves out what `settings` need not send.
pub fn payloads<F: AsRef<[i16]>>(frames: &[F], codec: AudioCodec, settings: OpusSettings, loss: u8) -> Said {
    let companded = |law: Law| {
        let compress = |frame: &F| frame.as_ref().iter().map(|sample| law.compress(*sample)).collect();
        frames.iter().map(|frame| Some(compress(frame))).collect()
    };
    match codec {
        AudioCodec::Pcma => companded(Law::A),
        AudioCodec::Pcmu => companded(Law::Mu),
        AudioCodec::Opus => {
            let mut encoder = Encoder::new(8_000, settings).expect("an encoder");
            encoder.set_expected_loss(loss);
            let mut packet = [0; MAX_ENCODED];
            let mut encode = |frame: &F| match encoder.encode(frame.as_ref(), &mut packet).expect("a frame") {
                Encoded::Packet(len) => Some(packet[..len].to_vec()),
                Encoded::Silence => None,
            };
            frames.iter().map(&mut encode).collect()
        }
    }
}

pub fn payload_type(codec: AudioCodec) -> u8 {
    match codec {
        AudioCodec::Opus => 111,
        AudioCodec::Pcma => 8,
        AudioCodec::Pcmu => 0,
    }
}

/// Clock units of one packet.
pub fn step(codec: AudioCodec) -> u32 {
    codec.clock_rate() / 50
}

/// Writes a packet of frame `number` of a stream into `bytes`; returns its length.
pub fn datagram(codec: AudioCodec, sequence: u16, number: u32, payload: &[u8], bytes: &mut [u8]) -> usize {
    let header = RtpHeader {
        payload_type: payload_type(codec),
        marker: number == 0,
        sequence,
        timestamp: number.wrapping_mul(step(codec)),
        ssrc: 7,
    };
    header.write(payload, bytes).expect("room")
}

/// Room for any packet here.
pub const ROOM: usize = rtp::MAX_PACKET;

pub fn bind() -> UdpSocket {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("a port");
    socket.set_nonblocking(true).expect("non-blocking");
    socket
}

pub fn address(socket: &UdpSocket) -> SocketAddr {
    socket.local_addr().expect("bound")
}

/// The samples of a WAV file of 16 bits, one channel, 8 kHz.
fn samples(wav: &[u8]) -> Vec<i16> {
    let data = wav.windows(4).position(|four| four == b"data").expect("a data chunk") + 8;
    wav[data..].chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()
}

/// `samples` as such a file.
pub fn wav(samples: &[i16]) -> Vec<u8> {
    let bytes = samples.len() as u32 * 2;
    let mut file = Vec::with_capacity(44 + bytes as usize);
    file.extend_from_slice(b"RIFF");
    file.extend_from_slice(&(36 + bytes).to_le_bytes());
    file.extend_from_slice(b"WAVEfmt ");
    for (value, len) in [(16u32, 4), (1, 2), (1, 2), (8_000, 4), (16_000, 4), (2, 2), (16, 2)] {
        file.extend_from_slice(&value.to_le_bytes()[..len]);
    }
    file.extend_from_slice(b"data");
    file.extend_from_slice(&bytes.to_le_bytes());
    samples.iter().for_each(|sample| file.extend_from_slice(&sample.to_le_bytes()));
    file
}
