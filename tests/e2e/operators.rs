//! The simulated operator plays the far side of each trunk profile, and what trunks get wrong: the gateway, configured
//! from the profile's own file, talks with it both ways and stands its faults.

use crate::scene::{ALICE, BLINK, MOBILE, SECOND};
use crate::support::{
    baresip::Baresip,
    gateway::{BINARY, Gateway, GatewayBuilder},
    lane::Lane,
    process::Process,
    sipp::{Played, Sipp},
    speech::{self, Floor, Voice},
    tls::Authority,
    wait,
};
use serde_json::Value;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use toml::{Table, Value as Toml};

/// The words of either side take nine seconds.
const WORDS: Duration = Duration::from_secs(12);
const PASSWORD: &str = "secret-of-the-trunk";

/// A profile of `config/trunks/`, its placeholders replaced, towards an operator at `port`.
struct Profile {
    name: &'static str,
    trunk: Table,
    port: u16,
    authority: Option<Authority>,
}

impl Profile {
    fn read(name: &'static str, lane: &Lane) -> Profile {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/trunks").join(format!("{name}.toml"));
        let text = std::fs::read_to_string(&file).expect("a profile");
        let mut file: Table = text.parse().expect("a profile is TOML");
        let mut trunk = match file.remove("trunk").as_ref().and_then(Toml::as_array).map(Vec::as_slice) {
            Some([Toml::Table(trunk)]) => trunk.clone(),
            other => panic!("{name}: {other:?} is not one trunk"),
        };
        let port = lane.port();
        let address = format!("127.0.0.1:{port}");
        let set = |trunk: &mut Table, key: &str, value: Toml| drop(trunk.insert(key.to_owned(), value));
        set(&mut trunk, "name", "operator".into());
        set(&mut trunk, "proxy", vec![Toml::from(address.clone())].into());
        set(&mut trunk, "peers", vec![Toml::from(address)].into());
        set(&mut trunk, "naptr", false.into());
        if trunk.contains_key("password") {
            set(&mut trunk, "password", PASSWORD.into());
        }
        if trunk.contains_key("domain") {
            set(&mut trunk, "domain", "gw.tandem.test".into());
        }
        let secure = trunk.get("transport").and_then(Toml::as_str) == Some("tls");
        if secure {
            // Here nobody waits a minute for the next OPTIONS.
            set(&mut trunk, "options_seconds", 1.into());
            trunk.entry("tls_name").or_insert("localhost".into());
        }
        Profile { name, trunk, port, authority: secure.then(|| Authority::new("Tandem tests")) }
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.trunk.get(key).and_then(Toml::as_str)
    }

    fn gateway<'l>(&self, lane: &'l Lane) -> GatewayBuilder<'l> {
        let gateway = Gateway::on(lane).set("sip.digest", vec![Toml::from("MD5")]).user("alice", ALICE);
        let gateway = match &self.authority {
            Some(authority) => gateway.tls(authority),
            None => gateway,
        };
        let trunk = self.trunk.clone();
        let unused = SocketAddr::from(([127, 0, 0, 1], self.port));
        gateway.trunk_with("operator", unused, |section| {
            for (key, value) in trunk {
                section.set(&key, value);
            }
        })
    }

    /// The operator at its port, with its ledger and its recordings.
    fn operator(&self, lane: &Lane, arguments: &[&str]) -> Operator {
        let folder = lane.make_folder("operator");
        let mut command = Command::new(BINARY);
        command.args(["operator", "--json", "--profile", self.name, "--listen"]);
        command.arg(format!("127.0.0.1:{}", self.port));
        command.arg("--record").arg(folder.join("heard"));
        if let Some(user) = self.text("username") {
            command.args(["--user", user, "--password", PASSWORD]);
            command.args(["--realm", self.text("realm").unwrap_or("operator.example")]);
        }
        if let Some(host) = self.text("domain") {
            command.args(["--from-host", host]);
        }
        if let Some(authority) = &self.authority {
            let issued = authority.issue(self.text("tls_name").unwrap_or("localhost"));
            std::fs::write(folder.join("cert.pem"), issued.certificate).expect("a certificate file");
            std::fs::write(folder.join("key.pem"), issued.key).expect("a key file");
            command
                .arg("--certificate")
                .arg(folder.join("cert.pem"))
                .arg("--key")
                .arg(folder.join("key.pem"));
            command.arg("--ca").arg(authority.write(&folder));
        }
        command.args(arguments);
        let process = Process::start(&format!("operator {}", self.name), command);
        process.log().wait_for("\"listening\"", wait::START);
        Operator(process)
    }
}

