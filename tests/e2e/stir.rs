//! Signed caller identities between Tandem and Debian's Kamailio with secsipid: either side believes what the other
//! signs, and nobody believes what is wrong.

use crate::metrics::certificate_end;
use crate::scene::{ALICE, BLINK, MOBILE, STRANGER, alice, operator};
use crate::support::{
    baresip::Baresip,
    certificates::{CertificateServer, Serves},
    gateway::{Gateway, GatewayBuilder, tandem},
    kamailio::{Identities, Kamailio},
    lane::Lane,
    sipp::{RunningSipp, Sipp},
    tls::{Authority, Issued},
};
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;
use toml::Value as Toml;

pub const STRANGERS_DIGITS: &str = "33140205050";
pub const ALICES_DIGITS: &str = "3225550001";

/// Authorities and signers of one test.
pub struct Cast {
    pub authority: Authority,
    pub signer: Issued,
}

impl Cast {
    pub fn new() -> Cast {
        let authority = Authority::new("STI authority of the tests");
        let signer = authority.issue_signer("1234");
        Cast { authority, signer }
    }

    pub fn server(&self) -> CertificateServer {
        CertificateServer::start(&self.authority, Serves::Document(self.signer.certificate.clone()))
    }

    /// Writes what the gateway believes, and what it signs with.
    fn files(&self, folder: &std::path::Path) {
        self.authority.write(folder);
        std::fs::write(folder.join("chain.pem"), &self.signer.certificate).expect("a certificate file");
        std::fs::write(folder.join("signer.pem"), &self.signer.key).expect("a key file");
    }

    pub fn believing<'a>(&self, lane: &'a Lane) -> GatewayBuilder<'a> {
        self.files(&lane.make_folder("gateway"));
        Gateway::on(lane)
            .user("alice", ALICE)
            .set("stir.ca", "ca.pem")
            .set("stir.fetch_ca", "ca.pem")
            .set("stir.fetch_hosts", vec![Toml::from("127.0.0.1")])
    }

    /// A gateway that signs, in front of a Kamailio that verifies before it calls the operator's switch.
    fn signing<'a>(
        &self,
        lane: &'a Lane,
        server: &CertificateServer,
        switch: &RunningSipp,
    ) -> (Gateway<'a>, Kamailio) {
        let builder = self.believing_and_signing(lane, server);
        let identities = Identities { sign: None, key: "", verify: true, authority: &self.authority };
        let proxy = Kamailio::start_with_identities(lane, switch.address(), builder.udp(), &identities);
        let gateway = builder.trunk_with("operator-a", proxy.outer(), |trunk| {
            trunk.set("stir_sign", true);
        });
        (gateway.start(), proxy)
    }

    pub fn believing_and_signing<'a>(
        &self,
        lane: &'a Lane,
        server: &CertificateServer,
    ) -> GatewayBuilder<'a> {
        self.believing(lane)
            .set("stir.certificate", "chain.pem")
            .set("stir.key", "signer.pem")
            .set("stir.x5u", server.url())
    }
}

/// alice calls through a Kamailio that asks for her signature; `published` is what it finds where that says.
fn signed_call(test: &str, published: &dyn Fn(&Cast) -> String, verified: bool) -> (Vec<String>, Value) {
    let lane = Lane::take(test);
    let cast = Cast::new();
    let server = CertificateServer::start(&cast.authority, Serves::Document(published(&cast)));
    let mut switch = operator(&lane, "operator-answers").start();
    let (gateway, proxy) = cast.signing(&lane, &server, &switch);
    if verified {
        alice(&lane, &gateway, "user-calls").start().succeed();
        let switch = switch.succeed();
        let invite = switch.request("INVITE");
        assert!(invite.header("Identity").is_some_and(|value| value.contains(&server.url())));
        assert!(invite.header("Date").is_some());
    } else {
        alice(&lane, &gateway, "user-is-refused").code(438, "").start().succeed();
        assert!(switch.messages().is_empty(), "the proxy let it through");
        switch.kill();
    }
    let signed = [("trunk", "operator-a"), ("attestation", "A")];
    gateway.wait_metric("tandem_stir_signed_total", &signed, 1.0);
    let end = certificate_end(&gateway.folder().join("chain.pem"));
    assert_eq!(gateway.metric("tandem_stir_certificate_expiry_timestamp_seconds", &[]), end);
    assert!(server.asked() > 0, "the proxy fetched the certificate itself");
    (proxy.log().lines(), gateway.wait_cdr())
}

