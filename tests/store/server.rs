//! The store against a database server that comes and goes.

use super::*;

fn impatient() -> StoreOptions {
    StoreOptions { connect_patience: Duration::from_millis(200), ..patient() }
}

#[test]
fn a_server_that_goes_away_costs_nothing_but_time() {
    let lane = Lane::take("store-server-goes");
    let mut server = Postgres::start(&lane);
    let runtime = runtime();
    let _context = runtime.enter();
    let keys = NumberKeys::load(&lane.path("number.keys")).unwrap();
    let store = Store::connect(&Secret::new(server.url()), keys, impatient()).unwrap();
    let options = JournalOptions::new(lane.path("journal"), "gw1");
    let (journal, _) = Journal::open(options, |_| {}, |_| {}).unwrap();
    let pauses = ShipperOptions {
        first_pause: Duration::from_millis(20),
        longest_pause: Duration::from_millis(100),
        ..ShipperOptions::default()
    };
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let shipper = Shipper::new(journal.clone(), store.clone(), pauses);
    let shipping = runtime.spawn(shipper.run(stopped));
    let stored = |calls| {
        let what = format!("{calls} calls in the database");
        wait::until(&what, wait::START, || (journal.status().stored_total >= calls).then_some(()));
    };
    journal_calls(&journal, 0..20);
    stored(20);
    server.stop();
    journal_calls(&journal, 20..50);
    wait::until("the store to notice", wait::SOON, || (!store.is_up()).then_some(()));
    assert!(journal.status().records >= 60 && journal.healthy());
    server.start_again();
    stored(50);
    assert!(store.is_up());
    stop.send(true).unwrap();
    runtime.block_on(shipping).unwrap();
    let all = runtime.block_on(found(&store, CdrFilter::default()));
    assert_eq!(all, (0..50).map(call).collect::<Vec<_>>());
    assert_eq!(journal.status().records, 0);
    runtime.block_on(store.close());
}

#[test]
fn a_server_that_is_down_at_start_is_used_once_it_is_up() {
    let lane = Lane::take("store-server-late");
    let mut server = Postgres::start(&lane);
    server.stop();
    let runtime = runtime();
    let _context = runtime.enter();
    let keys = NumberKeys::load(&lane.path("number.keys")).unwrap();
    let store = Store::connect(&Secret::new(server.url()), keys, impatient()).unwrap();
    runtime.block_on(async {
        let away = store.users().await;
        assert!(matches!(away, Err(StoreError::Unavailable(_))), "{away:?}");
        assert!(!store.is_up());
    });
    server.start_again();
    runtime.block_on(async {
        assert_eq!(store.users().await.unwrap(), []);
        assert!(store.is_up());
        store.close().await;
    });
}

/// A database connection with these parameters of the URL: whether it is made, and why not.
fn connected(lane: &Lane, url: &str, parameters: &str) -> Result<(), String> {
    let runtime = runtime();
    let _context = runtime.enter();
    let keys = NumberKeys::load(&lane.path("number.keys")).unwrap();
    let store = Store::connect(&Secret::new(format!("{url}?{parameters}")), keys, patient()).unwrap();
    runtime.block_on(async {
        let ready = store.ready().await.map_err(|error| error.to_string());
        store.close().await;
        ready
    })
}

#[test]
fn a_server_over_tls_is_believed_as_far_as_the_url_says() {
    let lane = Lane::take("store-server-tls");
    let authority = Authority::new("Tandem tests");
    let server = Postgres::start_with_tls(&lane, &authority.issue("database.test"));
    let ca = authority.write(lane.folder());
    let stranger = lane.make_folder("stranger");
    let other = Authority::new("Somebody else").write(&stranger);
    let url = server.url();
    // The server takes nothing but TLS; what the certificate says does not matter yet.
    let plain = connected(&lane, &url, "sslmode=disable").unwrap_err();
    assert!(plain.contains("no encryption") || plain.contains("pg_hba.conf"), "{plain}");
    connected(&lane, &url, "sslmode=require").unwrap();
    // Its authority, and the name it is called by, are checked on demand.
    let verified = |mode: &str, ca: &std::path::Path| format!("sslmode={mode}&sslrootcert={}", ca.display());
    connected(&lane, &url, &verified("verify-full", &ca)).unwrap();
    let unknown = connected(&lane, &url, &verified("verify-full", &other)).unwrap_err();
    assert!(unknown.contains("certificate"), "{unknown}");
    assert!(connected(&lane, &url, "sslmode=verify-full").is_err(), "the system knows no such authority");
}

#[test]
fn a_certificate_for_another_name_is_not_taken() {
    let lane = Lane::take("store-server-tls-name");
    let authority = Authority::new("Tandem tests");
    let identity = authority.issue_for("database.test", vec!["database.test".to_owned()]);
    let server = Postgres::start_with_tls(&lane, &identity);
    let root = format!("sslrootcert={}", authority.write(lane.folder()).display());
    let wrong = connected(&lane, &server.url(), &format!("sslmode=verify-full&{root}")).unwrap_err();
    assert!(wrong.contains("not valid for name"), "{wrong}");
    connected(&lane, &server.url(), &format!("sslmode=verify-ca&{root}")).unwrap();
}

#[test]
fn gateways_that_share_a_database_share_the_keys_of_its_numbers() {
    let lane = Lane::take("store-server-keys");
    let server = Postgres::start(&lane);
    let runtime = runtime();
    let _context = runtime.enter();
    let folder = |name: &str| lane.make_folder(name).join("number.keys");
    let store = |file: &std::path::Path| {
        Store::connect(&Secret::new(server.url()), NumberKeys::load(file).unwrap(), patient()).unwrap()
    };
    let (first, second) = (folder("first"), folder("second"));
    runtime.block_on(async {
        let one = store(&first);
        one.ready().await.unwrap();
        // A gateway that came with a key of its own writes nothing, and says what to do.
        let other = store(&second);
        let refused = other.ready().await.unwrap_err();
        assert!(matches!(&refused, StoreError::OtherKey { id } if id == "k1"), "{refused}");
        assert!(refused.to_string().contains("copy it from the gateway that came first"), "{refused}");
        assert!(matches!(other.store(&[ended(1)]).await, Err(SinkError::Unavailable(_))), "CDRs wait");
        // With the first one's file, it stores what the first one finds.
        std::fs::copy(&first, &second).unwrap();
        let other = store(&second);
        other.store(&[ended(1)]).await.unwrap();
        let number = CdrFilter { number: "+32470123456".parse().ok(), ..CdrFilter::default() };
        assert_eq!(found(&one, number).await, [call(1)]);
        // A key that came later is one more.
        let text = std::fs::read_to_string(&first).unwrap();
        std::fs::write(&second, format!("{text}k2 {}\n", "ab".repeat(32))).unwrap();
        store(&second).ready().await.unwrap();
        store(&first).ready().await.unwrap();
    });
    assert_eq!(server.query("SELECT count(*) FROM number_key"), "2");
}
