//! Voice through a bridge: codecs, timelines, loss, silence, hold.

use super::*;

#[test]
fn opus_becomes_pcma_at_once_packet_by_packet() {
    let mut call = Call::opus_to_pcma();
    let mut app = Talker::new(Side::A, 111);
    for (n, packet) in opus_speech(100, 0).iter().enumerate() {
        call.until(20 * MS * n as u32);
        assert!(app.say(&mut call, 960, packet).transcoded);
        assert_eq!(call.at_b.len(), n + 1, "each packet leaves when it comes");
    }
    assert!(call.at_b.iter().all(|got| got.payload_type == 8 && got.payload.len() == 160));
    assert!(call.at_b[0].marker && !call.at_b[1].marker);
    assert_continuous(&call.at_b, 160);

    // The decoder adds nothing beyond the look-ahead the app's own encoder has.
    let heard = listen_pcma(&call.at_b);
    let (lag, likeness) = best_match(&speech(8000, 4000), &heard[8000..], 120);
    assert!((48..=56).contains(&lag), "{lag} samples");
    assert!(likeness > 0.9, "{likeness}");
}

#[test]
fn pcma_becomes_opus_at_once_packet_by_packet() {
    let mut call = Call::opus_to_pcma();
    let mut trunk = Talker::new(Side::B, 8);
    let mut decoder = Decoder::new(8_000).unwrap();
    let mut heard = Vec::new();
    for (n, packet) in pcma_speech(100, 160).iter().enumerate() {
        call.until(20 * MS * n as u32);
        trunk.say(&mut call, 160, packet);
        assert_eq!(call.at_a.len(), n + 1, "no frame is held");
        let mut pcm = [0; 960];
        let samples = decoder.decode(&call.at_a[n].payload, &mut pcm).unwrap();
        heard.extend(&pcm[..samples]);
    }
    assert_continuous(&call.at_a, 960);
    let (lag, likeness) = best_match(&speech(8000, 4000), &heard[8000..], 120);
    assert!(lag <= 56, "7 ms at most, the encoder's look-ahead: {lag} samples");
    assert!(likeness > 0.9, "{likeness}");
}

#[test]
fn opus_between_apps_passes_untouched_with_its_gaps() {
    let mut other = config(AudioCodec::Opus);
    (other.send_payload_type, other.receive_payload_type) = (96, 97);
    let mut call = Call::new(config(AudioCodec::Opus), other);
    let mut app = Talker::new(Side::A, 111);
    let packets = opus_speech(20, 0);
    for (n, packet) in packets.iter().enumerate() {
        call.until(20 * MS * n as u32);
        if n == 7 || n == 8 {
            app.next(960);
        } else {
            app.say(&mut call, 960, packet);
        }
    }
    assert_eq!(call.at_b.len(), 18);
    let sent = packets.iter().enumerate().filter(|(n, _)| *n != 7 && *n != 8);
    for (got, (n, packet)) in call.at_b.iter().zip(sent) {
        let first = &call.at_b[0];
        assert_eq!(&got.payload, packet);
        assert_eq!(got.payload_type, 96);
        assert_eq!(got.sequence.wrapping_sub(first.sequence), n as u16, "gaps stay gaps");
        assert_eq!(got.timestamp.wrapping_sub(first.timestamp), 960 * n as u32);
        assert_ne!(got.ssrc, 0xabcd, "the stream is ours");
    }
}

#[test]
fn a_law_becomes_mu_law_by_table() {
    let mut call = Call::new(config(AudioCodec::Pcma), config(AudioCodec::Pcmu));
    let mut talker = Talker::new(Side::A, 8);
    for (n, packet) in pcma_speech(10, 160).iter().enumerate() {
        call.until(20 * MS * n as u32);
        talker.say(&mut call, 160, packet);
        let mut expected = vec![0; 160];
        Law::A.translate_into(Law::Mu, packet, &mut expected);
        assert_eq!(call.at_b[n].payload, expected);
        assert_eq!(call.at_b[n].payload_type, 0);
    }
    assert_continuous(&call.at_b, 160);
}

