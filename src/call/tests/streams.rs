//! Trunks whose calls come by streams that end before the call does.

use super::far::{Side, name};
use super::world::*;
use crate::config::Config;
use crate::sip::message::{HeaderName, Message, Method, Request};
use crate::types::{Peer, ReleasedBy, Transport};
use std::net::SocketAddr;

const FROM: &str = "203.0.113.1:41234";
const AGAIN: &str = "203.0.113.1:41235";
const NAME: &str = "sbc.operator.example";

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn over(transport: Transport) -> impl FnOnce(&mut Config) {
    move |config| {
        config.trunks[0].transport = transport;
        config.trunks[0].tls_name = transport.is_secure().then(|| NAME.to_owned());
    }
}

/// Trunk `a` calls bob by a stream, and bob answers.
fn talking(w: &mut World, transport: Transport, shape: impl Fn(&mut Request)) -> (Side, Side) {
    let stream = w.stream_from(A, FROM);
    (stream.transport, stream.tls_names) = (transport, vec![NAME.to_owned()]);
    w.register("bob", BOB);
    let mut caller = w.call_in_with(A, "+3225550002", OFFER, shape);
    let bob = w.invited(BOB);
    w.reply_with(&bob, 200, OPUS_ANSWER);
    w.ack(&mut caller);
    w.heard(BOB);
    (caller, bob)
}

/// Where the gateway sent its requests of a method to the trunk, in their order.
fn ways(w: &World, method: &Method) -> Vec<Peer> {
    let sent = w.trace.iter().filter(|line| line.sent && line.far != at(BOB));
    let sent =
        sent.filter(|line| matches!(&line.message, Message::Request(request) if request.method == *method));
    sent.filter_map(|line| line.to.clone()).collect()
}

/// The same for the only one.
fn way(w: &World, method: &Method) -> Peer {
    let ways = ways(w, method);
    assert_eq!(ways.len(), 1, "{ways:?}");
    ways[0].clone()
}

/// bob hangs up, and the trunk hears of it here.
fn hangs_up(w: &mut World, caller: &Side, mut bob: Side, there: &str) -> Request {
    w.bye(&mut bob);
    let bye = w.request(at(there), Method::Bye);
    let answer = caller.response(&bye, 200);
    w.send(caller.at, answer);
    assert_eq!(w.finish().released_by, Some(ReleasedBy::Callee));
    bye
}

#[test]
fn while_its_stream_is_there_a_trunks_caller_is_reached_by_it() {
    let mut w = World::with(over(Transport::Tcp));
    let (caller, bob) = talking(&mut w, Transport::Tcp, |_| {});
    let connection = w.streams[&at(A)].connection;
    hangs_up(&mut w, &caller, bob, A);
    let way = way(&w, &Method::Bye);
    assert_eq!((way.connection, way.remote), (Some(connection), at(FROM)));
}

#[test]
fn a_caller_whose_stream_is_gone_hears_the_end_where_its_contact_says() {
    let mut w = World::with(over(Transport::Tcp));
    let (caller, bob) = talking(&mut w, Transport::Tcp, |invite| {
        invite.headers.set(HeaderName::Contact, format!("<sip:{A2};transport=tcp>"));
    });
    w.close_stream(A);
    hangs_up(&mut w, &caller, bob, A2);
    let way = way(&w, &Method::Bye);
    assert_eq!((way.transport, way.connection), (Transport::Tcp, None));
}

#[test]
fn a_proxy_whose_stream_is_gone_gets_the_end_where_it_recorded_its_route() {
    let mut w = World::with(over(Transport::Tcp));
    let route = format!("<sip:{A2};transport=tcp;lr>");
    let (caller, bob) =
        talking(&mut w, Transport::Tcp, |invite| invite.headers.push(HeaderName::RecordRoute, route.clone()));
    w.close_stream(A);
    let bye = hangs_up(&mut w, &caller, bob, A2);
    assert_eq!(bye.headers.get(&HeaderName::Route), Some(route.as_str()));
    assert_eq!(bye.uri.to_string(), format!("sip:{A};transport=tcp"));
}

