//! Packets of 40 and 60 ms: what is repaired of them, how it is counted, and what becomes of words that fill none.

use super::*;
use crate::media::codec::opus::has_redundancy;
use crate::media::recovery::wire::{ImpairedWire, Impairments};

/// A voice without pauses behind half a second of silence, so that none of it passes for background; in packets of `ms`
/// for a far side that loses so many percent.
fn voice(packets: usize, ms: usize, expected_loss: u8) -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new(8_000, config(AudioCodec::Opus).opus).unwrap();
    encoder.set_expected_loss(expected_loss);
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
        let lost = |n: usize| n >= 40 && n.is_multiple_of(7);
        let due = |n: usize| MS * ms * n as u32;
        // How much what is heard in the place of the lost packets is like them, with redundancy and without.
        let mean_likeness = |expected_loss: u8, jitter: u32, seed: u64| {
            let packets = voice(200, ms as usize, expected_loss);
            let punctual: Vec<_> = (0..packets.len()).map(|n| Some(due(n))).collect();
            let (clean, _) = play(&packets, ms, &punctual);
            let jittering = Impairments { jitter: MS * jitter, in_order: true, ..Impairments::default() };
            let mut wire = ImpairedWire::new(jittering, seed);
            let mut arrive = |n: usize| wire.carry(due(n)).next().filter(|_| !lost(n));
            let arrivals: Vec<_> = (0..packets.len()).map(&mut arrive).collect();
            let (heard, outcomes) = play(&packets, ms, &arrivals);
            let behind: Vec<usize> = (1..packets.len()).filter(|n| lost(n - 1)).collect();
            for n in &behind {
                let redundant = has_redundancy(&packets[*n]);
                let became = (outcomes[*n].recovered_fec, outcomes[*n].recovered_plc);
                let expected = if redundant { (1, 0) } else { (0, 1) };
                assert_eq!(became, expected, "packet {n} of {ms} ms, jitter {jitter} ms, seed {seed}");
            }
            let behind: Vec<usize> =
                behind.into_iter().filter(|n| has_redundancy(&packets[*n]) == (expected_loss > 0)).collect();
            assert!(behind.len() >= 12, "{} of {ms} ms for {expected_loss} % lost", behind.len());
            let length = ms as usize * 8;
            let part = |n: usize| (n - 1) * length..n * length;
            let sum: f64 = behind.iter().map(|n| likeness(&clean[part(*n)], &heard[part(*n)])).sum();
            sum / behind.len() as f64
        };
        for jitter in [0, 5, 15, 30] {
            for seed in 1..3 {
                let recovered = mean_likeness(10, jitter, seed);
                let concealed = mean_likeness(0, jitter, seed);
                let case = format!("{recovered} for {concealed}: {ms} ms, jitter {jitter} ms, seed {seed}");
                assert!(recovered > 0.6 && recovered > concealed + 0.2, "{case}");
            }
        }
    }
}

#[test]
fn what_was_partly_made_up_before_its_redundancy_came_counts_as_concealed() {
    let packets = voice(60, 60, 10);
    let holder = (40..60).find(|n| has_redundancy(&packets[*n])).unwrap();
    let arrive = |n: usize| {
        let late = if n == holder { 15 * MS } else { Duration::ZERO };
        (n + 1 != holder).then_some(60 * MS * n as u32 + late)
    };
    let arrivals: Vec<_> = (0..packets.len()).map(arrive).collect();
    let (_, outcomes) = play(&packets, 60, &arrivals);
    assert_eq!((outcomes[holder].recovered_fec, outcomes[holder].recovered_plc), (0, 1));
}

