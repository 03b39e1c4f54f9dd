//! What each panel of the dashboard has to show after the mix of calls, from what their peers know.

use crate::metrics::{Outside, Seen};
use crate::support::{prometheus::Series, wire::Tallies};
use std::collections::{BTreeMap, BTreeSet};

/// Longer than the whole test, so that each rate and increase covers all of it.
pub const WINDOW: &str = "5m";
const WINDOW_SECONDS: f64 = 300.0;
/// Prometheus stretches what it saw between the outer samples to where it thinks the series begins and ends: by a
/// scrape interval at most, of at least twenty.
const STRETCH: f64 = 1.08;

/// Calls of the mix.
pub const CALLS: u32 = 14;
/// Records of thirteen calls that are over and of bob's, which is not: a start each, nine answers, thirteen ends.
const RECORDS: f64 = 14.0 + 9.0 + 13.0;

/// When a panel is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// One call goes on, all others are over, the database is away.
    Live,
    /// All calls are over and stored.
    End,
}

/// What is known without the gateway's metrics.
pub struct Truth {
    pub instance: String,
    pub other: String,
    /// Seconds of each answered call, by trunk.
    pub durations: BTreeMap<&'static str, Vec<f64>>,
    /// Seconds to ringing or answer, by trunk.
    pub setups: BTreeMap<&'static str, Vec<f64>>,
    /// Since bob's call began, whose record is the oldest, in seconds at the live moment.
    pub waited: f64,
    pub bob: Tallies,
    pub line: Tallies,
    pub early: Tallies,
    pub early_caller: Tallies,
    pub sold: f64,
    pub bought: f64,
    pub free_disk: f64,
    pub certificate_seconds: f64,
    pub noise: f64,
    pub lost_lines: f64,
    pub seen: Seen,
    pub processes: [Outside; 2],
}

/// What a query has to answer.
pub enum Expect {
    /// These series, and no other but of zeros. Labels as `trunk=line leg=app`.
    Series(Vec<(String, f64, f64)>),
    /// All series together.
    Sum(f64, f64),
}

impl Expect {
    pub fn check(&self, series: &[Series]) -> Result<(), String> {
        let within = |value: f64, low: f64, high: f64| {
            let grain = 1e-9 + 1e-6 * high.abs();
            (low - grain..=high + grain).contains(&value)
        };
        match self {
            Expect::Sum(low, high) => {
                let sum: f64 = series.iter().map(|series| series.value).sum();
                if within(sum, *low, *high) { Ok(()) } else { Err(format!("{sum} is not in {low}..{high}")) }
            }
            Expect::Series(wanted) => {
                let mut seen = BTreeSet::new();
                for (labels, low, high) in wanted {
                    let pairs: Vec<(&str, &str)> =
                        labels.split_whitespace().filter_map(|pair| pair.split_once('=')).collect();
                    let fits =
                        |series: &&Series| pairs.iter().all(|(name, value)| series.label(name) == *value);
                    let place = series.iter().position(|series| fits(&series));
                    let Some(place) = place else { return Err(format!("no {labels:?} in {series:?}")) };
                    seen.insert(place);
                    let value = series[place].value;
                    if !within(value, *low, *high) {
                        return Err(format!("{labels:?} is {value}, not in {low}..{high}"));
                    }
                }
                let more = series.iter().enumerate().filter(|(place, _)| !seen.contains(place));
                match more
                    .map(|(_, series)| series)
                    .find(|series| series.value != 0.0 && !series.value.is_nan())
                {
                    Some(series) => Err(format!("nobody expects {series:?}")),
                    None => Ok(()),
                }
            }
        }
    }
}

/// One series without labels, of exactly this value.
fn is(value: f64) -> Expect {
    between(value, value)
}

fn between(low: f64, high: f64) -> Expect {
    Expect::Series(vec![(String::new(), low, high)])
}

/// So many in the window.
fn counted(count: f64) -> Expect {
    between(count, count * STRETCH)
}

/// Series by one label, each of exactly this value.
fn exact(label: &str, values: &[(&str, f64)]) -> Expect {
    Expect::Series(values.iter().map(|(name, value)| (format!("{label}={name}"), *value, *value)).collect())
}

