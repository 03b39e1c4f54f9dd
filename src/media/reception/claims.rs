//! Sources that nobody knows, as they compete to be believed: each needs a second packet that counts on from its first,
//! and a flood of sources that have only one may not keep a real one from having its second noted.

use std::time::{Duration, Instant};

/// So many are noted at once. 10,000 packets a second, each of another source, leave room for every fourteenth packet
/// of a real one: it is heard after about half a second, or after one where its packets have 60 ms.
const PLACES: usize = 64;
/// A source keeps its place so long for its next packet, whoever else comes: a packet of the longest that telephones
/// send and, in most places, what may hold it up. That no two places are alike keeps a flood from running in step with
/// them.
const HELD: Duration = Duration::from_millis(64);
const HELD_MORE: Duration = Duration::from_millis(1);
/// The same for one that has counted on already.
const HELD_LONGEST: Duration = HELD.saturating_add(Duration::from_millis(PLACES as u64));

/// Packets in a row of one source. Times are microseconds since the first packet of all: they go round after 71
/// minutes, in which a call without any known source has ended.
#[derive(Debug, Clone, Copy, Default)]
struct Claim {
    ssrc: u32,
    since: u32,
    last: u32,
    /// Of the first packet, where the packets are voice.
    timestamp: u32,
    /// The number that counts on.
    next: u16,
    packets: u16,
    voice: bool,
}

/// The claims of one port. Few ports ever see a strange source: the 1.5 KB are made when the first comes, once for all
/// that may follow, and no packet of a call that goes its ordinary way allocates anything.
#[derive(Debug, Clone, Default)]
pub(super) struct Claims {
    places: Option<Box<[Claim; PLACES]>>,
    taken: usize,
    epoch: Option<Instant>,
}

/// How far a source has come with a packet that counts on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Progress {
    place: usize,
    /// Packets so far, the time they came in and the timestamp of the first.
    pub packets: u32,
    pub waited: Duration,
    pub first_timestamp: Option<u32>,
}

impl Claims {
    /// Notes a packet. `None` where it does not count on from the last one of its source, or none is noted.
    pub fn note(
        &mut self,
        ssrc: u32,
        sequence: u16,
        timestamp: Option<u32>,
        arrival: Instant,
    ) -> Option<Progress> {
        let (now, voice) = (self.micros(arrival), timestamp.is_some());
        let begun = Claim {
            ssrc,
            since: now,
            last: now,
            timestamp: timestamp.unwrap_or_default(),
            next: sequence.wrapping_add(1),
            packets: 1,
            voice,
        };
        let places = self.places.get_or_insert_with(|| Box::new([Claim::default(); PLACES]));
        let taken = places.iter().take(self.taken);
        let Some(place) = taken.clone().position(|claim| claim.ssrc == ssrc) else {
            let place = if self.taken < PLACES {
                self.taken += 1;
                self.taken - 1
            } else {
                taken.enumerate().position(|(place, claim)| claim.is_over(place, now))?
            };
            places[place] = begun;
            return None;
        };
        let claim = &mut places[place];
        if (claim.next, claim.voice) != (sequence, voice) {
            // Whoever is here and there in its numbers has to decide.
            *claim = begun;
            return None;
        }
        claim.next = begun.next;
        claim.last = now;
        claim.packets = claim.packets.saturating_add(1);
        Some(Progress {
            place,
            packets: claim.packets.into(),
            waited: Duration::from_micros(now.wrapping_sub(claim.since).into()),
            first_timestamp: voice.then_some(claim.timestamp),
        })
    }

    /// One that keeps no time begins anew with the packet it has just brought.
    pub fn restart(&mut self, progress: Progress, timestamp: Option<u32>) {
        let Some(claim) = self.places.as_mut().map(|places| &mut places[progress.place]) else { return };
        claim.since = claim.last;
        claim.timestamp = timestamp.unwrap_or_default();
        claim.packets = 1;
    }

    /// The known source goes on: whoever wants to be believed begins anew.
    #[inline]
    pub fn clear(&mut self) {
        self.taken = 0;
    }

    fn micros(&mut self, arrival: Instant) -> u32 {
        let epoch = *self.epoch.get_or_insert(arrival);
        arrival.saturating_duration_since(epoch).as_micros() as u32
    }
}

impl Claim {
    fn is_over(&self, place: usize, now: u32) -> bool {
        let held = if self.packets > 1 { HELD_LONGEST } else { HELD + HELD_MORE * place as u32 };
        Duration::from_micros(now.wrapping_sub(self.last).into()) >= held
    }
}
