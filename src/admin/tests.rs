//! The API over real connections, with a scripted core behind it.

use super::client::{Client, ClientError};
use super::control::*;
use super::endpoint::Answer;
use super::openapi;
use super::*;
use crate::billing::{Cdr, CdrLeg, CdrState, NotRated};
use crate::billing::{CdrSink, Rated};
use crate::store::{NumberKeys, StoreOptions};
use crate::types::{AudioCodec, CallId, Direction, EndCause, LegReport, Secret, Transport};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use tokio::sync::oneshot;

/// An API on a free port, its core, and clients for each role.
struct Stage {
    url: String,
    orders: Arc<Mutex<Vec<String>>>,
    stop: Option<oneshot::Sender<()>>,
    store: Store,
    folder: PathBuf,
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Tests run at once, in one process or in several.
fn unique() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed))
}

impl Stage {
    async fn start(state: CheckState) -> Stage {
        let orders = Arc::new(Mutex::new(Vec::new()));
        let (control, receiver) = Control::channel();
        let secrets = Role::ALL.map(|role| Secret::new(format!("{}-token", role.as_str())));
        let tokens = Role::ALL.iter().zip(&secrets).map(|(role, secret)| (role.as_str(), secret, *role));
        let log = LogControl::for_tests();
        let metrics = Arc::new(Metrics::new(&["operator-a".to_owned()]));
        let folder = std::env::temp_dir().join(format!("tandem-admin-{}", unique()));
        std::fs::create_dir_all(&folder).unwrap();
        let keys = NumberKeys::load(&folder.join("number.keys")).unwrap();
        let store = Store::connect(&Secret::new("sqlite::memory:"), keys, StoreOptions::default()).unwrap();
        let realm = Box::new(|| "example.org".to_owned());
        let admin = Admin { control, metrics, log, tokens: Tokens::new(tokens), store: store.clone(), realm };
        tokio::spawn(core(receiver, orders.clone(), state, store.clone()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(serve(listener, admin, async {
            let _ = stopped.await;
        }));
        Stage { url, orders, stop: Some(stop), store, folder }
    }

    fn client(&self, role: Role) -> Client {
        self.with_token(&format!("{}-token", role.as_str()))
    }

    fn with_token(&self, token: &str) -> Client {
        Client::new(&self.url, Secret::new(token)).unwrap()
    }

    fn orders(&self) -> Vec<String> {
        self.orders.lock().unwrap().clone()
    }
}

/// Answers every command with fixed views and notes the orders.
async fn core(
    mut commands: tokio::sync::mpsc::Receiver<ControlCommand>,
    orders: Arc<Mutex<Vec<String>>>,
    state: CheckState,
    store: Store,
) {
    let order = |text: String| orders.lock().unwrap().push(text);
    while let Some(command) = commands.recv().await {
        match command {
            ControlCommand::Calls { reply } => {
                let _ = reply.send(vec![call(1), call(2)]);
            }
            ControlCommand::Call { id, reply } => {
                let _ = reply.send([call(1), call(2)].into_iter().find(|call| call.id == id));
            }
            ControlCommand::Hangup { id, reply } => {
                order(format!("hang up {id}"));
                let _ = reply.send([call(1), call(2)].into_iter().find(|call| call.id == id));
            }
            ControlCommand::Trunks { reply } => {
                let _ = reply.send(vec![trunk()]);
            }
            ControlCommand::Trunk { name, action, reply } => {
                order(format!("{} {name}", action.as_str()));
                let _ = reply.send((name == "operator-a").then(trunk));
            }
            ControlCommand::Registrations { reply } => {
                let _ = reply.send(vec![registration()]);
            }
            ControlCommand::Users { reply } => {
                let stored = store.users().await.unwrap_or_default();
                let stored = stored.into_iter().map(|stored| UserView {
                    name: stored.user.name.to_string(),
                    source: UserSource::Database,
                    dids: stored.user.dids.iter().map(ToString::to_string).collect(),
                    ..user()
                });
                let _ = reply.send(stored.chain([user()]).collect());
            }
            ControlCommand::UsersChanged { reply } => {
                order("read the users".to_owned());
                let _ = reply.send(Ok(()));
            }
            ControlCommand::Route { query, reply } => {
                let _ = reply.send(match query.from.as_str() {
                    "alice" => Ok(route(&query)),
                    other => Err(RouteQueryError::UnknownUser(other.to_owned())),
                });
            }
            ControlCommand::Reload { reply } => {
                let errors = vec!["tandem.toml:3: unknown key \"relam\"; did you mean \"realm\"?".to_owned()];
                let _ = reply.send(ReloadReport { errors, ..ReloadReport::default() });
            }
            ControlCommand::Drain { on, reply } => {
                order(format!("drain {on}"));
                let _ = reply.send(DrainView { draining: on, active_calls: 2, deadline: None });
            }
            ControlCommand::Readiness { reply } => {
                let check = ReadinessCheck::new("database", state, "it does not answer");
                let _ = reply.send(Readiness { checks: vec![check] });
            }
        }
    }
}

fn call(n: u8) -> CallView {
    CallView {
        id: CallId::from_parts(1_772_366_400_250, [n; 10]),
        direction: Direction::AppToTrunk,
        state: CallState::Answered,
        caller_user: Some(if n == 1 { "alice" } else { "bob" }.to_owned()),
        caller_number: Some("+3225550001".to_owned()),
        dialled: "0470123456".to_owned(),
        number: Some("+32470123456".to_owned()),
        callee_user: None,
        ingress_trunk: None,
        egress_trunk: Some("operator-a".to_owned()),
        started_at: 1_772_366_400_250,
        answered_at: Some(1_772_366_403_000),
        duration_ms: 61_000,
        caller_codec: Some(AudioCodec::Opus),
        callee_codec: Some(AudioCodec::Pcma),
        caller_leg: Some(LegReport { packets_received: 3050, mos_lq: Some(4.37), ..LegReport::default() }),
        callee_leg: None,
    }
}

fn trunk() -> TrunkView {
    TrunkView {
        name: "operator-a".to_owned(),
        carrier: "Operator A".to_owned(),
        transport: Transport::Udp,
        health: TrunkHealth::Up,
        blocked: false,
        blocked_until: None,
        draining: false,
        reason: None,
        active_calls: 2,
        max_channels: 100,
        max_cps: 20,
        registration: Some(TrunkRegistration::Registered { expires_at: 1_772_366_400_250 }),
        options_rtt_ms: Some(3.5),
        targets: vec![TargetView {
            proxy: "192.0.2.7:5060".to_owned(),
            address: Some("192.0.2.7:5060".parse().unwrap()),
            health: TrunkHealth::Up,
        }],
    }
}

fn user() -> UserView {
    UserView {
        name: "alice".to_owned(),
        source: UserSource::File,
        caller_ids: vec!["+3225550001".to_owned()],
        dids: vec!["+3225550001".to_owned()],
        account: None,
        registrations: Some(1),
    }
}

/// The record of an answered call of one minute.
fn cdr(n: u8) -> Cdr {
    let started_at = 1_772_366_400_250 + i64::from(n) * 60_000;
    let mut cdr = Cdr::new(CallId::from_parts(1_772_366_400_250, [n; 10]), Direction::AppToTrunk, started_at);
    cdr.node = "gw1".to_owned();
    cdr.boot = 1;
    cdr.seq = u64::from(n);
    cdr.revision = u64::from(n);
    cdr.state = CdrState::Final;
    cdr.caller.user = Some("alice".to_owned());
    cdr.caller.number = "+3225550001".parse().ok();
    cdr.called.dialled = "=0470123456".to_owned();
    cdr.called.number = "+32470123456".parse().ok();
    cdr.egress_trunk = Some("operator-a".to_owned());
    cdr.answered_at = Some(started_at + 2_000);
    cdr.released_at = Some(started_at + 62_000);
    cdr.duration_ms = 60_000;
    cdr.end_cause = Some(EndCause::NormalClearing);
    cdr.caller_codec = Some(AudioCodec::Opus);
    cdr.legs = vec![CdrLeg { index: 1, target: "+32470123456".to_owned(), started_at, ..CdrLeg::default() }];
    cdr.sell = Some(Rated::NotRated(NotRated::NoRate));
    cdr
}

fn registration() -> RegistrationView {
    RegistrationView {
        user: "alice".to_owned(),
        contact: "sip:alice@198.51.100.9:5062".to_owned(),
        transport: Transport::Tls,
        remote: "198.51.100.9:41234".parse().unwrap(),
        user_agent: Some("phone/1".to_owned()),
        expires_at: 1_772_366_400_250,
    }
}

fn route(query: &RouteQuery) -> RouteView {
    RouteView {
        from: query.from.clone(),
        dialled: query.to.clone(),
        number: Some("+32470123456".to_owned()),
        calling: None,
        matched: vec!["Belgium".to_owned()],
        outcome: RouteOutcomeView::Trunks {
            trunks: vec![RouteTrunkView {
                name: "operator-a".to_owned(),
                called: "+32470123456".to_owned(),
                calling: Some("+3225550001".to_owned()),
                cost: Some("0.004 EUR".to_owned()),
                reason: None,
                usable: true,
            }],
        },
        rate: Some(RateView { prefix: "+32".to_owned(), per_minute: "0.0125 EUR".to_owned() }),
        max_duration_seconds: 14_400,
    }
}

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

/// What `value` has against `schema`; nothing if it conforms. Knows just what our schemas use.
fn complaints(value: &Value, schema: &Value, at: &str) -> Vec<String> {
    let schemas = openapi::schemas();
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.strip_prefix("#/components/schemas/").unwrap();
        assert!(schemas[name].is_object(), "{name} is not a schema");
        return complaints(value, &schemas[name], at);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let tried: Vec<_> = choices.iter().map(|choice| complaints(value, choice, at)).collect();
        return if tried.iter().any(Vec::is_empty) { Vec::new() } else { tried.concat() };
    }
    let actual = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let allowed = match &schema["type"] {
        Value::String(one) => vec![one.as_str()],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => return vec![format!("{at}: the schema has no type")],
    };
    if !allowed.contains(&actual) && !(actual == "integer" && allowed.contains(&"number")) {
        return vec![format!("{at}: {actual} instead of {allowed:?}")];
    }
    let mut found = Vec::new();
    if let Some(values) = schema["enum"].as_array()
        && !values.contains(value)
    {
        found.push(format!("{at}: {value} is not listed"));
    }
    if let Value::Array(items) = value {
        found.extend(items.iter().flat_map(|item| complaints(item, &schema["items"], at)));
    }
    if let Value::Object(fields) = value {
        let known = schema["properties"].as_object().unwrap();
        for (name, field) in fields {
            match known.get(name) {
                Some(schema) => found.extend(complaints(field, schema, &format!("{at}.{name}"))),
                None => found.push(format!("{at}.{name} is not in the schema")),
            }
        }
        let required = schema["required"].as_array().unwrap().iter().filter_map(Value::as_str);
        found.extend(
            required.filter(|name| !fields.contains_key(*name)).map(|name| format!("{at}.{name} is missing")),
        );
    }
    found
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
        let password = json!({ "password": "other" });
        client.send::<()>("PUT", "/api/v1/users/carol/password", Some(&password)).await.unwrap();
        assert_ne!(stage.store.users().await.unwrap()[0].user.credentials, before);
        client.send::<()>("DELETE", "/api/v1/users/carol", None::<&()>).await.unwrap();
        assert!(stage.store.users().await.unwrap().is_empty());
        assert_eq!(stage.orders(), ["read the users"; 3], "the gateway takes up each change");
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
        assert!(text.contains("tandem_trunk_up{trunk=\"operator-a\"} 0"));
        let (status, page) = raw(&stage, "GET", "/", "").await;
        assert!(status == 200 && page.contains("/metrics") && page.contains("/api/openapi.json"));
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

/// One request by hand, to see what the client hides. `rest` holds further headers and perhaps a body.
async fn raw(stage: &Stage, method: &str, path: &str, rest: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let authority = stage.url.strip_prefix("http://").unwrap();
    let mut stream = tokio::net::TcpStream::connect(authority).await.unwrap();
    let end = if rest.contains("\r\n\r\n") { "" } else { "\r\n" };
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n{rest}{end}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    if status >= 400 && path != "/health/ready" {
        assert!(head.to_ascii_lowercase().contains("content-type: application/problem+json"), "{head}");
    }
    (status, body.to_owned())
}