#[test]
fn a_far_side_that_answered_with_both_laws_is_heard_in_either() {
    let both = LegConfig { other_law: Some(0), ..config(AudioCodec::Pcma) };
    let mut call = Call::new(both, config(AudioCodec::Pcma));
    let mut trunk = Talker::new(Side::A, 8);
    for (n, packet) in pcma_speech(40, 160).iter().enumerate() {
        call.until(20 * MS * n as u32);
        let (mut said, mut expected) = (packet.clone(), packet.clone());
        if n >= 20 {
            trunk.payload_type = 0;
            Law::A.turn(&mut said);
            expected.clone_from(&said);
            Law::Mu.turn(&mut expected);
        }
        let header = trunk.next(160);
        let mut bytes = vec![0; 172];
        header.write(&said, &mut bytes).unwrap();
        if n == 30 {
            bytes[0] |= 0x20;
            bytes.extend([0, 0, 0, 4]);
        }
        call.arrive(Side::A, call.config_a.remote_rtp, &bytes);
        assert_eq!(call.at_b[n].payload, expected, "packet {n}");
    }
    assert_continuous(&call.at_b, 160);
    let report = call.a.report();
    assert_eq!((report.packets_received, report.packets_discarded), (40, 0));
}

#[test]
fn packet_lengths_are_cut_to_what_the_far_side_wants() {
    for (ptime_in, ptime_out) in [(10u32, 20u8), (30, 20), (20, 30), (60, 20), (20, 60), (40, 10)] {
        let mut to = config(AudioCodec::Pcma);
        to.ptime_ms = ptime_out;
        let mut call = Call::new(config(AudioCodec::Pcma), to);
        let mut talker = Talker::new(Side::A, 8);
        let samples = ptime_in as usize * 8;
        let packets = pcma_speech(60, samples);
        for (n, packet) in packets.iter().enumerate() {
            call.until(ptime_in * MS * n as u32);
            talker.say(&mut call, samples as u32, packet);
        }
        let frame = usize::from(ptime_out) * 8;
        assert!(call.at_b.iter().all(|got| got.payload.len() == frame), "{ptime_in} to {ptime_out}");
        assert_continuous(&call.at_b, frame as u32);
        let (sent, got) = (60 * samples, call.at_b.len() * frame);
        assert!(sent - got < frame, "{ptime_in} to {ptime_out}: {got} of {sent} samples");
        let payloads = call.at_b.iter().flat_map(|packet| packet.payload.clone());
        assert_eq!(payloads.collect::<Vec<_>>(), packets.concat()[..got]);
    }
}

#[test]
fn one_packet_of_another_length_does_not_end_a_relay() {
    let mut call = Call::new(config(AudioCodec::Pcma), config(AudioCodec::Pcmu));
    let mut trunk = Talker::new(Side::A, 8);
    let mut time = Duration::ZERO;
    for n in 0..60u32 {
        call.until(time);
        // The last packet before a pause may be short; from the fortieth on they all are.
        let samples = if n == 20 || n >= 40 { 80 } else { 160 };
        time += MS * samples / 8;
        trunk.say(&mut call, samples, &vec![0xd5; samples as usize]);
    }
    let lengths: Vec<usize> = call.at_b.iter().map(|got| got.payload.len()).collect();
    assert_eq!((lengths[19], lengths[20], lengths[21]), (160, 80, 160), "as it came");
    assert_eq!(lengths[40], 80);
    assert!(lengths[41..].iter().all(|len| *len == 160), "cut anew: {:?}", &lengths[41..]);
    for pair in call.at_b.windows(2) {
        assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1));
        assert_eq!(pair[1].timestamp, pair[0].timestamp.wrapping_add(pair[0].payload.len() as u32));
    }
}

#[test]
fn opus_of_every_length_becomes_g711_of_the_wanted_one() {
    for frame_ms in [10usize, 20, 40, 60] {
        let mut call = Call::opus_to_pcma();
        let mut app = Talker::new(Side::A, 111);
        let mut encoder = Encoder::new(8_000, config(AudioCodec::Opus).opus).unwrap();
        for n in 0..30 {
            call.until(frame_ms as u32 * MS * n as u32);
            let mut packet = [0; 1276];
            let pcm = speech(n * frame_ms * 8, frame_ms * 8);
            let Ok(Encoded::Packet(len)) = encoder.encode(&pcm, &mut packet) else { unreachable!("no DTX") };
            app.say(&mut call, 48 * frame_ms as u32, &packet[..len]);
        }
        assert!(call.at_b.iter().all(|got| got.payload.len() == 160), "{frame_ms} ms");
        assert_continuous(&call.at_b, 160);
        assert_eq!(call.at_b.len(), 30 * frame_ms / 20);
    }
}

