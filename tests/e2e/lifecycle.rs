//! What a gateway does between its start and its end: refusing a broken configuration, reloading, draining, stopping.

use crate::operate::{assert_drains, wait_answered};
use crate::scene::{ALICE, BLINK, BOB, MOBILE, SECOND, alice, builder, gateway, operator};
use crate::support::{
    gateway::{Gateway, tandem},
    lane::Lane,
    sipp::Sipp,
    tls::Authority,
    wait,
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use serde_json::json;
use std::{
    net::{SocketAddr, TcpStream},
    sync::Arc,
};

#[test]
fn check_says_file_line_and_what_to_write_instead() {
    let lane = Lane::take("lifecycle-check");
    let folder = lane.make_folder("broken");
    let file = folder.join("tandem.toml");
    let path = file.to_str().expect("a plain path");
    std::fs::write(folder.join("dialplan.toml"), "country_code = \"32\"\n").expect("a dialplan");
    let check = |text: &str| {
        std::fs::write(&file, text).expect("a configuration");
        let output = tandem(&["check", "--config", path]);
        let told = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        (output.status.code(), told.concat())
    };
    let head = "dialplan = \"dialplan.toml\"\n";
    let (code, told) = check(head);
    assert_eq!(code, Some(0), "{told}");
    for (text, line, says) in [
        ("[sip]\nrelm = \"example.org\"\n", 3, "realm"),
        ("[sip]\nlisten = [\"udp:0.0.0.0\"]\n", 3, "udp:0.0.0.0:5060"),
        ("[media]\nworkers = \"two\"\n", 3, "workers"),
        ("[log]\nformat = \"xml\"\n", 3, "json"),
        ("[[trunk]]\nname = \"a\"\nproxy = [\"192.0.2.7\"]\ncodecs = [\"PCMX\"]\n", 5, "PCMA"),
        ("[[trunk]]\nname = \"a\"\n", 2, "proxy"),
        ("[[user]]\nname = \"alice\"\npassword = \"env:TANDEM_SURELY_UNSET\"\n", 4, "TANDEM_SURELY_UNSET"),
        ("[gateway\n", 2, "]"),
    ] {
        let (code, told) = check(&format!("{head}{text}"));
        assert_eq!(code, Some(1), "{text}{told}");
        let place = format!("{path}:{line}: error: ");
        let found = told
            .lines()
            .find(|told| told.starts_with(&place))
            .unwrap_or_else(|| panic!("no {place}\n{told}"));
        assert!(found[place.len()..].contains(says), "{says}: {found}");
        // The gateway itself refuses the same file with the same words.
        let refused = tandem(&["run", "--config", path]);
        assert_eq!(refused.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&refused.stderr).contains(found));
    }
    // A dialplan's own case that fails is an error of the dialplan.
    let case = "\n[[expect]]\nfrom = \"alice\"\ndial = \"0470123456\"\ntrunks = [\"operator-a\"]\n";
    std::fs::write(folder.join("dialplan.toml"), format!("country_code = \"32\"\n{case}"))
        .expect("a dialplan");
    let (code, told) = check(&format!("{head}[[user]]\nname = \"alice\"\npassword = \"x\"\n"));
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("dialplan.toml:3: error: "), "{told}");
    assert_eq!(tandem(&["check"]).status.code(), Some(2), "wrong usage");
}

#[test]
fn check_refuses_what_the_gateway_could_not_start_with() {
    let lane = Lane::take("lifecycle-preflight");
    let folder = lane.make_folder("preflight");
    let file = folder.join("tandem.toml");
    let path = file.to_str().expect("a plain path");
    let authority = Authority::new("lifecycle");
    let (own, other) = (authority.issue("gw.example"), authority.issue("other.example"));
    for (name, text) in [
        ("dialplan.toml", "country_code = \"32\"\n"),
        ("cert.pem", &own.certificate),
        ("key.pem", &own.key),
        ("other-key.pem", &other.key),
        ("words.pem", "no certificate\n"),
    ] {
        std::fs::write(folder.join(name), text).expect("a file");
    }
    let tls = |certificate: &str, key: &str| {
        format!(
            "[tls]\ncertificate = \"{certificate}\"\nkey = \"{key}\"\n[sip]\nlisten = [\"tls:127.0.0.1:0\"]\n"
        )
    };
    let check = |text: &str| {
        std::fs::write(&file, format!("dialplan = \"dialplan.toml\"\n{text}")).expect("a configuration");
        let output = tandem(&["check", "--config", path]);
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, told) = check(&tls("cert.pem", "key.pem"));
    assert_eq!(code, Some(0), "{told}");
    for (text, line, says) in [
        (tls("words.pem", "key.pem"), 3, "tls.certificate"),
        (tls("cert.pem", "other-key.pem"), 4, "write the key that belongs to tls.certificate"),
        (tls("cert.pem", "nowhere.pem"), 4, "tls.key"),
        ("[database]\nurl = \"postgres://u:hunter2@127.0.0.1/db?sslmode=sure\"\n".to_owned(), 3, "sslmode"),
        ("[database]\nurl = \"mysql://127.0.0.1/db\"\n".to_owned(), 3, "sqlite:data"),
        (
            "[admin]\nlisten = \"127.0.0.1:5060\"\n[sip]\nlisten = [\"tcp:0.0.0.0:5060\"]\n".to_owned(),
            3,
            "write another port",
        ),
    ] {
        let (code, told) = check(&text);
        assert_eq!(code, Some(1), "{text}{told}");
        let place = format!("{path}:{line}: error: ");
        let found = told.lines().find(|told| told.starts_with(&place));
        let found = found.unwrap_or_else(|| panic!("no {place}\n{told}"));
        assert!(found.contains(says) && !found.contains("hunter2"), "{says}: {found}");
        assert_eq!(tandem(&["run", "--config", path]).status.code(), Some(1), "{text}");
    }
}

