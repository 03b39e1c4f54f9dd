//! Calls from an app user to a phone number: how far they come, and what each side is told of it.

use crate::scene::{ALICE, MOBILE, SECOND, alice, builder, gateway, operator};
use crate::support::{lane::Lane, raw_sip::RawUdp, wait};
use std::time::{Duration, Instant};

#[test]
fn an_answered_call_reaches_the_operator_once_and_ends_on_both_sides() {
    let lane = Lane::take("call-answered");
    let operator = operator(&lane, "operator-answers").start();
    let gateway = gateway(&lane, &operator);
    let caller = alice(&lane, &gateway, "user-calls").start().succeed();
    let at = operator.address();
    let operator = operator.succeed();

    assert_eq!(caller.responses(401).len(), 1);
    assert_eq!(operator.requests("INVITE").len(), 1, "a challenge is nothing the operator sees");
    let invite = operator.request("INVITE");
    assert_eq!(invite.uri(), Some(format!("sip:{MOBILE}@{at}").as_str()));
    let from = invite.header("From").unwrap_or_default();
    assert!(from.contains(&format!("sip:{ALICE}@")), "{from}");
    let hops: u8 = invite.header("Max-Forwards").and_then(|hops| hops.parse().ok()).expect("a number");
    assert_eq!(hops, 69, "one less than the caller's");
    assert_eq!(operator.requests("BYE").len(), 1);
    gateway.wait_idle();
}

#[test]
fn the_operator_learns_nothing_of_the_users_network() {
    let lane = Lane::take("call-topology");
    let operator = operator(&lane, "operator-answers").start();
    let gateway = gateway(&lane, &operator);
    let caller = alice(&lane, &gateway, "user-calls").start();
    let hidden = [caller.address().to_string(), "alice".to_owned(), caller.media_port().to_string()];
    let caller = caller.succeed();
    let invite = operator.succeed().request("INVITE").text.clone();
    for secret in hidden {
        assert!(!invite.contains(&secret), "{secret} in\n{invite}");
    }
    let call_id = caller.messages[0].header("Call-ID").expect("a Call-ID");
    assert!(!invite.contains(call_id), "the Call-ID is the caller's own");
}

#[test]
fn each_side_is_offered_and_answered_its_own_codec() {
    let lane = Lane::take("call-codecs");
    let operator = operator(&lane, "operator-answers").start();
    let gateway = gateway(&lane, &operator);
    let caller = alice(&lane, &gateway, "user-calls").start().succeed();
    let operator = operator.succeed();
    let offer = operator.request("INVITE");
    let codecs: Vec<_> = offer.sdp("a=rtpmap:").collect();
    assert!(codecs.contains(&"8 PCMA/8000") && codecs.contains(&"0 PCMU/8000"), "{codecs:?}");
    assert!(codecs.iter().any(|codec| codec.ends_with(" telephone-event/8000")), "{codecs:?}");
    assert!(!codecs.iter().any(|codec| codec.contains("opus")), "{codecs:?}");
    let answer = caller.response(200);
    let codecs: Vec<_> = answer.sdp("a=rtpmap:").collect();
    assert_eq!(codecs, ["111 opus/48000/2", "110 telephone-event/48000"]);
}

/// The operator refuses with `code`; gives the code and the Reason that the caller gets.
fn refused_with(code: u16, phrase: &str, expected: u16) -> String {
    let lane = Lane::take(&format!("call-refused-{code}"));
    let operator = operator(&lane, "operator-refuses").code(code, phrase).start();
    let gateway = gateway(&lane, &operator);
    let caller = alice(&lane, &gateway, "user-is-refused").code(expected, "").start().succeed();
    assert_eq!(operator.succeed().requests("INVITE").len(), 1);
    gateway.wait_idle();
    caller.response(expected).header("Reason").unwrap_or_default().to_owned()
}

#[test]
fn busy_reaches_the_caller_as_busy() {
    assert!(refused_with(486, "Busy Here", 486).contains("cause=17"));
}

#[test]
fn a_declined_call_reaches_the_caller_as_declined() {
    assert!(refused_with(603, "Decline", 603).contains("cause=21"));
}

#[test]
fn an_unknown_number_at_the_operator_reaches_the_caller_as_not_found() {
    assert!(refused_with(404, "Not Found", 404).contains("cause=1"));
}

#[test]
fn no_capacity_at_the_only_operator_reaches_the_caller_as_503() {
    assert!(refused_with(503, "Service Unavailable", 503).contains("cause=41"));
}

