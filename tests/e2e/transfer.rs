//! Calls that are moved on, by real phones and by an operator (RFC 3515, RFC 3891, RFC 5589).

use crate::scene::{ALICE, BLINK, BOB, MOBILE, SECOND, STRANGER, alice, operator};
use crate::support::{
    baresip::{Baresip, PhoneCodec},
    gateway::Gateway,
    lane::Lane,
    linphone::Linphone,
    raw_sip::RawUdp,
    sipp::{Over, RunningSipp, Sipp},
    speech::{Floor, Voice},
    tls::Authority,
    trace::TracedMessage,
    wait,
};
use crate::talk;
use crate::transports::{at_once, authority, trunk_at};
use serde_json::Value;
use std::net::SocketAddr;

/// The phone behind the operator: it answers for the number that is called.
fn landline(lane: &Lane) -> Baresip {
    Baresip::on(lane, MOBILE).codec(PhoneCodec::Pcma).start()
}

/// A gateway with alice and bob, and the landline behind its trunk; baresip stumbles over any challenge beside MD5.
fn gateway<'a>(lane: &'a Lane, landline: &Baresip) -> Gateway<'a> {
    let gateway = Gateway::on(lane).set("sip.digest", vec![toml::Value::from("MD5")]);
    gateway.user("alice", ALICE).user("bob", BOB).trunk("operator-a", landline.address()).start()
}

/// Whatever either presses the other one hears: they are joined, both ways.
#[track_caller]
fn hear_each_other(one: &Baresip, other: &Baresip) {
    one.press("5");
    other.events().wait_for("CALL_DTMF_START", wait::SOON);
    other.press("7");
    one.events().wait_for("CALL_DTMF_START", wait::SOON);
    assert_eq!((one.keys_heard().as_str(), other.keys_heard().as_str()), ("7", "5"));
}

/// The two records of a transfer, both at the cost of the one who asked for it.
#[track_caller]
fn paid_by_alice(gateway: &Gateway<'_>) {
    let cdrs = gateway.wait_cdrs(2);
    let first = cdrs.iter().find(|cdr| cdr["transfer_of"].is_null()).expect("the call that was moved");
    assert!(cdrs.iter().any(|cdr| cdr["transfer_of"] == first["id"]));
    assert!(cdrs.iter().all(|cdr| cdr["caller_user"] == "alice" && cdr["end_cause"] == "normal_clearing"));
    gateway.wait_idle();
}

#[test]
fn baresip_moves_its_call_without_asking() {
    let lane = Lane::take("transfer-blind");
    let mut landline = landline(&lane);
    let gateway = gateway(&lane, &landline);
    let bob = Baresip::on(&lane, "bob").registers(gateway.udp(), "udp").start();
    let mut alice = Baresip::on(&lane, "alice").registers(gateway.udp(), "udp").start();
    alice.dial(MOBILE);
    alice.wait_event("CALL_ESTABLISHED");
    alice.transfer("sip:bob@tandem.test");
    bob.wait_event("CALL_ESTABLISHED");
    alice.wait_event("CALL_CLOSED");
    hear_each_other(&landline, &bob);
    landline.hang_up();
    bob.wait_event("CALL_CLOSED");
    paid_by_alice(&gateway);
}

#[test]
fn a_target_that_is_busy_or_not_there_leaves_the_call_where_it_is() {
    for (code, phrase) in [(486, "Busy Here"), (480, "Temporarily Unavailable")] {
        let lane = Lane::take(&format!("transfer-failed-{code}"));
        let switch = operator(&lane, "operator-answers").start();
        let gateway = Gateway::on(&lane).user("alice", ALICE).user("bob", BOB);
        let gateway = gateway.trunk("operator-a", switch.address()).start();
        let phone = (code == 486).then(|| {
            let device = lane.port();
            Sipp::register(&lane, gateway.udp(), "bob", device);
            operator(&lane, "operator-refuses-at-once").code(code, phrase).at_port(device).start()
        });
        let caller = alice(&lane, &gateway, "user-fails-to-transfer").fill("target", "bob");
        caller.code(code, phrase).start().succeed();
        // alice hung up herself, so that her call had gone on.
        assert_eq!(switch.succeed().requests("BYE").len(), 1);
        if let Some(phone) = phone {
            let phone = phone.succeed();
            assert_eq!(phone.request("INVITE").header("Referred-By"), Some("<sip:alice@tandem.test>"));
        }
        let cdrs = gateway.wait_cdrs(2);
        assert_eq!(cdrs.iter().filter(|cdr| !cdr["transfer_of"].is_null()).count(), 1);
        gateway.wait_idle();
    }
}

