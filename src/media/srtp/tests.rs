//! SRTP against the RFC's vectors, against rtc-srtp's own contexts, and against a stranger.

use super::*;
use crate::media::rtp::RtpHeader;
use proptest::prelude::*;
use rtc_srtp::context::Context;
use rtc_srtp::option::{srtcp_replay_protection, srtp_replay_protection};
use rtc_srtp::protection_profile::ProtectionProfile;

const SUITES: [(SrtpSuite, ProtectionProfile); 6] = [
    (SrtpSuite::AesCm128HmacSha1_80, ProtectionProfile::Aes128CmHmacSha1_80),
    (SrtpSuite::AesCm128HmacSha1_32, ProtectionProfile::Aes128CmHmacSha1_32),
    (SrtpSuite::AesCm256HmacSha1_80, ProtectionProfile::Aes256CmHmacSha1_80),
    (SrtpSuite::AesCm256HmacSha1_32, ProtectionProfile::Aes256CmHmacSha1_32),
    (SrtpSuite::AeadAes128Gcm, ProtectionProfile::AeadAes128Gcm),
    (SrtpSuite::AeadAes256Gcm, ProtectionProfile::AeadAes256Gcm),
];

fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap()).collect()
}

/// The same master key both ways, as if we talked to ourselves.
fn keys(suite: SrtpSuite) -> SrtpKeys {
    let (key, salt) = suite.key_and_salt_len();
    let local: Vec<u8> = (0..key + salt).map(|n| (n * 7 + 3) as u8).collect();
    SrtpKeys::new(suite, local.clone(), local)
}

fn voice(ssrc: u32, sequence: u16) -> Vec<u8> {
    let mut bytes = vec![0; 200];
    let header =
        RtpHeader { payload_type: 8, marker: false, sequence, timestamp: u32::from(sequence) * 160, ssrc };
    let len = header.write(&[0x55; 160], &mut bytes).unwrap();
    bytes.truncate(len);
    bytes
}

fn protect(outgoing: &mut Outgoing, plain: &[u8]) -> Vec<u8> {
    let mut buffer = plain.to_vec();
    buffer.resize(plain.len() + MAX_TRAILER, 0);
    let len = outgoing.protect_rtp(&mut buffer, plain.len()).unwrap();
    buffer.truncate(len);
    buffer
}

fn sender_report(ssrc: u32) -> Vec<u8> {
    let mut bytes = vec![0x80, 200, 0, 6];
    bytes.extend(ssrc.to_be_bytes());
    bytes.extend([7; 20]);
    bytes
}

#[test]
fn key_derivation_gives_the_vectors_of_rfc_3711_appendix_b3() {
    let key = hex("E1F97A0D3E018BE0D64FA32C06DE4139");
    let salt = hex("0EC675AD498AFEEBB6960B3AABE6");
    let provider = default_provider().unwrap();
    let master = Master { crypto: provider.crypto(), key: &key, salt: &salt };
    assert_eq!(master.derive::<16>(0).unwrap().to_vec(), hex("C61E7A93744F39EE10734AFE3FF7A087"));
    assert_eq!(master.derive::<14>(2).unwrap().to_vec(), hex("30CBBC08863D8C85D49DB34A9AE1"));
    let expected = hex("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4");
    assert_eq!(master.derive::<20>(1).unwrap().to_vec(), expected);
}

#[test]
fn key_derivation_of_256_bits_gives_the_vectors_of_rfc_6188_section_7_2() {
    let key = hex("f0f04914b513f2763a1b1fa130f10e2998f6f6e43e4309d1e622a0e332b9f1b6");
    let salt = hex("3b04803de51ee7c96423ab5b78d2");
    let provider = default_provider().unwrap();
    let master = Master { crypto: provider.crypto(), key: &key, salt: &salt };
    let expected = hex("5ba1064e30ec51613cad926c5a28ef731ec7fb397f70a960653caf06554cd8c4");
    assert_eq!(master.derive::<32>(0).unwrap().to_vec(), expected);
    assert_eq!(master.derive::<14>(2).unwrap().to_vec(), hex("fa31791685ca444a9e07c6c64e93"));
    assert_eq!(master.derive::<20>(1).unwrap().to_vec(), hex("fd9c32d39ed5fbb5a9dc96b30818454d1313dc05"));
}

