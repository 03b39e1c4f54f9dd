//! What a bad network does to one direction of a media stream: a plan by packet number or by seed, and the machine
//! that carries it out. Pure: the caller brings the time, the same packets meet the same fate in each run.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

/// What happens to one packet of RTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Pass,
    Drop,
    /// Delivered twice in a row.
    Twice,
    /// Delivered right behind the packet that is so many places later; never, if the stream ends before.
    Behind(u16),
}

/// The plan for one direction. Packets are counted from 0 in each call; what the script does not name is left to the
/// seeded chances. Only RTP is lost, doubled and reordered; RTCP is delayed with it, so that round trips are true.
#[derive(Debug, Clone, Default)]
pub struct Impairment {
    script: BTreeMap<u64, Fate>,
    seed: u64,
    loss: f64,
    burst: Option<Burst>,
    duplication: f64,
    reordering: Option<(f64, u16)>,
    delay: Duration,
    jitter: Duration,
}

/// The two states of Gilbert and Elliott: nothing is lost in the good one, everything in the bad one.
#[derive(Debug, Clone, Copy)]
struct Burst {
    enter: f64,
    leave: f64,
}

impl Impairment {
    /// A perfect wire.
    pub fn none() -> Impairment {
        Impairment::default()
    }

    /// Loses just these packets.
    pub fn lose(packets: impl IntoIterator<Item = u64>) -> Impairment {
        Impairment::script(packets.into_iter().map(|packet| (packet, Fate::Drop)))
    }

    /// These packets meet these fates.
    pub fn script(fates: impl IntoIterator<Item = (u64, Fate)>) -> Impairment {
        Impairment { script: fates.into_iter().collect(), ..Impairment::none() }
    }

    /// Chances below are drawn from this seed.
    pub fn seeded(seed: u64) -> Impairment {
        Impairment { seed, ..Impairment::none() }
    }

    /// Loses packets independently, each with this chance.
    pub fn loss(self, chance: f64) -> Impairment {
        Impairment { loss: chance, ..self }
    }

    /// Loses packets in bursts: each good packet opens one with chance `enter`, each lost one ends it with `leave`.
    /// The loss is `enter / (enter + leave)`, the mean burst `1 / leave`.
    pub fn bursts(self, enter: f64, leave: f64) -> Impairment {
        Impairment { burst: Some(Burst { enter, leave }), ..self }
    }

    pub fn duplication(self, chance: f64) -> Impairment {
        Impairment { duplication: chance, ..self }
    }

    /// With this chance a packet falls `places` places behind.
    pub fn reordering(self, chance: f64, places: u16) -> Impairment {
        Impairment { reordering: Some((chance, places)), ..self }
    }

    /// Everything is this much later, RTCP too.
    pub fn delay(self, delay: Duration) -> Impairment {
        Impairment { delay, ..self }
    }

    /// Each packet waits up to this much longer, evenly drawn, and never overtakes another.
    pub fn jitter(self, most: Duration) -> Impairment {
        Impairment { jitter: most, ..self }
    }
}

/// What one direction has done to its packets, by their RTP sequence numbers in the order of arrival.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Packets of RTP that came.
    pub seen: u64,
    /// Packets of RTP that went on, the second of a double too.
    pub delivered: u64,
    pub dropped: Vec<u16>,
    pub doubled: Vec<u16>,
    /// Those which others overtook, or will when they come.
    pub overtaken: Vec<u16>,
    /// Packets of RTCP, all of which go on.
    pub reports: u64,
}

/// One direction of one call.
pub struct ImpairedStream {
    plan: Impairment,
    next: u64,
    in_burst: bool,
    /// Packets to be overtaken, with the number of the one they follow.
    held: Vec<(u64, Vec<u8>)>,
    due: VecDeque<(Instant, Packet)>,
    tally: Tally,
}

/// A datagram on its way to the far side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    pub port: MediaPort,
    pub bytes: Vec<u8>,
}

/// To which of a side's two ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaPort {
    Rtp,
    Rtcp,
}

