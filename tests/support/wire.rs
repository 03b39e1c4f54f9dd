//! An impaired wire between a gateway and one peer: a thread that stays in the way of signalling over UDP, puts itself
//! into both sides' session descriptions, and does to the media of each call what the plans say.
//!
//! The peer is told the wire's address as its registrar or proxy; or the gateway is, as a trunk's proxy.
//!
//! ```ignore
//! let gateway = Gateway::on(&lane).user("alice", ALICE);
//! let wire = Wire::on(&lane, gateway.udp()).to_gateway(Impairment::lose([50, 51, 90])).start();
//! let phone = Baresip::on(&lane, "alice").registers(wire.address(), "udp").start();
//! ```

mod media;
mod signalling;

use super::{
    impairment::{Impairment, Tally},
    lane::Lane,
    trace::TracedMessage,
};
use media::Media;
use signalling::{Ends, Towards};
use std::{
    collections::HashMap,
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// How often the thread looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(20);

/// A wire to be started.
pub struct WireBuilder {
    socket: UdpSocket,
    gateway: SocketAddr,
    peer: Option<SocketAddr>,
    to_gateway: Impairment,
    to_peer: Impairment,
}

impl WireBuilder {
    /// Where the peer waits for calls. Not needed for one that speaks first: it is where its requests come from.
    pub fn peer(mut self, address: SocketAddr) -> Self {
        self.peer = Some(address);
        self
    }

    /// What happens to the media that the peer sends.
    #[allow(clippy::wrong_self_convention, reason = "a direction, not a conversion")]
    pub fn to_gateway(mut self, plan: Impairment) -> Self {
        self.to_gateway = plan;
        self
    }

    /// What happens to the media that the gateway sends.
    #[allow(clippy::wrong_self_convention, reason = "a direction, not a conversion")]
    pub fn to_peer(mut self, plan: Impairment) -> Self {
        self.to_peer = plan;
        self
    }

    /// Where both sides send their requests.
    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().expect("a bound socket")
    }

    #[track_caller]
    pub fn start(self) -> Wire {
        let address = self.address();
        let shared = Arc::new(Shared::default());
        let thread = {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || Relay::new(self).run(&shared))
        };
        Wire { address, shared, thread: Some(thread) }
    }
}

/// A wire at work. Dropping it cuts it.
pub struct Wire {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    cut: AtomicBool,
    peer_silent: AtomicBool,
    /// One a call, in the order of their session descriptions.
    calls: Mutex<Vec<Tallies>>,
    messages: Mutex<Vec<TracedMessage>>,
}

/// What became of the media of one call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tallies {
    /// Where the gateway takes the call's media, once it said so.
    pub gateway: Option<SocketAddr>,
    pub to_gateway: Tally,
    pub to_peer: Tally,
}

impl Wire {
    /// A wire to `gateway`, perfect until told otherwise.
    pub fn on(lane: &Lane, gateway: SocketAddr) -> WireBuilder {
        let socket = UdpSocket::bind(lane.address()).expect("a free port");
        let none = Impairment::none();
        WireBuilder { socket, gateway, peer: None, to_gateway: none.clone(), to_peer: none }
    }

    /// Where both sides send their requests.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What became of the media of each call so far.
    pub fn calls(&self) -> Vec<Tallies> {
        self.shared.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on all media of the peer is swallowed and not counted: once both sides have digested what is under
    /// way, their counts hold still and can be compared with the wire's.
    pub fn silence_peer(&self) {
        self.shared.peer_silent.store(true, Ordering::Relaxed);
    }

    /// All SIP that came by, as the peer would have logged it.
    pub fn messages(&self) -> Vec<TracedMessage> {
        self.shared.messages.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The one call of a test with one.
    #[track_caller]
    pub fn call(&self) -> Tallies {
        let mut calls = self.calls();
        assert_eq!(calls.len(), 1, "calls over the wire: {calls:?}");
        calls.remove(0)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.cut.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        if ended.is_some_and(|ended| ended.is_err()) && !std::thread::panicking() {
            panic!("the wire broke");
        }
    }
}

/// What the thread owns.
struct Relay {
    socket: UdpSocket,
    gateway: SocketAddr,
    peer: Option<SocketAddr>,
    plans: (Impairment, Impairment),
    calls: Vec<Media>,
    by_call_id: HashMap<String, usize>,
}

impl Relay {
    fn new(wire: WireBuilder) -> Relay {
        wire.socket.set_nonblocking(true).expect("a socket that does not block");
        Relay {
            socket: wire.socket,
            gateway: wire.gateway,
            peer: wire.peer,
            plans: (wire.to_gateway, wire.to_peer),
            calls: Vec::new(),
            by_call_id: HashMap::new(),
        }
    }

    fn run(mut self, shared: &Shared) {
        while !shared.cut.load(Ordering::Relaxed) {
            self.wait();
            self.relay_signalling(shared);
            let peer_silent = shared.peer_silent.load(Ordering::Relaxed);
            for call in &mut self.calls {
                call.relay(peer_silent);
            }
            let tallies = self.calls.iter().map(Media::tallies).collect();
            *shared.calls.lock().unwrap_or_else(PoisonError::into_inner) = tallies;
        }
    }

    /// Until a datagram comes or one is due.
    fn wait(&self) {
        let due = self.calls.iter().filter_map(Media::poll_timeout).min();
        let limit = due.map_or(LOOK, |due| due.saturating_duration_since(Instant::now()).min(LOOK));
        let sockets = std::iter::once(&self.socket).chain(self.calls.iter().flat_map(Media::sockets));
        let mut wanted: Vec<libc::pollfd> = sockets
            .map(|socket| libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 })
            .collect();
        // Rounded up: a wait that ends just before the time would spin.
        let millis = limit.as_micros().div_ceil(1_000) as libc::c_int;
        // SAFETY: the list is that long and lives through the call.
        unsafe { libc::poll(wanted.as_mut_ptr(), wanted.len() as libc::nfds_t, millis) };
    }

    fn relay_signalling(&mut self, shared: &Shared) {
        let mut buffer = [0; 65_536];
        while let Ok((length, from)) = self.socket.recv_from(&mut buffer) {
            // Anything else keeps a way through a NAT open.
            let Ok(text) = std::str::from_utf8(&buffer[..length]) else { continue };
            let Some(call_id) = signalling::call_id(text) else { continue };
            let towards = if from == self.gateway { Towards::Peer } else { Towards::Gateway };
            if towards == Towards::Gateway {
                self.peer = Some(from);
            }
            let Some(peer) = self.peer else { continue };
            let traced = TracedMessage::now(towards == Towards::Gateway, text);
            shared.messages.lock().unwrap_or_else(PoisonError::into_inner).push(traced);
            let wire = self.socket.local_addr().expect("a bound socket");
            let ends = Ends { wire, peer };
            let media = signalling::session(text).map(|session| {
                let call = self.call(call_id);
                (call.learn(towards, session), session)
            });
            let text = signalling::pass(text, towards, &ends, media);
            let to = if towards == Towards::Peer { peer } else { self.gateway };
            let _ = self.socket.send_to(text.as_bytes(), to);
        }
    }

    fn call(&mut self, id: &str) -> &mut Media {
        let index = *self.by_call_id.entry(id.to_owned()).or_insert(self.calls.len());
        if index == self.calls.len() {
            self.calls.push(Media::new(&self.plans.0, &self.plans.1));
        }
        &mut self.calls[index]
    }
}
