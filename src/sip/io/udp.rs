//! SIP over UDP: one task a socket reads in batches, sending is a system call and no more.

use super::Shared;
use super::event::{TransportEvent, TransportFailure, Turn};
use super::settings::BoundListener;
use crate::sip::message::{ParseError, ParseErrorKind, parse_with};
use crate::types::{NetworkId, Peer, Transport};
use bytes::Bytes;
use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
};
use tokio::sync::mpsc::error::TrySendError;

/// Datagrams read before other tasks of the runtime get their turn.
const BATCH: usize = 64;

/// The largest datagram there is.
const DATAGRAM: usize = 65_535;

struct BoundSocket {
    network: NetworkId,
    bound: SocketAddr,
    socket: UdpSocket,
}

pub(super) struct UdpSockets {
    sockets: Vec<BoundSocket>,
    shared: Arc<Shared>,
}

impl UdpSockets {
    /// Reads through tokio and sends past it: a send needs no readiness, and tokio would refuse one until its
    /// reactor has seen the socket writable.
    pub(super) fn start(
        shared: &Arc<Shared>,
        sockets: Vec<(BoundListener, UdpSocket)>,
    ) -> io::Result<UdpSockets> {
        let sockets = sockets.into_iter().map(|(listener, socket)| {
            let reader = tokio::net::UdpSocket::from_std(socket.try_clone()?)?;
            shared.runtime.spawn(receive(Arc::clone(shared), listener, reader));
            Ok(BoundSocket { network: listener.asked.network, bound: listener.bound, socket })
        });
        Ok(UdpSockets { sockets: sockets.collect::<io::Result<_>>()?, shared: Arc::clone(shared) })
    }

    pub(super) fn send(&self, peer: &Peer, bytes: &[u8]) -> Result<(), TransportFailure> {
        let socket = self.socket_for(peer).ok_or(TransportFailure::NoSocket)?;
        match socket.send_to(bytes, peer.remote) {
            Ok(_) => Ok(()),
            // A full buffer is loss like any other on the way: the transaction repeats.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.shared.stats.add(&self.shared.stats.udp_send_full);
                Ok(())
            }
            Err(error) => Err(TransportFailure::Send(error.kind())),
        }
    }

    /// The socket a peer knows us by: of its network and family, with the advertised port, best with the address.
    fn socket_for(&self, peer: &Peer) -> Option<&UdpSocket> {
        let of_network = |socket: &&BoundSocket| {
            socket.network == peer.network && socket.bound.is_ipv4() == peer.remote.is_ipv4()
        };
        let closeness = |socket: &&BoundSocket| {
            let same_port = socket.bound.port() == peer.local.port();
            let same_address = socket.bound.ip() == peer.local.ip();
            u8::from(same_port) * 2 + u8::from(same_address)
        };
        // The first of equals: `max_by_key` takes the last.
        self.sockets.iter().rev().filter(of_network).max_by_key(closeness).map(|socket| &socket.socket)
    }
}

async fn receive(shared: Arc<Shared>, listener: BoundListener, socket: tokio::net::UdpSocket) {
    let mut closing = shared.closing.subscribe();
    let mut buffer = vec![0; DATAGRAM];
    loop {
        tokio::select! {
            ready = socket.readable() => if let Err(error) = ready {
                tracing::error!(bind = %listener.bound, %error, "UDP socket failed");
                return;
            },
            _ = closing.wait_for(|closing| *closing) => return,
            () = shared.events.closed() => return,
        }
        let mut emptied = false;
        for _ in 0..BATCH {
            match socket.try_recv_from(&mut buffer) {
                Ok((length, remote)) => {
                    if !deliver(&shared, listener, remote, &buffer[..length]) {
                        return;
                    }
                }
                // Errors that belong to a datagram sent earlier are reported here by the kernel; none ends the socket.
                Err(_) => {
                    emptied = true;
                    break;
                }
            }
        }
        // Whoever gives way while more waits asks the kernel once more than one that waits for readiness.
        if !emptied {
            tokio::task::yield_now().await;
        }
    }
}

/// False if nobody listens above any more.
fn deliver(shared: &Shared, listener: BoundListener, remote: SocketAddr, datagram: &[u8]) -> bool {
    let network = listener.asked.network;
    let parsed = parse_with(datagram, &shared.settings.message);
    if matches!(&parsed, Err(error) if error.kind == ParseErrorKind::Empty) {
        return true;
    }
    // An answer to port 0 can't be sent, and only forged datagrams come from there.
    if remote.port() == 0 {
        return true;
    }
    let local = shared.addresses.of_socket(network, listener.bound, remote.ip());
    let peer = Peer { network, transport: Transport::Udp, remote, local, connection: None, tls_name: None };
    let event = match parsed {
        Ok(message) => {
            TransportEvent::Message { peer, message, tls_names: Arc::default(), turn: Turn::default() }
        }
        Err(error) => {
            shared.stats.add(&shared.stats.malformed);
            let refusal = refusal(&error, remote, datagram.len());
            TransportEvent::Malformed { peer, fault: error.kind, refusal, turn: Turn::default() }
        }
    };
    match shared.events.try_send(event) {
        Ok(()) => true,
        // Overload: whoever needs an answer asks again.
        Err(TrySendError::Full(_)) => {
            shared.stats.add(&shared.stats.udp_inbox_full);
            true
        }
        Err(TrySendError::Closed(_)) => false,
    }
}

/// The answer to something malformed, unless it is so short that our answer would make us an amplifier: at most
/// one and a half times what came.
fn refusal(error: &ParseError, source: SocketAddr, received: usize) -> Option<Bytes> {
    let refusal = error.refusal(source)?.to_bytes();
    (refusal.len() <= received + received / 2).then_some(refusal)
}