#[test]
fn kamailio_verifies_what_we_sign() {
    let (log, cdr) = signed_call("stir-signs", &|cast| cast.signer.certificate.clone(), true);
    assert!(log.iter().any(|line| line.contains("identity verified")), "{log:#?}");
    assert_eq!(cdr["attestation"], "A");
    assert!(cdr["stir_result"].is_null() && cdr["verstat"].is_null());
}

#[test]
fn kamailio_refuses_what_another_key_has_signed() {
    let other = |cast: &Cast| cast.authority.issue_signer("9999").certificate;
    let (log, cdr) = signed_call("stir-signs-other", &other, false);
    assert!(log.iter().any(|line| line.contains("identity refused")), "{log:#?}");
    assert_eq!(cdr["end_cause"], "forbidden");
}

#[test]
fn a_signature_that_a_transit_call_brings_is_verified_behind_us() {
    let lane = Lane::take("stir-transit");
    let cast = Cast::new();
    let server = cast.server();
    let from = lane.port();
    let switch = operator(&lane, "operator-answers").start();
    // What we sign ourselves would not pass: our certificate is not where ours would be looked for.
    let own = Cast { authority: cast.authority.clone(), signer: cast.authority.issue_signer("9999") };
    let gateway = own.believing_and_signing(&lane, &server).dialplan(
        "country_code = \"32\"\n[[rule]]\nname = \"transit\"\nfrom = \"trunk:operator-a\"\nmatch = \"+32\"\n\
             trunks = [\"operator-b\"]\n",
    );
    let url = server.url();
    let signs = Identities {
        sign: Some((STRANGERS_DIGITS, &MOBILE[1..], "A", &url)),
        key: &cast.signer.key,
        verify: false,
        authority: &cast.authority,
    };
    let verifies = Identities { sign: None, key: "", verify: true, authority: &cast.authority };
    let caller = SocketAddr::from(([127, 0, 0, 1], from));
    let before = Kamailio::start_with_identities(&lane, caller, gateway.udp(), &signs);
    let behind = Kamailio::start_with_identities(&lane, switch.address(), gateway.udp(), &verifies);
    let gateway = gateway
        .trunk("operator-a", before.outer())
        .trunk_with("operator-b", behind.outer(), |trunk| {
            trunk.set("stir_sign", true);
        })
        .start();
    Sipp::client(&lane, "operator-calls", before.inner())
        .at_port(from)
        .number(MOBILE)
        .key("calling", STRANGER)
        .pause(BLINK)
        .start()
        .succeed();
    switch.succeed();
    assert!(behind.log().lines().iter().any(|line| line.contains("identity verified")));
    assert!(gateway.wait_cdr()["attestation"].is_null(), "it is not ours");
}

/// A call from the operator through a Kamailio that signs it, to alice's phone.
struct Incoming<'a> {
    verify: &'a str,
    /// Calling and called digits that are signed; `None`: nothing is.
    signs: Option<(&'a str, &'a str)>,
    /// What the gateway hears instead of a call that goes on.
    refused: Option<u16>,
}

impl Default for Incoming<'_> {
    fn default() -> Self {
        Incoming { verify: "mark", signs: Some((STRANGERS_DIGITS, ALICES_DIGITS)), refused: None }
    }
}

struct Outcome {
    cdr: Value,
    /// The asserted identity and the level that the phone was told.
    told: Option<(Option<String>, Option<String>)>,
}

fn incoming(test: &str, cast: &Cast, x5u: &str, call: &Incoming<'_>, settings: &[(&str, Toml)]) -> Outcome {
    let lane = Lane::take(test);
    let (device, from) = (lane.port(), lane.port());
    let builder =
        settings.iter().fold(cast.believing(&lane), |builder, (key, value)| builder.set(key, value.clone()));
    let sign = call.signs.map(|(orig, dest)| (orig, dest, "B", x5u));
    let identities = Identities { sign, key: &cast.signer.key, verify: false, authority: &cast.authority };
    let switch = SocketAddr::from(([127, 0, 0, 1], from));
    let proxy = Kamailio::start_with_identities(&lane, switch, builder.udp(), &identities);
    let gateway = builder
        .trunk_with("operator-a", proxy.outer(), |trunk| {
            trunk.set("stir_verify", call.verify);
        })
        .start();
    Sipp::register(&lane, gateway.udp(), "alice", device);
    let caller = |scenario: &str| {
        Sipp::client(&lane, scenario, proxy.inner())
            .at_port(from)
            .number(ALICE)
            .key("calling", STRANGER)
            .pause(BLINK)
    };
    let told = match call.refused {
        Some(code) => {
            caller("operator-is-refused").code(code, "").start().succeed();
            None
        }
        None => {
            let phone = operator(&lane, "user-answers").at_port(device).start();
            caller("operator-calls").start().succeed();
            let phone = phone.succeed();
            let field = |name: &str| phone.request("INVITE").header(name).map(str::to_owned);
            Some((field("P-Asserted-Identity"), field("Attestation-Info")))
        }
    };
    let cdr = gateway.wait_cdr();
    let result = cdr["stir_result"].as_str().unwrap_or_default().to_owned();
    let verified = [("trunk", "operator-a"), ("result", result.as_str())];
    gateway.wait_metric("tandem_stir_verified_total", &verified, 1.0);
    Outcome { cdr, told }
}

