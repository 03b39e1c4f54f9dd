//! `tandem demo` as a newcomer runs it: a whole call, told, kept and judged, and a wrong one noticed.

use crate::support::{
    gateway::tandem,
    lane::Lane,
    speech::{self, Floor},
};
use serde_json::{Value, json};
use std::{path::Path, process::Command};

/// What the two sides of the demo say.
const SPEECH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/simulator/speech");

fn report(folder: &Path) -> Value {
    let text = std::fs::read_to_string(folder.join("report.json")).expect("a report");
    serde_json::from_str(&text).expect("the report is JSON")
}

#[test]
fn the_demo_makes_a_call_and_what_it_says_of_it_is_true() {
    let lane = Lane::take("demo");
    let _floor = Floor::take();
    let folder = lane.path("output");
    let run = || tandem(&["demo", "--output", folder.to_str().expect("a plain path")]);
    // It can be run again in the same folder.
    std::fs::create_dir_all(folder.join("operator")).expect("a folder");
    std::fs::write(folder.join("operator-ledger.jsonl"), "of an earlier run\n").expect("a file");
    let output = run();
    let (text, steps) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{text}{steps}");
    for step in ["registered", "it rings", "both talk", "hung up", "the call record is in the database"] {
        assert!(steps.contains(step), "{step}: {steps}");
    }

    // What each side heard, judged by somebody else.
    let [caller, callee] = ["caller.wav", "callee.wav"].map(|name| Path::new(SPEECH).join(name));
    speech::assert_heard(&caller, &callee, &folder.join("operator-heard.wav"));
    speech::assert_heard(&callee, &caller, &folder.join("alice-heard.wav"));
    // A picture that is well-formed.
    let picture = folder.join("call.svg");
    let read = "import sys, xml.etree.ElementTree as t; print(t.parse(sys.argv[1]).getroot().tag)";
    let parsed =
        Command::new("/usr/bin/python3").args(["-c", read]).arg(&picture).output().expect("python3 runs");
    assert_eq!(String::from_utf8_lossy(&parsed.stdout).trim(), "{http://www.w3.org/2000/svg}svg");

    // The ladder: both sides of the call, in the order of time.
    let ladder: Vec<(f64, &str)> = text
        .lines()
        .filter_map(|line| line.trim_start().split_once("ms  |"))
        .filter_map(|(at, drawn)| Some((at.parse().ok()?, drawn)))
        .collect();
    assert!(ladder.windows(2).all(|pair| pair[0].0 <= pair[1].0), "{text}");
    let place = |what: &str, from: usize| {
        let found = ladder[from..].iter().position(|(_, drawn)| drawn.contains(what));
        from + found.unwrap_or_else(|| panic!("no {what} after {from} in {text}")) + 1
    };
    let order =
        [" REGISTER ", "200 OK (REGISTER)", " INVITE ", "180 Ringing (INVITE)", "200 OK (INVITE)", " ACK "];
    let last = order.iter().fold(0, |from, what| place(what, from));
    assert!(text.contains("opus both ways") && text.contains("PCMA both ways"), "{text}");
    place("200 OK (BYE)", place(" BYE ", last));

    // The record, the operator's ledger and the price tell of the same call.
    let report = report(&folder);
    let cdr = &report["cdr"];
    assert_eq!((&report["heard"], &cdr["end_cause"]), (&json!(true), &json!("normal_clearing")));
    let ledger = std::fs::read_to_string(folder.join("operator-ledger.jsonl")).expect("a ledger");
    assert_eq!(ledger.lines().count(), 1, "one folder shows one call: {ledger}");
    let ledger: Value = serde_json::from_str(&ledger).expect("a line is a document");
    let ms = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{value} is no time"));
    let duration = ms(&cdr["duration_ms"]);
    assert!(duration > 9_000 && duration.abs_diff(ms(&ledger["duration_ms"])) < 100, "{cdr:#} {ledger:#}");
    assert_eq!(ledger["called"], cdr["called"]["number"]);
    let billed = duration.div_ceil(1_000);
    for (side, per_minute) in [("sell", 20_000), ("buy", 12_500)] {
        let charge = &cdr[side]["charge"];
        assert_eq!(charge["billed_s"], billed, "{cdr:#}");
        // Millionths; half a one more is none.
        let amount = charge["amount"]["micros"].as_u64();
        let amount = amount.unwrap_or_else(|| panic!("no amount in {charge:#}"));
        assert!(amount.abs_diff(per_minute * billed / 60) <= 1, "{charge:#}");
    }
    for leg in ["caller_leg", "callee_leg"] {
        let leg = &cdr[leg];
        assert!(
            leg["packets_received"].as_u64() > Some(400) && leg["mos_lq"].as_f64() > Some(4.0),
            "{leg:#}"
        );
        assert!(leg["jitter_ms"].is_f64() && leg["rtt_ms"].is_f64(), "{leg:#}");
        // The table shows what the record holds.
        let shown = format!("{:.2} ms", leg["jitter_ms"].as_f64().unwrap_or_default() as f32);
        assert!(text.contains(&shown), "{shown} in {text}");
    }
    let shown =
        ["registered after", "ringing after", "answered after", "first voice", "account pays", "MOS-CQ"];
    for what in shown {
        assert!(text.contains(what), "{what} in {text}");
    }
}

#[test]
fn a_demo_in_which_somebody_is_not_heard_fails() {
    let lane = Lane::take("demo-fault");
    let folder = lane.path("output");
    let output = tandem(&["demo", "--fault", "mute", "--output", folder.to_str().expect("a plain path")]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("The call FAILED"), "{text}");
    let report = report(&folder);
    assert_eq!((&report["heard"], &report["to_app"]["verdict"]["heard"]), (&json!(false), &json!(false)));
    assert_eq!(report["to_app"]["verdict"]["fault"], "silence");
}

#[test]
fn a_demo_that_has_no_place_for_its_files_fails_at_once() {
    let lane = Lane::take("demo-nowhere");
    let file = lane.path("a-file");
    std::fs::write(&file, "").expect("a file");
    let output = tandem(&["demo", "--output", file.to_str().expect("a plain path")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("a-file"), "it says which");
    assert_eq!(tandem(&["demo", "--fault", "deaf"]).status.code(), Some(2));
}
