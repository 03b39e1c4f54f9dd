//! Whose calls they are: what makes a request a trunk's.

use super::world::*;
use crate::config::Config;
use crate::routing::PeerMatch;
use crate::sip::message::{Method, Typed};
use crate::types::{EndCause, Transport};
use std::net::SocketAddr;

/// Trunk `b` is called over TCP, and its calls come over no less than this.
fn over_tcp(calls_over: Option<Transport>) -> impl FnOnce(&mut Config) {
    move |config| {
        config.trunks[1].transport = Transport::Tcp;
        config.trunks[1].calls_over = calls_over;
    }
}

/// What somebody at the trunk's address hears whose call brings the trunk to bob, who has no device.
fn calling(w: &mut World) -> Vec<String> {
    w.call_in(B, "+3225550002");
    w.heard(B)
}

#[test]
fn a_datagram_from_a_trunks_address_is_nobodys_where_its_calls_come_by_connections() {
    let mut w = World::with(over_tcp(None));
    assert_eq!(calling(&mut w), ["401"], "anybody may have written that address");
    assert!(w.journal.written.is_empty());
    w.over_tcp(B);
    assert_eq!(calling(&mut w), ["480"]);
    assert_eq!(w.finish().ingress_trunk.as_deref(), Some("b"));
}

#[test]
fn an_operator_that_calls_by_less_than_it_is_called_is_known_where_the_configuration_says_so() {
    let mut w = World::with(over_tcp(Some(Transport::Udp)));
    assert_eq!(calling(&mut w), ["480"]);
    assert_eq!(w.finish().ingress_trunk.as_deref(), Some("b"));
}

#[test]
fn another_node_of_an_operator_ends_a_call_over_no_less_than_carries_the_operators_calls() {
    let node: SocketAddr = "203.0.113.10:5060".parse().unwrap();
    for (calls_over, stream, status) in
        [(None, true, 200), (None, false, 403), (Some(Transport::Udp), false, 200)]
    {
        let mut w = World::with(|config| {
            over_tcp(calls_over)(config);
            config.trunks[1].peers = ["203.0.113.8/29".parse().unwrap()].map(PeerMatch::Cidr).to_vec();
        });
        w.register("bob", BOB);
        w.over_tcp(B);
        if stream {
            w.over_tcp(&node.to_string());
        }
        let mut caller = w.call_in(B, "+3225550002");
        let mut bob = w.invited(BOB);
        w.reply_with(&bob, 200, OPUS_ANSWER);
        w.request(bob.at, Method::Ack);
        w.ack(&mut caller);
        let bye = caller.request(Method::Bye);
        w.send(node, &bye);
        if status == 200 {
            w.ok(&bob, Method::Bye);
        } else {
            assert!(w.heard(BOB).is_empty() && w.call().is_live(), "the call goes on");
            w.bye(&mut bob);
            w.ok(&caller, Method::Bye);
        }
        assert_eq!(w.response(node, status).cseq().unwrap().method, Method::Bye);
        assert_eq!(w.finish().end_cause, Some(EndCause::NormalClearing));
    }
}
