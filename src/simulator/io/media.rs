//! Threads that carry the media of the simulator's calls: sockets, clocks and streams.

use super::stamped;
use crate::media::rtp::MAX_PACKET;
use crate::sdp::Negotiated;
use crate::simulator::stream::{Stream, StreamOutcome, StreamPlan, StreamSeed};
use crate::simulator::voice::Speech;
use crate::types::{Now, UnixMillis};
use mio::{Events, Interest, Poll, Token, Waker, unix::SourceFd};
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::{Arc, atomic::AtomicUsize, atomic::Ordering, mpsc};
use std::thread;
use std::time::{Duration, Instant};

const WAKE: Token = Token(usize::MAX);
/// Pairs of adjacent ports tried before any two are taken.
const PAIR_TRIES: usize = 20;

/// Names one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u64);

/// The two sockets of a stream.
#[derive(Debug)]
pub struct StreamSockets {
    rtp: UdpSocket,
    rtcp: UdpSocket,
    /// Where RTP is received.
    pub address: SocketAddr,
    pub rtcp_port: u16,
}

impl StreamSockets {
    /// Opens two free ports, adjacent and even first where that can be had (RFC 3550 §11).
    pub fn open(ip: IpAddr) -> io::Result<StreamSockets> {
        let any = || UdpSocket::bind((ip, 0));
        let mut pair = None;
        for _ in 0..PAIR_TRIES {
            let rtp = any()?;
            let port = rtp.local_addr()?.port();
            if port % 2 == 0
                && let Ok(rtcp) = UdpSocket::bind((ip, port + 1))
            {
                pair = Some((rtp, rtcp));
                break;
            }
        }
        let (rtp, rtcp) = match pair {
            Some(pair) => pair,
            None => (any()?, any()?),
        };
        for socket in [&rtp, &rtcp] {
            socket.set_nonblocking(true)?;
        }
        let (address, rtcp_port) = (rtp.local_addr()?, rtcp.local_addr()?.port());
        Ok(StreamSockets { rtp, rtcp, address, rtcp_port })
    }
}

type OnEnd = Box<dyn FnOnce(StreamOutcome) + Send>;

enum Command {
    Open(StreamId, StreamSockets, Box<StreamPlan>, StreamSeed),
    Configure(StreamId, Box<Negotiated>),
    Begin(StreamId),
    Say(StreamId, Speech),
    Press(StreamId, String),
    Close(StreamId, OnEnd),
    /// Answers whether everything was said.
    IsDone(StreamId, Box<dyn FnOnce(bool) + Send>),
    /// Answers when the last packet was heard.
    HeardAt(StreamId, Box<dyn FnOnce(Option<UnixMillis>) + Send>),
}

struct Worker {
    commands: mpsc::Sender<Command>,
    waker: Waker,
    thread: Option<thread::JoinHandle<()>>,
}

/// The media threads. Cheap to share; they end with the last owner.
#[derive(Clone)]
pub struct MediaThreads {
    inner: Arc<Inner>,
}

struct Inner {
    workers: Vec<Worker>,
    next: AtomicUsize,
}

impl MediaThreads {
    /// Starts `count` threads, at least one.
    pub fn start(count: usize) -> io::Result<MediaThreads> {
        let workers = (0..count.max(1))
            .map(|n| {
                let poll = Poll::new()?;
                let waker = Waker::new(poll.registry(), WAKE)?;
                #[allow(clippy::disallowed_methods, reason = "a few orders a call")]
                let (commands, inbox) = mpsc::channel();
                let thread = thread::Builder::new()
                    .name(format!("sim-media-{n}"))
                    .spawn(move || Loop::new(poll, inbox).run())?;
                Ok(Worker { commands, waker, thread: Some(thread) })
            })
            .collect::<io::Result<Vec<Worker>>>()?;
        Ok(MediaThreads { inner: Arc::new(Inner { workers, next: AtomicUsize::new(0) }) })
    }

    /// Opens a stream; it is silent until configured.
    pub fn open(&self, sockets: StreamSockets, plan: StreamPlan, seed: StreamSeed) -> StreamId {
        let id = StreamId(self.inner.next.fetch_add(1, Ordering::Relaxed) as u64);
        self.send(id, Command::Open(id, sockets, Box::new(plan), seed));
        id
    }

