//! Datagrams that came back: what ICMP says of them, as the kernel keeps it for the socket (RFC 3261 §18.4).

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    os::fd::AsRawFd,
};

/// A datagram that can't have been received.
pub(super) struct Undelivered<'a> {
    /// Where it was sent.
    pub remote: SocketAddr,
    /// How it began.
    pub quoted: &'a [u8],
}

/// Types of ICMP (RFC 792) and ICMPv6 (RFC 4443) that say so: unreachable, parameter problem. Whatever else comes,
/// as a hop count that ran out, is to be ignored.
const V4_UNREACHABLE: u8 = 3;
const V4_FRAGMENTATION_NEEDED: u8 = 4;
const V4_PARAMETER_PROBLEM: u8 = 12;
const V6_UNREACHABLE: u8 = 1;
const V6_PARAMETER_PROBLEM: u8 = 4;

/// Has the kernel keep what comes back for this socket.
pub(super) fn ask_for(socket: &impl AsRawFd, family: IpAddr) -> io::Result<()> {
    let (level, name) = match family {
        IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_RECVERR),
        IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVERR),
    };
    let on: libc::c_int = 1;
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the option takes an int, which lives through the call.
    let set = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const on).cast(), length) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Takes the next thing that came back; `None` for one that means nothing to us.
///
/// # Errors
/// `WouldBlock` when there is no more.
pub(super) fn next<'a>(socket: &impl AsRawFd, buffer: &'a mut [u8]) -> io::Result<Option<Undelivered<'a>>> {
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all zero is a valid address of no family.
    let mut address: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    // Aligned for control messages, and more than the one that comes.
    let mut control = [0_u64; 32];
    // SAFETY: all zero is a valid header; its pointers are set to what outlives the call.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_name = (&raw mut address).cast();
    header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control) as _;
    let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
    // SAFETY: the header names buffers with their true lengths.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
    let Ok(length) = usize::try_from(length) else { return Err(io::Error::last_os_error()) };
    let Some(remote) = socket_address(&address) else { return Ok(None) };
    let quoted = &buffer[..length.min(buffer.len())];
    Ok(says_undeliverable(&header).then_some(Undelivered { remote, quoted }))
}

fn says_undeliverable(header: &libc::msghdr) -> bool {
    // SAFETY: the kernel filled the control buffer that the header names, and the macros stay inside it.
    unsafe {
        let mut control = libc::CMSG_FIRSTHDR(header);
        while !control.is_null() {
            let kind = ((*control).cmsg_level, (*control).cmsg_type);
            if kind == (libc::IPPROTO_IP, libc::IP_RECVERR)
                || kind == (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
            {
                let error: libc::sock_extended_err =
                    std::ptr::read_unaligned(libc::CMSG_DATA(control).cast());
                return is_final(&error);
            }
            control = libc::CMSG_NXTHDR(header, control);
        }
    }
    false
}

fn is_final(error: &libc::sock_extended_err) -> bool {
    match error.ee_origin {
        libc::SO_EE_ORIGIN_ICMP => match error.ee_type {
            // The kernel cuts the next one smaller.
            V4_UNREACHABLE => error.ee_code != V4_FRAGMENTATION_NEEDED,
            V4_PARAMETER_PROBLEM => true,
            _ => false,
        },
        libc::SO_EE_ORIGIN_ICMP6 => matches!(error.ee_type, V6_UNREACHABLE | V6_PARAMETER_PROBLEM),
        _ => false,
    }
}

fn socket_address(address: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match libc::c_int::from(address.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that it is one of IPv4, and the storage is large enough for any.
            let four = unsafe { &*(&raw const *address).cast::<libc::sockaddr_in>() };
            let ip = IpAddr::from(four.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddr::new(ip, u16::from_be(four.sin_port)))
        }
        libc::AF_INET6 => {
            // SAFETY: as above, for IPv6.
            let six = unsafe { &*(&raw const *address).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(six.sin6_addr.s6_addr);
            Some(SocketAddr::new(ip.into(), u16::from_be(six.sin6_port)))
        }
        _ => None,
    }
}
