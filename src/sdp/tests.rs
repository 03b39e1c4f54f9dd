//! Offer and answer against descriptions of real stacks.

use super::agreement::*;
use super::offer_answer::Local;
use super::samples;
use super::sdes::Crypto;
use super::session::{
    Address, MAX_ATTRIBUTES, MAX_BYTES, MAX_FORMATS, MAX_MEDIA, MediaKind, Profile, SdpError, Session,
};
use crate::types::{AudioCodec, MediaDirection, SrtpSuite};
use proptest::prelude::*;

fn random(bytes: &mut [u8]) {
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = i as u8 + 1;
    }
}

fn session(text: &str) -> Session {
    Session::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn plain() -> Capability {
    Capability::new("203.0.113.1:20000".parse().unwrap())
}

fn g711() -> Capability {
    Capability { codecs: vec![AudioCodec::Pcma, AudioCodec::Pcmu], ..plain() }
}

fn secure() -> Capability {
    Capability { srtp: SrtpPolicy::Sdes, ..plain() }
}

/// The same at the other end of the line.
fn elsewhere(capability: Capability) -> Capability {
    Capability { address: "203.0.113.2:20000".parse().unwrap(), ..capability }
}

fn answer(capability: Capability, offer: &str) -> Result<(Session, Negotiated), Refusal> {
    let (text, negotiated) = Local::new(1, capability).answer(&session(offer), &mut random)?;
    Ok((session(&text), negotiated))
}

/// Changes one thing of a sample, and insists that it was there.
fn with(sample: &str, from: &str, to: &str) -> String {
    assert!(sample.contains(from), "{from} is not in the sample");
    sample.replace(from, to)
}

fn ports(session: &Session) -> Vec<u16> {
    session.medias().map(|m| m.port()).collect()
}

#[test]
fn every_sample_is_read_and_written_back_the_same() {
    for sample in samples::ALL {
        assert_eq!(session(&session(sample).to_string()), session(sample));
    }
}

#[test]
fn linphone_gets_opus_with_events_at_its_clock_rate_and_no_video() {
    let (ours, n) = answer(plain(), samples::LINPHONE).unwrap();
    assert_eq!((n.codec, n.send_payload_type, n.receive_payload_type), (AudioCodec::Opus, 96, 96));
    let event = DtmfFormat { send_payload_type: 101, receive_payload_type: 101, clock_rate: 48_000 };
    assert_eq!(n.dtmf, Some(event));
    assert_eq!(n.remote_rtp, "198.51.100.23:7078".parse().unwrap());
    assert_eq!(n.remote_rtcp, "198.51.100.23:7079".parse().unwrap());
    assert!(n.opus_fmtp.useinbandfec);
    assert_eq!(ports(&ours), [20000, 0]);
    let audio = ours.medias().next().unwrap();
    assert_eq!(audio.protocol(), "RTP/AVPF", "an answer repeats the profile");
    assert_eq!(ours.medias().nth(1).unwrap().kind(), MediaKind::Video);
}

#[test]
fn the_longest_packet_an_app_takes_is_known() {
    let longest = |offer: &str| answer(plain(), offer).unwrap().1.opus_fmtp.max_ptime_ms;
    assert_eq!(longest(samples::BARESIP), 60, "nothing said");
    for (said, taken) in [("20", 20), ("40", 40), ("120", 60), ("3", 10)] {
        let offer = with(samples::BARESIP, "a=ptime:20", &format!("a=maxptime:{said}\r\na=ptime:20"));
        assert_eq!(longest(&offer), taken, "{said}");
    }
}

#[test]
fn baresip_gets_opus_with_the_events_it_has() {
    let (_, n) = answer(plain(), samples::BARESIP).unwrap();
    assert_eq!(n.codec, AudioCodec::Opus);
    assert_eq!(n.dtmf.unwrap().clock_rate, 8_000);
    assert_eq!(n.opus_fmtp.maxaveragebitrate, Some(28_000));
    assert_eq!(n.remote_rtcp.port(), 17231);
}

#[test]
fn operators_get_g711_and_our_order_decides() {
    for (sample, address) in [
        (samples::ASTERISK, "192.0.2.10:14060"),
        (samples::CISCO, "192.0.2.33:16994"),
        (samples::TWILIO, "54.172.60.2:12366"),
    ] {
        let (ours, n) = answer(g711(), sample).unwrap();
        assert_eq!((n.codec, n.send_payload_type), (AudioCodec::Pcma, 8));
        assert_eq!(n.remote_rtp, address.parse().unwrap());
        assert_eq!(n.dtmf.unwrap().send_payload_type, 101);
        assert_eq!(n.ptime_ms, 20);
        assert_eq!(ours.medias().next().unwrap().payloads().len(), 2, "one codec and events");
    }
    let mulaw = Capability { codecs: vec![AudioCodec::Pcmu], ..plain() };
    assert_eq!(answer(mulaw, samples::ASTERISK).unwrap().1.codec, AudioCodec::Pcmu);
}

#[test]
fn comfort_noise_is_agreed_beside_g711_where_both_want_it_and_never_otherwise() {
    let willing = Capability { comfort_noise: true, ..g711() };
    let has_noise = |session: &Session| {
        session.medias().next().unwrap().payloads().iter().any(|payload| payload.number == 13)
    };
    let offers_noise = with(samples::ASTERISK, "RTP/AVP 8", "RTP/AVP 8 13");
    for (capability, offer, agreed) in [
        (willing.clone(), &offers_noise, true),
        (g711(), &offers_noise, false),
        (willing.clone(), &samples::ASTERISK.to_owned(), false),
        (Capability { comfort_noise: true, ..plain() }, &samples::LINPHONE.to_owned(), false),
    ] {
        let (ours, n) = answer(capability, offer).unwrap();
        assert_eq!((has_noise(&ours), n.comfort_noise), (agreed, agreed), "{offer}");
    }
    for (theirs, agreed) in [(willing.clone(), true), (g711(), false)] {
        let mut local = Local::new(1, willing.clone());
        let offer = session(&local.offer(&mut random));
        assert!(has_noise(&offer));
        let (answer, _) = Local::new(2, elsewhere(theirs)).answer(&offer, &mut random).unwrap();
        let n = local.accept(&session(&answer)).unwrap();
        assert_eq!((n.codec, n.comfort_noise), (AudioCodec::Pcma, agreed));
    }
}

#[test]
fn who_says_that_its_modem_speaks_or_that_silence_stays_is_believed() {
    let voice = "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n\
                 m=audio 4000 RTP/AVP 8 0 13\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:13 CN/8000\r\n";
    let willing = Capability { comfort_noise: true, ..g711() };
    for (line, clear, noise) in [
        ("", false, true),
        ("a=gpmd:8 vbd=yes\r\n", true, true),
        ("a=gpmd:8 x=1;vbd=YES\r\n", true, true),
        ("a=gpmd:0 vbd=yes\r\n", false, true),
        ("a=gpmd:8 vbd=no\r\n", false, true),
        ("a=gpmd:x\r\n", false, true),
        ("a=silenceSupp:off - - - -\r\n", false, false),
        ("a=silenceSupp:on - - - -\r\n", false, true),
    ] {
        let (_, n) = answer(willing.clone(), &format!("{voice}{line}")).unwrap();
        assert_eq!((n.clear, n.comfort_noise), (clear, noise), "{line}");
        let mut local = Local::new(1, willing.clone());
        local.offer(&mut random);
        let n = local.accept(&session(&format!("{voice}{line}"))).unwrap();
        assert_eq!((n.clear, n.comfort_noise), (clear, noise), "answered {line}");
    }
}

#[test]
fn what_nobody_shares_is_refused() {
    let opus = Capability { codecs: vec![AudioCodec::Opus], ..plain() };
    assert_eq!(answer(opus, samples::ASTERISK).unwrap_err(), Refusal::NoSharedCodec);
    assert_eq!(answer(plain(), samples::CHROME).unwrap_err(), Refusal::Profile);
    assert_eq!(answer(plain(), samples::LINPHONE_SRTP).unwrap_err(), Refusal::SrtpUnsupported);
    assert_eq!(answer(secure(), samples::ASTERISK).unwrap_err(), Refusal::SrtpRequired);
    assert_eq!(answer(plain(), samples::IPV6).unwrap_err(), Refusal::BadAddress);
    let stereo = with(samples::IPV6, "PCMA/8000", "PCMA/8000/2");
    let six =
        |codec| Capability { codecs: vec![codec], ..Capability::new("[2001:db8::1]:20000".parse().unwrap()) };
    assert_eq!(answer(six(AudioCodec::Pcma), &stereo).unwrap_err(), Refusal::NoSharedCodec);
}

#[test]
fn fax_alone_is_refused_and_fax_beside_voice_gets_port_zero() {
    assert_eq!(answer(g711(), samples::T38).unwrap_err(), Refusal::NoAudio);
    let (ours, n) = answer(g711(), samples::AUDIO_AND_T38).unwrap();
    assert_eq!(ports(&ours), [0, 20000]);
    assert_eq!(n.remote_rtp.port(), 35002);
    let fax = ours.medias().next().unwrap();
    assert_eq!((fax.kind(), fax.protocol()), (MediaKind::Image, "udptl"));
}

#[test]
fn of_two_audio_streams_the_first_acceptable_one_is_taken() {
    let (ours, n) = answer(plain(), samples::SECURE_THEN_PLAIN).unwrap();
    assert_eq!((ports(&ours), n.remote_rtp.port(), n.srtp), (vec![0, 20000], 50002, None));
    let (ours, n) = answer(secure(), samples::SECURE_THEN_PLAIN).unwrap();
    assert_eq!((ports(&ours), n.remote_rtp.port()), (vec![20000, 0], 50000));
    assert_eq!(n.srtp.unwrap().suite, SrtpSuite::AesCm128HmacSha1_32);
}

#[test]
fn sdes_takes_the_first_suite_it_knows_and_repeats_its_tag() {
    let (ours, n) = answer(secure(), samples::LINPHONE_SRTP).unwrap();
    let keys = n.srtp.unwrap();
    assert_eq!(keys.suite, SrtpSuite::AesCm128HmacSha1_80);
    assert_eq!((&keys.remote[..4], keys.local.len()), (&b"YS__"[..], 30));
    let audio = ours.medias().next().unwrap();
    assert_eq!(audio.protocol(), "RTP/SAVPF");
    let lines: Vec<&str> = audio.attributes("crypto").collect();
    assert_eq!(lines.len(), 1);
    assert!(lines[0].starts_with("2 AES_CM_128_HMAC_SHA1_80 inline:"), "{}", lines[0]);
    let only_bad = with(samples::LINPHONE_SRTP, "a=crypto:", "a=crypto:x");
    assert_eq!(answer(secure(), &only_bad).unwrap_err(), Refusal::BadCrypto);
}

#[test]
fn the_suites_of_a_leg_are_offered_in_their_order_and_only_they_are_taken() {
    let suites =
        vec![SrtpSuite::AeadAes256Gcm, SrtpSuite::AesCm256HmacSha1_80, SrtpSuite::AesCm128HmacSha1_32];
    let strict = Capability { suites: suites.clone(), ..secure() };
    let offer = session(&Local::new(1, strict.clone()).offer(&mut random));
    let lines: Vec<Crypto> = offer
        .medias()
        .flat_map(|audio| audio.attributes("crypto").map(str::to_owned).collect::<Vec<_>>())
        .map(|line| Crypto::parse(&line).unwrap())
        .collect();
    assert_eq!(lines.iter().map(|line| line.suite).collect::<Vec<_>>(), suites);
    assert_eq!(lines.iter().map(|line| line.tag).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(lines.iter().enumerate().all(|(i, line)| lines[..i].iter().all(|other| other.key != line.key)));
    // The offer's order decides among what is taken (RFC 4568 §5.1.2).
    let (_, n) = Local::new(2, elsewhere(Capability { suites: SrtpSuite::ALL.to_vec(), ..secure() }))
        .answer(&offer, &mut random)
        .unwrap();
    assert_eq!(n.srtp.unwrap().suite, SrtpSuite::AeadAes256Gcm);
    let (ours, n) = Local::new(2, elsewhere(secure())).answer(&offer, &mut random).unwrap();
    assert_eq!(n.srtp.unwrap().suite, SrtpSuite::AesCm128HmacSha1_32);
    assert!(ours.contains("a=crypto:3 AES_CM_128_HMAC_SHA1_32 inline:"), "{ours}");
    let other = elsewhere(Capability { suites: vec![SrtpSuite::AeadAes128Gcm], ..secure() });
    assert_eq!(Local::new(2, other).answer(&offer, &mut random).unwrap_err(), Refusal::BadCrypto);
}

#[test]
fn an_answer_takes_up_one_line_of_the_offer_by_tag_and_suite() {
    let key = |suite: SrtpSuite| {
        let (key, salt) = suite.key_and_salt_len();
        Crypto { tag: 0, suite, key: vec![9; key + salt], mki: Vec::new() }
    };
    for (tag, suite, taken) in [
        (1, SrtpSuite::AesCm128HmacSha1_80, true),
        (2, SrtpSuite::AesCm128HmacSha1_32, true),
        (2, SrtpSuite::AesCm128HmacSha1_80, false),
        (3, SrtpSuite::AesCm128HmacSha1_80, false),
        (0, SrtpSuite::AesCm128HmacSha1_80, false),
        (1, SrtpSuite::AeadAes128Gcm, false),
    ] {
        let mut local = Local::new(1, secure());
        local.offer(&mut random);
        let line = Crypto { tag, ..key(suite) }.to_value();
        let answer = format!(
            "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n\
             m=audio 4000 RTP/SAVP 8\r\na=rtpmap:8 PCMA/8000\r\na=crypto:{line}\r\n"
        );
        let accepted = local.accept(&session(&answer));
        assert_eq!(accepted.is_ok(), taken, "{tag} {suite:?}: {accepted:?}");
    }
}

#[test]
fn a_key_identifier_is_answered_with_one_and_stays_with_our_key() {
    let named = with(samples::LINPHONE_SRTP, "CnVubGVz", "CnVubGVz|2^31|7:2");
    assert!(named.contains("|7:2"), "{named}");
    let mut local = Local::new(1, secure());
    let (ours, n) = local.answer(&session(&named), &mut random).unwrap();
    let keys = n.srtp.unwrap();
    assert_eq!((&keys.local_mki[..], &keys.remote_mki[..]), (&[0, 7][..], &[0, 7][..]));
    assert!(ours.contains("|7:2"), "{ours}");
    let again = local.offer(&mut random);
    assert!(again.contains("|7:2"), "the key stays, and so does its identifier: {again}");
    let (_, plain) = answer(secure(), samples::LINPHONE_SRTP).unwrap();
    assert!(plain.srtp.is_some_and(|keys| keys.local_mki.is_empty() && keys.remote_mki.is_empty()));
}

#[test]
fn optional_srtp_is_used_where_required_and_ignored_where_off() {
    let (ours, n) = answer(secure(), samples::BARESIP_OPTIONAL_SRTP).unwrap();
    assert!(n.srtp.is_some());
    assert_eq!(ours.medias().next().unwrap().protocol(), "RTP/AVP");
    let (ours, n) = answer(plain(), samples::BARESIP_OPTIONAL_SRTP).unwrap();
    assert!(n.srtp.is_none());
    assert_eq!(ours.medias().next().unwrap().attributes("crypto").count(), 0);
}

#[test]
fn ipv6_is_spoken() {
    let capability = Capability::new("[2001:db8::1]:20000".parse().unwrap());
    let (ours, n) = answer(capability, samples::IPV6).unwrap();
    assert_eq!(n.remote_rtp, "[2001:db8::5]:30000".parse().unwrap());
    assert!(ours.to_string().contains("c=IN IP6 2001:db8::1\r\n"));
    assert_eq!(session(samples::IPV6).audio_address(), Some("2001:db8::5".parse().unwrap()));
}

#[test]
fn all_forms_of_hold_are_understood() {
    use MediaDirection::*;
    for (line, ours) in
        [("sendrecv", SendRecv), ("sendonly", RecvOnly), ("recvonly", SendOnly), ("inactive", Inactive)]
    {
        let (text, n) = answer(g711(), &with(samples::ASTERISK, "a=sendrecv", &format!("a={line}"))).unwrap();
        assert_eq!(n.direction, ours);
        assert_eq!(text.medias().next().unwrap().direction(), ours);
        // The session's word counts where the stream has none.
        let above = with(samples::ASTERISK, "a=sendrecv\r\n", "")
            .replace("t=0 0\r\n", &format!("t=0 0\r\na={line}\r\n"));
        assert_eq!(answer(g711(), &above).unwrap().1.direction, ours);
    }
    let old = with(samples::ASTERISK, "c=IN IP4 192.0.2.10", "c=IN IP4 0.0.0.0");
    let n = answer(g711(), &old).unwrap().1;
    assert!(n.on_hold_address && !n.direction.sends() && n.direction.receives());
    assert_eq!(n.remote_rtp, "0.0.0.0:14060".parse().unwrap());
    assert!(!answer(g711(), samples::ASTERISK).unwrap().1.on_hold_address);
}

#[test]
fn voip_metrics_are_asked_for_and_noticed_where_the_far_side_asks() {
    let asks = |line: &str| {
        let offer = with(samples::ASTERISK, "a=sendrecv", &format!("a=sendrecv\r\n{line}"));
        let (ours, negotiated) = answer(g711(), &offer).unwrap();
        assert_eq!(ours.medias().next().unwrap().attribute("rtcp-xr"), Some("voip-metrics"));
        negotiated.voip_metrics
    };
    assert!(asks("a=rtcp-xr:voip-metrics"));
    assert!(asks("a=rtcp-xr:rcvr-rtt=all:10000 stat-summary=loss,dup,jitt,TTL voip-metrics"));
    assert!(!asks("a=rtcp-xr:stat-summary=loss"));
    assert!(!asks("a=rtcp-xr"));
    assert!(!asks("a=x-none"));
    let above = samples::ASTERISK.replace("t=0 0\r\n", "t=0 0\r\na=rtcp-xr:voip-metrics\r\n");
    assert!(answer(g711(), &above).unwrap().1.voip_metrics, "said for the whole session");
}

#[test]
fn our_own_hold_meets_theirs() {
    use MediaDirection::*;
    let held = |offer: &str| answer(Capability { direction: SendOnly, ..g711() }, offer).unwrap().1.direction;
    assert_eq!(held(samples::ASTERISK), SendOnly);
    assert_eq!(held(&with(samples::ASTERISK, "a=sendrecv", "a=sendonly")), Inactive);
}

#[test]
fn addresses_that_no_packet_should_go_to_are_refused() {
    for bad in ["224.2.1.1/127", "255.255.255.255", "sbc.example.org", "2001:db8::1"] {
        let offer = with(samples::ASTERISK, "c=IN IP4 192.0.2.10", &format!("c=IN IP4 {bad}"));
        assert_eq!(answer(g711(), &offer).unwrap_err(), Refusal::BadAddress, "{bad}");
    }
    let none = with(samples::ASTERISK, "c=IN IP4 192.0.2.10\r\n", "");
    assert_eq!(answer(g711(), &none).unwrap_err(), Refusal::BadAddress);
}

#[test]
fn a_loopback_address_is_reached_from_its_own_machine_alone() {
    let told = |loopback| {
        let offer = with(samples::ASTERISK, "c=IN IP4 192.0.2.10", "c=IN IP4 127.0.0.1");
        answer(Capability { loopback, ..g711() }, &offer).map(|(_, negotiated)| negotiated)
    };
    assert_eq!(told(Loopback::Reached).unwrap().remote_rtp, "127.0.0.1:14060".parse().unwrap());
    assert_eq!(told(Loopback::Refused).unwrap_err(), Refusal::BadAddress);
    let unknown = told(Loopback::Unknown).unwrap();
    assert_eq!(unknown.remote_rtp, "0.0.0.0:14060".parse().unwrap());
    assert_eq!(unknown.remote_rtcp, "0.0.0.0:14061".parse().unwrap());
    assert_eq!((unknown.direction, unknown.on_hold_address), (MediaDirection::SendRecv, false));
    // Who is elsewhere is no worse off for it, and its RTCP goes to no other place than it may name for its voice.
    let beside = with(samples::ASTERISK, "a=sendrecv", "a=rtcp:9 IN IP4 127.0.0.1\r\na=sendrecv");
    let refused = Capability { loopback: Loopback::Refused, ..g711() };
    assert_eq!(answer(refused, &beside).unwrap().1.remote_rtcp, "192.0.2.10:9".parse().unwrap());
}

#[test]
fn our_own_port_is_nobody_elses() {
    let mut local = Local::new(1, g711());
    let mirror = session(&local.offer(&mut random));
    assert_eq!(local.accept(&mirror).unwrap_err(), AnswerError::BadAddress);
    assert_eq!(local.answer(&mirror, &mut random).unwrap_err(), Refusal::BadAddress);
}

#[test]
fn a_wish_for_packet_length_is_honoured_within_reason() {
    for (wish, g711_ms, opus_ms) in [
        ("10", 10, 10),
        ("30", 30, 20),
        ("40", 40, 40),
        ("60", 60, 60),
        ("4294967295", 60, 60),
        ("0", 20, 20),
        ("-1", 20, 20),
        ("x", 20, 20),
    ] {
        let offer = with(samples::BARESIP, "a=ptime:20", &format!("a=ptime:{wish}"));
        assert_eq!(answer(g711(), &offer).unwrap().1.ptime_ms, g711_ms, "{wish}");
        assert_eq!(answer(plain(), &offer).unwrap().1.ptime_ms, opus_ms, "{wish}");
    }
    let bounded = with(samples::ASTERISK, "a=ptime:20\r\na=maxptime:140", "a=ptime:40\r\na=maxptime:30");
    assert_eq!(answer(g711(), &bounded).unwrap().1.ptime_ms, 30);
}

#[test]
fn no_packet_of_ours_is_longer_than_the_far_side_takes_whatever_we_would_send() {
    for (ours, most, g711_ms, opus_ms) in
        [(60, "20", 20, 20), (60, "50", 50, 40), (40, "120", 40, 40), (20, "10", 10, 10), (40, "0", 40, 40)]
    {
        let offer = with(samples::BARESIP, "a=ptime:20", &format!("a=maxptime:{most}"));
        let sent = |capability: Capability| {
            answer(Capability { ptime_ms: ours, ..capability }, &offer).unwrap().1.ptime_ms
        };
        assert_eq!((sent(g711()), sent(plain())), (g711_ms, opus_ms), "{ours} ms, and it takes {most}");
    }
}

#[test]
fn our_offer_is_accepted_by_our_answer() {
    for capability in [plain(), g711(), secure(), Capability { rtcp_mux: true, ..plain() }] {
        let mut a = Local::new(1, capability.clone());
        let there = "198.51.100.2:40000".parse().unwrap();
        let mut b = Local::new(2, Capability { address: there, rtcp_port: 40_001, ..capability.clone() });
        let offer = a.offer(&mut random);
        let (text, theirs) = b.answer(&session(&offer), &mut |key: &mut [u8]| key.fill(9)).unwrap();
        let ours = a.accept(&session(&text)).unwrap();
        assert_eq!(ours, a.accept(&session(&text)).unwrap(), "183 and 200 may carry the same answer");
        assert_eq!((ours.codec, ours.dtmf), (theirs.codec, theirs.dtmf));
        assert_eq!(ours.dtmf.unwrap().clock_rate, ours.codec.clock_rate());
        assert_eq!((ours.remote_rtp, theirs.remote_rtp), (there, capability.address));
        assert_eq!(ours.rtcp_mux, capability.rtcp_mux);
        if capability.rtcp_mux {
            assert_eq!(ours.remote_rtcp, ours.remote_rtp);
        }
        match (ours.srtp, theirs.srtp) {
            (Some(ours), Some(theirs)) => {
                assert_eq!((&ours.local, &ours.remote), (&theirs.remote, &theirs.local));
                assert_ne!(ours.local, ours.remote);
            }
            (None, None) => assert_eq!(capability.srtp, SrtpPolicy::Off),
            (ours, theirs) => panic!("{ours:?} {theirs:?}"),
        }
    }
}

#[test]
fn an_answer_with_its_own_payload_types_is_followed() {
    let mut local = Local::new(1, plain());
    let offer = local.offer(&mut random);
    assert!(offer.contains("m=audio 20000 RTP/AVP 96 8 0 100 101\r\n"), "{offer}");
    let answer = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 9000 RTP/AVP 111 110\r\n\
        a=rtpmap:111 OPUS/48000/2\r\na=rtpmap:110 telephone-event/48000\r\n";
    let n = local.accept(&session(answer)).unwrap();
    assert_eq!((n.send_payload_type, n.receive_payload_type), (111, 96));
    let event = DtmfFormat { send_payload_type: 110, receive_payload_type: 100, clock_rate: 48_000 };
    assert_eq!(n.dtmf, Some(event));
    let unmapped = answer.replace("a=rtpmap:111 OPUS/48000/2\r\n", "").replace("111", "96");
    assert_eq!(local.accept(&session(&unmapped)).unwrap().codec, AudioCodec::Opus);
}

#[test]
fn an_answer_with_both_laws_of_g711_lets_its_sender_speak_either() {
    let both = Capability { codecs: vec![AudioCodec::Pcma, AudioCodec::Pcmu], ..plain() };
    let one = Capability { codecs: vec![AudioCodec::Pcma], ..plain() };
    for (capability, payloads, agreed) in [
        (&both, "8 0 101", (AudioCodec::Pcma, Some(0))),
        (&both, "0 101 8", (AudioCodec::Pcmu, Some(8))),
        (&both, "8 101", (AudioCodec::Pcma, None)),
        (&one, "8 0 101", (AudioCodec::Pcma, None)),
    ] {
        let mut local = Local::new(1, capability.clone());
        local.offer(&mut random);
        let answer = with(samples::ASTERISK, "RTP/AVP 8 0 101", &format!("RTP/AVP {payloads}"));
        let n = local.accept(&session(&answer)).unwrap();
        assert_eq!((n.codec, n.other_law), agreed, "{payloads}");
    }
    // An answer of ours has one voice.
    assert_eq!(answer(both, samples::ASTERISK).unwrap().1.other_law, None);
}

#[test]
fn answers_that_do_not_fit_the_offer_are_refused() {
    let mut local = Local::new(1, g711());
    assert_eq!(local.accept(&session(samples::ASTERISK)).unwrap_err(), AnswerError::NoOffer);
    local.offer(&mut random);
    assert!(local.accept(&session(samples::ASTERISK)).is_ok());
    for (answer, why) in [
        (with(samples::ASTERISK, "m=audio 14060", "m=audio 0"), AnswerError::AudioRefused),
        (with(samples::ASTERISK, "m=audio", "m=video"), AnswerError::NoAudio),
        (with(samples::ASTERISK, "RTP/AVP 8 0 101", "RTP/AVP 18"), AnswerError::CodecNotOffered),
        (with(samples::ASTERISK, "RTP/AVP 8 0 101", "RTP/AVP 101"), AnswerError::CodecNotOffered),
        (with(samples::ASTERISK, "RTP/AVP", "RTP/SAVP"), AnswerError::Profile),
        (with(samples::ASTERISK, "c=IN IP4 192.0.2.10", "c=IN IP4 x"), AnswerError::BadAddress),
        ("v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\n".to_owned(), AnswerError::NoAudio),
    ] {
        assert_eq!(local.accept(&session(&answer)).unwrap_err(), why, "{answer}");
    }
    let mut local = Local::new(1, secure());
    local.offer(&mut random);
    assert_eq!(local.accept(&session(samples::ASTERISK)).unwrap_err(), AnswerError::BadCrypto);
}

#[test]
fn a_re_offer_keeps_payload_types_keys_and_streams_and_raises_the_version_only_on_change() {
    let mut local = Local::new(77, secure());
    let (first, n) = local.answer(&session(samples::LINPHONE_SRTP), &mut random).unwrap();
    let again =
        local.answer(&session(samples::LINPHONE_SRTP), &mut |_: &mut [u8]| panic!("no new key")).unwrap();
    assert_eq!((&first, &n), (&again.0, &again.1));
    assert_eq!(local.last().unwrap(), first);
    assert_eq!(session(&first).origin(), ("77", 0));

    local.set_direction(MediaDirection::SendOnly);
    let hold = session(&local.offer(&mut |key: &mut [u8]| key.fill(7)));
    assert_eq!(hold.origin(), ("77", 1));
    let audio = hold.medias().next().unwrap();
    assert_eq!(audio.direction(), MediaDirection::SendOnly);
    let first_session = session(&first);
    let key_of = |line: &str| line.split("inline:").nth(1).unwrap().to_owned();
    let before = first_session.medias().next().unwrap().attributes("crypto").map(key_of).next();
    assert_eq!(audio.attributes("crypto").map(key_of).next(), before, "the running key is not changed");
    assert_eq!(audio.payloads()[0].number, 96);
}

#[test]
fn a_re_offer_keeps_refused_streams_and_never_rebinds_a_number() {
    let mut local = Local::new(1, plain());
    let theirs = with(samples::LINPHONE, "97 98 0 8 18 101 99 100", "97 98 0 101");
    let theirs = with(
        &theirs,
        "a=rtpmap:101 telephone-event/48000\r\na=rtpmap:99 telephone-event/16000\r\na=rtpmap:100 telephone-event/8000",
        "a=rtpmap:101 iLBC/8000",
    );
    local.answer(&session(&theirs), &mut random).unwrap();
    let offer = session(&local.offer(&mut random));
    assert_eq!(ports(&offer), [20000, 0]);
    let audio = offer.medias().next().unwrap();
    assert_eq!(audio.payloads()[0].encoding, "opus");
    assert!(audio.payloads().iter().all(|p| p.number != 101 && p.number != 97 && p.number != 98), "{offer}");
}

#[test]
fn a_refused_offer_changes_nothing() {
    let mut local = Local::new(1, g711());
    let (first, _) = local.answer(&session(samples::ASTERISK), &mut random).unwrap();
    assert_eq!(local.answer(&session(samples::T38), &mut random).unwrap_err(), Refusal::NoAudio);
    assert_eq!(local.answer(&session(samples::ASTERISK), &mut random).unwrap().0, first);
}

#[test]
fn the_codec_in_use_survives_a_re_offer_in_another_order() {
    let mut local = Local::new(1, g711());
    local.offer(&mut random);
    let mulaw = with(samples::ASTERISK, "RTP/AVP 8 0 101", "RTP/AVP 0 101");
    assert_eq!(local.accept(&session(&mulaw)).unwrap().codec, AudioCodec::Pcmu);
    assert_eq!(local.answer(&session(samples::ASTERISK), &mut random).unwrap().1.codec, AudioCodec::Pcmu);
    assert!(local.offer(&mut random).contains("RTP/AVP 0 8 101"));
}

#[test]
fn bombs_are_refused_before_they_cost_anything() {
    let head = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n";
    let parse = |text: String| Session::parse(text.as_bytes()).unwrap_err();
    assert_eq!(parse(" ".repeat(MAX_BYTES + 1)), SdpError::TooLarge(MAX_BYTES + 1));
    let medias = head.to_owned() + &"m=audio 0 RTP/AVP 0\r\n".repeat(MAX_MEDIA + 1);
    assert_eq!(parse(medias), SdpError::TooManyMedia(MAX_MEDIA + 1));
    let attributes = head.to_owned() + "m=audio 9 RTP/AVP 0\r\n" + &"a=x\r\n".repeat(MAX_ATTRIBUTES + 1);
    assert_eq!(parse(attributes), SdpError::TooManyAttributes(MAX_ATTRIBUTES + 1));
    let formats = format!("{head}m=audio 9 RTP/AVP{}\r\n", " 0".repeat(MAX_FORMATS + 1));
    assert_eq!(parse(formats), SdpError::TooManyFormats(MAX_FORMATS + 1));
    for text in [
        "",
        "hello",
        "v=0\r\nm=audio x RTP/AVP 0\r\n",
        "v=0\r\nm=audio 70000 RTP/AVP 0\r\n",
        "v=1\r\n",
        "\0\0",
    ] {
        assert!(matches!(Session::parse(text.as_bytes()), Err(SdpError::Malformed(_))), "{text:?}");
    }
}

#[test]
fn small_sins_of_real_stacks_are_forgiven() {
    let tail = samples::TWILIO.find("c=IN").unwrap();
    let latin1 = [
        &b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=T\xe9l\xe9phone\r\n"[..],
        &samples::TWILIO.as_bytes()[tail..],
    ]
    .concat();
    assert!(Session::parse(&latin1).is_ok());
    assert!(Session::parse(&[samples::ASTERISK.as_bytes(), b"\r\n\0"].concat()).is_ok());
    assert!(Session::parse(samples::ASTERISK.replace("\r\n", "\n").as_bytes()).is_ok());
    let cased = with(samples::ASTERISK, "PCMA/8000", "pcma/8000")
        .replace("m=audio", "m=Audio")
        .replace("RTP/AVP", "rtp/avp");
    assert_eq!(answer(g711(), &cased).unwrap().1.codec, AudioCodec::Pcma);
    let media = session(samples::CHROME);
    let audio = media.medias().next().unwrap();
    assert_eq!(
        (audio.profile(), audio.address()),
        (Profile::Dtls, Some(Address::Ip("203.0.113.7".parse().unwrap())))
    );
}

proptest! {
    #[test]
    fn no_body_makes_the_reader_panic(body in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Session::parse(&body);
    }

    /// Real descriptions, damaged: whatever still parses is answered by the rules.
    #[test]
    fn an_answer_mirrors_its_offer(
        sample in 0..samples::ALL.len(),
        cuts in proptest::collection::vec((0usize..900, 0usize..40, "[ -~]{0,6}"), 0..4),
        sdes in any::<bool>(),
    ) {
        let mut text = samples::ALL[sample].to_owned();
        for (at, len, insert) in cuts {
            let at = at.min(text.len());
            let end = (at + len).min(text.len());
            text.replace_range(at..end, &insert);
        }
        let Ok(offer) = Session::parse(text.as_bytes()) else { return Ok(()) };
        prop_assert_eq!(&Session::parse(offer.to_string().as_bytes()).unwrap().to_string(), &offer.to_string());
        let mut local = Local::new(1, if sdes { secure() } else { plain() });
        let Ok((answer, n)) = local.answer(&offer, &mut random) else { return Ok(()) };
        let answer = session(&answer);
        prop_assert_eq!(answer.medias().len(), offer.medias().len());
        prop_assert_eq!(answer.medias().filter(|m| m.port() != 0).count(), 1);
        for (ours, theirs) in answer.medias().zip(offer.medias()) {
            prop_assert_eq!(ours.protocol(), theirs.protocol());
            prop_assert_eq!(ours.kind(), theirs.kind());
            if ours.port() != 0 {
                for payload in ours.payloads() {
                    prop_assert!(theirs.payloads().iter().any(|p| p.number == payload.number));
                }
                prop_assert!(theirs.direction().receives() || !n.direction.sends());
                prop_assert!(theirs.direction().sends() || !n.direction.receives());
            }
        }
        prop_assert!((10..=60).contains(&n.ptime_ms));
        prop_assert_eq!(n.srtp.is_some(), sdes);
        prop_assert_eq!(n.on_hold_address, n.remote_rtp.ip().is_unspecified());
    }
}
