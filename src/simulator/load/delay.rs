//! How long a call's voice took on its way, found by what was heard and not by trusting any header.
//!
//! Each end notes when it sent each packet, and when (by the kernel's stamp) each packet arrived. Every few seconds the
//! sound of one second of arrivals is cross-correlated with what was sent in the last second, which says to the sample
//! which sound the other end heard. From that follow two figures:
//!
//! - **packet delay**: from sending the last packet whose sound an arrival contains to that arrival. This is what a
//!   gateway adds by receiving, transcoding and sending, wire and kernel included.
//! - **content delay**: from a sound's turn at the sender to its arrival. It also has what a codec looks ahead (6.5 ms
//!   in an Opus encoder), and what a gateway holds back.

use super::tape::{FRAME, RATE, Tape};
use crate::simulator::align;
use crate::simulator::stream::{Stamp, StreamOutcome};

/// Microseconds since a moment that both ends of a call share.
type Micros = u32;

/// Samples of one comparison: a second holds enough syllables to be mistaken for no other.
const WINDOW: usize = RATE as usize;
/// From the beginning of one comparison to that of the next.
const PERIOD: usize = 4 * WINDOW;
/// Sound at a call's beginning that is left out: decoders and encoders settle.
const LEAD: usize = 5 * FRAME;
/// The longest delay that is found.
const LONGEST: usize = WINDOW;
/// Correlation from which a place is believed, of one second found within two: others have less than 0.05.
const FOUND: f32 = 0.25;
/// Two comparisons within this many samples of each other say the same: what codecs blur.
const SAME: i64 = 16;
/// Sound of a packet's end that is not counted as contained: places are found to a sample or two only.
const EDGE: i64 = 24;

/// When each packet of a call was sent, from its first on.
#[derive(Debug, Clone, Default)]
struct Sent(Vec<Micros>);

/// A packet that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Arrival {
    /// Of its first sample, on the clock of its timestamps at [`RATE`].
    position: u32,
    /// Samples in it.
    len: u16,
    at: Micros,
}

/// What came of one direction of a call.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Delays {
    /// Microseconds.
    pub packet: Vec<u32>,
    /// Microseconds.
    pub content: Vec<u32>,
    /// Comparisons in which the sound was recognised, and in which it was not.
    pub recognised: u32,
    pub unrecognised: u32,
}

/// One second of sound as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stretch {
    /// Of its first sample.
    position: u32,
    sound: Vec<i16>,
}

impl Sent {
    /// By the places of the packets; one that was not sent counts as sent with the one before.
    fn of(stamps: &[Stamp], epoch: i64) -> Sent {
        let mut sent = Vec::with_capacity(stamps.len());
        for stamp in stamps {
            let frame = usize::try_from(samples(stamp.media_us)).unwrap_or(0) / FRAME;
            let before = sent.last().copied().unwrap_or(0);
            sent.resize(sent.len().max(frame), before);
            sent.push(micros(stamp.unix_ns, epoch).unwrap_or(before));
        }
        Sent(sent)
    }

    /// Packets sent up to a moment.
    fn until(&self, at: Micros) -> usize {
        self.0.partition_point(|sent| *sent <= at)
    }

    /// When the sound at a place had its turn; microseconds.
    fn turn_of(&self, place: i64) -> Option<i64> {
        let frame = usize::try_from(place.div_euclid(FRAME as i64)).ok()?;
        let within = place.rem_euclid(FRAME as i64) * 1_000_000 / i64::from(RATE);
        Some(i64::from(*self.0.get(frame)?) + within)
    }
}

/// Measures one direction of one call, from what both ends noted of it. Nothing is measured where they noted nothing.
pub fn measure(tape: &Tape, sender: &StreamOutcome, receiver: &StreamOutcome) -> Delays {
    let Some(epoch) = sender.sent.iter().find(|stamp| stamp.unix_ns != 0).map(|stamp| stamp.unix_ns) else {
        return Delays::default();
    };
    let sent = Sent::of(&sender.sent, epoch);
    let arrivals = arrivals(&receiver.received, epoch);
    compare(tape, &sent, &arrivals, &stretches(receiver, &arrivals))
}

/// Microseconds after the epoch; a stamp before it or hours later is none of this call's.
fn micros(unix_ns: i64, epoch: i64) -> Option<Micros> {
    Micros::try_from((unix_ns - epoch) / 1_000).ok()
}

/// Samples at [`RATE`] of a place on a stream's time line.
fn samples(media_us: i64) -> i64 {
    media_us * i64::from(RATE) / 1_000_000
}

