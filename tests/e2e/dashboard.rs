//! Every panel of the dashboard, asked of a real Prometheus that watched a mix of calls whose figures the peers know.

mod expected;
mod mix;

use crate::metrics::{
    Outside, Seen, between, certificate_end, drown_log, output, talkative, wait_round_trip,
};
use crate::scene::operator;
use crate::support::{
    baresip::Baresip,
    dashboard,
    gateway::Gateway,
    lane::Lane,
    postgres::Postgres,
    prometheus::{Prometheus, Series},
    rtp::RtpSocket,
    sipp::{RunningSipp, Sipp},
    tls::Authority,
    trace::TracedMessage,
    wait,
};
use expected::{CALLS, Moment, Truth, WINDOW};
use mix::{Operators, Wires};
use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

#[test]
fn every_panel_shows_what_the_peers_of_a_mix_of_calls_know() {
    let lane = Lane::take("dashboard");
    let at_operators = Lane::take("dashboard-operators");
    let at_callers = Lane::take("dashboard-callers");
    let mut database = Postgres::start(&lane);
    let mut operators = Operators::start(&at_operators, &lane);
    let builder = Gateway::on(&lane).tls(&Authority::new("Tandem tests")).set("database.url", database.url());
    let wires = Wires::start(&lane, builder.udp(), &operators);
    let mut gateway = mix::configure(builder, &operators, &wires).start();
    // A second one has nothing to do but lose log lines.
    let other = talkative(Gateway::on(&at_operators)).start_unread();

    let rules = dashboard::folder().join("prometheus/rules.yaml");
    let prometheus = Prometheus::start(&lane, &[gateway.admin(), other.admin()], &[&rules]);
    // A counter's growth is seen from its first sample on.
    prometheus.wait_value("count(tandem_build_info)", |gateways| gateways == 2.0);
    let watched_us = micros_now();
    prometheus.wait_value("min(count_over_time(tandem_build_info[5m]))", |count| count >= 2.0);
    let mut bob = Baresip::on(&lane, "bob").registers(wires.bob.address(), "udp").start();
    let carols = at_operators.port();
    let mut played = vec![Sipp::register(&at_callers, gateway.udp(), "carol", carols)];
    let carol = operator(&at_operators, "user-answers").at_port(carols).start();
    gateway.wait_metric("tandem_trunk_up", &[("trunk", "ill")], 0.0);

    // The calls. The database is away while they run.
    database.stop();
    let (noise, lost_lines) = drown_log(&at_operators, &other);
    bob.dial(mix::LINE);
    bob.wait_event("CALL_ESTABLISHED");
    let bob_answered = Instant::now();
    let stranger = RtpSocket::new(&at_operators);
    let trunk_side = wires.line.call().gateway.expect("the gateway offered its media");
    for count in 0..10 {
        stranger.send(trunk_side, 8, count, 160, &[0x2a; 160]);
    }
    played.extend(mix::call_everybody(&at_callers, &gateway, &operators, &wires));
    let inbound = played.last().expect("carol's call").messages.clone();
    // The one that went on from the silent trunk still waits for a late answer there, and is none any more.
    let talking = || gateway.calls().iter().filter(|call| call["state"] == "answered").count();
    wait::until("bob's to be the only call", wait::SOON, || (talking() == 1).then_some(()));
    wait_scrape(&prometheus);
    let waited = bob_answered.elapsed().as_secs_f64();
    let mut answers = Answers::new();
    ask(&prometheus, Moment::Live, &mut answers);

    wait_round_trip(&wires.bob);
    wait_round_trip(&wires.line);
    wait::talk(Duration::from_millis(11_500).saturating_sub(bob_answered.elapsed()));
    wires.bob.silence_peer();
    wires.line.silence_peer();
    bob.hang_up();
    bob.wait_event("CALL_CLOSED");
    database.start_again();
    gateway.wait_metric_within(wait::START, "tandem_cdr_stored_total", &[], f64::from(CALLS));
    let cdrs = gateway.wait_cdrs(CALLS as usize);

    // What an operator does.
    gateway.change(|builder| builder.set("media.timeout_seconds", "soon"));
    assert_eq!(gateway.ask("POST", "/api/v1/reload", None).status, 422);
    gateway.ask("POST", "/api/v1/trunks/busy/block", None);
    gateway.ask("POST", "/api/v1/trunks/unknown/drain", None);
    gateway.ask("POST", "/api/v1/drain", None);
    wait_scrape(&prometheus);
    let watched_us = watched_us..=micros_now();
    ask(&prometheus, Moment::End, &mut answers);
    assert_choices_hold(&prometheus, &gateway.admin().to_string());

    // What the peers know.
    let mut logs: Vec<Vec<TracedMessage>> = vec![operators.silent.messages(), operators.ill.messages()];
    operators.silent.kill();
    operators.ill.kill();
    let lines_log = wires.line.messages();
    logs.extend([wires.bob.messages(), lines_log.clone()]);
    let Operators { answers: answering, busy, full, unknown, late, early, .. } = operators;
    let [answering, busy, full, unknown, late, early, carol] =
        [answering, busy, full, unknown, late, early, carol].map(RunningSipp::succeed);
    logs.extend(played.iter().map(|played| played.messages.clone()));
    logs.extend(
        [&answering, &busy, &full, &unknown, &late, &early, &carol].map(|peer| peer.messages.clone()),
    );
    // OPTIONS began before anybody watched, and go on while we count.
    logs.iter_mut().for_each(|log| log.retain(|message| watched_us.contains(&message.at_us)));
    let charged = |side: &str| {
        cdrs.iter().filter_map(|cdr| cdr[side]["amount"].as_str()?.parse::<f64>().ok()).sum::<f64>()
    };
    let truth = Truth {
        instance: gateway.admin().to_string(),
        other: other.admin().to_string(),
        durations: [
            ("answers", durations(&answering.messages)),
            ("late", durations(&late.messages)),
            ("early", durations(&early.messages)),
            ("inbound", vec![between(&inbound, received(200), sent("BYE"))]),
            ("line", durations(&lines_log)),
        ]
        .into(),
        setups: [
            ("answers", setups(&answering.messages)),
            ("busy", setups(&busy.messages)),
            ("late", setups(&late.messages)),
            ("early", setups(&early.messages)),
            ("line", setups(&lines_log)),
        ]
        .into(),
        waited,
        bob: wires.bob.call(),
        line: wires.line.call(),
        early: wires.early.call(),
        early_caller: wires.early_caller.call(),
        sold: charged("sell"),
        bought: charged("buy"),
        free_disk: free_disk(&gateway.folder().join("data/journal")),
        certificate_seconds: certificate_end(&gateway.folder().join("cert.pem")) - unix_now(),
        noise: noise as f64,
        lost_lines: lost_lines as f64,
        seen: Seen::by(&logs.iter().map(Vec::as_slice).collect::<Vec<_>>()),
        processes: [gateway.pid(), other.pid()].map(Outside::of),
    };
    judge(&truth, &answers);
}