struct Operator(Process);

impl Operator {
    /// The ledger's entry of its only call.
    #[track_caller]
    fn entry(&self) -> Value {
        let line = self.0.log().wait_for("\"event\":\"call\"", Duration::from_secs(40));
        serde_json::from_str(&line[line.find('{').expect("a document")..]).expect("JSON")
    }
}

/// What the operator says.
fn words() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/simulator/speech/callee.wav")
}

/// Waits until so many calls of a phone are over, and what it heard of the last one is whole.
#[track_caller]
fn wait_closed(phone: &Baresip, calls: usize) {
    wait::until("the end of the call", wait::SOON, || {
        (phone.count_events("CALL_CLOSED") >= calls).then_some(())
    });
}

#[track_caller]
fn assert_talked(entry: &Value, phone: &Baresip, side: &str) {
    assert_eq!((entry["side"].as_str(), entry["status"].as_u64()), (Some(side), Some(200)), "{entry:#}");
    assert!(entry["packets_heard"].as_u64() > Some(400), "{entry:#}");
    let heard = PathBuf::from(entry["recording"].as_str().expect("a recording"));
    speech::assert_heard_on_and_on(phone.said(), &words(), &heard);
    speech::assert_heard_on_and_on(&words(), phone.said(), &phone.heard());
}

/// The gateway calls the operator of this profile and is called by it; each side hears the other both times.
fn both_ways(test: &str, name: &'static str, codec: &str) {
    let lane = Lane::take(test);
    let _floor = Floor::take();
    let profile = Profile::read(name, &lane);
    let operator = profile.operator(&lane, &[]);
    let gateway = profile.gateway(&lane).start();
    if profile.text("auth") == Some("register") {
        operator.0.log().wait_for("\"registered\"", wait::SOON);
    }
    if name == "teams-direct-routing" {
        // It sends no calls to a trunk that does not answer its own OPTIONS.
        operator.0.log().wait_for("{\"event\":\"alive\",\"status\":200}", wait::SOON);
    }
    let mut phone = Baresip::on(&lane, "alice").voice(Voice::Caller).registers(gateway.udp(), "udp").start();
    phone.dial(MOBILE);
    phone.wait_event("CALL_ESTABLISHED");
    wait::talk(WORDS);
    phone.hang_up();
    let entry = operator.entry();
    wait_closed(&phone, 1);
    assert_talked(&entry, &phone, "callee");
    let asked = entry["called"].as_str().unwrap_or_default();
    assert_eq!(asked.starts_with('+'), profile.text("called_format") != Some("e164"), "{asked}");
    assert_eq!((entry["codec"].as_str(), entry["calling"].as_str()), (Some(codec), Some(ALICE)));
    drop(operator);

    let via = gateway.udp().to_string();
    let mut arguments = vec!["--call", ALICE, "--from", MOBILE, "--talk", "12"];
    if profile.authority.is_none() {
        arguments.extend(["--via", &via]);
    }
    let caller = profile.operator(&lane, &arguments);
    let entry = caller.entry();
    wait_closed(&phone, 2);
    assert_talked(&entry, &phone, "caller");
    let cdrs = gateway.wait_cdrs(2);
    assert_eq!(
        (cdrs[0]["egress_trunk"].as_str(), cdrs[0]["end_cause"].as_str()),
        (Some("operator"), Some("normal_clearing"))
    );
    assert_eq!(
        (cdrs[1]["ingress_trunk"].as_str(), cdrs[1]["end_cause"].as_str()),
        (Some("operator"), Some("normal_clearing"))
    );
    assert_eq!(cdrs[1]["caller_number"].as_str(), Some(MOBILE), "who called");
    let pracks = gateway.metrics().sum("tandem_sip_requests_total", &[("method", "PRACK")]).unwrap_or(0.0);
    assert_eq!(pracks > 0.0, profile.text("prack") == Some("supported"), "{pracks} PRACKs");
}

#[test]
fn sipconnect_by_registration_works_both_ways() {
    both_ways("operators-sipconnect-register", "sipconnect-register", "PCMA");
}

