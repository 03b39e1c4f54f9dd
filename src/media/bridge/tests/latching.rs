//! Where a leg with latching is taken to be: after a stray packet, a change of address, a hold.

use super::*;

fn latching() -> LegConfig {
    LegConfig { latch: true, ..config(AudioCodec::Opus) }
}

fn packet_of(header: RtpHeader, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; payload.len() + 12];
    header.write(payload, &mut bytes).unwrap();
    bytes
}

fn reconfigure(call: &mut Call, config: LegConfig) {
    call.a.configure(config, call.now).unwrap();
    join(&mut call.a, &mut call.b);
}

/// Where the trunk's voice goes now.
fn reached(call: &mut Call, trunk: &mut Talker) -> SocketAddr {
    trunk.say(call, 160, &[0xd5; 160]);
    call.at_a.last().unwrap().to
}

#[test]
fn a_stray_packet_before_the_first_of_the_app_does_not_take_the_call() {
    let mut call = Call::new(latching(), config(AudioCodec::Pcma));
    let (mut app, mut trunk) = (Talker::new(Side::A, 111), Talker::new(Side::B, 8));
    let (stray, real) = (at("203.0.113.66:1"), at("203.0.113.5:40000"));
    let packets = opus_speech(50, 0);
    let header = RtpHeader { payload_type: 111, marker: false, sequence: 7, timestamp: 9, ssrc: 0xbad };
    call.arrive(Side::A, stray, &packet_of(header, &packets[0]));
    for (n, packet) in packets.iter().enumerate() {
        call.until(20 * MS * (n as u32 + 1));
        call.arrive(Side::A, real, &packet_of(app.next(960), packet));
    }
    let report = call.a.report();
    assert_eq!(report.packets_received, 1 + 48, "two of the app's packets are its proof");
    assert_eq!(report.packets_discarded, 2);
    assert_eq!(reached(&mut call, &mut trunk), real);
    let before = call.a.report().packets_discarded;
    call.arrive(Side::A, stray, &packet_of(RtpHeader { sequence: 8, ..header }, &packets[0]));
    assert_eq!(call.a.report().packets_discarded, before + 1, "strict from then on");
}

#[test]
fn nobody_goes_on_for_an_app_that_has_sent_one_packet() {
    let mut call = Call::new(latching(), config(AudioCodec::Pcma));
    let (mut app, mut trunk) = (Talker::new(Side::A, 111), Talker::new(Side::B, 8));
    let (stranger, real) = (at("203.0.113.66:1"), at("203.0.113.5:40000"));
    let packets = opus_speech(3, 0);
    call.arrive(Side::A, real, &packet_of(app.next(960), &packets[0]));
    call.until(20 * MS);
    call.arrive(Side::A, stranger, &packet_of(app.header(), &packets[1]));
    assert_eq!(call.a.report().packets_discarded, 1);
    call.arrive(Side::A, real, &packet_of(app.next(960), &packets[1]));
    assert_eq!(call.a.report().packets_received, 2);
    assert_eq!(reached(&mut call, &mut trunk), real);
}

#[test]
fn an_app_that_sends_from_its_old_address_until_it_has_our_answer_is_followed_to_the_new_one() {
    for announced in ["198.51.100.7:4100", "10.0.0.7:4100"] {
        let mut call = Call::new(latching(), config(AudioCodec::Pcma));
        let (mut app, mut trunk) = (Talker::new(Side::A, 111), Talker::new(Side::B, 8));
        let (old, new) = (at("203.0.113.5:40000"), at("198.51.100.7:4100"));
        for (n, packet) in opus_speech(100, 0).iter().enumerate() {
            call.until(20 * MS * n as u32);
            if n == 50 {
                reconfigure(&mut call, LegConfig { remote_rtp: at(announced), ..latching() });
            }
            // Our 200 is on its way for 100 ms.
            let from = if n < 55 { old } else { new };
            call.arrive(Side::A, from, &packet_of(app.next(960), packet));
        }
        let report = call.a.report();
        assert_eq!((report.packets_received, report.packets_discarded), (100, 0), "{announced}: no gap");
        assert_eq!(reached(&mut call, &mut trunk), new, "{announced}");
    }
}

