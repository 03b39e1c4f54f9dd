//! What an interconnect team tries beyond a plain call: session timers, reliable progress, UPDATE, forks, causes.

use crate::scene::{ALICE, BOB, SECOND, alice, builder, gateway, incoming, operator};
use crate::support::{
    gateway::Gateway,
    lane::Lane,
    sipp::{RunningSipp, Sipp},
};

/// A gateway with alice and one trunk that has these settings beside its address.
fn with_trunk<'a>(lane: &'a Lane, operator: &RunningSipp, settings: &[(&str, toml::Value)]) -> Gateway<'a> {
    let trunk = |section: &mut crate::support::gateway::Section| {
        for (key, value) in settings {
            section.set(key, value.clone());
        }
    };
    Gateway::on(lane).user("alice", ALICE).trunk_with("operator-a", operator.address(), trunk).start()
}

fn timer(seconds: i64) -> [(&'static str, toml::Value); 1] {
    [("session_timer_seconds", seconds.into())]
}

fn prack(how: &str) -> [(&'static str, toml::Value); 1] {
    [("prack", how.into())]
}

#[test]
fn an_operator_refreshes_the_session_by_update_and_by_reinvite() {
    let lane = Lane::take("features-refreshed");
    let operator = operator(&lane, "operator-refreshes").start();
    let gateway = with_trunk(&lane, &operator, &timer(1800));
    alice(&lane, &gateway, "user-calls").start().succeed();
    operator.succeed();
    gateway.wait_idle();
}

#[test]
fn an_operator_that_wants_the_session_refreshed_gets_a_reinvite_or_an_update() {
    for scenario in ["operator-wants-refreshes", "operator-wants-updates"] {
        let lane = Lane::take(&format!("features-{scenario}"));
        let operator = operator(&lane, scenario).start();
        let gateway = with_trunk(&lane, &operator, &timer(1800));
        alice(&lane, &gateway, "user-calls").pause(3 * SECOND).start().succeed();
        let operator = operator.succeed();
        if let [first, second] = operator.requests("INVITE")[..] {
            assert_eq!(first.body(), second.body(), "a refresh changes nothing, not even the version");
        }
        gateway.wait_idle();
    }
}

#[test]
fn a_session_that_nobody_refreshes_is_ended_and_says_why() {
    let lane = Lane::take("features-expired");
    let operator = operator(&lane, "operator-forgets-to-refresh").start();
    let gateway = with_trunk(&lane, &operator, &timer(1800));
    alice(&lane, &gateway, "user-calls-and-is-hung-up-on").start().succeed();
    operator.succeed();
    assert_eq!(gateway.wait_cdr()["end_cause"], "session_expired");
}

#[test]
fn a_session_interval_is_raised_to_what_the_operator_can_bear() {
    let lane = Lane::take("features-422");
    let operator = operator(&lane, "operator-wants-longer-sessions").start();
    let gateway = with_trunk(&lane, &operator, &timer(90));
    alice(&lane, &gateway, "user-calls").start().succeed();
    operator.succeed();
    gateway.wait_idle();
}

#[test]
fn an_operator_that_asks_for_too_short_a_session_is_told_the_least() {
    let lane = Lane::take("features-422-in");
    let from = lane.address();
    let gateway = Gateway::on(&lane)
        .user("alice", ALICE)
        .trunk_with("operator-a", from, |trunk| {
            trunk.set("session_timer_seconds", 1800);
        })
        .start();
    let port = lane.port();
    Sipp::register(&lane, gateway.udp(), "alice", port);
    let phone = operator(&lane, "user-answers").at_port(port).start();
    incoming(&lane, &gateway, "operator-calls-with-a-timer", from.port(), ALICE).start().succeed();
    phone.succeed();
    gateway.wait_idle();
}

#[test]
fn early_media_that_has_to_arrive_is_acknowledged_and_is_the_answer() {
    for (how, header) in [("supported", "Supported"), ("required", "Require")] {
        let lane = Lane::take(&format!("features-prack-{how}"));
        let operator = operator(&lane, "operator-rings-reliably").fill("header", header).start();
        let gateway = with_trunk(&lane, &operator, &prack(how));
        let caller = alice(&lane, &gateway, "user-calls").start().succeed();
        assert!(caller.response(183).sdp("m=audio").next().is_some());
        assert_eq!(operator.succeed().requests("PRACK").len(), 2);
        gateway.wait_idle();
    }
}

#[test]
fn ringing_that_was_lost_is_repeated_to_an_operator_until_its_prack() {
    let lane = Lane::take("features-prack-in");
    let from = lane.address();
    let gateway = Gateway::on(&lane)
        .user("alice", ALICE)
        .trunk_with("operator-a", from, |trunk| {
            trunk.set("prack", "supported");
        })
        .start();
    let port = lane.port();
    Sipp::register(&lane, gateway.udp(), "alice", port);
    let phone = operator(&lane, "user-answers").pause(4 * SECOND).at_port(port).start();
    let caller = incoming(&lane, &gateway, "operator-calls-with-prack", from.port(), ALICE);
    let caller = caller.deaf_in_pauses().start().succeed();
    phone.succeed();
    let numbers: Vec<_> = caller.responses(180).iter().map(|ringing| ringing.header("RSeq")).collect();
    assert!(numbers.len() >= 2 && numbers.iter().all(|number| *number == numbers[0]), "{caller}");
}

#[test]
fn who_lacks_reliable_progress_where_it_is_required_is_told_so() {
    let lane = Lane::take("features-421");
    let from = lane.address();
    let gateway = Gateway::on(&lane)
        .user("alice", ALICE)
        .trunk_with("operator-a", from, |trunk| {
            trunk.set("prack", "required");
        })
        .start();
    let caller = incoming(&lane, &gateway, "operator-is-refused", from.port(), ALICE);
    let caller = caller.code(421, "Extension Required").start().succeed();
    assert_eq!(caller.response(421).header("Require"), Some("100rel"));
}

#[test]
fn an_operator_changes_the_session_by_update_before_and_after_the_answer() {
    let lane = Lane::take("features-update");
    let operator = operator(&lane, "operator-updates").start();
    let gateway = with_trunk(&lane, &operator, &prack("supported"));
    alice(&lane, &gateway, "user-is-held-and-hung-up-on").start().succeed();
    operator.succeed();
    gateway.wait_idle();
}

#[test]
fn of_two_forks_the_one_that_answers_is_heard_and_the_other_one_is_hung_up() {
    let lane = Lane::take("features-forks");
    let operator = operator(&lane, "operator-forks").start();
    let gateway = gateway(&lane, &operator);
    let caller = alice(&lane, &gateway, "user-calls").start().succeed();
    operator.succeed();
    assert!(caller.response(183).sdp("m=audio").next().is_some());
    gateway.wait_idle();
}

#[test]
fn the_cause_of_an_operators_bye_reaches_the_other_side_and_the_record() {
    let lane = Lane::take("features-reason");
    let operator = operator(&lane, "operator-answers-and-hangs-up");
    let operator = operator.fill("extra", "Reason: Q.850;cause=41;text=\"mgw3 down\"").start();
    let gateway = gateway(&lane, &operator);
    let caller = alice(&lane, &gateway, "user-calls-and-is-hung-up-on").start().succeed();
    operator.succeed();
    let reason = caller.request("BYE").header("Reason").unwrap_or_default().to_owned();
    assert_eq!(reason, "Q.850;cause=41;text=\"Temporary failure\"", "its code, not its words");
    let cdr = gateway.wait_cdr();
    assert_eq!((&cdr["end_cause"], &cdr["q850"]), (&"normal_clearing".into(), &41.into()));
}

#[test]
fn the_cause_of_a_refusal_is_more_exact_than_its_status() {
    let lane = Lane::take("features-refusal");
    let operator = operator(&lane, "operator-refuses").fill("extra", "Reason: Q.850;cause=19");
    let operator = operator.code(480, "Temporarily Unavailable").start();
    let gateway = gateway(&lane, &operator);
    let caller = alice(&lane, &gateway, "user-is-refused").code(480, "Temporarily Unavailable");
    let caller = caller.start().succeed();
    operator.succeed();
    assert!(caller.response(480).header("Reason").is_some_and(|reason| reason.contains("cause=19;")));
    assert_eq!(gateway.wait_cdr()["end_cause"], "no_answer");
}

#[test]
fn an_address_that_asks_to_be_left_alone_is_left_alone_for_so_long() {
    let lane = Lane::take("features-retry-after");
    let busy = operator(&lane, "operator-refuses-at-once").fill("extra", "Retry-After: 60");
    let busy = busy.code(503, "Service Unavailable").start();
    let other = operator(&lane, "operator-answers").calls(2).start();
    let proxies: Vec<toml::Value> =
        [busy.address(), other.address()].iter().map(|address| address.to_string().into()).collect();
    let gateway = Gateway::on(&lane)
        .user("alice", ALICE)
        .trunk_with("operator-a", busy.address(), |trunk| {
            trunk.set("proxy", proxies);
        })
        .start();
    alice(&lane, &gateway, "user-calls").start().succeed();
    alice(&lane, &gateway, "user-calls").start().succeed();
    assert_eq!(busy.succeed().requests("INVITE").len(), 1, "the second call went past it");
    assert_eq!(other.succeed().requests("INVITE").len(), 2);
}

#[test]
fn an_offer_that_fits_nobody_is_refused_with_a_warning() {
    let lane = Lane::take("features-warning");
    let from = crate::support::raw_sip::RawUdp::new(&lane);
    let gateway = Gateway::on(&lane).user("alice", ALICE).trunk("operator-a", from.local()).start();
    let from = from.towards(gateway.udp());
    let g729 = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 18\r\n";
    let (status, answer) = from.ask(from.invite(ALICE, "warning", g729));
    assert_eq!(status, 488);
    assert!(answer.contains("Warning: 305 tandem \"Incompatible media format\""), "{answer}");
}

#[test]
fn an_app_user_gets_the_session_timer_it_asks_for() {
    let lane = Lane::take("features-timer-user");
    let operator = operator(&lane, "operator-answers").start();
    let gateway = gateway(&lane, &operator);
    alice(&lane, &gateway, "user-calls-with-a-timer").start().succeed();
    operator.succeed();
    gateway.wait_idle();
}

#[test]
fn an_app_user_that_insists_gets_early_media_that_arrives() {
    let lane = Lane::take("features-prack-user");
    let announcement = crate::media::announcement(&lane);
    let operator = operator(&lane, "operator-plays-before-the-answer").fill("announcement", &announcement);
    let operator = operator.pause(SECOND).start();
    let gateway = gateway(&lane, &operator);
    alice(&lane, &gateway, "user-calls-with-prack").start().succeed();
    operator.succeed();
    gateway.wait_idle();
}

#[test]
fn early_media_is_heard_where_the_operator_permits_it() {
    for (heard, status) in [("sendrecv", 183), ("inactive", 180)] {
        let lane = Lane::take(&format!("features-early-{heard}"));
        let operator = operator(&lane, "operator-plays-by-permission").fill("heard", heard).start();
        let gateway = with_trunk(&lane, &operator, &[("p_early_media", true.into())]);
        let caller = alice(&lane, &gateway, "user-calls").start().succeed();
        operator.succeed();
        let told = caller.response(status);
        assert_eq!(told.sdp("m=audio").next().is_some(), status == 183);
    }
}

#[test]
fn a_call_is_sent_on_to_a_listed_place_only() {
    for listed in [true, false] {
        let lane = Lane::take(&format!("features-redirect-{listed}"));
        let other = operator(&lane, "operator-answers").start();
        let place = other.address().to_string();
        let first = operator(&lane, "operator-sends-on").fill("place", &place);
        let first = first.fill("number", crate::scene::MOBILE).start();
        let places: Vec<toml::Value> = listed.then(|| place.into()).into_iter().collect();
        let gateway = with_trunk(&lane, &first, &[("redirect_to", places.into())]);
        if listed {
            alice(&lane, &gateway, "user-calls").start().succeed();
            other.succeed();
            let cdr = gateway.wait_cdr();
            assert_eq!(cdr["legs"].as_array().map(Vec::len), Some(2), "{cdr}");
        } else {
            let caller = alice(&lane, &gateway, "user-is-refused").code(502, "Bad Gateway").start();
            caller.succeed();
            assert!(other.messages().is_empty());
        }
        first.succeed();
    }
}

/// A number portability answer: the same number, and where it has gone (RFC 4694).
#[test]
fn a_call_is_sent_on_to_where_the_number_was_ported_and_the_next_place_hears_how_it_came() {
    let lane = Lane::take("features-redirect-ported");
    let other = operator(&lane, "operator-answers").start();
    let place = other.address().to_string();
    let first = operator(&lane, "operator-sends-on").fill("place", &place);
    let first = first.fill("number", "32470123456;npdi;rn=+3299000001").start();
    let places: Vec<toml::Value> = vec![place.into()];
    let settings =
        [("redirect_to", places.into()), ("diversion", true.into()), ("domain", "gw.example".into())];
    let gateway = with_trunk(&lane, &first, &settings);
    alice(&lane, &gateway, "user-calls").start().succeed();
    first.succeed();
    let other = other.succeed();
    let invite = other.request("INVITE");
    let uri = invite.uri().expect("a Request-URI").to_owned();
    let asked =
        uri.starts_with("sip:+32470123456;") && uri.contains(";npdi") && uri.contains(";rn=+3299000001");
    assert!(asked, "{uri}");
    let history: Vec<_> = invite.headers("History-Info").collect();
    assert_eq!(
        history,
        [
            "<sip:+32470123456@gw.example?Reason=SIP%3Bcause%3D302>;index=1",
            "<sip:+32470123456@gw.example>;index=1.1;rc=1"
        ]
    );
    assert_eq!(gateway.wait_cdr()["called_number"], "+32470123456");
}

#[test]
fn a_user_moves_its_call_to_another_user_and_pays_for_both_halves() {
    let lane = Lane::take("features-transfer");
    let operator = operator(&lane, "operator-answers-and-hangs-up").pause(4 * SECOND).start();
    let gateway = builder(&lane, &operator).user("bob", BOB).start();
    let port = lane.port();
    Sipp::register(&lane, gateway.udp(), "bob", port);
    let phone = crate::scene::operator(&lane, "user-answers").at_port(port).start();
    alice(&lane, &gateway, "user-transfers").fill("target", "bob").start().succeed();
    operator.succeed();
    phone.succeed();
    let cdrs = gateway.wait_cdrs(2);
    let first = cdrs.iter().find(|cdr| cdr["transfer_of"].is_null()).expect("the call that was moved");
    let second = cdrs.iter().find(|cdr| cdr["transfer_of"] == first["id"]).expect("the call it became");
    assert!(cdrs.iter().all(|cdr| cdr["caller_user"] == "alice" && cdr["end_cause"] == "normal_clearing"));
    assert_eq!((&first["direction"], &second["direction"]), (&"app_to_trunk".into(), &"app_to_app".into()));
    assert!(first["duration_ms"].as_u64() > second["duration_ms"].as_u64());
    gateway.wait_idle();
}

#[test]
fn a_transfer_goes_no_further_than_its_user_may_call() {
    for (how, target) in [("all", "090012345"), ("users", "0470999999")] {
        let lane = Lane::take(&format!("features-transfer-{how}"));
        let operator = operator(&lane, "operator-answers").start();
        let gateway = builder(&lane, &operator).set("app.transfer", how).start();
        let caller = alice(&lane, &gateway, "user-fails-to-transfer").fill("target", target);
        caller.code(403, "Forbidden").start().succeed();
        assert_eq!(operator.succeed().requests("INVITE").len(), 1);
        gateway.wait_idle();
    }
}

#[test]
fn an_operator_moves_no_call() {
    let lane = Lane::take("features-transfer-trunk");
    let operator = operator(&lane, "operator-asks-to-transfer").fill("target", "+32470123456").start();
    let gateway = gateway(&lane, &operator);
    alice(&lane, &gateway, "user-calls").start().succeed();
    operator.succeed();
    gateway.wait_idle();
}

#[test]
fn an_early_session_is_never_taken_for_the_session() {
    let lane = Lane::take("features-early-session");
    let switch = operator(&lane, "operator-announces-an-early-session").start();
    let from = switch.address().port();
    let gateway = gateway(&lane, &switch);
    let caller = alice(&lane, &gateway, "user-calls").start().succeed();
    assert!(caller.responses(183).is_empty(), "there is no early media in our session");
    assert!(caller.responses(180).iter().all(|ringing| ringing.sdp("m=audio").next().is_none()));
    switch.succeed();

    let device = lane.port();
    Sipp::register(&lane, gateway.udp(), "alice", device);
    let phone = operator(&lane, "user-answers").at_port(device).start();
    let caller =
        incoming(&lane, &gateway, "operator-calls-with-an-early-session", from, ALICE).start().succeed();
    let media = caller.response(200).sdp("m=audio ").next().expect("an audio line").to_owned();
    assert!(media.contains("RTP/AVP 8 "), "the early session's codec is another one: {media}");
    phone.succeed();

    let refused = incoming(&lane, &gateway, "operator-is-refused", from, ALICE).code(420, "");
    let refused = refused.fill("more", "Require: early-session").start().succeed();
    assert_eq!(refused.response(420).header("Unsupported"), Some("early-session"));
}