#[test]
fn sipconnect_by_address_works_both_ways() {
    both_ways("operators-sipconnect-static", "sipconnect-static", "PCMA");
}

#[test]
fn a_plain_interconnect_works_both_ways() {
    both_ways("operators-plain-ip", "plain-ip", "PCMA");
}

#[test]
fn an_ims_border_works_both_ways() {
    both_ways("operators-ims", "ims-nni", "PCMA");
}

#[test]
fn a_cloud_trunk_works_both_ways() {
    both_ways("operators-cloud", "cloud-trunk", "PCMU");
}

#[test]
fn teams_direct_routing_works_both_ways() {
    both_ways("operators-teams", "teams-direct-routing", "PCMA");
}

#[test]
fn whatsapp_business_calling_works_both_ways_in_opus() {
    both_ways("operators-whatsapp", "whatsapp-business-calling", "opus");
}

/// A hidden caller of ours, then one of the operator's: each is shown to nobody, and `known` to the operator, as the
/// operator's is to our records.
fn hidden_both_ways(name: &'static str, known: bool) {
    let lane = Lane::take(&format!("operators-hidden-{name}"));
    let profile = Profile::read(name, &lane);
    let operator = profile.operator(&lane, &[]);
    let gateway = profile.gateway(&lane).start();
    if profile.text("auth") == Some("register") {
        operator.0.log().wait_for("\"registered\"", wait::SOON);
    }
    let user = Sipp::client(&lane, "user-calls", gateway.udp()).user("alice").number(MOBILE).pause(BLINK);
    user.fill("more", "Privacy: id").start().succeed();
    let entry = operator.entry();
    let calling = if known { ALICE } else { "anonymous" };
    let told = (entry["status"].as_u64(), entry["calling"].as_str());
    assert_eq!(told, (Some(200), Some(calling)), "{name}: {entry:#}");
    drop(operator);

    let device = lane.port();
    Sipp::register(&lane, gateway.udp(), "alice", device);
    let phone = Sipp::server(&lane, "user-answers").at_port(device).fill("extra", "Server: phone");
    let phone = phone.pause(BLINK).start();
    let via = gateway.udp().to_string();
    let mut arguments = vec!["--call", ALICE, "--from", MOBILE, "--withheld", "--talk", "1"];
    if profile.authority.is_none() {
        arguments.extend(["--via", &via]);
    }
    let caller = profile.operator(&lane, &arguments);
    assert_eq!(caller.entry()["status"], 200, "{name}");
    let invite = phone.wait_request("INVITE");
    let from = invite.header("From").unwrap_or_default().to_owned();
    assert!(from.contains("anonymous@anonymous.invalid"), "{name}: {from}");
    assert!(!invite.text.contains(MOBILE.trim_start_matches('+')), "{name}: {}", invite.text);
    let cdrs = gateway.wait_cdrs(2);
    assert_eq!(cdrs[1]["caller_number"].as_str(), known.then_some(MOBILE), "{name}: who called");
}

#[test]
fn hidden_callers_are_known_to_an_operator_that_knows_us_by_registration_and_shown_to_nobody() {
    hidden_both_ways("sipconnect-register", true);
}

#[test]
fn hidden_callers_are_known_to_operators_that_know_us_by_password_and_shown_to_nobody() {
    hidden_both_ways("sipconnect-static", true);
    hidden_both_ways("cloud-trunk", true);
}

#[test]
fn hidden_callers_are_known_to_operators_that_know_our_address_and_shown_to_nobody() {
    hidden_both_ways("plain-ip", true);
    hidden_both_ways("ims-nni", true);
    hidden_both_ways("teams-direct-routing", true);
}

#[test]
fn an_apps_network_never_learns_the_number_of_a_hidden_caller() {
    hidden_both_ways("whatsapp-business-calling", false);
}

#[test]
fn a_gateway_that_breaks_the_agreement_is_told_what_is_missing() {
    let lane = Lane::take("operators-agreement");
    let mut profile = Profile::read("plain-ip", &lane);
    profile.trunk.insert("identity".to_owned(), "off".into());
    let operator = profile.operator(&lane, &[]);
    let gateway = profile.gateway(&lane).start();
    let user = Sipp::client(&lane, "user-is-refused", gateway.udp()).user("alice").number(MOBILE);
    user.code(403, "Forbidden").start().succeed();
    assert_eq!(operator.entry()["reason"], "P-Asserted-Identity is missing");
    assert_eq!(gateway.wait_cdr()["end_cause"], "forbidden");
}

