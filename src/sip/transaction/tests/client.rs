//! Requests of ours, as the wire and the transaction user see them.

use super::*;
use crate::sip::message::{Via, ViaTransport};
use crate::sip::transaction::ClientFailure;
use std::collections::HashSet;

/// Sends an INVITE over UDP and gives its key and bytes.
fn invite(layer: &mut TransactionLayer, now: Instant) -> (ClientKey, Vec<u8>) {
    let key = layer.send_request(now, udp(FAR), own_request(Method::Invite));
    (key, only_transmit(&drain(layer)))
}

#[test]
fn a_request_gets_our_via_with_rport_and_a_branch_of_its_own() {
    let (mut layer, now) = (layer(), Instant::now());
    let mut branches = HashSet::new();
    for _ in 0..2_000 {
        let (_, bytes) = invite(&mut layer, now);
        let via = request_of(&bytes).via().unwrap();
        assert_eq!(via.sent_by.to_string(), "198.51.100.1:5060");
        assert_eq!((via.transport.clone(), via.rport()), (ViaTransport::Known(Transport::Udp), Some(None)));
        let branch = via.branch().unwrap().to_owned();
        assert!(branch.starts_with("z9hG4bKgw1s0-"), "{branch}");
        assert!(branches.insert(branch));
    }
    let mut other = TransactionLayer::new(Timers::default(), Marks::new(8)).with_tag("gw1s0");
    let (_, bytes) = invite(&mut other, now);
    assert!(!branches.contains(request_of(&bytes).branch().unwrap()), "another seed, other branches");
}

#[test]
fn an_ipv6_peer_gets_an_ipv6_via() {
    let mut layer = layer();
    let local = "[2001:db8::1]:5060".parse().unwrap();
    layer.send_request(
        Instant::now(),
        Peer { local, ..tcp("[2001:db8::7]:5060") },
        own_request(Method::Options),
    );
    let via = request_of(&only_transmit(&drain(&mut layer))).via().unwrap();
    assert_eq!(via.sent_by.to_string(), "[2001:db8::1]:5060");
    assert_eq!(via.transport, ViaTransport::Known(Transport::Tcp));
}

#[test]
fn an_unanswered_invite_is_repeated_unchanged_and_then_fails() {
    let (mut layer, now) = (layer(), Instant::now());
    let (key, first) = invite(&mut layer, now);
    let outputs = run_out(&mut layer, now);
    let times: Vec<_> = outputs.iter().map(|(at, _)| *at).collect();
    assert_eq!(times, [500, 1500, 3500, 7500, 15500, 31500, 32000]);
    for (_, output) in &outputs[..6] {
        let Output::Transmit { bytes, retransmission: true, what, .. } = output else { panic!("{output:?}") };
        assert_eq!((bytes.as_ref(), what), (first.as_slice(), &(Method::Invite, None)));
    }
    assert_eq!(outputs[6].1, Output::Failed { key, failure: ClientFailure::TimedOut });
    assert_eq!((layer.active(), layer.counters().retransmitted), (0, 6));
}

#[test]
fn over_tcp_nothing_is_repeated() {
    let (mut layer, now) = (layer(), Instant::now());
    let keys = [Method::Invite, Method::Bye].map(|m| layer.send_request(now, tcp(FAR), own_request(m)));
    drain(&mut layer);
    let failed = |key| (32_000, Output::Failed { key, failure: ClientFailure::TimedOut });
    assert_eq!(run_out(&mut layer, now), keys.map(failed));
    assert_eq!(layer.active(), 0);
}

#[test]
fn provisional_responses_stop_repetitions_and_each_is_delivered() {
    let (mut layer, now) = (layer(), Instant::now());
    let (key, bytes) = invite(&mut layer, now);
    for status in [100, 180, 183, 180] {
        layer.handle_message(now, udp(FAR), response_to(&bytes, status, "x"));
    }
    assert_eq!(statuses(&drain(&mut layer)), [100, 180, 183, 180].map(|status| (key, status)));
    assert_eq!(layer.poll_timeout(), None);
}

