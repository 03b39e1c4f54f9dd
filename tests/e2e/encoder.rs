//! The settings of the Opus encoder, measured in what it sends of the same speech.

use crate::scene::{SECOND, alice, builder, operator};
use crate::support::{
    lane::Lane,
    rtp::{self, RtpSocket},
    speech::{self, Voice},
};
use std::time::Duration;

/// A frame of Opus that says nothing.
const SILENCE: [u8; 3] = [0xf8, 0xff, 0xfe];

/// What a phone is sent of an operator's speech with one setting changed: the payloads of two seconds.
fn sent_with(test: &str, setting: &str, value: i64) -> Vec<Vec<u8>> {
    sent_to(test, "useinbandfec=1;minptime=10", setting, value)
}

/// The same where the phone says how it wants Opus.
fn sent_to(test: &str, opus: &str, setting: &str, value: i64) -> Vec<Vec<u8>> {
    let lane = Lane::take(test);
    let file = speech::a_law(&lane, Voice::Callee);
    let switch = operator(&lane, "operator-speaks").fill("announcement", &file.display().to_string()).start();
    let gateway = builder(&lane, &switch).set("opus.dtx", false).set(setting, value).start();
    let caller = alice(&lane, &gateway, "user-calls").fill("opus", opus).pause(4 * SECOND).start();
    let at = rtp::audio_of(&caller.wait_status(200));
    let phone = RtpSocket::new(&lane);
    phone.send(at, 111, 1, 960, &SILENCE);
    let packets: Vec<_> = (0..100).filter_map(|_| phone.receive(Duration::from_secs(1))).collect();
    assert_eq!(packets.len(), 100, "two seconds of speech");
    caller.succeed();
    switch.succeed();
    packets.into_iter().map(|packet| packet.payload).collect()
}

#[test]
fn a_higher_bitrate_is_more_octets_of_the_same_speech() {
    let per_second = |test: &str, bitrate| {
        let payloads = sent_with(test, "opus.bitrate", bitrate);
        payloads.iter().map(Vec::len).sum::<usize>() * 8 / 2
    };
    let (low, high) = (per_second("encoder-8k", 8_000), per_second("encoder-32k", 32_000));
    println!("8000 bit/s asked for: {low} sent; 32000: {high}");
    // Variable bit rate: speech takes what it needs, on average about what is allowed.
    assert!((5_000..12_000).contains(&low), "{low} bit/s");
    assert!((20_000..40_000).contains(&high), "{high} bit/s");
}

#[test]
fn a_phone_that_wants_packets_of_one_size_gets_them() {
    let sizes = |test: &str, opus: &str| {
        let payloads = sent_to(test, opus, "opus.complexity", 5);
        let mut sizes: Vec<usize> = payloads.iter().map(Vec::len).collect();
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    };
    let (constant, varying) =
        (sizes("encoder-cbr", "useinbandfec=1;cbr=1"), sizes("encoder-vbr", "useinbandfec=1"));
    println!("octets a packet with cbr=1: {constant:?}, without: {varying:?}");
    assert_eq!(constant.len(), 1);
    assert!(varying.len() > 10, "{varying:?}");
}

#[test]
fn another_complexity_encodes_the_same_speech_otherwise_and_the_same_one_alike() {
    let simple = sent_with("encoder-c0", "opus.complexity", 0);
    let again = sent_with("encoder-c0-again", "opus.complexity", 0);
    let thorough = sent_with("encoder-c10", "opus.complexity", 10);
    let shared = |other: &[Vec<u8>]| simple.iter().filter(|payload| other.contains(payload)).count();
    let (same, different) = (shared(&again), shared(&thorough));
    println!("of 100 packets {same} are the same with the same complexity, {different} with another");
    assert!(same >= 80, "{same} of 100 packets came again");
    assert!(different <= 10, "{different} of 100 packets are the same");
}