#[test]
fn an_unavailable_subscriber_reaches_the_caller_as_480() {
    assert!(refused_with(480, "Temporarily Unavailable", 480).contains("cause=18"));
}

#[test]
fn the_callers_phone_rings_when_the_operator_says_so() {
    let lane = Lane::take("call-ringing");
    let operator = operator(&lane, "operator-answers").pause(SECOND).start();
    let gateway = gateway(&lane, &operator);
    let caller = alice(&lane, &gateway, "user-calls").start().succeed();
    operator.succeed();
    let ringing = caller.response(180);
    assert!(ringing.body().trim().is_empty(), "180 carries no session: the phone makes its own tone");
    assert!(caller.responses(183).is_empty());
}

#[test]
fn early_media_is_passed_on_with_the_session_of_the_answer() {
    let lane = Lane::take("call-early-media");
    let announcement = crate::media::announcement(&lane);
    let operator = operator(&lane, "operator-plays-before-the-answer").fill("announcement", &announcement);
    let operator = operator.pause(SECOND).start();
    let gateway = gateway(&lane, &operator);
    let caller = alice(&lane, &gateway, "user-calls").start().succeed();
    operator.succeed();
    let early: Vec<_> = caller.response(183).sdp("m=").collect();
    let answer: Vec<_> = caller.response(200).sdp("m=").collect();
    assert!(!early.is_empty());
    assert_eq!(early, answer);
}

#[test]
fn ringing_behind_early_media_reaches_the_caller() {
    let lane = Lane::take("call-180-after-183");
    let operator = operator(&lane, "operator-rings-after-183").pause(SECOND).start();
    let gateway = gateway(&lane, &operator);
    let caller = alice(&lane, &gateway, "user-calls").start().succeed();
    operator.succeed();
    assert!(!caller.responses(183).is_empty());
    assert!(!caller.responses(180).is_empty());
}

#[test]
fn without_early_media_the_caller_hears_its_own_phone_ring() {
    let lane = Lane::take("call-no-early-media");
    let announcement = crate::media::announcement(&lane);
    let operator =
        operator(&lane, "operator-plays-before-the-answer").fill("announcement", &announcement).start();
    let at = operator.address();
    let gateway = crate::support::gateway::Gateway::on(&lane).user("alice", ALICE);
    let gateway = gateway.trunk_with("operator-a", at, |trunk| {
        trunk.set("early_media", false);
    });
    let gateway = gateway.start();
    let caller = alice(&lane, &gateway, "user-calls").start().succeed();
    operator.succeed();
    assert!(caller.responses(183).is_empty());
    assert!(caller.response(180).body().trim().is_empty());
}

#[test]
fn the_operator_hangs_up_and_the_caller_is_told() {
    let lane = Lane::take("call-far-end-bye");
    let operator = operator(&lane, "operator-answers-and-hangs-up").pause(SECOND).start();
    let gateway = gateway(&lane, &operator);
    let caller = alice(&lane, &gateway, "user-calls-and-is-hung-up-on").start().succeed();
    operator.succeed();
    assert_eq!(caller.requests("BYE").len(), 1);
    gateway.wait_idle();
}

#[test]
fn a_call_that_nobody_answers_ends_after_the_ring_time() {
    let lane = Lane::take("call-no-answer");
    let operator = operator(&lane, "operator-rings-until-cancelled").start();
    let gateway = builder(&lane, &operator).set("limits.ring_seconds", 2).start();
    let begun = Instant::now();
    let caller = alice(&lane, &gateway, "user-is-refused").code(480, "").start().succeed();
    assert!((2.0..6.0).contains(&begun.elapsed().as_secs_f64()), "{:?}", begun.elapsed());
    assert!(caller.response(480).header("Reason").is_some_and(|reason| reason.contains("cause=19")));
    let reason = operator.succeed().request("CANCEL").header("Reason").unwrap_or_default().to_owned();
    assert!(reason.contains("cause=19") || reason.contains("cause=102"), "{reason}");
}

#[test]
fn a_call_ends_at_its_longest_duration() {
    let lane = Lane::take("call-max-duration");
    let operator = operator(&lane, "operator-answers").start();
    let gateway = builder(&lane, &operator).set("limits.max_duration_seconds", 2).start();
    let caller = alice(&lane, &gateway, "user-calls-and-is-hung-up-on").start();
    let answered = caller.wait_status(200);
    let begun = Instant::now();
    let caller = caller.succeed();
    assert!(
        (1.0..5.0).contains(&begun.elapsed().as_secs_f64()),
        "{:?} after\n{}",
        begun.elapsed(),
        answered.text
    );
    assert_eq!(caller.requests("BYE").len(), 1);
    assert_eq!(operator.succeed().requests("BYE").len(), 1);
}

