//! Silence on either side of a bridge: Opus that stops sending, comfort noise, and the voice that comes back.

use super::recovery::{behind, continuous_voice};
use super::*;
use crate::media::codec::background::mean_square;
use crate::media::codec::comfort_noise::{NoiseEstimator, PAYLOAD_TYPE};

/// Faint noise as every room has it, about −50 dBm0.
pub(super) fn room(from: usize, len: usize) -> Vec<i16> {
    let scramble = |n: usize| (n as u32).wrapping_mul(0x9e37_79b9).rotate_left(13).wrapping_mul(0x85eb_ca6b);
    (from..from + len).map(|n| (((scramble(n) >> 16) as i32 - 32_768) / 500) as i16).collect()
}

/// A second of voice, `pause` frames of the room alone, a second of voice; in frames of 20 ms.
fn spoken_pause(pause: usize) -> Vec<Vec<i16>> {
    (0..100 + pause)
        .map(|n| {
            let mut pcm = room(n * 160, 160);
            if !(50..50 + pause).contains(&n) {
                pcm.iter_mut().zip(speech(n * 160, 160)).for_each(|(room, voice)| *room += voice);
            }
            pcm
        })
        .collect()
}

/// Sends frames as an app with DTX does; returns which of them it did not send.
fn say_with_dtx(call: &mut Call, frames: &[Vec<i16>]) -> Vec<usize> {
    let mut encoder = Encoder::new(8_000, OpusSettings { dtx: true, ..OpusSettings::default() }).unwrap();
    let mut app = Talker::new(Side::A, 111);
    let mut unsent = Vec::new();
    for (n, pcm) in frames.iter().enumerate() {
        call.until(20 * MS * n as u32);
        let mut packet = [0; 1276];
        match encoder.encode(pcm, &mut packet).unwrap() {
            Encoded::Packet(len) => {
                app.say(call, 960, &packet[..len]);
            }
            Encoded::Silence => {
                app.timestamp = app.timestamp.wrapping_add(960);
                unsent.push(n);
            }
        }
    }
    unsent
}

fn decibels(pcm: &[i16]) -> f64 {
    10.0 * (mean_square(pcm).max(1) as f64).log10()
}

#[test]
fn the_apps_silence_goes_on_at_its_level_without_a_hole_or_a_click() {
    let mut call = Call::opus_to_pcma();
    let mut unsent = say_with_dtx(&mut call, &spoken_pause(200));
    unsent.retain(|n| (50..250).contains(n));
    assert!(unsent.len() > 100, "{} frames were not sent", unsent.len());
    assert_continuous(&call.at_b, 160);
    let heard = listen_pcma(&call.at_b);
    let frame = |n: usize| &heard[n * 160..(n + 1) * 160];
    // The room as the app still sent it, before it stopped.
    let sent: Vec<i16> = (52..unsent[0]).flat_map(|n| frame(n).to_vec()).collect();
    let filled: Vec<i16> = unsent.iter().flat_map(|n| frame(*n).to_vec()).collect();
    let (sent_level, filled_level) = (decibels(&sent), decibels(&filled));
    assert!((sent_level - filled_level).abs() < 3.0, "{filled_level} dB after {sent_level} dB");
    for n in &unsent {
        let level = decibels(frame(*n));
        assert!((level - sent_level).abs() < 9.0, "frame {n}: {level} dB in a room of {sent_level} dB");
    }
    let largest_step = |pcm: &[i16]| pcm.windows(2).map(|pair| pair[1].abs_diff(pair[0])).max().unwrap();
    let silence = &heard[unsent[0] * 160 - 160..(unsent[unsent.len() - 1] + 1) * 160];
    assert!(largest_step(silence) <= 3 * largest_step(&sent), "a click");
}