/// linphone talks to the landline, calls bob beside it, and leaves the two to each other: once bob has answered, or
/// while his phone still rings.
fn linphone_consults(test: &str, answered: bool) {
    let lane = Lane::take(test);
    let landline = landline(&lane);
    let gateway = gateway(&lane, &landline);
    let bob = Baresip::on(&lane, "bob").registers(gateway.udp(), "udp");
    let mut bob = if answered { bob } else { bob.answers_by_hand() }.start();
    let mut alice = Linphone::on(&lane, "alice").registers(gateway.udp(), "udp").start();
    alice.call(&format!("sip:{MOBILE}@tandem.test"));
    alice.log().wait_for("Media streams established", wait::SOON);
    alice.pause();
    alice.log().wait_for("paused", wait::SOON);
    alice.call("sip:bob@tandem.test");
    if answered {
        bob.wait_event("CALL_ESTABLISHED");
    } else {
        bob.wait_event("CALL_INCOMING");
    }
    let mark = alice.log().len();
    wait::talk(SECOND);
    alice.leave_to_each_other(1, 2);
    if !answered {
        alice.log().wait_for_after(mark, "transfer", wait::SOON);
        wait::talk(SECOND);
        bob.accept();
        bob.wait_event("CALL_ESTABLISHED");
    }
    wait::talk(SECOND);
    hear_each_other(&landline, &bob);
    bob.hang_up();
    landline.wait_event("CALL_CLOSED");
    alice.quit();
    paid_by_alice(&gateway);
}

#[test]
fn linphone_leaves_two_calls_to_each_other() {
    linphone_consults("transfer-attended", true);
}

#[test]
fn linphone_leaves_its_call_to_a_phone_that_still_rings() {
    linphone_consults("transfer-ringing", false);
}

/// RFC 3891: what one phone has begun another one of the same user goes on with.
#[test]
fn another_phone_of_the_user_takes_the_call_over() {
    let lane = Lane::take("transfer-replaces");
    let switch = operator(&lane, "operator-answers").start();
    let gateway = Gateway::on(&lane).user("alice", ALICE).trunk("operator-a", switch.address()).start();
    let first = alice(&lane, &gateway, "user-calls-and-is-hung-up-on").start();
    let answer = first.wait_status(200);
    let tag = |name: &str| {
        let field = answer.header(name).unwrap_or_default();
        field.split("tag=").nth(1).unwrap_or_else(|| panic!("no tag in {field}")).to_owned()
    };
    let call_id = answer.header("Call-ID").expect("a Call-ID");
    let replaces = format!("Replaces: {call_id};to-tag={};from-tag={}", tag("To"), tag("From"));
    let second =
        alice(&lane, &gateway, "user-calls").fill("more", &format!("{replaces}\n      Require: replaces"));
    second.start().succeed();
    assert_eq!(first.succeed().requests("BYE").len(), 1);
    let switch = switch.succeed();
    let calls: Vec<_> =
        switch.requests("INVITE").iter().filter_map(|invite| invite.header("Call-ID")).collect();
    assert!(calls.iter().all(|id| *id == calls[0]), "the operator keeps its one call: {calls:?}");
    assert_eq!(switch.requests("BYE").len(), 1);
    paid_by_alice(&gateway);
}

/// Numbers that the operator may reach through another one's trunk.
const TRANSIT: &str = r#"
country_code = "32"
[[rule]]
name = "our numbers"
from = "any"
match = "+322555"
to = "users"
[[rule]]
name = "transit"
from = "trunk:operator-a"
match = "+32"
trunks = ["operator-b"]
[[rule]]
name = "Belgium"
match = "+32"
trunks = ["operator-a"]
"#;

