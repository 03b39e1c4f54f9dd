//! What can be seen of a call afterwards: its ladder, its capture, its copies at a capture server.

use crate::scene::{ALICE, MOBILE, alice, builder, operator};
use crate::support::{
    gateway::{Gateway, GatewayBuilder, TOKEN, tandem},
    http,
    lane::Lane,
    process::Process,
    wait,
};
use serde_json::Value;
use std::process::Command;

const READER: &str = "token-of-a-reader";

/// The number as it stands in a message.
fn digits() -> &'static str {
    MOBILE.trim_start_matches('+')
}

/// Lets alice call through a trunk without room and then through one that answers; gives the call's id.
fn a_call_with_a_detour<'a>(
    lane: &'a Lane,
    more: impl FnOnce(GatewayBuilder<'a>) -> GatewayBuilder<'a>,
) -> (Gateway<'a>, String) {
    let full = operator(lane, "operator-refuses-at-once").code(503, "Service Unavailable").start();
    let answers = operator(lane, "operator-answers").start();
    let gateway = builder(lane, &full).trunk("operator-b", answers.address());
    let gateway = more(gateway.set("admin.read_token", READER)).start();
    alice(lane, &gateway, "user-calls").start().succeed();
    answers.succeed();
    let id = gateway.wait_cdr()["id"].as_str().expect("an id").to_owned();
    (gateway, id)
}

/// Methods and status codes of a call's capture, as tshark reads it; SIP is what goes from or to one of these ports.
fn captured(lane: &Lane, gateway: &Gateway<'_>, id: &str, ports: &[u16]) -> String {
    let file = lane.path("call.pcap");
    let url = format!("http://{}/api/v1/calls/{id}/trace.pcap", gateway.admin());
    let fetched = Command::new("curl")
        .args(["--silent", "--fail", "--header", &format!("Authorization: Bearer {TOKEN}"), "--output"])
        .arg(&file)
        .arg(&url)
        .status();
    assert!(fetched.expect("curl runs").success());
    let mut tshark = Command::new("tshark");
    for port in ports {
        tshark.args(["-d", &format!("udp.port=={port},sip")]);
    }
    let read = tshark
        .args(["-T", "fields", "-e", "sip.CSeq.method", "-e", "sip.Status-Code", "-r"])
        .arg(&file)
        .output()
        .expect("tshark runs");
    String::from_utf8_lossy(&read.stdout).into_owned()
}

fn summaries(trace: &Value, leg: u64) -> Vec<String> {
    let messages = trace["messages"].as_array().expect("messages");
    let of_leg = messages.iter().filter(|message| message["leg"] == leg);
    of_leg.map(|m| format!("{} {}", m["flow"].as_str().unwrap(), m["summary"].as_str().unwrap())).collect()
}

#[test]
fn the_ladder_of_a_call_has_both_legs_and_a_verdict() {
    let lane = Lane::take("trace-ladder");
    let (gateway, id) = a_call_with_a_detour(&lane, |gateway| gateway);
    let trace = gateway.get(&format!("/api/v1/calls/{id}/trace"));
    let parties: Vec<_> = trace["legs"].as_array().unwrap().iter().map(|leg| leg["party"].clone()).collect();
    assert_eq!(parties, ["user alice", "trunk operator-a", "trunk operator-b"]);
    let refused = summaries(&trace, 1);
    assert_eq!(refused[0], "sent INVITE");
    assert!(refused.contains(&"received 503 Service Unavailable (INVITE)".to_owned()), "{refused:?}");
    let answered = summaries(&trace, 2);
    for part in ["sent INVITE", "received 200 OK (INVITE)", "sent ACK"] {
        assert!(answered.contains(&part.to_owned()), "{part} in {answered:?}");
    }
    let caller = summaries(&trace, 0);
    for part in ["received INVITE", "sent 200 OK (INVITE)", "received ACK"] {
        assert!(caller.contains(&part.to_owned()), "{part} in {caller:?}");
    }
    let notes = trace["verdict"]["notes"].to_string();
    assert!(notes.contains("trunk operator-a answered 503"), "{notes}");
    assert!(trace["verdict"]["answered_after_ms"].as_f64().is_some_and(|ms| ms > 0.0));
    // Numbers, credentials and passwords are nobody's business.
    let text = trace.to_string();
    assert!(!text.contains(digits()) && !text.contains("response=\\\""), "{text}");

    let address = format!("http://{}", gateway.admin());
    let shown = tandem(&["call-trace", &id, "--admin", &address, "--token", TOKEN]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("1: INVITE") && shown.contains("200 OK (INVITE)"), "{shown}");
    assert!(shown.contains("! trunk operator-a answered 503"), "{shown}");
}