#[test]
fn a_trunk_that_takes_comfort_noise_gets_a_silence_in_a_few_packets_on_true_time() {
    let mut to = config(AudioCodec::Pcma);
    to.comfort_noise = true;
    let mut call = Call::new(config(AudioCodec::Opus), to);
    let unsent = say_with_dtx(&mut call, &spoken_pause(200));
    let noise: Vec<&Got> = call.at_b.iter().filter(|got| got.payload_type == PAYLOAD_TYPE).collect();
    assert!(
        (unsent.len() / 15..unsent.len() / 5).contains(&noise.len()),
        "{} for {}",
        noise.len(),
        unsent.len()
    );
    // The room is about −50 dBm0, −56 dBov.
    assert!(noise.iter().all(|got| (50..=66).contains(&got.payload[0])), "{:?}", noise[0].payload);
    let first = &call.at_b[0];
    for pair in call.at_b.windows(2) {
        assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1));
        let step = pair[1].timestamp.wrapping_sub(pair[0].timestamp);
        assert!(step.is_multiple_of(160) && step > 0, "{step} after {pair:?}");
        let begins = pair[0].payload_type == PAYLOAD_TYPE && pair[1].payload_type == 8;
        assert_eq!(pair[1].marker, begins, "a talk spurt is marked: {pair:?}");
    }
    let voice = call.at_b.iter().filter(|got| got.payload_type == 8);
    for got in voice {
        let due = i64::from(got.timestamp.wrapping_sub(first.timestamp) / 8);
        assert!((got.at.as_millis() as i64 - due).abs() <= 60, "{due} ms sent at {:?}", got.at);
    }
}

#[test]
fn comfort_noise_is_nothing_that_an_opus_app_can_send() {
    let mut call = Call::opus_to_pcma();
    let mut app = Talker::new(Side::A, 111);
    app.say(&mut call, 960, &opus_speech(1, 0)[0]);
    let header = RtpHeader { payload_type: PAYLOAD_TYPE, ..app.next(960) };
    call.send(Side::A, header, &[60]);
    assert_eq!((call.a.report().packets_received, call.a.report().packets_discarded), (1, 1));
}

/// The trunk speaks for a second, describes two seconds of silence, and speaks again.
fn trunk_with_described_silence(call: &mut Call) -> Vec<u8> {
    let mut estimator = NoiseEstimator::default();
    room(0, 16_000).chunks(160).for_each(|frame| estimator.note(frame));
    let description = estimator.payload().to_vec();
    let voice = pcma_speech(100, 160);
    let mut trunk = Talker::new(Side::A, 8);
    for n in 0..200usize {
        call.until(20 * MS * n as u32);
        match n {
            0..50 => {
                trunk.say(call, 160, &voice[n]);
            }
            50..150 if n % 25 == 0 => {
                let header = RtpHeader { payload_type: PAYLOAD_TYPE, ..trunk.next(160) };
                call.send(Side::A, header, &description);
            }
            50..150 => trunk.timestamp = trunk.timestamp.wrapping_add(160),
            _ => {
                trunk.say(call, 160, &voice[n - 100]);
            }
        }
    }
    description
}

#[test]
fn silence_that_a_trunk_describes_is_heard_by_an_app_without_dtx() {
    let mut call = Call::new(config(AudioCodec::Pcma), config(AudioCodec::Opus));
    trunk_with_described_silence(&mut call);
    assert_eq!(call.at_b.len(), 200);
    assert_continuous(&call.at_b, 960);
    let mut decoder = Decoder::new(8_000).unwrap();
    let heard: Vec<i16> = call
        .at_b
        .iter()
        .flat_map(|got| {
            let mut pcm = [0; 960];
            let samples = decoder.decode(&got.payload, &mut pcm).unwrap();
            pcm[..samples].to_vec()
        })
        .collect();
    let level = decibels(&heard[70 * 160..140 * 160]);
    let wanted = decibels(&room(0, 16_000));
    assert!((level - wanted).abs() < 5.0, "{level} dB for {wanted} dB");
    assert_eq!(call.a.report().packets_lost, 0);
}

#[test]
fn silence_that_a_trunk_describes_is_silence_of_opus_for_an_app_with_dtx() {
    let mut to = config(AudioCodec::Opus);
    to.opus.dtx = true;
    let mut call = Call::new(config(AudioCodec::Pcma), to);
    trunk_with_described_silence(&mut call);
    let silent = call.at_b.iter().filter(|got| got.at >= 1_400 * MS && got.at < 3_000 * MS);
    assert!(silent.count() < 20, "of 80 frames");
    let first = &call.at_b[0];
    for got in &call.at_b {
        let due = u128::from(got.timestamp.wrapping_sub(first.timestamp) / 48);
        assert!(got.at.as_millis().abs_diff(due) <= 21, "{due} ms sent at {:?}", got.at);
    }
}

