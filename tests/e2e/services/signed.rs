//! Signed callers over every transport: Kamailio in front of an operator's switch signs and verifies (RFC 8224).

use super::says;
use crate::scene::{ALICE, BLINK, MOBILE, STRANGER, operator};
use crate::stir::{ALICES_DIGITS, Cast, STRANGERS_DIGITS};
use crate::support::{
    certificates::{CertificateServer, Serves},
    gateway::{Gateway, GatewayBuilder, Section},
    kamailio::{Identities, Kamailio, Outer},
    lane::Lane,
    sipp::{Over, Sipp},
};
use crate::transports::{at_once, known_by_address};

/// What becomes of a call whose caller is signed, or should be.
#[derive(Debug, Clone, Copy)]
enum Signed {
    /// alice's call, verified by Kamailio.
    Us,
    /// The same, where another certificate is published than ours.
    UsInVain,
    /// A call to alice, verified by us.
    Them,
    /// The same, signed for another number.
    ThemForAnother,
    /// A call to alice that nobody signed, where that is required.
    Nobody,
}

fn outer(over: Over<'_>) -> Outer {
    match over {
        Over::Udp => Outer::Udp,
        Over::Tcp => Outer::Tcp,
        Over::Tls(_) => Outer::Tls,
    }
}

/// A trunk to the proxy, whose connections come from any port of its: users stand at an address of their own.
fn trunk<'a>(
    builder: GatewayBuilder<'a>,
    proxy: &Kamailio,
    over: Over<'_>,
    more: impl FnOnce(&mut Section),
) -> Gateway<'a> {
    let gateway = builder.trunk_with("operator-a", proxy.outer(), |trunk| {
        known_by_address(trunk, over, proxy.outer());
        more(trunk);
    });
    gateway.start()
}

/// The proxy was called over this transport, and judged the signature so.
#[track_caller]
fn judged(proxy: &Kamailio, over: Over<'_>, how: &str) {
    let lines = proxy.log().lines();
    assert!(lines.iter().any(|line| line.contains(how)), "{lines:#?}");
    let came = format!(" from {}:127.0.0.1:", over.as_str());
    let called = lines.iter().any(|line| line.contains("proxy: INVITE") && line.contains(&came));
    assert!(called, "{lines:#?}");
}

fn sign(over: Over<'_>, cast: &Cast, lane: &Lane, vain: bool) {
    let published =
        if vain { cast.authority.issue_signer("9999").certificate } else { cast.signer.certificate.clone() };
    let server = CertificateServer::start(&cast.authority, Serves::Document(published));
    let mut switch = operator(lane, "operator-answers").start();
    let builder = cast.believing_and_signing(lane, &server).tls(&cast.authority).set("app.srtp", "off");
    let identities = Identities { sign: None, key: "", verify: true, authority: &cast.authority };
    let at = if matches!(over, Over::Tls(_)) { builder.tls_address() } else { builder.udp() };
    let proxy = Kamailio::start_with_identities_over(lane, outer(over), switch.address(), at, &identities);
    let gateway = trunk(builder, &proxy, over, |trunk| {
        trunk.set("stir_sign", true);
    });
    let scenario = if vain { "user-is-refused" } else { "user-calls" };
    let caller = Sipp::client(lane, scenario, gateway.at(over)).at(lane.own_ip()).user("alice");
    let caller = caller.number(MOBILE).code(438, "").pause(BLINK).over(over);
    caller.start().succeed();
    if vain {
        judged(&proxy, over, "identity refused");
        assert!(switch.messages().is_empty(), "the proxy let it through");
        switch.kill();
    } else {
        judged(&proxy, over, "identity verified");
        says(switch.succeed().request("INVITE"), "Identity", "ey");
    }
    assert!(server.asked() > 0, "the proxy fetched the certificate itself");
    assert_eq!(gateway.wait_cdr()["attestation"], "A");
    gateway.wait_idle();
}

/// A call to alice from behind the proxy: refused with this, or told to her phone with that.
fn verify(over: Over<'_>, cast: &Cast, lane: &Lane, signs: Option<&str>, result: &str, refused: Option<u16>) {
    let server = cast.server();
    let (switch, device, url) = (lane.address(), lane.port(), server.url());
    let builder = cast.believing(lane).tls(&cast.authority);
    let sign = signs.map(|called| (STRANGERS_DIGITS, called, "B", url.as_str()));
    let identities = Identities { sign, key: &cast.signer.key, verify: false, authority: &cast.authority };
    let at = if matches!(over, Over::Tls(_)) { builder.tls_address() } else { builder.udp() };
    let proxy = Kamailio::start_with_identities_over(lane, outer(over), switch, at, &identities);
    let gateway = trunk(builder, &proxy, over, |trunk| {
        trunk.set("stir_verify", "require");
    });
    let register = Sipp::registration(lane, gateway.udp(), "user-registers", "alice", device);
    register.at(lane.own_ip()).start().succeed();
    let caller = |scenario: &str| {
        let caller = Sipp::client(lane, scenario, proxy.inner()).at_port(switch.port()).number(ALICE);
        caller.key("calling", STRANGER).pause(BLINK)
    };
    match refused {
        Some(code) => {
            caller("operator-is-refused").code(code, "").start().succeed();
        }
        None => {
            let phone = operator(lane, "user-answers").at(lane.own_ip()).at_port(device).start();
            caller("operator-calls").start().succeed();
            let phone = phone.succeed();
            let invite = phone.request("INVITE");
            let asserted = invite.header("P-Asserted-Identity").unwrap_or_default();
            assert!(asserted.contains(&format!("{STRANGER};verstat=TN-Validation-Passed@")), "{asserted}");
            assert_eq!(invite.header("Attestation-Info"), Some("B"));
        }
    }
    let cdr = gateway.wait_cdr();
    assert_eq!(
        (&cdr["stir_result"], &cdr["ingress_trunk"]),
        (&result.into(), &"operator-a".into()),
        "{cdr:#}"
    );
    let came = [("method", "INVITE"), ("transport", over.as_str()), ("flow", "received")];
    assert!(gateway.metric("tandem_sip_requests_total", &came) > 0.0, "by another transport");
    gateway.wait_idle();
}

fn signed_over(over: Over<'_>, cast: &Cast) {
    let rows = [Signed::Us, Signed::UsInVain, Signed::Them, Signed::ThemForAnother, Signed::Nobody];
    at_once(
        &rows,
        |row| format!("{row:?}"),
        |number, row| {
            let lane = Lane::take(&format!("services-signed-{}-{number}", over.as_str()));
            match row {
                Signed::Us => sign(over, cast, &lane, false),
                Signed::UsInVain => sign(over, cast, &lane, true),
                Signed::Them => verify(over, cast, &lane, Some(ALICES_DIGITS), "passed", None),
                Signed::ThemForAnother => {
                    verify(over, cast, &lane, Some(&MOBILE[1..]), "dest_mismatch", Some(438));
                }
                Signed::Nobody => verify(over, cast, &lane, None, "no_identity", Some(428)),
            }
        },
    );
}

#[test]
fn callers_are_signed_and_verified_over_udp() {
    signed_over(Over::Udp, &Cast::new());
}

#[test]
fn callers_are_signed_and_verified_over_tcp() {
    signed_over(Over::Tcp, &Cast::new());
}

#[test]
fn callers_are_signed_and_verified_over_tls() {
    let cast = Cast::new();
    signed_over(Over::Tls(&cast.authority), &cast);
}
