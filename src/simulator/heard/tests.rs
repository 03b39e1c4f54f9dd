//! The check itself is checked: the right speech passes whatever a call does to it, everything else fails.

use super::*;
use crate::media::OpusSettings;
use crate::media::codec::g711::Law;
use crate::media::codec::opus::{Decoder, Encoded, Encoder, MAX_ENCODED};
use crate::simulator::speech;

fn wav(samples: Vec<i16>) -> Wav {
    Wav { rate: RATE, samples }
}

/// As a recording has it: the speech begins some time after the recorder.
fn recorded(samples: &[i16]) -> Wav {
    wav([&vec![0; 1_600], samples, &vec![0; 2_400]].concat())
}

fn scaled(samples: &[i16], factor: f32) -> Vec<i16> {
    samples.iter().map(|s| (f32::from(*s) * factor) as i16).collect()
}

fn mixed(a: &[i16], b: &[i16]) -> Vec<i16> {
    a.iter().zip(b.iter().chain(std::iter::repeat(&0))).map(|(a, b)| a.saturating_add(*b)).collect()
}

fn noise(count: usize, amplitude: i32) -> Vec<i16> {
    let mut seed = 1u32;
    (0..count)
        .map(|_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (((seed >> 16) as i32 % 2_001 - 1_000) * amplitude / 1_000) as i16
        })
        .collect()
}

/// 300 ms from the middle of the speech, where it is loudest.
fn loud_300_ms(samples: &[i16]) -> std::ops::Range<usize> {
    let energy =
        |at: usize| samples[at..at + 2_400].iter().map(|s| i64::from(*s) * i64::from(*s)).sum::<i64>();
    let at = (16_000..samples.len() - 16_000).step_by(400).max_by_key(|at| energy(*at)).unwrap();
    at..at + 2_400
}

fn fault(said: &Wav, heard: &Wav, own: &Wav) -> Option<Fault> {
    let verdict = judge(said, heard, Some(own));
    assert_eq!(verdict.heard, verdict.fault.is_none(), "{verdict:?}");
    verdict.fault
}

#[test]
fn the_right_speech_is_heard_and_measured() {
    let (said, own) = (speech::caller(), speech::callee());
    let verdict = judge(&said, &recorded(&scaled(&said.samples, 0.5)), Some(&own));
    assert_eq!(verdict.fault, None, "{verdict:?}");
    assert!(verdict.coverage > 0.999 && verdict.similarity > 0.98, "{verdict:?}");
    assert!((verdict.offset_ms - 200.0).abs() < 0.2, "{verdict:?}");
    assert!((verdict.gain_db + 6.0).abs() < 2.0, "{verdict:?}");
    assert!(verdict.echo < 0.05);
    assert!(verdict.track.iter().flatten().count() > 300);
}

#[test]
fn noise_and_another_rate_do_not_matter() {
    let (said, own) = (speech::callee(), speech::caller());
    let heard = recorded(&mixed(&said.samples, &noise(said.samples.len(), 200)));
    assert_eq!(fault(&said.resampled(48_000), &heard.resampled(16_000), &own), None);
}

/// As a call between an app and a telephone has it: Opus straight at 8 kHz, then each of the G.711 laws.
#[test]
fn speech_through_opus_and_g711_is_heard() {
    for (said, own) in [(speech::caller(), speech::callee()), (speech::callee(), speech::caller())] {
        let mut encoder = Encoder::new(RATE, OpusSettings::default()).unwrap();
        let mut decoder = Decoder::new(RATE).unwrap();
        let mut heard = Vec::new();
        for (n, frame) in said.samples.chunks_exact(160).enumerate() {
            let (mut packet, mut pcm) = ([0; MAX_ENCODED], [0; 160]);
            match encoder.encode(frame, &mut packet).unwrap() {
                Encoded::Packet(len) => decoder.decode(&packet[..len], &mut pcm).map(|_| ()).unwrap(),
                Encoded::Silence => decoder.conceal(&mut pcm).unwrap(),
            }
            let law = if n % 2 == 0 { Law::A } else { Law::Mu };
            heard.extend(pcm.map(|sample| law.expand(law.compress(sample))));
        }
        let verdict = judge(&said, &recorded(&heard), Some(&own));
        assert!(verdict.heard && verdict.similarity > 0.95, "{verdict:?}");
    }
}

#[test]
fn swapped_speech_fails() {
    let (said, own) = (speech::caller(), speech::callee());
    let verdict = judge(&said, &recorded(&own.samples), None);
    assert_eq!(verdict.fault, Some(Fault::NotTheSpeech), "{verdict:?}");
    let verdict = judge(&own, &recorded(&said.samples), None);
    assert_eq!(verdict.fault, Some(Fault::NotTheSpeech), "{verdict:?}");
}