#[test]
fn whole_messages_take_the_right_the_setting_and_leave_a_line() {
    let lane = Lane::take("trace-whole");
    let (gateway, id) = a_call_with_a_detour(&lane, |gateway| gateway);
    let whole = format!("/api/v1/calls/{id}/trace?whole=true");
    let capture = format!("/api/v1/calls/{id}/trace.pcap");
    for path in [&whole, &capture] {
        let answer = gateway.ask("GET", path, None);
        assert_eq!(answer.status, 403, "{}", answer.body);
        assert!(answer.body.contains("trace.whole"), "it says what to do: {}", answer.body);
    }
    drop(gateway);
    let lane = Lane::take("trace-whole-allowed");
    let (gateway, id) = a_call_with_a_detour(&lane, |gateway| gateway.set("trace.whole", true));
    let whole = format!("/api/v1/calls/{id}/trace?whole=true");
    let reader = http::request(gateway.admin(), "GET", &whole, Some(READER), &[], None).expect("an answer");
    assert_eq!(reader.status, 403, "{}", reader.body);
    let text = gateway.get(&whole).to_string();
    assert!(text.contains(digits()), "{text}");
    gateway.wait_log("the signalling of a call was shown whole", wait::SOON);
}

#[test]
fn what_an_operator_did_not_hear_stands_again_in_the_ladder() {
    let lane = Lane::take("trace-again");
    let silent = operator(&lane, "operator-says-nothing").start();
    let answers = operator(&lane, "operator-answers").start();
    let gateway = builder(&lane, &silent).trunk("operator-b", answers.address()).start();
    alice(&lane, &gateway, "user-calls").start().succeed();
    answers.succeed();
    let id = gateway.wait_cdr()["id"].as_str().expect("an id").to_owned();
    let trace = gateway.get(&format!("/api/v1/calls/{id}/trace"));
    let again = |message: &&Value| message["retransmission"] == true && message["leg"] == 1;
    let again = trace["messages"].as_array().expect("messages").iter().filter(again).count();
    // Timer A repeats at 0.5, 1.5 and 3.5 s, for as long as the trunk is waited for.
    assert!((1..=3).contains(&again), "{trace:#}");
    let shown =
        tandem(&["call-trace", &id, "--admin", &format!("http://{}", gateway.admin()), "--token", TOKEN]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("1: INVITE again") && shown.contains("messages were repeated"), "{shown}");
}

#[test]
fn a_change_of_the_call_that_is_refused_does_not_read_as_an_attempt_that_failed() {
    let lane = Lane::take("trace-refused-change");
    let switch = operator(&lane, "operator-moves-to-fax").start();
    let gateway = builder(&lane, &switch).start();
    alice(&lane, &gateway, "user-calls").pause(2 * crate::scene::SECOND).start().succeed();
    switch.succeed();
    let id = gateway.wait_cdr()["id"].as_str().expect("an id").to_owned();
    let trace = gateway.get(&format!("/api/v1/calls/{id}/trace"));
    assert!(trace["messages"].to_string().contains("488"), "{trace:#}");
    let notes = trace["verdict"]["notes"].to_string();
    assert!(!notes.contains("answered 488"), "{notes}");
}

