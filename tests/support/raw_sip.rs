//! SIP as bytes: for what no well-behaved peer would send.

use super::{lane::Lane, wait};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

/// A UDP socket that sends what it is told to.
pub struct RawUdp {
    socket: UdpSocket,
    to: Option<SocketAddr>,
}

impl RawUdp {
    /// At a port of its own.
    pub fn new(lane: &Lane) -> RawUdp {
        RawUdp { socket: UdpSocket::bind(lane.address()).expect("a free port"), to: None }
    }

    /// Sends to `to` from now on.
    pub fn towards(mut self, to: SocketAddr) -> RawUdp {
        self.to = Some(to);
        self
    }

    /// The socket itself.
    pub fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    pub fn local(&self) -> SocketAddr {
        self.socket.local_addr().expect("bound")
    }

    pub fn send(&self, bytes: impl AsRef<[u8]>) {
        let to = self.to.expect("it was told where to send");
        self.socket.send_to(bytes.as_ref(), to).expect("loopback takes it");
    }

    /// The next datagram within `limit`.
    pub fn receive(&self, limit: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(limit)).expect("a time-out is valid");
        let mut buffer = vec![0; 65_535];
        let (length, _) = self.socket.recv_from(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }

    /// Sends a request and waits for the first final answer; gives its status and text.
    #[track_caller]
    pub fn ask(&self, bytes: impl AsRef<[u8]>) -> (u16, String) {
        self.send(bytes);
        wait::until("a final answer", wait::SOON, || {
            let text = self.receive(wait::SOON)?;
            status(&text).filter(|status| *status >= 200).map(|status| (status, text))
        })
    }
}

impl RawUdp {
    /// A complete INVITE for `number` with this session description; `tag` tells it from others.
    pub fn invite(&self, number: &str, tag: &str, sdp: &str) -> String {
        let (to, me) = (self.to.expect("it was told where to send"), self.local());
        format!(
            "INVITE sip:{number}@{to} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {me};branch=z9hG4bK-{tag};rport\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:+33140205050@{me}>;tag={tag}\r\n\
             To: <sip:{number}@{to}>\r\n\
             Call-ID: {tag}@raw\r\n\
             CSeq: 1 INVITE\r\n\
             Contact: <sip:raw@{me}>\r\n\
             Content-Type: application/sdp\r\n\
             Content-Length: {}\r\n\r\n{sdp}",
            sdp.len()
        )
    }
}

/// The status of a response.
pub fn status(text: &str) -> Option<u16> {
    text.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
}

/// Request, response or nothing until the far end closes or `limit` has passed.
pub fn over_tcp(to: SocketAddr, bytes: &[u8], limit: Duration) -> (String, bool) {
    let mut stream = TcpStream::connect(to).expect("the gateway listens");
    stream.set_read_timeout(Some(limit)).expect("a time-out is valid");
    stream.write_all(bytes).expect("loopback takes it");
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return (String::from_utf8_lossy(&text).into_owned(), true),
            Ok(length) => text.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                return (String::from_utf8_lossy(&text).into_owned(), true);
            }
            Err(_) => return (String::from_utf8_lossy(&text).into_owned(), false),
        }
    }
}

/// A plain OPTIONS, complete and valid; `extra` stands among its headers.
pub fn options(to: SocketAddr, from: SocketAddr, tag: &str, extra: &str) -> String {
    format!(
        "OPTIONS sip:{to} SIP/2.0\r\n\
         Via: SIP/2.0/UDP {from};branch=z9hG4bK-{tag};rport\r\n\
         Max-Forwards: 70\r\n\
         From: <sip:probe@tandem.test>;tag={tag}\r\n\
         To: <sip:{to}>\r\n\
         Call-ID: {tag}@probe\r\n\
         CSeq: 1 OPTIONS\r\n\
         {extra}Content-Length: 0\r\n\r\n"
    )
}
