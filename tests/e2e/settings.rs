//! Settings whose other value shows at once: what peers are offered and told, where files go, when a call ends.

use crate::scene::{ALICE, BLINK, BOB, MOBILE, SECOND, alice, builder, incoming, operator};
use crate::support::{
    gateway::{BINARY, Gateway, GatewayBuilder},
    http,
    lane::Lane,
    process::Process,
    raw_sip::{self, RawUdp},
    sipp::Sipp,
    trace::TracedMessage,
    wait,
};
use std::{
    os::unix::fs::PermissionsExt,
    process::Command,
    time::{Duration, Instant},
};
use toml::Value as Toml;

/// What alice's device is offered by a gateway so configured.
fn offered_to_a_device(
    test: &str,
    configure: impl FnOnce(GatewayBuilder<'_>) -> GatewayBuilder<'_>,
) -> TracedMessage {
    let lane = Lane::take(test);
    let from = lane.address();
    let gateway = configure(Gateway::on(&lane).user("alice", ALICE).trunk("operator-a", from)).start();
    let device = lane.port();
    Sipp::register(&lane, gateway.udp(), "alice", device);
    let phone = operator(&lane, "user-refuses").code(486, "Busy Here").at_port(device).start();
    incoming(&lane, &gateway, "operator-is-refused", from.port(), ALICE).code(486, "").start().succeed();
    phone.succeed().request("INVITE").clone()
}

#[test]
fn devices_are_offered_the_codecs_of_the_app() {
    let offer =
        offered_to_a_device("settings-codecs", |gateway| gateway.set("app.codecs", vec![Toml::from("PCMU")]));
    let codecs: Vec<_> = offer.sdp("a=rtpmap:").filter(|codec| !codec.contains("telephone-event")).collect();
    assert_eq!(codecs, ["0 PCMU/8000"]);
}

#[test]
fn devices_that_hear_tones_are_offered_no_events() {
    let offer = offered_to_a_device("settings-dtmf", |gateway| gateway.set("app.dtmf", "inband"));
    assert!(offer.sdp("a=rtpmap:").all(|codec| !codec.contains("telephone-event")), "{}", offer.text);
}

#[test]
fn devices_may_be_held_to_srtp_on_every_transport() {
    let offer = offered_to_a_device("settings-srtp", |gateway| gateway.set("app.srtp", "sdes"));
    assert!(offer.sdp("m=audio ").all(|line| line.contains(" RTP/SAVP ")), "{}", offer.text);
    assert!(offer.sdp("a=crypto:").next().is_some());
}

#[test]
fn a_call_ends_at_the_longest_duration_of_its_trunk() {
    let lane = Lane::take("settings-duration");
    let switch = operator(&lane, "operator-answers").start();
    let gateway =
        Gateway::on(&lane).user("alice", ALICE).trunk_with("operator-a", switch.address(), |trunk| {
            trunk.set("max_duration_seconds", 1);
        });
    let gateway = gateway.start();
    let caller = alice(&lane, &gateway, "user-calls-and-is-hung-up-on").start().succeed();
    assert_eq!(caller.requests("BYE").len(), 1);
    assert_eq!(switch.succeed().requests("BYE").len(), 1);
}

#[test]
fn a_call_that_nobody_answers_ends_after_the_ring_time_of_its_trunk() {
    let lane = Lane::take("settings-ring");
    let switch = operator(&lane, "operator-rings-until-cancelled").start();
    let gateway =
        Gateway::on(&lane).user("alice", ALICE).trunk_with("operator-a", switch.address(), |trunk| {
            trunk.set("ring_seconds", 1);
        });
    let gateway = gateway.start();
    let begun = Instant::now();
    alice(&lane, &gateway, "user-is-refused").code(480, "").start().succeed();
    assert!((1.0..6.0).contains(&begun.elapsed().as_secs_f64()), "{:?}", begun.elapsed());
    switch.succeed();
}

#[test]
fn data_and_journal_stand_where_they_are_wanted() {
    let lane = Lane::take("settings-folders");
    let switch = operator(&lane, "operator-answers").start();
    let gateway =
        builder(&lane, &switch).set("gateway.data_dir", "state").set("billing.journal_dir", "records");
    let gateway = gateway.start();
    alice(&lane, &gateway, "user-calls").start().succeed();
    switch.succeed();
    let holds = |folder: &str| {
        std::fs::read_dir(gateway.folder().join(folder)).is_ok_and(|mut all| all.next().is_some())
    };
    assert!(holds("state"), "nothing in data_dir");
    assert!(holds("records"), "nothing in journal_dir");
    assert!(!gateway.folder().join("data/journal").exists(), "a journal at the default place");
    // Numbers and what stands for passwords: for nobody else to read.
    for folder in ["state", "records"] {
        for file in std::fs::read_dir(gateway.folder().join(folder)).expect("a folder") {
            let file = file.expect("an entry");
            let mode = file.metadata().expect("its mode").permissions().mode();
            assert_eq!(mode & 0o077, 0, "{}: {mode:o}", file.path().display());
        }
    }
}

#[test]
fn a_running_call_is_recorded_as_often_as_configured() {
    let lane = Lane::take("settings-interim");
    let switch = operator(&lane, "operator-answers").start();
    let gateway = builder(&lane, &switch).set("billing.interim_seconds", 1).start();
    let caller = alice(&lane, &gateway, "user-calls").pause(4 * SECOND).start();
    caller.wait_status(200);
    wait::until("an interim record", wait::SOON, || {
        gateway.cdrs().into_iter().find(|cdr| cdr["state"] == "interim")
    });
    assert_eq!(gateway.calls().len(), 1, "the call is over");
    caller.succeed();
    switch.succeed();
}

#[test]
fn a_record_names_the_gateway_the_account_and_the_carrier() {
    let lane = Lane::take("settings-names");
    let switch = operator(&lane, "operator-answers").calls(2).start();
    let gateway = Gateway::on(&lane)
        .set("gateway.name", "gw-brussels")
        .user_with("alice", ALICE, |user| {
            user.set("account", "wholesale");
        })
        .user("bob", BOB)
        .trunk_with("operator-a", switch.address(), |trunk| {
            trunk.set("carrier", "Carrier of the north");
        });
    let gateway = gateway.start();
    alice(&lane, &gateway, "user-calls").pause(BLINK).start().succeed();
    let bob = Sipp::client(&lane, "user-calls", gateway.udp()).user("bob").number(MOBILE);
    bob.pause(BLINK).start().succeed();
    switch.succeed();
    let cdrs = gateway.wait_cdrs(2);
    for (cdr, account) in cdrs.iter().zip(["wholesale", "default"]) {
        let names = ["node", "account", "carrier"].map(|name| cdr[name].as_str().unwrap_or_default());
        assert_eq!(names, ["gw-brussels", account, "Carrier of the north"], "{cdr:#}");
    }
    let found = gateway.list("/api/v1/cdrs?account=wholesale", "cdrs");
    assert_eq!(found.iter().map(|cdr| &cdr["id"]).collect::<Vec<_>>(), [&cdrs[0]["id"]]);
    assert_eq!(gateway.get("/api/v1/trunks/operator-a")["carrier"], "Carrier of the north");
}

#[test]
fn a_call_costs_what_the_price_per_minute_says() {
    let lane = Lane::take("settings-price");
    let switch = operator(&lane, "operator-answers").calls(2).start();
    let priced = |sell: &str, buy: &str| {
        builder(&lane, &switch)
            .section("rate", |rate| {
                rate.set("prefix", "+32").set("per_minute", sell);
            })
            .section("rate", |rate| {
                rate.set("prefix", "+32").set("per_minute", buy).set("trunk", "operator-a");
            })
    };
    let mut gateway = priced("0.60", "0.30").start();
    alice(&lane, &gateway, "user-calls").pause(SECOND).start().succeed();
    gateway.wait_cdrs(1);
    gateway.kill();
    gateway.change(|_| priced("6.00", "0.06"));
    gateway.start_again();
    alice(&lane, &gateway, "user-calls").pause(SECOND).start().succeed();
    switch.succeed();
    // Per second and per thousandth of the currency, so that a call of one or two seconds has its price to the digit.
    for (cdr, per_second) in gateway.wait_cdrs(2).iter().zip([[10, 5], [100, 1]]) {
        for (side, price) in ["sell", "buy"].into_iter().zip(per_second) {
            let billed =
                cdr[side]["billed_seconds"].as_u64().unwrap_or_else(|| panic!("no price in {cdr:#}"));
            assert!((1..=3).contains(&billed), "{cdr:#}");
            let expected = format!("{:.6}", (price * billed) as f64 / 1_000.0);
            assert_eq!(cdr[side]["amount"], expected, "{cdr:#}");
        }
    }
}

#[test]
fn the_admin_api_is_where_it_is_wanted_or_nowhere() {
    let lane = Lane::take("settings-admin");
    let start = |name: &str, listen: &str| {
        let builder = GatewayBuilder::new(&lane, name).set("admin.listen", listen);
        let mut command = Command::new(BINARY);
        command.arg("run").arg("--config").arg(builder.write());
        let process = Process::start(name, command);
        // It is up once it answers over SIP, whatever becomes of the API.
        wait::udp_bound(builder.udp().port(), wait::START);
        Sipp::client(&lane, "anyone-asks-options", builder.udp()).code(200, "").start().succeed();
        process
    };
    let wanted = lane.address();
    let there = start("there", &wanted.to_string());
    assert_eq!(http::get(wanted, "/health/live").expect("it listens there").status, 200);
    let nowhere = start("nowhere", "");
    assert_eq!(tcp_listeners(nowhere.pid()), 1, "SIP over TCP and nothing else");
    assert_eq!(tcp_listeners(there.pid()), 2);
}

/// How many sockets of a process listen for TCP, as the kernel says.
fn tcp_listeners(pid: u32) -> usize {
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).expect("the process lives");
    let listening: Vec<String> = table
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            (fields.get(3) == Some(&"0A")).then(|| format!("socket:[{}]", fields[9]))
        })
        .collect();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the process lives");
    open.flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .filter(|target| listening.iter().any(|socket| target.as_os_str() == socket.as_str()))
        .count()
}

