//! Calls for help, with SIPp as those who help and Python's own readers of MIME and XML for where the caller is.

use crate::scene::{ALICE, BLINK, STRANGER, alice, incoming, operator};
use crate::support::{
    gateway::{Gateway, GatewayBuilder},
    lane::Lane,
    sipp::Sipp,
    trace::TracedMessage,
    wait,
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Prints what stands in the location document of a SIP message, element by element.
const READ_LOCATION: &str = r#"
import email, json, sys, xml.etree.ElementTree as tree
head, body = open(sys.argv[1], newline="").read().replace("\r\n", "\n").split("\n", 1)
message = email.message_from_string(body)
parts = {part.get_content_type(): part for part in message.walk()}
part = parts.get("application/pidf+xml")
told = {"types": sorted(parts), "geolocation": message["Geolocation"], "routing": message["Geolocation-Routing"]}
if part is not None:
    told["id"] = part["Content-ID"]
    root = tree.fromstring(part.get_payload().strip())
    told["entity"] = root.get("entity")
    for element in root.iter():
        if element.text and element.text.strip():
            told[element.tag.rsplit("}", 1)[-1]] = element.text.strip()
print(json.dumps(told))
"#;

/// What an independent reader finds in the message.
#[track_caller]
pub fn location(lane: &Lane, message: &TracedMessage) -> Value {
    let folder = lane.make_folder(&format!("location-{}", message.text.len()));
    let (script, file) = (folder.join("read.py"), folder.join("message"));
    std::fs::write(&script, READ_LOCATION).expect("a script");
    std::fs::write(&file, &message.text).expect("a message");
    let run = std::process::Command::new("/usr/bin/python3").arg(script).arg(&file).output();
    let run = run.expect("python3 (make test installs it)");
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(run.status.success(), "{}\n{}", String::from_utf8_lossy(&run.stderr), message.text);
    serde_json::from_str(&said).expect("JSON")
}

/// Belgium and the emergency number 112, over these trunks.
fn dialplan(trunks: &str) -> String {
    format!(
        "country_code = \"32\"\n[[rule]]\nname = \"ours\"\nfrom = \"any\"\nmatch = \"+322555\"\nto = \"users\"\n\
         [[rule]]\nname = \"help\"\nemergency = true\nmatch = [\"112\", \"urn:service:sos\"]\ntrunks = [{trunks}]\n\
         [[rule]]\nname = \"Belgium\"\nmatch = \"+32\"\ntrunks = [{trunks}]\n"
    )
}

/// A gateway with alice, who lives somewhere.
pub fn gateway<'a>(lane: &'a Lane, trunks: &str) -> GatewayBuilder<'a> {
    let builder = Gateway::on(lane).user_with("alice", ALICE, |alice| {
        alice
            .set("address.country", "BE")
            .set("address.A3", "Sint-Joost-ten-Node <Brussel>")
            .set("address.RD", "Rue \"Royale\" & Cie")
            .set("address.HNO", "16")
            .set("location", "50.8503, 4.3517");
    });
    builder.dialplan(&dialplan(trunks))
}

fn calls_for_help(lane: &Lane, gateway: &Gateway<'_>) -> Sipp {
    alice(lane, gateway, "user-calls").number("112").pause(BLINK)
}

#[track_caller]
fn wait_counted(gateway: &Gateway<'_>, trunk: &str, outcome: &str) {
    let labels = [("trunk", trunk), ("outcome", outcome)];
    gateway.wait_metric("tandem_emergency_calls_total", &labels, 1.0);
}

