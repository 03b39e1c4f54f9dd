//! One media thread: owns its legs, their sockets and their bridges, and shares nothing with the others.

use super::command::{MediaCommand, MediaEvent};
use super::ports::LegSockets;
use super::socket::{self, BATCH, Inbox};
use super::workers::{EventHandler, WAKER};
use crate::media::bridge;
use crate::media::config::{LegConfig, Line};
use crate::media::fetch::fetch;
use crate::media::leg::{Counts, Datagram, Leg};
use crate::media::load::{Load, LoadLimit};
use crate::media::stats::WorkerStats;
use crate::media::transmit::{Channel, Out, Wire, Workspace};
use crate::types::{ActivityMark, LegId, LegKind, Now};
use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::{Duration, Instant};

/// Batches taken from one port before the others have their turn: a flood at one port starves nobody.
const ROUNDS: usize = 8;
/// How often a call's activity is written down while it is heard.
const MARK_EVERY: Duration = Duration::from_millis(200);
/// A stamp older than this is a clock that was set, not a packet that waited.
const OLDEST: Duration = Duration::from_secs(5);
/// Room in the heap for each leg's deadline and as many again that legs have changed their mind about; these are swept
/// out when it is full.
const WISHES: usize = 2;
/// A shorter rest costs more than it saves.
const SHORTEST_REST: Duration = Duration::from_micros(100);

pub(super) struct Worker {
    poll: Poll,
    inbox: Receiver<MediaCommand>,
    events: EventHandler,
    legs: Arc<AtomicUsize>,
    stats: Arc<WorkerStats>,
    load: Load,
    places: HashMap<LegId, usize>,
    /// Legs that another worker gives away to this one, and what was ordered about them since.
    awaited: HashMap<LegId, Vec<MediaCommand>>,
    entries: Vec<Option<Box<Entry>>>,
    free: Vec<usize>,
    /// Wishes of legs to be called; those whose leg has changed its mind since are passed over.
    deadlines: BinaryHeap<Reverse<(Instant, usize)>>,
    sweeps: u32,
    /// Ports that had more waiting than their turn allowed.
    unfinished: Vec<Token>,
    packets: Inbox,
    work: Box<Workspace>,
    random: RandomState,
    opened: u64,
}

/// A leg on its way from one worker to another.
pub struct GivenLeg(Box<Entry>);

/// The worker that a leg is given to.
pub struct Heir {
    pub(super) orders: Sender<MediaCommand>,
    pub(super) waker: Arc<Waker>,
    pub(super) legs: Arc<AtomicUsize>,
}

struct Entry {
    id: LegId,
    leg: Leg,
    sockets: LegSockets,
    peer: Option<usize>,
    mark: Option<Box<dyn ActivityMark>>,
    marked_at: Option<Instant>,
    /// The deadline that lies in the heap for this leg.
    scheduled: Option<Instant>,
    /// The sweep of the heap that found it there.
    swept: u32,
    published: Counts,
}

impl Worker {
    pub(super) fn new(
        poll: Poll,
        inbox: Receiver<MediaCommand>,
        events: EventHandler,
        limit: LoadLimit,
        legs: Arc<AtomicUsize>,
        stats: Arc<WorkerStats>,
    ) -> Worker {
        Worker {
            poll,
            inbox,
            events,
            legs,
            stats,
            load: Load::new(limit, Instant::now()),
            places: HashMap::new(),
            awaited: HashMap::new(),
            entries: Vec::new(),
            free: Vec::new(),
            deadlines: BinaryHeap::with_capacity(16 * WISHES),
            sweeps: 0,
            unfinished: Vec::with_capacity(64),
            packets: Inbox::default(),
            work: Box::default(),
            random: RandomState::new(),
            opened: 0,
        }
    }

    /// Works until all who could give orders are gone. `gather` lets packets gather for a time.
    pub(super) fn run(mut self, mut gather: impl FnMut(Duration)) {
        let mut ready = Events::with_capacity(1024);
        let mut waiting = Vec::with_capacity(64);
        while let Some(rest) = self.turn(&mut ready, &mut waiting) {
            if !rest.is_zero() {
                gather(rest);
            }
        }
    }

