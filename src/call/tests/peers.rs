//! Whose calls they are: what makes a request a trunk's.

use super::world::*;
use crate::config::Config;
use crate::types::Transport;

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
