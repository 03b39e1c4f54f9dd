//! Requests of far ends, as the wire and the transaction user see them.

use super::*;
use crate::sip::transaction::Limits;

/// Takes a far end's INVITE over UDP.
fn invite(layer: &mut TransactionLayer, now: Instant) -> (ServerKey, Request) {
    layer.handle_message(now, udp(FAR), far_invite());
    only_request(&drain(layer))
}

fn answer(layer: &mut TransactionLayer, now: Instant, key: ServerKey, request: &Request, status: u16) {
    layer.respond(now, key, Response::to_request(request, status).with_tag("t1"));
}

#[test]
fn a_repeated_invite_is_absorbed_and_the_last_response_repeated() {
    let (mut layer, now) = (layer(), Instant::now());
    let (key, request) = invite(&mut layer, now);
    layer.handle_message(now + ms(10), udp(FAR), far_invite());
    assert_eq!(drain(&mut layer), [], "no response yet, nothing to repeat");

    answer(&mut layer, now, key, &request, 183);
    answer(&mut layer, now, key, &request, 180);
    assert_eq!(sent(&drain(&mut layer)).len(), 2);
    layer.handle_message(now + ms(500), udp(FAR), far_invite());
    assert_eq!(sent(&drain(&mut layer)), [("SIP/2.0 180 Ringing".to_owned(), true)]);

    answer(&mut layer, now, key, &request, 486);
    drain(&mut layer);
    layer.handle_message(now + ms(1_400), udp(FAR), far_invite());
    assert_eq!(sent(&drain(&mut layer)), [("SIP/2.0 486 Busy Here".to_owned(), true)]);
    assert_eq!((layer.counters().absorbed, layer.counters().retransmitted), (3, 2));
}

#[test]
fn trying_is_said_after_200_ms_unless_the_user_was_faster() {
    let (mut layer, now) = (layer(), Instant::now());
    let (key, request) = invite(&mut layer, now);
    layer.handle_timeout(now + ms(199));
    assert_eq!(drain(&mut layer), []);
    layer.handle_timeout(now + ms(200));
    let trying = only_transmit(&drain(&mut layer));
    let Ok(Message::Response(trying)) = parse(&trying) else { panic!() };
    assert_eq!((trying.status, trying.to_tag()), (100, None));
    layer.handle_message(now + ms(500), udp(FAR), far_invite());
    assert_eq!(sent(&drain(&mut layer)), [("SIP/2.0 100 Trying".to_owned(), true)]);
    answer(&mut layer, now, key, &request, 180);
    assert_eq!(layer.poll_timeout(), None);
}

#[test]
fn a_failure_is_repeated_until_its_ack_which_the_user_never_sees() {
    let (mut layer, now) = (layer(), Instant::now());
    let (key, request) = invite(&mut layer, now);
    answer(&mut layer, now, key, &request, 486);
    drain(&mut layer);
    layer.handle_timeout(now + ms(500));
    layer.handle_timeout(now + ms(1_500));
    assert_eq!(sent(&drain(&mut layer)), vec![("SIP/2.0 486 Busy Here".to_owned(), true); 2]);
    let ack = || far_request("ACK", "UDP 192.0.2.7:5060;branch=z9hG4bKone;rport", ";tag=t1", "call-1", 1);
    layer.handle_message(now + ms(1_600), udp(FAR), ack());
    layer.handle_message(now + ms(1_700), udp(FAR), ack());
    assert_eq!((drain(&mut layer), layer.poll_timeout()), (vec![], Some(now + ms(6_600))));
    assert_eq!((run_out(&mut layer, now), layer.active()), (vec![], 0));
}

#[test]
fn a_missing_ack_is_told_after_timer_h() {
    let (mut layer, now) = (layer(), Instant::now());
    let (key, request) = invite(&mut layer, now);
    answer(&mut layer, now, key, &request, 603);
    drain(&mut layer);
    let outputs = run_out(&mut layer, now);
    assert_eq!(outputs.len(), 11);
    assert_eq!(outputs[10], (32_000, Output::AckMissing { key }));
    assert_eq!(layer.active(), 0);
}

