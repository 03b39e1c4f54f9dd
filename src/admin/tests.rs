//! The API over real connections.

mod samples;
mod schema;
mod stage;

use super::client::{Client, ClientError};
use super::control::*;
use super::endpoint::Answer;
use super::{Problem, Role, cdrs, endpoints, openapi};
use crate::billing::CdrSink;
use crate::types::{CallId, EndCause, Secret};
use samples::{call, cdr, trunk};
use schema::complaints;
use serde_json::{Value, json};
use stage::{Stage, raw};
use std::collections::BTreeSet;

const OPERATE: &str = "Authorization: Bearer operate-token\r\n";

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

fn status<T>(answer: Result<T, ClientError>) -> u16 {
    match answer {
        Ok(_) => 200,
        Err(ClientError::Refused(problem)) => problem.status,
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn every_answer_looks_as_the_openapi_document_says() {
    run(async {
        let stage = Stage::start(CheckState::Degraded).await;
        let client = stage.client(Role::Admin);
        let id = call(1).id.to_string();
        stage.store.store(&[cdr(1)]).await.unwrap();
        let document: Value = client.get("/api/openapi.json", &[]).await.unwrap();
        for endpoint in endpoints() {
            let path = endpoint.path.replace("{id}", &id).replace("trunks/{name}", "trunks/operator-a");
            let path = path.replace("users/{name}", "users/alice");
            let operation = &document["paths"][endpoint.path][endpoint.method.to_ascii_lowercase()];
            let schema = match endpoint.answer {
                Answer::Json(_) | Answer::List(..) | Answer::Page(..) => {
                    operation["responses"]["200"]["content"]["application/json"]["schema"].clone()
                }
                Answer::Created(_) => {
                    operation["responses"]["201"]["content"]["application/json"]["schema"].clone()
                }
                Answer::Text(_) | Answer::Nothing => continue,
            };
            let answer: Result<Value, ClientError> = match (endpoint.method, endpoint.path) {
                ("GET", "/api/v1/route") => {
                    client.get(&path, &[("from", "alice"), ("to", "0470123456")]).await
                }
                ("GET", _) => client.get(&path, &[]).await,
                ("POST", "/api/v1/users") => {
                    client.send("POST", &path, Some(&json!({ "name": "carol", "password": "pw" }))).await
                }
                // alice stands in the file; carol was added two lines ago.
                ("PUT", "/api/v1/users/{name}") => {
                    client.send("PUT", "/api/v1/users/carol", Some(&json!({ "max_calls": 2 }))).await
                }
                ("PUT", "/api/v1/log") => client.send("PUT", &path, Some(&json!({ "level": "info" }))).await,
                // The scripted core refuses it; the accepted report is held against its schema below.
                ("POST", "/api/v1/reload") => Ok(serde_json::to_value(ReloadReport::default()).unwrap()),
                (method, _) => client.send(method, &path, None::<&()>).await,
            };
            let answer = answer.unwrap_or_else(|error| panic!("{} {path}: {error}", endpoint.method));
            assert_eq!(complaints(&answer, &schema, endpoint.path), Vec::<String>::new());
        }
    });
}

#[test]
fn views_that_no_scripted_answer_shows_fit_their_schemas_too() {
    let schemas = openapi::schemas();
    let cases = [
        ("Trunk", json!(TrunkView { registration: Some(TrunkRegistration::Registering), ..trunk() })),
        (
            "Trunk",
            json!(TrunkView {
                registration: Some(TrunkRegistration::Failed { reason: "403".to_owned() }),
                ..trunk()
            }),
        ),
        (
            "RouteOutcome",
            json!(RouteOutcomeView::Reject {
                status: 403,
                cause: EndCause::Blocked,
                text: "premium".to_owned()
            }),
        ),
        ("RouteOutcome", json!(RouteOutcomeView::User { name: "bob".to_owned(), registrations: 1 })),
        ("Problem", json!(Problem::not_found("gone").with_errors(vec!["one".to_owned()]))),
    ];
    for (name, value) in cases {
        assert_eq!(complaints(&value, &schemas[name], name), Vec::<String>::new());
    }
}

#[test]
fn the_document_lists_each_endpoint_once_and_every_schema_is_used() {
    let document = openapi::document();
    let listed: usize =
        document["paths"].as_object().unwrap().values().map(|p| p.as_object().unwrap().len()).sum();
    assert_eq!(listed, endpoints().count());
    let text = document.to_string();
    for name in openapi::schemas().as_object().unwrap().keys() {
        assert!(
            text.contains(&format!("#/components/schemas/{name}\"")),
            "{name} is described and never used"
        );
    }
}

#[test]
fn each_endpoint_refuses_a_stranger_and_a_role_below_its_own() {
    run(async {
        let stage = Stage::start(CheckState::Ok).await;
        let strangers = [stage.with_token("guess"), stage.with_token("")];
        let mut open = BTreeSet::new();
        for endpoint in endpoints() {
            let path = endpoint.path.replace("{id}", &call(1).id.to_string()).replace("{name}", "operator-a");
            let Some(role) = endpoint.role else {
                open.insert(endpoint.path);
                continue;
            };
            for stranger in &strangers {
                let answer = stranger.send::<Value>(endpoint.method, &path, None::<&()>).await;
                assert_eq!(status(answer), 401, "{} {path}", endpoint.method);
            }
            for lower in Role::ALL.into_iter().filter(|lower| *lower < role) {
                let answer = stage.client(lower).send::<Value>(endpoint.method, &path, None::<&()>).await;
                assert_eq!(status(answer), 403, "{} {path} as {lower:?}", endpoint.method);
            }
        }
        let expected = ["/", "/api/openapi.json", "/health/live", "/health/ready", "/metrics"];
        assert_eq!(open, BTreeSet::from(expected));
        assert_eq!(stage.orders(), Vec::<String>::new(), "nobody's order came through");
    });
}

#[test]
fn readiness_says_why_and_only_failure_is_503() {
    run(async {
        for (state, code) in [(CheckState::Ok, 200), (CheckState::Degraded, 200), (CheckState::Failed, 503)] {
            let stage = Stage::start(state).await;
            let (answered, body) = raw(&stage, "GET", "/health/ready", "").await;
            let body: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(answered, code);
            assert_eq!(body["status"], state.as_str());
            assert_eq!(body["checks"][0]["detail"], "it does not answer");
            assert_eq!(raw(&stage, "GET", "/health/live", "").await.0, 200);
        }
    });
}

#[test]
fn a_reader_sees_numbers_masked_and_an_operator_sees_them_whole() {
    run(async {
        let stage = Stage::start(CheckState::Ok).await;
        let masked: Value = stage.client(Role::Read).get("/api/v1/calls", &[]).await.unwrap();
        assert!(!masked.to_string().contains("123456"));
        assert_eq!(masked["calls"][0]["number"], "+324********");
        let whole: Value = stage.client(Role::Operate).get("/api/v1/calls", &[]).await.unwrap();
        assert_eq!(whole["calls"][0]["number"], "+32470123456");
    });
}

#[test]
fn calls_are_filtered_and_hung_up_by_id() {
    run(async {
        let stage = Stage::start(CheckState::Ok).await;
        let client = stage.client(Role::Operate);
        let of_bob: Value =
            client.get("/api/v1/calls", &[("user", "bob"), ("trunk", "operator-a")]).await.unwrap();
        assert_eq!(of_bob["calls"].as_array().unwrap().len(), 1);
        let none: Value = client.get("/api/v1/calls", &[("direction", "trunk_to_app")]).await.unwrap();
        assert_eq!(none["calls"], json!([]));
        let id = call(2).id;
        let hung: Value = client.send("DELETE", &format!("/api/v1/calls/{id}"), None::<&()>).await.unwrap();
        assert_eq!(hung["id"], id.to_string());
        assert_eq!(stage.orders(), [format!("hang up {id}")]);
        let unknown = CallId::from_parts(0, [9; 10]);
        assert_eq!(status(client.get::<Value>(&format!("/api/v1/calls/{unknown}"), &[]).await), 404);
        assert_eq!(status(client.get::<Value>("/api/v1/calls/seven", &[]).await), 400);
        assert_eq!(status(client.get::<Value>("/api/v1/calls", &[("trnk", "a")]).await), 400);
    });
}

#[test]
fn trunks_are_blocked_unblocked_and_drained_by_name() {
    run(async {
        let stage = Stage::start(CheckState::Ok).await;
        let client = stage.client(Role::Operate);
        for action in TrunkAction::ALL {
            let path = format!("/api/v1/trunks/operator-a/{}", action.as_str());
            client.send::<Value>("POST", &path, None::<&()>).await.unwrap();
        }
        assert_eq!(stage.orders(), ["block operator-a", "unblock operator-a", "drain operator-a"]);
        assert_eq!(
            status(client.send::<Value>("POST", "/api/v1/trunks/nobody/block", None::<&()>).await),
            404
        );
    });
}

#[test]
fn records_are_filtered_sorted_and_paged() {
    run(async {
        let stage = Stage::start(CheckState::Ok).await;
        stage.store.store(&[cdr(1), cdr(2), cdr(3)]).await.unwrap();
        let client = stage.client(Role::Operate);
        let mut query =
            vec![("user", "alice"), ("outcome", "answered"), ("sort", "started_at"), ("limit", "2")];
        let first: cdrs::CdrsPage = client.get("/api/v1/cdrs", &query).await.unwrap();
        assert_eq!(first.cdrs.iter().map(|cdr| cdr.id).collect::<Vec<_>>(), [cdr(1).id, cdr(2).id]);
        let cursor = first.next.unwrap();
        query.push(("cursor", &cursor));
        let second: cdrs::CdrsPage = client.get("/api/v1/cdrs", &query).await.unwrap();
        assert_eq!((second.cdrs[0].id, second.cdrs.len(), second.next), (cdr(3).id, 1, None));
        let (_, linked) = raw(&stage, "GET", "/api/v1/cdrs?limit=1", OPERATE).await;
        assert!(linked.contains("\"next\""));
        let by_number: cdrs::CdrsPage =
            client.get("/api/v1/cdrs", &[("number", "+32470123456")]).await.unwrap();
        assert_eq!(by_number.cdrs.len(), 3);
        let later: cdrs::CdrsPage =
            client.get("/api/v1/cdrs", &[("from", "2026-03-02T00:00:00Z")]).await.unwrap();
        assert!(later.cdrs.is_empty());
        for wrong in [
            ("sort", "dialled; DROP TABLE cdr"),
            ("limit", "0"),
            ("number", "0470"),
            ("from", "noon"),
            ("cursor", "x"),
        ] {
            assert_eq!(status(client.get::<Value>("/api/v1/cdrs", &[wrong]).await), 400, "{wrong:?}");
        }
        assert_eq!(status(client.get::<Value>(&format!("/api/v1/cdrs/{}", cdr(9).id), &[]).await), 404);
    });
}

#[test]
fn a_spreadsheet_gets_records_it_can_not_be_harmed_by() {
    run(async {
        let stage = Stage::start(CheckState::Ok).await;
        stage.store.store(&[cdr(1)]).await.unwrap();
        let csv = stage.client(Role::Operate).get_text("/api/v1/cdrs", &[], "text/csv").await.unwrap();
        let (head, line) = csv.trim_end().split_once("\r\n").unwrap();
        let cells: Vec<(&str, &str)> = head.split(',').zip(line.split(',')).collect();
        assert_eq!(head.split(',').count(), line.split(',').count());
        for expected in [
            ("dialled", "'=0470123456"),
            ("called_number", "'+32470123456"),
            ("duration_ms", "60000"),
            ("answered_at", "2026-03-01T12:01:02.250Z"),
            ("outcome", "answered"),
            ("sell_not_rated", "no_rate"),
            ("buy_amount", ""),
        ] {
            assert!(cells.contains(&expected), "{expected:?} in {cells:?}");
        }
        let masked = stage.client(Role::Read).get_text("/api/v1/cdrs", &[], "text/csv").await.unwrap();
        assert!(!masked.contains("123456"), "{masked}");
    });
}

#[test]
fn users_of_the_database_come_change_and_go() {
    run(async {
        let stage = Stage::start(CheckState::Ok).await;
        let client = stage.client(Role::Admin);
        let carol = json!({ "name": "carol", "password": "pw", "dids": ["+3225550003"] });
        let added: UserView = client.send("POST", "/api/v1/users", Some(&carol)).await.unwrap();
        assert_eq!((added.name.as_str(), added.source), ("carol", UserSource::Database));
        let stored = stage.store.users().await.unwrap();
        let before = stored[0].user.credentials.clone();
        assert_eq!(before, crate::access::Credentials::new("carol", "example.org", &Secret::new("pw")));
        let settings = json!({ "caller_ids": ["+3225550003"], "max_calls": 2 });
        client.send::<UserView>("PUT", "/api/v1/users/carol", Some(&settings)).await.unwrap();
        let carol = stage.store.users().await.unwrap().remove(0).user;
        assert_eq!((carol.caller_ids.len(), carol.dids.len(), carol.max_calls), (1, 0, Some(2)));
        assert_eq!(carol.credentials, before);
        let password = json!({ "password": "other" });
        client.send::<()>("PUT", "/api/v1/users/carol/password", Some(&password)).await.unwrap();
        assert_ne!(stage.store.users().await.unwrap()[0].user.credentials, before);
        client.send::<()>("DELETE", "/api/v1/users/carol", None::<&()>).await.unwrap();
        assert!(stage.store.users().await.unwrap().is_empty());
        assert_eq!(stage.orders(), ["read the users"; 4], "the gateway takes up each change");
    });
}

#[test]
fn users_that_can_not_be_are_refused_with_a_reason() {
    run(async {
        let stage = Stage::start(CheckState::Ok).await;
        let client = stage.client(Role::Admin);
        for (body, expected) in [
            (json!({ "name": "alice", "password": "pw" }), 409),
            (json!({ "name": "dave", "password": "pw", "dids": ["+3225550001"] }), 409),
            (json!({ "name": "dave", "password": "pw", "account": "nobody" }), 404),
            (json!({ "name": "da ve", "password": "pw" }), 422),
            (json!({ "name": "dave", "password": "" }), 422),
            (json!({ "name": "dave", "password": "pw", "dids": ["0470"] }), 422),
            (json!({ "name": "dave", "password": "pw", "admin": true }), 422),
        ] {
            assert_eq!(
                status(client.send::<Value>("POST", "/api/v1/users", Some(&body)).await),
                expected,
                "{body}"
            );
        }
        for (name, body, expected) in [
            ("alice", json!({}), 409),
            ("nobody", json!({}), 404),
            ("nobody", json!({ "dids": ["+3225550001"] }), 409),
            ("nobody", json!({ "password": "pw" }), 422),
        ] {
            let answer = client.send::<Value>("PUT", &format!("/api/v1/users/{name}"), Some(&body)).await;
            assert_eq!(status(answer), expected, "{name}: {body}");
        }
        let password = json!({ "password": "pw" });
        let of_file = client.send::<Value>("PUT", "/api/v1/users/alice/password", Some(&password)).await;
        assert_eq!(status(of_file), 409, "a user of the file is read-only");
        assert_eq!(status(client.send::<Value>("DELETE", "/api/v1/users/alice", None::<&()>).await), 409);
        assert_eq!(status(client.send::<Value>("DELETE", "/api/v1/users/nobody", None::<&()>).await), 404);
        assert!(stage.store.users().await.unwrap().is_empty());
        assert_eq!(stage.orders(), Vec::<String>::new());
    });
}

#[test]
fn a_refused_reload_tells_every_error() {
    run(async {
        let stage = Stage::start(CheckState::Ok).await;
        let answer = stage.client(Role::Operate).send::<Value>("POST", "/api/v1/reload", None::<&()>).await;
        let Err(ClientError::Refused(problem)) = answer else { panic!("{answer:?}") };
        assert_eq!(problem.status, 422);
        assert!(problem.errors[0].contains("did you mean \"realm\"?"));
    });
}

#[test]
fn the_log_level_changes_and_a_misspelt_one_does_not() {
    run(async {
        let stage = Stage::start(CheckState::Ok).await;
        let client = stage.client(Role::Operate);
        let set: Value = client.send("PUT", "/api/v1/log", Some(&json!({ "level": "debug" }))).await.unwrap();
        assert_eq!(set["level"], "debug");
        assert_eq!(
            status(client.send::<Value>("PUT", "/api/v1/log", Some(&json!({ "level": "loud" }))).await),
            422
        );
        let kept: Value = client.get("/api/v1/log", &[]).await.unwrap();
        assert_eq!(kept["level"], "debug");
    });
}

#[test]
fn whatever_is_wrong_with_a_request_the_answer_is_problem_json() {
    run(async {
        let stage = Stage::start(CheckState::Ok).await;
        let auth = "Authorization: Bearer admin-token\r\n";
        let body = "Content-Type: application/json\r\nContent-Length: 1\r\n\r\n{";
        let cases = [
            ("GET", "/nowhere", String::new(), 404),
            ("POST", "/metrics", String::new(), 405),
            ("GET", "/api/v1/calls", String::new(), 401),
            ("GET", "/api/v1/route", auth.to_owned(), 400),
            ("PUT", "/api/v1/log", format!("{auth}{body}"), 400),
            ("PUT", "/api/v1/log", auth.to_owned(), 415),
            ("GET", "/api/v1/route?from=nobody&to=1", auth.to_owned(), 404),
        ];
        for (method, path, rest, expected) in cases {
            let (status, body) = raw(&stage, method, path, &rest).await;
            assert_eq!(status, expected, "{method} {path}: {body}");
            let problem: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(complaints(&problem, &openapi::schemas()["Problem"], path), Vec::<String>::new());
        }
    });
}

#[test]
fn metrics_and_the_page_need_no_token() {
    run(async {
        let stage = Stage::start(CheckState::Ok).await;
        let (status, text) = raw(&stage, "GET", "/metrics", "").await;
        assert_eq!(status, 200);
        assert!(text.contains("tandem_trunk_up{trunk=\"operator-a\"} 1"));
        let (status, page) = raw(&stage, "GET", "/", "").await;
        assert!(status == 200 && page.contains("/metrics") && page.contains("/api/openapi.json"));
    });
}

#[test]
fn a_scrape_that_hangs_holds_nobody_else() {
    run(async {
        let stage = Stage::start(CheckState::Ok).await;
        let (release, hanging) = std::sync::mpsc::sync_channel::<()>(0);
        let hanging = std::sync::Mutex::new(hanging);
        stage.metrics.at_scrape(move |_| {
            let _ = hanging.lock().unwrap().recv();
        });
        let scrape = raw(&stage, "GET", "/metrics", "");
        tokio::pin!(scrape);
        // Both on one thread: were the scrape on it, nothing could be answered until it ends.
        let live = tokio::select! {
            _ = &mut scrape => panic!("the scrape waits"),
            live = raw(&stage, "GET", "/health/live", "") => live,
        };
        assert_eq!(live.0, 200);
        drop(release);
        assert_eq!(scrape.await.0, 200);
    });
}

#[test]
fn stopping_ends_the_listener() {
    run(async {
        let mut stage = Stage::start(CheckState::Ok).await;
        let client = stage.client(Role::Read);
        client.get::<Value>("/api/v1/calls", &[]).await.unwrap();
        drop(stage.stop.take());
        // The connection that was open is finished, a new one is refused.
        while Client::new(&stage.url, Secret::new("read-token")).unwrap().get::<Value>("/", &[]).await.is_ok()
        {
        }
        let answer = stage.client(Role::Read).get::<Value>("/api/v1/calls", &[]).await;
        assert!(matches!(answer, Err(ClientError::Unreachable { .. })), "{answer:?}");
    });
}