#[test]
fn redundancy_for_one_frame_of_a_packet_of_several_recovers_no_packet() {
    let frames = voice(120, 20, 10);
    // Packed in twos, each with its own length (RFC 6716 §3.2.4).
    let packets: Vec<Vec<u8>> = frames
        .chunks(2)
        .map(|two| {
            assert!(two[0][0] == two[1][0] && two[0].len() < 250, "they go in one packet");
            [&[two[0][0] | 2, two[0].len() as u8 - 1][..], &two[0][1..], &two[1][1..]].concat()
        })
        .collect();
    let holder = (40..60).find(|n| has_redundancy(&packets[*n])).unwrap();
    let arrivals: Vec<_> = (0..60).map(|n| (n + 1 != holder).then_some(40 * MS * n as u32)).collect();
    let (_, outcomes) = play(&packets, 40, &arrivals);
    assert_eq!((outcomes[holder].recovered_fec, outcomes[holder].recovered_plc), (0, 1));
    // Where the one frame is the packet that was lost, all of it is there.
    let mut call = Call::opus_to_pcma();
    let mut app = Talker::new(Side::A, 111);
    for (n, packet) in packets[..holder - 1].iter().enumerate() {
        call.until(40 * MS * n as u32);
        app.say(&mut call, 1_920, packet);
    }
    app.next(960);
    call.until(40 * MS * (holder as u32 - 1) + 20 * MS);
    let outcome = app.say(&mut call, 1_920, &packets[holder]);
    assert_eq!((outcome.recovered_fec, outcome.recovered_plc), (1, 0));
}

/// Six seconds of an app with DTX that loses much, in packets of `ms`: a second of voice, a pause of the room alone until
/// the sample `onset`, a voice without pauses. `None` for what it does not send.
fn paused(ms: usize, onset: usize) -> Vec<Option<Vec<u8>>> {
    let mut encoder = Encoder::new(8_000, OpusSettings { dtx: true, ..OpusSettings::default() }).unwrap();
    encoder.set_expected_loss(20);
    let length = ms * 8;
    let voice = |n: usize| {
        let seconds = n as f32 / 8_000.0;
        let phase = (seconds * 140.0 + (seconds * 9.0).sin()) * std::f32::consts::TAU;
        let harmonics = (1..12).map(|k| (phase * k as f32).sin() / k as f32).sum::<f32>();
        (harmonics * 4_000.0) as i16
    };
    (0..6_000 / ms)
        .map(|n| {
            let mut pcm = super::silence::room(n * length, length);
            let spoken = |sample: usize| sample < 8_000 || sample >= onset;
            pcm.iter_mut()
                .zip(n * length..)
                .filter(|(_, n)| spoken(*n))
                .for_each(|(pcm, n)| *pcm += voice(n));
            let mut packet = [0; 1276];
            match encoder.encode(&pcm, &mut packet).unwrap() {
                Encoded::Packet(len) => Some(packet[..len].to_vec()),
                Encoded::Silence => None,
            }
        })
        .collect()
}

/// What a trunk hears of them without packet `lost`, the one behind it so late; and what became of that one.
fn hear_paused(packets: &[Option<Vec<u8>>], ms: u32, lost: usize, late: u32) -> (Vec<i16>, Outcome) {
    let mut call = Call::opus_to_pcma();
    let mut app = Talker::new(Side::A, 111);
    let mut became = Outcome::NOTHING;
    for (n, packet) in packets.iter().enumerate() {
        let Some(packet) = packet else {
            app.timestamp = app.timestamp.wrapping_add(ms * 48);
            continue;
        };
        let header = app.next(ms * 48);
        if n == lost {
            continue;
        }
        call.until(MS * (ms * n as u32 + if n == lost + 1 { late } else { 0 }));
        let outcome = call.send(Side::A, header, packet);
        if n == lost + 1 {
            became = outcome;
        }
    }
    assert_continuous(&call.at_b, 160);
    (listen_pcma(&call.at_b), became)
}

#[test]
fn the_first_packet_behind_a_pause_is_recovered_though_its_time_was_filled() {
    for ms in [20u32, 40, 60] {
        let length = ms as usize * 8;
        let mut found = 0;
        // The voice begins in the first half of a packet of any length.
        for part in 0..4 {
            let onset = 19_200 + part * length / 8;
            let packets = paused(ms as usize, onset);
            // The first of the voice, where nothing came right before it and the next one repeats it.
            let first = (onset / length..).find(|n| packets[*n].is_some()).unwrap();
            let repeated = packets[first + 1].as_ref().is_some_and(|next| has_redundancy(next));
            if packets[first - 1].is_some() || !repeated {
                continue;
            }
            found += 1;
            let (clean, _) = hear_paused(&packets, ms, usize::MAX - 1, 0);
            for late in [0, 15] {
                let case = format!("{ms} ms, part {part}, {late} ms late");
                let (heard, became) = hear_paused(&packets, ms, first, late);
                assert_eq!((became.recovered_fec, became.recovered_plc), (1, 0), "{case}");
                let begins = onset.max(first * length);
                let said = &clean[begins..(first + 1) * length];
                let (_, alike) = best_match(said, &heard[begins..], 2 * length);
                assert!(alike > 0.6, "{case}: {alike}");
                // Two seconds later nothing is late any more.
                let (clean, heard) = (&clean[onset + 17_000..46_000], &heard[onset + 17_000..46_000]);
                assert!(likeness(clean, heard) > 0.9, "{case}: {} after two seconds", likeness(clean, heard));
            }
        }
        assert!(found >= 2, "{found} of {ms} ms");
    }
}

