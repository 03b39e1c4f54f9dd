//! A test's own piece of the machine: a block of ports and a folder that no other test uses at the same time.

use std::{
    cell::Cell,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

/// Below the kernel's range for outgoing connections (32768 and up), so that nobody takes a port by chance.
const FIRST_PORT: u16 = 11_000;
const PORTS: u16 = 200;
const LANES: u16 = 100;
/// The upper half of a lane is for the gateway's media.
const MEDIA_PORTS: u16 = 100;

/// Taken at the start of a test; given back, folder included, at its end. The folder of a failed test stays.
pub struct Lane {
    _lock: TcpListener,
    first: u16,
    next: Cell<u16>,
    folder: PathBuf,
}

impl Lane {
    /// Takes a free lane. Bound to its first port, it is also safe from tests of other processes.
    pub fn take(test: &str) -> Lane {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let start = (std::process::id().wrapping_mul(7).wrapping_add(count) % u32::from(LANES)) as u16;
        let (lock, first) = (0..LANES)
            .map(|step| FIRST_PORT + (start + step) % LANES * PORTS)
            .find_map(|first| Some((TcpListener::bind((Ipv4Addr::LOCALHOST, first)).ok()?, first)))
            .expect("a free lane of ports");
        let folder =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for the test");
        Lane { _lock: lock, first, next: Cell::new(first + 1), folder }
    }

    /// The folder of this test.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A file or folder of that name in the test's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Makes a folder of that name in the test's folder.
    pub fn make_folder(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(&path).expect("a folder for a peer");
        path
    }

    /// A port that is free for UDP and TCP.
    pub fn port(&self) -> u16 {
        self.ports(1)
    }

    /// The first of `count` neighbouring ports that are free for UDP and TCP.
    pub fn ports(&self, count: u16) -> u16 {
        loop {
            let first = self.next.get();
            assert!(first + count <= self.first + PORTS - MEDIA_PORTS, "this lane has no port left");
            match (first..first + count).find(|port| !is_free(*port)) {
                None => {
                    self.next.set(first + count);
                    return first;
                }
                Some(taken) => self.next.set(taken + 1),
            }
        }
    }

    /// The first of `count` neighbouring ports, an even one: for RTP and RTCP.
    pub fn even_ports(&self, count: u16) -> u16 {
        self.next.set(self.next.get().next_multiple_of(2));
        let first = self.ports(count);
        if first.is_multiple_of(2) { first } else { self.even_ports(count) }
    }

    /// A new address on loopback.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port()))
    }

    /// An address of loopback that is this test's alone, whatever the port.
    pub fn own_ip(&self) -> IpAddr {
        self.ip(1)
    }

    /// One of the addresses of loopback that are this test's alone; 1 is [`own_ip`](Self::own_ip).
    pub fn ip(&self, host: u8) -> IpAddr {
        let index = (self.first - FIRST_PORT) / PORTS;
        IpAddr::from([127, 77, u8::try_from(index).expect("as many lanes as fit"), host])
    }

    /// All ports of this test, first and last.
    pub fn all_ports(&self) -> (u16, u16) {
        (self.first, self.first + PORTS - 1)
    }

    /// The port range of the gateway's media, as the configuration writes it.
    pub fn media_ports(&self) -> String {
        let end = self.first + PORTS;
        format!("{}-{}", end - MEDIA_PORTS, end - 1)
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("what the peers left behind: {}", self.folder.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

fn is_free(port: u16) -> bool {
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
        && TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
}