#[test]
fn a_2xx_is_repeated_by_its_user_and_its_ack_delivered() {
    let (mut layer, now) = (layer(), Instant::now());
    let (key, request) = invite(&mut layer, now);
    answer(&mut layer, now, key, &request, 200);
    assert_eq!(sent(&drain(&mut layer)), [("SIP/2.0 200 OK".to_owned(), false)]);
    layer.handle_message(now + ms(500), udp(FAR), far_invite());
    assert_eq!(drain(&mut layer), [], "RFC 6026 §7.1: absorbed");
    answer(&mut layer, now + ms(500), key, &request, 200);
    assert_eq!(sent(&drain(&mut layer)), [("SIP/2.0 200 OK".to_owned(), true)]);

    // With a branch of its own, as it should be, or with the INVITE's.
    for branch in ["z9hG4bKack", "z9hG4bKone"] {
        let via = format!("UDP 192.0.2.7:5060;branch={branch};rport");
        layer.handle_message(now, udp(FAR), far_request("ACK", &via, ";tag=t1", "call-1", 1));
        let outputs = drain(&mut layer);
        assert!(matches!(&outputs[..], [Output::Ack { .. }]), "{outputs:?}");
    }
    assert_eq!(run_out(&mut layer, now), []);
    assert_eq!(layer.active(), 0);
    answer(&mut layer, now + ms(33_000), key, &request, 200);
    assert_eq!(drain(&mut layer), [], "gone");
}

#[test]
fn a_second_final_response_is_not_sent() {
    let (mut layer, now) = (layer(), Instant::now());
    let (key, request) = invite(&mut layer, now);
    assert!(layer.is_pending(key));
    answer(&mut layer, now, key, &request, 487);
    assert!(!layer.is_pending(key));
    drain(&mut layer);
    for status in [180, 200, 486] {
        answer(&mut layer, now, key, &request, status);
    }
    assert_eq!(drain(&mut layer), []);
}

#[test]
fn a_cancel_finds_its_invite_until_that_is_forgotten() {
    let (mut layer, now) = (layer(), Instant::now());
    let (key, request) = invite(&mut layer, now);
    let cancel = || far_request("CANCEL", "UDP 192.0.2.7:5060;branch=z9hG4bKone;rport", "", "call-1", 1);
    layer.handle_message(now, udp(FAR), cancel());
    let outputs = drain(&mut layer);
    let [Output::Cancel { key: cancel_key, invite: Some(found), request: cancel_request, .. }] = &outputs[..]
    else {
        panic!("{outputs:?}")
    };
    assert_eq!(*found, key);
    assert!(layer.is_pending(key));
    answer(&mut layer, now, *cancel_key, cancel_request, 200);
    answer(&mut layer, now, key, &request, 487);
    assert_eq!(
        sent(&drain(&mut layer)),
        [("SIP/2.0 200 OK".to_owned(), false), ("SIP/2.0 487 Request Terminated".to_owned(), false)]
    );
    // Repeated, it gets its answer again and troubles nobody.
    layer.handle_message(now + ms(500), udp(FAR), cancel());
    assert_eq!(sent(&drain(&mut layer)), [("SIP/2.0 200 OK".to_owned(), true)]);
    run_out(&mut layer, now);
    layer.handle_message(now + ms(40_000), udp(FAR), cancel());
    let outputs = drain(&mut layer);
    assert!(matches!(&outputs[..], [Output::Cancel { invite: None, .. }]), "{outputs:?}");
}

#[test]
fn a_cancel_that_crosses_the_2xx_finds_an_answered_invite() {
    let (mut layer, now) = (layer(), Instant::now());
    let (key, request) = invite(&mut layer, now);
    answer(&mut layer, now, key, &request, 200);
    drain(&mut layer);
    let cancel = far_request("CANCEL", "UDP 192.0.2.7:5060;branch=z9hG4bKone;rport", "", "call-1", 1);
    layer.handle_message(now, udp(FAR), cancel);
    let outputs = drain(&mut layer);
    assert!(matches!(&outputs[..], [Output::Cancel { invite: Some(found), .. }] if *found == key));
    assert!(!layer.is_pending(key), "so that the user answers 200 and leaves the call alone");
}

