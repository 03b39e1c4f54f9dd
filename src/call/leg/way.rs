//! Where a leg's requests go: by the stream its far end opened, or to where its dialog or its trunk can be reached.

use super::{Leg, Party};
use crate::call::core::Core;
use crate::call::settings::Trunk;
use crate::sip::dialog::Dialog;
use crate::sip::message::{Scheme, Uri};
use crate::types::{ConnectionId, Peer, Transport};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// After so many addresses that took nothing one request of ours is given up.
const MOST: usize = 4;

/// What a trunk's leg goes by without its stream.
#[derive(Debug, Default)]
pub struct Astray {
    /// Where the trunk was when the stream was lost, best address first.
    places: Vec<Peer>,
    /// Where the last requests could not be delivered.
    failed: Vec<SocketAddr>,
}

impl Leg {
    /// Where requests inside the dialog go. A trunk is followed to the address its Contact or route set names
    /// (RFC 3261 §12.2.1.1); a device sits behind NAT and is reached the way it came.
    pub fn next_hop(&self) -> Peer {
        self.hop_of(self.dialog.as_ref())
    }

    /// The same for another dialog of the leg.
    pub fn hop_of(&self, dialog: Option<&Dialog>) -> Peer {
        let Party::Trunk(trunk) = &self.party else { return self.peer.clone() };
        let named = dialog.map(Dialog::next_hop);
        if !self.peer.transport.is_reliable() {
            return named.and_then(|uri| self.by_datagram(&uri)).unwrap_or_else(|| self.peer.clone());
        }
        // A stream is kept for as long as it is there: a Contact's address is seldom one that can be connected to.
        let Some(astray) = &self.astray else { return self.peer.clone() };
        let mut ways = self.ways(trunk, astray, named.as_ref());
        let fresh = ways.iter().position(|way| !astray.failed.contains(&way.remote));
        if ways.is_empty() { self.peer.clone() } else { ways.swap_remove(fresh.unwrap_or(0)) }
    }

    /// The address that a dialog over UDP names.
    fn by_datagram(&self, uri: &Uri) -> Option<Peer> {
        let remote = self.address(uri)?;
        let by_tcp = uri.transport().is_some_and(|transport| transport.eq_ignore_ascii_case("tcp"));
        let transport = if by_tcp { Transport::Tcp } else { self.peer.transport };
        Some(Peer { remote, transport, ..self.peer.clone() })
    }

    fn address(&self, uri: &Uri) -> Option<SocketAddr> {
        let ip = uri.host.host.parse::<IpAddr>().ok()?;
        let remote = SocketAddr::new(ip, uri.host.port.unwrap_or(self.peer.transport.default_port()));
        (remote.is_ipv4() == self.peer.remote.is_ipv4()).then_some(remote)
    }

    /// All that can be connected to, in the order it is tried: what we have called, what the dialog names, and where the
    /// trunk is found.
    fn ways(&self, trunk: &Trunk, astray: &Astray, named: Option<&Uri>) -> Vec<Peer> {
        let called = self.attempt.is_some().then(|| self.peer.clone());
        let named = named.and_then(|uri| self.by_stream(trunk, astray, uri));
        called.into_iter().chain(named).chain(astray.places.iter().cloned()).collect()
    }

    /// The address that a dialog over streams names. One that means another transport is not followed: what was secret
    /// stays secret, and its port would be another one.
    fn by_stream(&self, trunk: &Trunk, astray: &Astray, uri: &Uri) -> Option<Peer> {
        let transport = self.peer.transport;
        let secure = uri.scheme == Scheme::Sips;
        let fits = match uri.transport() {
            // RFC 3261 §26.2.2: `sips` over TCP is TLS.
            Some(said) if secure && said.eq_ignore_ascii_case("tcp") => transport.is_secure(),
            Some(said) => said.eq_ignore_ascii_case(transport.as_str()),
            None => transport.is_secure() || !secure,
        };
        let remote = self.address(uri).filter(|_| fits)?;
        let tls_name = tls_name(trunk, &astray.places, transport, remote.ip());
        Some(Peer { remote, connection: None, tls_name, ..self.peer.clone() })
    }

    /// A stream is gone. If it was this leg's, a trunk is reached another way from now on; a device is not: whoever
    /// connected to us from behind NAT can't be connected to.
    pub fn lose_stream(&mut self, core: &Core, connection: ConnectionId) {
        if let (Party::Trunk(_), true) = (&self.party, self.peer.connection == Some(connection)) {
            self.go_astray(core);
        }
    }

    /// A request of ours could not be delivered: the next one goes another way. False where there is none left that was
    /// not tried.
    pub fn changes_way(&mut self, core: &Core) -> bool {
        let Party::Trunk(trunk) = &self.party else { return false };
        if !self.peer.transport.is_reliable() {
            return false;
        }
        let (trunk, lost) = (trunk.clone(), self.next_hop());
        let named = self.dialog.as_ref().map(Dialog::next_hop);
        self.go_astray(core);
        let Some(mut astray) = self.astray.take() else { return false };
        if lost.connection.is_none() {
            astray.failed.push(lost.remote);
        }
        let ways = self.ways(&trunk, &astray, named.as_ref());
        let left = astray.failed.len() < MOST && ways.iter().any(|way| !astray.failed.contains(&way.remote));
        if !left {
            astray.failed.clear();
        }
        self.astray = Some(astray);
        left
    }

    fn go_astray(&mut self, core: &Core) {
        let Party::Trunk(trunk) = &self.party else { return };
        let usable = |place: &&Peer| {
            let open = self.peer.transport.is_secure() && !place.transport.is_secure();
            place.network == self.peer.network && !open
        };
        let mut places: Vec<Peer> = core.places(&trunk.name).iter().filter(usable).cloned().collect();
        places.sort_by_key(|place| place.transport != self.peer.transport);
        self.peer.connection = None;
        self.astray.get_or_insert_default().places = places;
    }

    /// True for an address of the trunk's own, whatever the far end says.
    pub fn is_found_at(&self, remote: SocketAddr) -> bool {
        let mut places = self.astray.iter().flat_map(|astray| &astray.places);
        places.any(|place| place.remote == remote)
    }

    /// True for a stream that a trunk's caller may be answered by from now on: another one, and no less than the last.
    pub fn may_follow(&self, peer: &Peer) -> bool {
        let calls = matches!(self.party, Party::Trunk(_)) && self.attempt.is_none();
        let other = peer.connection.is_some() && peer.connection != self.peer.connection;
        calls && other && peer.transport == self.peer.transport
    }

    /// The far end has come back by this stream. Our own address in the session stays what it was.
    pub fn follow(&mut self, peer: &Peer) {
        self.peer = Peer { local: self.peer.local, ..peer.clone() };
        self.astray = None;
    }
}

/// The name that the certificate at an address of a trunk must carry: as configured, else as its proxy there is called
/// (RFC 5922 §4). Never one that the far end gives.
pub fn tls_name(trunk: &Trunk, places: &[Peer], transport: Transport, at: IpAddr) -> Option<Arc<str>> {
    if !transport.is_secure() {
        return None;
    }
    let there = places.iter().find(|place| place.remote.ip() == at).or(places.first());
    trunk.config.tls_name.as_deref().map(Arc::from).or_else(|| there?.tls_name.clone())
}