#[test]
fn a_failure_is_acknowledged_as_rfc_3261_17_1_1_3_says() {
    let (mut layer, now) = (layer(), Instant::now());
    let (key, bytes) = invite(&mut layer, now);
    layer.handle_message(now, udp(FAR), response_to(&bytes, 486, "b1"));
    let outputs = drain(&mut layer);
    assert_eq!(statuses(&outputs), [(key, 486)]);
    let (invite, ack) = (request_of(&bytes), request_of(&only_transmit(&outputs)));
    assert_eq!((&ack.method, &ack.uri), (&Method::Ack, &invite.uri));
    assert_eq!(ack.headers.list(&HeaderName::Via).count(), 1);
    for same in [HeaderName::Via, HeaderName::From, HeaderName::CallId] {
        assert_eq!(ack.headers.get(&same), invite.headers.get(&same), "{same}");
    }
    assert!(ack.headers.all(&HeaderName::Route).eq(invite.headers.all(&HeaderName::Route)));
    assert_eq!(ack.headers.get(&HeaderName::To), Some("<sip:+3225550001@sbc.example>;tag=b1"));
    assert_eq!(ack.headers.get(&HeaderName::CSeq), Some("17 ACK"));
    assert!(ack.body.is_empty());

    // Each repetition of the failure gets the same ACK and is not delivered again, until Timer D.
    layer.handle_message(now + ms(31_000), udp(FAR), response_to(&bytes, 486, "b1"));
    let outputs = drain(&mut layer);
    assert_eq!((sent(&outputs).len(), statuses(&outputs).len()), (1, 0));
    assert!(sent(&outputs)[0].1);
    run_out(&mut layer, now);
    assert_eq!(layer.active(), 0);
    layer.handle_message(now + ms(33_000), udp(FAR), response_to(&bytes, 486, "b1"));
    assert_eq!((drain(&mut layer).len(), layer.counters().stray_responses), (0, 1));
}

#[test]
fn every_2xx_of_every_fork_is_delivered_until_timer_m() {
    let (mut layer, now) = (layer(), Instant::now());
    let (key, bytes) = invite(&mut layer, now);
    for (at, tag) in [(0, "fork1"), (100, "fork2"), (500, "fork1"), (31_900, "fork3")] {
        layer.handle_message(now + ms(at), udp(FAR), response_to(&bytes, 200, tag));
        let outputs = drain(&mut layer);
        let [Output::Response { key: got, response, .. }] = &outputs[..] else { panic!("{outputs:?}") };
        assert_eq!((*got, response.to_tag()), (key, Some(tag)));
    }
    assert_eq!(run_out(&mut layer, now), []);
    layer.handle_message(now + ms(32_001), udp(FAR), response_to(&bytes, 200, "fork4"));
    assert_eq!((drain(&mut layer).len(), layer.active(), layer.counters().stray_responses), (0, 0, 1));
}