#[test]
fn lost_opus_packets_leave_no_hole_and_no_shortened_timeline() {
    let mut call = Call::opus_to_pcma();
    let mut app = Talker::new(Side::A, 111);
    let mut total = Outcome::default();
    for (n, packet) in opus_speech(100, 10).iter().enumerate() {
        call.until(20 * MS * n as u32);
        if [20, 40, 41, 60, 61, 62].contains(&n) {
            app.next(960);
            continue;
        }
        let outcome = app.say(&mut call, 960, packet);
        total.recovered_fec += outcome.recovered_fec;
        total.recovered_plc += outcome.recovered_plc;
    }
    assert_eq!(call.at_b.len(), 100);
    assert_continuous(&call.at_b, 160);
    assert_eq!(total.recovered_fec + total.recovered_plc, 6);
    assert!(total.recovered_fec >= 2, "{total:?}");
    let report = call.a.report();
    assert_eq!((report.packets_received, report.packets_lost), (94, 6));
    assert!(report.mos_lq.unwrap() > 3.5);
    assert_eq!(report.mos_cq, None, "no round trip is known");
}

#[test]
fn lost_trunk_packets_are_concealed_before_the_encoder() {
    let mut call = Call::opus_to_pcma();
    let mut trunk = Talker::new(Side::B, 8);
    let mut concealed = 0;
    for (n, packet) in pcma_speech(60, 160).iter().enumerate() {
        call.until(20 * MS * n as u32);
        if [20, 30, 31].contains(&n) {
            trunk.next(160);
        } else {
            concealed += trunk.say(&mut call, 160, packet).recovered_plc;
        }
    }
    assert_eq!((call.at_a.len(), concealed), (60, 3));
    assert_continuous(&call.at_a, 960);
}

#[test]
fn a_packet_that_comes_behind_its_successor_is_counted_and_not_played_twice() {
    let mut call = Call::opus_to_pcma();
    let mut app = Talker::new(Side::A, 111);
    let packets = opus_speech(10, 0);
    let headers: Vec<_> = (0..10).map(|_| app.next(960)).collect();
    for n in [0, 1, 2, 4, 3, 5, 5, 6] {
        call.until(20 * MS * n as u32);
        call.send(Side::A, headers[n], &packets[n]);
    }
    assert_eq!(call.at_b.len(), 7);
    assert_continuous(&call.at_b, 160);
    let report = call.a.report();
    assert_eq!((report.packets_received, report.packets_lost, report.packets_late), (7, 0, 2));
}

#[test]
fn while_the_app_is_silent_the_trunk_gets_a_steady_stream_on_true_time() {
    let mut call = Call::opus_to_pcma();
    let mut app = Talker::new(Side::A, 111);
    let mut update = [0; 1276];
    let mut encoder = Encoder::new(8_000, config(AudioCodec::Opus).opus).unwrap();
    let Ok(Encoded::Packet(len)) = encoder.encode(&[0; 160], &mut update) else { unreachable!("no DTX") };
    // One second of voice, one and a half of nothing (DTX) with an update now and then, then voice again.
    for (n, packet) in opus_speech(200, 0).iter().enumerate() {
        call.until(20 * MS * n as u32);
        match n {
            70 | 90 | 110 => {
                app.say(&mut call, 960, &update[..len]);
            }
            50..125 => app.timestamp = app.timestamp.wrapping_add(960),
            _ => {
                app.say(&mut call, 960, packet);
            }
        }
    }
    assert_continuous(&call.at_b, 160);
    assert_eq!(call.at_b.len(), 200);
    for pair in call.at_b.windows(2) {
        let between = pair[1].at - pair[0].at;
        assert!(between <= 85 * MS, "dead air of {between:?} at {:?}", pair[0].at);
    }
    // Once the silence is known it is paced without bursts.
    let steady = call.at_b.iter().filter(|got| got.at > 1200 * MS && got.at < 2400 * MS);
    let times: Vec<_> = steady.map(|got| got.at).collect();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] <= 32 * MS), "{times:?}");
    assert_eq!(call.a.report().packets_lost, 0, "silence is not loss");
}

