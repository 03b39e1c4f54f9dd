//! TLS on real loopback sockets, with authorities made for each test.

use super::tests::{Side, id, listening, options};
use super::*;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::{
    fs,
    net::Ipv4Addr,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

/// An authority and the files it gives out, in a folder that goes with it.
struct Authority {
    folder: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("tandem-tls-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(folder.join("ca.pem"), issuer.pem()).unwrap();
        Authority { folder, issuer }
    }

    fn file(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    fn identity(&self, name: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let place = |end| self.folder.join(format!("{name}-{end}"));
        fs::write(place("cert.pem"), certificate.pem()).unwrap();
        fs::write(place("key.pem"), key.serialize_pem()).unwrap();
        Identity { certificate: place("cert.pem"), key: place("key.pem") }
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn server(tls: TlsSettings) -> Side {
    Side::new(TransportSettings { tls, ..listening(Transport::Tls, Ipv4Addr::LOCALHOST) })
}

fn client(tls: TlsSettings) -> Side {
    Side::new(TransportSettings { tls, ..TransportSettings::default() })
}

fn send(from: &Side, to: &Side, name: Option<&str>, message: &str, ticket: u64) {
    let peer = from.transports.peer_for(NetworkId(0), Transport::Tls, to.address(), name.map(Arc::from));
    from.transports.send(&peer, Bytes::from(options(message)), ticket);
}

#[tokio::test]
async fn chain_and_name_are_checked() {
    let (ours, foreign) = (Authority::new(), Authority::new());
    let server_tls = TlsSettings { identity: Some(ours.identity("sbc.example")), ..TlsSettings::default() };
    let mut there = server(server_tls);
    let trusting =
        |authority: &Authority| TlsSettings { authorities: Some(authority.file()), ..TlsSettings::default() };

    let mut here = client(trusting(&ours));
    send(&here, &there, Some("sbc.example"), "good", 1);
    let (peer, message, names) = there.message().await;
    assert_eq!((id(&message), peer.transport, names.len()), ("good", Transport::Tls, 0));
    there.transports.send(&peer, Bytes::from(options("answer")), 2);
    let (peer, message, names) = here.message().await;
    assert_eq!(
        (id(&message), peer.tls_name.as_deref(), &names[..]),
        ("answer", Some("sbc.example"), &["sbc.example".to_owned()][..])
    );

    // RFC 5922 §7.2: a wildcard matches nothing.
    let any =
        server(TlsSettings { identity: Some(ours.identity("*.any.example")), ..TlsSettings::default() });
    send(&here, &any, Some("sbc.any.example"), "bad", 2);
    assert!(matches!(here.failed().await, (2, TransportFailure::Tls(_))));

    for (name, ticket) in [(Some("other.example"), 3), (None, 4)] {
        send(&here, &there, name, "bad", ticket);
        let (failed, failure) = here.failed().await;
        assert_eq!(failed, ticket);
        assert!(matches!(failure, TransportFailure::Tls(_)), "{failure:?}");
    }
    let mut stranger = client(trusting(&foreign));
    send(&stranger, &there, Some("sbc.example"), "bad", 5);
    assert!(matches!(stranger.failed().await, (5, TransportFailure::Tls(_))));
    let mut systems_only = client(TlsSettings::default());
    send(&systems_only, &there, Some("sbc.example"), "bad", 6);
    assert!(matches!(systems_only.failed().await, (6, TransportFailure::Tls(_))));
}

#[tokio::test]
async fn a_connection_made_for_one_name_serves_no_other() {
    let ours = Authority::new();
    let key = KeyPair::generate().unwrap();
    let names = ["a.example".to_owned(), "b.example".to_owned(), "127.0.0.1".to_owned()];
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &ours.issuer).unwrap();
    let identity =
        Identity { certificate: ours.folder.join("both.pem"), key: ours.folder.join("both-key.pem") };
    fs::write(&identity.certificate, certificate.pem()).unwrap();
    fs::write(&identity.key, key.serialize_pem()).unwrap();
    let mut there = server(TlsSettings { identity: Some(identity), ..TlsSettings::default() });
    let here = client(TlsSettings { authorities: Some(ours.file()), ..TlsSettings::default() });
    let mut connections = Vec::new();
    for name in [Some("a.example"), Some("b.example"), None, Some("a.example")] {
        send(&here, &there, name, "c", 1);
        connections.push(there.message().await.0.connection);
    }
    assert_eq!(here.transports.open_streams(), 3);
    assert_eq!(connections[0], connections[3]);
}

#[tokio::test]
async fn a_trunk_may_have_its_own_authorities_or_none() {
    let (ours, own) = (Authority::new(), Authority::new());
    let identity = own.identity("sbc.example");
    let mut there = server(TlsSettings { identity: Some(identity), ..TlsSettings::default() });
    let trust = |authorities, verify| TlsSettings {
        authorities: Some(ours.file()),
        trusts: vec![TlsTrust { name: "SBC.example".into(), authorities, verify }],
        ..TlsSettings::default()
    };
    for settings in [trust(Some(own.file()), true), trust(None, false)] {
        let here = client(settings);
        send(&here, &there, Some("sbc.example"), "good", 1);
        assert_eq!(id(&there.message().await.1), "good");
    }
    let mut here = client(trust(None, true));
    send(&here, &there, Some("sbc.example"), "bad", 2);
    assert!(matches!(here.failed().await, (2, TransportFailure::Tls(_))));
}

#[tokio::test]
async fn client_certificates_are_optional_but_have_to_be_right() {
    let (ours, foreign) = (Authority::new(), Authority::new());
    let mut there = server(TlsSettings {
        identity: Some(ours.identity("gw.example")),
        client_authorities: Some(ours.file()),
        client_names: vec!["sbc.example".into(), "other.example".into()],
        ..TlsSettings::default()
    });
    let with = |identity| TlsSettings { identity, authorities: Some(ours.file()), ..TlsSettings::default() };
    for (identity, names) in [
        (Some(ours.identity("sbc.example")), vec!["sbc.example"]),
        (Some(ours.identity("x.example")), vec![]),
        (None, vec![]),
    ] {
        let here = client(with(identity));
        send(&here, &there, Some("gw.example"), "good", 1);
        assert_eq!(&there.message().await.2[..], &names[..]);
    }
    // In TLS 1.3 the refusal comes after the client thinks it is connected.
    let mut here = client(with(Some(foreign.identity("sbc.example"))));
    send(&here, &there, Some("gw.example"), "bad", 2);
    let event = here.event().await;
    assert!(matches!(event, TransportEvent::Failed { .. } | TransportEvent::Closed { .. }), "{event:?}");
    let good = client(with(None));
    send(&good, &there, Some("gw.example"), "after", 1);
    let mut arrived = there.event().await;
    while matches!(arrived, TransportEvent::Closed { .. }) {
        arrived = there.event().await;
    }
    let TransportEvent::Message { message, .. } = arrived else { panic!("{arrived:?}") };
    assert_eq!(id(&message), "after");
}

#[tokio::test]
async fn certificates_are_read_again_without_touching_open_connections() {
    let (old, new) = (Authority::new(), Authority::new());
    let settings = |authority: &Authority| TlsSettings {
        identity: Some(authority.identity("gw.example")),
        ..TlsSettings::default()
    };
    let trusting =
        |authority: &Authority| TlsSettings { authorities: Some(authority.file()), ..TlsSettings::default() };
    let mut there = server(settings(&old));
    let mut before = client(trusting(&old));
    send(&before, &there, Some("gw.example"), "c1", 1);
    let (open, ..) = there.message().await;

    // What can't be used changes nothing.
    let broken = TlsSettings {
        identity: Some(Identity { key: new.file(), ..old.identity("gw.example") }),
        ..TlsSettings::default()
    };
    assert!(there.transports.reload_certificates(&broken).is_err());
    assert!(matches!(
        there.transports.reload_certificates(&TlsSettings::default()),
        Err(TlsError::NoIdentity)
    ));
    let second = client(trusting(&old));
    send(&second, &there, Some("gw.example"), "c2", 1);
    assert_eq!(id(&there.message().await.1), "c2");

    there.transports.reload_certificates(&settings(&new)).unwrap();
    send(&before, &there, Some("gw.example"), "c3", 1);
    assert_eq!(there.message().await.0, open);
    there.transports.send(&open, Bytes::from(options("back")), 1);
    assert_eq!(id(&before.message().await.1), "back");
    let after = client(trusting(&new));
    send(&after, &there, Some("gw.example"), "c4", 1);
    assert_eq!(id(&there.message().await.1), "c4");
    let mut late = client(trusting(&old));
    send(&late, &there, Some("gw.example"), "c5", 5);
    assert!(matches!(late.failed().await, (5, TransportFailure::Tls(_))));
}

#[tokio::test]
async fn a_handshake_that_stalls_is_ended() {
    use tokio::io::AsyncReadExt;
    let ours = Authority::new();
    let tls = TlsSettings { identity: Some(ours.identity("gw.example")), ..TlsSettings::default() };
    let streams = StreamSettings { handshake: Duration::from_millis(50), ..StreamSettings::default() };
    let settings = TransportSettings { tls, streams, ..listening(Transport::Tls, Ipv4Addr::LOCALHOST) };
    let there = Side::new(settings);
    let mut silent = tokio::net::TcpStream::connect(there.address()).await.unwrap();
    assert_eq!(silent.read(&mut [0; 10]).await.unwrap_or(0), 0);
    let failed = &there.transports.stats().handshakes_failed;
    assert_eq!(failed.load(Ordering::Relaxed), 1);
}

#[test]
fn unusable_files_are_named() {
    let ours = Authority::new();
    let load = |settings: &TlsSettings| TlsContext::load(settings).err().expect("an error").to_string();
    let missing = TlsSettings { authorities: Some("/nowhere/ca.pem".into()), ..TlsSettings::default() };
    assert!(load(&missing).starts_with("can't read /nowhere/ca.pem: "));
    let empty = ours.folder.join("empty.pem");
    fs::write(&empty, "no certificate").unwrap();
    let settings = TlsSettings { authorities: Some(empty.clone()), ..TlsSettings::default() };
    assert_eq!(load(&settings), format!("{} holds no certificate", empty.display()));
    let (a, b) = (ours.identity("a.example"), ours.identity("b.example"));
    let settings = TlsSettings { identity: Some(Identity { key: b.key, ..a }), ..TlsSettings::default() };
    assert!(load(&settings).contains("can't be used"));
    let settings = TlsSettings { client_names: vec!["not a name".into()], ..TlsSettings::default() };
    assert_eq!(load(&settings), "\"not a name\" is not a host name or address");
}
