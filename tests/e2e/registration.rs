//! App users prove who they are and register their devices.

use crate::scene::{ALICE, BOB, incoming, operator};
use crate::support::{
    baresip::Baresip,
    digest,
    gateway::{Gateway, GatewayBuilder, PASSWORD, REALM},
    lane::Lane,
    linphone::Linphone,
    raw_sip::RawUdp,
    sipp::Sipp,
    tls::Authority,
    wait,
};
use std::time::{Duration, Instant};

fn with_alice(lane: &Lane) -> GatewayBuilder<'_> {
    Gateway::on(lane).user("alice", ALICE)
}

/// A REGISTER as bytes; `proof` is a whole Authorization line or nothing.
fn register(from: &RawUdp, user: &str, cseq: u32, expires: u32, proof: &str) -> String {
    let me = from.local();
    format!(
        "REGISTER sip:{REALM} SIP/2.0\r\nVia: SIP/2.0/UDP {me};branch=z9hG4bK-{user}-{cseq};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:{user}@{REALM}>;tag=r\r\nTo: <sip:{user}@{REALM}>\r\n\
         Call-ID: {user}@raw\r\nCSeq: {cseq} REGISTER\r\nContact: <sip:{user}@{me}>\r\nExpires: {expires}\r\n\
         {proof}Content-Length: 0\r\n\r\n"
    )
}

/// The challenge for MD5 in an answer.
fn md5_challenge(answer: &str) -> String {
    let challenges = answer.lines().filter_map(|line| line.strip_prefix("WWW-Authenticate: "));
    challenges.map(str::to_owned).find(|value| value.contains("MD5")).expect("an MD5 challenge")
}

fn proof(challenge: &str, user: &str, password: &str, uri: &str, count: u32) -> String {
    format!("Authorization: {}\r\n", digest::answer(challenge, user, password, "REGISTER", uri, count))
}

const URI: &str = "sip:tandem.test";

#[test]
fn a_device_registers_with_md5_over_udp() {
    let lane = Lane::take("register-udp");
    let gateway = with_alice(&lane).start();
    let played = Sipp::register(&lane, gateway.udp(), "alice", lane.port());
    let contact = played.response(200).header("Contact").expect("its own contact").to_owned();
    assert!(contact.contains("expires="), "{contact}");
    let registrations = gateway.list("/api/v1/registrations", "registrations");
    assert_eq!(registrations.len(), 1);
    assert_eq!(registrations[0]["user"], "alice");
    gateway.wait_metric("tandem_registrations_active", &[], 1.0);
}

#[test]
fn a_device_registers_over_tcp() {
    let lane = Lane::take("register-tcp");
    let gateway = with_alice(&lane).start();
    Sipp::registration(&lane, gateway.tcp(), "user-registers", "alice", lane.port()).tcp().start().succeed();
}

#[test]
fn linphone_takes_sha_256_where_it_is_offered_first() {
    let lane = Lane::take("register-sha256");
    let order = ["SHA-256", "MD5"].map(toml::Value::from).to_vec();
    let gateway = with_alice(&lane).set("sip.digest", order).start();
    let phone = Linphone::on(&lane, "alice").registers(gateway.udp(), "udp").start();
    gateway.wait_metric("tandem_registrations_active", &[], 1.0);
    let log = std::fs::read_to_string(lane.path("linphone-alice/linphone.log")).expect("its log");
    assert!(log.contains("algorithm=SHA-256, username"), "it answered with MD5");
    drop(phone);
}

#[test]
fn baresip_and_linphone_register_over_tls() {
    let lane = Lane::take("register-tls");
    let authority = Authority::new("Tandem tests");
    let gateway = with_alice(&lane).user("bob", BOB).set("sip.digest", vec![toml::Value::from("MD5")]);
    let gateway = gateway.tls(&authority).start();
    let _baresip = Baresip::on(&lane, "alice").tls(&authority).registers(gateway.tls(), "tls").start();
    let _linphone = Linphone::on(&lane, "bob").tls(&authority).registers(gateway.tls(), "tls").start();
    let registrations = gateway.list("/api/v1/registrations", "registrations");
    assert!(registrations.iter().all(|row| row["transport"] == "tls"), "{registrations:?}");
    assert_eq!(registrations.len(), 2);
}

#[test]
fn a_phone_that_distrusts_the_certificate_does_not_register() {
    let lane = Lane::take("register-tls-untrusted");
    let gateway = with_alice(&lane).tls(&Authority::new("Tandem tests")).start();
    let stranger = Authority::new("Somebody else");
    let phone = Linphone::on(&lane, "alice").tls(&stranger).registers(gateway.tls(), "tls");
    phone.start_unregistered().wait_state("LinphoneRegistrationFailed");
    assert_eq!(gateway.metric("tandem_registrations_active", &[]), 0.0);
}