#[test]
fn a_trunk_is_called_and_registered_at_in_its_own_domain() {
    let lane = Lane::take("settings-domain");
    let (first, second) =
        (operator(&lane, "operator-answers").start(), operator(&lane, "operator-answers").start());
    let registrar = operator(&lane, "operator-takes-registration")
        .key("granted", "60")
        .key("operator_realm", "registrar.example")
        .start();
    let gateway = Gateway::on(&lane)
        .user("alice", ALICE)
        .trunk_with("named", first.address(), |trunk| {
            trunk.set("domain", "operator.example");
        })
        .trunk("plain", second.address())
        .trunk_with("registered", registrar.address(), |trunk| {
            trunk.set("auth", "register").set("username", "gw").set("password", "secret");
            trunk.set("domain", "registrar.example");
        })
        .dialplan(
            "country_code = \"32\"\n[[rule]]\nname = \"one\"\nmatch = \"+3247\"\ntrunks = [\"named\"]\n\
             [[rule]]\nname = \"other\"\nmatch = \"+32\"\ntrunks = [\"plain\"]\n",
        );
    let gateway = gateway.start();
    alice(&lane, &gateway, "user-calls").pause(BLINK).start().succeed();
    alice(&lane, &gateway, "user-calls").number("+3222222222").pause(BLINK).start().succeed();
    let header = |message: &TracedMessage, name: &str| message.header(name).unwrap_or_default().to_owned();
    let (named, plain) = (first.succeed(), second.succeed());
    let (named, plain) = (named.request("INVITE"), plain.request("INVITE"));
    assert!(header(named, "From").contains("@operator.example>"), "{}", named.text);
    assert!(!header(plain, "From").contains("operator.example"), "{}", plain.text);
    let register = registrar.wait_request("REGISTER");
    assert_eq!(register.uri(), Some("sip:registrar.example"));
    for name in ["From", "To"] {
        assert!(header(&register, name).contains("@registrar.example>"), "{}", register.text);
    }
}

