//! One thread turn by turn, with real sockets on the loopback: how often it wakes, and whose turn it is.

use super::*;
use crate::media::rtp::RtpHeader;
use crate::types::{AudioCodec, CallId, NetworkId};
use std::net::UdpSocket;
use std::sync::mpsc::{SyncSender, sync_channel};

/// Longer than anything here takes on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// What one port may bring in one turn.
const TURN: u64 = (ROUNDS * BATCH) as u64;

/// A worker that turns when it is told to, and who keeps it alive.
struct Bench {
    worker: Worker,
    ready: Events,
    waiting: Vec<Token>,
    orders: SyncSender<MediaCommand>,
    waker: Waker,
}

impl Bench {
    /// `share` of its time is what the thread has spent for long, and what it goes on to believe.
    fn loaded(share: f32, events: impl Fn(MediaEvent) + Send + Sync + 'static) -> Bench {
        let poll = Poll::new().unwrap();
        let waker = Waker::new(poll.registry(), WAKER).unwrap();
        let (orders, inbox) = sync_channel(1);
        let limit = LoadLimit::default();
        let mut worker = Worker::new(poll, inbox, Arc::new(events), limit, Arc::default(), Arc::default());
        // The last judgement lies ahead, so that however slow the machine is the next one is not due.
        let (ahead, window) = (Instant::now() + Duration::from_secs(3_600), Duration::from_millis(100));
        worker.load = Load::new(limit, ahead);
        for n in 1..=100 {
            worker.load.worked(window.mul_f32(share));
            worker.load.handle_timeout(ahead + window * n);
        }
        Bench { worker, ready: Events::with_capacity(64), waiting: Vec::new(), orders, waker }
    }

    /// Opens a leg that hears nobody but `far`; gives its port.
    fn open(&mut self, index: u8, far: &UdpSocket) -> SocketAddr {
        let bind = || {
            let socket = far_side();
            socket.set_nonblocking(true).unwrap();
            socket
        };
        let (rtp, rtcp) = (bind(), bind());
        let local_rtp = rtp.local_addr().unwrap();
        let sockets = LegSockets { rtp, rtcp: Some(rtcp), network: NetworkId(0), local_rtp };
        let config = LegConfig::plain(AudioCodec::Pcma, 8, far.local_addr().unwrap());
        let (leg, kind, config) = (leg(index), LegKind::Trunk, Some(Box::new(config)));
        self.worker.carry_out(MediaCommand::OpenLeg { leg, kind, sockets, config }, Now::read());
        local_rtp
    }

    /// A turn; gives for how long packets gather behind it.
    fn turn(&mut self) -> Duration {
        self.worker.turn(&mut self.ready, &mut self.waiting).expect("it goes on")
    }

    fn counts(&self, index: u8) -> Counts {
        let place = self.worker.place(leg(index)).unwrap();
        self.worker.entries[place].as_ref().unwrap().leg.counts()
    }
}

fn leg(index: u8) -> LegId {
    LegId { call: CallId::from_parts(1, [1; 10]), index }
}

fn far_side() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").unwrap()
}

/// The packet of that number of a voice.
fn voice(number: u16) -> Vec<u8> {
    let timestamp = u32::from(number) * 160;
    let header = RtpHeader { payload_type: 8, marker: false, sequence: number, timestamp, ssrc: 1 };
    let mut bytes = vec![0; 172];
    header.write(&[0x55; 160], &mut bytes).unwrap();
    bytes
}

#[test]
fn a_thread_with_room_wakes_for_each_packet_and_for_nothing_else() {
    let mut bench = Bench::loaded(0.01, |_| {});
    let caller = far_side();
    let before = Instant::now();
    let port = bench.open(0, &caller);
    assert!(bench.worker.patience(before) >= Some(Duration::from_millis(800)), "the leg's first report");
    for number in 0..20 {
        caller.send_to(&voice(number), port).unwrap();
        assert_eq!(bench.turn(), Duration::ZERO, "nothing is waited for");
        assert_eq!(bench.counts(0).packets_received, u64::from(number) + 1, "it is heard at once");
    }
}

