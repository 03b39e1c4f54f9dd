//! RTP packets by hand: who gets them, from where, and how they are marked.

use super::{lane::Lane, trace::TracedMessage};
use std::{
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    time::Duration,
};

/// A socket for media.
pub struct RtpSocket(UdpSocket);

/// A packet that arrived.
#[derive(Debug, Clone)]
pub struct RtpPacket {
    pub payload_type: u8,
    pub sequence: u16,
    pub timestamp: u32,
    pub ssrc: u32,
    pub payload: Vec<u8>,
}

impl RtpSocket {
    pub fn new(lane: &Lane) -> RtpSocket {
        RtpSocket::at(lane.address())
    }

    /// At this address, as a session description names it.
    pub fn at(address: SocketAddr) -> RtpSocket {
        RtpSocket(UdpSocket::bind(address).expect("a free port"))
    }

    /// Sends one packet of 20 ms; `count` is its place in the stream, `step` its length in the codec's clock.
    pub fn send(&self, to: SocketAddr, payload_type: u8, count: u16, step: u32, payload: &[u8]) {
        self.send_at(to, payload_type, count, u32::from(count) * step, payload);
    }

    /// Sends one packet of this timestamp.
    pub fn send_at(&self, to: SocketAddr, payload_type: u8, count: u16, timestamp: u32, payload: &[u8]) {
        let mut packet = vec![0x80, payload_type];
        packet.extend_from_slice(&count.to_be_bytes());
        packet.extend_from_slice(&timestamp.to_be_bytes());
        packet.extend_from_slice(&0x7a7a_0001_u32.to_be_bytes());
        packet.extend_from_slice(payload);
        self.0.send_to(&packet, to).expect("loopback takes it");
    }

    /// The next packet within `limit`.
    pub fn receive(&self, limit: Duration) -> Option<RtpPacket> {
        self.0.set_read_timeout(Some(limit)).expect("a time-out is valid");
        let mut buffer = [0; 2_048];
        let (length, _) = self.0.recv_from(&mut buffer).ok()?;
        let packet = &buffer[..length];
        Some(RtpPacket {
            payload_type: packet.get(1)? & 0x7f,
            sequence: u16::from_be_bytes(packet.get(2..4)?.try_into().ok()?),
            timestamp: u32::from_be_bytes(packet.get(4..8)?.try_into().ok()?),
            ssrc: u32::from_be_bytes(packet.get(8..12)?.try_into().ok()?),
            payload: packet.get(12..)?.to_vec(),
        })
    }

    /// Takes away what has arrived.
    pub fn drain(&self) {
        while self.receive(Duration::from_millis(1)).is_some() {}
    }
}

/// Where a session description wants its audio.
pub fn audio_of(message: &TracedMessage) -> SocketAddr {
    let address = message.sdp("c=IN IP4 ").next().expect("an IPv4 connection line");
    let port =
        message.sdp("m=audio ").next().and_then(|media| media.split(' ').next()).expect("an audio line");
    format!("{address}:{port}").parse().expect("an address")
}

/// The DSCP of the next datagram that arrives at a socket.
pub fn dscp_of_next(socket: &UdpSocket, limit: Duration) -> Option<u8> {
    socket.set_read_timeout(Some(limit)).expect("a time-out is valid");
    let on: libc::c_int = 1;
    // SAFETY: the option takes an int that lives through the call.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_RECVTOS,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    assert_eq!(set, 0, "the kernel tells the type of service");
    let mut data = [0_u8; 2_048];
    let mut control = [0_u64; 16];
    let mut part = libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: data.len() };
    // SAFETY: all zero is a valid msghdr; its pointers are set to buffers that outlive the call.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    // SAFETY: the header describes buffers of the given lengths.
    if unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) } < 0 {
        return None;
    }
    // SAFETY: the kernel filled the control buffer that the header names; the macros stay inside it.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::IPPROTO_IP && (*header).cmsg_type == libc::IP_TOS {
                return Some(*libc::CMSG_DATA(header) >> 2);
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    None
}

impl AsRef<UdpSocket> for RtpSocket {
    fn as_ref(&self) -> &UdpSocket {
        &self.0
    }
}