#[test]
fn several_devices_of_a_user_are_registered_at_once() {
    let lane = Lane::take("register-several");
    let gateway = with_alice(&lane).start();
    for _ in 0..3 {
        Sipp::register(&lane, gateway.udp(), "alice", lane.port());
    }
    gateway.wait_metric("tandem_registrations_active", &[], 3.0);
}

#[test]
fn a_user_has_at_most_max_bindings_devices() {
    let lane = Lane::take("register-max");
    let gateway = with_alice(&lane).set("registrar.max_bindings", 2).start();
    for _ in 0..2 {
        Sipp::register(&lane, gateway.udp(), "alice", lane.port());
    }
    let third = Sipp::registration(&lane, gateway.udp(), "user-is-not-let-in", "alice", lane.port());
    third.code(403, "").start().succeed();
    gateway.wait_metric("tandem_registrations_active", &[], 2.0);
}

#[test]
fn expires_of_zero_takes_a_device_away() {
    let lane = Lane::take("register-zero");
    let gateway = with_alice(&lane).start();
    let device = lane.port();
    Sipp::register(&lane, gateway.udp(), "alice", device);
    gateway.wait_metric("tandem_registrations_active", &[], 1.0);
    let bye = Sipp::registration(&lane, gateway.udp(), "user-registers", "alice", device).key("expires", "0");
    bye.start().succeed();
    gateway.wait_metric("tandem_registrations_active", &[], 0.0);
}

#[test]
fn a_registration_that_is_too_short_is_refused_and_told_the_least() {
    let lane = Lane::take("register-brief");
    let gateway = with_alice(&lane).set("registrar.min_expires_seconds", 120).start();
    let brief = Sipp::registration(&lane, gateway.udp(), "user-is-not-let-in", "alice", lane.port());
    let played = brief.key("expires", "60").code(423, "").start().succeed();
    assert_eq!(played.response(423).header("Min-Expires"), Some("120"));
}

#[test]
fn a_registration_that_is_too_long_is_shortened() {
    let lane = Lane::take("register-long");
    let gateway = with_alice(&lane).set("registrar.max_expires_seconds", 300).start();
    let long = Sipp::registration(&lane, gateway.udp(), "user-registers", "alice", lane.port());
    let played = long.key("expires", "86400").start().succeed();
    let contact = played.response(200).header("Contact").expect("its contact");
    let granted: u32 =
        contact.rsplit_once("expires=").and_then(|(_, seconds)| seconds.parse().ok()).expect("seconds");
    assert!((298..=300).contains(&granted), "{contact}");
}

#[test]
fn a_registration_without_a_time_gets_the_default_one() {
    let lane = Lane::take("register-default");
    let gateway = with_alice(&lane).set("registrar.default_expires_seconds", 240).start();
    let device = RawUdp::new(&lane).towards(gateway.udp());
    let without =
        |cseq, proof: &str| register(&device, "alice", cseq, 1, proof).replace("Expires: 1\r\n", "");
    let (_, answer) = device.ask(without(1, ""));
    let proof = proof(&md5_challenge(&answer), "alice", PASSWORD, URI, 1);
    let (status, answer) = device.ask(without(2, &proof));
    assert_eq!(status, 200, "{answer}");
    assert!(answer.contains("expires=240") || answer.contains("expires=239"), "{answer}");
}

#[test]
fn a_registration_that_is_not_refreshed_ends() {
    let lane = Lane::take("register-expiry");
    let gateway = with_alice(&lane).set("registrar.min_expires_seconds", 1).start();
    let brief =
        Sipp::registration(&lane, gateway.udp(), "user-registers", "alice", lane.port()).key("expires", "2");
    brief.start().succeed();
    gateway.wait_metric("tandem_registrations_active", &[], 1.0);
    gateway.wait_metric("tandem_registrations_active", &[], 0.0);
}

#[test]
fn an_old_nonce_is_called_stale_and_a_new_one_given() {
    let lane = Lane::take("register-stale");
    let gateway = with_alice(&lane).set("guard.nonce_seconds", 1).start();
    let device = RawUdp::new(&lane).towards(gateway.udp());
    let (_, answer) = device.ask(register(&device, "alice", 1, 60, ""));
    let old = md5_challenge(&answer);
    wait::talk(Duration::from_millis(1_500));
    let (status, answer) =
        device.ask(register(&device, "alice", 2, 60, &proof(&old, "alice", PASSWORD, URI, 1)));
    assert_eq!(status, 401);
    let fresh = md5_challenge(&answer);
    assert!(fresh.contains("stale=true"), "{fresh}");
    let (status, _) =
        device.ask(register(&device, "alice", 3, 60, &proof(&fresh, "alice", PASSWORD, URI, 1)));
    assert_eq!(status, 200);
}