/// Series by one label, each so many in the window.
fn counts(label: &str, values: &[(&str, f64)]) -> Expect {
    let series = values.iter().map(|(name, value)| (format!("{label}={name}"), *value, value * STRETCH));
    Expect::Series(series.collect())
}

/// Series by labels, each a rate of so many in the window; `slack` may be missing.
fn rates(values: &[(&str, f64)], slack: f64) -> Expect {
    let rate = |(labels, count): &(&str, f64)| {
        let low = (count - slack).max(0.0) / WINDOW_SECONDS;
        ((*labels).to_owned(), low, (count + slack) * STRETCH / WINDOW_SECONDS)
    };
    Expect::Series(values.iter().map(rate).collect())
}

/// Quantiles of histograms with these bounds, whose buckets are those of the truth give or take `slack`.
fn quantiles(label: &str, truth: &BTreeMap<&'static str, Vec<f64>>, bounds: &[f64], slack: f64) -> Expect {
    let range = |values: &Vec<f64>| {
        let least = values.iter().copied().fold(f64::INFINITY, f64::min) - slack;
        let most = values.iter().copied().fold(0.0, f64::max) + slack;
        let low = bounds.iter().copied().filter(|bound| *bound < least).fold(0.0, f64::max);
        (low, bounds.iter().copied().find(|bound| *bound >= most).unwrap_or(f64::INFINITY))
    };
    let series = truth.iter().map(|(name, values)| {
        let (low, high) = range(values);
        (format!("{label}={name}"), low, high)
    });
    Expect::Series(series.collect())
}

/// What PromQL makes of a histogram that holds these values.
fn quantile(q: f64, values: &[f64], bounds: &[f64]) -> f64 {
    let rank = q * values.len() as f64;
    let below = |bound: f64| values.iter().filter(|value| **value <= bound).count() as f64;
    let place = bounds.iter().position(|bound| below(*bound) >= rank).expect("bounds above all values");
    let start = if place == 0 { 0.0 } else { bounds[place - 1] };
    let before = if place == 0 { 0.0 } else { below(start) };
    start + (bounds[place] - start) * (rank - before) / (below(bounds[place]) - before)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The bounds of `tandem_call_setup_seconds`, `tandem_call_duration_seconds` and `tandem_media_loss_ratio`.
const SETUP: [f64; 17] =
    [0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 30.0, 60.0];
const DURATION: [f64; 6] = [1.0, 5.0, 10.0, 30.0, 60.0, 120.0];
const LOSS: [f64; 7] = [0.0, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.03];

/// By title: when to ask, and what each query of the panel has to answer.
pub fn panels(truth: &Truth) -> BTreeMap<&'static str, (Moment, Vec<Expect>)> {
    let mut panels = BTreeMap::new();
    calls(truth, &mut panels);
    trunks(truth, &mut panels);
    quality(truth, &mut panels);
    records(truth, &mut panels);
    signalling(truth, &mut panels);
    panels
}

type Panels = BTreeMap<&'static str, (Moment, Vec<Expect>)>;

