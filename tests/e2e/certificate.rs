//! Trunks that are known by their certificates (RFC 5922): a real proxy shows one and asks for ours.

use crate::scene::{ALICE, MOBILE, SECOND, STRANGER, alice, operator};
use crate::support::{
    gateway::{Gateway, GatewayBuilder},
    kamailio::{Clients, Kamailio},
    lane::Lane,
    sipp::Sipp,
    tls::{Authority, Issued},
};

const NAME: &str = "sbc.operator.test";

/// A gateway that knows its trunk by name alone: no address of this machine is the trunk's.
fn by_name<'a>(gateway: GatewayBuilder<'a>, proxy: &Kamailio) -> GatewayBuilder<'a> {
    gateway.set("tls.client_ca", "ca.pem").user("alice", ALICE).trunk_with(
        "operator-a",
        proxy.outer(),
        |trunk| {
            trunk
                .set("transport", "tls")
                .set("tls_name", NAME)
                .set("peers", vec![toml::Value::from("192.0.2.7")]);
        },
    )
}

/// A call comes through a proxy that shows this certificate; true if it comes in as the trunk's.
fn is_the_trunk(test: &str, authority: &Authority, own: &Issued) -> bool {
    let lane = Lane::take(test);
    let switch = lane.address();
    let gateway = Gateway::on(&lane).tls(authority);
    let proxy = Kamailio::start_with_certificate(
        &lane,
        switch,
        gateway.tls_address(),
        authority,
        own,
        Clients::MayBeAnybody,
    );
    let gateway = by_name(gateway, &proxy).start();
    // alice has no device: the trunk's call gets so far, a stranger's is asked for a password.
    let caller = Sipp::client(&lane, "operator-is-refused", proxy.inner()).at_port(switch.port());
    let played = caller.number(ALICE).key("calling", STRANGER).code(480, "").start().finish();
    let refused = played.messages.iter().filter_map(|message| message.status()).find(|status| *status >= 300);
    match refused {
        Some(480) => {
            assert_eq!(gateway.wait_cdr()["ingress_trunk"], "operator-a");
            true
        }
        Some(401) => {
            assert!(gateway.cdrs().is_empty());
            false
        }
        other => panic!("{other:?}\n{played}"),
    }
}

fn named(authority: &Authority, name: &str) -> Issued {
    authority.issue_for("proxy", vec![name.to_owned()])
}

#[test]
fn a_trunk_is_known_by_the_name_in_its_certificate_and_another_name_is_not_it() {
    let authority = Authority::new("Tandem tests");
    assert!(is_the_trunk("certificate-name", &authority, &named(&authority, "SBC.operator.test")));
    assert!(!is_the_trunk("certificate-other", &authority, &named(&authority, "sbc.elsewhere.test")));
    assert!(!is_the_trunk("certificate-above", &authority, &named(&authority, "operator.test")));
}

#[test]
fn a_wildcard_is_nobodys_name() {
    let authority = Authority::new("Tandem tests");
    assert!(!is_the_trunk("certificate-wildcard", &authority, &named(&authority, "*.operator.test")));
}

#[test]
fn a_sip_uri_names_the_trunk_and_then_its_dns_names_do_not_count() {
    let authority = Authority::new("Tandem tests");
    let uri = authority.issue_with_uris("proxy", vec![], &["sip:sbc.operator.test"]);
    assert!(is_the_trunk("certificate-uri", &authority, &uri));
    let other = authority.issue_with_uris("proxy", vec![NAME.to_owned()], &["sip:elsewhere.test"]);
    assert!(!is_the_trunk("certificate-uri-other", &authority, &other));
}

/// alice calls through a proxy that shows this certificate and wants to see ours.
fn calls_out(test: &str, own: &dyn Fn(&Authority) -> Issued, succeeds: bool) {
    let lane = Lane::take(test);
    let authority = Authority::new("Tandem tests");
    let switch = operator(&lane, "operator-answers").start();
    let gateway = Gateway::on(&lane).tls(&authority);
    let proxy = Kamailio::start_with_certificate(
        &lane,
        switch.address(),
        gateway.tls_address(),
        &authority,
        &own(&authority),
        Clients::NeedACertificate,
    );
    let gateway = by_name(gateway, &proxy).start();
    let mut switch = switch;
    if succeeds {
        alice(&lane, &gateway, "user-calls").pause(SECOND).start().succeed();
        switch.succeed();
    } else {
        alice(&lane, &gateway, "user-is-refused").code(502, "").start().succeed();
        assert!(switch.messages().is_empty(), "the call to {MOBILE} went to a stranger");
        switch.kill();
    }
}

#[test]
fn we_show_our_certificate_to_a_trunk_and_call_only_who_has_its_name() {
    calls_out("certificate-out", &|authority| named(authority, NAME), true);
    calls_out(
        "certificate-out-uri",
        &|authority| authority.issue_with_uris("proxy", vec![], &["sip:sbc.operator.test"]),
        true,
    );
    calls_out("certificate-out-wildcard", &|authority| named(authority, "*.operator.test"), false);
    calls_out("certificate-out-address", &|authority| named(authority, "127.0.0.1"), false);
}