#[test]
fn a_caller_that_names_no_address_is_reached_where_its_trunk_is_found() {
    let mut w = World::with(over(Transport::Tls));
    let (caller, bob) = talking(&mut w, Transport::Tls, |invite| {
        invite.headers.set(HeaderName::Contact, "<sip:switch@core.operator.example;transport=tls>");
    });
    w.close_stream(A);
    hangs_up(&mut w, &caller, bob, A);
    let way = way(&w, &Method::Bye);
    assert_eq!((way.transport, way.remote, way.connection), (Transport::Tls, at(A), None));
}

#[test]
fn the_trunk_is_looked_for_where_the_dns_had_it_last() {
    let mut w = World::with(over(Transport::Tcp));
    let (caller, bob) = talking(&mut w, Transport::Tcp, |invite| {
        invite.headers.set(HeaderName::Contact, "<sip:core.operator.example;transport=tcp>");
    });
    w.move_trunk("a", &[A2]);
    w.close_stream(A);
    hangs_up(&mut w, &caller, bob, A2);
}

#[test]
fn what_was_secret_stays_secret_and_its_name_is_the_trunks_own() {
    // Contact, and where the end has to go.
    for (contact, there) in [
        (format!("<sip:{A2};transport=tls>"), A2),
        (format!("<sips:{A2}>"), A2),
        (format!("<sip:{A2};transport=tcp>"), A),
        (format!("<sip:{A2};transport=udp>"), A),
    ] {
        let mut w = World::with(over(Transport::Tls));
        let (mut caller, bob) = talking(&mut w, Transport::Tls, |invite| {
            invite.headers.set(HeaderName::Contact, contact.clone());
        });
        w.close_stream(A);
        // Neither may it be moved to a stream in clear from the same address.
        w.stream_from(A, AGAIN);
        let options = caller.request(Method::Options);
        w.send(caller.at, &options);
        assert_eq!(w.heard(A), ["200 OPTIONS"]);
        w.streams.clear();
        hangs_up(&mut w, &caller, bob, there);
        let way = way(&w, &Method::Bye);
        assert_eq!((way.transport, way.connection), (Transport::Tls, None), "{contact}");
        // Where the trunk is found, the shell has put the name; this world has none.
        assert!(there == A || way.tls_name.as_deref() == Some(NAME), "{contact}: {way:?}");
    }
}

#[test]
fn a_caller_that_comes_back_by_another_stream_is_reached_by_that() {
    for acknowledged in [false, true] {
        let mut w = World::with(over(Transport::Tcp));
        w.stream_from(A, FROM);
        w.register("bob", BOB);
        let mut caller = w.call_in(A, "+3225550002");
        let bob = w.invited(BOB);
        w.reply_with(&bob, 200, OPUS_ANSWER);
        if acknowledged {
            w.ack(&mut caller);
        }
        w.close_stream(A);
        let connection = w.stream_from(A, AGAIN).connection;
        if acknowledged {
            let hold = caller.invite(&directed(OFFER, "sendonly"));
            w.send(caller.at, &hold);
        }
        w.ack(&mut caller);
        hangs_up(&mut w, &caller, bob, A);
        let way = way(&w, &Method::Bye);
        assert_eq!((way.connection, way.remote), (Some(connection), at(AGAIN)));
        assert_eq!(way.local, at(GATEWAY));
    }
}

#[test]
fn who_only_shares_the_address_does_not_take_a_call_over() {
    let mut w = World::with(|config| {
        over(Transport::Tcp)(config);
        config.trunks[0].match_host = Some("gw.example".into());
        config.trunks[0].peers = vec![crate::routing::PeerMatch::Exact(at(FROM))];
    });
    w.stream_from(A, FROM);
    w.register("bob", BOB);
    let mut caller = w.call_in_with(A, "+3225550002", OFFER, |invite| {
        invite.uri = super::far::uri("sip:+3225550002@gw.example");
    });
    let bob = w.invited(BOB);
    w.reply_with(&bob, 200, OPUS_ANSWER);
    w.ack(&mut caller);
    w.close_stream(A);
    // It knows the tags, and comes from the same address; that it is the trunk nothing proves.
    w.stream_from(A, AGAIN);
    let options = caller.request(Method::Options);
    w.send(caller.at, &options);
    w.heard(A);
    hangs_up(&mut w, &caller, bob, A);
    assert_eq!(way(&w, &Method::Bye).connection, None);
}