#[test]
fn a_reload_takes_dialplan_trunks_and_users_and_leaves_running_calls_alone() {
    let lane = Lane::take("lifecycle-reload");
    let first = operator(&lane, "operator-answers").calls(2).start();
    let second = operator(&lane, "operator-answers").start();
    let mut gateway = builder(&lane, &first).user("bob", BOB).start();
    Sipp::register(&lane, gateway.udp(), "bob", lane.port());
    let bob = |gateway: &Gateway<'_>, scenario: &str| {
        Sipp::client(&lane, scenario, gateway.udp())
            .user("bob")
            .number(MOBILE)
            .code(401, "")
            .pause(5 * SECOND)
            .start()
    };
    // The call of a user who is about to go, over a trunk that is about to lose its place.
    let running = bob(&gateway, "user-calls");
    let call = wait_answered(&gateway);

    let trunk = second.address();
    gateway.change(|builder| {
        let builder = builder
            .set("user", toml::Value::Array(Vec::new()))
            .user("alice", ALICE)
            .user("carol", "+3225550003");
        builder.trunk("operator-b", trunk).dialplan(
            "country_code = \"32\"\n[[rule]]\nname = \"new\"\nmatch = \"+32470\"\ntrunks = [\"operator-b\"]\n\
             [[rule]]\nname = \"old\"\nmatch = \"+32\"\ntrunks = [\"operator-a\"]\n",
        )
    });
    gateway.signal(libc::SIGHUP);
    gateway.wait_log("configuration reloaded", wait::SOON);
    assert_eq!(gateway.calls().len(), 1);
    assert_eq!(gateway.calls()[0]["id"], call["id"]);
    assert_eq!(gateway.metric("tandem_registrations_active", &[]), 0.0);
    // The new trunk, by the new dialplan, for an old and a new user; the removed one is not let in.
    alice(&lane, &gateway, "user-calls").pause(BLINK).start().succeed();
    second.succeed();
    let carol = Sipp::client(&lane, "user-calls", gateway.udp()).user("carol").number("+3225123456");
    carol.pause(BLINK).start().succeed();
    bob(&gateway, "user-is-refused").succeed();
    running.succeed();
    first.succeed();
    let cdrs = gateway.wait_cdrs(3);
    let kept = cdrs.iter().find(|cdr| cdr["id"] == call["id"]).expect("its record");
    assert_eq!((&kept["end_cause"], &kept["released_by"]), (&"normal_clearing".into(), &"caller".into()));
    assert!(kept["duration_ms"].as_u64().is_some_and(|ms| ms >= 4_900), "{kept:#}");
}

#[test]
fn a_reload_with_an_error_leaves_everything_as_it_was() {
    let lane = Lane::take("lifecycle-reload-refused");
    let operator = operator(&lane, "operator-answers").start();
    let mut gateway = gateway(&lane, &operator);
    gateway.change(|builder| {
        builder.user("bob", BOB).dialplan("country_code = \"32\"\n[[rule]]\nmtach = \"+32\"\n")
    });
    let refused = gateway.ask("POST", "/api/v1/reload", None);
    assert_eq!((refused.status, refused.header("Content-Type")), (422, Some("application/problem+json")));
    let errors = refused.json()["errors"].as_array().cloned().unwrap_or_default();
    let unknown = errors.iter().filter_map(|error| error.as_str()).find(|error| error.contains("mtach"));
    assert!(unknown.is_some_and(|error| error.contains("dialplan.toml:3")), "{errors:#?}");
    gateway.signal(libc::SIGHUP);
    gateway.wait_log("reload refused", wait::SOON);
    assert_eq!(gateway.list("/api/v1/users", "users").len(), 1, "bob has not come in by halves");
    alice(&lane, &gateway, "user-calls").pause(BLINK).start().succeed();
    operator.succeed();
    // What only a restart takes is told.
    gateway.change(|builder| builder.set("gateway.name", "other").dialplan("country_code = \"32\"\n"));
    let taken = gateway.ask("POST", "/api/v1/reload", None);
    assert_eq!(taken.status, 200, "{}", taken.body);
    assert!(taken.json()["needs_restart"].to_string().contains("gateway.name"), "{}", taken.body);
}

