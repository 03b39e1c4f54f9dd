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
