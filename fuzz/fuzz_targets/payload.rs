//! Feeds arbitrary payloads to the readers of what is inside an RTP packet, and arbitrary text to those of keys and codec
//! parameters: nothing may panic, and what is read is written as it was read.
#![no_main]
#![allow(dead_code, unused_imports, reason = "the target compiles whole rooms and calls only part of them")]

#[path = "../../src/media/mod.rs"]
mod media;
#[path = "../../src/sdp/mod.rs"]
mod sdp;
#[path = "../../src/types/mod.rs"]
mod types;

use media::codec::comfort_noise::NoiseGenerator;
use media::codec::g711::Law;
use media::codec::opus::{self, Decoder};
use media::dtmf::{Event, EventCarrier};
use media::level::{Level, is_pause};
use sdp::OpusRemote;
use sdp::sdes::Crypto;

/// The longest packet, at 8 kHz.
const LONGEST: usize = 960;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Ok(text) = std::str::from_utf8(input) {
        if let Ok(crypto) = Crypto::parse(text) {
            assert_eq!(Crypto::parse(&crypto.to_value()), Ok(crypto));
        }
        let _ = OpusRemote::parse(text);
    }
    let mut decoder = Decoder::new(8_000).expect("libopus is there");
    let (mut noise, mut carrier) = (NoiseGenerator::default(), EventCarrier::default());
    let mut pcm = [0i16; LONGEST];
    let mut rest = input;
    // Records of: length, step of the timestamp, payload.
    let mut timestamp = 0u32;
    while let [len, step, following @ ..] = rest {
        let (payload, following) = following.split_at(usize::from(*len).min(following.len()));
        rest = following;
        timestamp = timestamp.wrapping_add(u32::from(*step) << 8);
        let _ = (Level::of_opus(payload), is_pause(payload), Level::of_description(payload));
        let _ = (Level::of_g711(Law::A, payload), Level::of_g711(Law::Mu, payload));
        if opus::has_redundancy(payload) {
            let _ = decoder.recover(payload, &mut pcm[..160]);
        }
        let told = opus::packet_samples(payload, 8_000);
        if let Some(samples) = told {
            let frame = opus::frame_samples(payload, 8_000);
            assert!(samples <= LONGEST && frame > 0 && samples % frame == 0);
        }
        if let Ok(samples) = decoder.decode(payload, &mut pcm) {
            assert_eq!(Some(samples), told);
        }
        noise.describe(payload);
        noise.fill(&mut pcm[..160]);
        if let Some(event) = Event::parse(payload) {
            assert_eq!(Event::parse(&event.to_bytes()), Some(event));
            if let Some(sent) = carrier.carry(event, timestamp, timestamp, 8_000, 48_000) {
                assert_eq!(sent.event.code, event.code);
            }
        }
    }
});