    pub fn configure(&self, id: StreamId, negotiated: Negotiated) {
        self.send(id, Command::Configure(id, Box::new(negotiated)));
    }

    /// The call is answered: the speech may begin.
    pub fn begin(&self, id: StreamId) {
        self.send(id, Command::Begin(id));
    }

    /// Says something else from now on.
    pub fn say(&self, id: StreamId, speech: Speech) {
        self.send(id, Command::Say(id, speech));
    }

    /// Presses keys.
    pub fn press(&self, id: StreamId, keys: &str) {
        self.send(id, Command::Press(id, keys.to_owned()));
    }

    /// Ends a stream. `on_end` gets what it found out, on the media thread or, for an unknown stream, never.
    pub fn close(&self, id: StreamId, on_end: impl FnOnce(StreamOutcome) + Send + 'static) {
        self.send(id, Command::Close(id, Box::new(on_end)));
    }

    /// Asks whether a stream has said everything.
    pub fn is_done(&self, id: StreamId, answer: impl FnOnce(bool) + Send + 'static) {
        self.send(id, Command::IsDone(id, Box::new(answer)));
    }

    /// Asks when a stream last heard a packet; an unknown stream answers nothing.
    pub fn heard_at(&self, id: StreamId, answer: impl FnOnce(Option<UnixMillis>) + Send + 'static) {
        self.send(id, Command::HeardAt(id, Box::new(answer)));
    }

    fn send(&self, id: StreamId, command: Command) {
        let worker = &self.inner.workers[id.0 as usize % self.inner.workers.len()];
        // A thread that is gone has ended with the process or by a panic that was printed.
        if worker.commands.send(command).is_ok() {
            let _ = worker.waker.wake();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            #[allow(
                clippy::disallowed_methods,
                reason = "it only takes the place of the one that is dropped"
            )]
            let (gone, _) = mpsc::channel();
            worker.commands = gone;
            let _ = worker.waker.wake();
            if let Some(thread) = worker.thread.take() {
                let _ = thread.join();
            }
        }
    }
}

struct Open {
    stream: Stream,
    sockets: StreamSockets,
    due: Option<Instant>,
    clock: bool,
}

struct Loop {
    poll: Poll,
    inbox: mpsc::Receiver<Command>,
    streams: HashMap<u64, Open>,
    due: BTreeSet<(Instant, u64)>,
    buffer: [u8; MAX_PACKET],
}

impl Loop {
    fn new(poll: Poll, inbox: mpsc::Receiver<Command>) -> Loop {
        Loop { poll, inbox, streams: HashMap::new(), due: BTreeSet::new(), buffer: [0; MAX_PACKET] }
    }

