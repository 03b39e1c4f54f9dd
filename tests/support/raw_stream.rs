//! A stream of SIP as bytes, plain or in TLS: sent in the pieces it is told to, read message by message.

use super::tls::Authority;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use socket2::{Domain, Socket, Type};
use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

pub struct RawStream {
    wire: Wire,
    socket: TcpStream,
    unread: Vec<u8>,
    closed: bool,
}

enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl RawStream {
    /// Connects to `to` from an address of one's own.
    pub fn tcp(from: IpAddr, to: SocketAddr) -> RawStream {
        let socket = connect(from, to);
        let wire = Wire::Plain(socket.try_clone().expect("a descriptor"));
        RawStream { wire, socket, unread: Vec::new(), closed: false }
    }

    /// The same in TLS, to one whose certificate `authority` has issued.
    pub fn tls(from: IpAddr, to: SocketAddr, authority: &Authority) -> RawStream {
        let mut roots = RootCertStore::empty();
        let pem = authority.certificate().as_bytes();
        roots.add(CertificateDer::from_pem_slice(pem).expect("a certificate")).expect("an authority");
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions of TLS")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = ClientConnection::new(Arc::new(config), ServerName::from(to.ip())).expect("a name");
        let socket = connect(from, to);
        let stream = StreamOwned::new(client, socket.try_clone().expect("a descriptor"));
        RawStream { wire: Wire::Tls(Box::new(stream)), socket, unread: Vec::new(), closed: false }
    }

    /// Our end of a connection that somebody has made to us.
    pub fn accepted(socket: TcpStream) -> RawStream {
        socket.set_nonblocking(false).expect("an option of a socket");
        let wire = Wire::Plain(socket.try_clone().expect("a descriptor"));
        RawStream { wire, socket, unread: Vec::new(), closed: false }
    }

    pub fn local(&self) -> SocketAddr {
        self.socket.local_addr().expect("connected")
    }

    /// Sends these bytes as one piece: one segment of TCP, one record of TLS. What the far end no longer takes is lost.
    pub fn send(&mut self, bytes: &[u8]) {
        let sent = match &mut self.wire {
            Wire::Plain(stream) => stream.write_all(bytes),
            Wire::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        };
        self.closed |= sent.is_err();
    }

    /// The next whole message, cut out by its Content-Length; `None` after `limit` or at the end of the stream. Line
    /// ends between messages are passed over.
    pub fn receive(&mut self, limit: Duration) -> Option<String> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(message) = self.cut() {
                return Some(message);
            }
            if !self.read_until(deadline) {
                return None;
            }
        }
    }

    /// Waits for the next `count` octets, whatever they are.
    pub fn receive_octets(&mut self, count: usize, limit: Duration) -> Option<Vec<u8>> {
        let deadline = Instant::now() + limit;
        while self.unread.len() < count {
            if !self.read_until(deadline) {
                return None;
            }
        }
        Some(self.unread.drain(..count).collect())
    }

    /// True if the far end closes within `limit`.
    pub fn is_closed(&mut self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.read_until(deadline) {}
        self.closed
    }

    fn cut(&mut self) -> Option<String> {
        let start = self.unread.iter().position(|octet| !matches!(octet, b'\r' | b'\n'))?;
        let message = &self.unread[start..];
        let head = message.windows(4).position(|octets| octets == b"\r\n\r\n")? + 4;
        let length = String::from_utf8_lossy(&message[..head]).lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("Content-Length").then(|| value.trim().parse().ok())?
        });
        let end = start + head + length.unwrap_or(0);
        (self.unread.len() >= end).then(|| {
            let taken: Vec<u8> = self.unread.drain(..end).collect();
            String::from_utf8_lossy(&taken[start..]).into_owned()
        })
    }

    /// Reads once; false at the end or when the time is over.
    fn read_until(&mut self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        if self.closed || left.is_zero() {
            return false;
        }
        self.socket.set_read_timeout(Some(left)).expect("a time-out is valid");
        let mut buffer = [0; 4096];
        let read = match &mut self.wire {
            Wire::Plain(stream) => stream.read(&mut buffer),
            Wire::Tls(stream) => stream.read(&mut buffer),
        };
        match read {
            Ok(0) => self.closed = true,
            Ok(length) => self.unread.extend_from_slice(&buffer[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => self.closed = true,
        }
        !self.closed
    }
}

fn connect(from: IpAddr, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::new(from, 0).into()).expect("an address of this machine");
    socket.connect(&to.into()).expect("the gateway listens");
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true).expect("an option of TCP");
    stream
}
