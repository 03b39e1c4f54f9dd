//! Accepts and opens the connections of SIP over TCP and TLS.

use super::connections::{Destination, Entry};
use super::event::TransportFailure;
use super::settings::BoundListener;
use super::stream::{self, Origin};
use super::{Shared, socket};
use crate::types::{Peer, Transport};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// Before accepting again after the process ran out of descriptors: trying at once would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Takes connections until the transports are shut down.
pub(super) async fn accept(shared: Arc<Shared>, listener: BoundListener, socket: TcpListener) {
    let mut closing = shared.closing.subscribe();
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            _ = closing.wait_for(|closing| *closing) => return,
            () = shared.events.closed() => return,
        };
        let (tcp, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(bind = %listener.bound, %error, "can't accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // A connection turned away is closed at once: waiting in the backlog it would keep others out.
        let Some(entry) = shared.connections.accept(remote.ip()) else {
            shared.stats.add(&shared.stats.turned_away);
            tracing::debug!(%remote, "too many connections");
            continue;
        };
        shared.stats.add(&shared.stats.accepted);
        shared.runtime.spawn(serve(Arc::clone(&shared), listener, tcp, remote, entry));
    }
}

async fn serve(
    shared: Arc<Shared>,
    listener: BoundListener,
    tcp: TcpStream,
    remote: SocketAddr,
    entry: Entry,
) {
    let network = listener.asked.network;
    socket::tune(&tcp, shared.settings.network(network).dscp);
    let own = tcp.local_addr().map_or(listener.bound.ip(), |address| address.ip());
    let bound = SocketAddr::new(own, listener.bound.port());
    let peer = Peer {
        network,
        transport: listener.asked.transport,
        remote,
        local: shared.addresses.of_socket(network, bound, remote.ip()),
        connection: Some(entry.connection.id),
        tls_name: None,
    };
    let origin = Origin { peer, destination: None };
    if listener.asked.transport != Transport::Tls {
        return stream::run(&shared, tcp, entry, origin, Arc::default()).await;
    }
    let tls = shared.tls.load_full();
    match timeout(shared.settings.streams.handshake, tls.accept(tcp)).await {
        Ok(Ok((secured, names))) => stream::run(&shared, secured, entry, origin, names).await,
        Ok(Err(error)) => {
            tracing::debug!(%remote, %error, "TLS handshake failed");
            shared.stats.add(&shared.stats.handshakes_failed);
            stream::never_opened(&shared, entry, origin, TransportFailure::Closed);
        }
        Err(_) => {
            shared.stats.add(&shared.stats.handshakes_failed);
            stream::never_opened(&shared, entry, origin, TransportFailure::Closed);
        }
    }
}

/// Opens a connection for what waits in the entry's queue, and serves it.
pub(super) async fn open(shared: Arc<Shared>, peer: Peer, destination: Destination, entry: Entry) {
    let streams = shared.settings.streams;
    let peer = Peer { connection: Some(entry.connection.id), ..peer };
    let origin = Origin { peer, destination: Some(destination) };
    let tcp = match timeout(streams.connect, connect(&shared, &origin.peer)).await {
        Ok(Ok(tcp)) => tcp,
        Ok(Err(error)) => {
            return stream::never_opened(&shared, entry, origin, TransportFailure::Connect(error.kind()));
        }
        Err(_) => return stream::never_opened(&shared, entry, origin, TransportFailure::ConnectTimeout),
    };
    shared.stats.add(&shared.stats.opened);
    if origin.peer.transport != Transport::Tls {
        return stream::run(&shared, tcp, entry, origin, Arc::default()).await;
    }
    let tls = shared.tls.load_full();
    let secured = timeout(streams.handshake, tls.connect(tcp, &origin.peer)).await;
    match secured {
        Ok(Ok((secured, names))) => stream::run(&shared, secured, entry, origin, names).await,
        Ok(Err(error)) => {
            shared.stats.add(&shared.stats.handshakes_failed);
            stream::never_opened(&shared, entry, origin, TransportFailure::Tls(error.to_string()));
        }
        Err(_) => {
            shared.stats.add(&shared.stats.handshakes_failed);
            stream::never_opened(&shared, entry, origin, TransportFailure::ConnectTimeout);
        }
    }
}

async fn connect(shared: &Shared, peer: &Peer) -> std::io::Result<TcpStream> {
    let dscp = shared.settings.network(peer.network).dscp;
    let source = shared.addresses.source(peer.network, peer.remote.ip());
    let tcp = socket::tcp_client(peer.remote, source, dscp)?.connect(peer.remote).await?;
    socket::tune(&tcp, dscp);
    Ok(tcp)
}