    /// Waits for something to do, does it, and gives for how long packets are to gather before the next turn. `None` once
    /// nobody is left to give orders.
    fn turn(&mut self, ready: &mut Events, waiting: &mut Vec<Token>) -> Option<Duration> {
        let looked = Instant::now();
        if let Err(error) = self.poll.poll(ready, self.patience(looked))
            && error.kind() != io::ErrorKind::Interrupted
        {
            return None;
        }
        let woken = Instant::now();
        std::mem::swap(waiting, &mut self.unfinished);
        let [mut far, mut near, mut next] = [3, 2, 1].map(|ahead| ready.iter().skip(ahead));
        for event in &*ready {
            self.fetch_ahead(far.next(), near.next(), next.next());
            if event.token() == WAKER {
                if !self.take_orders() {
                    return None;
                }
            } else {
                self.drain_port(event.token());
            }
        }
        for token in waiting.drain(..) {
            self.drain_port(token);
        }
        self.meet_deadlines(looked);
        let took = woken.elapsed();
        self.load.worked(took);
        self.judge(woken + took);
        // Waking up costs as much as a packet does: where there is much to do, packets gather first.
        let rest = self.load.gathering().saturating_sub(took);
        let gathers = self.unfinished.is_empty() && rest >= SHORTEST_REST;
        Some(if gathers { rest } else { Duration::ZERO })
    }

    /// Fetches what the packets behind this one need, each a step further the nearer it is: where a leg is, then what it
    /// knows and where its peer is, then what that one knows.
    #[inline]
    fn fetch_ahead(&self, far: Option<&Event>, near: Option<&Event>, next: Option<&Event>) {
        let entry = |event: Option<&Event>| {
            let (place, _) = port(event?.token());
            self.entries.get(place)?.as_deref()
        };
        let peer = |entry: &Entry| self.entries.get(entry.peer?)?.as_deref();
        if let Some(entry) = entry(far) {
            fetch(entry);
        }
        if let Some(entry) = entry(near) {
            entry.leg.fetch();
            peer(entry).into_iter().for_each(fetch);
        }
        if let Some(peer) = entry(next).and_then(peer) {
            peer.leg.fetch();
        }
    }

    /// How long to sleep if nothing happens.
    fn patience(&self, now: Instant) -> Option<Duration> {
        if !self.unfinished.is_empty() {
            return Some(Duration::ZERO);
        }
        let deadline = self.deadlines.peek().map(|Reverse((deadline, _))| *deadline);
        let next = [deadline, self.load.poll_timeout()].into_iter().flatten().min()?;
        Some(next.saturating_duration_since(now))
    }

    /// Draws the consequences of how busy this thread is.
    fn judge(&mut self, now: Instant) {
        if let Some(verdict) = self.load.handle_timeout(now) {
            self.stats.note_load(verdict);
        }
    }

