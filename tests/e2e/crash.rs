//! Kills and restarts in the middle of calls: what SIPp's own message logs say against what the call records say.

use crate::scene::{BLINK, BOB};
use crate::support::{
    gateway::Gateway,
    lane::Lane,
    process::report,
    sipp::{RunningSipp, Sipp},
    trace::TracedMessage,
    wait,
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How the gateway ends in the middle of calls.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    /// `kill -9`.
    Kill,
    /// `kill -9`, and the last write to the journal is found half done.
    KillAndTear,
    /// SIGTERM twice: running calls are hung up.
    Stop,
}

const ROUNDS: [End; 5] = [End::Kill, End::KillAndTear, End::Stop, End::Kill, End::KillAndTear];
/// Fewer at an end, and the round proves nothing.
const LEAST_ALIVE: usize = 5;
/// A round goes on until so many calls have been hung up by their caller.
const LEAST_ENDED: usize = 4;

/// What the records may be off: 20 ms for calls that had ended, 1 s of shortness for those that had not.
const ALLOWANCE_MS: i64 = 20;
const LOST_MS: i64 = 1_000;
/// A peer that sends wakes the gateway, and on a busy machine loses its processor to it before it looks at its clock.
/// That may happen to some calls, never to most.
const PREEMPTED_MS: i64 = 500;

/// What SIPp knows of one call, in Unix microseconds.
#[derive(Debug, Default, Clone)]
struct Told {
    /// The device sent its 200, so the answer is not before this…
    answer_sent: Option<i64>,
    /// … and the caller had it by then.
    answer_came: Option<i64>,
    /// The caller sent its BYE…
    bye_sent: Option<i64>,
    /// … and had its answer.
    bye_answered: Option<i64>,
    /// The gateway hung up.
    bye_came: Option<i64>,
}