#[test]
fn a_capture_of_a_call_over_tls_is_what_tshark_reads() {
    use crate::support::{
        sipp::{Over, Sipp},
        tls::Authority,
    };
    let lane = Lane::take("trace-pcap-tls");
    let authority = Authority::new("Tandem tests");
    let over = Over::Tls(&authority);
    let switch = operator(&lane, "operator-answers").at(lane.own_ip()).over(over).start();
    let gateway = Gateway::on(&lane).tls(&authority).user("alice", ALICE).set("app.srtp", "off");
    let gateway = gateway.set("trace.whole", true).trunk_with("operator-a", switch.address(), |trunk| {
        trunk.set("transport", "tls");
    });
    let gateway = gateway.start();
    let caller = Sipp::client(&lane, "user-calls", gateway.at(over)).user("alice").number(MOBILE);
    caller.pause(crate::scene::SECOND).over(over).start().succeed();
    let switch_port = switch.address().port();
    switch.succeed();
    let id = gateway.wait_cdr()["id"].as_str().expect("an id").to_owned();
    // Each message is a packet of its own there, in clear: the keys of the connection are nobody's.
    let rows = captured(&lane, &gateway, &id, &[gateway.at(over).port(), switch_port]);
    let count = |row: &str| rows.lines().filter(|line| line.trim_end() == row).count();
    assert!(count("INVITE") >= 3, "the caller's twice and the one to the trunk:\n{rows}");
    assert!(count("INVITE\t200") == 2 && count("BYE") == 2 && count("BYE\t200") == 2, "{rows}");
}

#[test]
fn a_capture_is_what_tshark_reads() {
    let lane = Lane::take("trace-pcap");
    let (gateway, id) = a_call_with_a_detour(&lane, |gateway| gateway.set("trace.whole", true));
    let rows = captured(&lane, &gateway, &id, &[gateway.udp().port()]);
    let count = |row: &str| rows.lines().filter(|line| line.trim_end() == row).count();
    assert!(count("INVITE") >= 3, "the caller's twice and one to each trunk:\n{rows}");
    assert!(count("INVITE\t503") == 1 && count("INVITE\t200") == 2, "{rows}");
    assert!(count("BYE") == 2 && count("BYE\t200") == 2, "{rows}");
}

#[test]
fn copies_reach_a_capture_server_in_hep() {
    let lane = Lane::take("trace-hep");
    let port = lane.port();
    let file = lane.path("copies.pcap");
    // It takes copies of nobody that does not know its password.
    let settings = lane.path("sngreprc");
    std::fs::write(&settings, "set eep.listen.pass sesame\n").expect("a settings file");
    let mut command = Command::new("sngrep");
    command.arg("-f").arg(&settings);
    command.args(["-N", "-q", "-L", &format!("udp:127.0.0.1:{port}"), "-O"]);
    let mut sngrep = Process::start("sngrep", {
        command.arg(&file);
        command
    });
    wait::udp_bound(port, wait::START);
    let (gateway, _) = a_call_with_a_detour(&lane, |gateway| {
        gateway
            .set("trace.hep", format!("127.0.0.1:{port}"))
            .set("trace.hep_id", 77)
            .set("trace.hep_password", "sesame")
    });
    let read = || {
        let read = Command::new("tshark")
            .args(["-d", &format!("udp.port=={},sip", gateway.udp().port())])
            .args(["-T", "fields", "-e", "sip.CSeq.method", "-e", "sip.Status-Code", "-r"])
            .arg(&file)
            .output();
        String::from_utf8_lossy(&read.expect("tshark runs").stdout).into_owned()
    };
    let rows = wait::until("the copies of a whole call", wait::SOON, || {
        let rows = read();
        (rows.lines().filter(|line| line.trim_end() == "BYE\t200").count() == 2).then_some(rows)
    });
    assert!(rows.lines().any(|line| line.trim_end() == "INVITE\t503"), "{rows}");
    assert_eq!(gateway.metric("tandem_trace_dropped_total", &[]), 0.0);
    sngrep.kill();
}

#[test]
fn a_capture_server_that_is_gone_costs_copies_and_no_calls() {
    let lane = Lane::take("trace-hep-gone");
    let port = lane.port();
    let (gateway, _) =
        a_call_with_a_detour(&lane, |gateway| gateway.set("trace.hep", format!("127.0.0.1:{port}")));
    assert!(gateway.metric("tandem_trace_dropped_total", &[]) > 0.0);
}

#[test]
fn as_many_calls_are_traced_as_configured() {
    let lane = Lane::take("trace-off");
    let (gateway, id) = a_call_with_a_detour(&lane, |gateway| gateway.set("trace.calls", 0));
    let answer = gateway.ask("GET", &format!("/api/v1/calls/{id}/trace"), None);
    assert_eq!(answer.status, 404, "{}", answer.body);
    assert!(answer.body.contains("trace.calls"), "{}", answer.body);
    assert_eq!(gateway.cdrs()[0]["caller_user"], "alice", "{ALICE}");
}