#[test]
fn comfort_noise_passes_between_trunks_that_take_it_and_sounds_where_one_does_not() {
    let mut to = config(AudioCodec::Pcma);
    to.comfort_noise = true;
    let mut call = Call::new(config(AudioCodec::Pcma), to);
    let description = trunk_with_described_silence(&mut call);
    assert_eq!(call.at_b.len(), 104);
    let noise: Vec<&Got> = call.at_b.iter().filter(|got| got.payload_type == PAYLOAD_TYPE).collect();
    assert!(noise.iter().all(|got| got.payload == description));
    for pair in call.at_b.windows(2) {
        assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1));
    }

    for other in [AudioCodec::Pcma, AudioCodec::Pcmu] {
        let mut call = Call::new(config(AudioCodec::Pcma), config(other));
        trunk_with_described_silence(&mut call);
        assert_eq!(call.at_b.len(), 200, "{other}");
        assert_continuous(&call.at_b, 160);
        let law = if other == AudioCodec::Pcma { Law::A } else { Law::Mu };
        let silence: Vec<i16> = call.at_b[60..140]
            .iter()
            .flat_map(|got| got.payload.iter().map(|code| law.expand(*code)))
            .collect();
        let (level, wanted) = (decibels(&silence), decibels(&room(0, 16_000)));
        assert!((level - wanted).abs() < 3.0, "{other}: {level} dB for {wanted} dB");
    }
}

#[test]
fn noise_that_is_made_in_short_packets_takes_no_more_time_than_passes() {
    let to = LegConfig { ptime_ms: 10, remote_rtp: at(APP), ..config(AudioCodec::Pcma) };
    let mut call = Call::new(to, config(AudioCodec::Pcma));
    let mut trunk = Talker::new(Side::B, 8);
    for n in 0..50 {
        call.until(10 * MS * n);
        trunk.say(&mut call, 80, &[0x55; 80]);
    }
    for n in 0..10 {
        call.until(500 * MS + 200 * MS * n);
        let header = RtpHeader { payload_type: 13, ..trunk.next(1_600) };
        call.send(Side::B, header, &[60]);
    }
    call.until(2_500 * MS);
    assert_continuous(&call.at_a, 80);
    assert!((245..=250).contains(&call.at_a.len()), "{} packets of 10 ms in 2.5 s", call.at_a.len());
}

#[test]
fn no_syllable_after_a_pause_is_cut_however_much_the_packets_jitter() {
    use crate::media::recovery::wire::{ImpairedWire, Impairments};
    // Two seconds of voice and two of the room alone, five times; each voice begins in another place of the speech.
    let frames: Vec<Vec<i16>> = (0..1_000)
        .map(|n| {
            let mut pcm = room(n * 160, 160);
            if n % 200 < 100 {
                pcm.iter_mut()
                    .zip(speech((n + n / 200 * 7) * 160, 160))
                    .for_each(|(room, voice)| *room += voice);
            }
            pcm
        })
        .collect();
    for in_order in [true, false] {
        for seed in 1..5 {
            let mut encoder =
                Encoder::new(8_000, OpusSettings { dtx: true, ..OpusSettings::default() }).unwrap();
            let mut app = Talker::new(Side::A, 111);
            let mut wire =
                ImpairedWire::new(Impairments { jitter: 40 * MS, in_order, ..Impairments::default() }, seed);
            let (mut due, mut arrivals) = (Vec::new(), Vec::new());
            for (n, pcm) in frames.iter().enumerate() {
                let mut packet = [0; 1276];
                match encoder.encode(pcm, &mut packet).unwrap() {
                    Encoded::Packet(len) => {
                        let header = app.next(960);
                        due.push((20 * MS * n as u32, header, packet[..len].to_vec()));
                        arrivals.push((wire.carry(20 * MS * n as u32).next().unwrap(), due.len() - 1));
                    }
                    Encoded::Silence => app.timestamp = app.timestamp.wrapping_add(960),
                }
            }
            let mut clean = Call::opus_to_pcma();
            for (at, header, packet) in &due {
                clean.until(*at);
                clean.send(Side::A, *header, packet);
            }
            let mut call = Call::opus_to_pcma();
            arrivals.sort();
            let mut faults = Vec::new();
            for (at, packet) in arrivals {
                call.until(at);
                let (sent, header, packet) = &due[packet];
                let outcome = call.send(Side::A, *header, packet);
                if outcome.too_late || outcome.recovered_plc + outcome.recovered_fec > 0 {
                    faults.push((*sent, at, outcome));
                }
            }
            assert!(faults.len() <= 2, "{faults:?}");
            let (clean, heard) = (listen_pcma(&clean.at_b), listen_pcma(&call.at_b));
            for spurt in 1..5 {
                let onset = spurt * 200 * 160;
                let (_, likeness) = best_match(&clean[onset..onset + 1_600], &heard[onset - 800..], 1_600);
                let case = format!("spurt {spurt}, in order {in_order}, seed {seed}, {faults:?}");
                assert!(likeness > 0.97, "{likeness}: {case}");
            }
        }
    }
}

