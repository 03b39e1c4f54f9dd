//! Sources, a gateway that takes so many new requests a second, and a queue between them, in virtual time.

use super::*;
use std::collections::{BTreeMap, VecDeque};

const STEP: Duration = Duration::from_millis(1);

fn ip(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
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
    queue: VecDeque<Instant>,
    serial: u64,
    longest_wait: Duration,
}

impl World {
    fn new(seed: u64, capacity: f64) -> World {
        let now = Instant::now();
        let mut overload = Overload::new(OverloadSettings::default(), now);
        overload.set_trunks(vec!["192.0.2.0/28".parse().unwrap()]);
        World {
            overload,
            now,
            random: Random(seed * 2 + 1),
            capacity,
            credit: 0.0,
            queue: VecDeque::new(),
            serial: 0,
            longest_wait: Duration::ZERO,
        }
    }

    fn newcomer(&mut self, source: IpAddr) -> Newcomer {
        self.serial += 1;
        Newcomer { source, identity: self.serial, urgent: false }
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
        self.longest_wait = Duration::ZERO;
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
                        Verdict::Admit => {
                            fate.admitted += 1;
                            self.queue.push_back(self.now);
                        }
                        Verdict::Refuse { .. } => fate.refused += 1,
                        Verdict::Drop => fate.dropped += 1,
                    }
                }
            }
            self.credit = (self.credit + self.capacity * STEP.as_secs_f64()).min(64.0);
            while self.credit >= 1.0 {
                self.credit -= 1.0;
                let Some(came) = self.queue.pop_front() else { continue };
                let waited = self.now - came;
                self.longest_wait = self.longest_wait.max(waited);
                self.overload.handled(self.now, waited);
                self.overload.left();
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
        // What it leaves of the gateway the other may have, but messages wait no longer for it.
        assert!(world.longest_wait < Duration::from_millis(200), "{:?}", world.longest_wait);
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
    while world.overload.admit(world.now, first) != Verdict::Admit {
        world.run(100 * STEP, &[(1, 600.0)]);
        first = world.newcomer(ip(2));
    }
    world.run(SECOND, &[(1, 400.0), (2, 20_000.0)]);
    let repeated = (0..1_000).map(|_| world.overload.admit(world.now, first)).collect::<Vec<_>>();
    assert!(repeated[..7].iter().all(|verdict| *verdict == Verdict::Admit));
    assert!(repeated.iter().filter(|verdict| **verdict == Verdict::Admit).count() < 100);
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
            world.overload.admit(world.now, newcomer) == Verdict::Admit
        };
        assert!((0..5).all(|_| helped(&mut world)));
    }
    let flood = (0..1_000).filter(|serial| {
        let newcomer = Newcomer { source: ip(2), identity: 1 << 40 | serial, urgent: true };
        world.overload.admit(world.now, newcomer) == Verdict::Admit
    });
    assert!(flood.count() <= 30);
}

#[test]
fn a_muted_source_is_heard_again_when_its_time_is_over() {
    let now = Instant::now();
    let mut overload = Overload::new(OverloadSettings { capacity: 2, ..OverloadSettings::default() }, now);
    assert!(!overload.is_muted(now, ip(1)));
    overload.mute(now, ip(1), now + SECOND);
    assert!(overload.is_muted(now + 999 * STEP, ip(1)));
    assert!(overload.is_muted(now, "::ffff:192.0.2.1".parse().unwrap()), "in whatever form it is written");
    assert!(!overload.is_muted(now, ip(2)));
    assert!(!overload.is_muted(now + SECOND, ip(1)));
    let six = "2001:db8::1".parse().unwrap();
    overload.mute(now, six, now + SECOND);
    assert!(overload.is_muted(now, "2001:db8::2".parse().unwrap()), "whoever has one has the /64");
    // Memory is bounded, and what is over makes room.
    overload.mute(now, ip(3), now + SECOND);
    overload.mute(now, ip(4), now + SECOND);
    assert!(!overload.is_muted(now, ip(4)));
    overload.mute(now + SECOND, ip(4), now + 2 * SECOND);
    assert!(overload.is_muted(now + SECOND, ip(4)));
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