#[test]
fn a_call_without_media_is_ended_and_says_why() {
    let lane = Lane::take("call-media-timeout");
    let operator = operator(&lane, "operator-answers").start();
    let gateway = builder(&lane, &operator).set("media.timeout_seconds", 2).start();
    let caller = alice(&lane, &gateway, "user-calls-and-is-hung-up-on").start().succeed();
    operator.succeed();
    let reason = caller.request("BYE").header("Reason").unwrap_or_default();
    assert!(reason.contains("cause=31"), "{reason}");
}

#[test]
fn a_codec_that_nobody_shares_is_refused_before_anything_rings() {
    let lane = Lane::take("call-488");
    let other = operator(&lane, "operator-answers").start();
    let asking = RawUdp::new(&lane);
    let gateway = builder(&lane, &other).trunk("operator-b", asking.local()).dialplan(
        "country_code = \"32\"\n[[rule]]\nname = \"through\"\nfrom = \"trunk:operator-b\"\nmatch = \"+\"\n\
         trunks = [\"operator-a\"]\n",
    );
    let gateway = gateway.start();
    let asking = asking.towards(gateway.udp());
    let offer = "v=0\r\no=x 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
                 m=audio 40000 RTP/AVP 18\r\na=rtpmap:18 G729/8000\r\n";
    let (status, text) = asking.ask(asking.invite(MOBILE, "g729", offer));
    assert_eq!(status, 488, "{text}");
    assert!(
        wait::never(Duration::from_millis(500), || !other.messages().is_empty()),
        "the operator was rung"
    );
    gateway.wait_idle();
}

#[test]
fn video_and_fax_are_refused_in_the_answer_and_the_voice_is_taken() {
    let lane = Lane::take("call-video");
    let other = operator(&lane, "operator-answers").start();
    let asking = RawUdp::new(&lane);
    let gateway = builder(&lane, &other).trunk("operator-b", asking.local()).dialplan(
        "country_code = \"32\"\n[[rule]]\nname = \"through\"\nfrom = \"trunk:operator-b\"\nmatch = \"+\"\n\
         trunks = [\"operator-a\"]\n",
    );
    let gateway = gateway.start();
    let asking = asking.towards(gateway.udp());
    let offer = "v=0\r\no=x 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
                 m=video 40002 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n\
                 m=audio 40000 RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\n\
                 m=image 40004 udptl t38\r\n";
    let (status, text) = asking.ask(asking.invite(MOBILE, "video", offer));
    assert_eq!(status, 200, "{text}");
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("m=")).collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[0].starts_with("m=video 0 ") && lines[2].starts_with("m=image 0 "), "{lines:?}");
    assert!(lines[1].starts_with("m=audio ") && !lines[1].starts_with("m=audio 0 "), "{lines:?}");
}

#[test]
fn an_offer_of_fax_alone_is_refused() {
    let lane = Lane::take("call-fax");
    let other = operator(&lane, "operator-answers").start();
    let asking = RawUdp::new(&lane);
    let gateway = builder(&lane, &other).trunk("operator-b", asking.local()).start();
    let asking = asking.towards(gateway.udp());
    let offer = "v=0\r\no=x 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=image 40004 udptl t38\r\n";
    let (status, text) = asking.ask(asking.invite(ALICE, "fax", offer));
    assert_eq!(status, 488, "{text}");
}

#[test]
fn a_call_lasts_while_it_is_talked_and_its_view_says_so() {
    let lane = Lane::take("call-view");
    let operator = operator(&lane, "operator-answers").start();
    let gateway = gateway(&lane, &operator);
    let caller = alice(&lane, &gateway, "user-calls").pause(3 * SECOND).start();
    caller.wait_status(200);
    let call = wait::until("the answered call", wait::SOON, || {
        gateway.calls().into_iter().find(|call| call["state"] == "answered")
    });
    assert_eq!(call["direction"], "app_to_trunk");
    assert_eq!(call["caller_user"], "alice");
    assert_eq!(call["number"], MOBILE);
    assert_eq!(call["egress_trunk"], "operator-a");
    assert_eq!(call["caller_codec"], "opus");
    assert_eq!(call["callee_codec"], "PCMA");
    caller.succeed();
    operator.succeed();
    gateway.wait_idle();
}