/// A voice without pauses in A-law, `samples` a packet.
fn continuous_pcma(n: usize, samples: usize) -> Vec<u8> {
    continuous_voice(n * samples, samples).into_iter().map(|sample| Law::A.compress(sample)).collect()
}

/// What an app, a trunk with longer packets and one like its own get of a trunk whose silence ends late; ready to be
/// called.
fn towards_app_and_trunks() -> [Call; 3] {
    let longer = LegConfig { ptime_ms: 40, ..config(AudioCodec::Pcmu) };
    [config(AudioCodec::Opus), longer, config(AudioCodec::Pcma)]
        .map(|to| Call::new(config(AudioCodec::Pcma), to))
}

/// By how many milliseconds what was sent since then comes too late for its place at most.
fn latest(call: &Call, since: Duration) -> i64 {
    let late = behind(&call.at_b, call.config_b.codec.clock_rate() / 1_000);
    let since = call.at_b.iter().zip(late).filter(|(got, _)| got.at >= since);
    since.map(|(_, late)| late).max().expect("something was sent")
}

/// Lets a trunk speak for a second, describe its silence for another, and speak for `packets` again, the first of which
/// comes 90 ms late and holds up the others.
fn silence_that_ends_late(call: &mut Call, trunk: &mut Talker, packets: u32) {
    for n in 0..100 + packets {
        let late = if n < 100 { Duration::ZERO } else { 2_090 * MS };
        call.until((20 * MS * n).max(late));
        match n {
            50..100 if n % 25 == 0 => {
                let header = RtpHeader { payload_type: PAYLOAD_TYPE, ..trunk.next(160) };
                call.send(Side::A, header, &[60]);
            }
            50..100 => trunk.timestamp = trunk.timestamp.wrapping_add(160),
            _ => {
                trunk.say(call, 160, &continuous_pcma(n as usize, 160));
            }
        }
    }
}

#[test]
fn noise_that_went_on_until_a_late_voice_came_delays_it_for_two_seconds_at_most() {
    for mut call in towards_app_and_trunks() {
        let to = call.config_b.codec;
        silence_that_ends_late(&mut call, &mut Talker::new(Side::A, 8), 300);
        assert!(latest(&call, 2_090 * MS) >= 10, "{to}: the noise took the voice's place");
        let left = latest(&call, 4_100 * MS);
        assert!(left <= 1, "{to}: {left} ms are left");
        match to {
            AudioCodec::Opus => assert_continuous(&call.at_b, 960),
            AudioCodec::Pcma | AudioCodec::Pcmu => {
                for pair in call.at_b.windows(2) {
                    let heard = pair[0].payload.len() as u32;
                    assert_eq!(pair[1].timestamp, pair[0].timestamp.wrapping_add(heard));
                }
            }
        }
    }
}