/// A trunk's call that is refused, towards a gateway with these timers.
fn refused(test: &str, timers: [(&str, i64); 2], talk: impl FnOnce(&RawUdp, &str)) {
    let lane = Lane::take(test);
    let from = RawUdp::new(&lane);
    let mut gateway = Gateway::on(&lane).user("alice", ALICE).trunk("operator-a", from.local());
    for (timer, ms) in timers {
        gateway = gateway.set(timer, ms);
    }
    let gateway = gateway.start();
    let from = from.towards(gateway.udp());
    // A number of our own range that nobody has.
    let invite = from.invite("+3225559999", test, "");
    assert_eq!(from.ask(&invite).0, 604);
    talk(&from, &invite);
}

/// How often a refusal comes that nobody acknowledges: RFC 3261 §17.2.1, Timer G.
fn repetitions(test: &str, t2_ms: i64) -> usize {
    let mut count = 0;
    refused(test, [("sip.t1_ms", 20), ("sip.t2_ms", t2_ms)], |from, _| {
        // Timer H ends it after 64 times T1, 1.3 s; no pause is longer than T2 or half of that.
        while from.receive(SECOND).is_some_and(|text| raw_sip::status(&text) == Some(604)) {
            count += 1;
        }
    });
    count
}

#[test]
fn t2_bounds_the_pause_between_repetitions() {
    // Every 20 ms for 1.28 s: 63 of them, fewer where a busy machine is late for each.
    let steady = repetitions("settings-t2-short", 20);
    assert!((20..=64).contains(&steady), "{steady}");
    // After 20, 60, 140, 300, 620 and 1260 ms.
    let doubling = repetitions("settings-t2-long", 4_000);
    assert!((5..=6).contains(&doubling), "{doubling}");
}

#[test]
fn t4_is_how_long_a_request_may_come_again() {
    let again = |test: &str, t4_ms: i64| {
        let mut answer = None;
        refused(test, [("sip.t4_ms", t4_ms), ("sip.t1_ms", 500)], |from, invite| {
            let ack = invite.replace("INVITE sip:", "ACK sip:").replace("CSeq: 1 INVITE", "CSeq: 1 ACK");
            from.send(&ack);
            wait::talk(Duration::from_millis(300));
            while from.receive(BLINK).is_some() {}
            from.send(invite);
            answer = from.receive(SECOND).and_then(|text| raw_sip::status(&text));
        });
        answer
    };
    // RFC 3261 §17.2.1, Timer I: within T4 of its ACK the same INVITE is an echo of the network …
    assert_eq!(again("settings-t4-long", 5_000), None);
    // … and after it an INVITE like any other.
    assert!(again("settings-t4-short", 50).is_some());
}