#[test]
fn what_kamailio_signs_passes_and_the_phone_and_the_record_hear_it() {
    for verify in ["mark", "require"] {
        let cast = Cast::new();
        let server = cast.server();
        let call = Incoming { verify, ..Incoming::default() };
        let outcome = incoming(&format!("stir-passes-{verify}"), &cast, &server.url(), &call, &[]);
        let (asserted, level) = outcome.told.expect("it rang");
        let asserted = asserted.expect("the phone hears of the number");
        assert!(asserted.contains(&format!("{STRANGER};verstat=TN-Validation-Passed@")), "{asserted}");
        assert_eq!(level.as_deref(), Some("B"));
        assert_eq!(outcome.cdr["stir_result"], "passed");
        assert_eq!(outcome.cdr["verstat"], "TN-Validation-Passed");
        assert_eq!(outcome.cdr["attestation"], "B");
        assert_eq!(server.asked(), 1);
    }
}

#[test]
fn a_call_signed_for_other_numbers_is_marked_or_refused() {
    for (name, signs, result) in [
        ("orig", (&MOBILE[1..], ALICES_DIGITS), "orig_mismatch"),
        ("dest", (STRANGERS_DIGITS, &MOBILE[1..]), "dest_mismatch"),
    ] {
        for (verify, refused) in [("mark", None), ("require", Some(438))] {
            let cast = Cast::new();
            let server = cast.server();
            let call = Incoming { verify, signs: Some(signs), refused };
            let test = format!("stir-{name}-{verify}");
            let outcome = incoming(&test, &cast, &server.url(), &call, &[]);
            assert_eq!(outcome.cdr["stir_result"], result);
            assert_eq!(outcome.cdr["verstat"], "TN-Validation-Failed");
            assert!(outcome.cdr["attestation"].is_null(), "nobody vouches for it");
            if let Some((asserted, level)) = outcome.told {
                assert!(asserted.is_some_and(|value| value.contains("verstat=TN-Validation-Failed")));
                assert_eq!(level, None);
            } else {
                assert_eq!(outcome.cdr["end_cause"], "identity_invalid");
            }
        }
    }
}

#[test]
fn a_call_without_a_signature_is_marked_or_refused() {
    for (verify, refused) in [("mark", None), ("require", Some(428))] {
        let call = Incoming { verify, signs: None, refused };
        let outcome = incoming(&format!("stir-unsigned-{verify}"), &Cast::new(), "", &call, &[]);
        assert_eq!(
            (&outcome.cdr["stir_result"], &outcome.cdr["verstat"]),
            (&"no_identity".into(), &"No-TN-Validation".into())
        );
        if let Some((asserted, _)) = outcome.told {
            assert!(asserted.is_some_and(|value| value.contains("verstat=No-TN-Validation")));
        }
    }
}

#[test]
fn a_signer_of_an_authority_that_is_not_ours_is_not_believed() {
    let cast = Cast::new();
    let stranger = Authority::new("another authority").issue_signer("1234");
    let server = CertificateServer::start(&cast.authority, Serves::Document(stranger.certificate.clone()));
    let cast = Cast { authority: cast.authority, signer: stranger };
    let call = Incoming { verify: "require", refused: Some(437), ..Incoming::default() };
    let outcome = incoming("stir-untrusted", &cast, &server.url(), &call, &[]);
    assert_eq!(
        (&outcome.cdr["stir_result"], &outcome.cdr["end_cause"]),
        (&"untrusted".into(), &"identity_untrusted".into())
    );
}