#[test]
fn packets_gather_the_longer_the_more_there_is_to_do_and_no_longer_than_a_millisecond() {
    let caller = far_side();
    for (share, micros) in [(0.025, 400..600), (0.5, 1_000..1_001)] {
        let mut bench = Bench::loaded(share, |_| {});
        let port = bench.open(0, &caller);
        let gathering = bench.worker.load.gathering();
        assert!(micros.contains(&gathering.as_micros()), "{share}: {gathering:?}");
        for number in 0..50 {
            caller.send_to(&voice(number), port).unwrap();
            let began = Instant::now();
            let rest = bench.turn();
            // From one turn's beginning to the next one's, with what it took.
            let cycle = rest + began.elapsed();
            assert!(rest <= gathering && cycle + SHORTEST_REST > gathering, "{share}: {rest:?} of {cycle:?}");
        }
    }
}

/// What a running thread rested, and for how long it was really still, while it heard a voice.
fn rests(share: f32) -> Vec<(Duration, Duration)> {
    let (heard, first) = sync_channel(1);
    let mut bench = Bench::loaded(share, move |event| {
        if matches!(event, MediaEvent::FirstPacket { .. }) {
            heard.send(()).unwrap();
        }
    });
    let caller = far_side();
    let port = bench.open(0, &caller);
    let Bench { worker, orders, waker, .. } = bench;
    let (told, rests) = sync_channel(10_000);
    let thread = std::thread::spawn(move || {
        worker.run(|rest| {
            let began = Instant::now();
            let_packets_gather(rest);
            // One that nobody has room for is one of many.
            let _ = told.try_send((rest, began.elapsed()));
        });
    });
    caller.send_to(&voice(0), port).unwrap();
    first.recv_timeout(PATIENCE).expect("it is heard");
    let mut seen = Vec::new();
    for number in 1..200 {
        caller.send_to(&voice(number), port).unwrap();
        // A turn that takes as long as packets gather is followed by no rest.
        if share > 0.1
            && let Ok(rest) = rests.recv_timeout(Duration::from_millis(20))
        {
            seen.push(rest);
            break;
        }
    }
    drop(orders);
    waker.wake().unwrap();
    thread.join().unwrap();
    seen.extend(rests.try_iter());
    seen
}

#[test]
fn a_busy_thread_rests_between_its_turns_and_one_with_room_never_does() {
    let busy = rests(0.5);
    assert!(!busy.is_empty(), "it never rested");
    for (rest, still) in busy {
        assert!((SHORTEST_REST..=Duration::from_millis(1)).contains(&rest) && still >= rest, "{rest:?}");
    }
    let free = rests(0.01);
    assert!(free.is_empty(), "{free:?}");
}

#[test]
fn a_datagram_longer_than_any_packet_is_counted() {
    let mut bench = Bench::loaded(0.01, |_| {});
    let caller = far_side();
    let port = bench.open(0, &caller);
    caller.send_to(&[0x80; 3_000], port).unwrap();
    caller.send_to(&voice(0), port).unwrap();
    bench.turn();
    let counts = bench.counts(0);
    assert_eq!((counts.discarded, counts.packets_received), (1, 1));
}

#[test]
fn a_flood_at_one_port_has_its_turn_and_no_more_and_nothing_of_it_is_left_behind() {
    let mut bench = Bench::loaded(0.5, |_| {});
    let (caller, stranger) = (far_side(), far_side());
    let (flooded, spoken_to) = (bench.open(0, &caller), bench.open(1, &caller));
    let flood = 3 * TURN + 5;
    for _ in 0..flood {
        stranger.send_to(&voice(0), flooded).unwrap();
    }
    for turn in 1..=3u16 {
        caller.send_to(&voice(turn), spoken_to).unwrap();
        assert_eq!(bench.turn(), Duration::ZERO, "while something waits nothing gathers");
        assert_eq!(bench.counts(0).discarded, u64::from(turn) * TURN, "turn {turn}");
        assert_eq!(bench.counts(1).packets_received, u64::from(turn), "the other one is heard in each turn");
        assert_eq!(bench.worker.patience(Instant::now()), Some(Duration::ZERO), "what waits wakes it");
    }
    bench.turn();
    assert_eq!(bench.counts(0).discarded, flood);
    assert!(bench.worker.unfinished.is_empty());
}