#[test]
fn a_muted_recording_fails() {
    let (said, own) = (speech::caller(), speech::callee());
    assert_eq!(fault(&said, &wav(vec![0; 80_000]), &own), Some(Fault::Silence));
    assert_eq!(fault(&said, &wav(Vec::new()), &own), Some(Fault::Silence));
    assert_eq!(fault(&said, &wav(noise(80_000, 8)), &own), Some(Fault::Silence));
}

#[test]
fn a_tone_fails_and_so_does_noise() {
    let (said, own) = (speech::caller(), speech::callee());
    let tone =
        (0..80_000).map(|n| ((n as f32 * 425.0 / 8_000.0 * std::f32::consts::TAU).sin() * 8_000.0) as i16);
    assert_eq!(fault(&said, &wav(tone.collect()), &own), Some(Fault::NotTheSpeech));
    assert_eq!(fault(&said, &wav(noise(80_000, 8_000)), &own), Some(Fault::NotTheSpeech));
}

#[test]
fn our_own_echo_fails_alone_and_beside_the_speech() {
    let (said, own) = (speech::caller(), speech::callee());
    assert_eq!(fault(&said, &recorded(&own.samples), &own), Some(Fault::OwnEcho));
    let beside = mixed(&recorded(&said.samples).samples, &[vec![0; 900], scaled(&own.samples, 0.3)].concat());
    assert_eq!(fault(&said, &wav(beside), &own), Some(Fault::OwnEcho));
}

#[test]
fn three_hundred_milliseconds_cut_out_fail() {
    let (said, own) = (speech::caller(), speech::callee());
    let cut = loud_300_ms(&said.samples);
    let mut silenced = said.samples.clone();
    silenced[cut.clone()].fill(0);
    assert_eq!(fault(&said, &recorded(&silenced), &own), Some(Fault::Gaps));
    let mut spliced = said.samples.clone();
    spliced.drain(cut.clone());
    assert_eq!(fault(&said, &recorded(&spliced), &own), Some(Fault::Gaps));
    let mut torn = said.samples.clone();
    torn.splice(cut.start..cut.start, vec![0; 2_400]);
    assert_eq!(fault(&said, &recorded(&torn), &own), Some(Fault::Gaps), "300 ms put in tear time too");
    assert_eq!(
        fault(&said, &recorded(&said.samples[..2_400]), &own),
        Some(Fault::NotTheSpeech),
        "only 300 ms"
    );
    let first = said.samples.iter().position(|s| s.abs() > 1_000).unwrap();
    assert_eq!(
        fault(&said, &wav(said.samples[first + 2_400..].to_vec()), &own),
        Some(Fault::Gaps),
        "a clipped start"
    );
}

#[test]
fn speech_far_too_quiet_fails() {
    let (said, own) = (speech::caller(), speech::callee());
    assert_eq!(fault(&said, &recorded(&scaled(&said.samples, 0.05)), &own), Some(Fault::Level));
}

#[test]
fn a_reference_without_speech_proves_nothing() {
    let silence = wav(vec![0; 80_000]);
    assert_eq!(fault(&silence, &silence, &silence), Some(Fault::ReferenceTooShort));
    assert_eq!(fault(&wav(Vec::new()), &wav(Vec::new()), &silence), Some(Fault::ReferenceTooShort));
}

#[test]
fn without_a_reference_sound_is_told_from_silence_and_an_echo_is_seen() {
    let (caller, callee) = (speech::caller(), speech::callee());
    let other = listen(&recorded(&callee.samples), Some(&caller));
    assert!(other.heard && other.echo < 0.05 && other.sound_ms > 3_000, "{other:?}");
    assert!((-30.0..0.0).contains(&other.loudest_db), "{other:?}");
    let own = listen(&recorded(&scaled(&caller.samples, 0.5)), Some(&caller));
    assert!(own.heard && own.echo > 0.9, "{own:?}");
    // A line's own noise at -60 dB, the steps of A-law around zero, a click, nothing at all.
    let mut click = vec![0; 16_000];
    click[8_000..8_800].copy_from_slice(&callee.samples[16_000..16_800]);
    for quiet in [noise(40_000, 60), vec![8; 40_000], click, Vec::new()] {
        let sound = listen(&wav(quiet), Some(&caller));
        assert!(!sound.heard && sound.echo < ECHO, "{sound:?}");
    }
}

#[test]
fn silence_behind_the_reference_does_not_matter() {
    let (said, own) = (speech::caller(), speech::callee());
    let padded = wav([said.samples.clone(), noise(30 * RATE as usize, 30)].concat());
    let verdict = judge(&padded, &recorded(&said.samples), Some(&own));
    assert!(verdict.heard && (verdict.offset_ms - 200.0).abs() < 0.2, "{verdict:?}");
}
