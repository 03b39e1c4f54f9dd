//! A PostgreSQL server behind the gateway: there, not yet there, and gone for a while.

use crate::scene::{BLINK, MOBILE, SECOND, alice, builder, operator};
use crate::support::{
    gateway::{Gateway, tandem},
    http,
    lane::Lane,
    postgres,
    postgres::Postgres,
    tls::Authority,
    wait,
};
use serde_json::Value;
use std::time::Instant;

#[test]
fn a_call_is_recorded_in_postgresql() {
    let lane = Lane::take("database-postgres");
    let server = Postgres::start(&lane);
    let operator = operator(&lane, "operator-answers").start();
    let gateway = builder(&lane, &operator).set("database.url", server.url()).start();
    alice(&lane, &gateway, "user-calls").start().succeed();
    operator.succeed();
    let cdr = gateway.wait_cdr();
    assert_eq!((cdr["state"].as_str(), cdr["called_number"].as_str()), (Some("final"), Some(MOBILE)));
    let duration = cdr["duration_ms"].as_u64().expect("a duration");
    assert!(duration >= 950, "{duration} ms of one second");
    // What PostgreSQL's own tool finds there.
    let dump = postgres::dump(&server.url());
    let id = cdr["id"].as_str().expect("an id");
    assert!(dump.lines().any(|row| row.contains(id) && row.contains(MOBILE)), "{id} in\n{dump}");
    assert_eq!(state_of(&gateway, "database"), "ok");
}

#[test]
fn a_call_is_recorded_in_postgresql_over_tls() {
    let lane = Lane::take("database-tls");
    let authority = Authority::new("Tandem tests");
    let server = Postgres::start_with_tls(&lane, &authority.issue("database.test"));
    let ca = authority.write(lane.folder());
    let url = format!("{}?sslmode=verify-full&sslrootcert={}", server.url(), ca.display());
    let operator = operator(&lane, "operator-answers").start();
    let gateway = builder(&lane, &operator).set("database.url", url).start();
    alice(&lane, &gateway, "user-calls").pause(BLINK).start().succeed();
    operator.succeed();
    assert_eq!(gateway.wait_cdr()["state"], "final");
    // The server itself says that the gateway's connections are encrypted, and knows its call.
    let connections = "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                       WHERE application_name = 'tandem'";
    assert_eq!(server.query(connections), "t");
    assert_eq!(server.query("SELECT called_number FROM cdr"), MOBILE);
}

#[test]
fn a_gateway_with_other_number_keys_than_its_database_does_not_start() {
    let lane = Lane::take("database-keys");
    let server = Postgres::start(&lane);
    let operator = operator(&lane, "operator-answers").start();
    let mut gateway = builder(&lane, &operator).set("database.url", server.url()).start();
    gateway.kill();
    let config = gateway.config_file().to_str().expect("a plain path").to_owned();
    gateway.change(|builder| builder.set("gateway.data_dir", "elsewhere"));
    let refused = tandem(&["run", "--config", &config]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("number.keys") && said.contains("copy it from the gateway"), "{said}");
    // With the file of the first gateway it is one more gateway of the same database.
    let data = gateway.folder().join("data/number.keys");
    std::fs::copy(data, gateway.folder().join("elsewhere/number.keys")).expect("both are there");
    gateway.start_again();
}