#[test]
fn no_answered_call_is_lost_or_counted_twice_when_the_gateway_is_killed() {
    let seed = std::env::var("TANDEM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(now_us);
    let mut random = seed as u64;
    let lane = Lane::take("crash");
    let announcement = crate::media::announcement(&lane);
    let (caller_port, device_port) = (lane.port(), lane.port());
    let numbers: Vec<toml::Value> =
        (0..ROUNDS.len()).flat_map(|round| (1..=99).map(move |call| number(round, call).into())).collect();
    let gateway = Gateway::on(&lane)
        .user_with("bob", BOB, |user| {
            user.set("dids", numbers).set("max_calls", 100);
        })
        .trunk("operator-a", ([127, 0, 0, 1], caller_port).into())
        .start();
    // Once for all rounds: a registration outlives the process that took it.
    Sipp::register(&lane, gateway.udp(), "bob", device_port);

    let (mut calls, mut ended, mut alive, mut short, mut preempted) = (0, 0, Vec::new(), 0, 0);
    for (round, end) in ROUNDS.into_iter().enumerate() {
        let mut device =
            Sipp::server(&lane, "user-answers").at_port(device_port).calls(99).pause(BLINK).start();
        let mut caller = Sipp::client(&lane, "operator-calls-and-speaks", gateway.udp())
            .at_port(caller_port)
            .number(&number(round, ""))
            .key("calling", &calling(round, ""))
            .fill("announcement", &announcement)
            .calls(99)
            .arg("-r")
            .arg("7")
            .start();
        wait::until("calls to come and go", wait::START, || {
            let told = ledger(round, &caller, &device);
            let over = told.values().filter(|call| call.bye_answered.is_some()).count();
            (over >= LEAST_ENDED && talking(&told, i64::MAX).len() >= LEAST_ALIVE + 2).then_some(())
        });
        wait::talk(Duration::from_millis(next(&mut random) % 700));

        let before = now_us();
        match end {
            End::Kill | End::KillAndTear => gateway.kill(),
            End::Stop => stop_at_once(&gateway),
        }
        let after = now_us();
        // What the gateway had sent by then is still in the sockets of the peers.
        wait::talk(BLINK);
        caller.kill();
        device.kill();
        let told = ledger(round, &caller, &device);
        let living = talking(&told, before);
        if end == End::KillAndTear {
            tear(&gateway.folder().join("data/journal"));
        }
        gateway.start_again();
        let records = records(&gateway, round);
        for (number, call) in told.iter().filter(|(_, call)| call.answer_came.is_some()) {
            let found = records.get(number).map(Vec::as_slice).unwrap_or_default();
            assert_eq!(found.len(), 1, "seed {seed}: {number} {call:?} has {found:#?}");
            let off = judge(end, call, &found[0], before, after)
                .unwrap_or_else(|wrong| panic!("seed {seed}, {end:?}: {wrong}\n{call:?}\n{:#}", found[0]));
            calls += 1;
            preempted += usize::from(off > ALLOWANCE_MS);
            if let (true, Some(came)) = (living.contains(&number), call.answer_came) {
                short = short.max((before - came) / 1_000 - found[0]["duration_ms"].as_i64().unwrap_or(0));
            }
        }
        for (number, found) in &records {
            assert_eq!(found.len(), 1, "seed {seed}: {number} has {found:#?}");
        }
        ended += told.values().filter(|call| call.bye_answered.is_some()).count();
        alive.push(living.len());
    }
    report(&format!(
        "seed {seed}: {calls} answered calls, {ended} of them hung up by their caller; {} kills and restarts ({ROUNDS:?}), calls alive at each: {alive:?}, the shortest record {short} ms short, {preempted} calls off by more than {ALLOWANCE_MS} ms",
        ROUNDS.len()
    ));
    assert!(
        preempted * 2 < calls,
        "seed {seed}: {preempted} of {calls} calls are off by more than {ALLOWANCE_MS} ms"
    );
    assert!(alive.iter().all(|alive| *alive >= LEAST_ALIVE), "seed {seed}: too few calls alive: {alive:?}");
    assert!(ended >= ROUNDS.len() * LEAST_ENDED, "seed {seed}: too few calls ended: {ended}");
}

/// Compares a record with what the peers logged; gives by how many milliseconds it is off.
fn judge(end: End, call: &Told, record: &Value, before: i64, after: i64) -> Result<i64, String> {
    let told = |at: Option<i64>, what: &str| at.ok_or_else(|| format!("the peers tell no {what}"));
    let duration = record["duration_ms"].as_i64().ok_or("no duration")?;
    let (sent, came) = (told(call.answer_sent, "sending of the answer")?, told(call.answer_came, "answer")?);
    // The gateway's answer lies between the two, and so does its end of the call between the two of the end.
    let (least, most, cause) = match (call.bye_sent, call.bye_answered, call.bye_came) {
        (Some(bye), Some(answered), None) => {
            (bye - came, answered - sent, Some(("final", "normal_clearing")))
        }
        (None, _, Some(bye)) if end == End::Stop => (before - came, bye - sent, Some(("final", "drained"))),
        (None, _, None) if end != End::Stop => {
            (before - came - LOST_MS * 1_000, after - sent, Some(("recovered", "gateway_crashed")))
        }
        // Its BYE and the end of the process crossed: either may have been first.
        (Some(_), ..) => (before - came - LOST_MS * 1_000, after - sent, None),
        _ => return Err("it was neither hung up nor alive".to_owned()),
    };
    let (least, most) = (least / 1_000, most / 1_000);
    let off = (least - duration).max(duration - most).max(0);
    if off > ALLOWANCE_MS + PREEMPTED_MS {
        return Err(format!("duration {duration} ms is not within {least} and {most} ms"));
    }
    if let Some((state, cause)) = cause
        && (record["state"] != state || record["end_cause"] != cause)
    {
        return Err(format!("not {state} with {cause}"));
    }
    Ok(off)
}

/// What the logs of both peers say, by called number.
fn ledger(round: usize, caller: &RunningSipp, device: &RunningSipp) -> BTreeMap<String, Told> {
    let mut calls: BTreeMap<String, Told> = BTreeMap::new();
    let first = |place: &mut Option<i64>, at| {
        place.get_or_insert(at);
    };
    for message in caller.messages() {
        // In the gateway's BYE the parties have changed sides.
        let theirs = !message.sent && message.method().is_some();
        let called = message.header(if theirs { "From" } else { "To" }).and_then(user);
        let Some(called) = called.filter(|called| called.starts_with(&number(round, ""))) else { continue };
        let call = calls.entry(called.to_owned()).or_default();
        match (message.sent, message.method(), message.status(), about(&message)) {
            (false, None, Some(200), "INVITE") => first(&mut call.answer_came, message.at_us),
            (true, Some("BYE"), ..) => first(&mut call.bye_sent, message.at_us),
            (false, None, Some(200), "BYE") => first(&mut call.bye_answered, message.at_us),
            (false, Some("BYE"), ..) => first(&mut call.bye_came, message.at_us),
            _ => {}
        }
    }
    for message in device.messages() {
        if message.sent && message.status() == Some(200) && about(&message) == "INVITE" {
            let caller = message.header("From").and_then(user).unwrap_or_default();
            let Some(call) = caller.strip_prefix(&calling(round, "")) else { continue };
            if let Some(told) = calls.get_mut(&number(round, call)) {
                first(&mut told.answer_sent, message.at_us);
            }
        }
    }
    calls
}

/// Calls that both peers knew as answered at that moment, and that nobody had hung up.
fn talking(told: &BTreeMap<String, Told>, at: i64) -> Vec<&String> {
    let before = |moment: Option<i64>| moment.is_some_and(|moment| moment < at);
    let lives = |call: &Told| before(call.answer_came) && !before(call.bye_sent) && !before(call.bye_came);
    told.iter().filter(|(_, call)| lives(call)).map(|(number, _)| number).collect()
}

/// The call records of a round in the database, by called number, once the journal has given away all it had.
fn records(gateway: &Gateway<'_>, round: usize) -> BTreeMap<String, Vec<Value>> {
    gateway.wait_metric("tandem_cdr_journal_records", &[], 0.0);
    let mut found: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for cdr in gateway.list("/api/v1/cdrs?limit=1000", "cdrs") {
        let called = cdr["dialled"].as_str().unwrap_or_default().to_owned();
        if called.starts_with(&number(round, "")) {
            found.entry(called).or_default().push(cdr);
        }
    }
    found
}

/// Drains the gateway and has no patience.
fn stop_at_once(gateway: &Gateway<'_>) {
    gateway.signal(libc::SIGTERM);
    gateway.wait_log("draining", wait::SOON);
    gateway.signal(libc::SIGTERM);
    assert!(gateway.wait_exit(wait::SOON).success());
}

/// Leaves behind the last record what a crash of the machine leaves of a write: its beginning.
fn tear(journal: &Path) {
    let segments = std::fs::read_dir(journal).expect("a journal").flatten().map(|entry| entry.path());
    let mut segments: Vec<_> = segments
        .filter(|path| path.extension().is_some_and(|kind| kind == "segment"))
        .map(|path| (std::fs::read(&path).expect("a segment"), path))
        .filter(|(bytes, _)| bytes[64..].iter().any(|byte| *byte != 0))
        .collect();
    segments.sort_by(|a, b| a.1.cmp(&b.1));
    let (mut bytes, path) = segments.pop().expect("a segment with a record");
    // The end of the last record; it may end with padding, so up to the next multiple of 8.
    let last = bytes.iter().rposition(|byte| *byte != 0).expect("a record");
    let end = (last + 1).next_multiple_of(8);
    bytes.copy_within(64..64 + 120, end);
    std::fs::write(path, bytes).expect("a segment");
}

fn number(round: usize, call: impl std::fmt::Display) -> String {
    format!("+32255570{round}{call}")
}

fn calling(round: usize, call: impl std::fmt::Display) -> String {
    format!("+331402{round}{call}")
}

/// The user part of an address.
fn user(address: &str) -> Option<&str> {
    address.split_once("sip:")?.1.split(['@', '>', ';']).next()
}

/// The method a message belongs to.
fn about(message: &TracedMessage) -> &str {
    message.header("CSeq").and_then(|cseq| cseq.split(' ').nth(1)).unwrap_or_default()
}

fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}

/// SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
