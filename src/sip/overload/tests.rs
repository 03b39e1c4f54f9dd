//! Sources, a gateway that takes so many new requests a second, and a queue between them, in virtual time.

use super::*;
use std::collections::BTreeMap;

const STEP: Duration = Duration::from_millis(1);

fn ip(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

fn datagram(address: IpAddr) -> Sender {
    Sender { address, stream: false, proven: false }
}

fn stream(address: IpAddr) -> Sender {
    Sender { address, stream: true, proven: false }
}

fn is_in(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Admit { .. })
}

/// Xorshift: the same from run to run.
struct Random(u64);

impl Random {
    /// From 0 to below 1.
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn octet(&mut self) -> u8 {
        (self.next() * 256.0) as u8
    }
}

/// What became of a source's requests.
#[derive(Debug, Default, Clone, Copy)]
struct Fate {
    offered: u32,
    admitted: u32,
    refused: u32,
    dropped: u32,
}

struct World {
    overload: Overload,
    now: Instant,
    random: Random,
    /// New requests the gateway can handle a second.
    capacity: f64,
    credit: f64,
    /// When they came, and of whom.
    queue: Queue<(Instant, Line)>,
    serial: u64,
    longest_wait: Duration,
    /// Of trunk 1.
    longest_wait_of_one: Duration,
}

impl World {
    fn new(seed: u64, capacity: f64) -> World {
        let now = Instant::now();
        let mut overload = Overload::new(OverloadSettings::default(), now);
        overload.set_trunks(
            (0..16).map(|last| ip(last).into()).chain(["203.0.113.0/24".parse().unwrap()]).collect(),
        );
        World {
            overload,
            now,
            random: Random(seed * 2 + 1),
            capacity,
            credit: 0.0,
            queue: Queue::default(),
            serial: 0,
            longest_wait: Duration::ZERO,
            longest_wait_of_one: Duration::ZERO,
        }
    }

    fn newcomer(&mut self, source: IpAddr) -> Newcomer {
        self.serial += 1;
        Newcomer { sender: datagram(source), identity: self.serial, urgent: false }
    }

    /// Lets sources bring so many a second for a while.
    fn run(&mut self, span: Duration, sources: &[(u8, f64)]) -> BTreeMap<u8, Fate> {
        self.run_from(span, sources, |_, source| ip(source))
    }

    fn run_from(
        &mut self,
        span: Duration,
        sources: &[(u8, f64)],
        address: impl Fn(&mut World, u8) -> IpAddr,
    ) -> BTreeMap<u8, Fate> {
        let mut fates = BTreeMap::new();
        let until = self.now + span;
        (self.longest_wait, self.longest_wait_of_one) = (Duration::ZERO, Duration::ZERO);
        while self.now < until {
            self.now += STEP;
            for (source, rate) in sources {
                let due = rate * STEP.as_secs_f64();
                let count = due as u32 + u32::from(self.random.next() < due.fract());
                for _ in 0..count {
                    let from = address(self, *source);
                    let newcomer = self.newcomer(from);
                    let fate: &mut Fate = fates.entry(*source).or_default();
                    fate.offered += 1;
                    match self.overload.admit(self.now, newcomer) {
                        Verdict::Admit { line } => {
                            fate.admitted += 1;
                            self.queue.push(line, (self.now, line));
                        }
                        Verdict::Refuse { .. } => fate.refused += 1,
                        Verdict::Drop | Verdict::Full { .. } => fate.dropped += 1,
                    }
                }
            }
            self.credit = (self.credit + self.capacity * STEP.as_secs_f64()).min(64.0);
            while self.credit >= 1.0 {
                self.credit -= 1.0;
                let Some((came, line)) = self.queue.pop() else { continue };
                let waited = self.now - came;
                self.longest_wait = self.longest_wait.max(waited);
                if line == self.overload.line_of(self.now, datagram(ip(1))) {
                    self.longest_wait_of_one = self.longest_wait_of_one.max(waited);
                }
                self.overload.handled(self.now, line, waited);
                self.overload.left(line);
            }
        }
        fates
    }
}

