//! New SRTP keys in a call that has lasted: either side may go on counting rollovers, or begin at zero.

use super::*;
use crate::media::srtp;
use crate::types::{SrtpKeys, SrtpSuite};

const SUITE: SrtpSuite = SrtpSuite::AesCm128HmacSha1_80;

#[test]
fn an_app_that_takes_a_new_key_after_its_numbers_wrapped_is_heard_whether_it_goes_on_counting_or_not() {
    for goes_on in [true, false] {
        let secured = |key: u8| LegConfig {
            srtp: Some(SrtpKeys::new(SUITE, vec![1; 30], vec![key; 30])),
            ..config(AudioCodec::Opus)
        };
        let mut call = Call::new(secured(2), config(AudioCodec::Pcma));
        let sender = |key: u8| srtp::Outgoing::new(SUITE, &[key; 30]).unwrap();
        let (mut first, mut second) = (sender(2), sender(3));
        let mut app = Talker::new(Side::A, 111);
        for (n, packet) in opus_speech(100, 0).iter().enumerate() {
            call.until(20 * MS * n as u32);
            if n == 50 {
                call.a.configure(secured(3), call.now).unwrap();
                join(&mut call.a, &mut call.b);
            }
            let mut bytes = vec![0; packet.len() + 12 + srtp::MAX_TRAILER];
            let len = app.next(960).write(packet, &mut bytes).unwrap();
            if goes_on && n < 50 {
                // The second key counts along from the start.
                second.protect_rtp(&mut bytes.clone(), len).unwrap();
            }
            let key = if n < 50 { &mut first } else { &mut second };
            let sealed = key.protect_rtp(&mut bytes, len).unwrap();
            call.arrive(Side::A, at(APP), &bytes[..sealed]);
        }
        let report = call.a.report();
        let counts = (report.packets_received, report.packets_lost, report.packets_discarded);
        assert_eq!(counts, (100, 0, 0), "goes on: {goes_on}");
    }
}

#[test]
fn a_new_key_of_ours_after_the_numbers_wrapped_begins_a_stream_that_any_receiver_opens() {
    let secured = |key: u8| LegConfig {
        srtp: Some(SrtpKeys::new(SUITE, vec![key; 30], vec![8; 30])),
        ..config(AudioCodec::Pcma)
    };
    let mut call = Call::new(secured(1), config(AudioCodec::Pcma));
    let mut opener = srtp::Incoming::new(SUITE, &[1; 30]).unwrap();
    let mut trunk = Talker::new(Side::B, 8);
    for n in 0..80u32 {
        call.until(20 * MS * n);
        trunk.say(&mut call, 160, &[0xd5; 160]);
        // A relay keeps gaps: the numbers wrap in less than half an hour.
        trunk.sequence = trunk.sequence.wrapping_add(999);
        opener.unprotect_rtp(&mut call.at_a.last().unwrap().bytes.clone()).unwrap();
    }
    let before = call.at_a.last().unwrap().clone();
    assert!(before.sequence < 0x8000 && before.sequence > call.at_a[0].sequence, "once round");
    call.a.configure(secured(2), call.now).unwrap();
    join(&mut call.a, &mut call.b);
    call.until(80 * 20 * MS);
    trunk.say(&mut call, 160, &[0xd5; 160]);
    let mut got = call.at_a.pop().unwrap();
    assert_ne!(got.ssrc, before.ssrc);
    let mut opener = srtp::Incoming::new(SUITE, &[2; 30]).unwrap();
    assert!(opener.unprotect_rtp(&mut got.bytes).is_ok());
}