    /// False once nobody is left to give orders.
    fn take_orders(&mut self) -> bool {
        loop {
            match self.inbox.try_recv() {
                Ok(command) => self.carry_out(command, Now::read()),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn carry_out(&mut self, command: MediaCommand, now: Now) {
        if !matches!(command, MediaCommand::TakeLeg { .. })
            && let Some(leg) = command.legs().into_iter().find(|leg| self.awaited.contains_key(leg))
        {
            self.awaited.entry(leg).or_default().push(command);
            return;
        }
        match command {
            MediaCommand::OpenLeg { leg, kind, sockets, config } => {
                self.open(leg, kind, sockets, config, now)
            }
            MediaCommand::ConfigureLeg { leg, config } => self.configure(leg, *config, now),
            MediaCommand::Bridge { a, b, mark } => self.bridge(a, b, mark),
            MediaCommand::Unbridge { leg } => {
                if let Some(place) = self.place(leg) {
                    self.part(place);
                }
            }
            MediaCommand::Serve { leg, line, mark } => self.serve(leg, line, mark, now),
            MediaCommand::PlayTone { leg, tone, unless } => {
                let other = unless.and_then(|other| self.place(other));
                let other = other.and_then(|place| self.entries[place].as_ref());
                if other.is_none_or(|other| other.leg.packets_received() == 0) {
                    self.with_leg(leg, |entry| entry.leg.play_tone(tone, unless.is_some(), now.instant));
                } else {
                    // The one that plays gives way as well.
                    self.with_leg(leg, |entry| entry.leg.stop_tone());
                }
            }
            MediaCommand::StopTone { leg } => self.with_leg(leg, |entry| entry.leg.stop_tone()),
            MediaCommand::SetTimeout { leg, after } => {
                self.with_leg(leg, |entry| entry.leg.set_timeout(after, now.instant));
            }
            MediaCommand::SetConversation { leg, on } => {
                self.with_leg(leg, |entry| entry.leg.set_conversation(on));
            }
            MediaCommand::Look { leg, tell } => {
                if let Some(entry) = self.place(leg).and_then(|place| self.entries[place].as_ref()) {
                    tell(entry.leg.report(), entry.leg.series());
                }
            }
            MediaCommand::Report { leg, tag } => {
                if let Some(entry) = self.place(leg).and_then(|place| self.entries[place].as_ref()) {
                    let report = entry.leg.report();
                    (self.events)(MediaEvent::Report { leg, tag, report });
                }
            }
            MediaCommand::CloseLeg { leg } => self.close(leg, now),
            MediaCommand::AwaitLeg { leg } => {
                self.awaited.insert(leg, Vec::new());
            }
            MediaCommand::GiveLeg { leg, to } => self.give(leg, to),
            MediaCommand::TakeLeg { leg, given } => {
                if let Some(GivenLeg(entry)) = given {
                    let place = self.install(entry);
                    self.schedule(place);
                }
                for waiting in self.awaited.remove(&leg).unwrap_or_default() {
                    self.carry_out(waiting, now);
                }
            }
        }
    }

    fn place(&self, leg: LegId) -> Option<usize> {
        self.places.get(&leg).copied()
    }

    fn with_leg(&mut self, leg: LegId, act: impl FnOnce(&mut Entry)) {
        let Some(place) = self.place(leg) else { return };
        if let Some(entry) = &mut self.entries[place] {
            act(entry);
        }
        self.schedule(place);
    }

    fn open(
        &mut self,
        id: LegId,
        kind: LegKind,
        sockets: LegSockets,
        config: Option<Box<LegConfig>>,
        now: Now,
    ) {
        if self.places.contains_key(&id) {
            // The ports can't be given back under a name that is taken: they close here.
            self.legs.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        self.opened += 1;
        let seed = self.random.hash_one((self.opened, now.unix_ms));
        let entry = Box::new(Entry {
            id,
            leg: Leg::new(kind, seed, now.instant),
            sockets,
            peer: None,
            mark: None,
            marked_at: None,
            scheduled: None,
            swept: 0,
            published: Counts::default(),
        });
        self.install(entry);
        if let Some(config) = config {
            self.configure(id, *config, now);
        }
    }

    /// Gives a leg a place here; gives the place.
    fn install(&mut self, entry: Box<Entry>) -> usize {
        let place = self.free.pop().unwrap_or(self.entries.len());
        let id = entry.id;
        self.watch(&entry.sockets, place);
        if place == self.entries.len() {
            self.entries.push(Some(entry));
        } else {
            self.entries[place] = Some(entry);
        }
        self.places.insert(id, place);
        // Room is made here, so that no packet has to.
        self.deadlines.reserve((WISHES * self.places.len()).saturating_sub(self.deadlines.len()));
        place
    }

    /// Takes a leg out of its place, its ports no longer looked at.
    fn remove(&mut self, leg: LegId) -> Option<Box<Entry>> {
        let place = self.places.remove(&leg)?;
        self.part(place);
        let entry = self.entries[place].take()?;
        let rtcp = entry.sockets.rtcp.as_ref().map(AsRawFd::as_raw_fd);
        for fd in [Some(entry.sockets.rtp.as_raw_fd()), rtcp].into_iter().flatten() {
            let _ = self.poll.registry().deregister(&mut SourceFd(&fd));
        }
        self.free.push(place);
        self.legs.fetch_sub(1, Ordering::Relaxed);
        Some(entry)
    }

    /// Gives a leg away; whatever comes to its ports meanwhile waits there.
    fn give(&mut self, leg: LegId, to: Heir) {
        let given = self.remove(leg).map(|mut entry| {
            entry.scheduled = None;
            GivenLeg(entry)
        });
        if given.is_some() {
            to.legs.fetch_add(1, Ordering::Relaxed);
        }
        // It fails only while all threads are being stopped.
        let _ = to.orders.send(MediaCommand::TakeLeg { leg, given });
        let _ = to.waker.wake();
    }

    fn watch(&self, sockets: &LegSockets, place: usize) {
        let rtcp = sockets.rtcp.as_ref().map(|socket| (socket.as_raw_fd(), Channel::Rtcp));
        for (fd, channel) in [Some((sockets.rtp.as_raw_fd(), Channel::Rtp)), rtcp].into_iter().flatten() {
            socket::enable_timestamps(&Fd(fd));
            let registered =
                self.poll.registry().register(&mut SourceFd(&fd), token(place, channel), Interest::READABLE);
            if let Err(error) = registered {
                tracing::error!(%error, "a media port can't be watched");
            }
        }
    }

    fn configure(&mut self, leg: LegId, config: LegConfig, now: Now) {
        self.load.set_usual(config.opus.complexity);
        let Some(place) = self.place(leg) else { return };
        let Some(entry) = &mut self.entries[place] else { return };
        if entry.leg.configure(config, now).is_err() {
            (self.events)(MediaEvent::Unusable { leg });
            return;
        }
        if let Some(peer) = entry.peer {
            self.join(place, peer);
        }
        self.schedule(place);
    }

    fn bridge(&mut self, a: LegId, b: LegId, mark: Option<Box<dyn ActivityMark>>) {
        let (Some(a), Some(b)) = (self.place(a), self.place(b)) else { return };
        if a == b {
            return;
        }
        let already = self.entries[a].as_ref().is_some_and(|entry| entry.peer == Some(b));
        if !already {
            self.part(a);
            self.part(b);
        }
        self.join(a, b);
        if let Ok([Some(a), Some(b)]) = self.entries.get_disjoint_mut([a, b]) {
            b.mark = None;
            a.mark = mark;
        }
    }

    fn serve(&mut self, leg: LegId, line: Line, mark: Option<Box<dyn ActivityMark>>, now: Now) {
        let Some(place) = self.place(leg) else { return };
        self.part(place);
        if let Some(entry) = &mut self.entries[place] {
            entry.leg.serve(line, now.instant);
            entry.mark = mark;
        }
        self.schedule(place);
    }

    fn join(&mut self, a: usize, b: usize) {
        if let Ok([Some(entry_a), Some(entry_b)]) = self.entries.get_disjoint_mut([a, b]) {
            entry_a.peer = Some(b);
            entry_b.peer = Some(a);
            bridge::join(&mut entry_a.leg, &mut entry_b.leg);
        }
        self.schedule(a);
        self.schedule(b);
    }

    fn part(&mut self, place: usize) {
        let Some(peer) = self.entries[place].as_mut().and_then(|entry| entry.peer.take()) else { return };
        if let Ok([Some(a), Some(b)]) = self.entries.get_disjoint_mut([place, peer]) {
            b.peer = None;
            a.mark = None;
            b.mark = None;
            bridge::part(&mut a.leg, &mut b.leg);
        }
    }

    fn close(&mut self, leg: LegId, now: Now) {
        let Some(mut entry) = self.remove(leg) else { return };
        let mut wire = SocketWire { sockets: &entry.sockets, stats: &self.stats };
        entry.leg.close(now, &mut Out { wire: &mut wire, work: &mut self.work });
        self.stats.add(entry.leg.kind(), &mut entry.published, &entry.leg.counts());
        let report = entry.leg.report();
        (self.events)(MediaEvent::Closed { leg, report, sockets: entry.sockets });
    }

    /// Takes what waits at a port and passes it on.
    fn drain_port(&mut self, token: Token) {
        let (place, channel) = port(token);
        for round in 1..=ROUNDS {
            let Some(Some(entry)) = self.entries.get(place) else { return };
            let fd = match (channel, &entry.sockets.rtcp) {
                (Channel::Rtcp, Some(rtcp)) => rtcp.as_raw_fd(),
                (Channel::Rtcp, None) | (Channel::Rtp, _) => entry.sockets.rtp.as_raw_fd(),
            };
            let count = match self.packets.receive(&Fd(fd)) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // An error queued on the socket; reading took it away, what waits behind it is still to be read.
                Err(_) if round < ROUNDS => continue,
                Err(_) => return,
            };
            let clocks = Clocks::read();
            for index in 0..count {
                match channel {
                    Channel::Rtp => self.hear(place, index, clocks),
                    Channel::Rtcp => self.hear_rtcp(place, index, clocks),
                }
            }
            if count < BATCH {
                return;
            }
        }
        self.unfinished.push(token);
    }

    fn hear(&mut self, place: usize, index: usize, clocks: Clocks) {
        let Some(packet) = self.packets.packet(index) else { return self.note_too_long(place) };
        let arrival = clocks.arrival(packet.stamp);
        let datagram = Datagram { from: packet.from, arrival, bytes: packet.bytes };
        let Some(Some(entry)) = self.entries.get(place) else { return };
        self.work.complexity = self.load.heard(clocks.now.instant.saturating_duration_since(arrival));
        let (peer, before) = (entry.peer, entry.leg.packets_received());
        let pair = peer.and_then(|peer| self.entries.get_disjoint_mut([place, peer]).ok());
        if let Some([Some(from), Some(to)]) = pair {
            let mut wire = SocketWire { sockets: &to.sockets, stats: &self.stats };
            let mut out = Out { wire: &mut wire, work: &mut self.work };
            let outcome = bridge::forward(&mut from.leg, &mut to.leg, datagram, clocks.now, &mut out);
            if outcome.transcoded {
                self.stats.note_delay(arrival.elapsed());
            }
        } else if let Some(entry) = &mut self.entries[place] {
            let entry = &mut **entry;
            let mut wire = SocketWire { sockets: &entry.sockets, stats: &self.stats };
            let mut out = Out { wire: &mut wire, work: &mut self.work };
            bridge::attend(&mut entry.leg, datagram, clocks.now, &mut out);
            self.schedule(place);
        }
        if self.entries[place].as_ref().is_some_and(|entry| entry.leg.packets_received() != before) {
            self.mark(place, clocks.now);
        }
        if let Some(peer) = peer {
            self.schedule(peer);
            self.tell_news(peer);
        }
        self.tell_news(place);
    }

    fn hear_rtcp(&mut self, place: usize, index: usize, clocks: Clocks) {
        let Some(packet) = self.packets.packet(index) else { return self.note_too_long(place) };
        let arrival = clocks.arrival(packet.stamp);
        let datagram = Datagram { from: packet.from, arrival, bytes: packet.bytes };
        if let Some(entry) = &mut self.entries[place] {
            entry.leg.receive_rtcp(datagram, Channel::Rtcp, clocks.now);
        }
    }

    fn note_too_long(&mut self, place: usize) {
        if let Some(Some(entry)) = self.entries.get_mut(place) {
            entry.leg.note_too_long();
        }
    }

    /// Notes that the call was heard.
    fn mark(&mut self, place: usize, now: Now) {
        let Some(entry) = &mut self.entries[place] else { return };
        if entry.marked_at.is_some_and(|marked| now.instant.saturating_duration_since(marked) < MARK_EVERY) {
            return;
        }
        entry.marked_at = Some(now.instant);
        let holder = match (&entry.mark, entry.peer) {
            (None, Some(peer)) => peer,
            (Some(_), _) | (None, None) => place,
        };
        if let Some(mark) = self.entries[holder].as_mut().and_then(|holder| holder.mark.as_mut()) {
            mark.mark(now.unix_ms);
        }
    }

    fn tell_news(&mut self, place: usize) {
        let Some(entry) = &mut self.entries[place] else { return };
        if !entry.leg.has_news() {
            return;
        }
        let (leg, news) = (entry.id, entry.leg.take_news());
        if let Some(remote) = news.latched {
            (self.events)(MediaEvent::Latched { leg, remote });
        }
        if news.first_packet {
            (self.events)(MediaEvent::FirstPacket { leg });
        }
        if news.timed_out {
            (self.events)(MediaEvent::TimedOut { leg });
        }
        if let Some(fault) = news.fault {
            (self.events)(MediaEvent::Fault { leg, fault });
        }
    }

    /// Enters a leg's next deadline, unless it is called before that anyway.
    fn schedule(&mut self, place: usize) {
        let Some(entry) = &mut self.entries[place] else { return };
        let Some(deadline) = entry.leg.poll_timeout() else { return };
        if entry.scheduled.is_none_or(|scheduled| deadline < scheduled) {
            entry.scheduled = Some(deadline);
            if self.deadlines.len() == self.deadlines.capacity() {
                self.sweep_deadlines();
            }
            self.deadlines.push(Reverse((deadline, place)));
        }
    }

    /// Leaves one deadline of each leg in the heap.
    fn sweep_deadlines(&mut self) {
        self.sweeps = self.sweeps.wrapping_add(1);
        let (entries, sweep) = (&mut self.entries, self.sweeps);
        self.deadlines.retain(|Reverse((deadline, place))| match entries.get_mut(*place) {
            Some(Some(entry)) => {
                let wanted = entry.scheduled == Some(*deadline) && entry.swept != sweep;
                if wanted {
                    entry.swept = sweep;
                }
                wanted
            }
            Some(None) | None => false,
        });
    }

    /// Does what was due when the ports were last looked at: after a standstill of the machine the packets that waited
    /// are heard first, and no gap is filled that they fill themselves.
    fn meet_deadlines(&mut self, looked: Instant) {
        if self.deadlines.peek().is_none_or(|Reverse((deadline, _))| *deadline > looked) {
            return;
        }
        let now = Now::read();
        self.work.complexity = self.load.verdict().complexity;
        while let Some(Reverse((deadline, place))) = self.deadlines.peek().copied() {
            if deadline > looked {
                return;
            }
            self.deadlines.pop();
            let Some(Some(entry)) = self.entries.get_mut(place) else { continue };
            if entry.scheduled != Some(deadline) {
                continue;
            }
            entry.scheduled = None;
            if entry.leg.poll_timeout().is_some_and(|due| due <= now.instant) {
                let mut wire = SocketWire { sockets: &entry.sockets, stats: &self.stats };
                entry.leg.handle_timeout(now, &mut Out { wire: &mut wire, work: &mut self.work });
                self.stats.add(entry.leg.kind(), &mut entry.published, &entry.leg.counts());
            }
            self.schedule(place);
            self.tell_news(place);
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "a thread of our own, which has nothing else to do meanwhile")]
pub(super) fn let_packets_gather(time: Duration) {
    std::thread::sleep(time);
}

/// Sends through the sockets of one leg, at once.
struct SocketWire<'a> {
    sockets: &'a LegSockets,
    stats: &'a WorkerStats,
}

impl Wire for SocketWire<'_> {
    fn send(&mut self, channel: Channel, to: SocketAddr, packet: &[u8]) {
        let socket = match (channel, &self.sockets.rtcp) {
            (Channel::Rtcp, Some(rtcp)) => rtcp,
            (Channel::Rtcp, None) | (Channel::Rtp, _) => &self.sockets.rtp,
        };
        // A packet that can't go now is late anyway; RTP has no use for a second try.
        if socket.send_to(packet, to).is_err() {
            self.stats.note_unsent();
        }
    }
}

/// Both clocks at one moment, and the calendar as the kernel's stamps count it.
#[derive(Clone, Copy)]
struct Clocks {
    now: Now,
    calendar: Duration,
}

impl Clocks {
    fn read() -> Clocks {
        let calendar = socket::calendar();
        let now = Now { instant: Instant::now(), unix_ms: calendar.as_millis() as i64 };
        Clocks { now, calendar }
    }

    /// When a packet with this stamp arrived.
    fn arrival(&self, stamp: Option<Duration>) -> Instant {
        let age = stamp.and_then(|stamp| self.calendar.checked_sub(stamp)).filter(|age| *age < OLDEST);
        self.now.instant.checked_sub(age.unwrap_or_default()).unwrap_or(self.now.instant)
    }
}

struct Fd(RawFd);

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

fn token(place: usize, channel: Channel) -> Token {
    match channel {
        Channel::Rtp => Token(2 * place),
        Channel::Rtcp => Token(2 * place + 1),
    }
}

fn port(token: Token) -> (usize, Channel) {
    let channel = if token.0.is_multiple_of(2) { Channel::Rtp } else { Channel::Rtcp };
    (token.0 / 2, channel)
}

#[cfg(test)]
mod tests;