#[test]
fn jitter_alone_inserts_nothing() {
    let mut call = Call::opus_to_pcma();
    let mut app = Talker::new(Side::A, 111);
    for (n, packet) in opus_speech(200, 0).iter().enumerate() {
        let jitter = [0, 17, 5, 38, 11, 2, 29][n % 7];
        call.until(20 * MS * n as u32 + jitter * MS);
        app.say(&mut call, 960, packet);
    }
    assert_eq!(call.at_b.len(), 200);
    assert_continuous(&call.at_b, 160);
}

#[test]
fn the_delay_of_a_hiccup_is_given_back() {
    let mut call = Call::opus_to_pcma();
    let mut app = Talker::new(Side::A, 111);
    // At one second the network stops for 300 ms and then brings everything at once.
    for (n, packet) in opus_speech(400, 0).iter().enumerate() {
        let due = 20 * MS * n as u32;
        call.until(if (50..65).contains(&n) { 1_300 * MS } else { due });
        app.say(&mut call, 960, packet);
    }
    assert_continuous(&call.at_b, 160);
    let behind = |n: usize| {
        let first = &call.at_b[0];
        let place = call.at_b[n].timestamp.wrapping_sub(first.timestamp) as i64 / 8;
        place - (call.at_b[n].at - first.at).as_millis() as i64
    };
    let (last, worst) = (call.at_b.len() - 1, (0..call.at_b.len()).map(behind).max().unwrap());
    assert!(worst >= 100, "{worst} ms");
    assert!(behind(last) <= 1, "{} ms of {worst}", behind(last));
}

#[test]
fn the_encoders_silence_is_not_sent_and_time_goes_on() {
    let mut to = config(AudioCodec::Opus);
    to.opus.dtx = true;
    let mut call = Call::new(to, config(AudioCodec::Pcma));
    let mut trunk = Talker::new(Side::B, 8);
    for n in 0..150usize {
        call.until(20 * MS * n as u32);
        let voice = n < 20 || (50..60).contains(&(n % 100));
        let pcm = if voice { speech(n * 160, 160) } else { vec![0; 160] };
        let payload: Vec<u8> = pcm.iter().map(|sample| Law::A.compress(*sample)).collect();
        trunk.say(&mut call, 160, &payload);
    }
    assert!(call.at_a.len() < 100, "{} of 150 frames were sent", call.at_a.len());
    let first = &call.at_a[0];
    for pair in call.at_a.windows(2) {
        let step = pair[1].timestamp.wrapping_sub(pair[0].timestamp);
        assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1), "nothing looks lost");
        assert_eq!(pair[1].marker, step != 960, "a talk spurt is marked");
    }
    for got in &call.at_a {
        let due = got.timestamp.wrapping_sub(first.timestamp) / 48;
        assert_eq!(u128::from(due), got.at.as_millis(), "timestamps tell the time");
    }
}

#[test]
fn hold_and_resume_fill_nothing_and_start_again_on_time() {
    let mut call = Call::opus_to_pcma();
    let mut app = Talker::new(Side::A, 111);
    let packets = opus_speech(100, 0);
    for (n, packet) in packets.iter().take(50).enumerate() {
        call.until(20 * MS * n as u32);
        app.say(&mut call, 960, packet);
    }
    let held = LegConfig { direction: MediaDirection::Inactive, ..config(AudioCodec::Opus) };
    call.a.configure(held, call.now).unwrap();
    join(&mut call.a, &mut call.b);
    call.until(4_000 * MS);
    assert_eq!(call.at_b.len(), 50, "nothing is sent for a leg on hold");

    call.a.configure(config(AudioCodec::Opus), call.now).unwrap();
    join(&mut call.a, &mut call.b);
    app.timestamp = app.timestamp.wrapping_add(3_000 * 48);
    for (n, packet) in packets.iter().skip(50).enumerate() {
        call.until(4_000 * MS + 20 * MS * n as u32);
        app.say(&mut call, 960, packet);
    }
    assert_eq!(call.at_b.len(), 100);
    assert_eq!(call.at_b[50].sequence, call.at_b[49].sequence.wrapping_add(1));
    let pause = call.at_b[50].timestamp.wrapping_sub(call.at_b[49].timestamp);
    assert_eq!(pause, 160 + 3_000 * 8, "the time on hold was real");
    assert!(call.at_b[50].marker);
}

