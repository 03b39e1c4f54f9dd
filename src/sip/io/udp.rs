//! SIP over UDP: one task a socket reads in batches, sending is a system call and no more.

use super::Shared;
use super::event::{TransportEvent, TransportFailure, Turn};
use super::gate::{self, Passage};
use super::icmp::{self, Undelivered};
use super::settings::BoundListener;
use crate::sip::message::{ParseErrorKind, parse_with};
use crate::sip::overload::Sender;
use crate::types::{NetworkId, Peer, Transport};
use bytes::Bytes;
use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Instant,
};
use tokio::io::Interest;
use tokio::sync::mpsc::error::TrySendError;

/// Datagrams read before other tasks of the runtime get their turn.
const BATCH: usize = 64;

/// More of them than the layer above takes at a turn, so that those who wait do so where they can be told apart.
const DRAIN: usize = 512;

/// Parts of the inbox that are left free for what comes of the streams; at less the kernel keeps datagrams.
const SPARE: usize = 32;

/// Errors of other datagrams that one send may meet before an error is taken for its own.
const ECHOES: u32 = 3;

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
        let mut echoes = ECHOES;
        loop {
            match socket.send_to(bytes, peer.remote) {
                Ok(_) => return Ok(()),
                // A full buffer is loss like any other on the way: the transaction repeats.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.shared.stats.add(&self.shared.stats.udp_send_full);
                    return Ok(());
                }
                // What came back of an earlier datagram, maybe to somebody else, is told to whoever uses the socket
                // next, and nothing is sent then.
                Err(_) if echoes > 0 => echoes -= 1,
                Err(error) => return Err(TransportFailure::Send(error.kind())),
            }
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
        let ready = tokio::select! {
            ready = socket.ready(Interest::READABLE | Interest::ERROR) => match ready {
                Ok(ready) => ready,
                Err(error) => {
                    tracing::error!(bind = %listener.bound, %error, "UDP socket failed");
                    return;
                }
            },
            _ = closing.wait_for(|closing| *closing) => return,
            () = shared.events.closed() => return,
        };
        if ready.is_error() {
            take_undelivered(&shared, &socket, &mut buffer);
        }
        let mut emptied = false;
        for _ in 0..DRAIN {
            if shared.events.capacity() < shared.events.max_capacity() / SPARE {
                break;
            }
            match socket.try_recv_from(&mut buffer) {
                Ok((length, remote)) => {
                    if !deliver(&shared, listener, &socket, remote, &buffer[..length]) {
                        return;
                    }
                }
                // Errors of datagrams sent earlier are told here as well; none ends the socket.
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

/// Takes in what came back of datagrams sent earlier.
fn take_undelivered(shared: &Shared, socket: &tokio::net::UdpSocket, buffer: &mut [u8]) {
    for _ in 0..BATCH {
        match socket.try_io(Interest::ERROR, || icmp::next(socket, buffer)) {
            Ok(Some(Undelivered { remote, quoted })) => {
                shared.stats.add(&shared.stats.undelivered);
                tracing::debug!(%remote, "datagram came back as undeliverable");
                let quoted = Bytes::copy_from_slice(quoted);
                // Under overload a timer finds the same out later.
                let _ = shared.events.try_send(TransportEvent::Undelivered { remote, quoted });
            }
            Ok(None) => {}
            Err(_) => return,
        }
    }
}

/// False if nobody listens above any more.
fn deliver(
    shared: &Shared,
    listener: BoundListener,
    socket: &tokio::net::UdpSocket,
    remote: SocketAddr,
    datagram: &[u8],
) -> bool {
    // An answer to port 0 can't be sent, and only forged datagrams come from there.
    if remote.port() == 0 {
        return true;
    }
    let now = Instant::now();
    let sender = Sender { address: remote.ip(), stream: false, proven: false };
    let newcomer = match shared.gate.passage(&shared.stats, now, sender, datagram) {
        Passage::In { newcomer } => newcomer,
        Passage::Refused { retry_after } => {
            let refusal = gate::refusal(datagram, &shared.settings.message, remote, retry_after);
            // What can't be sent is loss like any other.
            let _ = refusal
                .and_then(|refusal| bounded(refusal, datagram))
                .map(|refusal| socket.try_send_to(&refusal, remote));
            return true;
        }
        Passage::Out | Passage::Full { .. } => return true,
    };
    let network = listener.asked.network;
    let parsed = parse_with(datagram, &shared.settings.message);
    if matches!(&parsed, Err(error) if error.kind == ParseErrorKind::Empty) {
        return true;
    }
    let turn = Turn::of_datagram(newcomer);
    let local = shared.addresses.of_socket(network, listener.bound, remote.ip());
    let peer = Peer { network, transport: Transport::Udp, remote, local, connection: None, tls_name: None };
    let event = match parsed {
        Ok(message) => TransportEvent::Message { peer, message, tls_names: Arc::default(), turn },
        Err(error) => {
            shared.stats.add(&shared.stats.malformed);
            let refusal = error.refusal(remote).and_then(|refusal| bounded(refusal.to_bytes(), datagram));
            TransportEvent::Malformed { peer, fault: error.kind, refusal, turn }
        }
    };
    match shared.events.try_send(event) {
        Ok(()) => true,
        // Whoever needs an answer asks again.
        Err(TrySendError::Full(_)) => {
            shared.stats.add(&shared.stats.udp_inbox_full);
            true
        }
        Err(TrySendError::Closed(_)) => false,
    }
}

/// An answer that is not asked of the layer above, unless it would make us an amplifier: at most one and a half times
/// what came.
fn bounded(answer: Bytes, datagram: &[u8]) -> Option<Bytes> {
    (answer.len() <= datagram.len() + datagram.len() / 2).then_some(answer)
}