#[test]
fn a_database_that_is_down_at_the_start_gets_its_records_later() {
    let lane = Lane::take("database-late");
    let mut server = Postgres::start(&lane);
    server.stop();
    let operator = operator(&lane, "operator-answers").start();
    // Ready is what takes calls, so a gateway without its database is.
    let gateway = builder(&lane, &operator).set("database.url", server.url()).start();
    assert_eq!(state_of(&gateway, "database"), "degraded");
    assert_eq!(gateway.metric("tandem_cdr_journal_age_seconds", &[]), 0.0);
    let called = Instant::now();
    alice(&lane, &gateway, "user-calls").pause(BLINK).start().succeed();
    let over = Instant::now();
    operator.succeed();
    assert_eq!(gateway.metric("tandem_cdr_journal_records", &[]), 3.0, "its start, answer and end");
    assert_eq!(gateway.metric("tandem_database_up", &[]), 0.0);
    // The oldest record is as old as the call.
    wait::until("the records to wait", wait::SOON, || {
        let least = over.elapsed().as_secs_f64();
        let age = gateway.metric("tandem_cdr_journal_age_seconds", &[]);
        let most = called.elapsed().as_secs_f64();
        assert!((least..most).contains(&age), "{age} s, the call was {least} to {most} s ago");
        (age > 1.5).then_some(())
    });
    let refused = gateway.ask("GET", "/api/v1/cdrs", None);
    assert_eq!((refused.status, refused.header("Content-Type")), (503, Some("application/problem+json")));
    server.start_again();
    wait_stored(&gateway, 1);
    gateway.wait_metric("tandem_cdr_journal_records", &[], 0.0);
    assert_eq!(gateway.metric("tandem_cdr_journal_age_seconds", &[]), 0.0);
    assert_eq!(gateway.wait_cdr()["state"], "final");
    assert_eq!(state_of(&gateway, "database"), "ok");
}

#[test]
fn calls_go_on_while_the_database_is_away_and_none_is_lost() {
    let lane = Lane::take("database-away");
    let mut server = Postgres::start(&lane);
    let operator = operator(&lane, "operator-answers").calls(3).start();
    let gateway = builder(&lane, &operator).set("database.url", server.url()).start();
    alice(&lane, &gateway, "user-calls").pause(BLINK).start().succeed();
    wait_stored(&gateway, 1);

    let running = alice(&lane, &gateway, "user-calls").pause(SECOND).start();
    running.wait_status(200);
    server.stop();
    // One call loses its database in the middle, the other never sees it.
    alice(&lane, &gateway, "user-calls").pause(BLINK).start().succeed();
    running.succeed();
    operator.succeed();
    wait::until("readiness to say that the database is away", wait::SOON, || {
        (state_of(&gateway, "database") == "degraded").then_some(())
    });
    assert!(gateway.is_ready(), "it takes calls all the same");
    assert!(gateway.metric("tandem_cdr_journal_records", &[]) > 0.0);
    assert_eq!(gateway.metric("tandem_cdr_stored_total", &[]), 1.0);

    // The records also survive the end of the process that could not store them.
    gateway.kill();
    gateway.start_again();
    assert!(gateway.metric("tandem_cdr_journal_records", &[]) > 0.0);
    server.start_again();
    gateway.wait_metric_within(wait::START, "tandem_cdr_journal_records", &[], 0.0);
    let cdrs = gateway.wait_cdrs(3);
    assert!(
        cdrs.iter().all(|cdr| cdr["state"] == "final" && cdr["end_cause"] == "normal_clearing"),
        "{cdrs:#?}"
    );
    wait::until("readiness to see the database", wait::START, || {
        (state_of(&gateway, "database") == "ok").then_some(())
    });
}

/// What readiness says of one part of the gateway.
fn state_of(gateway: &Gateway<'_>, part: &str) -> String {
    let ready: Value = http::get(gateway.admin(), "/health/ready").expect("health is open to all").json();
    let checks = ready["checks"].as_array().expect("checks");
    let check = checks.iter().find(|check| check["name"] == part).expect("the part is known");
    if check["state"] != "ok" {
        assert!(check["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "it says why: {check}");
    }
    check["state"].as_str().expect("a state").to_owned()
}

/// Waits for the shipper, whose pauses grow to ten seconds while the database is away.
fn wait_stored(gateway: &Gateway<'_>, calls: u32) {
    gateway.wait_metric_within(wait::START, "tandem_cdr_stored_total", &[], f64::from(calls));
}