#[test]
fn a_cancel_with_another_branch_or_sender_finds_nothing() {
    let (mut layer, now) = (layer(), Instant::now());
    invite(&mut layer, now);
    for via in [
        "UDP 192.0.2.7:5060;branch=z9hG4bKtwo;rport",
        "UDP 192.0.2.8:5060;branch=z9hG4bKone;rport",
        "UDP 192.0.2.7:5070;branch=z9hG4bKone;rport",
    ] {
        layer.handle_message(now, udp(FAR), far_request("CANCEL", via, "", "call-1", 1));
        let outputs = drain(&mut layer);
        assert!(matches!(&outputs[..], [Output::Cancel { invite: None, .. }]), "{via}: {outputs:?}");
    }
}

#[test]
fn responses_go_back_by_rport_received_and_connection() {
    let nat = "203.0.113.9:41000";
    let cases = [
        // Asked for: back to the source port (RFC 3581 §4).
        (udp(nat), "UDP 10.0.0.5:5060;branch=z9hG4bKa;rport", nat, ";received=203.0.113.9", ";rport=41000"),
        // Not asked for: to the source address and the port it names (RFC 3261 §18.2.2).
        (udp(nat), "UDP 10.0.0.5:5070;branch=z9hG4bKa", "203.0.113.9:5070", ";received=203.0.113.9", ""),
        (udp(nat), "UDP host.example;branch=z9hG4bKa", "203.0.113.9:5060", ";received=203.0.113.9", ""),
        // The sender's own claims are not believed.
        (
            udp(nat),
            "UDP 10.0.0.5;branch=z9hG4bKa;received=198.51.100.99;maddr=198.51.100.99;rport=1",
            nat,
            ";received=203.0.113.9",
            ";rport=41000",
        ),
        // A stream goes back the way it came.
        (tcp(nat), "TCP 10.0.0.5:5060;branch=z9hG4bKa", nat, ";received=203.0.113.9", ""),
    ];
    for (peer, via, expected, received, rport) in cases {
        let (mut layer, now) = (layer(), Instant::now());
        layer.handle_message(now, peer.clone(), far_request("OPTIONS", via, "", "call-1", 1));
        let (key, request) = only_request(&drain(&mut layer));
        let noted = request.headers.get(&HeaderName::Via).unwrap();
        assert!(noted.contains(received) && noted.contains(rport), "{via} became {noted}");
        answer(&mut layer, now, key, &request, 200);
        let outputs = drain(&mut layer);
        let [Output::Transmit { peer: to, .. }] = &outputs[..] else { panic!("{outputs:?}") };
        assert_eq!((to.remote.to_string().as_str(), to.connection), (expected, peer.connection), "{via}");
    }
}

#[test]
fn only_the_topmost_via_is_touched() {
    let (mut layer, now) = (layer(), Instant::now());
    let vias = "UDP 10.0.0.5;branch=z9hG4bKa;rport, SIP/2.0/TCP phone.example;branch=z9hG4bKb\n\
                Via: SIP/2.0/UDP 10.1.1.1;branch=z9hG4bKc";
    layer.handle_message(now, udp(FAR), far_request("OPTIONS", vias, "", "call-1", 1));
    let (_, request) = only_request(&drain(&mut layer));
    let vias: Vec<_> = request.headers.list(&HeaderName::Via).collect();
    assert_eq!(vias.len(), 3);
    assert!(vias[0].contains("received=192.0.2.7"), "{vias:?}");
    assert_eq!(
        vias[1..],
        ["SIP/2.0/TCP phone.example;branch=z9hG4bKb", "SIP/2.0/UDP 10.1.1.1;branch=z9hG4bKc"]
    );
}

