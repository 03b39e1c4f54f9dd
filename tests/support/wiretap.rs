//! Somebody on the way of a call's media: sees every packet, and sends more from the address the packets come from. The
//! signalling may be encrypted: it is the gateway that is told to name this place (compare `wire`, which rewrites SDP).

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

/// Where the gateway says that its media is (`network.public_address`), and where this stands instead.
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const INSIDE: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// How soon the end is noticed.
const PATIENCE: Duration = Duration::from_millis(50);

/// What is added to a packet of a phone on its way to the gateway.
pub struct Added {
    /// To the port the packet goes to, else to the one above it (RTCP).
    pub same_port: bool,
    pub bytes: Vec<u8>,
}

/// Taps the ports of a gateway until it is dropped.
pub struct Wiretap {
    stop: Arc<AtomicBool>,
    added: Arc<AtomicUsize>,
    live: Arc<Mutex<Vec<u16>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Wiretap {
    /// `meddle` is shown each packet of a phone with its gateway port, and says what follows it.
    pub fn start(ports: std::ops::Range<u16>, meddle: fn(u16, &[u8]) -> Vec<Added>) -> Wiretap {
        let stop = Arc::new(AtomicBool::new(false));
        let (added, live) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let sockets: Vec<Arc<UdpSocket>> = ports
            .clone()
            .map(|port| Arc::new(UdpSocket::bind((OUTSIDE, port)).expect("a port of the outside")))
            .collect();
        let threads = ports.zip(0..).map(|(port, index)| {
            let tap = Tap {
                port,
                socket: Arc::clone(&sockets[index]),
                above: sockets.get(index + 1).map(Arc::clone),
                phone: None,
                meddle,
                added: Arc::clone(&added),
                live: Arc::clone(&live),
            };
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || tap.run(&stop))
        });
        let threads = threads.collect();
        Wiretap { stop, added, live, threads }
    }

    /// How many packets it has added.
    pub fn added(&self) -> usize {
        self.added.load(Ordering::Relaxed)
    }

    /// The gateway's ports that phones have sent to.
    pub fn live_ports(&self) -> Vec<SocketAddr> {
        let live = self.live.lock().expect("nobody panics with it");
        live.iter().map(|port| SocketAddr::from((INSIDE, *port))).collect()
    }
}

impl Drop for Wiretap {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// One port of the gateway.
struct Tap {
    port: u16,
    socket: Arc<UdpSocket>,
    above: Option<Arc<UdpSocket>>,
    /// Who sends to this port.
    phone: Option<SocketAddr>,
    meddle: fn(u16, &[u8]) -> Vec<Added>,
    added: Arc<AtomicUsize>,
    live: Arc<Mutex<Vec<u16>>>,
}

impl Tap {
    fn run(mut self, stop: &AtomicBool) {
        let gateway = SocketAddr::from((INSIDE, self.port));
        self.socket.set_read_timeout(Some(PATIENCE)).expect("a time-out is valid");
        let mut buffer = [0; 2_048];
        while !stop.load(Ordering::Relaxed) {
            let Ok((length, from)) = self.socket.recv_from(&mut buffer) else { continue };
            let packet = &buffer[..length];
            if from == gateway {
                if let Some(phone) = self.phone {
                    let _ = self.socket.send_to(packet, phone);
                }
                continue;
            }
            if self.phone.replace(from).is_none() {
                self.live.lock().expect("nobody panics with it").push(self.port);
            }
            let _ = self.socket.send_to(packet, gateway);
            for Added { same_port, bytes } in (self.meddle)(self.port, packet) {
                let sent = match (same_port, &self.above) {
                    (true, _) => self.socket.send_to(&bytes, gateway),
                    (false, Some(above)) => above.send_to(&bytes, (INSIDE, self.port + 1)),
                    (false, None) => continue,
                };
                self.added.fetch_add(usize::from(sent.is_ok()), Ordering::Relaxed);
            }
        }
    }
}