#[test]
fn help_comes_past_a_busy_a_silent_and_a_blocked_trunk_and_knows_who_calls_and_where() {
    let lane = Lane::take("emergency-failover");
    let blocked = operator(&lane, "helper-answers").start();
    let busy = operator(&lane, "helper-refuses").code(486, "Busy Here").start();
    let silent = operator(&lane, "operator-says-nothing").pause(Duration::from_secs(12)).start();
    let helper = operator(&lane, "helper-answers").start();
    let gateway = gateway(&lane, "\"blocked\", \"busy\", \"silent\", \"helper\"")
        .trunk("blocked", blocked.address())
        .trunk("busy", busy.address())
        .trunk("silent", silent.address())
        .trunk_with("helper", helper.address(), |trunk| {
            trunk.set("identity", "pai");
        })
        .start();
    assert_eq!(gateway.ask("POST", "/api/v1/trunks/blocked/block", None).status, 200);
    let begun = Instant::now();
    calls_for_help(&lane, &gateway).fill("more", "Privacy: id").start().succeed();
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
    assert_eq!(busy.succeed().requests("INVITE").len(), 1);
    assert!(blocked.messages().is_empty(), "it would have been the last");
    let helper = helper.succeed();
    let invite = helper.request("INVITE");
    assert!(invite.start_line().starts_with("INVITE sip:112@"), "{}", invite.start_line());
    assert_eq!(invite.header("Priority"), Some("emergency"));
    assert_eq!(invite.header("Resource-Priority"), Some("esnet.0"));
    assert_eq!(invite.header("Privacy"), None);
    for field in ["From", "P-Asserted-Identity"] {
        assert!(invite.header(field).is_some_and(|value| value.contains(ALICE)), "{field}: {}", invite.text);
    }
    let told = location(&lane, invite);
    assert_eq!(told["country"], "BE");
    assert_eq!(told["A3"], "Sint-Joost-ten-Node <Brussel>");
    assert_eq!(told["RD"], "Rue \"Royale\" & Cie");
    assert_eq!((&told["HNO"], &told["pos"]), (&json!("16"), &json!("50.8503 4.3517")));
    assert_eq!(told["entity"], "pres:alice@tandem.test");
    let id = told["id"].as_str().expect("a Content-ID").trim_matches(['<', '>']);
    assert_eq!(told["geolocation"], format!("<cid:{id}>"));
    assert_eq!(told["routing"], "yes");
    assert_eq!(told["types"], json!(["application/pidf+xml", "application/sdp", "multipart/mixed"]));

    let cdr = gateway.wait_cdr();
    assert_eq!((&cdr["emergency"], &cdr["outcome"]), (&json!("call"), &json!("answered")));
    wait_counted(&gateway, "helper", "answered");
    let id = cdr["id"].as_str().expect("an id");
    let trace = gateway.get(&format!("/api/v1/calls/{id}/trace")).to_string();
    assert!(trace.contains("(location)"), "{trace}");
    for text in [trace, cdr.to_string(), gateway.log().join("\n")] {
        for place in ["Royale", "Sint-Joost", "50.8503"] {
            assert!(!text.contains(place), "{place} in {text}");
        }
    }
}

#[test]
fn a_gateway_that_is_full_and_draining_takes_a_call_for_help_and_no_other() {
    let lane = Lane::take("emergency-limits");
    let first = operator(&lane, "operator-answers").start();
    let helper = operator(&lane, "helper-answers").start();
    let gateway = gateway(&lane, "\"operator-a\", \"helper\"")
        .set("limits.max_calls", 1)
        .set("limits.max_calls_per_user", 1)
        .trunk_with("operator-a", first.address(), |trunk| {
            trunk.set("max_channels", 1);
        })
        .trunk_with("helper", helper.address(), |trunk| {
            trunk.set("emergency_format", "urn");
        })
        .start();
    let talks = alice(&lane, &gateway, "user-calls").pause(Duration::from_secs(6)).start();
    first.wait_request("ACK");
    gateway.ask("POST", "/api/v1/trunks/operator-a/block", None);
    assert_eq!(gateway.ask("POST", "/api/v1/drain", None).status, 200);
    alice(&lane, &gateway, "user-is-refused").code(503, "").start().succeed();
    calls_for_help(&lane, &gateway).start().succeed();
    let invite = helper.succeed().request("INVITE").text.clone();
    assert!(invite.starts_with("INVITE urn:service:sos SIP/2.0"), "{invite}");
    assert!(invite.contains("To: <urn:service:sos>"), "{invite}");
    talks.succeed();
    first.succeed();
}

