//! The sheet says what each setting means, and no setting is forgotten.

use super::*;
use crate::config::parse_dialplan;
use crate::types::{HostPort, Secret};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

fn trunk() -> TrunkConfig {
    let proxy = vec![HostPort { host: "sbc.operator.example".into(), port: None }];
    TrunkConfig {
        auth: TrunkAuth::Digest,
        username: "gw".into(),
        password: Secret::new("never-to-be-told"),
        max_channels: Some(30),
        ..TrunkConfig::new("operator-a", proxy)
    }
}

#[test]
fn what_the_configuration_says_stands_in_the_sheet() {
    let mut config = Config::default();
    config.networks[0].public_address = vec!["198.51.100.7".parse().unwrap()];
    let text = Sheet::of(&config, &trunk()).markdown();
    for part in [
        "udp:198.51.100.7:5060",
        "sbc.operator.example over udp",
        "digest, user gw",
        "20000-29999",
        "PCMA, PCMU",
        "| Calls at once, both directions | 30 |",
        "408: next",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    assert!(!text.contains("never-to-be-told"));
}

#[test]
fn the_methods_and_extensions_are_those_that_the_trunk_is_told() {
    let config = Config::default();
    let text = Sheet::of(&config, &trunk()).markdown();
    assert!(text.contains("| Methods | INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE |"), "{text}");
    let more = TrunkConfig {
        prack: Prack::Supported,
        transfer: Transfer::Users,
        redirect_to: vec![HostPort { host: "192.0.2.8".into(), port: None }],
        ..trunk()
    };
    let text = Sheet::of(&config, &more).markdown();
    for part in [
        "| Methods | INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, PRACK, UPDATE, REFER |",
        "| Extensions | 100rel, replaces |",
        "two of them to each other",
        "taken along) to 192.0.2.8 |",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
}

#[test]
fn a_trunk_whose_callers_are_signed_hears_where_the_certificate_is() {
    let mut config = Config::default();
    config.stir.x5u = Some("https://cert.example.org/shaken.pem".into());
    let mut signed = trunk();
    signed.stir_sign = true;
    let text = Sheet::of(&config, &signed).markdown();
    assert!(text.contains("certificate at https://cert.example.org/shaken.pem"), "{text}");
    assert!(Sheet::of(&config, &trunk()).markdown().contains("not signed"));
}

#[test]
fn an_operators_engineers_learn_the_numbers_of_the_test_lines_that_they_may_call() {
    let config = Config { trunks: vec![trunk()], ..Config::default() };
    let text = "[[rule]]\nfrom = \"any\"\nmatch = [\"+3225559901\", \"999\"]\nto = \"line:echo\"\n\
                [[rule]]\nmatch = \"+3225559902\"\nto = \"line:tone\"\n";
    let plan = parse_dialplan(Path::new("d.toml"), text, config.trunk_forms()).unwrap().dialplan;
    let text = Sheet::of(&config, &trunk()).with_test_lines(&plan).markdown();
    assert!(text.contains("| echo | +3225559901, 999: the caller hears itself |"), "{text}");
    assert!(!text.contains("+3225559902"), "only for users: {text}");
    let none = Dialplan::empty(config.trunk_forms());
    assert!(!Sheet::of(&config, &trunk()).with_test_lines(&none).markdown().contains("Test numbers"));
}

/// A trunk with these keys beside its name and its proxy, or in their place.
fn sheet_of(keys: &[(&str, &str)]) -> String {
    let mut all = BTreeMap::from([("name", "\"operator-a\""), ("proxy", "[\"sbc.operator.example\"]")]);
    all.extend(keys.iter().copied());
    let trunk: String = all.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
    let text = format!(
        "[[network]]\nname = \"default\"\n[[network]]\n\
         name = \"ipx\"\nbind = [\"192.0.2.1\"]\nmedia_ports = \"30000-30099\"\n[[trunk]]\n{trunk}"
    );
    let read = |_: &str| None;
    let config = Config::parse(Path::new("t.toml"), &text, &read).unwrap_or_else(|problems| {
        panic!("{problems:#?} in\n{text}");
    });
    Sheet::of(&config, &config.trunks[0]).markdown()
}

/// The keys of `[[trunk]]`, as the example shows them all.
fn trunk_keys() -> BTreeSet<String> {
    let example = include_str!("../../../config/tandem.example.toml");
    let lines = example.lines().skip_while(|line| *line != "# [[trunk]]").skip(1);
    let lines = lines.take_while(|line| *line != "# [[trunk.header]]");
    let key = |line: &str| {
        let (key, _) = line.strip_prefix("# ")?.split_once(" = ")?;
        key.bytes().all(|octet| octet.is_ascii_lowercase() || octet == b'_').then(|| key.to_owned())
    };
    lines.filter_map(key).chain(["header".to_owned()]).collect()
}

const USER: [(&str, &str); 2] = [("username", "\"gw\""), ("password", "\"secret\"")];
const DIGEST: [(&str, &str); 3] = [("auth", "\"digest\""), USER[0], USER[1]];
const REGISTER: [(&str, &str); 3] = [("auth", "\"register\""), USER[0], USER[1]];
const TLS: [(&str, &str); 1] = [("transport", "\"tls\"")];
const RANGE: [(&str, &str); 1] = [("calling_ranges", "[\"+3225550\"]")];

/// A key, what has to stand beside it, and another value than its default.
type Flip = (&'static str, &'static [(&'static str, &'static str)], &'static str);

/// Each key of a trunk.
const FLIPS: [Flip; 59] = [
    ("name", &[], "\"operator-b\""),
    ("carrier", &[], "\"Operator B\""),
    ("network", &[], "\"ipx\""),
    ("proxy", &[], "[\"192.0.2.9\"]"),
    ("naptr", &[], "true"),
    ("transport", &[], "\"tcp\""),
    ("auth", &USER, "\"digest\""),
    ("username", &DIGEST, "\"other\""),
    ("realm", &DIGEST, "\"operator.example\""),
    ("domain", &[], "\"gw.example.org\""),
    ("register_seconds", &REGISTER, "600"),
    ("register_bulk", &REGISTER, "true"),
    ("called_from", &[], "\"to\""),
    ("peers", &[], "[\"192.0.2.0/28\"]"),
    ("calls_over", &TLS, "\"tcp\""),
    ("match_host", &[], "\"a.example\""),
    ("match_trunk_group", &[], "\"TG-1\""),
    ("trunk_group", &[("trunk_context", "\"example.com\"")], "\"TG-1\""),
    ("trunk_context", &[("trunk_group", "\"TG-1\"")], "\"example.com\""),
    ("portability", &[], "\"pass\""),
    ("tls_name", &TLS, "\"sbc.example\""),
    ("tls_ca", &TLS, "\"ca.pem\""),
    ("tls_verify", &TLS, "false"),
    ("codecs", &[], "[\"PCMU\"]"),
    ("max_channels", &[], "30"),
    ("max_cps", &[], "5"),
    ("max_cps_in", &[], "5"),
    ("called_format", &[], "\"national\""),
    ("calling_format", &[], "\"e164\""),
    ("identity", &[], "\"pai\""),
    ("trusted", &[], "true"),
    ("tell_withheld", &[], "true"),
    ("emergency_format", &[], "\"urn\""),
    ("location", &[], "false"),
    ("calling_name", &[], "true"),
    ("connected_number", &[], "true"),
    ("charging_vector", &[("trusted", "true")], "true"),
    ("diversion", &[], "true"),
    ("app_side", &[], "true"),
    ("calling_ranges", &[], "[\"+3225550\"]"),
    ("calling_default", &RANGE, "\"+3225550000\""),
    ("calling_screening", &RANGE, "\"reject\""),
    ("options_seconds", &[], "0"),
    ("reply_timeout_ms", &[], "2000"),
    ("max_duration_seconds", &[], "600"),
    ("ring_seconds", &[], "30"),
    ("dtmf", &[], "\"inband\""),
    ("comfort_noise", &[], "true"),
    ("srtp", &[], "\"sdes\""),
    ("srtp_suites", &[("srtp", "\"sdes\"")], "[\"AEAD_AES_256_GCM\"]"),
    ("prack", &[], "\"supported\""),
    ("session_timer_seconds", &[], "1800"),
    ("early_media", &[], "false"),
    ("p_early_media", &[], "true"),
    ("redirect_to", &[], "[\"192.0.2.8\"]"),
    ("transfer", &[], "\"users\""),
    ("latch", &[], "true"),
    ("failover", &[], "{ \"603\" = \"next\" }"),
    ("header", &[], "[{ action = \"remove\", header = \"X-Debug\" }]"),
];

/// What does not stand in the sheet, and why.
const LEFT_OUT: [(&str, &str); 3] = [
    ("password", "a secret"),
    ("stir_sign", "needs files: its own test is above"),
    ("stir_verify", "needs files: its own test is above"),
];

#[test]
fn no_setting_of_a_trunk_is_forgotten() {
    let named = FLIPS.iter().map(|(key, ..)| *key).chain(LEFT_OUT.iter().map(|(key, _)| *key));
    let named: BTreeSet<String> = named.map(str::to_owned).collect();
    assert_eq!(trunk_keys(), named, "a key of a trunk stands in the sheet, or is left out for a reason");
    for (key, beside, value) in FLIPS {
        let without: Vec<(&str, &str)> = beside.iter().copied().filter(|(other, _)| *other != key).collect();
        let before = if key == "trunk_group" || key == "trunk_context" { &[] as &[_] } else { beside };
        let mut with = without;
        with.push((key, value));
        assert_ne!(sheet_of(before), sheet_of(&with), "{key} changes nothing");
    }
    assert!(!sheet_of(&DIGEST).contains("secret"));
}

#[test]
fn what_the_sheet_says_is_what_an_operators_form_asks_for() {
    let rules = "[{ action = \"add\", header = \"X-Customer\", value = \"internal-secret\" }, \
                 { action = \"remove\", header = \"X-Trace\", direction = \"from\" }]";
    let text = sheet_of(&[
        ("identity", "\"pai\""),
        ("trusted", "true"),
        ("called_from", "\"p-called-party-id\""),
        ("calling_ranges", "[\"+3225550\"]"),
        ("calling_default", "\"+3225550000\""),
        ("calling_screening", "\"replace\""),
        ("match_host", "\"a.example\""),
        ("redirect_to", "[\"192.0.2.8\"]"),
        ("header", rules),
    ]);
    for part in [
        "| Network number of our callers | P-Asserted-Identity (RFC 3325) |",
        "Privacy: id; the network number is told all the same",
        "| Called number, as we read it | P-Called-Party-ID",
        "| +3225550; another one, or none, is replaced by +3225550000 |",
        "| the host they call, a.example |",
        "taken along) to 192.0.2.8 |",
        "to you: add X-Customer in INVITE. From you: remove X-Trace in",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    assert!(!text.contains("internal-secret"), "{text}");
}

#[test]
fn a_trunk_over_tls_hears_what_our_certificate_says_and_until_when() {
    let config = Config::default();
    let own = OwnCertificate {
        names: vec!["sbc.example.org".into(), "192.0.2.1".into()],
        issuer: "CN=An Authority".into(),
        until: "Jan  1 00:00:00 2030 +00:00".into(),
    };
    let tls = TrunkConfig { transport: Transport::Tls, ..trunk() };
    let text = Sheet::of(&config, &tls).with_certificate(&tls, &own).markdown();
    assert!(
        text.contains("sbc.example.org, 192.0.2.1; issued by CN=An Authority; until Jan  1 00:00:00 2030"),
        "{text}"
    );
    let clear = Sheet::of(&config, &trunk()).with_certificate(&trunk(), &own).markdown();
    assert!(!clear.contains("An Authority"));
    let mut asking = config.clone();
    asking.tls.client_ca = Some("clients.pem".into());
    assert!(Sheet::of(&asking, &tls).markdown().contains("we ask who connects to us for a certificate"));
    let named = TrunkConfig { tls_name: Some("sbc.operator.example".into()), ..tls };
    let by_name = "| We know your calls by | your certificate, sbc.operator.example |";
    assert!(Sheet::of(&asking, &named).markdown().contains(by_name));
    assert!(!Sheet::of(&config, &named).markdown().contains(by_name), "nobody is asked for one");
}

#[test]
fn callers_that_have_to_be_signed_are_told_so() {
    let config = Config::default();
    let plain = Sheet::of(&config, &trunk()).markdown();
    let strict = TrunkConfig { stir_verify: StirVerify::Require, ..trunk() };
    assert_ne!(Sheet::of(&config, &strict).markdown(), plain);
}