#[test]
fn what_a_server_gives_that_is_no_certificate_does_no_harm() {
    let cast = Cast::new();
    for (name, serves, result) in [
        ("endless", Serves::Endless, "unreachable"),
        ("garbage", Serves::Garbage, "unreachable"),
        ("redirect", Serves::Redirect("https://127.0.0.1:1/other.pem".into()), "unreachable"),
        ("text", Serves::Document("hello".into()), "untrusted"),
    ] {
        let server = CertificateServer::start(&cast.authority, serves);
        let test = format!("stir-{name}");
        let outcome = incoming(&test, &cast, &server.url(), &Incoming::default(), &[]);
        assert_eq!(outcome.cdr["stir_result"], result, "{name}");
        assert!(outcome.told.is_some(), "the call goes on");
        assert_eq!(server.asked(), 1, "{name}");
    }
}

#[test]
fn certificates_come_only_from_hosts_that_are_allowed_and_prove_who_they_are() {
    let cast = Cast::new();
    let server = cast.server();
    let call = Incoming::default();
    // Without a list a host inside is none of the public Internet.
    let outcome = incoming(
        "stir-inside",
        &cast,
        &server.url(),
        &call,
        &[("stir.fetch_hosts", Toml::Array(Vec::new()))],
    );
    assert_eq!(outcome.cdr["stir_result"], "bad_info");
    let outcome = incoming(
        "stir-unlisted",
        &cast,
        &server.url(),
        &call,
        &[("stir.fetch_hosts", Toml::Array(vec!["cert.example.org".into()]))],
    );
    assert_eq!(outcome.cdr["stir_result"], "bad_info");
    let plain = server.url().replace("https:", "http:");
    let outcome = incoming("stir-plain", &cast, &plain, &call, &[]);
    assert_eq!(outcome.cdr["stir_result"], "bad_info");
    assert_eq!(server.asked(), 0);
    // The system's authorities do not know the server of this test.
    let outcome = incoming("stir-web", &cast, &server.url(), &call, &[("stir.fetch_ca", "".into())]);
    assert_eq!(outcome.cdr["stir_result"], "unreachable");
    assert_eq!(server.asked(), 0);
}

#[test]
fn a_dead_certificate_server_delays_a_marked_call_as_long_as_it_may_and_refuses_one_that_needs_it() {
    let cast = Cast::new();
    let server = CertificateServer::start(&cast.authority, Serves::Silence);
    let waits = |name: &str, most: i64| {
        let outcome = incoming(
            name,
            &cast,
            &server.url(),
            &Incoming::default(),
            &[("stir.max_delay_ms", most.into()), ("stir.fetch_timeout_ms", 20_000.into())],
        );
        assert_eq!(outcome.cdr["stir_result"], "unreachable");
        outcome.cdr["pdd_ms"].as_u64().expect("it rang")
    };
    let (short, long) = (waits("stir-dead-0", 0), waits("stir-dead-1500", 1_500));
    assert!(long >= 1_500 && short < 1_500, "rang after {short} and {long} ms");
    let call = Incoming { verify: "require", refused: Some(436), ..Incoming::default() };
    let begun = std::time::Instant::now();
    let outcome =
        incoming("stir-dead-require", &cast, &server.url(), &call, &[("stir.fetch_timeout_ms", 500.into())]);
    assert_eq!(outcome.cdr["end_cause"], "identity_unreachable");
    assert!(begun.elapsed() < Duration::from_secs(20), "not the whole patience of another setting");
}

#[test]
fn a_signature_that_comes_again_with_another_call_does_not_pass() {
    let lane = Lane::take("stir-replay");
    let cast = Cast::new();
    let server = cast.server();
    let (device, from, thief) = (lane.port(), lane.port(), lane.port());
    let builder = cast.believing(&lane);
    let url = server.url();
    let identities = Identities {
        sign: Some((STRANGERS_DIGITS, ALICES_DIGITS, "A", &url)),
        key: &cast.signer.key,
        verify: false,
        authority: &cast.authority,
    };
    let switch = SocketAddr::from(([127, 0, 0, 1], from));
    let proxy = Kamailio::start_with_identities(&lane, switch, builder.udp(), &identities);
    let gateway = builder
        .trunk_with("operator-a", proxy.outer(), |trunk| {
            trunk.set("stir_verify", "mark");
        })
        .trunk_with("operator-b", ([127, 0, 0, 1], thief).into(), |trunk| {
            trunk.set("stir_verify", "mark");
        })
        .start();
    Sipp::register(&lane, gateway.udp(), "alice", device);
    let phone = operator(&lane, "user-answers").at_port(device).calls(2).start();
    let call = |at: u16, to: SocketAddr| {
        Sipp::client(&lane, "operator-calls", to)
            .at_port(at)
            .number(ALICE)
            .key("calling", STRANGER)
            .pause(BLINK)
    };
    call(from, proxy.inner()).start().succeed();
    let heard = proxy.signed().expect("it signed the call");
    call(thief, gateway.udp()).fill("more", &format!("Identity: {heard}")).start().succeed();
    phone.succeed();
    let results: Vec<Value> = gateway.wait_cdrs(2).iter().map(|cdr| cdr["stir_result"].clone()).collect();
    assert_eq!(results, ["passed", "replayed"]);
}

