//! A mix of calls in which each trunk has one way of taking them, so that each figure of a trunk is known.

use crate::scene::{ALICE, BOB, SECOND, incoming, operator};
use crate::support::{
    baresip::{Baresip, PhoneCodec},
    gateway::{Gateway, GatewayBuilder},
    impairment::Impairment,
    lane::Lane,
    sipp::{Played, RunningSipp, Sipp},
    speech::Voice,
    wire::Wire,
};
use std::{net::SocketAddr, time::Duration};

const MS: Duration = Duration::from_millis(1);
/// How long SIPp talks: far from the bounds of the histograms.
const TALK: Duration = Duration::from_millis(1_200);
pub const CAROL: &str = "+3225550003";
/// Behind the trunk of that name.
const ANSWERS: &str = "+32471000001";
const BUSY: &str = "+32472000001";
const FULL: &str = "+32474000001";
const UNKNOWN: &str = "+32475000001";
/// A call for help.
const LATE: &str = "112";
const EARLY: &str = "+32477000001";
pub const LINE: &str = "+32479000001";

/// First tried where there is no capacity, or no answer at all, and then answered.
const FULL_THEN_ANSWERS: &str = "+32473000001";
const SILENT_THEN_ANSWERS: &str = "+32478000001";
const NOWHERE: &str = "+33140000000";

fn dialplan() -> String {
    let mut text = "country_code = \"32\"\n[[rule]]\nname = \"our numbers\"\nfrom = \"any\"\nmatch = \"+322555\"\nto = \"users\"\n".to_owned();
    for (number, trunks) in [
        (ANSWERS, &["answers"][..]),
        (BUSY, &["busy"]),
        (FULL_THEN_ANSWERS, &["full", "answers"]),
        (FULL, &["full"]),
        (UNKNOWN, &["unknown"]),
        (LATE, &["late"]),
        (EARLY, &["early"]),
        (SILENT_THEN_ANSWERS, &["silent", "answers"]),
        (LINE, &["line"]),
    ] {
        let emergency = number == LATE;
        text += &format!(
            "[[rule]]\nname = \"{number}\"\nmatch = \"{number}\"\ntrunks = {trunks:?}\nemergency = {emergency}\n"
        );
    }
    text
}

/// The trunks' far ends, which bear their names.
pub struct Operators {
    pub answers: RunningSipp,
    pub busy: RunningSipp,
    pub full: RunningSipp,
    pub unknown: RunningSipp,
    pub late: RunningSipp,
    pub early: RunningSipp,
    pub silent: RunningSipp,
    /// Says 503 to OPTIONS.
    pub ill: RunningSipp,
    pub line: Baresip,
    /// Where somebody calls carol from.
    pub inbound: SocketAddr,
}

impl Operators {
    #[track_caller]
    pub fn start(lane: &Lane, lane_of_line: &Lane) -> Operators {
        let announcement = crate::media::announcement(lane);
        let refuses = |code, phrase: &str| operator(lane, "operator-refuses-at-once").code(code, phrase);
        let early = operator(lane, "operator-plays-before-the-answer").fill("announcement", &announcement);
        let line = Baresip::on(lane_of_line, LINE).codec(PhoneCodec::Pcma).voice(Voice::Callee);
        Operators {
            answers: operator(lane, "operator-answers").calls(5).start(),
            busy: operator(lane, "operator-refuses").code(486, "Busy Here").calls(2).start(),
            full: refuses(503, "No Capacity").calls(2).start(),
            unknown: refuses(404, "Not Found").start(),
            late: operator(lane, "operator-answers-late").pause(300 * MS).start(),
            early: early.pause(300 * MS).start(),
            silent: operator(lane, "operator-says-nothing").pause(50 * SECOND).start(),
            ill: operator(lane, "operator-is-asked-for-health").code(503, "Ill").calls(1_000).start(),
            line: line.start(),
            inbound: lane.address(),
        }
    }
}