#[test]
fn a_reload_takes_a_new_certificate_for_the_next_connection() {
    let lane = Lane::take("lifecycle-certificate");
    let (old, new) = (Authority::new("Old authority"), Authority::new("New authority"));
    let gateway = Gateway::on(&lane).tls(&old).start();
    assert!(trusts(&old, gateway.tls()) && !trusts(&new, gateway.tls()));
    let issued = new.issue("gateway");
    std::fs::write(gateway.folder().join("cert.pem"), issued.certificate).expect("a certificate file");
    // A certificate without its key is refused, and the old pair stays.
    gateway.signal(libc::SIGHUP);
    gateway.wait_log("reload refused", wait::SOON);
    assert!(trusts(&old, gateway.tls()));
    std::fs::write(gateway.folder().join("key.pem"), issued.key).expect("a key file");
    gateway.signal(libc::SIGHUP);
    gateway.wait_log("configuration reloaded", wait::SOON);
    assert!(trusts(&new, gateway.tls()) && !trusts(&old, gateway.tls()));
}

/// Whether who trusts only this authority gets through a TLS handshake.
fn trusts(authority: &Authority, at: SocketAddr) -> bool {
    let mut roots = RootCertStore::empty();
    let certificate =
        CertificateDer::from_pem_slice(authority.certificate().as_bytes()).expect("a certificate");
    roots.add(certificate).expect("an authority's certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("usual versions").with_root_certificates(roots).with_no_client_auth();
    let name = "localhost".try_into().expect("a name");
    let mut connection = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut stream = TcpStream::connect(at).expect("the gateway listens");
    stream.set_read_timeout(Some(wait::SOON)).expect("a time-out is valid");
    while connection.is_handshaking() {
        if connection.complete_io(&mut stream).is_err() {
            return false;
        }
    }
    true
}

#[test]
fn sigterm_lets_the_running_call_end_by_itself() {
    let lane = Lane::take("lifecycle-drain");
    let operator = operator(&lane, "operator-answers").start();
    let gateway = gateway(&lane, &operator);
    let running = alice(&lane, &gateway, "user-calls").pause(5 * SECOND).start();
    wait_answered(&gateway);
    gateway.signal(libc::SIGTERM);
    gateway.wait_log("draining", wait::SOON);
    assert_drains(&lane, &gateway);
    assert_eq!(gateway.calls().len(), 1);
    running.succeed();
    operator.succeed();
    assert!(gateway.wait_exit(wait::SOON).success());
    gateway.start_again();
    let cdrs = gateway.wait_cdrs(2);
    assert_eq!(cdrs[0]["end_cause"], "normal_clearing");
    assert!(cdrs[0]["duration_ms"].as_u64().is_some_and(|ms| ms >= 4_900), "{:#}", cdrs[0]);
    // The caller that was turned away had proven itself: its attempt is on record.
    let refused = [&cdrs[1]["end_cause"], &cdrs[1]["sip_code"], &cdrs[1]["caller_user"]];
    assert_eq!(refused, [&json!("draining"), &json!(503), &json!("alice")], "{:#}", cdrs[1]);
}

#[test]
fn a_second_sigterm_hangs_up() {
    let lane = Lane::take("lifecycle-stop");
    let operator = operator(&lane, "operator-answers").start();
    let gateway = gateway(&lane, &operator);
    let running = alice(&lane, &gateway, "user-calls-and-is-hung-up-on").start();
    wait_answered(&gateway);
    gateway.signal(libc::SIGTERM);
    gateway.wait_log("draining", wait::SOON);
    gateway.signal(libc::SIGTERM);
    running.succeed();
    operator.succeed();
    assert!(gateway.wait_exit(wait::SOON).success());
    gateway.start_again();
    assert_eq!(gateway.wait_cdr()["end_cause"], "drained");
}

#[test]
fn a_drain_ends_at_its_deadline() {
    let lane = Lane::take("lifecycle-deadline");
    let operator = operator(&lane, "operator-answers").start();
    let gateway = builder(&lane, &operator).set("gateway.drain_seconds", 1).start();
    let running = alice(&lane, &gateway, "user-calls-and-is-hung-up-on").start();
    wait_answered(&gateway);
    gateway.signal(libc::SIGTERM);
    running.succeed();
    operator.succeed();
    assert!(gateway.wait_exit(wait::SOON).success());
}