/// Sixteen attempts of fourteen calls: nine answered, two busy, two failed over, one each of a trunk without capacity
/// and no other, a wrong number, and no route.
fn calls(truth: &Truth, panels: &mut Panels) {
    use Moment::{End, Live};
    let mut add = |title, moment, expects| panels.insert(title, (moment, expects));
    // One call failed through a trunk's fault.
    let burn = 1.0 / f64::from(CALLS) / 0.001;
    add("Live calls", Live, vec![is(1.0)]);
    add("Trunks up", End, vec![is(9.0 / 10.0)]);
    add("Contacts registered", End, vec![is(2.0)]);
    add("Draining", End, vec![is(1.0)]);
    add("Answered", End, vec![is(9.0 / 16.0)]);
    add("Set-up error budget burn", End, vec![is(burn)]);
    add("Live calls by direction", Live, vec![exact("direction", &[("app_to_trunk", 1.0)])]);
    let directions = [("direction=app_to_trunk", 15.0), ("direction=trunk_to_app", 1.0)];
    add("New attempts", End, vec![rates(&directions, 0.0)]);
    let outcomes = [
        ("outcome=answered", 9.0),
        ("outcome=busy", 2.0),
        ("outcome=congestion", 2.0),
        ("outcome=trunk_failure", 1.0),
        ("outcome=not_found", 1.0),
        ("outcome=no_route", 1.0),
    ];
    add("Ends by outcome", End, vec![rates(&outcomes, 0.0)]);
    add("Answer-seizure ratio", End, vec![exact("trunk", &ASR)]);
    add("Network effectiveness ratio", End, vec![exact("trunk", &NER)]);
    let setups = || quantiles("trunk", &truth.setups, &SETUP, 0.1);
    add("Post-dial delay", End, vec![setups(), setups()]);
    let average = truth
        .durations
        .iter()
        .map(|(trunk, calls)| (format!("trunk={trunk}"), mean(calls) - 0.5, mean(calls) + 0.5));
    add("Average call duration", End, vec![Expect::Series(average.collect())]);
    let all: Vec<f64> = truth.durations.values().flatten().copied().collect();
    let spread = [0.5, 0.9, 0.99].map(|q| is(quantile(q, &all, &DURATION)));
    add("Call duration", End, spread.into());
    add("Error budget burn", End, ["5m", "30m", "1h", "6h"].map(|_| is(burn)).into());
}

const ASR: [(&str, f64); 9] = [
    ("answers", 1.0),
    ("busy", 0.0),
    ("full", 0.0),
    ("unknown", 0.0),
    ("late", 1.0),
    ("early", 1.0),
    ("silent", 0.0),
    ("line", 1.0),
    ("inbound", 1.0),
];
const NER: [(&str, f64); 9] = [
    ("answers", 1.0),
    ("busy", 1.0),
    ("full", 0.0),
    ("unknown", 0.0),
    ("late", 1.0),
    ("early", 1.0),
    ("silent", 0.0),
    ("line", 1.0),
    ("inbound", 1.0),
];

fn trunks(truth: &Truth, panels: &mut Panels) {
    use Moment::{End, Live};
    let mut add = |title, moment, expects| panels.insert(title, (moment, expects));
    let up = ASR.map(|(trunk, _)| (trunk, 1.0));
    add("Trunk state", End, vec![exact("trunk", &up)]);
    add("Held back", End, vec![exact("trunk", &[("busy", 1.0), ("unknown", 2.0)])]);
    // One of four.
    add("Channels in use", Live, vec![exact("trunk", &[("line", 0.25)])]);
    add(
        "OPTIONS round trip",
        End,
        vec![Expect::Series(vec![("trunk=line".to_owned(), 1e-6, 0.2), ("trunk=ill".to_owned(), 1e-6, 0.2)])],
    );
    let failovers = [("trunk=full outcome=congestion", 1.0), ("trunk=silent outcome=trunk_failure", 1.0)];
    add("Fail-overs", End, vec![rates(&failovers, 0.0)]);
    // Nobody signs here: e2e::stir moves what these count.
    add("Callers checked", End, vec![rates(&[], 0.0)]);
    add("Callers signed", End, vec![rates(&[], 0.0)]);
    let help = ("trunk=late outcome=answered".to_owned(), 1.0, STRETCH);
    add("Calls for help", End, vec![Expect::Series(vec![help])]);
    let attempts = [
        ("answers", 5.0),
        ("busy", 2.0),
        ("full", 2.0),
        ("unknown", 1.0),
        ("late", 1.0),
        ("early", 1.0),
        ("silent", 1.0),
        ("line", 1.0),
        ("inbound", 1.0),
    ];
    add(
        "Trunks over the time shown",
        End,
        vec![
            counts("trunk", &attempts),
            exact("trunk", &ASR),
            exact("trunk", &NER),
            quantiles("trunk", &truth.setups, &SETUP, 0.1),
            Expect::Series(vec![("trunk=line".to_owned(), 4.0, 4.5), ("trunk=early".to_owned(), 4.0, 4.5)]),
            counts("trunk", &[("early", 1.0)]),
            counts("trunk", &[("full", 1.0), ("silent", 1.0)]),
        ],
    );
}