/// Of a scenario: a report of this status comes, or the end of the call, of which `kept` keeps something.
fn comes(status: Option<u16>, kept: &str) -> String {
    let method = if status.is_some() { "NOTIFY" } else { "BYE" };
    let look = |status| {
        format!(r#"<ereg regexp="SIP/2.0 {status} " search_in="body" check_it="true" assign_to="tried"/>"#)
    };
    let actions = status.map(look).unwrap_or_default() + kept;
    if actions.is_empty() {
        return format!("  <recv request=\"{method}\"/>\n");
    }
    format!("  <recv request=\"{method}\">\n    <action>{actions}</action>\n  </recv>\n")
}

/// Of a scenario: a request with this Via and CSeq is answered.
fn is_answered(via: &str, cseq: &str) -> String {
    let lines = ["SIP/2.0 200 OK", via, "[last_From:]", "[last_To:]", "[last_Call-ID:]", cseq];
    let lines = lines.map(|line| format!("      {line}\n")).concat();
    format!("  <send>\n    <![CDATA[\n{lines}      Content-Length: 0\n\n    ]]>\n  </send>\n")
}

/// Of a scenario: who moves a call hears these statuses of the call to the target, one after the other.
fn reports(statuses: &[u16]) -> String {
    let each = statuses.iter().map(|status| comes(Some(*status), ""));
    each.map(|comes| comes + &is_answered("[last_Via:]", "[last_CSeq:]")).collect()
}

/// The same, and then the end of the call. What a stream brings at once SIPp can not answer in between.
pub fn reports_and_end(over: Over<'_>, statuses: &[u16]) -> String {
    if let Over::Udp = over {
        return reports(statuses) + &comes(None, "") + &is_answered("[last_Via:]", "[last_CSeq:]");
    }
    let keep = |header: &str, name: String| {
        format!(r#"<ereg regexp=".+" search_in="hdr" header="{header}:" assign_to="{name}"/>"#)
    };
    let all: Vec<Option<u16>> = statuses.iter().copied().map(Some).chain([None]).collect();
    let come = all.iter().enumerate().map(|(index, status)| {
        comes(*status, &(keep("Via", format!("via{index}")) + &keep("CSeq", format!("cseq{index}"))))
    });
    let answered = (0..all.len())
        .map(|index| is_answered(&format!("Via:[$via{index}]"), &format!("CSeq:[$cseq{index}]")));
    come.chain(answered).collect()
}

#[test]
fn an_operator_that_may_moves_its_call_to_a_user_and_to_no_number() {
    for (target, progress, outcome) in [(BOB, reports(&[180]), "200"), (MOBILE, String::new(), "403")] {
        let lane = Lane::take(&format!("transfer-operator-{outcome}"));
        let switch = operator(&lane, "operator-transfers").fill("target", target).fill("progress", &progress);
        let switch = switch.fill("outcome", outcome).start();
        let gateway = Gateway::on(&lane).user("alice", ALICE).user("bob", BOB).trunk_with(
            "operator-a",
            switch.address(),
            |trunk| {
                trunk.set("transfer", "users");
            },
        );
        // As a call of its own it would get through.
        let gateway = gateway.trunk("operator-b", lane.address()).dialplan(TRANSIT).start();
        let device = lane.port();
        Sipp::register(&lane, gateway.udp(), "bob", device);
        let bob = operator(&lane, "user-answers").at_port(device).start();
        alice(&lane, &gateway, "user-calls").pause(3 * SECOND).start().succeed();
        switch.succeed();
        if outcome == "200" {
            bob.succeed();
        } else {
            assert!(bob.messages().is_empty());
        }
        let cdrs = gateway.wait_cdrs(2);
        let first = cdrs.iter().find(|cdr| cdr["transfer_of"].is_null()).expect("the call that was moved");
        let second = cdrs.iter().find(|cdr| cdr["transfer_of"] == first["id"]).expect("the call it became");
        assert_eq!(first["caller_user"], "alice");
        let cause = if outcome == "200" { "normal_clearing" } else { "blocked" };
        assert_eq!(second["end_cause"], cause, "{second}");
        gateway.wait_idle();
    }
}

/// A message's dialog as its caller names it to others (RFC 3891 §3).
fn dialog_of(answer: &TracedMessage) -> String {
    let tag = |name: &str| {
        let field = answer.header(name).unwrap_or_default();
        field.split("tag=").nth(1).unwrap_or_else(|| panic!("no tag in {field}")).to_owned()
    };
    let call_id = answer.header("Call-ID").expect("a Call-ID");
    format!("{call_id};to-tag={};from-tag={}", tag("To"), tag("From"))
}

/// The same as it stands in a URI.
fn in_uri(dialog: &str) -> String {
    dialog.replace(';', "%3B").replace('=', "%3D").replace('@', "%40")
}

/// A gateway whose operator calls from two places and may move calls, with alice's and bob's phones.
struct Attended<'l> {
    lane: &'l Lane,
    over: Over<'l>,
    gateway: Gateway<'l>,
    devices: [u16; 2],
}

impl<'l> Attended<'l> {
    fn new(lane: &'l Lane, over: Over<'l>, authority: &Authority) -> Attended<'l> {
        let there = SocketAddr::new(lane.own_ip(), lane.port());
        let gateway = trunk_at(lane, authority, over, there, |trunk, _| {
            trunk.set("transfer", "users");
        });
        let gateway = gateway.start();
        let devices = ["alice", "bob"].map(|user| {
            let device = lane.port();
            Sipp::register(lane, gateway.udp(), user, device);
            device
        });
        Attended { lane, over, gateway, devices }
    }

    /// The operator calls this number.
    fn call(&self, scenario: &str, number: &str, more: impl FnOnce(Sipp) -> Sipp) -> RunningSipp {
        let caller = Sipp::client(self.lane, scenario, self.gateway.at(self.over)).at(self.lane.own_ip());
        let caller = caller.number(number).key("calling", STRANGER).pause(SECOND);
        more(caller).over(self.over).start()
    }
}

