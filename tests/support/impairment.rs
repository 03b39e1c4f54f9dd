//! What a bad network does to one direction of a media stream: a plan by packet number or by seed, and the machine
//! that carries it out. Pure: the caller brings the time, the same packets meet the same fate in each run.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use tandem::media::recovery::wire::{ImpairedWire, Impairments};

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

/// The plan for one direction. Packets are counted from 0 in each call; what the script does not name is left to chance.
/// Only RTP is lost, doubled and reordered; RTCP is delayed with it, so that round trips are true.
#[derive(Debug, Clone, Default)]
pub struct Impairment {
    script: BTreeMap<u64, Fate>,
    chances: Option<(Impairments, u64)>,
    delay: Duration,
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

    /// What is not in the script is lost, late or doubled by chance, in each call the same. Where the sender's clock is to
    /// be fast, what it gains comes out of [`delay`](Impairment::delay).
    pub fn by_chance(self, impairments: Impairments, seed: u64) -> Impairment {
        Impairment { chances: Some((impairments, seed)), ..self }
    }

    /// Each packet waits up to this much, evenly drawn, and never overtakes another.
    pub fn jitter(self, most: Duration) -> Impairment {
        self.by_chance(Impairments { jitter: most, in_order: true, ..Impairments::default() }, 1)
    }

    /// Everything is this much later, RTCP too.
    pub fn delay(self, delay: Duration) -> Impairment {
        Impairment { delay, ..self }
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
    /// Those which came out behind a later one.
    pub overtaken: Vec<u16>,
    /// Packets of RTCP, all of which go on.
    pub reports: u64,
    /// Those with VoIP metrics in an extended report.
    pub voip_metrics: u64,
}

/// One direction of one call.
pub struct ImpairedStream {
    script: BTreeMap<u64, Fate>,
    chances: Option<ImpairedWire>,
    delay: Duration,
    started: Option<Instant>,
    next: u64,
    /// Packets to be overtaken, each with the number of the one it follows.
    held: Vec<(u64, Numbered)>,
    /// By their time, then by when they were given to it.
    due: BTreeMap<(Instant, u64), Numbered>,
    released: u64,
    /// The number of the latest packet that came out.
    latest: Option<u64>,
    tally: Tally,
}

/// A packet with its number, where it is RTP.
struct Numbered {
    number: Option<u64>,
    packet: Packet,
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
            script: plan.script.clone(),
            chances: plan.chances.map(|(impairments, seed)| ImpairedWire::new(impairments, seed)),
            delay: plan.delay,
            started: None,
            next: 0,
            held: Vec::new(),
            due: BTreeMap::new(),
            released: 0,
            latest: None,
            tally: Tally::default(),
        }
    }

    pub fn handle_input(&mut self, now: Instant, packet: Packet) {
        let Some(sequence) = rtp_sequence(&packet) else {
            self.tally.reports += u64::from(is_rtcp(&packet));
            self.tally.voip_metrics += u64::from(is_rtcp(&packet) && has_voip_metrics(&packet.bytes));
            return self.release(now + self.delay, Numbered { number: None, packet });
        };
        let number = self.next;
        self.next += 1;
        self.tally.seen += 1;
        let started = *self.started.get_or_insert(now);
        // Drawn for scripted packets too, so that a script changes nothing for the others.
        let arrivals: Vec<Duration> = match &mut self.chances {
            Some(wire) => wire.carry(now - started).collect(),
            None => vec![now - started],
        };
        let at = |arrival: Duration| started + arrival + self.delay;
        let first = arrivals.first().map_or(now + self.delay, |arrival| at(*arrival));
        let again = arrivals.get(1).map(|arrival| at(*arrival));
        let numbered = |packet| Numbered { number: Some(number), packet };
        match (self.script.get(&number), again) {
            (None, _) if arrivals.is_empty() => self.tally.dropped.push(sequence),
            (None | Some(Fate::Pass), None) | (Some(Fate::Pass), Some(_)) => {
                self.release(first, numbered(packet));
            }
            (None, Some(_)) | (Some(Fate::Twice), _) => {
                self.tally.doubled.push(sequence);
                self.release(first, numbered(packet.clone()));
                self.release(again.unwrap_or(first), numbered(packet));
            }
            (Some(Fate::Drop), _) => self.tally.dropped.push(sequence),
            (Some(Fate::Behind(places)), _) => {
                self.held.push((number + u64::from(*places), numbered(packet)));
            }
        }
        for (follows, held) in std::mem::take(&mut self.held) {
            if follows <= number {
                self.release(first, held);
            } else {
                self.held.push((follows, held));
            }
        }
    }

    /// The next datagram whose time has come.
    pub fn poll_output(&mut self, now: Instant) -> Option<Packet> {
        let next = self.due.first_entry().filter(|next| next.key().0 <= now)?;
        let Numbered { number, packet } = next.remove();
        if let (Some(number), Some(sequence)) = (number, rtp_sequence(&packet)) {
            self.tally.delivered += 1;
            if self.latest.is_some_and(|latest| latest > number) {
                self.tally.overtaken.push(sequence);
            }
            self.latest = self.latest.max(Some(number));
        }
        Some(packet)
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }

    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    fn release(&mut self, at: Instant, packet: Numbered) {
        self.released += 1;
        self.due.insert((at, self.released), packet);
    }
}

/// The sequence number of a packet of RTP (RFC 3550 §5.1), in the clear with SRTP too.
fn rtp_sequence(packet: &Packet) -> Option<u16> {
    if packet.port == MediaPort::Rtcp || is_rtcp(packet) || packet.bytes.first()? >> 6 != 2 {
        return None;
    }
    Some(u16::from_be_bytes(packet.bytes.get(2..4)?.try_into().ok()?))
}

/// Whether a compound in the clear holds a block of VoIP metrics (RFC 3611 §3, §4.7).
fn has_voip_metrics(mut compound: &[u8]) -> bool {
    while let [_, kind, high, low, ..] = *compound {
        let end = 4 + 4 * usize::from(u16::from_be_bytes([high, low]));
        let Some((packet, rest)) = compound.split_at_checked(end) else { return false };
        if kind == 207 && packet.get(8) == Some(&7) {
            return true;
        }
        compound = rest;
    }
    false
}

/// On the port of RTP it is told by its packet type (RFC 5761 §4).
fn is_rtcp(packet: &Packet) -> bool {
    let kind = packet.bytes.get(1).copied().unwrap_or_default();
    packet.port == MediaPort::Rtcp || (192..224).contains(&kind)
}