/// Two calls had media: bob's to the line, heard both ways, and the announcement of `early`, heard by one side.
fn quality(truth: &Truth, panels: &mut Panels) {
    use Moment::{End, Live};
    let mut add = |title, moment, expects| panels.insert(title, (moment, expects));
    let legs = |app: (f64, f64), trunk: (f64, f64)| {
        let series = [("leg=app", app), ("leg=trunk", trunk)];
        Expect::Series(series.map(|(leg, (low, high))| (leg.to_owned(), low, high)).into())
    };
    let good = || legs((4.0, 4.5), (4.0, 4.5));
    add("Listening quality", End, vec![good(), good()]);
    add("Conversational quality", End, vec![good(), good()]);
    let heard = |wire: &Tallies| (wire.to_gateway.delivered - wire.to_gateway.doubled.len() as u64) as f64;
    let lost = truth.bob.to_gateway.dropped.len() as f64;
    let ratio = quantile(0.95, &[lost / (lost + heard(&truth.bob))], &LOSS);
    add("Loss", End, vec![legs((ratio, ratio), (0.0, 0.0))]);
    add("Jitter", End, vec![legs((0.002, 0.03), (0.0, 0.03))]);
    // Twice 20 ms on the wire, and nothing on the other.
    add("Round trip", End, vec![legs((0.02, 0.2), (1e-6, 0.15))]);
    let one_way = exact("trunk", &[("early", 1.0), ("answers", 0.0), ("line", 0.0)]);
    add("One-way audio", End, vec![one_way]);
    add("Measured on both legs", End, vec![is(1.0 / 9.0)]);
    // What redundancy gave back depends on the phone.
    add("Loss after repair", End, vec![legs((0.0, ratio), (0.0, 0.0))]);
    add("Silent audio", End, vec![exact("trunk", &[])]);
    let by_trunk = |names: &[&str], low: f64, high: f64| {
        Expect::Series(names.iter().map(|name| (format!("trunk={name}"), low, high)).collect())
    };
    let heard_of = ["line", "early"];
    add("Listening quality by trunk", End, vec![by_trunk(&heard_of, 4.0, 4.5)]);
    add(
        "Quality by trunk over the time shown",
        End,
        vec![
            by_trunk(&heard_of, 4.0, 4.5),
            by_trunk(&["line"], 4.0, 4.5),
            by_trunk(&heard_of, 0.0, 0.0),
            by_trunk(&heard_of, 0.0, 0.0),
            by_trunk(&heard_of, 0.0, 0.02),
            exact("trunk", &[("early", 1.0)]),
            exact("trunk", &[]),
            exact("trunk", &[("line", 1.0)]),
        ],
    );
    let packets = [
        ("leg=app flow=received", heard(&truth.bob) + heard(&truth.early_caller)),
        ("leg=app flow=sent", (truth.bob.to_peer.seen + truth.early_caller.to_peer.seen) as f64),
        ("leg=trunk flow=received", heard(&truth.line) + heard(&truth.early)),
        ("leg=trunk flow=sent", (truth.line.to_peer.seen + truth.early.to_peer.seen) as f64),
    ];
    // The announcement still plays when its call ends.
    add("Packets", End, vec![rates(&packets, 15.0)]);
    add(
        "Lost, late, discarded",
        End,
        vec![rates(&[("leg=app", lost)], 0.0), rates(&[], 0.0), rates(&[("leg=trunk", 10.0)], 0.0)],
    );
    add(
        "Losses made up for",
        End,
        vec![Expect::Sum(lost / WINDOW_SECONDS, (lost + 10.0) * STRETCH / WINDOW_SECONDS)],
    );
    add("Added latency", End, vec![between(1e-6, 0.02), between(1e-6, 0.1)]);
    // Fifty pairs each, of which bob's call has two.
    add("Media ports", Live, vec![is(98.0), is(100.0), is(0.0), is(0.0)]);
}