#[test]
fn the_next_pause_takes_back_at_once_what_noise_delayed() {
    for mut call in towards_app_and_trunks() {
        let (to, mut trunk) = (call.config_b.codec, Talker::new(Side::A, 8));
        silence_that_ends_late(&mut call, &mut trunk, 5);
        for n in 105..160 {
            call.until(20 * MS * n);
            match n {
                105 => {
                    let header = RtpHeader { payload_type: PAYLOAD_TYPE, ..trunk.next(160) };
                    call.send(Side::A, header, &[60]);
                }
                106..150 => trunk.timestamp = trunk.timestamp.wrapping_add(160),
                _ => {
                    trunk.say(&mut call, 160, &continuous_pcma(n as usize, 160));
                }
            }
        }
        let left = latest(&call, 3_000 * MS);
        assert!(left <= 1, "{to}: {left} ms are left");
    }
}

#[test]
fn a_stall_of_the_machine_leaves_described_noise_in_its_place() {
    for mut call in towards_app_and_trunks() {
        let to = call.config_b.codec;
        let mut trunk = Talker::new(Side::A, 8);
        for n in 0..150 {
            if n == 80 {
                // Nothing is done for 300 ms.
                call.until(1_300 * MS);
                call.set_time(call.start + 1_600 * MS);
            }
            match n {
                50 => {
                    call.until(1_000 * MS);
                    let header = RtpHeader { payload_type: PAYLOAD_TYPE, ..trunk.next(160) };
                    call.send(Side::A, header, &[60]);
                }
                51..100 => trunk.timestamp = trunk.timestamp.wrapping_add(160),
                _ => {
                    call.until(20 * MS * n);
                    trunk.say(&mut call, 160, &continuous_pcma(n as usize, 160));
                }
            }
        }
        let late = behind(&call.at_b, call.config_b.codec.clock_rate() / 1_000);
        let after: Vec<i64> =
            call.at_b.iter().zip(late).filter(|(got, _)| got.at > 1_610 * MS).map(|(_, ms)| ms).collect();
        assert!(after.iter().all(|ms| (-45..=1).contains(ms)), "{to}: {after:?}");
    }
}

#[test]
fn a_silence_whose_first_description_is_lost_is_heard_in_its_own_place() {
    // Packets lost in front of the description that comes: of the voice, or of what described the silence before.
    for (spoken, described) in [(48, 50), (46, 50), (50, 75)] {
        for mut call in towards_app_and_trunks() {
            let case = format!("{}: {spoken} to {described}", call.config_b.codec);
            let mut trunk = Talker::new(Side::A, 8);
            for n in 0..150 {
                call.until(20 * MS * n);
                if n < spoken || n >= 100 {
                    trunk.say(&mut call, 160, &continuous_pcma(n as usize, 160));
                } else if n == described {
                    let header = RtpHeader { payload_type: PAYLOAD_TYPE, ..trunk.next(160) };
                    call.send(Side::A, header, &[60]);
                } else if n == spoken {
                    trunk.next(160);
                } else {
                    trunk.timestamp = trunk.timestamp.wrapping_add(160);
                }
            }
            let late = behind(&call.at_b, call.config_b.codec.clock_rate() / 1_000);
            let noise = call.at_b.iter().zip(late).filter(|(got, _)| got.at > 20 * MS * (described + 1));
            let (lowest, highest) = noise.fold((0, 0), |(low, high), (_, ms)| (ms.min(low), ms.max(high)));
            assert!(lowest >= -45 && highest <= 1, "{case}: {lowest} to {highest} ms from its place");
            let packets = call.at_b.iter().filter(|got| got.at > 20 * MS * described && got.at < 2_000 * MS);
            let frames: usize = packets.map(|got| if got.payload.len() == 320 { 2 } else { 1 }).sum();
            assert!(frames + 4 >= (100 - described) as usize, "{case}: {frames} frames of noise");
        }
    }
}

#[test]
fn a_trunk_whose_timestamps_run_behind_its_packets_loses_nothing_of_its_voice() {
    let mut call = Call::new(config(AudioCodec::Pcma), config(AudioCodec::Opus));
    let mut trunk = Talker::new(Side::A, 8);
    // 30 ms of sound each, but timestamps that step by 20.
    for n in 0..200 {
        call.until(30 * MS * n);
        trunk.say(&mut call, 160, &continuous_pcma(n as usize, 240));
    }
    assert_eq!(call.at_b.len(), 300);
    assert_continuous(&call.at_b, 960);
}