/// A call over a plain trunk with a fault.
struct Spoilt {
    cdr: Value,
    /// What alice, played by SIPp, was told.
    played: Played,
    operator: Operator,
    _lane: Lane,
}

impl Spoilt {
    /// Over a plain trunk; `more` completes it, `part` what alice does in this scenario.
    fn call(
        fault: &str,
        scenario: &str,
        more: impl FnOnce(&mut Table),
        part: impl FnOnce(Sipp) -> Sipp,
    ) -> Spoilt {
        Spoilt::call_by("plain-ip", fault, scenario, more, part)
    }

    /// The same over a trunk of this profile.
    fn call_by(
        profile: &'static str,
        fault: &str,
        scenario: &str,
        more: impl FnOnce(&mut Table),
        part: impl FnOnce(Sipp) -> Sipp,
    ) -> Spoilt {
        let lane = Lane::take(&format!("operators-{profile}-{fault}"));
        let mut profile = Profile::read(profile, &lane);
        more(&mut profile.trunk);
        let operator = profile.operator(&lane, &["--fault", fault]);
        let gateway = profile.gateway(&lane).start();
        let user = Sipp::client(&lane, scenario, gateway.udp()).user("alice").number(MOBILE).pause(SECOND);
        let played = part(user).start().succeed();
        let cdr = gateway.wait_cdr();
        Spoilt { cdr, played, operator, _lane: lane }
    }

    #[track_caller]
    fn assert_ended(&self, cause: &str, code: u16, by: &str) {
        let cdr = &self.cdr;
        let found = (cdr["end_cause"].as_str(), cdr["sip_code"].as_u64(), cdr["released_by"].as_str());
        assert_eq!(found, (Some(cause), Some(code.into()), Some(by)), "{cdr:#}");
    }
}

/// A call that is refused.
#[track_caller]
fn refused(fault: &str, code: u16, phrase: &str, cause: &str, by: &str) -> Spoilt {
    let call = Spoilt::call(fault, "user-is-refused", |_| {}, |user| user.code(code, phrase));
    call.assert_ended(cause, code, by);
    call
}

/// A call that is answered.
#[track_caller]
fn answered(fault: &str, scenario: &str, cause: &str, by: &str) -> Spoilt {
    let call = Spoilt::call(fault, scenario, |_| {}, |user| user);
    call.assert_ended(cause, 200, by);
    call
}

#[test]
fn a_black_hole_is_left_and_a_slow_operator_waited_for() {
    refused("black-hole", 504, "Server Time-out", "trunk_timeout", "callee");
    let slow = answered("slow-trying", "user-calls", "normal_clearing", "caller");
    assert!(slow.cdr["pdd_ms"].as_u64() >= Some(2_000), "{:#}", slow.cdr);
}

#[test]
fn a_storm_of_ringing_is_a_breeze_for_the_caller() {
    let storm = answered("ringing-storm", "user-calls", "normal_clearing", "caller");
    let told = storm.played.messages.iter().filter(|message| {
        !message.sent && message.status().is_some_and(|status| (101..200).contains(&status))
    });
    let told = told.count();
    assert!((1..=20).contains(&told), "told of its progress {told} times");
}

#[test]
fn an_answer_that_can_not_be_used_is_hung_up_and_nobody_else_is_rung() {
    for fault in ["no-sdp", "foreign-codec"] {
        let call = refused(fault, 502, "Bad Gateway", "far_end_failure", "gateway");
        assert_eq!(call.cdr["legs"].as_array().map(Vec::len), Some(1));
        assert_eq!(call.operator.entry()["acknowledged"], true);
    }
}

#[test]
fn a_trunk_that_sends_the_call_in_circles_is_left() {
    let lane = Lane::take("operators-circle");
    let mut profile = Profile::read("plain-ip", &lane);
    let place = format!("127.0.0.1:{}", profile.port);
    profile.trunk.insert("redirect_to".to_owned(), vec![Toml::from(place)].into());
    let _operator = profile.operator(&lane, &["--fault", "redirect-loop"]);
    let gateway = profile.gateway(&lane).start();
    let user = Sipp::client(&lane, "user-is-refused", gateway.udp()).user("alice").number(MOBILE);
    user.code(502, "Bad Gateway").start().succeed();
    let cdr = gateway.wait_cdr();
    let legs = cdr["legs"].as_array().expect("attempts");
    assert_eq!(legs.len(), 4, "followed three times: {cdr:#}");
    assert!(legs.iter().all(|leg| leg["sip_code"] == 302), "{cdr:#}");
    gateway.wait_idle();
}

