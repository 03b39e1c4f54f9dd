//! The database, the same behaviour on SQLite and on a real PostgreSQL.

mod support;

use std::{future::Future, path::PathBuf, sync::Arc, time::Duration};
use support::{
    lane::Lane,
    postgres::{Postgres, SharedPostgres, dump},
    tls::Authority,
    wait,
};
use tandem::{
    access::{Credentials, StoredBinding, User, UserSource},
    billing::{
        Cdr, CdrLeg, CdrSink, CdrState, Charge, JournalRecord, NotRated, Rated, SinkError,
        io::{Journal, JournalOptions, Shipper, ShipperOptions},
    },
    store::{
        Account, CdrFilter, CdrOrder, CdrQuery, NumberKeys, RegistrationChange, SortKey, Store, StoreError,
        StoreOptions, StoredUser,
    },
    types::{
        Attestation, AudioCodec, AudioFault, CallId, Currency, Direction, Emergency, EndCause, Fax,
        LegReport, Money, Outcome, Rate, ReleasedBy, Secret, StirResult, TestLine, Transport,
    },
};

/// One test's own database.
struct Database {
    url: String,
    folder: PathBuf,
    _lane: Lane,
    _server: Option<Arc<SharedPostgres>>,
}

impl Database {
    fn sqlite(test: &str) -> Database {
        let lane = Lane::take(test);
        let folder = lane.folder().to_owned();
        // A folder that does not exist yet is made.
        let url = format!("sqlite:{}", folder.join("data/tandem.db").display());
        Database { url, folder, _lane: lane, _server: None }
    }

    fn postgres(test: &str) -> Database {
        let lane = Lane::take(test);
        let server = SharedPostgres::get();
        Database {
            url: server.make_database(),
            folder: lane.folder().to_owned(),
            _lane: lane,
            _server: Some(server),
        }
    }

    fn store(&self) -> Store {
        let keys = NumberKeys::load(&self.folder.join("number.keys")).unwrap();
        Store::connect(&Secret::new(&self.url), keys, patient()).unwrap()
    }

    /// Every byte that the database holds as text.
    async fn contents(&self, store: Store) -> String {
        store.close().await;
        match self.url.strip_prefix("sqlite:") {
            Some(file) => String::from_utf8_lossy(&std::fs::read(file).unwrap()).into_owned(),
            None => dump(&self.url),
        }
    }

    /// Something that no gateway does.
    async fn execute(&self, sql: &'static str) {
        if self.url.starts_with("sqlite:") {
            let pool = sqlx::SqlitePool::connect(&self.url).await.unwrap();
            sqlx::raw_sql(sql).execute(&pool).await.unwrap();
            pool.close().await;
        } else {
            let pool = sqlx::PgPool::connect(&self.url).await.unwrap();
            sqlx::raw_sql(sql).execute(&pool).await.unwrap();
            pool.close().await;
        }
    }
}

/// Limits that only a hanging server reaches, however busy the machine is.
fn patient() -> StoreOptions {
    let patience = Duration::from_secs(60);
    StoreOptions { connect_patience: patience, patience, ..StoreOptions::default() }
}