fn part(fate: &Fate) -> f64 {
    f64::from(fate.admitted) / f64::from(fate.offered)
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn what_the_gateway_can_handle_is_never_held_back() {
    for seed in 0..5 {
        let mut world = World::new(seed, 1_750.0);
        let fates = world.run(20 * SECOND, &[(1, 900.0), (2, 600.0)]);
        assert!(fates.values().all(|fate| fate.admitted == fate.offered), "{fates:?}");
        // A burst of all lines of an office at once is worked off and held against nobody.
        let burst = world.run(100 * STEP, &[(1, 8_000.0)]);
        assert_eq!(burst[&1].admitted, burst[&1].offered);
        let after = world.run(5 * SECOND, &[(1, 900.0)]);
        assert_eq!(after[&1].admitted, after[&1].offered);
    }
}

#[test]
fn a_pause_of_the_machine_is_not_taken_for_overload() {
    let mut world = World::new(1, 1_750.0);
    world.run(2 * SECOND, &[(1, 1_000.0)]);
    world.capacity = 0.0;
    world.run(300 * STEP, &[(1, 1_000.0)]);
    world.capacity = 1_750.0;
    let after = world.run(5 * SECOND, &[(1, 1_000.0)]);
    assert_eq!(after[&1].admitted, after[&1].offered);
}

#[test]
fn a_trunk_that_runs_away_at_ten_times_the_clean_rate_takes_nothing_from_its_neighbour() {
    for seed in 0..5 {
        let clean = 1_750.0;
        let mut world = World::new(seed, clean);
        world.run(3 * SECOND, &[(1, 0.8 * clean)]);
        // The first second is what it takes to see it, and costs the neighbour time, but no call.
        let fates = world.run(SECOND, &[(1, 0.8 * clean), (2, 10.0 * clean)]);
        assert_eq!(fates[&1].refused, 0, "{fates:?}");
        let fates = world.run(10 * SECOND, &[(1, 0.8 * clean), (2, 10.0 * clean)]);
        assert!(part(&fates[&1]) >= 0.99, "{fates:?}");
        assert!(part(&fates[&2]) < 0.1, "{fates:?}");
        // What it leaves of the gateway the other may have; whoever behaves does not wait for it.
        assert!(world.longest_wait_of_one < 150 * STEP, "{:?}", world.longest_wait_of_one);
        assert!(fates[&2].refused >= 400 && fates[&2].refused <= 11 * 50, "{fates:?}");
    }
}

#[test]
fn neighbours_that_bring_a_little_too_much_share_alike_and_nobody_below_is_touched() {
    for seed in 0..5 {
        let mut world = World::new(seed, 1_000.0);
        let sources = [(1, 900.0), (2, 700.0), (3, 50.0)];
        world.run(3 * SECOND, &sources);
        let fates = world.run(20 * SECOND, &sources);
        let admitted = |source: u8| f64::from(fates[&source].admitted);
        assert!(part(&fates[&3]) > 0.99, "{fates:?}");
        assert!((admitted(1) / admitted(2) - 1.0).abs() < 0.1, "{fates:?}");
        let all: f64 = [1, 2, 3].into_iter().map(admitted).sum();
        assert!(all > 0.85 * 20.0 * 1_000.0, "the gateway idles: {fates:?}");
    }
}

#[test]
fn forged_addresses_gain_nothing_over_a_trunk() {
    for seed in 0..5 {
        let mut world = World::new(seed, 1_750.0);
        let sources = [(1, 1_400.0), (200, 17_500.0)];
        let forge = |world: &mut World, source: u8| match source {
            200 => IpAddr::from([198, 51, world.random.octet(), world.random.octet()]),
            known => ip(known),
        };
        world.run_from(SECOND, &sources, forge);
        let fates = world.run_from(10 * SECOND, &sources, forge);
        assert!(part(&fates[&1]) >= 0.99, "{fates:?}");
        assert!(world.overload.sources.len() <= 2, "no memory for the forged");
    }
}

#[test]
fn when_the_flood_is_over_nothing_is_held_back_any_more() {
    let mut world = World::new(3, 1_000.0);
    world.run(5 * SECOND, &[(1, 800.0), (2, 10_000.0)]);
    assert!(world.overload.level().is_some());
    world.run(4 * SECOND, &[(1, 800.0)]);
    assert_eq!(world.overload.level(), None);
    let fates = world.run(5 * SECOND, &[(1, 800.0), (2, 100.0)]);
    assert!(fates.values().all(|fate| fate.admitted == fate.offered), "{fates:?}");
}

#[test]
fn a_repetition_of_what_was_let_in_is_let_in_and_no_way_around() {
    let mut world = World::new(4, 500.0);
    world.run(3 * SECOND, &[(1, 400.0), (2, 20_000.0)]);
    // A pause in which even it has earned one.
    let mut first = world.newcomer(ip(2));
    while !is_in(world.overload.admit(world.now, first)) {
        world.run(100 * STEP, &[(1, 600.0)]);
        first = world.newcomer(ip(2));
    }
    world.run(SECOND, &[(1, 400.0), (2, 20_000.0)]);
    let repeated = (0..1_000).map(|_| world.overload.admit(world.now, first)).collect::<Vec<_>>();
    assert!(repeated[..7].iter().all(|verdict| is_in(*verdict)));
    assert!(repeated.iter().filter(|verdict| is_in(**verdict)).count() < 100);
}

#[test]
fn calls_for_help_pass_any_level_and_are_no_way_around_it_either() {
    let mut world = World::new(5, 200.0);
    let sources = [(1, 100.0), (2, 10_000.0)];
    world.run(3 * SECOND, &sources);
    for _ in 0..5 {
        world.run(SECOND, &sources);
        // The very source that runs away calls for help.
        let helped = |world: &mut World| {
            let newcomer = Newcomer { urgent: true, ..world.newcomer(ip(2)) };
            is_in(world.overload.admit(world.now, newcomer))
        };
        assert!((0..5).all(|_| helped(&mut world)));
    }
    let flood = (0..1_000).filter(|serial| {
        let newcomer = Newcomer { sender: datagram(ip(2)), identity: 1 << 40 | serial, urgent: true };
        is_in(world.overload.admit(world.now, newcomer))
    });
    assert!(flood.count() <= 30);
}

#[test]
fn a_muted_source_is_heard_again_when_its_time_is_over() {
    let now = Instant::now();
    let mut overload = Overload::new(OverloadSettings { capacity: 2, ..OverloadSettings::default() }, now);
    let mut muted = |now, text: &str, until: Option<Instant>| {
        let address = text.parse().unwrap();
        until.into_iter().for_each(|until| overload.mute(now, address, until));
        assert!(!overload.is_muted(now, stream(address)), "a stream is held by not being read");
        overload.is_muted(now, datagram(address))
    };
    assert!(!muted(now, "192.0.2.1", None));
    assert!(muted(now, "192.0.2.1", Some(now + SECOND)));
    assert!(muted(now + 999 * STEP, "192.0.2.1", None));
    assert!(muted(now, "::ffff:192.0.2.1", None), "in whatever form it is written");
    assert!(!muted(now, "192.0.2.2", None));
    assert!(!muted(now + SECOND, "192.0.2.1", None));
    assert!(muted(now, "2001:db8::1", Some(now + SECOND)));
    assert!(!muted(now, "2001:db8::2", None), "another device of the same site");
    // Memory is bounded, and what is over makes room.
    assert!(muted(now, "192.0.2.3", Some(now + SECOND)));
    assert!(!muted(now, "192.0.2.4", Some(now + SECOND)));
    assert!(muted(now + SECOND, "192.0.2.4", Some(now + 2 * SECOND)));
}

#[test]
fn nothing_that_comes_by_a_stream_is_dropped() {
    let mut world = World::new(6, 200.0);
    let sources = [(1, 100.0), (2, 10_000.0), (200, 10_000.0)];
    world.run(3 * SECOND, &sources);
    let mut refused = 0;
    for _ in 0..5 {
        world.run(200 * STEP, &sources);
        for serial in 0..2_000 {
            let newcomer = Newcomer { sender: stream(ip(201)), identity: 1 << 40 | serial, urgent: false };
            match world.overload.admit(world.now, newcomer) {
                Verdict::Admit { line } => world.queue.push(line, (world.now, line)),
                Verdict::Refuse { .. } => refused += 1,
                Verdict::Full { .. } => {}
                Verdict::Drop => panic!("nobody repeats it"),
            }
        }
    }
    assert!(refused > 500, "however many refusals there are: {refused}");
    // Where no room is left it waits outside.
    let mut overload = Overload::new(OverloadSettings::default(), world.now);
    let verdicts = (0..10_000).map(|identity| {
        overload.admit(world.now, Newcomer { sender: stream(ip(201)), identity, urgent: false })
    });
    let full = verdicts.filter(|verdict| *verdict == Verdict::Full { stranger: true }).count();
    assert_eq!(full, 10_000 - 512);
}

#[test]
fn datagrams_forged_in_a_trunks_name_take_nothing_from_its_streams() {
    for seed in 0..5 {
        let mut world = World::new(seed, 1_000.0);
        let sources = [(1, 500.0), (2, 20_000.0)];
        world.run(3 * SECOND, &sources);
        let (mut let_in, mut all) = (0, 0);
        for _ in 0..500 {
            // Forged datagrams of trunk 2, and its own calls by TLS.
            world.run(20 * STEP, &sources);
            let newcomer = Newcomer { sender: stream(ip(2)), ..world.newcomer(ip(2)) };
            all += 1;
            if let Verdict::Admit { line } = world.overload.admit(world.now, newcomer) {
                let_in += 1;
                world.queue.push(line, (world.now, line));
            }
        }
        assert!(let_in * 100 >= all * 99, "{let_in} of {all}");
    }
}

#[test]
fn all_addresses_of_a_trunks_network_are_one_source() {
    for seed in 0..5 {
        let mut world = World::new(seed, 1_750.0);
        let sources = [(1, 1_200.0), (200, 17_500.0)];
        let forge = |world: &mut World, source: u8| match source {
            200 => IpAddr::from([203, 0, 113, world.random.octet()]),
            known => ip(known),
        };
        world.run_from(SECOND, &sources, forge);
        let fates = world.run_from(10 * SECOND, &sources, forge);
        assert!(part(&fates[&1]) >= 0.99, "{fates:?}");
        assert!(world.overload.sources.len() <= 2, "{}", world.overload.sources.len());
    }
}

#[test]
fn whoever_behaves_waits_for_nobody_elses_calls() {
    for (seed, runaway) in [(0, 4_000.0), (1, 10_000.0), (2, 50_000.0)] {
        // Refusals of a runaway trunk's calls cost so little that its fair share is large.
        let mut world = World::new(seed, 4_500.0);
        let fates = world.run(10 * SECOND, &[(1, 800.0), (2, runaway), (200, 1_000.0)]);
        assert_eq!(fates[&1].admitted, fates[&1].offered, "{fates:?}");
        assert!(world.longest_wait_of_one < 10 * STEP, "{:?}", world.longest_wait_of_one);
    }
}

#[test]
fn many_that_wait_a_little_are_behind_together() {
    let mut world = World::new(9, 1_000.0);
    let all: Vec<(u8, f64)> = (0..16).map(|source| (source, 90.0)).collect();
    world.run(5 * SECOND, &all);
    assert!(world.overload.level().is_some(), "{} wait", world.overload.waiting);
    assert!(world.longest_wait < Duration::from_millis(500), "{:?}", world.longest_wait);
}

#[test]
fn a_crowd_that_brings_one_each_is_an_overload_too() {
    let mut world = World::new(10, 1_000.0);
    for user in 0..4_000_u32 {
        let address = IpAddr::from((0x0a00_0000 + user).to_be_bytes());
        world.overload.set_user(world.now, address, world.now + 60 * SECOND);
    }
    world.run_from(SECOND, &[(0, 3_000.0)], |world, _| {
        IpAddr::from((0x0a00_0000 + world.serial as u32).to_be_bytes())
    });
    assert!(world.overload.level().is_some(), "{} wait", world.overload.waiting);
}

#[test]
fn a_line_that_is_full_leaves_room_for_others() {
    let mut world = World::new(7, 0.0);
    let fates = world.run(50 * STEP, &[(1, 100_000.0)]);
    assert_eq!(fates[&1].admitted, 820);
    let fates = world.run(50 * STEP, &[(2, 100_000.0), (3, 500.0)]);
    assert_eq!(fates[&3].admitted, fates[&3].offered, "{fates:?}");
    // What waits in a line is remembered however long nothing is limited.
    world.capacity = 100_000.0;
    world.run(SECOND, &[]);
    world.overload.look_at_time(world.now);
    assert_eq!((world.overload.waiting, world.overload.sources.len()), (0, 0));
}

#[test]
fn strangers_fill_half_of_the_room_and_leave_the_rest() {
    let mut world = World::new(7, 0.0);
    let fates = world.run(50 * STEP, &[(200, 100_000.0)]);
    assert_eq!(fates[&200].admitted, 512, "{fates:?}");
    let fates = world.run(50 * STEP, &[(1, 2_000.0)]);
    assert_eq!(fates[&1].admitted, fates[&1].offered);
}

#[test]
fn what_was_let_in_before_anything_was_limited_may_be_repeated() {
    let mut world = World::new(8, 1_000.0);
    // A burst fills the queue, and then the gateway falls behind.
    world.capacity = 0.0;
    world.run(50 * STEP, &[(1, 2_000.0)]);
    let early = world.newcomer(ip(2));
    let Verdict::Admit { line } = world.overload.admit(world.now, early) else { panic!("there is room") };
    world.queue.push(line, (world.now, line));
    world.capacity = 200.0;
    world.run(500 * STEP, &[(2, 20_000.0)]);
    assert!(world.overload.level().is_some());
    while !world.overload.has_room(line, false) {
        world.run(STEP, &[]);
    }
    assert!(is_in(world.overload.admit(world.now, early)), "its call is about to begin");
    let refused = (0..100).filter(|_| {
        let another = world.newcomer(ip(2));
        !is_in(world.overload.admit(world.now, another))
    });
    assert!(refused.count() > 50);
}

#[test]
fn users_and_proven_streams_are_known_as_long_as_they_last() {
    let now = Instant::now();
    let mut overload = Overload::new(OverloadSettings { capacity: 2, ..OverloadSettings::default() }, now);
    for (last, until) in [(1, 10), (2, 20), (3, 10)] {
        overload.set_user(now, ip(last), now + until * SECOND);
    }
    let known = |overload: &Overload, seconds: u32, last: u8| {
        overload.is_known(now + seconds * SECOND, datagram(ip(last)))
    };
    assert!(known(&overload, 9, 1) && !known(&overload, 10, 1) && known(&overload, 19, 2));
    assert!(!known(&overload, 0, 3), "no memory is left");
    // One that is there is renewed though nothing is free.
    overload.set_user(now, ip(1), now + 100 * SECOND);
    assert!(known(&overload, 99, 1));
    // All are looked through once a minute at most.
    overload.set_user(now + 30 * SECOND, ip(3), now + 90 * SECOND);
    assert!(!known(&overload, 30, 3));
    overload.set_user(now + 60 * SECOND, ip(3), now + 90 * SECOND);
    assert!(known(&overload, 60, 3));
    // A certificate that was asked for is known however long its stream lasts.
    let proven = Sender { proven: true, ..stream(ip(99)) };
    assert!(overload.is_known(now + 1_000_000 * SECOND, proven));
    assert!(!overload.is_known(now, stream(ip(99))));
}

proptest::proptest! {
    #[test]
    fn shares_fill_the_budget_and_are_fair(
        budget in 1.0f64..1e5,
        demands in proptest::collection::vec((0.0f64..1e5, 0.02f64..1.0), 1..50),
    ) {
        let demands = demands.into_iter().map(|(rate, weight)| Demand { rate, weight });
        let level = level::level(budget, demands.clone());
        let wanted: f64 = demands.clone().map(|demand| demand.rate).sum();
        let given: f64 = demands.map(|demand| demand.rate.min(demand.weight * level)).sum();
        proptest::prop_assert!((given - wanted.min(budget)).abs() < 1e-6 * budget.max(wanted));
    }
}