#[test]
fn aes_256_counter_mode_gives_the_key_stream_of_rfc_6188_section_7_1() {
    let provider = default_provider().unwrap();
    let key = hex("57f82fe3613fd170a85ec93c40b1f0922ec4cb0dc025b58272147cc438944a98");
    let cipher = provider.crypto().new_stream_cipher(StreamCipherAlgorithm::Aes256Ctr, &key).unwrap();
    let mac = provider.crypto().new_hmac(HmacAlgorithm::Sha1, &[0; 20]).unwrap();
    let mut keys = CounterKeys { cipher, mac, salt: hex("f0f1f2f3f4f5f6f7f8f9fafbfcfd").try_into().unwrap() };
    let mut stream = [0; 48];
    keys.apply(0, 0, &mut stream).unwrap();
    let expected = hex(
        "92bdd28a93c3f52511c677d08b5515a4 9da71b2378a854f67050756ded165bac 63c4868b7096d88421b563b8c94c9a31",
    );
    assert_eq!(stream.to_vec(), expected);
}

#[test]
fn aes_256_gcm_gives_the_vector_of_rfc_7714_16_2_1() {
    let provider = default_provider().unwrap();
    let key = hex("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f");
    let cipher = provider.crypto().new_aead(AeadAlgorithm::Aes256Gcm, &key).unwrap();
    let mut rtp = GcmKeys { cipher, salt: hex("517569642070726f2071756f").try_into().unwrap() };
    let header = hex("8040f17b 8041f8d3 5501a0b2");
    let mut text =
        hex("47616c6c 69612065 7374206f 6d6e6973 20646976 69736120 696e2070 61727465 73207472 6573");
    let nonce = rtp.nonce(0x5501_a0b2, 0xf17b);
    let mut tag = [0; 16];
    rtp.cipher.seal_in_place(&nonce, &header, &mut text, &mut tag).unwrap();
    let expected = hex(
        "32b1de78 a822fe12 ef9f78fa 332e33aa b1801238 9a58e2f3 b50b2a02 76ffae0f 1ba63799 b87b7aa3 db36dfff d6b0f9bb 7878d7a7 6c13",
    );
    assert_eq!([&text[..], &tag[..]].concat(), expected);
}

#[test]
fn a_key_identifier_stands_in_each_packet_and_another_one_is_not_taken() {
    for (suite, _) in SUITES {
        let plain = keys(suite);
        let named = SrtpKeys { local_mki: vec![0, 7], remote_mki: vec![0, 7], ..plain.clone() };
        let (mut bare, _) = session(&plain).unwrap();
        let (mut outgoing, mut incoming) = session(&named).unwrap();
        let (packet, unnamed) = (protect(&mut outgoing, &voice(1, 10)), protect(&mut bare, &voice(1, 10)));
        // RFC 3711 §3.1 has it before the tag, RFC 7714 §9 behind everything.
        let behind = match suite {
            SrtpSuite::AesCm128HmacSha1_80 | SrtpSuite::AesCm256HmacSha1_80 => 10,
            SrtpSuite::AesCm128HmacSha1_32 | SrtpSuite::AesCm256HmacSha1_32 => 4,
            SrtpSuite::AeadAes128Gcm | SrtpSuite::AeadAes256Gcm => 0,
        };
        let at = packet.len() - behind - 2;
        assert_eq!(packet[at..at + 2], [0, 7], "{suite:?}");
        assert_eq!([&packet[..at], &packet[at + 2..]].concat(), unnamed, "{suite:?}");
        let mut other = packet.clone();
        other[at + 1] = 8;
        assert_eq!(incoming.unprotect_rtp(&mut other), Err(SrtpError::BadTag));
        assert!(incoming.unprotect_rtp(&mut unnamed.clone()).is_err());
        let mut opened = packet;
        let len = incoming.unprotect_rtp(&mut opened).unwrap();
        assert_eq!(opened[..len], voice(1, 10));

        let report = sender_report(1);
        let mut buffer = [&report[..], &[0; MAX_TRAILER]].concat();
        let len = outgoing.protect_rtcp(&mut buffer, report.len()).unwrap();
        let len = incoming.unprotect_rtcp(&mut buffer[..len]).unwrap();
        assert_eq!(buffer[..len], report);
        for short in 0..30 {
            assert!(incoming.unprotect_rtp(&mut vec![0x80; short]).is_err());
            assert!(incoming.unprotect_rtcp(&mut vec![0x80; short]).is_err());
        }
    }
    let long = SrtpKeys { local_mki: vec![0; 9], ..keys(SrtpSuite::AesCm128HmacSha1_80) };
    assert_eq!(session(&long).err(), Some(SrtpError::KeyLength));
}

