//! Far ends over streams, and what of them can be connected to.

use super::{World, peer};
use crate::call::event::{Input, Rank, Target};
use crate::types::{ConnectionId, Peer, Transport};
use std::net::SocketAddr;

/// A far end's stream to the gateway.
#[derive(Debug, Clone)]
pub struct Stream {
    pub connection: ConnectionId,
    /// The port it comes from, which need not be the one that its far end listens at.
    pub from: SocketAddr,
    pub transport: Transport,
    /// What its verified certificate carries.
    pub tls_names: Vec<String>,
}

impl World {
    /// A far end speaks over a stream from now on.
    pub fn over_tcp(&mut self, at: &str) -> ConnectionId {
        let at = at.parse().unwrap();
        let connection = ConnectionId(self.number());
        let stream = Stream { connection, from: at, transport: Transport::Tcp, tls_names: Vec::new() };
        self.streams.insert(at, stream);
        connection
    }

    /// The same from a port that nobody listens at.
    pub fn stream_from(&mut self, at: &str, from: &str) -> &mut Stream {
        self.over_tcp(at);
        let from = from.parse().unwrap();
        self.ephemeral.push(from);
        let stream = self.streams.get_mut(&at.parse().unwrap()).expect("just opened");
        stream.from = from;
        stream
    }

    /// A far end's stream ends.
    pub fn close_stream(&mut self, at: &str) {
        let Stream { connection, .. } = self.streams.remove(&at.parse().unwrap()).expect("a stream");
        self.input(Input::ConnectionClosed { connection });
    }

    /// The DNS has another answer for a trunk; its transport is what it was.
    pub fn move_trunk(&mut self, name: &str, places: &[&str]) {
        let trunks = &self.exchange.settings().trunks;
        let trunk = trunks.iter().find(|trunk| &*trunk.name == name).expect("a trunk").clone();
        let target = |(place, remote): (usize, &&str)| {
            let remote: SocketAddr = remote.parse().unwrap();
            let peer = Peer { transport: trunk.config.transport, ..peer(remote) };
            let rank = Rank { proxy: place as u16, ..Rank::default() };
            Target { host: remote.into(), peer, rank, weight: 0 }
        };
        let targets = places.iter().enumerate().map(target).collect();
        self.input(Input::TrunkResolved { trunk: trunk.name.clone(), targets });
    }

    pub fn via_of(&self, at: SocketAddr) -> &'static str {
        if self.streams.contains_key(&at) { "TCP" } else { "UDP" }
    }

    /// Who gets what is sent to a peer: by its stream while that is there, else where somebody listens.
    pub(super) fn reached(&self, peer: &Peer) -> Option<SocketAddr> {
        let far = match peer.connection {
            Some(id) => *self.streams.iter().find(|(_, stream)| stream.connection == id)?.0,
            None => peer.remote,
        };
        (!self.unreachable.contains(&far) && !self.ephemeral.contains(&far)).then_some(far)
    }
}