/// What Prometheus answered to each query of the dashboard, by its place.
type Answers = BTreeMap<(Moment, usize), Vec<Series>>;

/// Compares each answer with its expectation; tells of all that differ, and of panels nobody expects anything of.
#[track_caller]
fn judge(truth: &Truth, answers: &Answers) {
    let mut expected = expected::panels(truth);
    let mut faults = Vec::new();
    let mut place: BTreeMap<String, usize> = BTreeMap::new();
    for (index, query) in dashboard::queries().iter().enumerate() {
        let nth = place.entry(query.panel.clone()).or_default();
        let Some((moment, expects)) = expected.get(query.panel.as_str()) else {
            faults.push(format!("{}: no expectation", query.panel));
            continue;
        };
        match expects.get(*nth) {
            Some(expect) => {
                let series = &answers[&(*moment, index)];
                if let Err(fault) = expect.check(series) {
                    faults.push(format!("{} (query {nth}): {fault}\n    {}", query.panel, query.written));
                }
            }
            None => faults.push(format!("{}: no expectation for query {nth}", query.panel)),
        }
        *nth += 1;
    }
    for (panel, asked) in place {
        let wanted = expected.remove(panel.as_str()).map_or(0, |(_, expects)| expects.len());
        if wanted > asked {
            faults.push(format!("{panel}: {wanted} expectations, {asked} queries"));
        }
    }
    faults.extend(expected.keys().map(|panel| format!("{panel}: expected and not on the dashboard")));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Asks every query of every panel now.
fn ask(prometheus: &Prometheus, moment: Moment, answers: &mut Answers) {
    for (index, query) in dashboard::queries().iter().enumerate() {
        answers.insert((moment, index), prometheus.query(&query.expression(WINDOW, WINDOW)));
    }
}

/// Who chooses a gateway and a trunk sees no other.
#[track_caller]
fn assert_choices_hold(prometheus: &Prometheus, instance: &str) {
    for query in dashboard::queries() {
        for series in prometheus.query(&query.selecting(WINDOW, WINDOW, instance, "line")) {
            let chosen = |label: &str, value: &str| ["", value].contains(&series.label(label));
            assert!(chosen("instance", instance) && chosen("trunk", "line"), "{}: {series:?}", query.panel);
        }
    }
}

/// Waits until both gateways have been scraped anew, and the rules evaluated behind that.
#[track_caller]
fn wait_scrape(prometheus: &Prometheus) {
    let begun = unix_now();
    prometheus.wait_value("min(timestamp(tandem_build_info))", |at| at > begun);
    let scraped = unix_now();
    prometheus.wait_value("min(timestamp(tandem:calls:rate6h))", |at| at > scraped);
}

fn micros_now() -> i64 {
    (unix_now() * 1e6) as i64
}

fn unix_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

fn received(status: u16) -> impl Fn(&TracedMessage) -> bool {
    move |message| !message.sent && message.status() == Some(status)
}

fn received_request(method: &'static str) -> impl Fn(&TracedMessage) -> bool {
    move |message| !message.sent && message.method() == Some(method)
}

fn sent(method: &'static str) -> impl Fn(&TracedMessage) -> bool {
    move |message| message.sent && message.method() == Some(method)
}

/// A sign that the callee is rung, as far as post-dial delay goes.
fn rings(message: &TracedMessage) -> bool {
    let signs = matches!(message.status(), Some(180 | 183 | 200));
    message.sent && signs && message.header("CSeq").is_some_and(|cseq| cseq.ends_with("INVITE"))
}

/// The calls in an operator's log, by their Call-ID.
fn calls(log: &[TracedMessage]) -> Vec<Vec<TracedMessage>> {
    let mut calls: BTreeMap<String, Vec<TracedMessage>> = BTreeMap::new();
    for message in
        log.iter().filter(|message| !message.header("CSeq").is_some_and(|cseq| cseq.ends_with("OPTIONS")))
    {
        let id = message.header("Call-ID").unwrap_or_default().to_owned();
        calls.entry(id).or_default().push(message.clone());
    }
    calls.into_values().collect()
}

/// INVITE to ringing or answer of each call of an operator's log, in seconds.
fn setups(log: &[TracedMessage]) -> Vec<f64> {
    calls(log).iter().map(|call| between(call, received_request("INVITE"), rings)).collect()
}

/// Answer to the far end's BYE of each call of an operator's log.
fn durations(log: &[TracedMessage]) -> Vec<f64> {
    calls(log).iter().map(|call| between(call, answers, received_request("BYE"))).collect()
}

fn answers(message: &TracedMessage) -> bool {
    message.status() == Some(200) && rings(message)
}

/// The share of a disk that df finds free.
fn free_disk(folder: &Path) -> f64 {
    let df = output("df", &["-B1", "--output=size,avail", &folder.display().to_string()]);
    let bytes = df.lines().last().unwrap_or_default().split_whitespace();
    let bytes: Vec<f64> = bytes.map(|number| number.parse().expect("bytes")).collect();
    bytes[1] / bytes[0]
}