fn run<T>(work: impl Future<Output = T>) -> T {
    runtime().block_on(work)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Each behaviour becomes a test per database.
macro_rules! on_both {
    ($($behaviour:ident),* $(,)?) => {
        mod sqlite {
            $(#[test]
            fn $behaviour() {
                super::run(super::$behaviour(super::Database::sqlite(concat!("store-", stringify!($behaviour)))));
            })*
        }
        mod postgres {
            $(#[test]
            fn $behaviour() {
                super::run(super::$behaviour(super::Database::postgres(concat!("store-", stringify!($behaviour)))));
            })*
        }
    };
}

on_both!(
    a_cdr_comes_back_as_it_was,
    storing_again_changes_nothing_and_the_newer_record_wins,
    a_bulk_batch_arrives_whole,
    what_the_database_refuses_leaves_nothing_of_its_batch,
    hostile_texts_are_only_texts,
    filters_find_what_they_say,
    pages_are_complete_while_calls_come_in,
    every_order_sorts_both_ways,
    old_numbers_lose_four_digits_and_are_still_found,
    users_are_kept_without_their_passwords,
    a_user_changes_as_a_whole_or_not_at_all,
    a_did_rings_one_user_and_a_name_is_taken_once,
    registrations_survive_and_expire,
    accounts_have_a_name_once,
    gateways_that_start_together_migrate_once,
    a_newer_schema_is_left_alone,
    the_journal_ships_every_call_once,
);

const START: i64 = 1_790_000_000_000;

fn call(n: u32) -> CallId {
    let mut random = [9; 10];
    random[..4].copy_from_slice(&n.to_be_bytes());
    CallId::from_parts(START + i64::from(n), random)
}

/// A call as it begins.
fn begun(n: u32) -> Cdr {
    let mut cdr = Cdr::new(call(n), Direction::AppToTrunk, START + i64::from(n));
    cdr.node = "gw1".into();
    cdr.boot = 1;
    cdr.seq = u64::from(n) + 1;
    cdr.revision = u64::from(n) * 10 + 1;
    cdr.caller.user = Some("alice".into());
    cdr.caller.account = Some("default".into());
    cdr.caller.number = "+3225550001".parse().ok();
    cdr.called.dialled = "0470 12 34 56".into();
    cdr.called.number = "+32470123456".parse().ok();
    cdr.egress_trunk = Some("operator-a".into());
    cdr.carrier = Some("Operator A".into());
    cdr.attestation = Some(Attestation::B);
    cdr.stir_result = Some(StirResult::Passed);
    cdr
}

/// The same call, answered and ended, with everything that can be known of it.
fn ended(n: u32) -> Cdr {
    let mut cdr = begun(n);
    let started = cdr.started_at;
    cdr.revision += 2;
    cdr.state = CdrState::Final;
    cdr.ringing_at = Some(started + 800);
    cdr.answered_at = Some(started + 3_000);
    cdr.last_media_at = Some(started + 63_990);
    cdr.released_at = Some(started + 64_000);
    cdr.pdd_ms = Some(800);
    cdr.duration_ms = 61_000;
    cdr.heard_ms = Some(60_990);
    cdr.end_cause = Some(EndCause::NormalClearing);
    cdr.sip_code = Some(200);
    cdr.q850 = Some(16);
    cdr.released_by = Some(ReleasedBy::Callee);
    cdr.emergency = Some(Emergency::Callback);
    cdr.forwarded_of = Some(call(9_999));
    cdr.fax = Some(Fax::T38);
    cdr.caller_codec = Some(AudioCodec::Opus);
    cdr.callee_codec = Some(AudioCodec::Pcma);
    cdr.called.line = Some(TestLine::NoAnswer);
    cdr.caller_leg = Some(report(1));
    cdr.callee_leg = Some(LegReport {
        packets_unrepaired: None,
        rtt_ms: None,
        mos_cq: None,
        fault: Some(AudioFault::Missing),
        ..report(2)
    });
    let attempt = CdrLeg {
        index: 1,
        trunk: Some("operator-b".into()),
        target: "32470123456".into(),
        started_at: started + 5,
        ended_at: Some(started + 400),
        sip_code: Some(503),
        end_cause: Some(EndCause::FarEndCongested),
        ..CdrLeg::default()
    };
    let chosen = CdrLeg {
        index: 2,
        trunk: Some("operator-a".into()),
        target: "+32470123456".into(),
        started_at: started + 401,
        ringing_at: cdr.ringing_at,
        answered_at: cdr.answered_at,
        ended_at: cdr.released_at,
        sip_code: Some(200),
        end_cause: Some(EndCause::NormalClearing),
        chosen: true,
        ..CdrLeg::default()
    };
    cdr.legs = vec![attempt, chosen];
    cdr.legs_omitted = 3;
    cdr.sell = Some(Rated::Charge(Charge {
        prefix: "+3247".into(),
        rate: Rate { per_minute_e8: 1_250_000, currency: Currency::EUR },
        billable_ms: 60_990,
        billed_s: 61,
        amount: Money { micros: 12_708, currency: Currency::EUR },
    }));
    cdr.buy = Some(Rated::NotRated(NotRated::NoRate));
    cdr
}

fn report(n: u64) -> LegReport {
    LegReport {
        packets_received: 3_000 + n,
        packets_sent: 3_001,
        bytes_received: 480_000,
        bytes_sent: 480_160,
        packets_lost: 7,
        packets_unrepaired: Some(3),
        packets_late: 2,
        packets_discarded: 1,
        burst_ratio: Some(1.5),
        burst_density: Some(0.25),
        gap_density: Some(0.01),
        burst_ms: Some(120.0),
        gap_ms: Some(9_000.0),
        jitter_ms: Some(1.25),
        rtt_ms: Some(23.1),
        mos_lq: Some(4.37),
        mos_cq: Some(4.2),
        remote_loss: Some(0.001),
        remote_jitter_ms: Some(0.7),
        remote_discard: Some(0.03125),
        remote_mos_lq: Some(4.1),
        remote_mos_cq: Some(4.0),
        fault: Some(AudioFault::Silent),
        fault_ms: 3_700,
        fax: false,
        last_media_at: Some(START + 63_990),
    }
}

async fn only(store: &Store, id: CallId) -> Cdr {
    store.cdr(id).await.unwrap().expect("stored").cdr
}

async fn found(store: &Store, filter: CdrFilter) -> Vec<CallId> {
    let order = CdrOrder { key: SortKey::StartedAt, descending: false };
    let page = store.cdrs(&CdrQuery { filter, order, limit: 1_000, cursor: None }).await.unwrap();
    page.cdrs.iter().map(|row| row.cdr.id).collect()
}

async fn a_cdr_comes_back_as_it_was(database: Database) {
    let store = database.store();
    let (one, two) = (ended(1), begun(2));
    store.store(&[one.clone(), two.clone()]).await.unwrap();
    assert_eq!(only(&store, one.id).await, one);
    assert_eq!(only(&store, two.id).await, two);
    assert_eq!(store.cdr(call(3)).await.unwrap(), None);
    assert!(store.is_up());
    let mut nameless = ended(4);
    nameless.legs.clear();
    store.store(&[nameless.clone()]).await.unwrap();
    let stored = only(&store, nameless.id).await;
    assert_eq!((stored.caller_leg, stored.callee_leg), (nameless.caller_leg, nameless.callee_leg));
}

async fn storing_again_changes_nothing_and_the_newer_record_wins(database: Database) {
    let store = database.store();
    let (start, end) = (begun(1), ended(1));
    let mut answer = start.clone();
    answer.revision += 1;
    answer.answered_at = end.answered_at;
    store.store(&[answer.clone()]).await.unwrap();
    store.store(std::slice::from_ref(&start)).await.unwrap();
    assert_eq!(only(&store, start.id).await, answer, "a late start is not news");
    for _ in 0..3 {
        store.store(std::slice::from_ref(&end)).await.unwrap();
    }
    let mut reopened = start.clone();
    reopened.revision = end.revision + 1;
    store.store(&[reopened]).await.unwrap();
    store.store(&[answer]).await.unwrap();
    let stored = only(&store, end.id).await;
    assert_eq!((stored.state, stored.revision), (end.state, end.revision), "an ended call stays ended");
    assert_eq!(stored.sell, end.sell);
    assert_eq!(found(&store, CdrFilter::default()).await.len(), 1);
}

async fn a_bulk_batch_arrives_whole(database: Database) {
    let store = database.store();
    let calls: Vec<_> = (0..500).map(|n| if n % 3 == 0 { begun(n) } else { ended(n) }).collect();
    store.store(&calls).await.unwrap();
    store.store(&calls).await.unwrap();
    store.store(&[]).await.unwrap();
    assert_eq!(found(&store, CdrFilter::default()).await, (0..500).map(call).collect::<Vec<_>>());
    assert_eq!(only(&store, call(499)).await, ended(499));
}

async fn what_the_database_refuses_leaves_nothing_of_its_batch(database: Database) {
    let store = database.store();
    let (good, mut twin) = (ended(1), ended(2));
    twin.seq = good.seq;
    let refused = store.store(&[good.clone(), twin]).await;
    assert!(matches!(refused, Err(SinkError::Refused(_))), "{refused:?}");
    assert!(store.is_up(), "a refusal is an answer");
    assert_eq!(store.cdr(good.id).await.unwrap(), None);
    store.store(&[good]).await.unwrap();
}

async fn hostile_texts_are_only_texts(database: Database) {
    let store = database.store();
    let texts =
        ["'; DROP TABLE cdr; --", "\" OR 1=1", "a\0b", "\u{1F4DE} ünïcödé", "$1 {} %s", &"x".repeat(10_000)];
    for (n, text) in texts.iter().enumerate() {
        let mut cdr = ended(n as u32);
        cdr.called.dialled = (*text).to_owned();
        cdr.caller.user = Some((*text).to_owned());
        store.store(&[cdr.clone()]).await.unwrap();
        let expected = text.replace('\0', "\u{fffd}");
        assert_eq!(only(&store, cdr.id).await.called.dialled, expected);
        let user = CdrFilter { user: Some((*text).to_owned()), ..CdrFilter::default() };
        assert_eq!(found(&store, user).await, [cdr.id], "{text}");
    }
}

async fn filters_find_what_they_say(database: Database) {
    let store = database.store();
    let mut incoming = ended(2);
    incoming.direction = Direction::TrunkToApp;
    incoming.ingress_trunk = Some("operator-b".into());
    incoming.egress_trunk = None;
    incoming.caller.user = None;
    incoming.caller.account = Some("other".into());
    incoming.caller.number = "+33123456789".parse().ok();
    incoming.called.user = Some("bob".into());
    incoming.end_cause = Some(EndCause::Busy);
    let mut crashed = ended(3);
    crashed.state = CdrState::Recovered;
    crashed.end_cause = Some(EndCause::GatewayCrashed);
    store.store(&[ended(1), incoming, crashed, begun(4)]).await.unwrap();

    let any = CdrFilter::default;
    let number = |text: &str| Some(text.parse().unwrap());
    let expected: [(CdrFilter, &[u32]); 16] = [
        (any(), &[1, 2, 3, 4]),
        (CdrFilter { from: Some(START + 2), ..any() }, &[2, 3, 4]),
        (CdrFilter { until: Some(START + 2), ..any() }, &[1]),
        (CdrFilter { from: Some(START + 2), until: Some(START + 4), ..any() }, &[2, 3]),
        (CdrFilter { trunk: Some("operator-a".into()), ..any() }, &[1, 3, 4]),
        (CdrFilter { trunk: Some("operator-b".into()), ..any() }, &[2]),
        (CdrFilter { user: Some("bob".into()), ..any() }, &[2]),
        (CdrFilter { user: Some("alice".into()), ..any() }, &[1, 3, 4]),
        (CdrFilter { account: Some("other".into()), ..any() }, &[2]),
        (CdrFilter { direction: Some(Direction::TrunkToApp), ..any() }, &[2]),
        (CdrFilter { state: Some(CdrState::Open), ..any() }, &[4]),
        (CdrFilter { outcome: Some(Outcome::Answered), ..any() }, &[1]),
        (CdrFilter { outcome: Some(Outcome::ServerError), ..any() }, &[3]),
        (CdrFilter { number: number("+33123456789"), ..any() }, &[2]),
        (CdrFilter { number: number("+32470123456"), user: Some("alice".into()), ..any() }, &[1, 3, 4]),
        (CdrFilter { number: number("+32470123457"), ..any() }, &[]),
    ];
    for (filter, calls) in expected {
        let calls: Vec<_> = calls.iter().copied().map(call).collect();
        assert_eq!(found(&store, filter.clone()).await, calls, "{filter:?}");
    }
}

async fn pages_are_complete_while_calls_come_in(database: Database) {
    let store = database.store();
    // Many calls in the same millisecond, so that a page ends among equals.
    let calls: Vec<_> = (0..50).map(|n| Cdr { started_at: START + i64::from(n / 20), ..ended(n) }).collect();
    store.store(&calls).await.unwrap();
    let mut query = CdrQuery { limit: 7, ..CdrQuery::default() };
    let mut seen = Vec::new();
    for round in 0.. {
        let page = store.cdrs(&query).await.unwrap();
        seen.extend(page.cdrs.iter().map(|row| row.cdr.id));
        let newer = Cdr { started_at: START + 1_000, ..ended(100 + round) };
        store.store(&[newer]).await.unwrap();
        assert!(page.cdrs.len() == 7 || page.next.is_none());
        query.cursor = page.next;
        if query.cursor.is_none() {
            break;
        }
    }
    let mut expected: Vec<_> = calls.iter().map(|cdr| (cdr.started_at, cdr.id)).collect();
    expected.sort_by(|a, b| b.cmp(a));
    assert_eq!(seen, expected.into_iter().map(|(_, id)| id).collect::<Vec<_>>());
    let other = CdrQuery {
        order: CdrOrder { key: SortKey::PddMs, descending: true },
        cursor: store.cdrs(&CdrQuery { limit: 1, ..CdrQuery::default() }).await.unwrap().next,
        ..CdrQuery::default()
    };
    assert!(matches!(store.cdrs(&other).await, Err(StoreError::Cursor)));
}

async fn every_order_sorts_both_ways(database: Database) {
    let store = database.store();
    let calls: Vec<_> = (0..6)
        .map(|n| {
            let mut cdr = ended(n);
            cdr.duration_ms = u64::from(n % 3) * 1_000;
            cdr.pdd_ms = (n != 4).then_some(u64::from(6 - n));
            cdr.released_at = (n != 2).then_some(START + 100_000 - i64::from(n));
            cdr
        })
        .collect();
    store.store(&calls).await.unwrap();
    for key in SortKey::ALL {
        let value = |cdr: &Cdr| match key {
            SortKey::StartedAt => cdr.started_at,
            SortKey::ReleasedAt => cdr.released_at.unwrap_or(-1),
            SortKey::DurationMs => cdr.duration_ms as i64,
            SortKey::PddMs => cdr.pdd_ms.map_or(-1, |ms| ms as i64),
        };
        let mut expected: Vec<_> = calls.iter().map(|cdr| (value(cdr), cdr.id)).collect();
        expected.sort();
        for descending in [false, true] {
            let order = CdrOrder { key, descending };
            let mut query = CdrQuery { order, limit: 4, ..CdrQuery::default() };
            let first = store.cdrs(&query).await.unwrap();
            query.cursor = first.next;
            let second = store.cdrs(&query).await.unwrap();
            assert_eq!(second.next, None);
            let seen: Vec<_> =
                first.cdrs.iter().chain(&second.cdrs).map(|row| (value(&row.cdr), row.cdr.id)).collect();
            assert_eq!(seen, expected, "{order}");
            expected.reverse();
        }
    }
}

async fn old_numbers_lose_four_digits_and_are_still_found(database: Database) {
    const DAY: i64 = 86_400_000;
    let store = database.store();
    let mut young = ended(2);
    young.started_at += 10 * DAY;
    young.caller.number = "+3225550002".parse().ok();
    young.called.dialled = "0471 99 88 77".into();
    young.called.number = "+32471998877".parse().ok();
    young.legs.clear();
    young.callee_leg = None;
    let unfinished = begun(3);
    store.store(&[ended(1), young.clone(), unfinished.clone()]).await.unwrap();
    let now = START + 95 * DAY;
    assert_eq!(store.shorten_numbers(now, 90).await.unwrap(), 1);
    assert_eq!(store.shorten_numbers(now, 90).await.unwrap(), 0);

    let row = store.cdr(call(1)).await.unwrap().unwrap();
    assert!(row.numbers_shortened);
    assert_eq!(row.caller_number.as_deref(), Some("+322555****"));
    assert_eq!(row.called_number.as_deref(), Some("+3247012****"));
    assert_eq!(row.cdr.called.dialled, "0470 12 ** **");
    assert_eq!(row.cdr.called.number, None);
    assert_eq!(row.cdr.legs[1].target, "+3247012****");
    let by_number = CdrFilter { number: "+32470123456".parse().ok(), ..CdrFilter::default() };
    assert_eq!(found(&store, by_number).await, [call(1), call(3)]);
    assert_eq!(only(&store, young.id).await, young);
    // Shipped again by a journal that lost its checkpoint, the numbers do not come back.
    store.store(&[ended(1)]).await.unwrap();
    assert!(store.cdr(call(1)).await.unwrap().unwrap().numbers_shortened);
    let mut late = ended(3);
    late.called.number = None;
    late.called.dialled = "bob".into();
    late.caller.number = None;
    late.legs.clear();
    late.callee_leg = None;
    store.store(&[late]).await.unwrap();
    assert_eq!(store.shorten_numbers(now, 90).await.unwrap(), 1);
    let contents = database.contents(store).await;
    assert!(contents.contains("998877") && contents.contains("3247012****"));
}

fn user(name: &str, dids: &[&str]) -> StoredUser {
    let user = User {
        name: name.into(),
        credentials: Credentials::new(name, "example.org", &Secret::new("correct horse")),
        caller_ids: ["+3225550003", "+3225550001"].map(|number| number.parse().unwrap()).to_vec(),
        dids: dids.iter().map(|did| did.parse().unwrap()).collect(),
        account: "default".into(),
        max_calls: Some(3),
        place: Default::default(),
        source: UserSource::Database,
    };
    StoredUser { user, realm: "example.org".into() }
}

async fn users_are_kept_without_their_passwords(database: Database) {
    let store = database.store();
    let (alice, bob) = (user("alice", &["+3225550001", "+3225550004"]), user("Bob", &[]));
    store.add_user(START, &alice).await.unwrap();
    store.add_user(START, &bob).await.unwrap();
    assert_eq!(store.users().await.unwrap(), [bob, alice.clone()]);
    let changed = Credentials::new("alice", "example.com", &Secret::new("battery staple"));
    store.set_credentials(START + 1, "alice", "example.com", &changed).await.unwrap();
    let stored = store.users().await.unwrap().remove(1);
    assert_eq!((&stored.user.credentials, stored.realm.as_str()), (&changed, "example.com"));
    assert_eq!(stored.user.caller_ids, alice.user.caller_ids, "in their order: the first is the default");
    let nobody = store.set_credentials(START, "carol", "example.org", &changed).await;
    assert!(matches!(nobody, Err(StoreError::Missing { what: "user", .. })));
    store.remove_user("alice").await.unwrap();
    assert!(matches!(store.remove_user("alice").await, Err(StoreError::Missing { .. })));
    assert_eq!(store.users().await.unwrap().len(), 1);
    let contents = database.contents(store).await;
    assert!(contents.contains("Bob") && !contents.contains("correct horse") && !contents.contains("battery"));
}

async fn a_user_changes_as_a_whole_or_not_at_all(database: Database) {
    let store = database.store();
    for new in [user("alice", &["+3225550001"]), user("bob", &["+3225550002"])] {
        store.add_user(START, &new).await.unwrap();
    }
    let other = user("alice", &["+3225550004", "+3225550001"]).user;
    store.set_user(START, &User { max_calls: Some(7), ..other.clone() }).await.unwrap();
    let greedy = User { dids: user("", &["+3225550002"]).user.dids, ..other.clone() };
    assert!(matches!(store.set_user(START, &greedy).await, Err(StoreError::DidTaken(_))));
    assert_eq!(store.users().await.unwrap()[0].user, User { max_calls: Some(7), ..other });
}

async fn a_did_rings_one_user_and_a_name_is_taken_once(database: Database) {
    let store = database.store();
    store.add_user(START, &user("alice", &["+3225550001", "+3225550001"])).await.unwrap();
    let twice = store.add_user(START, &user("alice", &[])).await;
    assert!(matches!(twice, Err(StoreError::Exists { what: "user", .. })), "{twice:?}");
    let taken = store.add_user(START, &user("bob", &["+3225550009", "+3225550001"])).await;
    assert!(matches!(taken, Err(StoreError::DidTaken(did)) if did == "+3225550001"));
    let mut poor = user("carol", &[]);
    poor.user.account = "nobody".into();
    let missing = store.add_user(START, &poor).await;
    assert!(matches!(missing, Err(StoreError::Missing { what: "account", .. })));
    assert_eq!(store.users().await.unwrap().len(), 1, "nothing of a refused user is left");
    store.remove_user("alice").await.unwrap();
    store.add_user(START, &user("bob", &["+3225550001"])).await.unwrap();
}

fn binding(user: &str, contact: &str, expires: i64) -> StoredBinding {
    StoredBinding {
        user: user.into(),
        contact: contact.into(),
        network: 1,
        transport: Transport::Udp,
        remote: "[2001:db8::1]:40000".parse().unwrap(),
        local: "192.0.2.1:5060".parse().unwrap(),
        expires_unix_ms: START + expires,
        registered_unix_ms: START,
        call_id: "a84b4c76e66710".into(),
        cseq: u32::MAX,
        q: 1_000,
        instance: Some("<urn:uuid:0>".into()),
        user_agent: None,
    }
}

async fn registrations_survive_and_expire(database: Database) {
    let store = database.store();
    let (desk, cell) =
        (binding("alice", "sip:alice@desk", 60_000), binding("alice", "sip:alice@cell", 30_000));
    let stored = |binding: &StoredBinding| RegistrationChange::Stored(binding.clone());
    store.save_registrations(START, &[stored(&desk), stored(&cell)]).await.unwrap();
    assert_eq!(store.registrations(START).await.unwrap(), [cell.clone(), desk.clone()]);
    assert_eq!(store.registrations(START + 30_000).await.unwrap(), std::slice::from_ref(&desk));
    let renewed = StoredBinding { cseq: 7, expires_unix_ms: START + 90_000, ..desk };
    let removed = RegistrationChange::Removed { user: "alice".into(), contact: "sip:alice@cell".into() };
    store.save_registrations(START, &[stored(&renewed), removed]).await.unwrap();
    assert_eq!(database.store().registrations(START).await.unwrap(), [renewed]);
    store.save_registrations(START + 100_000, &[]).await.unwrap();
    assert_eq!(store.registrations(START).await.unwrap(), [], "what has expired is forgotten");
    store.add_user(START, &user("bob", &[])).await.unwrap();
    store.save_registrations(START, &[stored(&binding("bob", "sip:bob@desk", 60_000))]).await.unwrap();
    store.remove_user("bob").await.unwrap();
    assert_eq!(store.registrations(START).await.unwrap(), []);
}

async fn accounts_have_a_name_once(database: Database) {
    let store = database.store();
    let default = Account { name: "default".into(), currency: Currency::EUR };
    let other = Account { name: "acme".into(), currency: "USD".parse().unwrap() };
    assert_eq!(store.accounts().await.unwrap(), std::slice::from_ref(&default));
    store.add_account(START, &other).await.unwrap();
    let twice = store.add_account(START, &Account { name: "acme".into(), ..default.clone() }).await;
    assert!(matches!(twice, Err(StoreError::Exists { what: "account", .. })));
    assert_eq!(store.accounts().await.unwrap(), [other, default]);
}

async fn gateways_that_start_together_migrate_once(database: Database) {
    let starts: Vec<_> = (0..4)
        .map(|_| {
            let store = database.store();
            tokio::spawn(async move { store.ready().await })
        })
        .collect();
    for start in starts {
        start.await.unwrap().unwrap();
    }
    let store = database.store();
    store.store(&[ended(1)]).await.unwrap();
    assert_eq!(database.store().accounts().await.unwrap().len(), 1);
}

async fn a_newer_schema_is_left_alone(database: Database) {
    database.store().ready().await.unwrap();
    database.execute("INSERT INTO schema_version (version) VALUES (99)").await;
    let store = database.store();
    assert!(matches!(store.ready().await, Err(StoreError::NewerSchema { found: 99, .. })));
    assert!(
        matches!(store.store(&[ended(1)]).await, Err(SinkError::Unavailable(_))),
        "CDRs wait in the journal"
    );
}

/// Starts, answers and ends `calls`; returns when all of it is durable.
fn journal_calls(journal: &Journal, calls: std::ops::Range<u32>) {
    let before = journal.status();
    let records = before.records + u64::from(calls.end - calls.start) * 2;
    for n in calls {
        journal.append(JournalRecord::Start(Box::new(begun(n))), None);
        journal.append(JournalRecord::End(Box::new(ended(n))), None);
    }
    wait::until("the journal to be written", wait::SOON, || {
        (journal.status().records >= records).then_some(())
    });
}

async fn the_journal_ships_every_call_once(database: Database) {
    let store = database.store();
    let options = JournalOptions::new(database.folder.join("journal"), "gw1");
    let (journal, _) = Journal::open(options, |_| {}, |_| {}).unwrap();
    journal_calls(&journal, 0..40);
    let (_stop, stopped) = tokio::sync::watch::channel(true);
    Shipper::new(journal.clone(), store.clone(), ShipperOptions::default()).run(stopped).await;
    assert_eq!(found(&store, CdrFilter::default()).await, (0..40).map(call).collect::<Vec<_>>());
    let cdr = only(&store, call(39)).await;
    assert_eq!((cdr.seq, cdr.node.as_str(), cdr.state), (40, "gw1", CdrState::Final));
    assert_eq!(journal.status().stored_total, 40);
}

/// What only a server can do: go away and come back.
#[path = "store/server.rs"]
mod server;