#[test]
fn the_end_of_a_word_that_fills_no_packet_is_sent_at_once_and_whole() {
    use crate::media::codec::opus::packet_samples;
    // A trunk that sends nothing in its pauses: words of so many packets of 20 ms.
    for (codec, ptime_ms) in [
        (AudioCodec::Opus, 60),
        (AudioCodec::Opus, 40),
        (AudioCodec::Pcma, 60),
        (AudioCodec::Pcmu, 40),
        (AudioCodec::Pcma, 30),
    ] {
        let mut call = Call::new(config(AudioCodec::Pcma), LegConfig { ptime_ms, ..config(codec) });
        let mut trunk = Talker::new(Side::A, 8);
        let voice = pcma_speech(200, 160);
        let mut said = 0;
        for word in [3usize, 7, 8, 10, 11, 13, 20, 1, 2, 4] {
            let begins = call.now.instant - call.start;
            for n in 0..word {
                call.until(begins + 20 * MS * n as u32);
                trunk.say(&mut call, 160, &voice[said + n]);
            }
            said += word;
            let spoken = call.now.instant - call.start;
            call.until(spoken + 55 * MS);
            let samples = |got: &Got| match codec {
                AudioCodec::Opus => packet_samples(&got.payload, 8_000).unwrap(),
                AudioCodec::Pcma | AudioCodec::Pcmu => got.payload.len(),
            };
            let sent: usize = call.at_b.iter().map(samples).sum();
            assert_eq!(sent, said * 160, "{codec} of {ptime_ms} ms, behind a word of {word}");
            let pause = 20 * MS * (word as u32 % 3) + 460 * MS;
            call.until(spoken + pause);
            trunk.timestamp = trunk.timestamp.wrapping_add(pause.as_millis() as u32 * 8 - 160);
            let (first, last) = (&call.at_b[0], &call.at_b[call.at_b.len() - 1]);
            let units = codec.clock_rate() / 1_000;
            let place = last.timestamp.wrapping_sub(first.timestamp) / units;
            assert!(u128::from(place).abs_diff((last.at - first.at).as_millis()) <= 80, "true time");
        }
        for pair in call.at_b.windows(2) {
            assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1));
            let step = pair[1].timestamp.wrapping_sub(pair[0].timestamp);
            let units = codec.clock_rate() / 8_000;
            let length = match codec {
                AudioCodec::Opus => packet_samples(&pair[0].payload, 8_000).unwrap(),
                AudioCodec::Pcma | AudioCodec::Pcmu => pair[0].payload.len(),
            };
            assert!(step >= length as u32 * units, "nothing lies over another");
        }
    }
}

#[test]
fn a_packet_that_is_lost_makes_none_of_ours_shorter() {
    use crate::media::codec::opus::packet_samples;
    for (codec, ptime_ms, trunk_ms) in [
        (AudioCodec::Opus, 60, 20u32),
        (AudioCodec::Opus, 40, 20),
        (AudioCodec::Opus, 60, 30),
        (AudioCodec::Opus, 20, 30),
        (AudioCodec::Opus, 60, 40),
        (AudioCodec::Opus, 20, 10),
        (AudioCodec::Pcma, 60, 20),
        (AudioCodec::Pcmu, 30, 20),
        (AudioCodec::Pcma, 20, 30),
    ] {
        let mut call = Call::new(config(AudioCodec::Pcma), LegConfig { ptime_ms, ..config(codec) });
        let mut trunk = Talker::new(Side::A, 8);
        let samples = trunk_ms as usize * 8;
        for (n, packet) in pcma_speech(400, samples).iter().enumerate() {
            call.until(MS * trunk_ms * n as u32);
            // Every place in a frame loses one.
            if n > 10 && n % 7 == 0 {
                trunk.next(samples as u32);
            } else {
                trunk.say(&mut call, samples as u32, packet);
            }
        }
        let lengths = call.at_b.iter().map(|got| match codec {
            AudioCodec::Opus => packet_samples(&got.payload, 1_000).unwrap(),
            AudioCodec::Pcma | AudioCodec::Pcmu => got.payload.len() / 8,
        });
        let others = lengths.filter(|length| *length != usize::from(ptime_ms)).count();
        assert_eq!(others, 0, "{codec} of {ptime_ms} ms, from packets of {trunk_ms} ms");
    }
}