#[test]
fn an_app_whose_sdp_alone_has_changed_is_reached_again_after_a_second() {
    let mut call = Call::new(latching(), config(AudioCodec::Pcma));
    let (mut app, mut trunk) = (Talker::new(Side::A, 111), Talker::new(Side::B, 8));
    let real = at("203.0.113.5:40000");
    for (n, packet) in opus_speech(110, 0).iter().enumerate() {
        call.until(20 * MS * n as u32);
        if n == 50 {
            reconfigure(&mut call, LegConfig { remote_rtp: at("10.8.0.2:4000"), ..latching() });
        }
        call.arrive(Side::A, real, &packet_of(app.next(960), packet));
    }
    assert_eq!(call.a.report().packets_received, 110);
    assert_eq!(reached(&mut call, &mut trunk), real);
}

#[test]
fn an_app_that_goes_on_sending_while_it_holds_the_old_way_is_reached_as_soon_as_it_is_back() {
    let mut call = Call::new(latching(), config(AudioCodec::Pcma));
    let (mut app, mut trunk) = (Talker::new(Side::A, 111), Talker::new(Side::B, 8));
    let real = at("203.0.113.5:40000");
    for (n, packet) in opus_speech(160, 0).iter().enumerate() {
        call.until(20 * MS * n as u32);
        match n {
            50 => {
                let (remote_rtp, direction) = (at("0.0.0.0:4000"), MediaDirection::RecvOnly);
                reconfigure(&mut call, LegConfig { remote_rtp, direction, ..latching() });
            }
            150 => reconfigure(&mut call, latching()),
            _ => {}
        }
        call.arrive(Side::A, real, &packet_of(app.next(960), packet));
        if !(50..150).contains(&n) {
            let to = reached(&mut call, &mut trunk);
            assert_eq!(to, real, "packet {n} of the trunk");
        }
    }
    assert_eq!(call.a.report().packets_received, 160);
}

#[test]
fn who_floods_the_port_of_an_app_on_hold_does_not_get_its_call() {
    for direction in [MediaDirection::Inactive, MediaDirection::RecvOnly] {
        let mut call = Call::new(latching(), config(AudioCodec::Pcma));
        let (mut app, mut trunk) = (Talker::new(Side::A, 111), Talker::new(Side::B, 8));
        let (stranger, real) = (at("203.0.113.66:1"), at("203.0.113.5:40000"));
        let packets = opus_speech(300, 0);
        let mut other = Talker { ssrc: 0xbad, ..Talker::new(Side::A, 111) };
        for (n, packet) in packets.iter().enumerate() {
            call.until(20 * MS * n as u32);
            match n {
                50 => reconfigure(&mut call, LegConfig { direction, ..latching() }),
                250 => reconfigure(&mut call, latching()),
                _ => {}
            }
            if !(50..250).contains(&n) {
                call.arrive(Side::A, real, &packet_of(app.next(960), packet));
            } else {
                call.arrive(Side::A, stranger, &packet_of(other.next(960), packet));
            }
        }
        let report = call.a.report();
        assert_eq!((report.packets_received, report.packets_discarded), (100, 200), "{direction:?}");
        assert_eq!(reached(&mut call, &mut trunk), real);
    }
}

#[test]
fn nothing_is_sent_before_an_app_that_named_no_place_has_spoken() {
    let nowhere = LegConfig { remote_rtp: at("0.0.0.0:4000"), remote_rtcp: at("0.0.0.0:4001"), ..latching() };
    let mut call = Call::new(nowhere, config(AudioCodec::Pcma));
    let (mut app, mut trunk) = (Talker::new(Side::A, 111), Talker::new(Side::B, 8));
    for n in 0..100u32 {
        call.until(20 * MS * n);
        trunk.say(&mut call, 160, &[0xd5; 160]);
    }
    assert!(call.at_a.is_empty() && call.rtcp_at_a.is_empty());
    assert_eq!(call.a.report().packets_sent, 0);
    let real = at("203.0.113.5:40000");
    call.arrive(Side::A, real, &packet_of(app.next(960), &opus_speech(1, 0)[0]));
    assert_eq!(reached(&mut call, &mut trunk), real);
}
