//! Trunks whose calls come by streams: a stream may end before the call does, and another one may take its place.

use super::exchange::Exchange;
use super::leg::{Party, way};
use super::machine::Asked;
use super::settings::Trunk;
use super::trunks::trunk_index;
use crate::sip::message::{Request, Typed};
use crate::sip::transaction::ServerKey;
use crate::types::{LegId, Peer};
use std::net::SocketAddr;

impl Exchange {
    /// What is known of where a trunk is becomes where its calls come from, and where its dialogs can be reached.
    pub(super) fn take_places(&mut self, index: usize) {
        let Some(side) = self.trunks.side(index) else { return };
        let places: Vec<Peer> = side.targets.iter().map(|target| target.peer.clone()).collect();
        let addresses = places.iter().map(|place| place.remote).collect();
        self.peers.set_resolved(trunk_index(index), addresses);
        self.core.set_places(side.settings.name.clone(), places);
    }

    /// A request of a leg's far end came by a stream.
    pub(super) fn mind_stream(&mut self, leg: LegId, asked: &Asked) {
        if asked.peer.connection.is_none() {
            return;
        }
        let known = self.calls.get(&leg.call).and_then(|call| call.leg(leg.index));
        if let Some(Party::Trunk(trunk)) = known.map(|known| known.party.clone()) {
            self.mind_return(asked.key, &asked.peer, &asked.request, &trunk);
            self.follow(leg, &asked.peer, &asked.request);
        }
    }

    /// A trunk's caller has come back by another stream: from now on it is reached by that one. That it is the trunk has
    /// to be as sure as it was when the call came.
    pub(super) fn follow(&mut self, leg: LegId, peer: &Peer, request: &Request) {
        let known = self.calls.get(&leg.call).and_then(|call| call.leg(leg.index));
        let comes_back = known
            .is_some_and(|known| known.may_follow(peer) && self.is_same_party(&known.party, peer, request));
        let call = self.calls.get_mut(&leg.call).filter(|_| comes_back);
        if let Some(known) = call.and_then(|call| call.leg_mut(leg.index)) {
            known.follow(peer);
        }
    }

    /// A trunk hears our answer though the stream is gone that its request came by: where that came from, at the port
    /// that its sender listens at (RFC 3261 §18.2.2).
    pub(super) fn mind_return(&mut self, key: ServerKey, peer: &Peer, request: &Request, trunk: &Trunk) {
        let (Some(_), Ok(via)) = (peer.connection, request.via()) else { return };
        let port = via.sent_by.port.unwrap_or(peer.transport.default_port());
        let remote = SocketAddr::new(peer.remote.ip(), port);
        let tls_name = way::tls_name(trunk, self.core.places(&trunk.name), peer.transport, remote.ip());
        self.core.sip.set_return(key, Peer { remote, connection: None, tls_name, ..peer.clone() });
    }
}