#[test]
fn a_word_that_goes_on_after_a_short_pause_keeps_what_waited_before_it() {
    use crate::media::codec::opus::packet_samples;
    let mut call =
        Call::new(config(AudioCodec::Pcma), LegConfig { ptime_ms: 60, ..config(AudioCodec::Opus) });
    let mut trunk = Talker::new(Side::A, 8);
    let voice = pcma_speech(40, 160);
    // A hole of 8 ms behind each packet: the next comes before what waits would be given up.
    let mut at = Duration::ZERO;
    for packet in &voice {
        call.until(at);
        trunk.say(&mut call, 160, packet);
        at += 28 * MS;
        trunk.timestamp = trunk.timestamp.wrapping_add(64);
    }
    call.until(at + 100 * MS);
    let sent: usize = call.at_b.iter().map(|got| packet_samples(&got.payload, 8_000).unwrap()).sum();
    assert_eq!(sent, 40 * 160);
}

#[test]
fn what_waited_before_a_tone_or_a_hold_is_not_sent_behind_it() {
    use crate::media::codec::opus::packet_samples;
    use crate::media::{Ringing, Tone};
    for (from, to, ptime_ms) in [
        (AudioCodec::Pcma, AudioCodec::Opus, 60),
        (AudioCodec::Pcma, AudioCodec::Pcma, 60),
        (AudioCodec::Pcma, AudioCodec::Pcmu, 40),
        (AudioCodec::Opus, AudioCodec::Pcma, 60),
    ] {
        for hold in [false, true] {
            let case = format!("{from} to {to} of {ptime_ms} ms, hold: {hold}");
            let (payload_type, voice) = match from {
                AudioCodec::Opus => (111, opus_speech(40, 0)),
                AudioCodec::Pcma | AudioCodec::Pcmu => (8, pcma_speech(40, 160)),
            };
            let far = LegConfig { ptime_ms, ..config(to) };
            let mut call = Call::new(config(from), far.clone());
            let mut talker = Talker::new(Side::A, payload_type);
            let step = from.clock_rate() / 50;
            let wait = |call: &mut Call, ms: u32| call.until(call.now.instant - call.start + MS * ms);
            for packet in &voice[..11] {
                wait(&mut call, 20);
                talker.say(&mut call, step, packet);
            }
            let direction = |call: &mut Call, direction| {
                call.b.configure(LegConfig { direction, ..far.clone() }, call.now).unwrap();
                join(&mut call.a, &mut call.b);
            };
            if hold {
                direction(&mut call, MediaDirection::RecvOnly);
            } else {
                call.b.play_tone(Tone::Ringback(Ringing::Europe), false, call.now.instant);
            }
            wait(&mut call, 500);
            if hold {
                direction(&mut call, MediaDirection::SendRecv);
            } else {
                call.b.stop_tone();
            }
            let before = call.at_b.len();
            wait(&mut call, 300);
            assert_eq!(call.at_b.len(), before, "{case}");
            talker.timestamp = talker.timestamp.wrapping_add(step * 40);
            for packet in &voice[11..] {
                wait(&mut call, 20);
                talker.say(&mut call, step, packet);
            }
            assert!(call.at_b.len() >= before + 9, "{case}");
            let samples = |got: &Got| match to {
                AudioCodec::Opus => packet_samples(&got.payload, 48_000).unwrap(),
                AudioCodec::Pcma | AudioCodec::Pcmu => got.payload.len(),
            };
            for pair in call.at_b.windows(2) {
                assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1), "{case}");
                let apart = rtp::timestamp_distance(pair[0].timestamp, pair[1].timestamp);
                assert!(apart >= samples(&pair[0]) as i32, "{case}: {apart} behind {:?}", pair[0].at);
            }
        }
    }
}