#[test]
fn a_device_that_knows_where_it_is_says_so_itself_and_a_trunk_may_want_no_location() {
    for wanted in [true, false] {
        let lane = Lane::take(&format!("emergency-location-{wanted}"));
        let helper = operator(&lane, "helper-answers").start();
        let gateway = gateway(&lane, "\"helper\"")
            .trunk_with("helper", helper.address(), |trunk| {
                trunk.set("location", wanted);
            })
            .start();
        alice(&lane, &gateway, "user-calls-with-location").number("112").pause(BLINK).start().succeed();
        let helper = helper.succeed();
        let told = location(&lane, helper.request("INVITE"));
        if wanted {
            assert_eq!((&told["ROOM"], &told["entity"]), (&json!("Cellar 7"), &json!("pres:alice@device")));
            assert_eq!(told["RD"], Value::Null, "what the device says goes before what is written down");
        } else {
            assert_eq!(told["types"], json!(["application/sdp"]));
            assert_eq!(told["geolocation"], Value::Null);
        }
    }
}

#[test]
fn a_call_for_help_is_tried_again_until_somebody_answers() {
    let lane = Lane::take("emergency-again");
    let first = operator(&lane, "helper-refuses").code(503, "Service Unavailable").start();
    let gateway = gateway(&lane, "\"helper\"").trunk("helper", first.address()).start();
    let caller = calls_for_help(&lane, &gateway).start();
    first.wait_request("ACK");
    let second = operator(&lane, "helper-answers").at_port(first.address().port());
    first.succeed();
    let second = second.start();
    let caller = caller.succeed();
    assert!(!caller.responses(180).is_empty(), "it rang meanwhile");
    second.succeed();
    let cdr = gateway.wait_cdr();
    assert!(cdr["legs"].as_array().is_some_and(|legs| legs.len() >= 2), "{cdr}");
}

#[test]
fn a_call_for_help_that_fails_in_the_end_says_why_and_is_counted() {
    let lane = Lane::take("emergency-fails");
    let busy = operator(&lane, "helper-refuses").code(486, "Busy Here").calls(2).start();
    let gateway =
        gateway(&lane, "\"helper\"").set("limits.ring_seconds", 2).trunk("helper", busy.address()).start();
    let caller = alice(&lane, &gateway, "user-is-refused").number("112").code(486, "").start().succeed();
    assert!(caller.responses(486)[0].header("Reason").is_some_and(|reason| reason.contains("cause=17")));
    assert_eq!(busy.succeed().requests("INVITE").len(), 2);
    wait_counted(&gateway, "helper", "busy");
    gateway.wait_log("an emergency call failed", wait::SOON);
}

#[test]
fn who_called_for_help_is_called_back_though_the_gateway_takes_no_calls() {
    let lane = Lane::take("emergency-callback");
    let (device, other) = (lane.port(), lane.port());
    let helper = operator(&lane, "helper-answers").start();
    let port = helper.address().port();
    let time = Duration::from_secs(6);
    let gateway = gateway(&lane, "\"helper\"")
        .set("limits.emergency_callback_seconds", time.as_secs() as i64)
        .trunk_with("helper", helper.address(), |trunk| {
            trunk.set("calling_ranges", vec![toml::Value::from("+3299")]).set("calling_screening", "reject");
        })
        .trunk("stranger", ([127, 0, 0, 1], other).into())
        .start();
    Sipp::register(&lane, gateway.udp(), "alice", device);
    calls_for_help(&lane, &gateway).start().succeed();
    helper.succeed();
    let ended = Instant::now();
    assert_eq!(gateway.ask("POST", "/api/v1/drain", None).status, 200);
    let refused = |from: u16| {
        incoming(&lane, &gateway, "operator-is-refused", from, ALICE).code(503, "").start().succeed();
    };
    refused(other);
    let phone = operator(&lane, "user-answers").at_port(device).start();
    let back = incoming(&lane, &gateway, "operator-calls", port, ALICE).key("calling", STRANGER);
    back.pause(BLINK).start().succeed();
    assert!(ended.elapsed() < time, "too slow a machine: {:?}", ended.elapsed());
    assert_eq!(phone.succeed().request("INVITE").header("Priority"), Some("psap-callback"));
    wait::until("the time to be over", wait::SOON, || (ended.elapsed() > time).then_some(()));
    refused(port);
    let kinds: Vec<String> =
        gateway.wait_cdrs(4).iter().filter_map(|cdr| cdr["emergency"].as_str().map(str::to_owned)).collect();
    assert_eq!(kinds, ["call", "callback"]);
}
