//! UDP reception with the kernel's own time of arrival, so that a busy test tool does not measure itself.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::time::{SystemTime, UNIX_EPOCH};

/// Asks the kernel to stamp what arrives.
pub fn enable(socket: &UdpSocket) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open as long as the socket is borrowed, and the option's value is one int that
    // outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPNS,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Receives one datagram: its length, and when it arrived in nanoseconds since the epoch.
pub fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, i64)> {
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // Room for one timestamp, aligned as control messages want it.
    let mut control = [0u64; 8];
    // SAFETY: msghdr is plain data for which all zeros is valid.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control) as _;
    // SAFETY: the header points to one buffer and one control area, both alive and of the stated lengths.
    let len = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT) };
    if len < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut stamp = None;
    // SAFETY: the macros walk the control area that recvmsg has just filled; the data of SCM_TIMESTAMPNS is a
    // timespec, read without assuming its alignment.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(&raw const header);
        while !message.is_null() {
            if (*message).cmsg_level == libc::SOL_SOCKET && (*message).cmsg_type == libc::SCM_TIMESTAMPNS {
                let time: libc::timespec = std::ptr::read_unaligned(libc::CMSG_DATA(message).cast());
                stamp = Some(time.tv_sec * 1_000_000_000 + time.tv_nsec);
            }
            message = libc::CMSG_NXTHDR(&raw const header, message);
        }
    }
    Ok((len as usize, stamp.unwrap_or_else(wall_ns)))
}

/// The wall clock in nanoseconds since the epoch: the one the kernel stamps with.
pub fn wall_ns() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_comes_with_a_time_near_now() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        enable(&socket).unwrap();
        let before = wall_ns();
        socket.send_to(b"hello", socket.local_addr().unwrap()).unwrap();
        let mut buffer = [0; 100];
        let (len, at) = receive(&socket, &mut buffer).unwrap();
        assert_eq!(&buffer[..len], b"hello");
        assert!((before - 1_000_000..=wall_ns()).contains(&at), "{before} {at}");
        let nothing = receive(&socket, &mut buffer).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
    }
}
