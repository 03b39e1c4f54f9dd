//! The simulated operator against SIPp, and the load through a gateway: the instruments users measure with.

use crate::support::{
    gateway::{BINARY, Gateway, PASSWORD, tandem},
    lane::Lane,
    process::Process,
    sipp::Sipp,
    wait,
};
use serde_json::Value;
use std::{net::SocketAddr, path::Path, process::Command, time::Duration};

/// Starts `tandem operator` and waits until it listens.
fn operator(lane: &Lane, arguments: &[&str]) -> (Process, SocketAddr) {
    let mut command = Command::new(BINARY);
    command
        .args(["operator", "--listen", "127.0.0.1:0", "--json", "--ledger"])
        .arg(lane.path("ledger.jsonl"));
    command.args(arguments);
    let process = Process::start("operator", command);
    let line = process.log().wait_for("\"listening\"", wait::START);
    let line: Value = serde_json::from_str(&line[line.find('{').expect("a document")..]).expect("JSON");
    let address = line["address"].as_str().and_then(|address| address.parse().ok()).expect("an address");
    (process, address)
}

fn ledger(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).expect("a ledger");
    text.lines().map(|line| serde_json::from_str(line).expect("a line is a document")).collect()
}

fn wait_ledger(lane: &Lane) -> Value {
    let path = lane.path("ledger.jsonl");
    wait::until("a line in the ledger", wait::SOON, || ledger(&path).pop())
}

#[test]
fn sipp_is_answered_and_the_ledger_has_its_call() {
    let lane = Lane::take("simulator-answers");
    let (mut operator, address) = operator(&lane, &["--ring", "200"]);
    let sipp =
        Sipp::client(&lane, "operator-calls", address).number("+32470123456").key("calling", "+3225550001");
    let played = sipp.pause(Duration::from_millis(1_500)).start().succeed();
    assert_eq!(played.responses(180).len(), 1);
    let entry = wait_ledger(&lane);
    let invite = played.messages.iter().find(|message| message.sent).expect("an INVITE");
    assert_eq!(entry["call_id"].as_str(), invite.header("Call-ID"));
    assert_eq!((&entry["called"], &entry["status"]), (&"+32470123456".into(), &200.into()));
    assert_eq!((&entry["released_by"], &entry["acknowledged"]), (&"caller".into(), &true.into()));
    let setup = entry["setup_ms"].as_u64().expect("a set-up time");
    assert!((200..500).contains(&setup), "{entry}");
    let talked = entry["duration_ms"].as_u64().expect("a duration");
    assert!((1_500..2_500).contains(&talked), "{entry}");
    assert!(entry["packets_sent"].as_u64() > Some(50), "{entry}");
    operator.signal(libc::SIGTERM);
    assert!(operator.wait_exit(wait::SOON).success());
}

#[test]
fn the_operator_calls_sipp_hangs_up_and_says_so() {
    let lane = Lane::take("simulator-calls");
    let sipp = Sipp::server(&lane, "operator-answers").start();
    let (path, via) = (lane.path("ledger.jsonl").display().to_string(), sipp.address().to_string());
    let arguments = ["--call", "+3225550001", "--via", &via, "--talk", "1", "--json"];
    let answer =
        tandem(&[&["operator", "--listen", "127.0.0.1:0", "--ledger", &path], &arguments[..]].concat());
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    let played = sipp.succeed();
    assert_eq!(played.request("INVITE").uri(), Some(format!("sip:+3225550001@{via}").as_str()));
    assert_eq!(played.requests("BYE").len(), 1);
    let entries = ledger(Path::new(&path));
    assert_eq!(entries.len(), 1);
    assert_eq!((&entries[0]["side"], &entries[0]["released_by"]), (&"caller".into(), &"caller".into()));
    assert_eq!(entries[0]["codec"], "PCMA");
}

#[test]
fn a_placed_call_that_is_refused_fails_the_command() {
    let lane = Lane::take("simulator-refused");
    let (_operator, address) = operator(&lane, &["--profile", "busy"]);
    let via = address.to_string();
    let answer =
        tandem(&["operator", "--listen", "127.0.0.1:0", "--call", "+3225550001", "--via", &via, "--json"]);
    assert_eq!(answer.status.code(), Some(1));
    assert_eq!(wait_ledger(&lane)["status"], 486);
}

#[test]
fn a_load_measures_both_ways_through_the_gateway() {
    let lane = Lane::take("simulator-load");
    let trunk = lane.address();
    let gateway = Gateway::on(&lane)
        .user_with("alice", "+3225550001", |user| {
            user.set("max_calls", 10);
        })
        .trunk("operator", trunk)
        .start();
    let (server, operator, pid) = (gateway.udp().to_string(), trunk.to_string(), gateway.pid().to_string());
    let answer = tandem(&[
        "load",
        "--server",
        &server,
        "--operator",
        &operator,
        "--user",
        "alice",
        "--password",
        PASSWORD,
        "--calls",
        "4",
        "--rate",
        "8",
        "--seconds",
        "6",
        "--pid",
        &pid,
        "--json",
    ]);
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    let report: Value = serde_json::from_slice(&answer.stdout).expect("a report");
    assert_eq!((&report["calls"]["set_up"], &report["calls"]["failed"]), (&4.into(), &0.into()));
    for way in ["app_to_trunk", "trunk_to_app"] {
        let way = &report[way];
        assert_eq!((&way["packets_lost"], &way["calls_measured"]), (&0.into(), &4.into()), "{way}");
        assert!(way["packet_delay_ms"]["count"].as_u64() > Some(200), "{way}");
    }
    // The look-ahead of the Opus encoder, 6.5 ms, is on the way to the app and on no other.
    let content = |way: &str| report[way]["content_delay_ms"]["p50"].as_f64().expect("a delay");
    let packet = |way: &str| report[way]["packet_delay_ms"]["p50"].as_f64().expect("a delay");
    assert!((6.0..7.0).contains(&(content("trunk_to_app") - packet("trunk_to_app"))), "{report}");
    assert!((content("app_to_trunk") - packet("app_to_trunk")).abs() < 0.3, "{report}");
    assert!(report["gateway"]["cpu_seconds"].as_f64() > Some(0.0), "{report}");
    gateway.wait_idle();
}

#[test]
fn a_load_that_nobody_answers_fails_and_says_why() {
    let lane = Lane::take("simulator-load-refused");
    let trunk = lane.address();
    let gateway = Gateway::on(&lane).user("alice", "+3225550001").trunk("operator", trunk).start();
    let (server, operator) = (gateway.udp().to_string(), trunk.to_string());
    let answer = tandem(&[
        "load",
        "--server",
        &server,
        "--operator",
        &operator,
        "--user",
        "alice",
        "--password",
        PASSWORD,
        // Blocked by the dialplan.
        "--number",
        "+32900100000",
        "--calls",
        "2",
        "--rate",
        "20",
        "--seconds",
        "1",
        "--json",
    ]);
    assert_eq!(answer.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&answer.stdout).expect("a report");
    assert_eq!(
        (&report["calls"]["failed"], &report["calls"]["failures"]["403 Forbidden"]),
        (&2.into(), &2.into())
    );
    assert!(report["app_to_trunk"]["packet_delay_ms"].is_null());
}
