//! Packets of 40 and 60 ms: what is repaired of them, and how it is counted.

use super::*;
use crate::media::codec::opus::has_redundancy;
use crate::media::recovery::wire::{ImpairedWire, Impairments};

/// A voice without pauses behind half a second of silence, so that none of it passes for background; in packets of `ms`
/// for a far side that loses one in ten.
fn voice(packets: usize, ms: usize) -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new(8_000, config(AudioCodec::Opus).opus).unwrap();
    encoder.set_expected_loss(10);
    let sample = |n: usize| {
        let seconds = n as f32 / 8_000.0;
        let phase = (seconds * 140.0 + (seconds * 9.0).sin()) * std::f32::consts::TAU;
        let harmonics = (1..12).map(|k| (phase * k as f32).sin() / k as f32).sum::<f32>();
        let swell = 0.6 + 0.4 * (seconds * 25.0).sin();
        if n < 4_000 { 0 } else { (harmonics * swell * 5_000.0) as i16 }
    };
    let length = ms * 8;
    (0..packets)
        .map(|n| {
            let pcm: Vec<i16> = (n * length..(n + 1) * length).map(sample).collect();
            let mut packet = [0; 1276];
            let Ok(Encoded::Packet(len)) = encoder.encode(&pcm, &mut packet) else { unreachable!("no DTX") };
            packet[..len].to_vec()
        })
        .collect()
}

/// What a call hears of `packets` that arrive as said, each `None` lost; and what became of each.
fn play(packets: &[Vec<u8>], ms: u32, arrivals: &[Option<Duration>]) -> (Vec<i16>, Vec<Outcome>) {
    let mut call = Call::opus_to_pcma();
    let mut app = Talker::new(Side::A, 111);
    let mut outcomes = Vec::new();
    for (packet, at) in packets.iter().zip(arrivals) {
        let header = app.next(ms * 48);
        outcomes.push(match at {
            Some(at) => {
                call.until(*at);
                call.send(Side::A, header, packet)
            }
            None => Outcome::NOTHING,
        });
    }
    assert_continuous(&call.at_b, 160);
    (listen_pcma(&call.at_b), outcomes)
}

fn likeness(a: &[i16], b: &[i16]) -> f64 {
    let sum = |x: &[i16], y: &[i16]| x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    sum(a, b) / (sum(a, a) * sum(b, b)).sqrt().max(1.0)
}

#[test]
fn redundancy_replaces_what_is_lost_of_long_packets_however_much_they_jitter() {
    for ms in [40u32, 60] {
        let packets = voice(200, ms as usize);
        let due = |n: usize| MS * ms * n as u32;
        let lost = |n: usize| n >= 40 && n.is_multiple_of(7);
        let punctual: Vec<_> = (0..packets.len()).map(|n| Some(due(n))).collect();
        let (clean, _) = play(&packets, ms, &punctual);
        for jitter in [0u32, 5, 15, 30] {
            for seed in 1..4 {
                let jittering = Impairments { jitter: MS * jitter, in_order: true, ..Impairments::default() };
                let mut wire = ImpairedWire::new(jittering, seed);
                let mut arrive = |n: usize| wire.carry(due(n)).next().filter(|_| !lost(n));
                let arrivals: Vec<_> = (0..packets.len()).map(&mut arrive).collect();
                let (heard, outcomes) = play(&packets, ms, &arrivals);
                let case = format!("{ms} ms, jitter {jitter} ms, seed {seed}");
                let holders: Vec<usize> =
                    (1..packets.len()).filter(|n| lost(n - 1) && has_redundancy(&packets[*n])).collect();
                assert!(holders.len() >= 12, "{} with redundancy, {case}", holders.len());
                let length = ms as usize * 8;
                for n in holders {
                    let became = (outcomes[n].recovered_fec, outcomes[n].recovered_plc);
                    assert_eq!(became, (1, 0), "packet {n}, {case}");
                    let part = (n - 1) * length..n * length;
                    let alike = likeness(&clean[part.clone()], &heard[part]);
                    assert!(alike > 0.7, "packet {n} came back as {alike}, {case}");
                }
            }
        }
    }
}

#[test]
fn what_was_partly_made_up_before_its_redundancy_came_counts_as_concealed() {
    let packets = voice(60, 60);
    let holder = (40..60).find(|n| has_redundancy(&packets[*n])).unwrap();
    let arrive = |n: usize| {
        let late = if n == holder { 40 * MS } else { Duration::ZERO };
        (n + 1 != holder).then_some(60 * MS * n as u32 + late)
    };
    let arrivals: Vec<_> = (0..packets.len()).map(arrive).collect();
    let (_, outcomes) = play(&packets, 60, &arrivals);
    assert_eq!((outcomes[holder].recovered_fec, outcomes[holder].recovered_plc), (0, 1));
}