#[test]
fn a_proof_that_was_heard_cannot_be_used_again() {
    let lane = Lane::take("register-replay");
    let gateway = with_alice(&lane).start();
    let device = RawUdp::new(&lane).towards(gateway.udp());
    let (_, answer) = device.ask(register(&device, "alice", 1, 60, ""));
    let heard = proof(&md5_challenge(&answer), "alice", PASSWORD, URI, 1);
    assert_eq!(device.ask(register(&device, "alice", 2, 60, &heard)).0, 200);
    let thief = RawUdp::new(&lane).towards(gateway.udp());
    assert_eq!(thief.ask(register(&thief, "alice", 3, 60, &heard)).0, 401);
    gateway.wait_metric("tandem_registrations_active", &[], 1.0);
}

#[test]
fn a_proof_for_another_request_uri_is_none() {
    let lane = Lane::take("register-uri");
    let gateway = with_alice(&lane).start();
    let device = RawUdp::new(&lane).towards(gateway.udp());
    let (_, answer) = device.ask(register(&device, "alice", 1, 60, ""));
    let wrong = proof(&md5_challenge(&answer), "alice", PASSWORD, "sip:elsewhere.test", 1);
    assert_ne!(device.ask(register(&device, "alice", 2, 60, &wrong)).0, 200);
}

#[test]
fn an_unknown_user_is_answered_as_a_wrong_password_is() {
    let lane = Lane::take("register-unknown");
    let gateway = with_alice(&lane).set("guard.auth_failures", 1_000).start();
    let device = RawUdp::new(&lane).towards(gateway.udp());
    let mut cseq = 0;
    let mut tried = |user: &str| {
        cseq += 2;
        let (_, answer) = device.ask(register(&device, user, cseq, 60, ""));
        let proof = proof(&md5_challenge(&answer), user, "wrong", URI, 1);
        let request = register(&device, user, cseq + 1, 60, &proof);
        let begun = Instant::now();
        let (status, answer) = device.ask(request);
        let names: Vec<String> =
            answer.lines().skip(1).filter_map(|line| Some(line.split_once(':')?.0.to_owned())).collect();
        (begun.elapsed(), status, names)
    };
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for _ in 0..40 {
        let (time, status, names) = tried("alice");
        known.push(time);
        let (other_time, other_status, other_names) = tried("mallory");
        unknown.push(other_time);
        assert_eq!((status, &names), (other_status, &other_names));
    }
    known.sort();
    unknown.sort();
    // Medians: a table look-up instead of a digest would be many times quicker.
    let (known, unknown) = (known[20].as_secs_f64(), unknown[20].as_secs_f64());
    assert!((0.5..2.0).contains(&(known / unknown)), "{known} s against {unknown} s");
}

#[test]
fn after_too_many_wrong_passwords_even_the_right_one_has_to_wait() {
    let lane = Lane::take("register-backoff");
    let gateway =
        with_alice(&lane).set("guard.auth_failures", 2).set("guard.auth_backoff_seconds", 2).start();
    let device = RawUdp::new(&lane).towards(gateway.udp());
    let mut cseq = 0;
    let mut attempt = |password: &str| {
        cseq += 2;
        let (_, answer) = device.ask(register(&device, "alice", cseq, 60, ""));
        let proof = proof(&md5_challenge(&answer), "alice", password, URI, 1);
        device.ask(register(&device, "alice", cseq + 1, 60, &proof)).0
    };
    for _ in 0..3 {
        assert_ne!(attempt("wrong"), 200);
    }
    assert_ne!(attempt(PASSWORD), 200, "the source has to wait");
    wait::until("the wait to be over", wait::SOON, || (attempt(PASSWORD) == 200).then_some(()));
    assert!(gateway.metric("tandem_sip_refused_total", &[("reason", "unauthenticated")]) >= 3.0);
}

#[test]
fn a_user_cannot_register_another_user() {
    let lane = Lane::take("register-other");
    let gateway = with_alice(&lane).user("bob", BOB).start();
    let device = RawUdp::new(&lane).towards(gateway.udp());
    let (_, answer) = device.ask(register(&device, "bob", 1, 60, ""));
    let proof = proof(&md5_challenge(&answer), "alice", PASSWORD, URI, 1);
    assert_eq!(device.ask(register(&device, "bob", 2, 60, &proof)).0, 403);
    gateway.wait_metric("tandem_registrations_active", &[], 0.0);
}

#[test]
fn registrations_over_udp_survive_a_restart() {
    let lane = Lane::take("register-restart");
    let from = lane.address();
    let gateway = with_alice(&lane).trunk("operator-a", from).start();
    let device = lane.port();
    Sipp::register(&lane, gateway.udp(), "alice", device);
    gateway.wait_metric("tandem_registrations_active", &[], 1.0);
    gateway.signal(libc::SIGTERM);
    gateway.wait_exit(wait::SOON);
    gateway.start_again();
    assert_eq!(gateway.list("/api/v1/registrations", "registrations").len(), 1);
    let phone = operator(&lane, "user-answers").at_port(device).start();
    incoming(&lane, &gateway, "operator-calls", from.port(), ALICE).start().succeed();
    phone.succeed();
    gateway.wait_metric("tandem_registrations_active", &[], 1.0);
}