#[test]
fn the_ack_of_a_2xx_has_its_own_branch_and_no_transaction() {
    let (mut layer, now) = (layer(), Instant::now());
    for _ in 0..2 {
        layer.send_ack_2xx(now, udp(FAR), own_request(Method::Ack));
    }
    let outputs = drain(&mut layer);
    let branches: HashSet<_> = outputs
        .iter()
        .map(|output| match output {
            Output::Transmit { bytes, ticket: 0, .. } => request_of(bytes).branch().unwrap().to_owned(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!((branches.len(), layer.active()), (2, 0));
}

#[test]
fn a_cancel_before_any_provisional_response_is_held() {
    let (mut layer, now) = (layer(), Instant::now());
    let (key, bytes) = invite(&mut layer, now);
    let cancel = layer.send_cancel_because(now, key, Some("SIP;cause=200;text=\"Call completed elsewhere\""));
    let cancel = cancel.expect("a key");
    assert_eq!(layer.send_cancel(now, key), Some(cancel), "asked twice, sent once");
    assert_eq!(drain(&mut layer), []);

    layer.handle_message(now + ms(80), udp(FAR), response_to(&bytes, 100, ""));
    let outputs = drain(&mut layer);
    let (invite, sent) = (request_of(&bytes), request_of(&only_transmit(&outputs)));
    assert_eq!((&sent.method, &sent.uri), (&Method::Cancel, &invite.uri));
    for same in [HeaderName::Via, HeaderName::From, HeaderName::To, HeaderName::CallId] {
        assert_eq!(sent.headers.get(&same), invite.headers.get(&same), "{same}");
    }
    assert!(sent.headers.all(&HeaderName::Route).eq(invite.headers.all(&HeaderName::Route)));
    assert_eq!(sent.headers.get(&HeaderName::CSeq), Some("17 CANCEL"));
    assert_eq!(sent.reasons().len(), 1);

    // The CANCEL's own response goes to its own key, though the branch is the INVITE's.
    let bytes_of_cancel = only_transmit(&outputs);
    layer.handle_message(now + ms(90), udp(FAR), response_to(&bytes_of_cancel, 200, "b1"));
    layer.handle_message(now + ms(95), udp(FAR), response_to(&bytes, 487, "b1"));
    assert_eq!(statuses(&drain(&mut layer)), [(cancel, 200), (key, 487)]);
    assert_eq!(layer.send_cancel(now + ms(96), key), None);
    run_out(&mut layer, now);
    assert_eq!(layer.active(), 0);
}

#[test]
fn a_held_cancel_is_never_sent_if_a_final_response_comes_first() {
    for status in [200, 486] {
        let (mut layer, now) = (layer(), Instant::now());
        let (key, bytes) = invite(&mut layer, now);
        layer.send_cancel(now, key);
        layer.handle_message(now + ms(80), udp(FAR), response_to(&bytes, status, "b1"));
        let outputs = drain(&mut layer);
        assert_eq!(statuses(&outputs), [(key, status)]);
        assert!(sent(&outputs).iter().all(|(line, _)| line.starts_with("ACK ")), "{outputs:?}");
        assert!(sent(&run_out(&mut layer, now).into_iter().map(|(_, o)| o).collect::<Vec<_>>()).is_empty());
        assert_eq!(layer.active(), 0);
    }
}

#[test]
fn a_2xx_that_crosses_the_cancel_is_delivered() {
    let (mut layer, now) = (layer(), Instant::now());
    let (key, bytes) = invite(&mut layer, now);
    layer.handle_message(now, udp(FAR), response_to(&bytes, 180, "b1"));
    drain(&mut layer);
    let cancel = layer.send_cancel(now, key).expect("a key");
    let bytes_of_cancel = only_transmit(&drain(&mut layer));
    layer.handle_message(now + ms(10), udp(FAR), response_to(&bytes, 200, "b1"));
    layer.handle_message(now + ms(20), udp(FAR), response_to(&bytes_of_cancel, 200, "b1"));
    assert_eq!(statuses(&drain(&mut layer)), [(key, 200), (cancel, 200)]);
    assert_eq!(layer.send_cancel(now + ms(30), key), None, "too late");
}

#[test]
fn a_cancelled_invite_whose_far_end_never_ends_it_fails_after_64_t1() {
    let (mut layer, now) = (layer(), Instant::now());
    let (key, bytes) = invite(&mut layer, now);
    layer.handle_message(now, udp(FAR), response_to(&bytes, 180, "b1"));
    let cancel = layer.send_cancel(now + ms(1_000), key).expect("a key");
    drain(&mut layer);
    let failures: Vec<_> = run_out(&mut layer, now)
        .into_iter()
        .filter(|(_, output)| matches!(output, Output::Failed { .. }))
        .collect();
    let failed = |key| (33_000, Output::Failed { key, failure: ClientFailure::TimedOut });
    assert_eq!(failures.len(), 2);
    assert!(failures.contains(&failed(key)) && failures.contains(&failed(cancel)));
    assert_eq!(layer.active(), 0);
}

#[test]
fn only_an_invite_can_be_cancelled() {
    let (mut layer, now) = (layer(), Instant::now());
    let bye = layer.send_request(now, udp(FAR), own_request(Method::Bye));
    assert_eq!(layer.send_cancel(now, bye), None);
    assert_eq!(layer.send_cancel(now, ClientKey(999)), None);
}

#[test]
fn a_non_invite_request_takes_one_final_response() {
    let (mut layer, now) = (layer(), Instant::now());
    let key = layer.send_request(now, udp(FAR), own_request(Method::Bye));
    let bytes = only_transmit(&drain(&mut layer));
    for status in [100, 200, 200, 481] {
        layer.handle_message(now, udp(FAR), response_to(&bytes, status, "b1"));
    }
    assert_eq!(statuses(&drain(&mut layer)), [(key, 100), (key, 200)]);
    assert_eq!(layer.poll_timeout(), Some(now + ms(5_000)), "Timer K");
    assert_eq!((run_out(&mut layer, now), layer.active()), (vec![], 0));
}

#[test]
fn a_transport_failure_reaches_the_user_once() {
    let (mut layer, now) = (layer(), Instant::now());
    for method in [Method::Invite, Method::Options] {
        let key = layer.send_request(now, tcp(FAR), own_request(method));
        let ticket = match drain(&mut layer)[..] {
            [Output::Transmit { ticket, .. }] => ticket,
            ref other => panic!("{other:?}"),
        };
        layer.handle_transport_failure(now, ticket);
        layer.handle_transport_failure(now, ticket);
        assert_eq!(drain(&mut layer), [Output::Failed { key, failure: ClientFailure::Transport }]);
        assert_eq!((layer.active(), layer.poll_timeout()), (0, None));
    }
}

#[test]
fn a_late_transport_failure_does_not_end_a_ringing_invite() {
    let (mut layer, now) = (layer(), Instant::now());
    let key = layer.send_request(now, udp(FAR), own_request(Method::Invite));
    let bytes = only_transmit(&drain(&mut layer));
    layer.handle_message(now, udp(FAR), response_to(&bytes, 180, "b1"));
    drain(&mut layer);
    layer.handle_transport_failure(now, key.0);
    assert_eq!((drain(&mut layer).len(), layer.active()), (0, 1));
}

#[test]
fn a_response_to_nothing_is_dropped_and_counted() {
    let (mut layer, now) = (layer(), Instant::now());
    let (_, bytes) = invite(&mut layer, now);
    let Message::Response(good) = response_to(&bytes, 200, "b1") else { unreachable!() };
    let with_via = |via: &str| {
        let mut response = good.clone();
        response.headers.set(HeaderName::Via, via);
        Message::Response(response)
    };
    let branch = good.branch().unwrap().to_owned();
    let guessed = format!("{}0000000000000000", &branch[..branch.len() - 16]);
    let strays = [
        with_via("SIP/2.0/UDP 198.51.100.1:5060;branch=z9hG4bKunknown"),
        with_via("SIP/2.0/UDP 198.51.100.1:5060;branch=z9hG4bKgw1s0-1-0"),
        with_via(&format!("SIP/2.0/UDP 198.51.100.1:5060;branch={guessed}")),
        with_via("SIP/2.0/UDP 198.51.100.1:5060;branch=\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}"),
        with_via("SIP/2.0/UDP 198.51.100.1:5060"),
        // A second Via: the response is another's (RFC 3261 §8.1.3.3).
        with_via(&format!("SIP/2.0/UDP a;branch={branch}, SIP/2.0/UDP b;branch=z9hG4bKx")),
        {
            let mut response = good.clone();
            response.headers.set(HeaderName::CSeq, "17 BYE");
            Message::Response(response)
        },
        {
            let mut response = good.clone();
            response.headers.set(HeaderName::CSeq, "17 CANCEL");
            Message::Response(response)
        },
    ];
    let count = strays.len() as u64;
    for stray in strays {
        layer.handle_message(now, udp(FAR), stray);
    }
    assert_eq!((drain(&mut layer), layer.counters().stray_responses), (vec![], count));
    layer.handle_message(now, udp(FAR), Message::Response(good));
    assert_eq!(drain(&mut layer).len(), 1);
}

#[test]
fn a_black_hole_keeps_the_cancel_for_a_late_answer() {
    // The user left after 4 s; the far end wakes up at 20 s and rings: only then the CANCEL may go out.
    let (mut layer, now) = (layer(), Instant::now());
    let (key, bytes) = invite(&mut layer, now);
    layer.send_cancel(now + ms(4_000), key);
    layer.handle_timeout(now + ms(20_000));
    assert!(sent(&drain(&mut layer)).iter().all(|(line, _)| line.starts_with("INVITE ")));
    layer.handle_message(now + ms(20_001), udp(FAR), response_to(&bytes, 180, "b1"));
    assert!(sent(&drain(&mut layer))[0].0.starts_with("CANCEL "));
}

#[test]
fn a_via_is_read_back_from_what_was_sent() {
    let (mut layer, now) = (layer(), Instant::now());
    let (_, bytes) = invite(&mut layer, now);
    let text = String::from_utf8(bytes).unwrap();
    let via = text.lines().nth(1).and_then(|line| line.strip_prefix("Via: ")).unwrap();
    assert!(Via::parse(via).is_ok(), "{via}");
}

#[test]
fn an_abandoned_request_is_not_repeated_and_its_answer_is_nobodys() {
    let (mut layer, now) = (layer(), Instant::now());
    let key = layer.send_request(now, udp(FAR), own_request(Method::Options));
    let bytes = only_transmit(&drain(&mut layer));
    layer.abandon(key);
    assert_eq!((layer.poll_timeout(), layer.active()), (None, 0));
    layer.handle_message(now, udp(FAR), response_to(&bytes, 200, "f1"));
    assert_eq!(layer.poll_output(), None);
    assert!(layer.holds_nothing());
    // An INVITE may ring somewhere: it has to be cancelled.
    let (key, _) = invite(&mut layer, now);
    layer.abandon(key);
    assert_eq!(layer.active(), 1);
}