    fn run(mut self) {
        let mut events = Events::with_capacity(1024);
        loop {
            let timeout = self.due.first().map(|(at, _)| at.saturating_duration_since(Instant::now()));
            // epoll counts in milliseconds and mio rounds up; the last part of a wait is spent in short naps instead,
            // so that packets leave on time.
            let timeout = timeout.map(|left| match left.checked_sub(Duration::from_millis(1)) {
                Some(most) => most,
                None if left > Duration::from_micros(80) => {
                    #[allow(
                        clippy::disallowed_methods,
                        reason = "a packet is due at a time, not on a condition"
                    )]
                    thread::sleep(left - Duration::from_micros(60));
                    Duration::ZERO
                }
                None => Duration::ZERO,
            });
            if let Err(error) = self.poll.poll(&mut events, timeout)
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::error!(%error, "media thread of the simulator stops");
                return;
            }
            for event in &events {
                match event.token() {
                    WAKE => {
                        if !self.take_commands() {
                            return;
                        }
                    }
                    Token(token) => self.receive(token as u64 / 2, token % 2 == 1),
                }
            }
            self.send_due();
        }
    }

    /// False once nobody can send commands any more.
    fn take_commands(&mut self) -> bool {
        loop {
            match self.inbox.try_recv() {
                Ok(command) => self.take(command),
                Err(mpsc::TryRecvError::Empty) => return true,
                Err(mpsc::TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn take(&mut self, command: Command) {
        let now = Now::read();
        match command {
            Command::Open(StreamId(id), sockets, plan, seed) => {
                let registry = self.poll.registry();
                for (n, socket) in [&sockets.rtp, &sockets.rtcp].into_iter().enumerate() {
                    let token = Token(id as usize * 2 + n);
                    if let Err(error) =
                        registry.register(&mut SourceFd(&socket.as_raw_fd()), token, Interest::READABLE)
                    {
                        tracing::error!(%error, "a stream of the simulator stays deaf");
                    }
                }
                let clock = plan.clock && stamped::enable(&sockets.rtp).is_ok();
                let stream = Stream::new(now, *plan, seed);
                self.streams.insert(id, Open { stream, sockets, due: None, clock });
            }
            Command::Configure(StreamId(id), negotiated) => {
                if let Some(open) = self.streams.get_mut(&id)
                    && let Err(error) = open.stream.configure(now, *negotiated)
                {
                    tracing::error!(%error, "a stream of the simulator stays silent");
                }
                self.reschedule(id);
            }
            Command::Begin(StreamId(id)) => {
                if let Some(open) = self.streams.get_mut(&id)
                    && let Err(error) = open.stream.begin()
                {
                    tracing::error!(%error, "a stream of the simulator stays silent");
                }
            }
            Command::Say(StreamId(id), speech) => {
                if let Some(open) = self.streams.get_mut(&id)
                    && let Err(error) = open.stream.say(speech)
                {
                    tracing::error!(%error, "a stream of the simulator stays silent");
                }
            }
            Command::HeardAt(StreamId(id), answer) => {
                if let Some(open) = self.streams.get(&id) {
                    answer(open.stream.heard_at());
                }
            }
            Command::Press(StreamId(id), keys) => {
                if let Some(open) = self.streams.get_mut(&id) {
                    open.stream.press(&keys);
                }
            }
            Command::IsDone(StreamId(id), answer) => {
                answer(self.streams.get(&id).is_none_or(|open| open.stream.is_done()));
            }
            Command::Close(StreamId(id), on_end) => {
                let Some(mut open) = self.streams.remove(&id) else { return };
                if let Some(at) = open.due {
                    self.due.remove(&(at, id));
                }
                if let Some((len, to)) = open.stream.poll_rtcp(now, true, &mut self.buffer) {
                    let _ = open.sockets.rtcp.send_to(&self.buffer[..len], to);
                }
                for socket in [&open.sockets.rtp, &open.sockets.rtcp] {
                    let _ = self.poll.registry().deregister(&mut SourceFd(&socket.as_raw_fd()));
                }
                on_end(open.stream.finish());
            }
        }
    }

    fn receive(&mut self, id: u64, rtcp: bool) {
        let Some(open) = self.streams.get_mut(&id) else { return };
        let socket = if rtcp { &open.sockets.rtcp } else { &open.sockets.rtp };
        loop {
            let received = match open.clock && !rtcp {
                true => stamped::receive(socket, &mut self.buffer),
                false => socket.recv(&mut self.buffer).map(|len| (len, 0)),
            };
            match received {
                Ok((len, _)) if rtcp => open.stream.handle_rtcp(Now::read(), &mut self.buffer[..len]),
                Ok((len, at)) => open.stream.handle_rtp(Now::read(), &mut self.buffer[..len], at),
                // A port that is closed at the far end shows as an error here and means nothing for the next packet.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(_) => return,
            }
        }
    }

    fn send_due(&mut self) {
        while let Some((at, id)) = self.due.first().copied() {
            let now = Now::read();
            if at > now.instant {
                return;
            }
            self.due.pop_first();
            let Some(open) = self.streams.get_mut(&id) else { continue };
            open.due = None;
            while let Some((len, to)) = open.stream.poll_rtp(now, &mut self.buffer) {
                let at = stamped::wall_ns();
                if open.sockets.rtp.send_to(&self.buffer[..len], to).is_ok() {
                    open.stream.note_sent(at);
                }
            }
            if let Some((len, to)) = open.stream.poll_rtcp(now, false, &mut self.buffer) {
                let _ = open.sockets.rtcp.send_to(&self.buffer[..len], to);
            }
            self.reschedule(id);
        }
    }

    fn reschedule(&mut self, id: u64) {
        let Some(open) = self.streams.get_mut(&id) else { return };
        if let Some(at) = open.due.take() {
            self.due.remove(&(at, id));
        }
        open.due = open.stream.poll_timeout();
        if let Some(at) = open.due {
            self.due.insert((at, id));
        }
    }
}