#[test]
fn a_new_source_behind_the_same_leg_continues_our_stream() {
    let mut call = Call::opus_to_pcma();
    let mut app = Talker::new(Side::A, 111);
    for (n, packet) in opus_speech(60, 0).iter().enumerate() {
        if n == 30 {
            (app.ssrc, app.sequence, app.timestamp) = (0x9999, 7, 77);
        }
        call.until(20 * MS * n as u32);
        app.say(&mut call, 960, packet);
    }
    assert_eq!(call.at_b.len(), 60, "the first two packets of a new source only prove it: that was filled");
    for pair in call.at_b.windows(2) {
        assert_eq!(pair[1].ssrc, pair[0].ssrc);
        assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1));
        let step = pair[1].timestamp.wrapping_sub(pair[0].timestamp);
        assert!((160..=320).contains(&step), "{step}");
    }
}

#[test]
fn ringback_plays_at_the_legs_pace_and_gives_way_to_the_voice() {
    for codec in [AudioCodec::Opus, AudioCodec::Pcma] {
        let mut call = Call::new(config(codec), config(AudioCodec::Pcma));
        call.a.play_tone(
            crate::media::Tone::Ringback(crate::media::Ringing::Europe),
            false,
            call.now.instant,
        );
        call.until(500 * MS);
        assert!((24..=26).contains(&call.at_a.len()), "{codec}: {}", call.at_a.len());
        let step = codec.clock_rate() / 50;
        assert_continuous(&call.at_a, step);
        let mut trunk = Talker::new(Side::B, 8);
        trunk.say(&mut call, 160, &[0xd5; 160]);
        let ringing = call.at_a.len();
        call.a.stop_tone();
        for n in 0..10u32 {
            call.until(500 * MS + 20 * MS * n);
            trunk.say(&mut call, 160, &pcma_speech(1, 160)[0]);
        }
        assert_eq!(call.at_a.len(), ringing + 10, "{codec}");
        let (last, next) = (&call.at_a[ringing - 1], &call.at_a[ringing]);
        assert_eq!((next.ssrc, next.sequence), (last.ssrc, last.sequence.wrapping_add(1)));
        assert!(rtp::timestamp_distance(last.timestamp, next.timestamp) >= step as i32);
    }
}

#[test]
fn ringback_that_gives_way_ends_with_the_first_voice_and_not_with_a_silence() {
    let mut call = Call::new(config(AudioCodec::Opus), config(AudioCodec::Pcma));
    call.a.play_tone(crate::media::Tone::Ringback(crate::media::Ringing::Europe), true, call.now.instant);
    call.until(500 * MS);
    let ringing = call.at_a.len();
    assert!((24..=26).contains(&ringing), "{ringing}");
    let mut trunk = Talker::new(Side::B, 8);
    for n in 0..10u32 {
        call.until(500 * MS + 20 * MS * n);
        trunk.say(&mut call, 160, &pcma_speech(1, 160)[0]);
    }
    call.until(1_500 * MS);
    let heard = call.at_a.len() - ringing;
    assert!((10..=11).contains(&heard), "the voice, and no tone behind it: {heard}");
    assert!(call.at_a.windows(2).all(|pair| pair[1].sequence == pair[0].sequence.wrapping_add(1)));
}

#[test]
fn a_leg_that_hears_nothing_times_out_once() {
    let mut call = Call::opus_to_pcma();
    call.a.set_timeout(Some(3_000 * MS), call.now.instant);
    let mut app = Talker::new(Side::A, 111);
    call.until(2_000 * MS);
    app.say(&mut call, 960, &opus_speech(1, 0)[0]);
    assert!(call.a.take_news().first_packet);
    call.until(4_900 * MS);
    assert!(!call.a.take_news().timed_out, "it was heard at 2 s");
    call.until(5_100 * MS);
    assert!(call.a.take_news().timed_out);
    call.until(20_000 * MS);
    assert!(!call.a.has_news());
}
