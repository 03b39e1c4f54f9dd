//! What a datagram can't do: carry a large request (RFC 3261 §18.1.1), and be received where nobody listens (§18.4).

use super::*;
use crate::sip::message::ViaTransport;
use crate::sip::transaction::ClientFailure;

/// A request of ours that is `length` octets long once it has a Via for UDP.
fn of_length(method: &Method, length: usize) -> Request {
    let mut probe = layer();
    let empty = own_request(method.clone()).with_header(HeaderName::UserAgent, "");
    probe.send_request(Instant::now(), udp(FAR), empty);
    let without = only_transmit(&drain(&mut probe)).len();
    own_request(method.clone()).with_header(HeaderName::UserAgent, "x".repeat(length - without))
}

/// Where the only transmission goes, by what, and its bytes.
fn way(outputs: &[Output]) -> (Transport, ViaTransport, Vec<u8>, u64) {
    let [Output::Transmit { peer, bytes, ticket, retransmission: false, .. }] = outputs else {
        panic!("{outputs:?}")
    };
    assert_eq!(peer.remote.to_string(), FAR);
    let via = request_of(bytes).via().unwrap().transport.clone();
    (peer.transport, via, bytes.to_vec(), *ticket)
}

fn both_are(way: &(Transport, ViaTransport, Vec<u8>, u64), transport: Transport) -> bool {
    way.0 == transport && way.1 == ViaTransport::Known(transport)
}

#[test]
fn a_request_of_more_than_1300_octets_goes_over_tcp() {
    for method in [Method::Invite, Method::Options] {
        for (length, transport) in [(1_300, Transport::Udp), (1_301, Transport::Tcp)] {
            let (mut layer, now) = (layer(), Instant::now());
            layer.send_request(now, udp(FAR), of_length(&method, length));
            let way = way(&drain(&mut layer));
            assert!(both_are(&way, transport), "{length}: {:?}", way.1);
            // A stream repeats for itself.
            let first = layer.poll_timeout().map(|at| at - now);
            let expected = if transport == Transport::Tcp { ms(32_000) } else { ms(500) };
            assert_eq!(first, Some(expected));
        }
    }
}

#[test]
fn a_devices_flow_is_never_left() {
    let mut layer = layer();
    layer.send_request_by_flow(Instant::now(), udp(FAR), of_length(&Method::Invite, 2_000));
    assert!(both_are(&way(&drain(&mut layer)), Transport::Udp));
}

#[test]
fn where_no_stream_is_taken_the_request_goes_as_a_datagram_and_so_does_the_next() {
    for method in [Method::Invite, Method::Register] {
        let (mut layer, now) = (layer(), Instant::now());
        let key = layer.send_request(now, udp(FAR), of_length(&method, 1_500));
        let (_, _, over_tcp, ticket) = way(&drain(&mut layer));
        layer.handle_transport_failure(now + ms(3_000), ticket);
        let again = way(&drain(&mut layer));
        assert!(both_are(&again, Transport::Udp));
        let (first, second) = (request_of(&over_tcp), request_of(&again.2));
        assert_eq!(first.branch(), second.branch(), "a repetition, had the first one arrived");
        assert_eq!(layer.poll_timeout(), Some(now + ms(3_500)), "repeated as any datagram");

        let next = layer.send_request(now + ms(4_000), udp(FAR), of_length(&method, 1_500));
        assert!(both_are(&way(&drain(&mut layer)), Transport::Udp), "it is known by now");
        layer.handle_message(now + ms(4_100), udp(FAR), response_to(&again.2, 200, "b"));
        assert_eq!(statuses(&drain(&mut layer)), [(key, 200)]);
        // No way is left for one that can't be sent as a datagram either.
        layer.handle_transport_failure(now + ms(4_200), next.0);
        assert_eq!(drain(&mut layer), [Output::Failed { key: next, failure: ClientFailure::Transport }]);

        layer.send_request(now + ms(700_000), udp(FAR), of_length(&method, 1_500));
        assert!(both_are(&way(&drain(&mut layer)), Transport::Tcp), "asked again after a while");
    }
}

