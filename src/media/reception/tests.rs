//! The numbers of received streams: order, loss, sources, jitter.

use super::*;
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);

#[test]
fn loss_duplicates_and_reordering_are_told_apart() {
    let mut stats = ReceiveStats::new(8000);
    let now = Instant::now();
    let mut at = |sequence: u16| stats.record(1, sequence, None, now);
    assert_eq!(at(65_534), Arrival::First);
    assert_eq!(at(65_535), Arrival::Next);
    assert_eq!(at(2), Arrival::Gap(2));
    assert_eq!(at(1), Arrival::Late);
    assert_eq!(at(1), Arrival::Duplicate);
    assert_eq!(at(2), Arrival::Duplicate);
    assert_eq!(at(65_533), Arrival::Duplicate, "before the first one");
    assert_eq!(at(3), Arrival::Next);
    assert_eq!((stats.lost(), stats.expected(), stats.unique()), (1, 6, 5));
    assert_eq!((stats.late(), stats.duplicates()), (1, 3));
}

#[test]
fn a_stray_source_changes_nothing_and_a_new_one_is_believed_once_it_keeps_time() {
    let mut stats = ReceiveStats::new(8000);
    let now = Instant::now();
    stats.record(1, 100, Some(0), now);
    for stray in 0..1000u32 {
        let verdict = stats.record(stray + 10, (stray * 7) as u16, Some(stray), now);
        assert_eq!(verdict, Arrival::Suspect);
    }
    assert_eq!(stats.record(1, 101, Some(160), now + 20 * MS), Arrival::Next);
    let mut at =
        |n: u16| stats.record(2, 5000 + n, Some(u32::from(n) * 160), now + MS * (30 + 20 * u32::from(n)));
    assert_eq!((at(0), at(1), at(2)), (Arrival::Suspect, Arrival::Suspect, Arrival::First));
    assert_eq!(at(3), Arrival::Next);
    assert_eq!(stats.lost(), 0);
    assert_eq!(
        stats.record(1, 102, Some(320), now + 95 * MS),
        Arrival::First,
        "the old one was there after all"
    );
}

#[test]
fn a_stream_takes_little_room_until_somebody_wants_its_place() {
    let room = std::mem::size_of::<ReceiveStats>();
    assert!(room <= 640, "{room} bytes");
}

#[test]
fn a_jump_within_a_source_restarts_it_without_counting_loss() {
    let mut stats = ReceiveStats::new(8000);
    let now = Instant::now();
    stats.record(1, 0, Some(0), now);
    let mut at =
        |n: u16| stats.record(1, 20_000 + n, Some(u32::from(n) * 160), now + MS * (20 + 20 * u32::from(n)));
    assert_eq!((at(0), at(1), at(2)), (Arrival::Suspect, Arrival::Suspect, Arrival::First));
    assert_eq!((stats.lost(), stats.expected()), (0, 2));
}

#[test]
fn who_counts_well_but_keeps_no_time_is_not_believed_in_any_pause() {
    for gap in [20u32, 40, 60, 400] {
        let mut stats = ReceiveStats::new(8000);
        let start = Instant::now();
        let mut number = 0u16;
        for n in 0..100u32 {
            let now = start + MS * gap * n;
            let arrival = stats.record(1, n as u16, Some(n * gap * 8), now);
            assert_eq!(arrival, if n == 0 { Arrival::First } else { Arrival::Next }, "{gap} ms");
            for k in 0..gap * 10 {
                number = number.wrapping_add(1);
                // Timestamps that stand still, and ones that run away.
                let timestamp = if n % 2 == 0 { 77 } else { u32::from(number) * 160 };
                let verdict = stats.record(2, number, Some(timestamp), now + MS * k / 10);
                assert_eq!(verdict, Arrival::Suspect, "{gap} ms, packet {n}, {k}");
            }
        }
        assert_eq!((stats.lost(), stats.unique()), (0, 100));
    }
}

#[test]
fn a_source_that_is_known_to_pause_is_waited_for_and_comes_back_at_once() {
    let mut stats = ReceiveStats::new(8000);
    let start = Instant::now();
    let say = |stats: &mut ReceiveStats, ssrc, n: u16, ms: u32| {
        stats.record(ssrc, n, Some(ms * 8), start + MS * ms)
    };
    for n in 0..5u16 {
        say(&mut stats, 1, n, 400 * u32::from(n));
    }
    // Somebody keeps time well in its next pause.
    for n in 0..18u16 {
        assert_eq!(say(&mut stats, 2, n, 1_620 + 20 * u32::from(n)), Arrival::Suspect, "{n}");
    }
    assert_eq!(say(&mut stats, 1, 5, 2_000), Arrival::Next);
    // Now it is gone for good: the other one is believed after all.
    let believed =
        (0..50u16).find(|n| say(&mut stats, 2, 100 + n, 2_020 + 20 * u32::from(*n)) == Arrival::First);
    assert!(believed.is_some_and(|n| n <= 26), "{believed:?}");
    assert_eq!(say(&mut stats, 1, 7, 2_800), Arrival::First);
}