#[test]
fn aes_128_gcm_gives_the_vector_of_rfc_7714_16_1_1() {
    // That vector gives the session key and salt themselves, so they are put in place of derived ones.
    let provider = default_provider().unwrap();
    let key = hex("000102030405060708090a0b0c0d0e0f");
    let cipher = provider.crypto().new_aead(AeadAlgorithm::Aes128Gcm, &key).unwrap();
    let mut rtp = GcmKeys { cipher, salt: hex("517569642070726f2071756f").try_into().unwrap() };
    let header = hex("8040f17b 8041f8d3 5501a0b2");
    let mut text =
        hex("47616c6c 69612065 7374206f 6d6e6973 20646976 69736120 696e2070 61727465 73207472 6573");
    let nonce = rtp.nonce(0x5501_a0b2, 0xf17b);
    assert_eq!(nonce.to_vec(), hex("51 75 3c 65 80 c2 72 6f 20 71 84 14"));
    let mut tag = [0; 16];
    rtp.cipher.seal_in_place(&nonce, &header, &mut text, &mut tag).unwrap();
    let expected = hex(
        "f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f 42a5f47a 51c7d19b 36de3adf 8833 899d7f27 beb16a91 52cf765e e4390cce",
    );
    assert_eq!([&text[..], &tag[..]].concat(), expected);
}

#[test]
fn every_suite_agrees_with_rtc_srtp_both_ways_over_a_rollover() {
    for (suite, profile) in SUITES {
        let keys = keys(suite);
        let (mut outgoing, mut incoming) = session(&keys).unwrap();
        let (key_len, _) = suite.key_and_salt_len();
        let provider = default_provider().unwrap();
        let context = || {
            let (key, salt) = keys.local.split_at(key_len);
            let (rtp, rtcp) = (srtp_replay_protection(64), srtcp_replay_protection(64));
            Context::new(key, salt, profile, Some(rtp), Some(rtcp), provider.crypto()).unwrap()
        };
        let (mut theirs_out, mut theirs_in) = (context(), context());
        for step in 0..40u16 {
            let plain = voice(9, 65_520u16.wrapping_add(step));
            let sealed = protect(&mut outgoing, &plain);
            assert_eq!(sealed, theirs_out.encrypt_rtp(&plain).unwrap().to_vec(), "{suite:?} {step}");
            assert_eq!(theirs_in.decrypt_rtp(&sealed).unwrap().to_vec(), plain);
            let mut opened = sealed;
            let len = incoming.unprotect_rtp(&mut opened).unwrap();
            assert_eq!(opened[..len], plain);

            let report = sender_report(9);
            let mut buffer = report.clone();
            buffer.resize(report.len() + MAX_TRAILER, 0);
            let len = outgoing.protect_rtcp(&mut buffer, report.len()).unwrap();
            buffer.truncate(len);
            assert_eq!(buffer, theirs_out.encrypt_rtcp(&report).unwrap().to_vec(), "{suite:?} RTCP");
            let len = incoming.unprotect_rtcp(&mut buffer).unwrap();
            assert_eq!(buffer[..len], report);
        }
    }
}

#[test]
fn a_changed_bit_a_short_packet_and_a_replay_are_refused_and_leave_no_trace() {
    for (suite, _) in SUITES {
        let (mut outgoing, mut incoming) = session(&keys(suite)).unwrap();
        let sealed = protect(&mut outgoing, &voice(1, 10));
        for byte in [1, 3, 9, 40, sealed.len() - 1] {
            let mut changed = sealed.clone();
            changed[byte] ^= 1;
            assert_eq!(incoming.unprotect_rtp(&mut changed), Err(SrtpError::BadTag), "{suite:?} byte {byte}");
        }
        for len in 0..28 {
            assert!(incoming.unprotect_rtp(&mut sealed[..len.min(sealed.len())].to_vec()).is_err());
        }
        assert!(incoming.rtp.find(1).is_none(), "nothing was learnt");
        assert!(incoming.unprotect_rtp(&mut sealed.clone()).is_ok());
        assert_eq!(incoming.unprotect_rtp(&mut sealed.clone()), Err(SrtpError::Replayed));
    }
}

#[test]
fn reordered_packets_are_taken_within_the_window_and_not_beyond() {
    let (mut outgoing, mut incoming) = session(&keys(SrtpSuite::AesCm128HmacSha1_80)).unwrap();
    let sealed: Vec<_> = (0..100).map(|n| protect(&mut outgoing, &voice(1, n))).collect();
    assert!(incoming.unprotect_rtp(&mut sealed[0].clone()).is_ok());
    assert!(incoming.unprotect_rtp(&mut sealed[99].clone()).is_ok());
    assert!(incoming.unprotect_rtp(&mut sealed[36].clone()).is_ok());
    assert_eq!(incoming.unprotect_rtp(&mut sealed[35].clone()), Err(SrtpError::Replayed));
    assert_eq!(incoming.unprotect_rtp(&mut sealed[36].clone()), Err(SrtpError::Replayed));
}

