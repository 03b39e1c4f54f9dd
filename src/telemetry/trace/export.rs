//! Sends copies of messages to a capture server. Lossy: whatever the socket does not take at once is dropped.

use super::{KeptMessage, Sender, hep3};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// The way to one capture server.
pub struct HepExport {
    socket: UdpSocket,
    sender: Sender,
    dropped: u64,
}

impl HepExport {
    /// Opens a socket of its own, so that no copy ever stands before a call's own message.
    pub fn open(server: SocketAddr, sender: Sender) -> io::Result<HepExport> {
        let any: SocketAddr = match server {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect(server)?;
        socket.set_nonblocking(true)?;
        Ok(HepExport { socket, sender, dropped: 0 })
    }

    /// Sends a copy; false if it was dropped.
    pub fn send(&mut self, message: &KeptMessage, correlation: &str) -> bool {
        let sent =
            hep3(message, &self.sender, correlation).is_some_and(|packet| self.socket.send(&packet).is_ok());
        self.dropped += u64::from(!sent);
        sent
    }

    /// Copies that were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}