fn records(truth: &Truth, panels: &mut Panels) {
    use Moment::{End, Live};
    let mut add = |title, moment, expects| panels.insert(title, (moment, expects));
    let instance =
        |low: f64, high: f64| Expect::Series(vec![(format!("instance={}", truth.instance), low, high)]);
    add("CDRs waiting", Live, vec![is(RECORDS)]);
    add("Database", Live, vec![is(0.0)]);
    add("Journal depth", Live, vec![instance(RECORDS, RECORDS)]);
    add("Journal age", Live, vec![instance(truth.waited - 6.0, truth.waited + 2.0)]);
    add(
        "CDRs stored",
        End,
        vec![instance(f64::from(CALLS) / WINDOW_SECONDS, f64::from(CALLS) * STRETCH / WINDOW_SECONDS)],
    );
    let room = (truth.free_disk - 0.02, truth.free_disk + 0.02);
    let both = [&truth.instance, &truth.other].map(|name| (format!("instance={name}"), room.0, room.1));
    add("Journal disk", End, vec![Expect::Series(both.into())]);
    let hourly = 3_600.0 / WINDOW_SECONDS;
    add(
        "Charges",
        End,
        vec![Expect::Series(vec![
            ("side=sell currency=EUR".to_owned(), truth.sold * hourly, truth.sold * hourly * STRETCH),
            ("side=buy currency=EUR".to_owned(), truth.bought * hourly, truth.bought * hourly * STRETCH),
        ])],
    );
    add("Margin", End, vec![exact("currency", &[("EUR", truth.sold - truth.bought)])]);
    // All that were answered but bob's, which has a price, and carol's, who was called.
    add("Answered and not rated", End, vec![counted(7.0)]);
    add(
        "Certificate",
        End,
        vec![between(truth.certificate_seconds - 60.0, truth.certificate_seconds + 60.0)],
    );
    add("Reloads refused", End, vec![counted(1.0)]);
    add("Log lines dropped", End, vec![counted(truth.lost_lines)]);
}

fn signalling(truth: &Truth, panels: &mut Panels) {
    use Moment::End;
    let mut add = |title, moment, expects| panels.insert(title, (moment, expects));
    let rate = |labels: String, count: f64| {
        // OPTIONS went on before the first scrape and after the last one, for a second each.
        let slack = if labels.contains("OPTIONS") || labels.contains("class") { 5.0 } else { 0.0 };
        (labels, (count - slack) / WINDOW_SECONDS, (count + slack) * STRETCH / WINDOW_SECONDS)
    };
    let requests = truth.seen.requests.iter().map(|((method, received), count)| {
        let flow = if *received { "received" } else { "sent" };
        rate(format!("method={method} flow={flow}"), *count as f64)
    });
    add("Requests", End, vec![Expect::Series(requests.collect())]);
    let mut classes: BTreeMap<&str, u64> = BTreeMap::new();
    for ((class, _), count) in &truth.seen.responses {
        *classes.entry(class).or_default() += count;
    }
    let responses = classes.iter().map(|(class, count)| rate(format!("class={class}"), *count as f64));
    add("Responses", End, vec![Expect::Series(responses.collect())]);
    let repeated = truth.seen.repeated as f64;
    assert!(repeated >= 2.0, "the INVITE to the silent trunk");
    add(
        "Retransmissions and refusals",
        End,
        vec![
            rates(&[("", repeated)], 1.0),
            rates(&[("reason=malformed", truth.noise), ("reason=unauthenticated", 1.0)], 0.0),
        ],
    );
    let names = [&truth.instance, &truth.other];
    let processes = |of: fn(&Outside) -> f64, low: f64, high: f64| {
        let series = names
            .iter()
            .zip(&truth.processes)
            .map(|(name, process)| (format!("instance={name}"), low * of(process), high * of(process)));
        Expect::Series(series.collect())
    };
    let cpu = processes(|process| process.cpu_seconds / WINDOW_SECONDS, 0.3, 1.2);
    add("CPU", End, vec![cpu]);
    add("Memory", End, vec![processes(|process| process.resident_bytes, 0.8, 1.2)]);
    add("File descriptors", End, vec![processes(|process| process.files / process.most_files, 0.5, 1.5)]);
}