#[test]
fn a_new_sdp_has_another_source_believed_with_its_second_packet() {
    let mut stats = ReceiveStats::new(8000);
    let start = Instant::now();
    stats.record(1, 0, Some(0), start);
    stats.record(1, 1, Some(160), start + 20 * MS);
    stats.expect_change(start + 20 * MS);
    assert_eq!(stats.record(2, 9, Some(7), start + 25 * MS), Arrival::Suspect);
    assert_eq!(stats.record(2, 10, Some(167), start + 45 * MS), Arrival::First);
    assert_eq!(stats.record(3, 9, Some(7), start + 50 * MS), Arrival::Suspect);
    assert_eq!(stats.record(3, 10, Some(167), start + 55 * MS), Arrival::Suspect, "once");
}

#[test]
fn jitter_follows_rfc_3550() {
    let mut stats = ReceiveStats::new(8000);
    let start = Instant::now();
    assert_eq!(stats.jitter_ms(), None);
    // Every other packet is 10 ms late: |D| is always 10 ms, so jitter tends to 10 ms.
    for n in 0..400u32 {
        let late = if n % 2 == 1 { 10 * MS } else { Duration::ZERO };
        stats.record(1, n as u16, Some(n * 160), start + 20 * MS * n + late);
    }
    let jitter = stats.jitter_ms().unwrap();
    assert!((9.0..=10.1).contains(&jitter), "{jitter}");
}

#[test]
fn a_reception_report_covers_its_interval() {
    let mut stats = ReceiveStats::new(8000);
    let now = Instant::now();
    for sequence in (0..100u16).filter(|n| n % 4 != 3) {
        stats.record(1, sequence, None, now);
    }
    let report = stats.reception().unwrap();
    assert_eq!(report.highest_sequence, 98);
    assert_eq!(report.cumulative_lost, 24);
    assert_eq!(report.fraction_lost, (24 * 256 / 99) as u8);
    stats.record(1, 99, None, now);
    assert_eq!(stats.reception().unwrap().fraction_lost, 0, "a new interval");
}

#[test]
fn a_flood_that_counts_well_takes_over_no_stream_that_goes_on() {
    let mut stats = ReceiveStats::new(8000);
    let start = Instant::now();
    for n in 0..200u32 {
        let now = start + 20 * MS * n;
        let arrival = stats.record(1, n as u16, Some(n * 160), now);
        assert_eq!(arrival, if n == 0 { Arrival::First } else { Arrival::Next });
        for k in 0..200u32 {
            // Another source, or the known one somewhere else in its numbers.
            let (ssrc, sequence) = if n % 2 == 0 { (2, k as u16) } else { (1, 30_000 + k as u16) };
            assert_eq!(stats.record(ssrc, sequence, Some(k), now + MS * k / 11), Arrival::Suspect);
        }
    }
    assert_eq!((stats.lost(), stats.unique()), (0, 200));
}

#[test]
fn the_ear_misses_what_never_came_came_too_late_or_could_not_be_decoded_and_repair_gives_back() {
    let mut stats = ReceiveStats::new(8000);
    let now = Instant::now();
    for n in 0..200u16 {
        if !matches!(n, 20 | 50 | 51 | 80) {
            stats.record(1, n, None, now);
        }
        match n {
            52 => stats.note_recovered(52, 1), // 51, from its redundancy
            81 => assert_eq!(stats.record(1, 80, None, now), Arrival::Late), // too late to be played
            100 => stats.note_heard(100, false), // refused by its decoder
            _ => {}
        }
    }
    assert_eq!(stats.lost(), 3, "20, 50 and 51");
    assert_eq!(stats.losses().missed, 4, "20, 50, 80 and 100");
    assert_eq!(stats.losses().packets, 200);
    stats.record(1, 210, None, now);
    assert_eq!(stats.losses().missed, 4 + 10);
    stats.note_recovered(210, 9);
    assert_eq!((stats.losses().missed, stats.losses().runs), (4 + 1, 5));
    stats.note_recovered(210, 1_000);
    assert_eq!(stats.losses().packets, 211, "no more than was missed");
}