#[test]
fn non_invite_requests_are_absorbed_and_answered_again() {
    let (mut layer, now) = (layer(), Instant::now());
    let bye = || far_request("BYE", "UDP 192.0.2.7;branch=z9hG4bKbye", ";tag=t1", "call-1", 2);
    layer.handle_message(now, udp(FAR), bye());
    let (key, request) = only_request(&drain(&mut layer));
    layer.handle_message(now + ms(500), udp(FAR), bye());
    assert_eq!(drain(&mut layer), []);
    answer(&mut layer, now + ms(600), key, &request, 200);
    layer.handle_message(now + ms(1_500), udp(FAR), bye());
    layer.handle_message(now + ms(3_500), udp(FAR), bye());
    let repeated: Vec<_> = sent(&drain(&mut layer)).into_iter().map(|(_, again)| again).collect();
    assert_eq!(repeated, [false, true, true]);
    assert_eq!((run_out(&mut layer, now), layer.active()), (vec![], 0));
}

#[test]
fn a_request_nobody_answers_is_forgotten_and_counted() {
    let (mut layer, now) = (layer(), Instant::now());
    let info = far_request("INFO", "UDP 192.0.2.7;branch=z9hG4bKi", ";tag=t1", "call-1", 2);
    layer.handle_message(now, udp(FAR), info);
    let (key, request) = only_request(&drain(&mut layer));
    run_out(&mut layer, now);
    assert_eq!((layer.active(), layer.counters().unanswered), (0, 1));
    answer(&mut layer, now + ms(40_000), key, &request, 200);
    assert_eq!(drain(&mut layer), []);
}

#[test]
fn the_same_branch_from_another_sender_network_or_method_is_another_request() {
    let (mut layer, now) = (layer(), Instant::now());
    let other_network = Peer { network: NetworkId(1), ..udp(FAR) };
    for (peer, method, via) in [
        (udp(FAR), "OPTIONS", "UDP 192.0.2.7;branch=z9hG4bKsame"),
        (udp(FAR), "INFO", "UDP 192.0.2.7;branch=z9hG4bKsame"),
        (udp(FAR), "OPTIONS", "UDP 192.0.2.8;branch=z9hG4bKsame"),
        (other_network, "OPTIONS", "UDP 192.0.2.7;branch=z9hG4bKsame"),
    ] {
        layer.handle_message(now, peer, far_request(method, via, "", "call-1", 1));
        only_request(&drain(&mut layer));
    }
    // Host names compare without case, and the default port may be written (RFC 3261 §18.1.1).
    let same = far_request("OPTIONS", "UDP 192.0.2.7:5060;branch=z9hG4bKsame", "", "call-1", 1);
    layer.handle_message(now, udp(FAR), same);
    assert_eq!(drain(&mut layer), []);
}

#[test]
fn peers_without_magic_cookie_are_told_apart_as_rfc_2543_did() {
    let (mut layer, now) = (layer(), Instant::now());
    // Some number every call's branch from 1 anew, some send none.
    for (n, via) in
        ["UDP 192.0.2.7;branch=1", "UDP 192.0.2.7", "UDP 192.0.2.7;branch=z9hG4bK"].iter().enumerate()
    {
        let call = |kind: &str| format!("{kind}-{n}");
        layer.handle_message(now, udp(FAR), far_request("INVITE", via, "", &call("x"), 1));
        let (first, request) = only_request(&drain(&mut layer));
        layer.handle_message(now, udp(FAR), far_request("INVITE", via, "", &call("y"), 1));
        let (second, _) = only_request(&drain(&mut layer));
        assert_ne!(first, second);
        layer.handle_message(now, udp(FAR), far_request("INVITE", via, "", &call("x"), 1));
        assert_eq!(drain(&mut layer), [], "a retransmission");

        layer.handle_message(now, udp(FAR), far_request("CANCEL", via, "", &call("x"), 1));
        let outputs = drain(&mut layer);
        assert!(matches!(&outputs[..], [Output::Cancel { invite: Some(found), .. }] if *found == first));

        answer(&mut layer, now, first, &request, 487);
        drain(&mut layer);
        // An ACK counts only with the tag we gave (RFC 3261 §17.2.3).
        layer.handle_message(now, udp(FAR), far_request("ACK", via, ";tag=other", &call("x"), 1));
        layer.handle_timeout(now + ms(500));
        assert_eq!(sent(&drain(&mut layer)).len(), 2, "487 repeated, and 100 of the other call");
        layer.handle_message(now, udp(FAR), far_request("ACK", via, ";tag=t1", &call("x"), 1));
        layer.handle_timeout(now + ms(1_500));
        assert_eq!(drain(&mut layer), []);
    }
}

