//! The far sides of many calls: they talk on time, listen, and measure what the gateway did with their packets.

use crate::gateway::Gateway;
use crate::machine::{self, Noise};
use crate::speech::{ROOM, Said, address, bind, datagram, step};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};
use tandem::media::io::socket::{Inbox, calendar, enable_timestamps};
use tandem::media::rtp;
use tandem::types::AudioCodec;

pub const FRAME_TIME: Duration = Duration::from_millis(20);
/// Packets of which the time of sending is remembered: ten seconds, longer than any gateway here ever held one.
const REMEMBERED: usize = 512;

/// So many packets ahead of what was said are no hiccup that is being made up for: three seconds.
const EARLY: u32 = 150;

/// Calls through one gateway.
pub struct Crowd {
    calls: Vec<Call>,
    codecs: [AudioCodec; 2],
    round: u32,
    inbox: Inbox,
    /// Packets of the app's side that are still on their way: when they arrive, of which call, what.
    under_way: BinaryHeap<Reverse<(Instant, usize, Vec<u8>)>>,
}

/// What the way to the gateway does to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    OnTime,
    Late(Duration),
    Lost,
}

/// A packet that came out.
pub struct Heard {
    pub at: Duration,
    pub timestamp: u32,
    pub payload: Vec<u8>,
}

struct Call {
    sides: [Side; 2],
}

/// One far side: what it sends goes to the other.
struct Side {
    socket: UdpSocket,
    to: SocketAddr,
    /// A silence that is not sent takes time, but no sequence number.
    next_sequence: u16,
    /// Numbers of the first and the last packet that left.
    began: Option<u32>,
    last: u32,
    /// When each of the last packets left, and its number.
    sent: Vec<Option<(Duration, u32)>>,
    ear: Ear,
}

/// What a far side hears.
#[derive(Default)]
struct Ear {
    ssrc: u32,
    first: Option<u32>,
    /// The timestamp that stands for packet 0 where delays are measured.
    origin: u32,
    /// Packets in a row whose timestamps are ahead of what was said.
    early: u32,
    packets: u64,
    /// Microseconds from the sending of each packet by the other side to its coming out.
    delays: Vec<u32>,
    /// By how many frames the timestamps heard last are ahead of what was sent by then: what a listener whose clock
    /// follows them hears that much later.
    ahead: i32,
    /// Kept only where somebody listens later.
    recording: Option<Vec<Heard>>,
}

/// What was measured while the crowd talked.
pub struct Measured {
    /// CPU-ms of the gateway per second of one call.
    pub cpu: f64,
    /// Towards side 0 and side 1, sorted, in microseconds.
    pub delays: [Vec<u32>; 2],
    pub sent: u64,
    pub heard: u64,
    /// By how much longer than at the start the sound of the first call waits at each side, as timestamps have it.
    pub standing: [Duration; 2],
    /// Percent of the gateway's core that others took.
    pub noise: f64,
    /// How often a second the gateway's threads went to sleep.
    pub sleeps: f64,
    /// The most by which this program sent a packet late.
    pub own_lateness: Duration,
}

impl Measured {
    /// Percent of the packets sent that did not come out.
    pub fn lost(&self) -> f64 {
        100.0 * (self.sent.saturating_sub(self.heard)) as f64 / self.sent.max(1) as f64
    }

    /// Delay in ms towards a side, at a quantile.
    pub fn delay(&self, side: usize, share: f64) -> f64 {
        let delays = &self.delays[side];
        let index = ((delays.len() as f64 * share) as usize).min(delays.len().saturating_sub(1));
        delays.get(index).map_or(f64::NAN, |micros| f64::from(*micros) / 1_000.0)
    }
}

