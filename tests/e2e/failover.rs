//! Which failures go on to the next trunk, which end the call, and how fast.

use crate::scene::{ALICE, SECOND, alice, operator};
use crate::support::{gateway::Gateway, lane::Lane, wait};
use std::time::{Duration, Instant};

/// Two operators; the first plays `first` with `code`, the second answers. True if the second one got the call.
fn goes_on_after(
    test: &str,
    first: &str,
    code: u16,
    more: impl FnOnce(&mut crate::support::gateway::Section),
) -> bool {
    let lane = Lane::take(test);
    let first = operator(&lane, first).code(code, "Whatever").start();
    let second = operator(&lane, "operator-answers").start();
    let gateway = Gateway::on(&lane).user("alice", ALICE);
    let gateway =
        gateway.trunk_with("operator-a", first.address(), more).trunk("operator-b", second.address()).start();
    let caller = alice(&lane, &gateway, "user-calls").start();
    let answered = wait::within(wait::SOON, || {
        let messages = caller.messages();
        messages.iter().filter(|message| !message.sent).find_map(|message| {
            let status = message.status().filter(|status| *status >= 200 && *status != 401)?;
            Some(status == 200)
        })
    });
    assert_eq!(first.succeed().requests("INVITE").len(), 1, "nobody is rung twice");
    let answered = answered.expect("a final answer");
    if answered {
        caller.succeed();
        second.succeed();
    } else {
        assert!(second.messages().is_empty(), "the second operator was asked");
    }
    answered
}

#[test]
fn a_trunk_without_capacity_is_passed_over() {
    assert!(goes_on_after("failover-503", "operator-refuses-at-once", 503, |_| {}));
}

#[test]
fn a_broken_trunk_is_passed_over() {
    assert!(goes_on_after("failover-500", "operator-refuses-at-once", 500, |_| {}));
}

#[test]
fn who_is_busy_is_not_rung_again_through_another_trunk() {
    assert!(!goes_on_after("failover-486", "operator-refuses", 486, |_| {}));
}

#[test]
fn who_declined_is_not_rung_again_through_another_trunk() {
    assert!(!goes_on_after("failover-603", "operator-refuses", 603, |_| {}));
}

#[test]
fn a_number_that_does_not_exist_is_not_tried_elsewhere() {
    assert!(!goes_on_after("failover-404", "operator-refuses-at-once", 404, |_| {}));
}

#[test]
fn the_table_of_a_trunk_turns_a_final_code_into_the_next_trunk() {
    assert!(goes_on_after("failover-table-next", "operator-refuses-at-once", 603, |trunk| {
        trunk.set("failover.603", "next");
    }));
}

#[test]
fn the_table_of_a_trunk_turns_a_passing_code_into_a_final_one() {
    assert!(!goes_on_after("failover-table-final", "operator-refuses-at-once", 503, |trunk| {
        trunk.set("failover.503", "final");
    }));
}

#[test]
fn a_trunk_that_says_nothing_at_all_is_left_in_under_four_seconds() {
    let lane = Lane::take("failover-black-hole");
    let silent = operator(&lane, "operator-says-nothing").pause(12 * SECOND).start();
    let second = operator(&lane, "operator-answers").start();
    let gateway = Gateway::on(&lane).user("alice", ALICE);
    let gateway = gateway.trunk("operator-a", silent.address()).trunk("operator-b", second.address()).start();
    let caller = alice(&lane, &gateway, "user-calls").start();
    silent.wait_request("INVITE");
    let begun = Instant::now();
    second.wait_request("INVITE");
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    caller.succeed();
    second.succeed();
    gateway.wait_metric(
        "tandem_calls_ended_total",
        &[("trunk", "operator-a"), ("outcome", "trunk_failure")],
        1.0,
    );
}

#[test]
fn reply_timeout_says_how_soon_a_silent_trunk_is_left() {
    let lane = Lane::take("failover-reply-timeout");
    let silent = operator(&lane, "operator-says-nothing").pause(5 * SECOND).start();
    let second = operator(&lane, "operator-answers").start();
    let gateway = Gateway::on(&lane).user("alice", ALICE);
    let gateway = gateway.trunk_with("operator-a", silent.address(), |trunk| {
        trunk.set("reply_timeout_ms", 600);
    });
    let gateway = gateway.trunk("operator-b", second.address()).start();
    let caller = alice(&lane, &gateway, "user-calls").start();
    silent.wait_request("INVITE");
    let begun = Instant::now();
    second.wait_request("INVITE");
    assert!(begun.elapsed() < Duration::from_millis(2_500), "{:?}", begun.elapsed());
    caller.succeed();
    second.succeed();
}

