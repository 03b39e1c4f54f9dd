//! The sockets of SIP: listens, reads messages, opens connections, sends, and says what failed.
//!
//! WebSocket (RFC 7118) is to come as one more kind of stream beside `tcp` and `tls`.

mod address;
mod certificate;
mod connections;
pub mod dns;
mod event;
mod gate;
mod icmp;
mod settings;
mod socket;
mod stats;
mod stream;
mod tcp;
mod tls;
mod udp;

pub use event::{TransportEvent, TransportFailure, Turn};
pub use settings::{Listener, NetworkSettings, StreamSettings, TransportSettings};
pub use stats::TransportStats;
pub use tls::{Identity, TlsError, TlsSettings, TlsTrust, check_tls};

use crate::types::{NetworkId, Peer, Transport};
use address::Addresses;
use arc_swap::ArcSwap;
use bytes::Bytes;
use connections::Connections;
use gate::Gate;
use ipnet::IpNet;
use settings::BoundListener;
use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};
use tls::TlsContext;
use tokio::sync::{Semaphore, mpsc, watch};
use udp::UdpSockets;

/// Part of the inbox that messages of streams may fill.
const STREAM_SHARE: usize = 4;

/// Why listening failed.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("can't listen on {transport}:{bind}: {source}", transport = .listener.transport.as_str(), bind = .listener.bind)]
    Address { listener: Listener, source: io::Error },
    #[error("{} is not a transport this version listens on", .0.as_str())]
    Unsupported(Transport),
    #[error("tls:{0} needs a certificate and a key")]
    NoIdentity(SocketAddr),
    #[error("can't read from a socket: {0}")]
    Descriptors(io::Error),
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// What all tasks of the transports share.
struct Shared {
    settings: TransportSettings,
    addresses: Addresses,
    tls: ArcSwap<TlsContext>,
    connections: Connections,
    events: mpsc::Sender<TransportEvent>,
    gate: Arc<Gate>,
    /// Messages of all streams that may wait at once: the rest of the inbox is left to datagrams, which can't be held up.
    stream_room: Arc<Semaphore>,
    stats: TransportStats,
    runtime: tokio::runtime::Handle,
    /// True once the transports are being shut down.
    closing: watch::Sender<bool>,
}

impl Shared {
    /// Tells the layer above, which may be the caller itself: never waits, and where the inbox is full a task does.
    fn report(&self, event: TransportEvent) {
        if let Err(mpsc::error::TrySendError::Full(event)) = self.events.try_send(event) {
            let events = self.events.clone();
            self.runtime.spawn(async move { events.send(event).await });
        }
    }

    fn fail(&self, peer: &Peer, ticket: u64, failure: TransportFailure) {
        self.stats.add(&self.stats.failures);
        tracing::debug!(transport = peer.transport.as_str(), remote = %peer.remote, %failure, "not sent");
        self.report(TransportEvent::Failed { peer: peer.clone(), ticket, failure });
    }
}

/// All sockets of the gateway that carry SIP. Cheap to clone.
#[derive(Clone)]
pub struct Transports {
    shared: Arc<Shared>,
    udp: Arc<UdpSockets>,
    listening: Arc<[Listener]>,
}

impl Transports {
    /// Opens all listeners and starts to read. Port 0 takes a free one: see [`local_addresses`](Self::local_addresses).
    /// Needs a tokio runtime around it.
    ///
    /// # Errors
    /// The first listener that can't be opened, or certificates that can't be read; then nothing stays open.
    pub fn bind(
        settings: TransportSettings,
        events: mpsc::Sender<TransportEvent>,
    ) -> Result<Transports, BindError> {
        let tls = TlsContext::load(&settings.tls)?;
        let (mut udp, mut tcp) = (Vec::new(), Vec::new());
        for listener in &settings.listeners {
            let dscp = settings.network(listener.network).dscp;
            let failed = |source| BindError::Address { listener: *listener, source };
            match listener.transport {
                Transport::Udp => {
                    let socket = socket::udp(listener.bind, dscp).map_err(failed)?;
                    let bound = socket.local_addr().map_err(failed)?;
                    udp.push((BoundListener { asked: *listener, bound }, socket));
                }
                Transport::Tcp | Transport::Tls => {
                    if listener.transport == Transport::Tls && !tls.can_accept() {
                        return Err(BindError::NoIdentity(listener.bind));
                    }
                    let socket = socket::tcp_listener(listener.bind, dscp).map_err(failed)?;
                    let bound = socket.local_addr().map_err(failed)?;
                    tcp.push((BoundListener { asked: *listener, bound }, socket));
                }
                Transport::Ws | Transport::Wss => return Err(BindError::Unsupported(listener.transport)),
            }
        }
        let bound: Vec<BoundListener> = udp
            .iter()
            .map(|(listener, _)| *listener)
            .chain(tcp.iter().map(|(listener, _)| *listener))
            .collect();
        let shared = Arc::new(Shared {
            addresses: Addresses::new(&settings, bound.clone()),
            connections: Connections::new(settings.streams),
            tls: ArcSwap::from_pointee(tls),
            gate: Arc::new(Gate::new(settings.door.clone())),
            settings,
            stream_room: Arc::new(Semaphore::new((events.max_capacity() / STREAM_SHARE).max(1))),
            events,
            stats: TransportStats::default(),
            runtime: tokio::runtime::Handle::current(),
            closing: watch::Sender::new(false),
        });
        let udp = Arc::new(UdpSockets::start(&shared, udp).map_err(BindError::Descriptors)?);
        for (listener, socket) in tcp {
            shared.runtime.spawn(tcp::accept(Arc::clone(&shared), listener, socket));
        }
        let listening = bound.iter().map(|l| Listener { bind: l.bound, ..l.asked }).collect();
        Ok(Transports { shared, udp, listening })
    }