#[test]
fn under_a_new_key_a_source_goes_on_counting_rollovers_or_begins_at_zero() {
    for (suite, _) in SUITES {
        for goes_on in [true, false] {
            let (mut outgoing, mut incoming) = session(&keys(suite)).unwrap();
            for n in 0..10u16 {
                let mut sealed = protect(&mut outgoing, &voice(1, 65_530u16.wrapping_add(n)));
                incoming.unprotect_rtp(&mut sealed).unwrap();
            }
            let (key, salt) = suite.key_and_salt_len();
            let renewed = vec![9; key + salt];
            let mut next = Outgoing::new(suite, &renewed).unwrap();
            if goes_on {
                next.rtp = outgoing.rtp;
            }
            let mut opener = Incoming::new(suite, &renewed).unwrap();
            opener.follow(&incoming);
            let former = protect(&mut outgoing, &voice(1, 10));
            assert_eq!(opener.unprotect_rtp(&mut former.clone()), Err(SrtpError::BadTag), "{suite:?}");
            for n in 20..30 {
                let sealed = protect(&mut next, &voice(1, n));
                let mut opened = sealed.clone();
                let len = opener.unprotect_rtp(&mut opened).unwrap();
                assert_eq!(opened[..len], voice(1, n), "{suite:?} goes on: {goes_on}");
                assert_eq!(opener.unprotect_rtp(&mut sealed.clone()), Err(SrtpError::Replayed));
            }
        }
    }
}

#[test]
fn no_number_protects_two_packets_and_one_that_comes_late_within_the_window_has_its_own() {
    for (suite, _) in SUITES {
        let (mut outgoing, mut incoming) = session(&keys(suite)).unwrap();
        let mut try_protect = |sequence: u16| {
            let mut buffer = voice(1, sequence);
            let len = buffer.len();
            buffer.resize(len + MAX_TRAILER, 0);
            outgoing.protect_rtp(&mut buffer, len).map(|len| buffer[..len].to_vec())
        };
        let used = Err(SrtpError::Replayed);
        for sequence in [65_500, 65_510, 65_509, 20, 65_530, 20_000] {
            let mut sealed = try_protect(sequence).unwrap();
            incoming.unprotect_rtp(&mut sealed).unwrap();
            assert_eq!(try_protect(sequence), used, "{suite:?} {sequence}");
        }
        assert_eq!(try_protect(20_000 - 64), used, "so far back it may have been used");
        assert_eq!(try_protect(20), used);
        assert!(try_protect(20_000 - 63).is_ok());
    }
}

#[test]
fn a_flood_of_claimed_sources_takes_no_memory_and_pushes_nobody_out() {
    let (mut outgoing, mut incoming) = session(&keys(SrtpSuite::AeadAes128Gcm)).unwrap();
    assert!(incoming.unprotect_rtp(&mut protect(&mut outgoing, &voice(1, 65_535))).is_ok());
    for stray in 0..1000 {
        let mut forged = [voice(stray + 100, 5), vec![0; 16]].concat();
        assert_eq!(incoming.unprotect_rtp(&mut forged), Err(SrtpError::BadTag));
    }
    assert!(
        incoming.unprotect_rtp(&mut protect(&mut outgoing, &voice(1, 0))).is_ok(),
        "the rollover is remembered"
    );
}

#[test]
fn srtcp_that_claims_not_to_be_encrypted_is_refused() {
    for (suite, _) in SUITES {
        let (mut outgoing, mut incoming) = session(&keys(suite)).unwrap();
        let report = sender_report(3);
        let mut buffer = report.clone();
        buffer.resize(report.len() + MAX_TRAILER, 0);
        let len = outgoing.protect_rtcp(&mut buffer, report.len()).unwrap();
        buffer.truncate(len);
        let at = incoming.keys.rtcp_index_at(len);
        buffer[at] &= 0x7f;
        assert_eq!(incoming.unprotect_rtcp(&mut buffer), Err(SrtpError::BadTag), "{suite:?}");
    }
}

#[test]
fn a_key_of_the_wrong_length_is_refused() {
    let mut keys = keys(SrtpSuite::AeadAes256Gcm);
    keys.remote.pop();
    assert_eq!(session(&keys).err(), Some(SrtpError::KeyLength));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120), rtcp: bool) {
        for (suite, _) in SUITES {
            let (_, mut incoming) = session(&keys(suite)).unwrap();
            let mut packet = bytes.clone();
            let opened = if rtcp { incoming.unprotect_rtcp(&mut packet) } else { incoming.unprotect_rtp(&mut packet) };
            prop_assert!(opened.is_err());
        }
    }
}