impl ImpairedStream {
    pub fn new(plan: &Impairment) -> ImpairedStream {
        ImpairedStream {
            plan: plan.clone(),
            next: 0,
            in_burst: false,
            held: Vec::new(),
            due: VecDeque::new(),
            tally: Tally::default(),
        }
    }

    pub fn handle_input(&mut self, now: Instant, packet: Packet) {
        let Some(sequence) = rtp_sequence(&packet) else {
            self.tally.reports += u64::from(is_rtcp(&packet));
            return self.release(now + self.plan.delay, packet);
        };
        let number = self.next;
        self.next += 1;
        self.tally.seen += 1;
        let jitter = self.plan.jitter.mul_f64(self.chance(number, Draw::Jitter));
        let at = now + self.plan.delay + jitter;
        match self.fate(number) {
            Fate::Pass => self.release(at, packet),
            Fate::Drop => self.tally.dropped.push(sequence),
            Fate::Twice => {
                self.tally.doubled.push(sequence);
                self.release(at, packet.clone());
                self.release(at, packet);
            }
            Fate::Behind(places) => {
                self.tally.overtaken.push(sequence);
                self.held.push((number + u64::from(places), packet.bytes));
            }
        }
        for (follows, bytes) in std::mem::take(&mut self.held) {
            if follows <= number {
                self.release(at, Packet { port: MediaPort::Rtp, bytes });
            } else {
                self.held.push((follows, bytes));
            }
        }
    }

    /// The next datagram whose time has come.
    pub fn poll_output(&mut self, now: Instant) -> Option<Packet> {
        let (at, _) = self.due.front()?;
        if *at > now {
            return None;
        }
        let (_, packet) = self.due.pop_front()?;
        self.tally.delivered += u64::from(rtp_sequence(&packet).is_some());
        Some(packet)
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due.front().map(|(at, _)| *at)
    }

    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// In order: what is due later never leaves earlier.
    fn release(&mut self, at: Instant, packet: Packet) {
        let last = self.due.back().map_or(at, |(last, _)| *last);
        self.due.push_back((at.max(last), packet));
    }

    fn fate(&mut self, number: u64) -> Fate {
        let plan = &self.plan;
        if let Some(fate) = plan.script.get(&number) {
            return *fate;
        }
        if let Some(burst) = plan.burst {
            let turn = if self.in_burst { burst.leave } else { burst.enter };
            self.in_burst ^= self.chance(number, Draw::Burst) < turn;
        }
        if self.in_burst || self.chance(number, Draw::Loss) < self.plan.loss {
            return Fate::Drop;
        }
        if self.chance(number, Draw::Duplication) < self.plan.duplication {
            return Fate::Twice;
        }
        match self.plan.reordering {
            Some((chance, places)) if self.chance(number, Draw::Reordering) < chance => Fate::Behind(places),
            Some(_) | None => Fate::Pass,
        }
    }

    /// Even in 0..1, from seed, packet and purpose alone: a changed chance of one kind moves no other.
    fn chance(&self, number: u64, draw: Draw) -> f64 {
        let mut bits = self.plan.seed ^ (draw as u64) << 56;
        for word in [number, 0x9e37_79b9_7f4a_7c15] {
            bits = (bits ^ word).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            bits = (bits ^ (bits >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb);
            bits ^= bits >> 32;
        }
        (bits >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// What a number is drawn for.
#[derive(Clone, Copy)]
enum Draw {
    Loss = 1,
    Burst,
    Duplication,
    Reordering,
    Jitter,
}

/// The sequence number of a packet of RTP (RFC 3550 §5.1), in the clear with SRTP too.
fn rtp_sequence(packet: &Packet) -> Option<u16> {
    if packet.port == MediaPort::Rtcp || is_rtcp(packet) || packet.bytes.first()? >> 6 != 2 {
        return None;
    }
    Some(u16::from_be_bytes(packet.bytes.get(2..4)?.try_into().ok()?))
}

/// On the port of RTP it is told by its packet type (RFC 5761 §4).
fn is_rtcp(packet: &Packet) -> bool {
    let kind = packet.bytes.get(1).copied().unwrap_or_default();
    packet.port == MediaPort::Rtcp || (192..224).contains(&kind)
}