/// Plays it over each transport.
fn over_each(test: &str, play: impl Fn(&Attended<'_>) + Sync) {
    let authority = authority();
    let each = [Over::Udp, Over::Tcp, Over::Tls(&authority)];
    at_once(
        &each,
        |over| over.as_str().to_owned(),
        |_, over| {
            let lane = Lane::take(&format!("{test}-{}", over.as_str()));
            play(&Attended::new(&lane, *over, &authority));
        },
    );
}

#[test]
fn an_operator_that_may_leaves_two_users_to_each_other() {
    over_each("transfer-operator-attended", |attended| {
        let lane = attended.lane;
        let alice = operator(lane, "user-answers").at_port(attended.devices[0]).start();
        let bob = operator(lane, "user-answers-and-hangs-up").at_port(attended.devices[1]);
        let bob = bob.pause(3 * SECOND).start();
        let first = attended.call("operator-calls-and-is-hung-up-on", ALICE, |first| first);
        let replaces = in_uri(&dialog_of(&first.wait_status(200)));
        let second = attended.call("operator-calls-and-transfers", BOB, |second| {
            let to = format!("sip:{ALICE}@[realm]?Replaces={replaces}");
            let reports = reports_and_end(attended.over, &[100, 200]);
            second.fill("refer_to", &to).fill("reports", &reports).pause(BLINK)
        });
        second.succeed();
        first.succeed();
        // Of both calls the operator has nothing left when bob hangs up, and alice hears of it.
        bob.succeed();
        assert_eq!(alice.succeed().requests("BYE").len(), 1);
        let cdrs = attended.gateway.wait_cdrs(2);
        let of = |cdr: &Value| cdrs.iter().any(|first| cdr["transfer_of"] == first["id"]);
        assert!(cdrs.iter().any(of), "{cdrs:#?}");
        assert!(cdrs.iter().all(|cdr| cdr["end_cause"] == "normal_clearing"), "{cdrs:#?}");
        attended.gateway.wait_idle();
    });
}

/// The media threads of the two voices of each call.
fn threads(gateway: &Gateway<'_>) -> Vec<[Option<String>; 2]> {
    let thread = |call: &Value, of: &str| call[of].as_str().map(str::to_owned);
    let calls = gateway.calls();
    calls.iter().map(|call| [thread(call, "caller_thread"), thread(call, "callee_thread")]).collect()
}

/// A user's calls are on one thread from the beginning, an operator's are not.
#[test]
fn two_users_on_two_threads_hear_each_other_once_an_operator_leaves_them_to_each_other() {
    let lane = Lane::take("transfer-threads");
    let _floor = Floor::take();
    let there = SocketAddr::new(lane.own_ip(), lane.port());
    let gateway = trunk_at(&lane, &authority(), Over::Udp, there, |trunk, _| {
        trunk.set("transfer", "users");
    });
    let gateway = gateway.set("sip.digest", vec![toml::Value::from("MD5")]).set("media.workers", 2).start();
    let phone = |user: &str, voice: Voice| {
        Baresip::on(&lane, user).voice(voice).registers(gateway.udp(), "udp").start()
    };
    let (mut alice, mut bob) = (phone("alice", Voice::Caller), phone("bob", Voice::Callee));
    let calls = |scenario: &str, number: &str| {
        let caller = Sipp::client(&lane, scenario, gateway.udp()).at(lane.own_ip());
        caller.number(number).key("calling", STRANGER)
    };
    let first = calls("operator-calls-and-is-hung-up-on", ALICE).start();
    let replaces = in_uri(&dialog_of(&first.wait_status(200)));
    let second = calls("operator-calls-and-transfers", BOB).pause(2 * SECOND);
    let second = second.fill("refer_to", &format!("sip:{ALICE}@[realm]?Replaces={replaces}"));
    let second = second.fill("reports", &reports_and_end(Over::Udp, &[100, 200])).start();
    second.wait_status(200);
    let on = |thread: &str| [Some(thread.to_owned()), Some(thread.to_owned())];
    assert_eq!(threads(&gateway), [on("media-0"), on("media-1")]);
    second.succeed();
    first.succeed();
    // Of each call one voice is left, and no packet of either waits for another thread.
    wait::until("both voices to be on one thread", wait::SOON, || {
        let left = threads(&gateway);
        let [[None, Some(one)], [None, Some(other)]] = &left[..] else { return None };
        (one == other).then_some(())
    });
    alice.speak_again();
    bob.speak_again();
    wait::talk(talk::WORDS);
    alice.hang_up();
    alice.wait_event("CALL_CLOSED");
    bob.wait_event("CALL_CLOSED");
    talk::both_hear(&alice, &bob);
    gateway.wait_idle();
}

#[test]
fn an_operator_that_may_goes_on_with_its_call_from_another_place() {
    over_each("transfer-operator-replaces", |attended| {
        let alice = operator(attended.lane, "user-answers").at_port(attended.devices[0]).start();
        let first = attended.call("operator-calls-and-is-hung-up-on", ALICE, |first| first);
        let replaces = format!("Replaces: {}\n      Require: replaces", dialog_of(&first.wait_status(200)));
        attended.call("operator-calls", ALICE, |second| second.fill("more", &replaces)).succeed();
        first.succeed();
        assert_eq!(alice.succeed().requests("INVITE").len(), 1, "the phone notices nothing");
        attended.gateway.wait_idle();
    });
}

/// RFC 5359 §2.18, RFC 5589 §6.1: a web server would have a phone call somebody, by a REFER of its own that may name the
/// call it is about (RFC 4538). Whose money that is nobody can tell, so that nobody's phone hears of it.
#[test]
fn a_refer_outside_a_call_moves_and_rings_nobody_whoever_sends_it() {
    let lane = Lane::take("transfer-click-to-dial");
    let switch = operator(&lane, "operator-answers").start();
    let (operator_b, stranger) = (RawUdp::new(&lane), RawUdp::new(&lane));
    let gateway =
        Gateway::on(&lane).user("alice", ALICE).user("bob", BOB).trunk("operator-a", switch.address());
    let gateway = gateway.trunk_with("operator-b", operator_b.local(), |trunk| {
        trunk.set("transfer", "users");
    });
    let gateway = gateway.set("app.transfer", "all").start();
    let device = lane.port();
    Sipp::register(&lane, gateway.udp(), "bob", device);
    let mut bob = operator(&lane, "user-answers").at_port(device).start();
    let talking = alice(&lane, &gateway, "user-calls").pause(3 * SECOND).start();
    let answer = talking.wait_status(200);
    let named = dialog_of(&answer).replace("to-tag", "remote-tag").replace("from-tag", "local-tag");
    let mut refused = 0.0;
    for (who, from) in [("operator", operator_b), ("stranger", stranger)] {
        let from = from.towards(gateway.udp());
        let (me, gateway) = (from.local(), gateway.udp());
        for (index, (called, target, about)) in [
            ("bob", MOBILE, String::new()),
            ("bob", "+3290012345", String::new()),
            ("alice", "bob", format!("Require: tdialog\r\nTarget-Dialog: {named}\r\n")),
            ("alice", "bob", format!("Target-Dialog: {named}\r\n")),
        ]
        .into_iter()
        .enumerate()
        {
            let (status, text) = from.ask(format!(
                "REFER sip:{called}@tandem.test SIP/2.0\r\nVia: SIP/2.0/UDP {me};branch=z9hG4bK-{who}-{index};rport\r\n\
                 Max-Forwards: 70\r\nFrom: <sip:alice@tandem.test>;tag={who}{index}\r\nTo: <sip:{called}@tandem.test>\r\n\
                 Call-ID: {who}-{index}@web\r\nCSeq: 1 REFER\r\nContact: <sip:web@{me}>\r\n\
                 Refer-To: <sip:{target}@{gateway}>\r\n{about}Content-Length: 0\r\n\r\n"
            ));
            assert_eq!(status, 403, "{text}");
            assert!(!text.contains("Authenticate"), "no password makes it better: {text}");
            refused += 1.0;
        }
    }
    gateway.wait_metric("tandem_sip_refused_total", &[("reason", "unsupported")], refused);
    talking.succeed();
    assert_eq!(switch.succeed().requests("INVITE").len(), 1, "alice's own call is the only one");
    assert!(bob.messages().is_empty(), "a phone rang");
    bob.kill();
    assert_eq!(gateway.wait_cdr()["transfer_of"], Value::Null);
    gateway.wait_idle();
}