/// Wires that count the packets of calls with media.
pub struct Wires {
    /// Loses four packets, and delays all.
    pub bob: Wire,
    pub line: Wire,
    pub early: Wire,
    /// Of alice, when she calls `early`.
    pub early_caller: Wire,
}

impl Wires {
    pub fn start(lane: &Lane, gateway: SocketAddr, operators: &Operators) -> Wires {
        let bad = Impairment::lose([50, 51, 90, 130]).delay(20 * MS).jitter(16 * MS);
        let bob = Wire::on(lane, gateway).to_gateway(bad).to_peer(Impairment::none().delay(20 * MS));
        Wires {
            bob: bob.start(),
            line: Wire::on(lane, gateway).peer(operators.line.address()).start(),
            early: Wire::on(lane, gateway).peer(operators.early.address()).start(),
            early_caller: Wire::on(lane, gateway).start(),
        }
    }
}

/// Users, trunks, prices of `line`.
pub fn configure<'a>(
    builder: GatewayBuilder<'a>,
    operators: &Operators,
    wires: &Wires,
) -> GatewayBuilder<'a> {
    let mut builder = builder
        .dialplan(&dialplan())
        .set("sip.digest", vec![toml::Value::from("MD5")])
        .set("limits.max_calls_per_user", 50)
        .user("alice", ALICE)
        .user("bob", BOB)
        .user("carol", CAROL);
    for (name, proxy) in [
        ("answers", operators.answers.address()),
        ("busy", operators.busy.address()),
        ("full", operators.full.address()),
        ("unknown", operators.unknown.address()),
        ("late", operators.late.address()),
        ("early", wires.early.address()),
        ("inbound", operators.inbound),
    ] {
        builder = builder.trunk(name, proxy);
    }
    for (trunk, price) in [("", "0.60"), ("line", "0.24")] {
        builder = builder.section("rate", |rate| {
            rate.set("prefix", LINE).set("per_minute", price).set("currency", "EUR").set("trunk", trunk);
        });
    }
    builder
        .trunk_with("silent", operators.silent.address(), |trunk| {
            trunk.set("reply_timeout_ms", 1_800);
        })
        .trunk_with("ill", operators.ill.address(), |trunk| {
            trunk.set("options_seconds", 1);
        })
        .trunk_with("line", wires.line.address(), |trunk| {
            trunk.set("options_seconds", 1).set("max_channels", 4);
        })
}

/// All calls but bob's, and one that is none for want of the right password; the last one is carol's.
#[track_caller]
pub fn call_everybody(
    lane: &Lane,
    gateway: &Gateway<'_>,
    operators: &Operators,
    wires: &Wires,
) -> Vec<Played> {
    let to = |gateway, scenario: &str, number: &str| {
        Sipp::client(lane, scenario, gateway).user("alice").number(number).pause(TALK)
    };
    let call = |scenario: &str, number: &str| to(gateway.udp(), scenario, number);
    let carol = incoming(lane, gateway, "operator-calls", operators.inbound.port(), CAROL);
    let calling = [
        call("user-calls", ANSWERS).calls(3).start(),
        call("user-is-refused", BUSY).code(486, "").calls(2).start(),
        call("user-calls", FULL_THEN_ANSWERS).start(),
        call("user-is-refused", FULL).code(503, "").start(),
        call("user-is-refused", UNKNOWN).code(404, "").start(),
        call("user-calls", LATE).start(),
        to(wires.early_caller.address(), "user-calls", EARLY).start(),
        call("user-calls", SILENT_THEN_ANSWERS).start(),
        call("user-is-refused", NOWHERE).code(404, "").start(),
        call("user-is-refused", ANSWERS).credentials("alice", "wrong").code(401, "").start(),
        carol.pause(TALK).start(),
    ];
    calling.into_iter().map(RunningSipp::succeed).collect()
}