#[test]
fn a_stream_that_brought_an_answer_is_no_reason_to_ask_again_by_datagram() {
    let (mut layer, now) = (layer(), Instant::now());
    layer.send_request(now, udp(FAR), of_length(&Method::Invite, 1_500));
    let (_, _, bytes, ticket) = way(&drain(&mut layer));
    layer.handle_message(now, tcp(FAR), response_to(&bytes, 180, "b"));
    drain(&mut layer);
    layer.handle_transport_failure(now, ticket);
    assert_eq!(drain(&mut layer), []);
}

#[test]
fn a_cancel_asked_for_meanwhile_follows_the_datagram() {
    let (mut layer, now) = (layer(), Instant::now());
    let key = layer.send_request(now, udp(FAR), of_length(&Method::Invite, 1_500));
    let (_, _, _, ticket) = way(&drain(&mut layer));
    layer.send_cancel(now, key).unwrap();
    layer.handle_transport_failure(now, ticket);
    let (_, _, invite, _) = way(&drain(&mut layer));
    layer.handle_message(now, udp(FAR), response_to(&invite, 180, "b"));
    let outputs = drain(&mut layer);
    let cancel = request_of(&only_transmit(&outputs));
    assert_eq!(cancel.method, Method::Cancel);
    assert_eq!(cancel.headers.get(&HeaderName::Via), request_of(&invite).headers.get(&HeaderName::Via));
}

#[test]
fn an_undeliverable_request_fails_at_once_but_only_on_the_word_of_one_who_saw_it() {
    let (far, elsewhere) = (FAR.parse().unwrap(), "192.0.2.8:5060".parse().unwrap());
    for method in [Method::Invite, Method::Bye] {
        let (mut layer, now) = (layer(), Instant::now());
        let key = layer.send_request(now, udp(FAR), own_request(method));
        let bytes = only_transmit(&drain(&mut layer));
        let forged = String::from_utf8(bytes.clone()).unwrap().replace("z9hG4bKgw1s0-1-", "z9hG4bKgw1s0-1-0");
        let branch_ends = bytes.windows(6).position(|part| part == b";rport").unwrap();
        layer.handle_undelivered(now, far, forged.as_bytes());
        layer.handle_undelivered(now, far, &bytes[..branch_ends - 1]);
        layer.handle_undelivered(now, elsewhere, &bytes);
        layer.handle_undelivered(now, far, b"");
        assert_eq!(drain(&mut layer), []);
        // Routers quote no more than they must.
        layer.handle_undelivered(now, far, &bytes[..branch_ends + 1]);
        assert_eq!(drain(&mut layer), [Output::Failed { key, failure: ClientFailure::Transport }]);
        assert_eq!(layer.active(), 0);
    }
}

#[test]
fn what_comes_back_after_an_answer_changes_nothing() {
    let (mut layer, now) = (layer(), Instant::now());
    let key = layer.send_request(now, udp(FAR), own_request(Method::Invite));
    let bytes = only_transmit(&drain(&mut layer));
    layer.handle_message(now, udp(FAR), response_to(&bytes, 180, "b"));
    layer.send_cancel(now, key).unwrap();
    let cancel = drain(&mut layer).into_iter().find_map(|output| match output {
        Output::Transmit { bytes, .. } => Some(bytes),
        _ => None,
    });
    // The CANCEL shares the branch; nobody waits for its answer but its own transaction.
    layer.handle_undelivered(now, FAR.parse().unwrap(), &bytes);
    assert_eq!(drain(&mut layer), []);
    layer.handle_undelivered(now, FAR.parse().unwrap(), &cancel.unwrap());
    assert_eq!(drain(&mut layer).len(), 1, "the CANCEL failed, not the INVITE");
    assert_eq!(layer.active(), 1);
}