#[test]
fn an_address_that_takes_nothing_is_not_the_last_one_that_is_tried() {
    let mut w = World::with(over(Transport::Tcp));
    let (caller, bob) = talking(&mut w, Transport::Tcp, |invite| {
        invite.headers.set(HeaderName::Contact, format!("<sip:{FROM};transport=tcp>"));
    });
    w.close_stream(A);
    hangs_up(&mut w, &caller, bob, A);
    let tried: Vec<_> = ways(&w, &Method::Bye).iter().map(|way| way.remote).collect();
    assert_eq!(tried, [at(FROM), at(A)]);
}

#[test]
fn a_stream_that_breaks_while_the_end_is_written_is_noticed() {
    let mut w = World::with(over(Transport::Tcp));
    let (caller, bob) = talking(&mut w, Transport::Tcp, |_| {});
    // The shell says what was not delivered before it says that the stream has ended.
    w.streams.clear();
    hangs_up(&mut w, &caller, bob, A);
    let tried: Vec<_> = ways(&w, &Method::Bye).iter().map(|way| way.remote).collect();
    assert_eq!(tried, [at(FROM), at(A)]);
}

#[test]
fn a_trunk_that_nothing_reaches_is_given_up_in_the_end() {
    let mut w = World::with(over(Transport::Tcp));
    let (_, mut bob) = talking(&mut w, Transport::Tcp, |_| {});
    w.close_stream(A);
    w.unreachable.push(at(A));
    w.bye(&mut bob);
    assert_eq!(w.heard(BOB), ["200 BYE"]);
    w.finish();
    assert!(ways(&w, &Method::Bye).len() <= 4);
}

#[test]
fn a_call_of_ours_ends_at_its_contact_where_the_address_it_was_sent_to_is_down() {
    let mut w = World::with(over(Transport::Tcp));
    let mut alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    let mut answer = callee.response(&callee.invite, 200).with_body("application/sdp", ANSWER);
    answer.headers.set(HeaderName::Contact, format!("<sip:{A2};transport=tcp>"));
    w.send(callee.at, answer);
    w.ack(&mut alice);
    w.unreachable.push(at(A));
    w.bye(&mut alice);
    let bye = w.request(at(A2), Method::Bye);
    w.send(at(A2), callee.response(&bye, 200));
    w.finish();
}

#[test]
fn an_answer_whose_stream_is_gone_goes_to_where_its_caller_listens() {
    let mut w = World::with(over(Transport::Tcp));
    w.stream_from(A, FROM);
    w.register("bob", BOB);
    let mut caller = w.call_in(A, "+3225550002");
    let bob = w.invited(BOB);
    w.reply(&bob, 180);
    w.close_stream(A);
    w.heard(A);
    w.reply_with(&bob, 200, OPUS_ANSWER);
    w.pass(secs(1));
    w.over_tcp(A);
    let answer = w.ack(&mut caller);
    assert_eq!(answer.status, 200);
    // The end waits for the disk, and its stream does not.
    w.journal.end = Verdict::Durable(ms(300));
    w.bye(&mut caller);
    w.ok(&bob, Method::Bye);
    w.inbox(caller.at).clear();
    w.close_stream(A);
    w.pass(ms(300));
    assert_eq!(w.heard(A), ["200 BYE"]);
    w.finish();
}

#[test]
fn a_refusal_whose_stream_is_gone_goes_to_where_its_caller_listens_and_a_strangers_to_nobody() {
    let mut w = World::with(over(Transport::Tcp));
    w.stream_from(A, FROM);
    w.register("bob", BOB);
    let caller = w.call_in(A, "+3225550002");
    let bob = w.invited(BOB);
    w.close_stream(A);
    w.reply(&bob, 486);
    assert_eq!(w.heard(A), ["486"]);
    w.over_tcp(A);
    let ack = caller.ack_failure(&w.last_response(A, 486));
    w.send(caller.at, &ack);
    w.finish();

    // A phone's stream: nobody is called back at a port that it only names.
    let mut w = World::new();
    w.stream_from(ALICE, "198.51.100.10:41234");
    w.dial("alice", "0470123456");
    let callee = w.invited(A);
    w.close_stream(ALICE);
    w.reply(&callee, 486);
    let lost: Vec<_> = w
        .trace
        .iter()
        .filter(|line| line.sent && name(&line.message) == "486")
        .map(|line| line.far)
        .collect();
    assert_eq!(lost, [at("198.51.100.10:41234")]);
    w.finish();
}