#[test]
fn an_answer_behind_the_cancel_is_acknowledged_and_hung_up() {
    let call = Spoilt::call("late-answer", "user-gives-up", |_| {}, |user| user.pause(BLINK));
    call.assert_ended("caller_cancelled", 487, "caller");
    let entry = call.operator.entry();
    let found = (entry["acknowledged"].as_bool(), entry["released_by"].as_str());
    assert_eq!(found, (Some(true), Some("caller")), "{entry:#}");
}

#[test]
fn an_operator_that_loses_acks_or_byes_changes_no_record() {
    let call = answered("lost-ack", "user-calls", "normal_clearing", "caller");
    assert_eq!(call.operator.entry()["acknowledged"], false);
    answered("lost-bye", "user-calls", "normal_clearing", "caller");
}

#[test]
fn a_dialog_that_the_operator_has_lost_ends_the_call_and_a_refused_hold_does_not() {
    answered("lost-dialog", "user-holds-and-is-hung-up-on", "dialog_lost", "gateway");
    answered("no-updates", "user-holds-and-resumes", "normal_clearing", "caller");
}

#[test]
fn a_session_that_the_operator_does_not_keep_alive_expires() {
    let timer = |trunk: &mut Table| drop(trunk.insert("session_timer_seconds".to_owned(), 1_800.into()));
    let call = Spoilt::call("short-session", "user-calls-and-is-hung-up-on", timer, |user| user);
    call.assert_ended("session_expired", 200, "gateway");
}

/// Over TLS with SRTP, and with reliable early media: what must come of a fault is the same.
#[test]
fn faults_of_secure_and_of_reliable_trunks_come_to_the_same_ends() {
    for profile in ["teams-direct-routing", "ims-nni"] {
        let call = |fault: &str, scenario: &str, part: fn(Sipp) -> Sipp| {
            // That it does not answer OPTIONS either would be found before the call.
            let rarely = |trunk: &mut Table| drop(trunk.insert("options_seconds".to_owned(), 60.into()));
            Spoilt::call_by(profile, fault, scenario, rarely, part)
        };
        let lost = call("lost-ack", "user-calls", |user| user);
        lost.assert_ended("normal_clearing", 200, "caller");
        assert_eq!(lost.operator.entry()["acknowledged"], false);
        let hole = call("black-hole", "user-is-refused", |user| user.code(504, "Server Time-out"));
        hole.assert_ended("trunk_timeout", 504, "callee");
        call("short-session", "user-calls-and-is-hung-up-on", |user| user).assert_ended(
            "session_expired",
            200,
            "gateway",
        );
    }
}

#[test]
fn a_bye_of_somebody_else_ends_nothing_and_one_of_the_operator_does() {
    let call = answered("spoofed-bye", "user-calls", "normal_clearing", "caller");
    assert_eq!(call.operator.entry()["released_by"], "caller");
    assert!(call.cdr["duration_ms"].as_u64() >= Some(950), "{:#}", call.cdr);
    answered("unsteady", "user-calls-and-is-hung-up-on", "normal_clearing", "callee");
}

#[test]
fn a_trunk_that_sends_no_voice_is_named_in_the_record() {
    let lane = Lane::take("operators-one-way");
    let _floor = Floor::take();
    let profile = Profile::read("plain-ip", &lane);
    let _operator = profile.operator(&lane, &["--fault", "one-way"]);
    let gateway = profile.gateway(&lane).start();
    let mut phone = Baresip::on(&lane, "alice").voice(Voice::Caller).registers(gateway.udp(), "udp").start();
    phone.dial(MOBILE);
    phone.wait_event("CALL_ESTABLISHED");
    wait::talk(8 * SECOND);
    phone.hang_up();
    let cdr = gateway.wait_cdr();
    assert_eq!(
        (cdr["callee_leg"]["fault"].as_str(), cdr["callee_leg"]["packets_received"].as_u64()),
        (Some("missing"), Some(0))
    );
}