fn arrivals(received: &[Stamp], epoch: i64) -> Vec<Arrival> {
    let arrival = |stamp: &Stamp| {
        let position = u32::try_from(samples(stamp.media_us)).ok()?;
        Some(Arrival { position, len: FRAME as u16, at: micros(stamp.unix_ns, epoch)? })
    };
    let mut arrivals: Vec<Arrival> = received.iter().filter_map(arrival).collect();
    arrivals.sort_by_key(|arrival| arrival.position);
    arrivals
}

/// Cuts the recording into what is compared.
fn stretches(receiver: &StreamOutcome, arrivals: &[Arrival]) -> Vec<Stretch> {
    let (Some(recording), Some(first_ms), Some(last)) =
        (&receiver.recording, receiver.first_packet_ms, arrivals.last())
    else {
        return Vec::new();
    };
    let heard = recording.resampled(RATE).samples;
    let begins = first_ms.max(0) as usize * RATE as usize / 1000;
    (LEAD..(last.position as usize).saturating_sub(WINDOW))
        .step_by(PERIOD)
        .filter_map(|position| {
            let sound = heard.get(begins + position..begins + position + WINDOW)?.to_vec();
            Some(Stretch { position: position as u32, sound })
        })
        .collect()
}

fn compare(tape: &Tape, sent: &Sent, arrivals: &[Arrival], stretches: &[Stretch]) -> Delays {
    let mut delays = Delays::default();
    let shifts: Vec<Option<i64>> =
        stretches.iter().map(|stretch| shift_of(tape, sent, arrivals, stretch)).collect();
    delays.recognised = shifts.iter().flatten().count() as u32;
    delays.unrecognised = shifts.len() as u32 - delays.recognised;
    for (index, stretch) in stretches.iter().enumerate() {
        let Some(shift) = shifts[index] else { continue };
        let next = shifts.get(index + 1).copied().flatten();
        // Until the next comparison if that says the same: else the voice shifted at a time nobody knows.
        let reach = match next {
            Some(next) if (next - shift).abs() <= SAME => PERIOD,
            Some(_) | None => WINDOW,
        };
        let end = stretch.position.saturating_add(reach as u32);
        let from = arrivals.partition_point(|arrival| arrival.position < stretch.position);
        for arrival in arrivals[from..].iter().take_while(|arrival| arrival.position < end) {
            let place = i64::from(arrival.position) + shift;
            let last = place + i64::from(arrival.len) - 1 - EDGE;
            let needed = usize::try_from(last.div_euclid(FRAME as i64)).ok();
            let needed = needed.and_then(|frame| sent.0.get(frame));
            let (Some(needed), Some(turn)) = (needed, sent.turn_of(place)) else { continue };
            if let (Some(packet), Ok(content)) =
                (arrival.at.checked_sub(*needed), u32::try_from(i64::from(arrival.at) - turn))
            {
                delays.packet.push(packet);
                delays.content.push(content);
            }
        }
    }
    delays
}

