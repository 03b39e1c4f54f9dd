//! What each trunk is told that it may use: Allow and Supported say no more and no less than its settings.

use crate::scene::{ALICE, alice, incoming, operator};
use crate::support::{gateway::Gateway, lane::Lane, sipp::Sipp, trace::TracedMessage};
use toml::Value as Toml;

#[track_caller]
fn assert_told(message: &TracedMessage, allow: &str, supported: Option<&str>) {
    let told = (message.header("Allow"), message.header("Supported"));
    assert_eq!(told, (Some(allow), supported), "{}", message.text);
}

#[test]
fn a_trunk_is_told_the_methods_and_extensions_that_its_settings_leave() {
    const BARE: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE";
    const RELIABLE: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, PRACK, UPDATE";
    const ALL: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, PRACK, UPDATE, REFER";
    type Settings<'a> = &'a [(&'a str, Toml)];
    let cases: [(&str, Settings<'_>, &str, Option<&str>); 4] = [
        ("bare", &[], BARE, None),
        ("reliable", &[("prack", "supported".into())], RELIABLE, Some("100rel")),
        ("timer", &[("session_timer_seconds", 1_800.into())], BARE, Some("timer")),
        (
            "all",
            &[
                ("prack", "supported".into()),
                ("session_timer_seconds", 1_800.into()),
                ("transfer", "users".into()),
            ],
            ALL,
            Some("100rel, timer, replaces"),
        ),
    ];
    for (name, settings, allow, supported) in cases {
        let lane = Lane::take(&format!("capabilities-{name}"));
        let switch = operator(&lane, "operator-answers").start();
        let from = switch.address();
        let gateway = Gateway::on(&lane).user("alice", ALICE).trunk_with("operator-a", from, |trunk| {
            for (key, value) in settings {
                trunk.set(key, value.clone());
            }
        });
        let gateway = gateway.start();
        alice(&lane, &gateway, "user-calls").start().succeed();
        assert_told(switch.succeed().request("INVITE"), allow, supported);

        let asked = Sipp::client(&lane, "anyone-asks-options", gateway.udp()).at_port(from.port());
        let asked = asked.code(200, "").start().succeed();
        assert_told(asked.response(200), allow, supported);
        let device = lane.port();
        Sipp::register(&lane, gateway.udp(), "alice", device);
        let phone = operator(&lane, "user-answers").at_port(device).start();
        let called = incoming(&lane, &gateway, "operator-calls", from.port(), ALICE).start().succeed();
        assert_told(called.response(200), allow, supported);
        phone.succeed();
    }
}

#[test]
fn app_users_and_strangers_are_told_what_app_users_have() {
    for (transfer, refer, supported) in [("all", ", REFER", "timer, replaces"), ("off", "", "timer")] {
        let lane = Lane::take(&format!("capabilities-app-{transfer}"));
        let switch = operator(&lane, "operator-answers").start();
        let gateway = Gateway::on(&lane).user("alice", ALICE).trunk("operator-a", switch.address());
        let gateway = gateway.set("app.transfer", transfer).start();
        let called = alice(&lane, &gateway, "user-calls").start().succeed();
        let allow = format!("INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, REGISTER, PRACK, UPDATE{refer}");
        let answers = called.responses(200);
        let answer =
            answers.iter().find(|answer| answer.sdp("m=audio").next().is_some()).expect("a 200 to INVITE");
        assert_told(answer, &allow, Some(supported));
        let asked = Sipp::client(&lane, "anyone-asks-options", gateway.udp()).code(200, "");
        assert_told(asked.start().succeed().response(200), &allow, Some(supported));
        switch.succeed();
    }
}
