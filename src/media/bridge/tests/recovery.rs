//! What becomes of a voice on a wire that loses, delays, reorders and doubles: order, repair, delay, true time.

use super::*;
use crate::media::recovery::wire::{ImpairedWire, Impairments, Loss};

/// What became of all packets.
#[derive(Debug, Default)]
struct Total {
    fec: u64,
    plc: u64,
    late: u64,
    /// The longest that a packet was made to wait.
    waits_ms: u16,
}

/// Plays 20 ms packets of `payloads` through a wire into the call; returns what became of them.
fn carry(call: &mut Call, side: Side, payloads: &[Vec<u8>], impairments: Impairments, seed: u64) -> Total {
    let (payload_type, step) = match side {
        Side::A => (call.config_a.receive_payload_type, call.config_a.codec.clock_rate() / 50),
        Side::B => (call.config_b.receive_payload_type, call.config_b.codec.clock_rate() / 50),
    };
    let mut talker = Talker::new(side, payload_type);
    let mut wire = ImpairedWire::new(impairments, seed);
    let mut arrivals = Vec::new();
    for (n, payload) in payloads.iter().enumerate() {
        let header = talker.next(step);
        arrivals.extend(wire.carry(20 * MS * n as u32).map(|at| (at, n, header, payload)));
    }
    arrivals.sort_by_key(|(at, n, ..)| (*at, *n));
    let mut total = Total::default();
    for (at, _, header, payload) in arrivals {
        call.until(at);
        let outcome = call.send(side, header, payload);
        total.fec += u64::from(outcome.recovered_fec);
        total.plc += u64::from(outcome.recovered_plc);
        total.late += u64::from(outcome.too_late);
        total.waits_ms = total.waits_ms.max(outcome.waits_ms);
    }
    let end = call.now.instant - call.start;
    call.until(end + 200 * MS);
    total
}

/// How far what was sent last lies behind the time at which it was due, in milliseconds.
pub(super) fn behind(got: &[Got], units_per_ms: u32) -> Vec<i64> {
    let first = &got[0];
    let place = |packet: &Got| i64::from(packet.timestamp.wrapping_sub(first.timestamp) / units_per_ms);
    got.iter().map(|packet| place(packet) - (packet.at - first.at).as_millis() as i64).collect()
}

#[test]
fn the_last_lost_packet_comes_from_the_redundancy_of_the_next_and_the_others_are_concealed() {
    let mut call = Call::opus_to_pcma();
    let mut app = Talker::new(Side::A, 111);
    let packets = opus_speech(100, 10);
    // A gap where the packet behind it has redundancy, as most have at ten percent.
    let after = (30..90).find(|n| crate::media::codec::opus::has_redundancy(&packets[*n])).unwrap();
    for (n, packet) in packets.iter().enumerate() {
        call.until(20 * MS * n as u32);
        if (after - 3..after).contains(&n) {
            app.next(960);
            continue;
        }
        let outcome = app.say(&mut call, 960, packet);
        let expected = if n == after { (1, 2) } else { (0, 0) };
        assert_eq!((outcome.recovered_fec, outcome.recovered_plc), expected, "packet {n}");
    }
    assert_continuous(&call.at_b, 160);
}

#[test]
fn a_packet_recovered_from_redundancy_sounds_like_the_one_that_was_lost() {
    let packets = opus_speech(100, 10);
    let after = (30..90).find(|n| crate::media::codec::opus::has_redundancy(&packets[*n])).unwrap();
    let mut call = Call::opus_to_pcma();
    let mut app = Talker::new(Side::A, 111);
    for (n, packet) in packets.iter().enumerate() {
        call.until(20 * MS * n as u32);
        if n + 1 == after {
            app.next(960);
        } else {
            app.say(&mut call, 960, packet);
        }
    }
    let mut whole = Call::opus_to_pcma();
    let mut app = Talker::new(Side::A, 111);
    for (n, packet) in packets.iter().enumerate() {
        whole.until(20 * MS * n as u32);
        app.say(&mut whole, 960, packet);
    }
    let (heard, clean) = (listen_pcma(&call.at_b), listen_pcma(&whole.at_b));
    let frame = |n: usize| n * 160..(n + 1) * 160;
    let likeness = |n: usize| {
        let (a, b) = (&clean[frame(n)], &heard[frame(n)]);
        let sum =
            |x: &[i16], y: &[i16]| x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
        sum(a, b) / (sum(a, a) * sum(b, b)).sqrt().max(1.0)
    };
    assert!(likeness(after - 1) > 0.8, "recovered: {}", likeness(after - 1));
}

#[test]
fn in_time_nothing_waits_even_while_packets_are_lost() {
    for side in [Side::A, Side::B] {
        let mut call = Call::opus_to_pcma();
        let payloads = if side == Side::A { opus_speech(500, 10) } else { pcma_speech(500, 160) };
        let lossy = Impairments { loss: Loss::Random(0.1), ..Impairments::default() };
        let total = carry(&mut call, side, &payloads, lossy, 3);
        assert_eq!(total.waits_ms, 0);
        let (got, step) = if side == Side::A { (&call.at_b, 160) } else { (&call.at_a, 960) };
        assert_continuous(got, step);
        let units = step / 20;
        // Whatever is sent leaves with the packet that brought it, the repair of a gap with the one behind it.
        let late = behind(got, units);
        assert!(late.iter().all(|ms| *ms <= 0), "never ahead of time");
        assert!(late.iter().filter(|ms| **ms < 0).count() < 90, "only what was lost is late");
    }
}