/// How the crowd talks.
pub struct Talk<'a> {
    /// What each side says; call after call takes the next of them in turn.
    pub said: &'a [[Said; 2]],
    pub time: Duration,
    /// By how many frames each call is ahead of the one before it in what is said.
    pub stagger: usize,
    /// Nobody talks afterwards: what is still inside is waited for.
    pub last: bool,
    /// What becomes of packet `number` of side 0 in a call.
    pub fate: &'a dyn Fn(usize, u32) -> Fate,
}

/// For [`Talk::fate`]: a perfect way.
pub fn on_time(_: usize, _: u32) -> Fate {
    Fate::OnTime
}

impl<'a> Talk<'a> {
    /// Nothing is lost, and calls are at different places of what is said: the work is as mixed as in life.
    pub fn mixed(said: &'a [Said; 2], seconds: u64) -> Talk<'a> {
        Talk {
            said: std::slice::from_ref(said),
            time: Duration::from_secs(seconds),
            stagger: 37,
            last: false,
            fate: &on_time,
        }
    }

    /// As [`mixed`](Talk::mixed), at the end of a call.
    pub fn mixed_last(said: &'a [Said; 2], seconds: u64) -> Talk<'a> {
        Talk { last: true, ..Talk::mixed(said, seconds) }
    }
}

impl Crowd {
    /// Opens `count` calls; `None` if the gateway can't take them.
    pub fn open(gateway: &mut dyn Gateway, count: usize, codecs: [AudioCodec; 2]) -> Option<Crowd> {
        let mut calls = Vec::with_capacity(count);
        for call in 0..count {
            let sockets = [bind(), bind()];
            sockets.iter().for_each(enable_timestamps);
            let to = gateway.open(call, codecs, [address(&sockets[0]), address(&sockets[1])])?;
            let mut to = to.into_iter();
            let sides = sockets.map(|socket| Side {
                socket,
                to: to.next().expect("two ports"),
                next_sequence: 0,
                began: None,
                last: 0,
                sent: vec![None; REMEMBERED],
                ear: Ear::default(),
            });
            calls.push(Call { sides });
        }
        Some(Crowd { calls, codecs, round: 0, inbox: Inbox::default(), under_way: BinaryHeap::new() })
    }

    /// From now on keeps what is heard by `side` of every call.
    pub fn record(&mut self, side: usize) {
        self.calls.iter_mut().for_each(|call| call.sides[side].ear.recording = Some(Vec::new()));
    }

    /// What was recorded of each call, in the order of arrival.
    pub fn recordings(&mut self, side: usize) -> Vec<Vec<Heard>> {
        self.calls.iter_mut().filter_map(|call| call.sides[side].ear.recording.take()).collect()
    }

    /// Both sides of all calls talk, spread evenly over each 20 ms.
    pub fn talk(&mut self, gateway: &dyn Gateway, talk: &Talk<'_>) -> Measured {
        let turns = self.turns();
        let rounds = (talk.time.as_millis() / FRAME_TIME.as_millis()) as u32;
        for side in self.calls.iter_mut().flat_map(|call| &mut call.sides) {
            side.ear.packets = 0;
            side.ear.delays = Vec::with_capacity(rounds as usize);
        }
        let (noise, cpu, start) = (Noise::beside(gateway.pid()), machine::cpu(gateway.pid()), Instant::now());
        let sleeps = machine::sleeps(gateway.pid());
        let (mut sent, mut own_lateness) = (0, Duration::ZERO);
        for round in 0..rounds {
            for &(phase, call, side) in &turns {
                let due = start + FRAME_TIME * round + phase;
                let now = Instant::now();
                match due.checked_duration_since(now) {
                    Some(early) => std::thread::sleep(early),
                    None => own_lateness = own_lateness.max(now - due),
                }
                self.deliver(now);
                self.listen(call, side);
                sent += u64::from(self.say(call, side, talk));
            }
            self.round += 1;
        }
        let (cpu, elapsed) = (machine::cpu(gateway.pid()) - cpu, start.elapsed());
        let sleeps = machine::sleeps(gateway.pid()).saturating_sub(sleeps);
        let noise = noise.percent();
        if talk.last {
            self.deliver(Instant::now() + Duration::from_secs(1));
            // What is still inside comes out within a moment; what does not is lost.
            std::thread::sleep(Duration::from_millis(300));
        }
        (0..self.calls.len()).for_each(|call| (0..2).for_each(|side| self.listen(call, side)));
        let ears = |side: usize| self.calls.iter().map(move |call| &call.sides[side].ear);
        let delays = [0, 1].map(|side| {
            let mut delays: Vec<u32> = ears(side).flat_map(|ear| ear.delays.iter().copied()).collect();
            delays.sort_unstable();
            delays
        });
        Measured {
            cpu: cpu.as_secs_f64() * 1_000.0 / self.calls.len() as f64 / elapsed.as_secs_f64(),
            heard: ears(0).chain(ears(1)).map(|ear| ear.packets).sum(),
            delays,
            standing: [0, 1].map(|side| FRAME_TIME * self.calls[0].sides[side].ear.ahead.max(0) as u32),
            sent,
            noise,
            sleeps: sleeps as f64 / elapsed.as_secs_f64(),
            own_lateness,
        }
    }

    /// Who speaks when within each 20 ms.
    fn turns(&self) -> Vec<(Duration, usize, usize)> {
        let share = FRAME_TIME / self.calls.len() as u32;
        let half = FRAME_TIME / 2;
        let mut turns: Vec<_> = (0..self.calls.len())
            .flat_map(|call| {
                let first = share * call as u32;
                let second = if first + half < FRAME_TIME { first + half } else { first - half };
                [(first, call, 0), (second, call, 1)]
            })
            .collect();
        turns.sort_unstable();
        turns
    }

    /// Sends the side's next packet; false if it has none to send now.
    fn say(&mut self, call: usize, side: usize, talk: &Talk<'_>) -> bool {
        let said = &talk.said[call % talk.said.len()][side];
        let place = (self.round as usize + call * talk.stagger) % said.len();
        let far = &mut self.calls[call].sides[side];
        let Some(payload) = &said[place] else { return false };
        far.sent[self.round as usize % REMEMBERED] = Some((calendar(), self.round));
        far.began.get_or_insert(self.round);
        far.last = self.round;
        let sequence = far.next_sequence;
        far.next_sequence = sequence.wrapping_add(1);
        let mut bytes = [0; ROOM];
        let len = datagram(self.codecs[side], sequence, self.round, payload, &mut bytes);
        match if side == 0 { (talk.fate)(call, self.round) } else { Fate::OnTime } {
            Fate::OnTime => drop(far.socket.send_to(&bytes[..len], far.to)),
            Fate::Late(by) => {
                self.under_way.push(Reverse((Instant::now() + by, call, bytes[..len].to_vec())))
            }
            Fate::Lost => {}
        }
        true
    }

    /// Packets whose way took longer arrive.
    fn deliver(&mut self, now: Instant) {
        while let Some(Reverse((due, ..))) = self.under_way.peek()
            && *due <= now
            && let Some(Reverse((_, call, bytes))) = self.under_way.pop()
        {
            let far = &self.calls[call].sides[0];
            let _ = far.socket.send_to(&bytes, far.to);
        }
    }

    /// Takes what waits for a side.
    fn listen(&mut self, call: usize, side: usize) {
        let unit = step(self.codecs[side]);
        loop {
            let [first, second] = &mut self.calls[call].sides;
            let (here, there) = if side == 0 { (first, second) } else { (second, first) };
            let Ok(count) = self.inbox.receive(&here.socket) else { return };
            for index in 0..count {
                let Some(packet) = self.inbox.packet(index) else { continue };
                if rtp::is_rtcp(packet.bytes) {
                    continue;
                }
                let Ok(heard) = rtp::parse(packet.bytes) else { continue };
                let ear = &mut here.ear;
                ear.ssrc = heard.ssrc;
                ear.packets += 1;
                if let Some(recording) = &mut ear.recording {
                    let at = packet.stamp.unwrap_or_else(calendar);
                    recording.push(Heard { at, timestamp: heard.timestamp, payload: heard.payload.to_vec() });
                }
                if ear.first.is_none() {
                    let zero = heard.timestamp.wrapping_sub(there.began.unwrap_or(0).wrapping_mul(unit));
                    (ear.first, ear.origin) = (Some(zero), zero);
                }
                let first = ear.first.unwrap_or_default();
                ear.ahead = (heard.timestamp.wrapping_sub(first) / unit).wrapping_sub(self.round) as i32;
                // Nobody sends on what was not said yet. Where timestamps stay ahead, what comes out is taken for the
                // last packet, as if the gateway had not held it at all.
                let mut number = heard.timestamp.wrapping_sub(ear.origin) / unit;
                ear.early = if number > self.round { ear.early + 1 } else { 0 };
                if ear.early > EARLY {
                    ear.early = 0;
                    ear.origin = heard.timestamp.wrapping_sub(there.last.wrapping_mul(unit));
                    number = there.last;
                }
                // What stands for silence was never sent.
                if let Some((at, _)) =
                    there.sent[number as usize % REMEMBERED].filter(|sent| sent.1 == number)
                {
                    let delay = packet.stamp.unwrap_or_else(calendar).saturating_sub(at);
                    ear.delays.push(delay.as_micros() as u32);
                }
            }
        }
    }

    /// Side 0 of every call reports that it loses so many percent of what it hears.
    pub fn report_loss(&self, percent: u8) {
        for side in self.calls.iter().map(|call| &call.sides[0]) {
            // A receiver report with one block (RFC 3550 §6.4.2), and the source description that belongs to it.
            let mut bytes = vec![0x81, 201, 0, 7, 0, 0, 0, 7];
            bytes.extend_from_slice(&side.ear.ssrc.to_be_bytes());
            bytes.push((u32::from(percent) * 256 / 100) as u8);
            bytes.extend_from_slice(&[0; 19]);
            bytes.extend_from_slice(&[0x81, 202, 0, 3, 0, 0, 0, 7, 1, 5]);
            bytes.extend_from_slice(b"crowd\0");
            let _ = side.socket.send_to(&bytes, side.to);
        }
    }
}

/// Packets over which a listener's buffer finds the quickest: one second. So it follows a gateway whose timestamps
/// shrink or jump, as a phone's does.
const FOLLOWS: usize = 50;

/// A sound as a listener gets it who plays everything `patience` after the packet that was quickest of late: every
/// payload at the place its timestamp says, silence where none came in time.
pub fn on_timeline(
    recording: &[Heard],
    mut decode: impl FnMut(&[u8]) -> Vec<i16>,
    unit: u32,
    patience: Duration,
) -> Vec<i16> {
    let Some(first) = recording.first().map(|heard| heard.timestamp) else { return Vec::new() };
    let place = |heard: &Heard| (heard.timestamp.wrapping_sub(first) / unit) as usize;
    let way = |heard: &Heard| heard.at.as_secs_f64() - FRAME_TIME.as_secs_f64() * place(heard) as f64;
    let mut sound: Vec<i16> = Vec::new();
    for (index, heard) in recording.iter().enumerate() {
        let of_late = &recording[index.saturating_sub(FOLLOWS)..=index];
        let quickest = of_late.iter().map(way).fold(f64::INFINITY, f64::min);
        // A decoder's state goes on whether the packet was in time or not.
        let samples = decode(&heard.payload);
        let start = place(heard) * crate::speech::FRAME;
        if start > sound.len() + 8_000 * 60 {
            continue;
        }
        if sound.len() < start + samples.len() {
            sound.resize(start + samples.len(), 0);
        }
        if way(heard) - quickest <= patience.as_secs_f64() {
            sound[start..start + samples.len()].copy_from_slice(&samples);
        }
    }
    sound
}