#[test]
fn a_reload_takes_a_new_key_to_sign_with() {
    let lane = Lane::take("stir-reload");
    let cast = Cast::new();
    let server = cast.server();
    let switch = operator(&lane, "operator-answers").start();
    let (gateway, _proxy) = cast.signing(&lane, &server, &switch);
    let next = Cast { authority: cast.authority.clone(), signer: cast.authority.issue_signer("1234") };
    server.serve(Serves::Document(next.signer.certificate.clone()));
    alice(&lane, &gateway, "user-is-refused").code(438, "").start().succeed();
    next.files(gateway.folder());
    assert_eq!(gateway.ask("POST", "/api/v1/reload", None).status, 200);
    alice(&lane, &gateway, "user-calls").start().succeed();
    switch.succeed();
}

#[test]
fn a_real_phone_rings_with_the_plain_number_of_a_caller_that_passed() {
    let lane = Lane::take("stir-baresip");
    let cast = Cast::new();
    let server = cast.server();
    let from = lane.port();
    let builder = cast.believing(&lane).set("sip.digest", vec![Toml::from("MD5")]);
    let url = server.url();
    let identities = Identities {
        sign: Some((STRANGERS_DIGITS, ALICES_DIGITS, "A", &url)),
        key: &cast.signer.key,
        verify: false,
        authority: &cast.authority,
    };
    let switch = SocketAddr::from(([127, 0, 0, 1], from));
    let proxy = Kamailio::start_with_identities(&lane, switch, builder.udp(), &identities);
    let gateway = builder
        .trunk_with("operator-a", proxy.outer(), |trunk| {
            trunk.set("stir_verify", "mark");
        })
        .start();
    let phone = Baresip::on(&lane, "alice").registers(gateway.udp(), "udp").start();
    Sipp::client(&lane, "operator-calls", proxy.inner())
        .at_port(from)
        .number(ALICE)
        .key("calling", STRANGER)
        .pause(BLINK)
        .start()
        .succeed();
    let rang = phone.wait_event("CALL_REMOTE_SDP");
    let peer = rang["peeruri"].as_str().unwrap_or_default();
    assert!(peer.contains(&format!("{STRANGER}@")), "{rang}");
    phone.wait_event("CALL_CLOSED");
    assert_eq!(gateway.wait_cdr()["stir_result"], "passed");
}

#[test]
fn check_says_which_file_of_a_signer_is_wrong_and_what_to_write() {
    let lane = Lane::take("stir-check");
    let cast = Cast::new();
    let other = cast.authority.issue_signer("9999");
    let gateway = cast
        .believing(&lane)
        .set("stir.certificate", "chain.pem")
        .set("stir.key", "other.pem")
        .set("stir.x5u", "https://cert.example.org/shaken.pem");
    let file = gateway.write();
    let folder = file.parent().expect("a folder");
    std::fs::write(folder.join("other.pem"), &other.key).expect("a key file");
    let told = |file: &std::path::Path| {
        let output = tandem(&["check", "--config", &file.display().to_string()]);
        assert_eq!(output.status.code(), Some(1));
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    let text = told(&file);
    let line = std::fs::read_to_string(&file).expect("the file");
    let line = line.lines().position(|line| line.starts_with("key = \"other.pem\"")).expect("the key") + 1;
    assert!(text.contains(&format!("tandem.toml:{line}: error: stir.key")), "{text}");
    assert!(text.contains("it is not the key of the certificate; write the file of the key"), "{text}");
    let file = gateway.set("stir.x5u", "").write();
    assert!(told(&file).contains("stir needs all three to sign"));
}