#[test]
fn overtaken_packets_are_put_back_once_the_wire_has_shown_that_it_does_so() {
    for side in [Side::A, Side::B] {
        let mut call = Call::opus_to_pcma();
        let payloads = if side == Side::A { opus_speech(1_000, 0) } else { pcma_speech(1_000, 160) };
        let reordering = Impairments { detour: (0.05, 30 * MS), ..Impairments::default() };
        let total = carry(&mut call, side, &payloads, reordering, 5);
        let (got, step, leg) =
            if side == Side::A { (&call.at_b, 160, &call.a) } else { (&call.at_a, 960, &call.b) };
        assert_continuous(got, step);
        let report = leg.report();
        assert_eq!(report.packets_lost, 0);
        assert!(total.late <= 2, "only the first teaches: {total:?}");
        assert!(total.plc + total.fec <= 2, "{total:?}");
        assert_eq!(report.packets_late, total.late);
    }
}

/// So many packets of a voice, of which ten seconds are made.
fn long_voice(side: Side, packets: usize) -> Vec<Vec<u8>> {
    let voice = if side == Side::A { opus_speech(500, 10) } else { pcma_speech(500, 160) };
    voice.into_iter().cycle().take(packets).collect()
}

#[test]
fn jitter_that_lets_packets_overtake_each_other_costs_none_of_them() {
    for side in [Side::A, Side::B] {
        for seed in 1..4 {
            let mut call = Call::opus_to_pcma();
            let jitter = Impairments { jitter: 40 * MS, ..Impairments::default() };
            let total = carry(&mut call, side, &long_voice(side, 3_000), jitter, seed);
            let (got, step) = if side == Side::A { (&call.at_b, 160) } else { (&call.at_a, 960) };
            assert_continuous(got, step);
            assert!(total.plc + total.fec <= 1 && total.late <= 1, "seed {seed}: {total:?}");
        }
    }
}

#[test]
fn a_gap_is_never_waited_for_longer_than_the_network_has_shown_it_takes() {
    for side in [Side::A, Side::B] {
        let mut call = Call::opus_to_pcma();
        let bad = Impairments { loss: Loss::Random(0.2), jitter: 40 * MS, ..Impairments::default() };
        let total = carry(&mut call, side, &long_voice(side, 3_000), bad, 9);
        assert!((1..=25).contains(&total.waits_ms), "{total:?}");
        assert!(total.late <= 12, "one in two hundred: {total:?}");
    }
}

#[test]
fn doubled_packets_are_counted_and_heard_once() {
    let mut call = Call::opus_to_pcma();
    let doubling = Impairments { doubled: 0.2, ..Impairments::default() };
    carry(&mut call, Side::A, &opus_speech(500, 0), doubling, 11);
    assert_continuous(&call.at_b, 160);
    assert_eq!(call.at_b.len(), 500 + trailing_fill(&call, 500));
    assert!((70..130).contains(&call.a.report().packets_late));
}

/// Frames of filling behind the last packet, when the app has stopped.
fn trailing_fill(call: &Call, packets: usize) -> usize {
    call.at_b.len() - packets
}

#[test]
fn every_wire_leaves_a_whole_timeline_and_the_delay_goes_away() {
    let shares = [0.0, 0.01, 0.05, 0.1, 0.2];
    let mut seed = 0;
    for share in shares {
        for mean_run in [1.0, 3.0] {
            for (jitter, in_order) in [(0, true), (20, true), (60, true), (60, false)] {
                seed += 1;
                let loss =
                    if mean_run > 1.0 { Loss::Bursts { share, mean_run } } else { Loss::Random(share) };
                let impairments = Impairments {
                    loss,
                    jitter: MS * jitter,
                    in_order,
                    detour: (0.01, 25 * MS),
                    doubled: 0.01,
                    drift_ppm: [0, 200, -200][seed as usize % 3],
                };
                let mut call = Call::opus_to_pcma();
                let total = carry(&mut call, Side::A, &opus_speech(600, 10), impairments, seed);
                let case = format!("{impairments:?}: {total:?}");
                assert_continuous(&call.at_b, 160);
                let late = behind(&call.at_b, 8);
                let report = call.a.report();
                assert_eq!(report.packets_discarded, 0, "{case}");
                let lost = report.packets_lost + total.late;
                let made_up = total.fec + total.plc;
                assert!(made_up <= lost + 2 && made_up + 6 >= lost, "{lost} lost, {case}");
                // What is played behind its time is never much more than the wire took, and than a clock that is off gains.
                let worst = late.iter().max().unwrap();
                assert!(*worst <= i64::from(jitter) + 60 + 3, "{worst} ms, {case}");
            }
        }
    }
}