#[test]
fn losses_are_the_same_whether_they_left_the_window_or_not() {
    let now = Instant::now();
    let mut stats = ReceiveStats::new(8000);
    for n in (0..1000u16).filter(|n| n % 50 >= 5) {
        stats.record(1, n, None, now);
    }
    // The first five never were expected.
    let losses = stats.losses();
    assert_eq!((losses.packets, losses.missed, losses.runs), (995, 95, 19));
    stats.record(1, 1100, None, now);
    let losses = stats.losses();
    assert_eq!((losses.packets, losses.missed, losses.runs), (1096, 95 + 100, 20));
}

#[test]
fn the_length_of_packets_shows_in_their_timestamps() {
    let now = Instant::now();
    let mut stats = ReceiveStats::new(48_000);
    stats.record(1, 1, Some(0), now);
    assert_eq!(stats.packet_ms(), None);
    stats.record(1, 2, Some(2_880), now);
    assert_eq!(stats.packet_ms(), Some(60.0));
    stats.record(1, 3, Some(48_000), now);
    stats.record(1, 5, Some(48_960), now);
    assert_eq!(stats.packet_ms(), Some(60.0), "neither a pause nor a gap is a length");
}

#[test]
fn a_source_that_was_announced_does_not_give_way_to_the_last_packets_of_the_one_before() {
    let mut stats = ReceiveStats::new(8000);
    let start = Instant::now();
    for n in 0..50u32 {
        stats.record(1, n as u16, Some(n * 160), start + 20 * MS * n);
    }
    let change = start + 1_000 * MS;
    stats.expect_change(change);
    assert_eq!(stats.record(2, 900, Some(0), change), Arrival::Suspect);
    assert_eq!(stats.record(2, 901, Some(160), change + 20 * MS), Arrival::First);
    for n in 50..60u32 {
        let now = change + 20 * MS * (n - 49);
        assert_eq!(stats.record(1, n as u16, Some(n * 160), now + MS), Arrival::Suspect, "{n}");
        assert_eq!(stats.record(2, 902 + (n - 50) as u16, Some((n - 48) * 160), now + 2 * MS), Arrival::Next);
    }
}

#[test]
fn a_sender_whose_timestamps_run_twice_as_fast_is_heard_all_the_same() {
    let mut stats = ReceiveStats::new(8000);
    let start = Instant::now();
    for n in 0..500u32 {
        let arrival = stats.record(1, n as u16, Some(n * 320), start + 20 * MS * n);
        assert_ne!(arrival, Arrival::Suspect, "{n}");
    }
}

#[test]
fn what_is_left_of_the_round_before_hides_no_loss_of_a_source_that_began_at_zero() {
    let mut stats = ReceiveStats::new(8000);
    let now = Instant::now();
    for n in [0u16, 1, 2, 4, 5] {
        stats.record(1, n, None, now);
    }
    assert_eq!(stats.record(1, 65_535, None, now), Arrival::Duplicate, "before the first one");
    assert_eq!((stats.lost(), stats.expected(), stats.unique(), stats.late()), (1, 6, 5, 0));
}

#[test]
fn a_source_that_has_the_key_is_believed_with_its_second_packet() {
    let mut stats = ReceiveStats::new(8000);
    stats.set_authentic(true);
    let start = Instant::now();
    // A second with a stall of half a second in the middle.
    for n in 0..50u32 {
        let late = if n >= 25 { 500 * MS } else { Duration::ZERO };
        stats.record(1, n as u16, Some(n * 160), start + 20 * MS * n + late);
    }
    let change = start + 1_500 * MS;
    assert_eq!(stats.record(2, 900, Some(77), change), Arrival::Suspect);
    assert_eq!(stats.record(2, 901, Some(237), change + 20 * MS), Arrival::First);
    // The last packet of the one before, overtaken on its way, does not bring it back.
    assert_eq!(stats.record(1, 50, Some(8_000), change + 21 * MS), Arrival::Suspect);
    assert_eq!(stats.record(2, 902, Some(397), change + 40 * MS), Arrival::Next);
    // Two at once: the one that is heard stays.
    for n in 0..50u32 {
        let now = change + 60 * MS + 20 * MS * n;
        assert_eq!(stats.record(2, 903 + n as u16, Some(557 + n * 160), now), Arrival::Next);
        assert_eq!(stats.record(1, 51 + n as u16, Some(8_160 + n * 160), now + MS), Arrival::Suspect);
    }
}

