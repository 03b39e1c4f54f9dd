//! A network that stands still for a while and then brings everything at once: what is late is given up, what is left is
//! heard, and no delay stays behind.

use super::recovery::{behind, continuous_speech};
use super::*;

/// Where a stall of so many milliseconds begins, in frames of 20 ms.
const STALL_AT: u32 = 50;
const FRAMES: u32 = 400;

/// Frame by frame into the call; those of the stall come together when it ends, `per_tick` every 20 ms (0: all at once).
fn play(call: &mut Call, side: Side, payloads: &[Vec<u8>], stall: u32, per_tick: u32) -> Vec<Outcome> {
    let (payload_type, step) = if side == Side::A {
        (call.config_a.receive_payload_type, call.config_a.codec.clock_rate() / 50)
    } else {
        (call.config_b.receive_payload_type, call.config_b.codec.clock_rate() / 50)
    };
    let mut talker = Talker::new(side, payload_type);
    let ends = 20 * MS * STALL_AT + MS * stall;
    let mut free = Duration::ZERO;
    let says = |(n, payload): (usize, &Vec<u8>)| {
        let due = 20 * MS * n as u32;
        let stalled = due >= 20 * MS * STALL_AT && due < ends;
        let at = if stalled || due < free { due.max(ends).max(free) } else { due };
        if let Some(pause) = (20 * MS).checked_div(per_tick).filter(|_| at >= ends) {
            free = at + pause;
        }
        call.until(at);
        talker.say(call, step, payload)
    };
    payloads.iter().enumerate().map(says).collect()
}

fn milliseconds_left(got: &[Got], units_per_ms: u32, from: Duration) -> i64 {
    let late = behind(got, units_per_ms);
    let after = got.iter().zip(&late).filter(|(got, _)| got.at >= from);
    after.map(|(_, late)| late.abs()).max().expect("something was sent")
}

#[test]
fn after_a_stall_of_the_network_the_app_is_back_on_time_within_two_seconds() {
    for per_tick in [0, 3] {
        for stall in [100u32, 300, 450, 600, 900, 1_500, 3_000] {
            let mut call = Call::opus_to_pcma();
            let outcomes = play(&mut call, Side::A, &continuous_speech(FRAMES as usize), stall, per_tick);
            let case = format!("a stall of {stall} ms, {per_tick} packets a tick");
            assert_continuous(&call.at_b, 160);
            // A queue that empties at three times the pace takes half its length to do so.
            let emptied = if per_tick == 0 { 0 } else { stall / 2 + 20 };
            let back_by = 20 * MS * STALL_AT + MS * (stall + emptied + 2_000);
            let left = milliseconds_left(&call.at_b, 8, back_by);
            assert!(left <= 1, "{left} ms are left after {case}");
            // What can still be heard in time is: the last 400 ms of what waited, and all that follows.
            let late = outcomes.iter().filter(|outcome| outcome.too_late).count() as u32;
            let regained = if per_tick == 0 { 20 } else { 13 };
            assert!(late <= stall.saturating_sub(360) / regained, "{late} packets too late in {case}");
            assert_eq!(call.a.report().packets_late, u64::from(late), "{case}");
            let first = outcomes.iter().rposition(|outcome| outcome.too_late).map_or(0, |n| n + 1);
            assert!(outcomes[first..].iter().all(|outcome| outcome.transcoded), "{case}");
        }
    }
}

#[test]
fn after_a_stall_of_the_network_the_trunk_is_on_time_at_once() {
    for to in [AudioCodec::Opus, AudioCodec::Pcmu] {
        for ptime_ms in [20u8, 40] {
            for stall in [300u32, 450, 900, 1_500, 3_000] {
                let to = LegConfig { ptime_ms, remote_rtp: at(APP), ..config(to) };
                let units = to.codec.clock_rate() / 1_000;
                let mut call = Call::new(to, config(AudioCodec::Pcma));
                let outcomes = play(&mut call, Side::B, &pcma_speech(FRAMES as usize, 160), stall, 0);
                let case = format!("{} in {ptime_ms} ms, a stall of {stall} ms", call.config_a.codec);
                assert_continuous(&call.at_a, units * u32::from(ptime_ms));
                let back_by = 20 * MS * STALL_AT + MS * (stall + 100);
                let left = milliseconds_left(&call.at_a, units, back_by);
                assert!(left <= 1, "{left} ms are left: {case}");
                assert!(outcomes.iter().all(|outcome| !outcome.too_late), "{case}");
                assert_eq!(call.at_a.len(), 400 * 20 / usize::from(ptime_ms), "{case}");
            }
        }
    }
}

#[test]
fn the_words_after_a_stall_are_heard() {
    for stall in [450u32, 900, 3_000] {
        let mut call = Call::opus_to_pcma();
        play(&mut call, Side::A, &opus_speech(FRAMES as usize, 0), stall, 0);
        let mut whole = Call::opus_to_pcma();
        play(&mut whole, Side::A, &opus_speech(FRAMES as usize, 0), 0, 0);
        let (heard, clean) = (listen_pcma(&call.at_b), listen_pcma(&whole.at_b));
        // From two seconds behind the stall to the end, on true time.
        let from = (1_000 + stall as usize + 2_000) * 8;
        let (lag, likeness) = best_match(&clean[from..390 * 160], &heard[from - 400..], 800);
        assert!(lag.abs_diff(400) <= 8 && likeness > 0.95, "{stall}: {lag}, {likeness}");
    }
}

#[test]
fn a_source_whose_timestamps_stood_still_meanwhile_is_followed_anew() {
    for (side, step, units) in [(Side::A, 960, 8), (Side::B, 160, 48)] {
        let mut call = Call::opus_to_pcma();
        let payloads = if side == Side::A { opus_speech(200, 0) } else { pcma_speech(200, 160) };
        let mut talker = Talker::new(side, if side == Side::A { 111 } else { 8 });
        for (n, payload) in payloads.iter().enumerate() {
            // Nothing for three seconds, and no timestamps that say so.
            let pause = if n < 100 { Duration::ZERO } else { 3_000 * MS };
            call.until(20 * MS * n as u32 + pause);
            talker.say(&mut call, step, payload);
        }
        let got = if side == Side::A { &call.at_b } else { &call.at_a };
        let left = milliseconds_left(got, units, 5_500 * MS);
        assert!(left <= 1, "{left} ms");
        let heard = if side == Side::A { call.a.report() } else { call.b.report() };
        assert!(heard.packets_late <= 6, "{} packets", heard.packets_late);
    }
}

#[test]
fn a_route_that_becomes_half_a_second_longer_is_followed() {
    let mut call = Call::opus_to_pcma();
    let mut app = Talker::new(Side::A, 111);
    for (n, payload) in continuous_speech(300).iter().enumerate() {
        let longer = if n < 100 { Duration::ZERO } else { 500 * MS };
        call.until(20 * MS * n as u32 + longer);
        app.say(&mut call, 960, payload);
    }
    assert_continuous(&call.at_b, 160);
    assert!(call.a.report().packets_late <= 6);
    let last = call.at_b.last().unwrap();
    assert_eq!(last.at, 20 * MS * 299 + 500 * MS, "what comes is sent at once");
}