    /// The listeners with the addresses and ports they really have.
    pub fn local_addresses(&self) -> &[Listener] {
        &self.listening
    }

    /// The far end at an address, reached over a network of ours; `local` is filled with what it can reach us by.
    /// For TLS, `tls_name` is the name its certificate must carry, and without one its address must be in it.
    pub fn peer_for(
        &self,
        network: NetworkId,
        transport: Transport,
        remote: SocketAddr,
        tls_name: Option<Arc<str>>,
    ) -> Peer {
        let local = self.shared.addresses.towards(network, transport, remote.ip());
        Peer { network, transport, remote, local, connection: None, tls_name }
    }

    /// Sends without waiting. UDP goes out now; on streams it goes to the connection of `peer`, to one open to the
    /// same place, or to one opened for it. What can't be sent comes back as [`TransportEvent::Failed`] with `ticket`.
    pub fn send(&self, peer: &Peer, bytes: Bytes, ticket: u64) {
        let sent = match peer.transport {
            Transport::Udp => self.udp.send(peer, &bytes),
            Transport::Tcp | Transport::Tls => stream::send(&self.shared, peer, bytes, ticket),
            Transport::Ws | Transport::Wss => Err(TransportFailure::Unsupported),
        };
        if let Err(failure) = sent {
            self.shared.fail(peer, ticket, failure);
        }
    }

    /// The layer above takes a message: how long that took is the measure of overload, in which requests that begin
    /// something are turned away at the door. Only who says so is ever taken for overloaded.
    pub fn handled(&self, turn: &Turn, now: Instant) {
        self.shared.gate.handled(turn, now);
    }

    /// Drops datagrams of an address that begin something, unread, for a while.
    pub fn mute(&self, now: Instant, source: IpAddr, span: Duration) {
        self.shared.gate.mute(now, source, span);
    }

    /// Where trunks send from; others are strangers, which share one part of what is let in under overload.
    pub fn set_trunks(&self, trunks: Vec<IpNet>) {
        self.shared.gate.set_trunks(trunks);
    }

    /// A user has registered from there, and is no stranger for as long.
    pub fn set_user(&self, now: Instant, address: IpAddr, span: Duration) {
        self.shared.gate.set_user(now, address, span);
    }

    /// Which called numbers and services help: they are let in under overload too.
    pub fn set_urgent(&self, urgent: impl Fn(&str) -> bool + Send + Sync + 'static) {
        self.shared.gate.set_urgent(Box::new(urgent));
    }

    /// Reads certificates, keys and authorities again for handshakes to come; open connections stay as they are.
    ///
    /// # Errors
    /// What can't be read or used; then everything stays as it was.
    pub fn reload_certificates(&self, settings: &TlsSettings) -> Result<(), TlsError> {
        let context = TlsContext::load(settings)?;
        if !context.can_accept() && self.listening.iter().any(|l| l.transport == Transport::Tls) {
            return Err(TlsError::NoIdentity);
        }
        self.shared.tls.store(Arc::new(context));
        Ok(())
    }

    /// Counters since the start.
    pub fn stats(&self) -> &TransportStats {
        &self.shared.stats
    }

    /// Streams open now, accepted and opened.
    pub fn open_streams(&self) -> usize {
        self.shared.connections.len()
    }

    /// Stops listening, lets connections write what they have for at most `linger`, and closes them.
    pub async fn shutdown(&self, linger: Duration) {
        self.shared.closing.send_replace(true);
        self.shared.connections.finish_all();
        let gone = self.shared.connections.all_gone();
        if tokio::time::timeout(linger, gone).await.is_err() {
            self.shared.connections.abort_all();
        }
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tls_tests;
