//! The registrar in virtual time.

use super::*;
use proptest::prelude::*;

fn start() -> Now {
    Now { instant: Instant::now(), unix_ms: 1_800_000_000_000 }
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn peer(port: u16, connection: Option<u64>) -> Peer {
    Peer {
        network: NetworkId(0),
        transport: if connection.is_some() { Transport::Tcp } else { Transport::Udp },
        remote: SocketAddr::new("192.0.2.1".parse().unwrap(), port),
        local: "198.51.100.1:5060".parse().unwrap(),
        connection: connection.map(ConnectionId),
        tls_name: None,
    }
}

fn contact(uri: &str, expires: Option<u32>) -> Contact {
    Contact { uri: uri.into(), expires, q: None, instance: None }
}

fn register(call_id: &str, cseq: u32, contacts: Contacts, expires: Option<u32>) -> Register {
    Register {
        user: "alice".into(),
        call_id: call_id.into(),
        cseq,
        contacts,
        expires,
        user_agent: None,
        peer: peer(5060, None),
    }
}

fn one(call_id: &str, cseq: u32, uri: &str, expires: Option<u32>) -> Register {
    register(call_id, cseq, Contacts::List(vec![contact(uri, None)]), expires)
}

fn uris(bindings: &[Binding]) -> Vec<&str> {
    bindings.iter().map(|binding| binding.contact.as_str()).collect()
}

fn outputs(registrar: &mut Registrar) -> Vec<RegistrarOutput> {
    std::iter::from_fn(|| registrar.poll_output()).collect()
}

#[test]
fn several_devices_of_a_user_stand_side_by_side_until_each_expires() {
    let now = start();
    let mut registrar = Registrar::new(RegistrarSettings::default());
    registrar.handle_register(now, &one("c1", 1, "sip:a@1", Some(60))).unwrap();
    let bindings = registrar.handle_register(now, &one("c2", 1, "sip:a@2", Some(120))).unwrap();
    assert_eq!(bindings.len(), 2);
    assert_eq!(registrar.poll_timeout(), Some(now.instant + seconds(60)));
    registrar.handle_timeout(now.after(seconds(60)));
    assert_eq!(uris(registrar.bindings("alice")), ["sip:a@2"]);
    registrar.handle_timeout(now.after(seconds(120)));
    assert!(registrar.is_empty());
    assert_eq!(registrar.poll_timeout(), None);
}

#[test]
fn the_contacts_time_goes_before_the_headers_and_no_time_means_the_default() {
    let now = start();
    let mut registrar = Registrar::new(RegistrarSettings::default());
    let contacts = Contacts::List(vec![contact("sip:a@1", Some(90)), contact("sip:a@2", None)]);
    registrar.handle_register(now, &register("c", 1, contacts, Some(600))).unwrap();
    registrar.handle_register(now, &one("d", 1, "sip:a@3", None)).unwrap();
    registrar.handle_register(now, &one("e", 1, "sip:a@4", Some(1_000_000))).unwrap();
    let left = |uri: &str| {
        let binding = registrar.bindings("alice").iter().find(|binding| binding.contact == uri).unwrap();
        binding.seconds_left(now.instant)
    };
    assert_eq!(["sip:a@1", "sip:a@2", "sip:a@3", "sip:a@4"].map(left), [90, 600, 3_600, 3_600]);
}

#[test]
fn too_brief_a_time_is_refused_with_the_minimum_and_changes_nothing() {
    let now = start();
    let mut registrar = Registrar::new(RegistrarSettings::default());
    let contacts = Contacts::List(vec![contact("sip:a@1", Some(600)), contact("sip:a@2", Some(59))]);
    let refused = registrar.handle_register(now, &register("c", 1, contacts, None));
    assert_eq!(refused, Err(RegisterError::TooBrief { min_expires: 60 }));
    assert!(registrar.is_empty());
}

#[test]
fn expires_zero_removes_one_contact_and_the_wildcard_all() {
    let now = start();
    let mut registrar = Registrar::new(RegistrarSettings::default());
    for (cseq, uri) in [(1, "sip:a@1"), (2, "sip:a@2"), (3, "sip:a@3")] {
        registrar.handle_register(now, &one("c", cseq, uri, None)).unwrap();
    }
    registrar.handle_register(now, &one("c", 4, "sip:a@2", Some(0))).unwrap();
    assert_eq!(registrar.len(), 2);
    let misused = registrar.handle_register(now, &register("c", 5, Contacts::Wildcard, None));
    assert_eq!(misused, Err(RegisterError::WildcardMisused));
    let misused = registrar.handle_register(now, &register("c", 5, Contacts::Wildcard, Some(60)));
    assert_eq!(misused, Err(RegisterError::WildcardMisused));
    let left = registrar.handle_register(now, &register("c", 5, Contacts::Wildcard, Some(0))).unwrap();
    assert!(left.is_empty());
    assert!(registrar.is_empty());
}

#[test]
fn an_older_request_of_the_same_call_id_is_refused_and_a_restarted_device_is_not() {
    let now = start();
    let mut registrar = Registrar::new(RegistrarSettings::default());
    registrar.handle_register(now, &one("c", 10, "sip:a@1", None)).unwrap();
    for cseq in [9, 10] {
        let refused = registrar.handle_register(now, &one("c", cseq, "sip:a@1", Some(0)));
        assert_eq!(refused, Err(RegisterError::OutOfOrder), "{cseq}");
        let refused = registrar.handle_register(now, &register("c", cseq, Contacts::Wildcard, Some(0)));
        assert_eq!(refused, Err(RegisterError::OutOfOrder), "{cseq}");
    }
    registrar.handle_register(now, &one("new", 1, "sip:a@1", Some(60))).unwrap();
    assert_eq!(registrar.bindings("alice")[0].seconds_left(now.instant), 60);
}

#[test]
fn a_query_lists_and_changes_nothing() {
    let now = start();
    let mut registrar = Registrar::new(RegistrarSettings::default());
    registrar.handle_register(now, &one("c", 1, "sip:a@1", Some(60))).unwrap();
    let later = now.after(Duration::from_millis(1_500));
    let bindings = registrar.handle_register(later, &register("q", 1, Contacts::Query, None)).unwrap();
    assert_eq!(bindings[0].seconds_left(later.instant), 59, "58.5 seconds are left, rounded up");
    assert_eq!(registrar.poll_timeout(), Some(now.instant + seconds(60)));
}

#[test]
fn a_user_has_a_limit_of_devices_and_renewing_is_always_possible() {
    let now = start();
    let mut registrar = Registrar::new(RegistrarSettings { max_bindings: 2, ..RegistrarSettings::default() });
    registrar.handle_register(now, &one("c", 1, "sip:a@1", None)).unwrap();
    registrar.handle_register(now, &one("c", 2, "sip:a@2", None)).unwrap();
    let refused = registrar.handle_register(now, &one("c", 3, "sip:a@3", None));
    assert_eq!(refused, Err(RegisterError::TooMany { max: 2 }));
    registrar.handle_register(now, &one("c", 4, "sip:a@1", None)).unwrap();
    let swap = Contacts::List(vec![contact("sip:a@1", Some(0)), contact("sip:a@3", None)]);
    registrar.handle_register(now, &register("c", 5, swap, None)).unwrap();
    assert_eq!(registrar.len(), 2);
}

#[test]
fn a_device_that_names_its_instance_leaves_no_ghost() {
    let now = start();
    let mut registrar = Registrar::new(RegistrarSettings { max_bindings: 1, ..RegistrarSettings::default() });
    let device = |uri: &str| Contact { instance: Some("<urn:uuid:1>".into()), ..contact(uri, None) };
    registrar.handle_register(now, &register("c", 1, Contacts::List(vec![device("sip:a@1")]), None)).unwrap();
    outputs(&mut registrar);
    registrar.handle_register(now, &register("d", 1, Contacts::List(vec![device("sip:a@2")]), None)).unwrap();
    assert_eq!(uris(registrar.bindings("alice")), ["sip:a@2"]);
    assert_eq!(
        outputs(&mut registrar),
        [
            RegistrarOutput::Removed {
                user: "alice".into(),
                contact: "sip:a@1".into(),
                reason: RemovedBecause::Replaced
            },
            RegistrarOutput::Stored { user: "alice".into(), contact: "sip:a@2".into(), new: true },
        ]
    );
}

#[test]
fn the_device_that_is_wanted_most_comes_first() {
    let now = start();
    let mut registrar = Registrar::new(RegistrarSettings::default());
    for (index, q) in [Some(300), None, Some(700)].into_iter().enumerate() {
        let wanted = Contact { q, ..contact(&format!("sip:a@{index}"), None) };
        registrar
            .handle_register(now, &register("c", index as u32 + 1, Contacts::List(vec![wanted]), None))
            .unwrap();
    }
    assert_eq!(uris(registrar.bindings("alice")), ["sip:a@1", "sip:a@2", "sip:a@0"]);
}

#[test]
fn a_lost_stream_makes_its_devices_unreachable_until_they_register_again() {
    let now = start();
    let mut registrar = Registrar::new(RegistrarSettings::default());
    let over = |cseq, connection| Register {
        peer: peer(40_000, Some(connection)),
        ..one("c", cseq, "sip:a@1", None)
    };
    registrar.handle_register(now, &over(1, 7)).unwrap();
    registrar.handle_register(now, &one("d", 1, "sip:a@2", None)).unwrap();
    assert_eq!(registrar.user_of(&peer(40_000, Some(7))).map(|user| &**user), Some("alice"));
    outputs(&mut registrar);
    registrar.handle_connection_lost(ConnectionId(7));
    assert_eq!(
        outputs(&mut registrar),
        [RegistrarOutput::Lost { user: "alice".into(), contact: "sip:a@1".into() }]
    );
    assert_eq!(registrar.reachable("alice").count(), 1);
    assert_eq!(registrar.len(), 2);
    registrar.handle_register(now, &over(2, 8)).unwrap();
    assert_eq!(registrar.reachable("alice").count(), 2);
    registrar.handle_connection_lost(ConnectionId(7));
    assert_eq!(registrar.reachable("alice").count(), 2, "the old stream is no longer its stream");
}

#[test]
fn an_address_serves_users_as_long_as_a_device_is_registered_from_it() {
    let now = start();
    let mut registrar = Registrar::new(RegistrarSettings::default());
    let address: IpAddr = "192.0.2.1".parse().unwrap();
    assert!(!registrar.serves_address(address));
    registrar.handle_register(now, &one("c", 1, "sip:a@1", Some(60))).unwrap();
    registrar.handle_register(now, &one("c", 2, "sip:a@1", Some(60))).unwrap();
    assert!(registrar.serves_address(address));
    assert!(registrar.serves_address("::ffff:192.0.2.1".parse().unwrap()));
    registrar.handle_timeout(now.after(seconds(60)));
    assert!(!registrar.serves_address(address));
}

#[test]
fn a_removed_user_loses_its_registrations() {
    let now = start();
    let mut registrar = Registrar::new(RegistrarSettings::default());
    registrar.handle_register(now, &one("c", 1, "sip:a@1", None)).unwrap();
    registrar.remove_user("alice");
    registrar.remove_user("nobody");
    assert!(registrar.is_empty());
}

#[test]
fn after_a_restart_udp_devices_are_reachable_and_those_on_streams_are_marked_lost() {
    let now = start();
    let mut registrar = Registrar::new(RegistrarSettings::default());
    registrar.handle_register(now, &one("c", 5, "sip:a@1", Some(600))).unwrap();
    registrar
        .handle_register(now, &Register { peer: peer(40_000, Some(7)), ..one("d", 1, "sip:a@2", Some(600)) })
        .unwrap();
    registrar.handle_register(now, &one("e", 1, "sip:a@3", Some(60))).unwrap();
    let json = serde_json::to_string(&registrar.snapshot()).unwrap();
    let later = Now { instant: now.instant + seconds(5), unix_ms: now.unix_ms + 100_000 };
    let mut restarted = Registrar::new(RegistrarSettings::default());
    restarted.restore(later, serde_json::from_str(&json).unwrap());
    assert_eq!(restarted.len(), 2, "one has expired meanwhile");
    let reachable: Vec<_> = restarted.reachable("alice").collect();
    assert_eq!(reachable.len(), 1);
    assert_eq!((reachable[0].contact.as_str(), reachable[0].seconds_left(later.instant)), ("sip:a@1", 500));
    let refused = restarted.handle_register(later, &one("c", 5, "sip:a@1", None));
    assert_eq!(refused, Err(RegisterError::OutOfOrder), "CSeq order survives");
}

proptest! {
    /// Any sequence of requests, lost streams and passing time leaves the indices true to the bindings.
    #[test]
    fn indices_stay_true(steps in prop::collection::vec((0u8..4, 0u8..4, 0u8..3, 0u32..3, 0u64..200), 1..80)) {
        let mut now = start();
        let settings = RegistrarSettings { max_bindings: 3, ..RegistrarSettings::default() };
        let mut registrar = Registrar::new(settings);
        let mut alive: HashMap<(String, String), bool> = HashMap::new();
        for (cseq, (what, uri, user, expires, wait)) in steps.into_iter().enumerate() {
            now = now.after(seconds(wait));
            let user: Arc<str> = format!("u{user}").into();
            let connection = (uri % 2 == 0).then_some(u64::from(uri));
            let contacts = match what {
                0 | 1 => Contacts::List(vec![contact(&format!("sip:{uri}"), Some(expires * 60))]),
                2 => Contacts::Wildcard,
                _ => {
                    registrar.handle_connection_lost(ConnectionId(u64::from(uri)));
                    Contacts::Query
                }
            };
            let request = Register {
                user,
                peer: peer(u16::from(uri) + 1, connection),
                ..register("c", cseq as u32 + 1, contacts, Some(0))
            };
            let _ = registrar.handle_register(now, &request);
            for output in outputs(&mut registrar) {
                match output {
                    RegistrarOutput::Stored { user, contact, new } => {
                        let before = alive.insert((user.to_string(), contact), true);
                        prop_assert_eq!(before.is_none(), new);
                    }
                    RegistrarOutput::Removed { user, contact, .. } => {
                        prop_assert!(alive.remove(&(user.to_string(), contact)).is_some());
                    }
                    RegistrarOutput::Lost { user, contact } => {
                        prop_assert_eq!(alive.insert((user.to_string(), contact), false), Some(true));
                    }
                }
            }
            let bindings: Vec<(&Arc<str>, &Binding)> =
                registrar.iter().flat_map(|(user, list)| list.iter().map(move |binding| (user, binding))).collect();
            prop_assert_eq!(bindings.len(), registrar.len());
            prop_assert_eq!(bindings.len(), registrar.deadlines.len());
            prop_assert_eq!(bindings.len(), alive.len());
            prop_assert_eq!(registrar.addresses.values().sum::<usize>(), bindings.len());
            prop_assert_eq!(registrar.poll_timeout(), bindings.iter().map(|(_, binding)| binding.expires_at).min());
            for (user, binding) in bindings {
                prop_assert!(binding.expires_at > now.instant);
                prop_assert_eq!(alive.get(&(user.to_string(), binding.contact.clone())), Some(&!binding.lost));
                prop_assert!(registrar.bindings(user).len() <= settings.max_bindings);
            }
            let on_streams: usize = registrar.connections.values().map(Vec::len).sum();
            let expected = registrar.iter().flat_map(|(_, list)| list).filter(|b| b.peer.connection.is_some() && !b.lost).count();
            prop_assert_eq!(on_streams, expected);
        }
    }
}
