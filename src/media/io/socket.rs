//! Batched, time-stamped receiving on UDP sockets, straight from the system calls.

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Datagrams taken by one system call. Few ports ever have more than one waiting.
pub const BATCH: usize = 4;
/// Room per datagram; a longer one can't be media and is dropped.
const ROOM: usize = 1_600;
/// Room for one `SCM_TIMESTAMPNS` message.
const CONTROL_ROOM: usize = 64;

/// Buffers for one call of [`receive`](Inbox::receive), reused for all sockets of a thread.
pub struct Inbox {
    bytes: Box<[[u8; ROOM]; BATCH]>,
    addresses: Box<[MaybeUninit<libc::sockaddr_storage>; BATCH]>,
    control: Box<[Control; BATCH]>,
    received: [Option<Received>; BATCH],
}

/// Aligned as a control message header must be.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL_ROOM]);

#[derive(Clone, Copy)]
struct Received {
    len: usize,
    from: SocketAddr,
    stamp: Option<Duration>,
}

/// One datagram.
pub struct Packet<'a> {
    pub from: SocketAddr,
    /// When the kernel took it from the network, on its calendar clock.
    pub stamp: Option<Duration>,
    pub bytes: &'a mut [u8],
}

impl Default for Inbox {
    fn default() -> Inbox {
        Inbox {
            bytes: vec![[0; ROOM]; BATCH].try_into().unwrap_or_else(|_| unreachable!("BATCH buffers")),
            addresses: Box::new([const { MaybeUninit::zeroed() }; BATCH]),
            control: Box::new([Control([0; CONTROL_ROOM]); BATCH]),
            received: [None; BATCH],
        }
    }
}

impl Inbox {
    /// Takes what is waiting, up to [`BATCH`]. Returns how many datagrams the kernel gave; fewer than `BATCH` means that
    /// nothing more is waiting.
    pub fn receive(&mut self, socket: &impl AsRawFd) -> io::Result<usize> {
        self.received = [None; BATCH];
        // SAFETY: these structures are plain data for which zeroes are valid.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { mem::zeroed() };
        let mut vectors: [libc::iovec; BATCH] = unsafe { mem::zeroed() };
        for index in 0..BATCH {
            vectors[index] = libc::iovec { iov_base: self.bytes[index].as_mut_ptr().cast(), iov_len: ROOM };
            let header = &mut headers[index].msg_hdr;
            header.msg_name = self.addresses[index].as_mut_ptr().cast();
            header.msg_namelen = mem::size_of::<libc::sockaddr_storage>() as u32;
            header.msg_iov = &mut vectors[index];
            header.msg_iovlen = 1;
            header.msg_control = self.control[index].0.as_mut_ptr().cast();
            header.msg_controllen = CONTROL_ROOM as _;
        }
        // SAFETY: every pointer in `headers` leads to a buffer of the stated length that outlives the call and that
        // nothing else refers to meanwhile.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as u32,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        if count < 0 {
            return Err(io::Error::last_os_error());
        }
        for (index, header) in headers.iter().enumerate().take(count as usize) {
            if header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0 {
                continue;
            }
            // SAFETY: the kernel filled in an address of its family, or left the zeroes it was made of.
            let from = unsafe { address(self.addresses[index].assume_init_ref()) };
            // SAFETY: the header describes the control buffer the kernel just filled.
            let stamp = unsafe { timestamp(&header.msg_hdr) };
            self.received[index] = from.map(|from| Received { len: header.msg_len as usize, from, stamp });
        }
        Ok(count as usize)
    }

    /// The datagram at `index` of the last call; `None` if it was too long or came from nowhere.
    pub fn packet(&mut self, index: usize) -> Option<Packet<'_>> {
        let Received { len, from, stamp } = self.received[index]?;
        Some(Packet { from, stamp, bytes: &mut self.bytes[index][..len] })
    }
}

/// # Safety
/// `storage` holds an address of the family it names.
unsafe fn address(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that a sockaddr_in lies here, and storage is aligned for all of them.
            let v4 = unsafe { &*(storage as *const libc::sockaddr_storage).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above, for sockaddr_in6.
            let v6 = unsafe { &*(storage as *const libc::sockaddr_storage).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            Some(SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), v6.sin6_flowinfo, v6.sin6_scope_id).into())
        }
        _ => None,
    }
}

/// # Safety
/// `header` describes a control buffer filled by the kernel.
unsafe fn timestamp(header: &libc::msghdr) -> Option<Duration> {
    // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR stay within the buffer the header describes; SCM_TIMESTAMPNS carries a
    // timespec.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while !message.is_null() {
            if (*message).cmsg_level == libc::SOL_SOCKET && (*message).cmsg_type == libc::SCM_TIMESTAMPNS {
                let time = libc::CMSG_DATA(message).cast::<libc::timespec>().read_unaligned();
                return Some(Duration::new(time.tv_sec as u64, time.tv_nsec as u32));
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
    None
}

/// Asks the kernel to note when each datagram arrived. Without it arrival is when it was read.
pub fn enable_timestamps(socket: &impl AsRawFd) {
    let on: libc::c_int = 1;
    let fd: RawFd = socket.as_raw_fd();
    // SAFETY: the option takes an int, which is what it is given.
    unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPNS,
            (&raw const on).cast(),
            mem::size_of::<libc::c_int>() as u32,
        );
    }
}

/// The calendar clock as the kernel's stamps count it.
pub fn calendar() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    fn pair(address: &str) -> (UdpSocket, UdpSocket) {
        let (a, b) = (UdpSocket::bind(address).unwrap(), UdpSocket::bind(address).unwrap());
        b.set_nonblocking(true).unwrap();
        (a, b)
    }

    #[test]
    fn a_batch_has_each_datagram_with_its_source_and_time() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (sender, receiver) = pair(address);
            enable_timestamps(&receiver);
            let before = calendar();
            for n in 0..BATCH + 3 {
                sender.send_to(&[n as u8; 20], receiver.local_addr().unwrap()).unwrap();
            }
            let mut inbox = Inbox::default();
            assert_eq!(inbox.receive(&receiver).unwrap(), BATCH);
            for n in 0..BATCH {
                let packet = inbox.packet(n).unwrap();
                assert_eq!(packet.bytes, [n as u8; 20]);
                assert_eq!(packet.from, sender.local_addr().unwrap());
                let stamp = packet.stamp.unwrap();
                assert!(stamp >= before && stamp <= calendar(), "{stamp:?}");
            }
            assert_eq!(inbox.receive(&receiver).unwrap(), 3);
            assert!(inbox.packet(3).is_none());
            assert_eq!(inbox.receive(&receiver).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        }
    }

    #[test]
    fn a_datagram_too_long_for_media_is_dropped() {
        let (sender, receiver) = pair("127.0.0.1:0");
        sender.send_to(&[0; 3000], receiver.local_addr().unwrap()).unwrap();
        let mut inbox = Inbox::default();
        assert_eq!(inbox.receive(&receiver).unwrap(), 1);
        assert!(inbox.packet(0).is_none());
    }
}