#[test]
fn a_request_that_came_on_two_ways_is_merged() {
    let (mut layer, now) = (layer(), Instant::now());
    let copy = |via: &str| far_request("INVITE", via, "", "call-1", 1);
    layer.handle_message(now, udp(FAR), copy("UDP 192.0.2.7;branch=z9hG4bKp1"));
    layer.handle_message(now, udp(FAR), copy("UDP 192.0.2.8;branch=z9hG4bKp2"));
    let keys: Vec<_> = drain(&mut layer)
        .iter()
        .map(|output| match output {
            Output::Request { key, .. } => *key,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(keys.iter().map(|key| layer.is_merged(*key)).collect::<Vec<_>>(), [false, true]);

    // The next attempt has another CSeq; inside a dialog nothing merges.
    layer.handle_message(
        now,
        udp(FAR),
        far_request("INVITE", "UDP 192.0.2.7;branch=z9hG4bKp3", "", "call-1", 2),
    );
    let (next, _) = only_request(&drain(&mut layer));
    for branch in ["p4", "p5"] {
        let via = format!("UDP 192.0.2.7;branch=z9hG4bK{branch}");
        layer.handle_message(now, udp(FAR), far_request("INVITE", &via, ";tag=t1", "call-1", 3));
    }
    assert!(!layer.is_merged(next));
    for output in drain(&mut layer) {
        let Output::Request { key, .. } = output else { panic!() };
        assert!(!layer.is_merged(key));
    }
}

#[test]
fn who_tries_one_place_after_the_other_is_not_merged() {
    let (mut layer, now) = (layer(), Instant::now());
    let mut count = 0;
    let mut take = |layer: &mut TransactionLayer, user: &str| {
        count += 1;
        let via = format!("UDP 192.0.2.7;branch=z9hG4bKp{count}");
        let Message::Request(mut request) = far_request("INVITE", &via, "", "call-1", 1) else { panic!() };
        request.uri = format!("sip:{user}@gw.example").parse().unwrap();
        layer.handle_message(now, udp(FAR), Message::Request(request));
        let (key, request) = only_request(&drain(layer));
        (key, request, layer.is_merged(key))
    };
    let (first, request, merged) = take(&mut layer, "bob");
    assert!(!merged);
    assert!(take(&mut layer, "carol").2, "both at once");
    answer(&mut layer, now, first, &request, 480);
    drain(&mut layer);
    assert!(take(&mut layer, "bob").2, "a copy that is late");
    let (second, request, merged) = take(&mut layer, "carol");
    assert!(!merged, "one after the other");
    assert!(take(&mut layer, "carol").2);
    assert!(take(&mut layer, "bob").2, "while the second rings");
    answer(&mut layer, now, second, &request, 480);
    drain(&mut layer);
    assert!(!take(&mut layer, "dave").2);
}

#[test]
fn a_stateless_answer_leaves_nothing_behind() {
    let (mut layer, now) = (layer(), Instant::now());
    for _ in 0..3 {
        let (key, request) = invite(&mut layer, now);
        let challenge = Response::to_request(&request, 401).with_stateless_tag();
        layer.respond_stateless(key, challenge);
        assert_eq!(sent(&drain(&mut layer)), [("SIP/2.0 401 Unauthorized".to_owned(), false)]);
        assert_eq!((layer.active(), layer.poll_timeout()), (0, None));
        layer.respond(now, key, Response::to_request(&request, 200));
        assert_eq!(drain(&mut layer), []);
    }
}

#[test]
fn a_flood_is_refused_without_memory_while_calls_may_end() {
    let limits = Limits { requests: 10, reserved_for_dialogs: 2 };
    let (mut layer, now) = (layer().with_limits(limits), Instant::now());
    let new_call = |n: u32| {
        let via = format!("UDP 192.0.2.7;branch=z9hG4bKn{n};rport");
        far_request("INVITE", &via, "", &format!("call-{n}"), 1)
    };
    for n in 0..1_000 {
        layer.handle_message(now, udp(FAR), new_call(n));
    }
    let outputs = drain(&mut layer);
    assert_eq!((layer.active(), layer.counters().refused), (10, 990));
    let refusals: Vec<_> = outputs
        .iter()
        .filter_map(
            |output| if let Output::Transmit { bytes, ticket: 0, .. } = output { Some(bytes) } else { None },
        )
        .collect();
    assert_eq!(refusals.len(), 990);
    let Ok(Message::Response(refusal)) = parse(refusals[0]) else { panic!() };
    assert_eq!((refusal.status, refusal.retry_after()), (503, Some(10)));
    assert!(refusal.to_tag().is_some());

    for n in 0..3 {
        let via = format!("UDP 192.0.2.7;branch=z9hG4bKb{n};rport");
        layer.handle_message(now, udp(FAR), far_request("BYE", &via, ";tag=t1", "call-1", 2));
    }
    let outputs = drain(&mut layer);
    assert_eq!(outputs.iter().filter(|output| matches!(output, Output::Request { .. })).count(), 2);
    assert_eq!(layer.active(), 12);
}

#[test]
fn a_response_that_could_not_be_sent_waits_for_the_request_to_come_again() {
    let (mut layer, now) = (layer(), Instant::now());
    let (key, request) = invite(&mut layer, now);
    answer(&mut layer, now, key, &request, 180);
    drain(&mut layer);
    layer.handle_transport_failure(now, key.0);
    assert_eq!((drain(&mut layer), layer.active()), (vec![], 1));
    layer.handle_message(now + ms(500), udp(FAR), far_invite());
    assert_eq!(sent(&drain(&mut layer)), [("SIP/2.0 180 Ringing".to_owned(), true)]);
}

#[test]
fn an_answer_goes_where_it_may_once_its_stream_is_gone() {
    for (method, status) in [("BYE", 200), ("INVITE", 404), ("INVITE", 200)] {
        let (mut layer, now) = (layer(), Instant::now());
        let via = "TCP 192.0.2.7:5062;branch=z9hG4bKs";
        let tag = if method == "BYE" { ";tag=t1" } else { "" };
        layer.handle_message(now, tcp("192.0.2.7:41234"), far_request(method, via, tag, "call-1", 1));
        let (key, request) = only_request(&drain(&mut layer));
        let listens = Peer { connection: None, ..tcp("192.0.2.7:5062") };
        layer.set_return(key, listens.clone());
        answer(&mut layer, now, key, &request, status);
        drain(&mut layer);
        layer.handle_transport_failure(now, key.0);
        let mut outputs = drain(&mut layer);
        if (method, status) == ("INVITE", 200) {
            assert_eq!(outputs, [], "its user repeats it");
            answer(&mut layer, now, key, &request, status);
            outputs = drain(&mut layer);
        }
        let [Output::Transmit { peer, retransmission: true, .. }] = &outputs[..] else {
            panic!("{method} {status}: {outputs:?}")
        };
        assert_eq!(*peer, listens, "{method} {status}");
        layer.handle_transport_failure(now, key.0);
        assert_eq!(drain(&mut layer), [], "there is no third place");
        run_out(&mut layer, now);
        assert_eq!(layer.active(), 0, "{method} {status}");
    }
}

#[test]
fn over_tcp_failures_are_not_repeated_and_end_with_the_ack() {
    let (mut layer, now) = (layer(), Instant::now());
    let via = "TCP 192.0.2.7;branch=z9hG4bKt";
    layer.handle_message(now, tcp(FAR), far_request("INVITE", via, "", "call-1", 1));
    let (key, request) = only_request(&drain(&mut layer));
    answer(&mut layer, now, key, &request, 404);
    drain(&mut layer);
    layer.handle_timeout(now + ms(20_000));
    assert_eq!(drain(&mut layer), []);
    layer.handle_message(now + ms(20_000), tcp(FAR), far_request("ACK", via, ";tag=t1", "call-1", 1));
    assert_eq!(layer.active(), 0);
}