#[test]
fn a_burst_after_a_stall_of_the_network_is_played_and_the_delay_is_gone_in_two_seconds() {
    for stall in [200u32, 300] {
        let mut call = Call::opus_to_pcma();
        let mut app = Talker::new(Side::A, 111);
        for (n, packet) in continuous_speech(400).iter().enumerate() {
            let due = 20 * MS * n as u32;
            let stalled = due >= 1_000 * MS && due < 1_000 * MS + MS * stall;
            call.until(if stalled { 1_000 * MS + MS * stall } else { due });
            app.say(&mut call, 960, packet);
        }
        assert_continuous(&call.at_b, 160);
        let late = behind(&call.at_b, 8);
        let worst = *late.iter().max().unwrap();
        assert!(worst >= i64::from(stall) - 120, "it was played, {worst} ms behind");
        let back_by = 1_000 * MS + MS * stall + 2_000 * MS;
        let after = call.at_b.iter().zip(&late).filter(|(got, _)| got.at >= back_by);
        let left = after.map(|(_, late)| *late).max().unwrap();
        assert!(left <= 1, "{left} ms are left of {worst} after two seconds");
        assert_eq!(call.at_b.last().unwrap().at, 20 * MS * 399, "and nothing waits in the packer");
    }
}

#[test]
fn a_stall_of_the_machine_leaves_no_delay_at_all() {
    let mut call = Call::opus_to_pcma();
    let mut app = Talker::new(Side::A, 111);
    let mut trunk = Talker::new(Side::B, 8);
    let (opus, pcma) = (continuous_speech(200), pcma_speech(200, 160));
    for n in 0..200 {
        let due = 20 * MS * n as u32;
        // The packets of 200 ms lie in the socket when the machine goes on; they are read before anything is filled.
        if (50..60).contains(&n) {
            call.set_time(call.start + 1_200 * MS);
        } else {
            call.until(due);
        }
        app.say(&mut call, 960, &opus[n]);
        trunk.say(&mut call, 160, &pcma[n]);
    }
    assert_eq!((call.at_b.len(), call.at_a.len()), (200, 200), "nothing was made up");
    assert_continuous(&call.at_b, 160);
    assert_continuous(&call.at_a, 960);
    assert!(behind(&call.at_b, 8).iter().all(|ms| *ms <= 0));
    assert!(behind(&call.at_a, 48)[60..].iter().all(|ms| *ms == 0));
}

/// A voice without pauses: nothing may count on one.
pub(super) fn continuous_voice(from: usize, samples: usize) -> Vec<i16> {
    let voice = |n: usize| {
        let phase = n as f32 / 8000.0 * std::f32::consts::TAU * 140.0;
        let harmonics = (1..12).map(|k| (phase * k as f32).sin() / k as f32).sum::<f32>();
        let swell = 0.7 + 0.3 * (n as f32 / 8000.0 * 20.0).sin();
        (harmonics * swell * 5_000.0) as i16
    };
    (from..from + samples).map(voice).collect()
}

/// The same as an app sends it.
pub(super) fn continuous_speech(packets: usize) -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new(8_000, config(AudioCodec::Opus).opus).unwrap();
    (0..packets)
        .map(|n| {
            let pcm = continuous_voice(n * 160, 160);
            let mut packet = [0; 1276];
            let Ok(Encoded::Packet(len)) = encoder.encode(&pcm, &mut packet) else { unreachable!("no DTX") };
            packet[..len].to_vec()
        })
        .collect()
}

#[test]
fn what_was_made_up_is_counted_by_its_length_and_not_by_the_numbers_that_were_skipped() {
    // Numbers and packets' times skipped before one packet, and how much of that is told as concealed.
    let table = [
        ("two packets", 2u16, 2u32, 2u64),
        ("numbers alone", 1_000, 0, 0),
        ("more numbers than time", 1_000, 2, 2),
        ("more time than numbers: a pause", 1, 30, 1),
        ("longer than is filled at once", 20, 20, 20),
    ];
    for (name, numbers, time, concealed) in table {
        for (side, most) in [(Side::A, u64::MAX), (Side::B, 3)] {
            let mut call = Call::opus_to_pcma();
            let (payload_type, step) = if side == Side::A { (111, 960) } else { (8, 160) };
            let mut talker = Talker::new(side, payload_type);
            let voice = if side == Side::A { opus_speech(100, 0) } else { pcma_speech(100, 160) };
            let mut at = Duration::ZERO;
            for (n, packet) in voice.iter().enumerate() {
                if n == 50 {
                    talker.sequence = talker.sequence.wrapping_add(numbers);
                    talker.timestamp = talker.timestamp.wrapping_add(time * step);
                    at += 20 * MS * time;
                }
                call.until(at);
                talker.say(&mut call, step, packet);
                at += 20 * MS;
            }
            let leg = if side == Side::A { &call.a } else { &call.b };
            // Of the trunk's voice a gap beyond 60 ms is left to the listener's own decoder.
            let expected = if u64::from(time) > most { 0 } else { concealed };
            assert_eq!(leg.counts().recovered_plc, expected, "{name}");
        }
    }
}
