//! The media of one call on the wire: two ports that stand for the peer, two for the gateway, and an impaired stream
//! each way between them.

use super::{Tallies, signalling::Towards};
use crate::support::impairment::{ImpairedStream, Impairment, MediaPort, Packet};
use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::Instant,
};

pub struct Media {
    peer: Side,
    gateway: Side,
    to_gateway: ImpairedStream,
    to_peer: ImpairedStream,
}

/// What the wire knows of one side, and the ports it shows to it.
struct Side {
    rtp: UdpSocket,
    rtcp: UdpSocket,
    /// Where the side is: as it said, then from where its packets come, as a NAT would have it.
    rtp_at: Option<SocketAddr>,
    rtcp_at: Option<SocketAddr>,
}

impl Media {
    pub fn new(to_gateway: &Impairment, to_peer: &Impairment) -> Media {
        Media {
            peer: Side::new(),
            gateway: Side::new(),
            to_gateway: ImpairedStream::new(to_gateway),
            to_peer: ImpairedStream::new(to_peer),
        }
    }

    /// Takes the session of the sender; gives the port that stands for it on the other side.
    pub fn learn(&mut self, towards: Towards, session: SocketAddr) -> u16 {
        let (sender, receiver) = match towards {
            Towards::Gateway => (&mut self.peer, &self.gateway),
            Towards::Peer => (&mut self.gateway, &self.peer),
        };
        sender.rtp_at = Some(session);
        sender.rtcp_at = Some(SocketAddr::new(session.ip(), session.port() + 1));
        receiver.rtp.local_addr().expect("a bound socket").port()
    }

    pub fn sockets(&self) -> impl Iterator<Item = &UdpSocket> {
        [&self.peer.rtp, &self.peer.rtcp, &self.gateway.rtp, &self.gateway.rtcp].into_iter()
    }

    pub fn relay(&mut self, peer_silent: bool) {
        let now = Instant::now();
        self.peer.read(|packet| {
            if !peer_silent {
                self.to_gateway.handle_input(now, packet);
            }
        });
        self.gateway.read(|packet| self.to_peer.handle_input(now, packet));
        self.gateway.write_from(now, &mut self.to_gateway);
        self.peer.write_from(now, &mut self.to_peer);
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let both = [self.to_gateway.poll_timeout(), self.to_peer.poll_timeout()];
        both.into_iter().flatten().min()
    }

    pub fn tallies(&self) -> Tallies {
        Tallies {
            gateway: self.gateway.rtp_at,
            to_gateway: self.to_gateway.tally().clone(),
            to_peer: self.to_peer.tally().clone(),
        }
    }
}

impl Side {
    fn new() -> Side {
        let (rtp, rtcp) = (0..1_000).find_map(|_| neighbours()).expect("an even port and the next one");
        Side { rtp, rtcp, rtp_at: None, rtcp_at: None }
    }

    fn read(&mut self, mut take: impl FnMut(Packet)) {
        let ports =
            [(MediaPort::Rtp, &self.rtp, &mut self.rtp_at), (MediaPort::Rtcp, &self.rtcp, &mut self.rtcp_at)];
        let mut buffer = [0; 2_048];
        for (port, socket, at) in ports {
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                *at = Some(from);
                take(Packet { port, bytes: buffer[..length].to_vec() });
            }
        }
    }

    fn write_from(&self, now: Instant, stream: &mut ImpairedStream) {
        while let Some(packet) = stream.poll_output(now) {
            let (socket, to) = match packet.port {
                MediaPort::Rtp => (&self.rtp, self.rtp_at),
                MediaPort::Rtcp => (&self.rtcp, self.rtcp_at),
            };
            // A side that has hung up takes nothing any more.
            let _ = to.map(|to| socket.send_to(&packet.bytes, to));
        }
    }
}

fn neighbours() -> Option<(UdpSocket, UdpSocket)> {
    let rtp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
    let port = rtp.local_addr().ok()?.port();
    let rtcp = port.is_multiple_of(2).then(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, port + 1)).ok())??;
    rtp.set_nonblocking(true).and(rtcp.set_nonblocking(true)).ok()?;
    Some((rtp, rtcp))
}