/// By how much places in what was sent are ahead of positions in what arrived.
fn shift_of(tape: &Tape, sent: &Sent, arrivals: &[Arrival], stretch: &Stretch) -> Option<i64> {
    let index = arrivals.partition_point(|arrival| arrival.position < stretch.position);
    let first = arrivals.get(index)?;
    // Nothing is heard before it is sent.
    let newest = (sent.until(first.at) * FRAME) as i64;
    let from = newest - LONGEST as i64;
    let said = tape.sound(from, LONGEST + stretch.sound.len());
    let found = align(&stretch.sound, &said)?;
    let shift = from + found.offset - i64::from(stretch.position);
    (found.correlation >= FOUND && (0..=LONGEST as i64).contains(&found.offset)).then_some(shift)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::speech;
    use crate::simulator::wav::Wav;
    use crate::types::AudioCodec;

    const FRAMES: usize = 50 * 14;

    fn tape() -> Tape {
        Tape::record(&speech::callee(), AudioCodec::Pcma).unwrap()
    }

    /// A sender that is `jitter` microseconds late at times.
    fn sent(jitter: u32) -> Sent {
        Sent((0..FRAMES as u32).map(|n| 7_000 + n * 20_000 + n * 7_919 % (jitter + 1)).collect())
    }

    /// A gateway that adds `micros` to each packet and `samples` of look-ahead to the sound, from position 3,200 on.
    fn through(tape: &Tape, sent: &Sent, micros: u32, samples: i64) -> (Vec<Arrival>, Vec<Stretch>) {
        let origin = 3_200;
        let arrivals: Vec<Arrival> = sent
            .0
            .iter()
            .enumerate()
            .map(|(n, at)| Arrival {
                position: origin + (n * FRAME) as u32,
                len: FRAME as u16,
                at: at + micros,
            })
            .collect();
        let stretches = (0..3)
            .map(|n| {
                let position = origin + (LEAD + n * PERIOD) as u32;
                let sound = tape.sound(i64::from(position - origin) - samples, WINDOW);
                Stretch { position, sound }
            })
            .collect();
        (arrivals, stretches)
    }

    fn range(values: &[u32]) -> (u32, u32) {
        (*values.iter().min().unwrap(), *values.iter().max().unwrap())
    }

    #[test]
    fn a_relay_adds_what_it_takes_and_no_more() {
        let (tape, sent) = (tape(), sent(0));
        let (arrivals, stretches) = through(&tape, &sent, 300, 0);
        let delays = compare(&tape, &sent, &arrivals, &stretches);
        assert_eq!((delays.recognised, delays.unrecognised), (3, 0));
        assert_eq!(range(&delays.packet), (300, 300));
        assert_eq!(range(&delays.content), (300, 300));
        assert!(delays.packet.len() > 400, "{}", delays.packet.len());
    }

    #[test]
    fn an_encoders_look_ahead_is_in_the_content_delay_only() {
        let (tape, sent) = (tape(), sent(0));
        let (arrivals, stretches) = through(&tape, &sent, 500, 52);
        let delays = compare(&tape, &sent, &arrivals, &stretches);
        assert_eq!(range(&delays.packet), (500, 500));
        assert_eq!(range(&delays.content), (7_000, 7_000));
    }

    #[test]
    fn a_gateway_that_holds_a_frame_is_found_out() {
        let (tape, sent) = (tape(), sent(0));
        // The sound of each packet leaves with the next one.
        let (arrivals, stretches) = through(&tape, &sent, 100, FRAME as i64);
        let delays = compare(&tape, &sent, &arrivals, &stretches);
        assert_eq!(range(&delays.packet), (20_100, 20_100));
    }

    #[test]
    fn a_late_sender_is_not_the_gateways_fault() {
        let (tape, sent) = (tape(), sent(4_000));
        let (arrivals, stretches) = through(&tape, &sent, 250, 0);
        assert_eq!(range(&compare(&tape, &sent, &arrivals, &stretches).packet), (250, 250));
    }

    #[test]
    fn what_is_not_the_speech_is_not_measured() {
        let (tape, sent) = (tape(), sent(0));
        let (arrivals, mut stretches) = through(&tape, &sent, 300, 0);
        let other = Tape::record(&speech::caller(), AudioCodec::Pcma).unwrap();
        for stretch in &mut stretches {
            stretch.sound = other.sound(i64::from(stretch.position), WINDOW);
        }
        let delays = compare(&tape, &sent, &arrivals, &stretches);
        assert_eq!(delays, Delays { unrecognised: 3, ..Delays::default() });
    }

    #[test]
    fn a_shift_between_comparisons_leaves_out_the_packets_between() {
        let (tape, sent) = (tape(), sent(0));
        let (arrivals, mut stretches) = through(&tape, &sent, 300, 0);
        let (_, shifted) = through(&tape, &sent, 300, 2 * FRAME as i64);
        stretches[1] = shifted[1].clone();
        let delays = compare(&tape, &sent, &arrivals, &stretches);
        assert_eq!(range(&delays.packet), (300, 40_300));
        assert_eq!(delays.packet.len(), 3 * WINDOW / FRAME);
    }

    #[test]
    fn the_notes_of_two_streams_are_enough() {
        let tape = tape();
        let epoch = 1_772_366_400_000_000_000;
        let stamp = |n: i64, add: i64| Stamp { media_us: n * 20_000, unix_ns: epoch + n * 20_000_000 + add };
        let sender =
            StreamOutcome { sent: (0..600).map(|n| stamp(n, 0)).collect(), ..StreamOutcome::default() };
        // The first three packets find the far end still deaf; its recording began 45 ms before the fourth.
        let received = (3..600).map(|n| Stamp { media_us: (n - 3) * 20_000, ..stamp(n, 400_000) }).collect();
        let heard = tape.sound(3 * FRAME as i64 - 45 * 8, 600 * FRAME);
        let receiver = StreamOutcome {
            received,
            first_packet_ms: Some(45),
            recording: Some(Wav { rate: RATE, samples: heard }),
            ..StreamOutcome::default()
        };
        let delays = measure(&tape, &sender, &receiver);
        assert_eq!((delays.recognised, delays.unrecognised), (3, 0));
        assert_eq!(range(&delays.packet), (400, 400));
        assert_eq!(measure(&tape, &StreamOutcome::default(), &receiver), Delays::default());
        assert_eq!(measure(&tape, &sender, &StreamOutcome::default()), Delays::default());
    }
}
