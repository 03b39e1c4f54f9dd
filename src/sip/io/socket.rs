//! Makes sockets: families apart, marked, without blocking.

use super::icmp;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};
use tokio::net::{TcpListener, TcpSocket};

/// Datagrams that wait while the reader is busy: about a second of 3,000 calls' signalling. The kernel gives less
/// where `net.core.rmem_max` is lower.
const UDP_BUFFER: usize = 4 << 20;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1_024;

/// A dead peer on a silent stream is noticed after 60 + 4 × 15 s; the probes keep NAT bindings alive as well.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;

pub(super) fn udp(bind: SocketAddr, dscp: u8) -> io::Result<UdpSocket> {
    let socket = new(bind, Type::DGRAM, Protocol::UDP)?;
    // Best effort: a smaller buffer works, only less well under load.
    let _ = socket.set_recv_buffer_size(UDP_BUFFER);
    let _ = socket.set_send_buffer_size(UDP_BUFFER);
    mark(&SockRef::from(&socket), bind.ip(), dscp)?;
    icmp::ask_for(&socket, bind.ip())?;
    socket.bind(&bind.into())?;
    Ok(socket.into())
}

pub(super) fn tcp_listener(bind: SocketAddr, dscp: u8) -> io::Result<TcpListener> {
    let socket = new(bind, Type::STREAM, Protocol::TCP)?;
    // Connections of the run before that are still in TIME-WAIT must not keep us from starting.
    socket.set_reuse_address(true)?;
    mark(&SockRef::from(&socket), bind.ip(), dscp)?;
    socket.bind(&bind.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// A socket to open a connection with, from `source` if there is one.
pub(super) fn tcp_client(remote: SocketAddr, source: Option<IpAddr>, dscp: u8) -> io::Result<TcpSocket> {
    let socket = if remote.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    mark(&SockRef::from(&socket), remote.ip(), dscp)?;
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    Ok(socket)
}

/// Settings of a connection, accepted or opened. What the kernel refuses here only makes it slower.
pub(super) fn tune(stream: &tokio::net::TcpStream, dscp: u8) {
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    let _ = socket.set_tcp_keepalive(&keepalive);
    let _ = stream.set_nodelay(true);
    if let Ok(local) = stream.local_addr() {
        let _ = mark(&socket, local.ip(), dscp);
    }
}

fn new(bind: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(bind), kind.nonblocking(), Some(protocol))?;
    if bind.is_ipv6() {
        // "::" leaves IPv4 to "0.0.0.0", so that no address shows up in two forms.
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// Writes the code point into the upper six bits of the traffic class (RFC 2474 §3).
fn mark(socket: &SockRef<'_>, family: IpAddr, dscp: u8) -> io::Result<()> {
    let class = u32::from(dscp.min(63)) << 2;
    match family {
        IpAddr::V4(_) => socket.set_tos_v4(class),
        IpAddr::V6(_) => socket.set_tclass_v6(class),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sockets_of_both_families_are_marked() {
        let cs3 = 24;
        let four = udp("127.0.0.1:0".parse().unwrap(), cs3).unwrap();
        assert_eq!(SockRef::from(&four).tos_v4().unwrap(), 96);
        let six = tcp_listener("[::1]:0".parse().unwrap(), cs3).unwrap();
        assert_eq!(SockRef::from(&six).tclass_v6().unwrap(), 96);
        let client = tcp_client(six.local_addr().unwrap(), None, cs3).unwrap();
        let stream = client.connect(six.local_addr().unwrap()).await.unwrap();
        assert_eq!(SockRef::from(&stream).tclass_v6().unwrap(), 96);
        let (accepted, _) = six.accept().await.unwrap();
        tune(&accepted, cs3);
        assert_eq!(SockRef::from(&accepted).tclass_v6().unwrap(), 96);
    }
}
