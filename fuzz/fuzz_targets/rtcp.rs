//! Feeds arbitrary compounds to the RTCP reader and, protected, to SRTCP: nothing may panic, and what is read of a
//! report is what was written.
#![no_main]
#![allow(dead_code, unused_imports, reason = "the target compiles whole rooms and calls only part of them")]

#[path = "../../src/media/mod.rs"]
mod media;
#[path = "../../src/types/mod.rs"]
mod types;

use media::rtcp::{self, Compound, MAX_WRITTEN, NtpTime, SenderInfo};
use media::srtp;
use types::{SrtpKeys, SrtpSuite};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let [pick, bytes @ ..] = input else { return };
    if let Ok(received) = rtcp::parse(bytes, 7)
        && let Some(report) = received.about_us
    {
        let _ = rtcp::round_trip(&report, NtpTime::from_unix_millis(i64::from(*pick) << 20));
        let sender = SenderInfo { ntp: NtpTime(0), rtp_timestamp: 0, packets: 0, octets: 0 };
        let (sender, report, voip) = (Some(sender), Some(report), received.voip);
        let compound = Compound { ssrc: 1, sender, report, voip, cname: "c", bye: false };
        let mut written = [0; MAX_WRITTEN];
        let len = compound.write(&mut written).expect("there is room");
        assert_eq!(rtcp::parse(&written[..len], 7).expect("our own").about_us, report);
    }

    let suite = SrtpSuite::ALL[usize::from(*pick) % SrtpSuite::ALL.len()];
    let (key, salt) = suite.key_and_salt_len();
    let mki = vec![*pick; usize::from(*pick >> 5)];
    let keys = SrtpKeys {
        local_mki: mki.clone(),
        remote_mki: mki,
        ..SrtpKeys::new(suite, vec![5; key + salt], vec![5; key + salt])
    };
    let (mut outgoing, mut incoming) = srtp::session(&keys).expect("the keys fit");
    let mut junk = bytes.to_vec();
    assert!(
        incoming.unprotect_rtcp(&mut junk).is_err() && incoming.unprotect_rtp(&mut bytes.to_vec()).is_err()
    );
    let mut buffer = bytes.to_vec();
    buffer.resize(bytes.len() + srtp::MAX_TRAILER, 0);
    if bytes.first().is_some_and(|first| first >> 6 == 2)
        && let Ok(len) = outgoing.protect_rtcp(&mut buffer, bytes.len())
    {
        let opened = incoming.unprotect_rtcp(&mut buffer[..len]).expect("our own");
        assert_eq!(&buffer[..opened], bytes);
    }
    let mut buffer = bytes.to_vec();
    buffer.resize(bytes.len() + srtp::MAX_TRAILER, 0);
    if let Ok(len) = outgoing.protect_rtp(&mut buffer, bytes.len()) {
        let opened = incoming.unprotect_rtp(&mut buffer[..len]).expect("our own");
        assert_eq!(&buffer[..opened], bytes);
    }
});