#[test]
fn a_trunk_that_answers_too_late_gets_its_ack_and_bye() {
    let lane = Lane::take("failover-late-answer");
    let late = operator(&lane, "operator-answers-late").pause(5 * SECOND).start();
    let second = operator(&lane, "operator-answers").start();
    let gateway = Gateway::on(&lane).user("alice", ALICE);
    let gateway = gateway.trunk("operator-a", late.address()).trunk("operator-b", second.address()).start();
    let caller = alice(&lane, &gateway, "user-calls").pause(4 * SECOND).start();
    caller.succeed();
    second.succeed();
    let late = late.succeed();
    assert!(!late.requests("ACK").is_empty() && !late.requests("BYE").is_empty());
}

#[test]
fn a_dead_transport_is_passed_over() {
    let lane = Lane::take("failover-transport");
    let nobody = lane.address();
    let second = operator(&lane, "operator-answers").start();
    let gateway = Gateway::on(&lane).user("alice", ALICE).trunk_with("operator-a", nobody, |trunk| {
        trunk.set("transport", "tcp");
    });
    let gateway = gateway.trunk("operator-b", second.address()).start();
    alice(&lane, &gateway, "user-calls").start().succeed();
    second.succeed();
}

#[test]
fn a_trunk_has_several_proxies_and_the_next_one_is_tried() {
    let lane = Lane::take("failover-proxies");
    let first = operator(&lane, "operator-refuses-at-once").code(503, "Service Unavailable").start();
    let second = operator(&lane, "operator-answers").start();
    let proxies = [first.address(), second.address()].map(|at| toml::Value::from(at.to_string())).to_vec();
    let gateway =
        Gateway::on(&lane).user("alice", ALICE).trunk_with("operator-a", first.address(), |trunk| {
            trunk.set("proxy", proxies);
        });
    let gateway = gateway.start();
    alice(&lane, &gateway, "user-calls").start().succeed();
    first.succeed();
    second.succeed();
}

#[test]
fn a_failure_that_blocks_a_trunk_keeps_calls_away_from_it_for_a_while() {
    let lane = Lane::take("failover-block");
    let first = operator(&lane, "operator-refuses-at-once").code(500, "Broken").start();
    let second = operator(&lane, "operator-answers").start();
    let gateway =
        Gateway::on(&lane).user("alice", ALICE).trunk_with("operator-a", first.address(), |trunk| {
            trunk.set("failover.500", "block:600");
        });
    let gateway = gateway.trunk("operator-b", second.address()).start();
    // The call that found out is over; the next one takes the other trunk at once.
    alice(&lane, &gateway, "user-is-refused").code(502, "").start().succeed();
    assert_eq!(gateway.metric("tandem_trunk_blocked", &[("trunk", "operator-a")]), 1.0);
    alice(&lane, &gateway, "user-calls").start().succeed();
    assert_eq!(first.succeed().requests("INVITE").len(), 1);
    second.succeed();
}

#[test]
fn a_redirect_leads_nowhere() {
    let lane = Lane::take("failover-redirect");
    let first = operator(&lane, "operator-redirects").start();
    let gateway = Gateway::on(&lane).user("alice", ALICE).trunk("operator-a", first.address()).start();
    let caller = alice(&lane, &gateway, "user-calls").start();
    let refused =
        caller.wait_received("a refusal", |message| message.status().is_some_and(|status| status >= 403));
    assert!(refused.status() != Some(302), "{}", refused.text);
    first.succeed();
}

#[test]
fn a_trunk_that_goes_silent_behind_its_challenge_is_left_as_soon() {
    let lane = Lane::take("failover-silent-challenge");
    let first = operator(&lane, "operator-refuses-at-once").code(407, "Proxy Authentication Required").fill(
        "extra",
        "Proxy-Authenticate: Digest realm=\"operator.test\", nonce=\"n\", algorithm=MD5, qop=\"auth\"",
    );
    let first = first.start();
    let second = operator(&lane, "operator-answers").start();
    let gateway =
        Gateway::on(&lane).user("alice", ALICE).trunk_with("operator-a", first.address(), |trunk| {
            trunk
                .set("auth", "digest")
                .set("username", "gw")
                .set("password", "x")
                .set("reply_timeout_ms", 800);
        });
    let gateway = gateway.trunk("operator-b", second.address()).start();
    let begun = Instant::now();
    alice(&lane, &gateway, "user-calls").start().succeed();
    // The scenario ends with its challenge, so that the second INVITE meets nobody.
    first.succeed();
    second.succeed();
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
}