#[test]
fn one_stall_of_the_network_does_not_make_a_new_source_wait_for_the_rest_of_the_call() {
    let believed = |talked: u32| {
        let mut stats = ReceiveStats::new(8000);
        let start = Instant::now();
        let at = |ms: u32| start + MS * ms;
        stats.record(1, 0, Some(0), at(0));
        let mut n = 0;
        for ms in (500..500 + talked).step_by(20) {
            n += 1;
            assert_eq!(stats.record(1, n, Some(ms * 8), at(ms)), Arrival::Next);
        }
        let gone = 500 + talked;
        (0..60u32)
            .find(|k| stats.record(2, 100 + *k as u16, Some(k * 160), at(gone + 20 * k)) == Arrival::First)
    };
    let soon = believed(1_000).unwrap();
    assert!((28..=33).contains(&soon), "after {soon} packets: it may only be pausing");
    let later = believed(120_000).unwrap();
    assert!(later <= 5, "after {later} packets, two minutes behind the stall");
}

/// Numbers that look random, the same for each seed.
fn numbers(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb) >> 16
    }
}

/// A source that ends after a second, and then 10,000 packets a second, each of another source, and from the next second
/// on among them those of one that goes on. How long until that one is believed.
fn believed_after(ptime: u32, announced: bool, seed: u64) -> Option<Duration> {
    let mut stats = ReceiveStats::new(8000);
    let start = Instant::now();
    for n in 0..50u32 {
        stats.record(1, n as u16, Some(n * 160), start + 20 * MS * n);
    }
    let (begun, tick) = (start + 2_000 * MS, Duration::from_micros(100));
    let mut number = numbers(seed);
    for step in 0..110_000u32 {
        let at = start + 1_000 * MS + tick * step;
        if announced && at == begun {
            stats.expect_change(begun);
        }
        let (n, due) = (step / (ptime * 10), at >= begun && step % (ptime * 10) == 0);
        if due && stats.record(2, 7_000 + n as u16, Some(n * ptime * 8), at) == Arrival::First {
            return Some(at - begun);
        }
        let after = Duration::from_micros(number() % 100);
        let junk = stats.record(number() as u32 | 4, number() as u16, Some(number() as u32), at + after);
        assert_eq!(junk, Arrival::Suspect, "{ptime} ms, seed {seed}");
    }
    None
}

#[test]
fn a_flood_of_sources_without_number_keeps_no_real_one_from_being_believed() {
    for ptime in [20, 60] {
        for announced in [true, false] {
            let waited: Vec<Duration> = (1..=6)
                .map(|seed| believed_after(ptime, announced, seed).unwrap_or_else(|| panic!("never: {seed}")))
                .collect();
            let mean = waited.iter().sum::<Duration>() / waited.len() as u32;
            assert!(mean < 100 * MS * ptime, "{ptime} ms, announced: {announced}: {waited:?}");
        }
    }
}

#[test]
fn a_place_is_held_for_the_next_packet_and_not_for_ever() {
    let start = Instant::now();
    let mut claims = Claims::default();
    // More than there is room for, all at once.
    for ssrc in 0..1_000 {
        assert!(claims.note(ssrc, 7, Some(0), start).is_none());
    }
    let counts_on = |claims: &Claims, at: Duration| {
        (0..1_000).filter(|ssrc| claims.clone().note(*ssrc, 8, Some(160), start + at).is_some()).count()
    };
    let room = counts_on(&claims, 60 * MS);
    assert!((16..=128).contains(&room), "{room} were noted");
    // The same again, later and later: some places are still held when the last have been given away.
    for (later, least, most) in [(60 * MS, room, room), (90 * MS, 1, room - 1), (250 * MS, 0, 0)] {
        let mut claims = claims.clone();
        for ssrc in 1_000..2_000 {
            claims.note(ssrc, 7, Some(0), start + later);
        }
        let held = counts_on(&claims, later);
        assert!((least..=most).contains(&held), "{later:?}: {held}");
    }
    // Who has counted on is waited for longest.
    for ssrc in 0..1_000 {
        claims.note(ssrc, 8, Some(160), start + 60 * MS);
    }
    for ssrc in 1_000..2_000 {
        claims.note(ssrc, 7, Some(0), start + 180 * MS);
    }
    let gone_on = claims.note(0, 9, Some(320), start + 181 * MS).unwrap();
    assert_eq!((gone_on.packets, gone_on.waited, gone_on.first_timestamp), (3, 181 * MS, Some(0)));
    assert!(claims.note(1_000, 8, Some(160), start + 181 * MS).is_none(), "no room");
}

proptest! {
    #[test]
    fn counts_stay_consistent(sequences in proptest::collection::vec(any::<u16>(), 1..300)) {
        let mut stats = ReceiveStats::new(48_000);
        let now = Instant::now();
        for sequence in sequences {
            stats.record(1, sequence, Some(u32::from(sequence) * 960), now);
            prop_assert!(stats.unique() <= stats.expected());
            prop_assert_eq!(stats.lost(), stats.expected() - stats.unique());
        }
    }
}
