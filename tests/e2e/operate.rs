//! Operating a running gateway: its admin API and the commands that speak to it, while real calls go through.

use crate::scene::{ALICE, BLINK, BOB, MOBILE, SECOND, alice, builder, gateway, incoming, operator};
use crate::support::{
    gateway::{Gateway, PASSWORD, TOKEN, tandem},
    http,
    lane::Lane,
    sipp::Sipp,
    wait,
};
use serde_json::{Value, json};

const PROBLEM: &str = "application/problem+json";

/// Runs a command against the gateway, with `--json`; gives what it prints.
#[track_caller]
pub fn command(gateway: &Gateway<'_>, arguments: &[&str]) -> Value {
    let config = gateway.config_file().to_str().expect("a plain path");
    let output = tandem(&[arguments, &["--json", "--config", config]].concat());
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {out}{err}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {out}"))
}

/// Waits until one call is answered; gives it.
#[track_caller]
pub fn wait_answered(gateway: &Gateway<'_>) -> Value {
    wait::until("a call to be answered", wait::SOON, || {
        gateway.calls().into_iter().find(|call| call["state"] == "answered")
    })
}

#[test]
fn a_running_call_is_shown_and_hung_up() {
    let lane = Lane::take("operate-hang-up");
    let operator = operator(&lane, "operator-answers").start();
    let gateway = gateway(&lane, &operator);
    let caller = alice(&lane, &gateway, "user-calls-and-is-hung-up-on").start();
    let call = wait_answered(&gateway);
    for (field, value) in [
        ("direction", "app_to_trunk"),
        ("caller_user", "alice"),
        ("caller_number", ALICE),
        ("number", MOBILE),
        ("egress_trunk", "operator-a"),
        ("caller_codec", "opus"),
        ("callee_codec", "PCMA"),
    ] {
        assert_eq!(call[field], value, "{call:#}");
    }
    let id = call["id"].as_str().expect("an id");
    let path = format!("/api/v1/calls/{id}");
    assert_eq!(gateway.get(&path)["id"], id);
    assert_eq!(gateway.list("/api/v1/calls?trunk=operator-b", "calls"), [] as [Value; 0]);
    assert_eq!(gateway.list("/api/v1/calls?user=alice", "calls").len(), 1);
    assert_eq!(command(&gateway, &["calls"])["calls"][0]["id"], id);

    assert_eq!(gateway.ask("DELETE", &path, None).status, 200);
    caller.succeed();
    operator.succeed();
    gateway.wait_idle();
    let gone = gateway.ask("GET", &path, None);
    assert_eq!((gone.status, gone.header("Content-Type")), (404, Some(PROBLEM)));
    assert_eq!(gateway.ask("GET", "/api/v1/calls/nonsense", None).status, 400);
    let cdr = gateway.wait_cdr();
    assert_eq!((&cdr["id"], &cdr["end_cause"]), (&json!(id), &json!("admin_hangup")));
}

#[test]
fn call_records_are_filtered_sorted_paged_and_given_as_csv() {
    let lane = Lane::take("operate-cdrs");
    let operator = operator(&lane, "operator-answers").calls(2).start();
    let gateway = builder(&lane, &operator).start();
    for seconds in [1, 2] {
        alice(&lane, &gateway, "user-calls").pause(seconds * SECOND / 2).start().succeed();
    }
    operator.succeed();
    alice(&lane, &gateway, "user-is-refused").number("+3290012345").code(403, "").start().succeed();
    gateway.wait_cdrs(3);

    let ids = |cdrs: &[Value]| -> Vec<String> {
        cdrs.iter().map(|cdr| cdr["id"].as_str().expect("an id").to_owned()).collect()
    };
    let all = ids(&gateway.list("/api/v1/cdrs?sort=started_at", "cdrs"));
    let newest_first: Vec<String> = all.iter().rev().cloned().collect();
    assert_eq!(ids(&gateway.cdrs()), newest_first);
    let first = gateway.get("/api/v1/cdrs?sort=started_at&limit=2");
    let next = first["next"].as_str().expect("a second page");
    let second =
        gateway.list(&format!("/api/v1/cdrs?sort=started_at&limit=2&cursor={}", http::escape(next)), "cdrs");
    assert_eq!([ids(first["cdrs"].as_array().expect("a list")), ids(&second)].concat(), all);
    let longest = gateway.list("/api/v1/cdrs?sort=-duration_ms", "cdrs");
    let lengths: Vec<_> = longest.iter().map(|cdr| cdr["duration_ms"].as_u64().expect("a length")).collect();
    assert!(lengths.len() == 3 && lengths.is_sorted_by(|a, b| a >= b), "{lengths:?}");
    for (filter, found) in [
        ("outcome=answered", &all[..2]),
        ("outcome=blocked", &all[2..]),
        ("trunk=operator-a", &all[..2]),
        ("trunk=operator-b", &[]),
        ("user=alice", &all[..]),
        ("number=%2B32470123456", &all[..2]),
        ("direction=trunk_to_app", &[]),
        ("until=2020-01-01T00:00:00Z", &[]),
    ] {
        let cdrs = gateway.list(&format!("/api/v1/cdrs?sort=started_at&{filter}"), "cdrs");
        assert_eq!(ids(&cdrs), found, "{filter}");
    }
    assert_eq!(gateway.ask("GET", "/api/v1/cdrs?sort=secret", None).status, 400);
    assert_eq!(gateway.ask("GET", "/api/v1/cdrs?colour=red", None).status, 400);
    assert_eq!(gateway.get(&format!("/api/v1/cdrs/{}", all[0]))["id"], all[0]);

    let accept = [("Accept", "text/csv")];
    let csv =
        http::request(gateway.admin(), "GET", "/api/v1/cdrs", Some(TOKEN), &accept, None).expect("an answer");
    assert!(csv.header("Content-Type").is_some_and(|kind| kind.starts_with("text/csv")));
    let lines: Vec<&str> = csv.body.lines().collect();
    assert!(lines[0].starts_with("id,node,state,direction"), "{}", lines[0]);
    assert_eq!(lines.len(), 4, "{}", csv.body);
    assert!(lines.iter().skip(1).zip(&newest_first).all(|(line, id)| line.starts_with(id.as_str())));

    let listed = command(&gateway, &["cdr", "list", "--outcome", "answered"]);
    assert_eq!(ids(listed["cdrs"].as_array().expect("a list")), [all[1].clone(), all[0].clone()]);
}

#[test]
fn a_blocked_trunk_gets_no_calls_and_a_draining_one_keeps_those_it_has() {
    let lane = Lane::take("operate-trunks");
    let first = operator(&lane, "operator-answers").calls(2).start();
    let second = operator(&lane, "operator-answers").calls(2).start();
    let gateway = Gateway::on(&lane).user("alice", ALICE).trunk("operator-a", first.address());
    let gateway = gateway.trunk("operator-b", second.address()).start();
    let call = |pause| alice(&lane, &gateway, "user-calls").pause(pause).start();
    let act = |action: &str| {
        let answer = gateway.ask("POST", &format!("/api/v1/trunks/operator-a/{action}"), None);
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    };
    let trunk = |view: &Value| -> [bool; 2] {
        ["blocked", "draining"].map(|field| view[field].as_bool().expect("true or false"))
    };

    assert_eq!(trunk(&act("block")), [true, false]);
    assert_eq!(gateway.metric("tandem_trunk_blocked", &[("trunk", "operator-a")]), 1.0);
    let route = gateway.get("/api/v1/route?from=alice&to=0470123456");
    assert_eq!(route["outcome"]["trunks"][0]["usable"], false, "{route:#}");
    call(BLINK).succeed();
    second.wait_request("INVITE");
    assert!(first.messages().is_empty(), "a blocked trunk was called");

    assert_eq!(trunk(&act("unblock")), [false, false]);
    assert_eq!(gateway.metric("tandem_trunk_blocked", &[("trunk", "operator-a")]), 0.0);
    call(BLINK).succeed();
    first.wait_request("INVITE");

    let running = call(2 * SECOND);
    wait_answered(&gateway);
    assert_eq!(trunk(&act("drain")), [false, true]);
    call(BLINK).succeed();
    assert!(gateway.get("/api/v1/trunks/operator-a")["active_calls"] == 1, "its call goes on");
    running.succeed();
    assert_eq!(first.succeed().requests("INVITE").len(), 2);
    assert_eq!(second.succeed().requests("INVITE").len(), 2);
    act("unblock");
    assert_eq!(trunk(&gateway.get("/api/v1/trunks/operator-a")), [false, false]);

    let unknown = gateway.ask("POST", "/api/v1/trunks/nobody/block", None);
    assert_eq!((unknown.status, unknown.header("Content-Type")), (404, Some(PROBLEM)));
    let listed = command(&gateway, &["trunks"]);
    let names: Vec<_> =
        listed["trunks"].as_array().expect("a list").iter().map(|t| t["name"].clone()).collect();
    assert_eq!(names, ["operator-a", "operator-b"]);
}

#[test]
fn a_blocked_trunk_may_not_call_either() {
    let lane = Lane::take("operate-blocked-caller");
    let from = lane.address();
    let gateway = Gateway::on(&lane).user("alice", ALICE).user("bob", BOB).trunk("operator-a", from).start();
    Sipp::register(&lane, gateway.udp(), "alice", lane.port());
    gateway.ask("POST", "/api/v1/trunks/operator-a/block", None);
    // Not even for a user without a device is it told anything else.
    for number in [ALICE, BOB] {
        let refused = incoming(&lane, &gateway, "operator-is-refused", from.port(), number).code(503, "");
        refused.start().succeed();
    }
    let cdrs = gateway.wait_cdrs(2);
    assert!(cdrs.iter().all(|cdr| cdr["end_cause"] == "trunk_unavailable"), "{cdrs:#?}");
}

#[test]
fn users_of_the_database_come_change_and_go_while_calls_run() {
    let lane = Lane::take("operate-users");
    let operator = operator(&lane, "operator-answers").calls(3).start();
    let gateway = gateway(&lane, &operator);
    let carol = |password: &str, scenario: &str| {
        let sipp = Sipp::client(&lane, scenario, gateway.udp()).credentials("carol", password);
        sipp.number(MOBILE).code(401, "").pause(BLINK)
    };
    let new =
        json!({ "name": "carol", "password": PASSWORD, "caller_ids": [BOB], "dids": [BOB] }).to_string();
    let added = gateway.ask("POST", "/api/v1/users", Some(&new));
    assert_eq!((added.status, &added.json()["source"]), (201, &json!("database")));
    assert!(!added.body.contains(PASSWORD));
    assert_eq!(gateway.ask("POST", "/api/v1/users", Some(&new)).status, 409);
    carol(PASSWORD, "user-calls").start().succeed();
    assert!(operator.wait_request("INVITE").header("From").is_some_and(|from| from.contains(BOB)));
    let port = lane.port();
    Sipp::register(&lane, gateway.udp(), "carol", port);

    // The list of registrations.
    let registered = gateway.list("/api/v1/registrations", "registrations");
    assert_eq!(registered.len(), 1, "{registered:?}");
    assert_eq!(registered[0]["user"], "carol");
    assert_eq!(registered[0]["remote"], format!("127.0.0.1:{port}"));
    assert_eq!(gateway.get("/api/v1/users/carol")["registrations"], 1);

    // A new password.
    let changed = gateway.ask("PUT", "/api/v1/users/carol/password", Some(r#"{"password":"another"}"#));
    assert_eq!(changed.status, 204, "{}", changed.body);
    carol(PASSWORD, "user-is-refused").start().succeed();
    carol("another", "user-calls").start().succeed();

    // Users of the file are not touched from here.
    for (method, path, body) in [
        ("PUT", "/api/v1/users/alice/password", Some(r#"{"password":"another"}"#)),
        ("DELETE", "/api/v1/users/alice", None),
    ] {
        assert_eq!(gateway.ask(method, path, body).status, 409, "{method} {path}");
    }

    // Gone, but its call goes on.
    let running = carol("another", "user-calls").pause(SECOND).start();
    wait_answered(&gateway);
    assert_eq!(gateway.ask("DELETE", "/api/v1/users/carol", None).status, 204);
    assert_eq!(gateway.list("/api/v1/registrations", "registrations"), [] as [Value; 0]);
    assert_eq!(gateway.ask("GET", "/api/v1/users/carol", None).status, 404);
    running.succeed();
    operator.succeed();
    carol("another", "user-is-refused").start().succeed();
}

#[test]
fn users_are_kept_from_the_command_line_with_and_without_a_running_gateway() {
    let lane = Lane::take("operate-user-command");
    let operator = operator(&lane, "operator-answers").calls(2).start();
    let gateway = gateway(&lane, &operator);
    let names = || -> Vec<Value> {
        let users = command(&gateway, &["user", "list"]);
        users["users"].as_array().expect("a list").iter().map(|user| user["name"].clone()).collect()
    };
    let call = |password: &str, scenario: &str| {
        let sipp = Sipp::client(&lane, scenario, gateway.udp()).credentials("dave", password);
        sipp.number(MOBILE).code(401, "").pause(BLINK).start().succeed();
    };
    command(&gateway, &["user", "add", "dave", "--password", PASSWORD, "--caller-id", BOB, "--did", BOB]);
    assert_eq!(names(), ["alice", "dave"]);
    call(PASSWORD, "user-calls");
    command(&gateway, &["user", "passwd", "dave", "--password", "another"]);
    call(PASSWORD, "user-is-refused");

    // The same commands in the database of a gateway that does not run.
    gateway.kill();
    command(&gateway, &["user", "passwd", "dave", "--password", "third"]);
    command(&gateway, &["user", "add", "erin", "--password", PASSWORD]);
    assert_eq!(names(), ["alice", "dave", "erin"]);
    gateway.start_again();
    call("third", "user-calls");
    operator.succeed();
    command(&gateway, &["user", "remove", "dave"]);
    assert_eq!(names(), ["alice", "erin"]);
    call("third", "user-is-refused");
    let config = gateway.config_file().to_str().expect("a plain path");
    let twice = tandem(&["user", "add", "alice", "--password", "x", "--config", config]);
    assert_eq!(twice.status.code(), Some(1));
}

#[test]
fn a_route_is_explained_by_the_api_and_on_the_command_line() {
    let lane = Lane::take("operate-route");
    let operator = operator(&lane, "operator-answers").start();
    let gateway = gateway(&lane, &operator);
    let asked = gateway.get("/api/v1/route?from=alice&to=0470%2012%2034%2056");
    assert_eq!(asked["number"], MOBILE);
    assert_eq!(asked["calling"], ALICE);
    assert_eq!(asked["outcome"]["kind"], "trunks");
    assert_eq!(asked["outcome"]["trunks"][0]["name"], "operator-a");
    assert!(asked["matched"].to_string().contains("Belgium"), "{asked:#}");
    let told = command(&gateway, &["route", "--from", "alice", "--to", "0470 12 34 56"]);
    assert_eq!(told, asked);
    let blocked = gateway.get("/api/v1/route?from=alice&to=0900123456");
    assert_eq!((&blocked["outcome"]["kind"], &blocked["outcome"]["status"]), (&json!("reject"), &json!(403)));
    assert_eq!(gateway.ask("GET", "/api/v1/route?from=nobody&to=1", None).status, 404);
    assert_eq!(gateway.ask("GET", "/api/v1/route?to=1", None).status, 400);
    // What the explanation says is what a call does.
    alice(&lane, &gateway, "user-calls")
        .number("0470 12 34 56".replace(' ', "").as_str())
        .pause(BLINK)
        .start()
        .succeed();
    let invite = operator.succeed().request("INVITE").uri().expect("a request").to_owned();
    let called = asked["outcome"]["trunks"][0]["called"].as_str().expect("a number");
    assert!(invite.starts_with(&format!("sip:{called}@")), "{invite}");
}

#[test]
fn the_log_level_changes_while_it_runs() {
    let lane = Lane::take("operate-log");
    let gateway = Gateway::on(&lane).start();
    let audited = || gateway.log().iter().filter(|line| line.contains("admin request")).count();
    let set = |level: &str| gateway.ask("PUT", "/api/v1/log", Some(&json!({ "level": level }).to_string()));
    gateway.ask("DELETE", "/api/v1/drain", None);
    gateway.wait_log("/api/v1/drain", wait::SOON);
    assert_eq!(set("error").json()["level"], "error");
    // The last line of the loud time may still be on its way.
    gateway.wait_log("/api/v1/log", wait::SOON);
    let before = audited();
    gateway.ask("DELETE", "/api/v1/drain", None);
    let refused = set("loud");
    assert_eq!((refused.status, refused.header("Content-Type")), (422, Some(PROBLEM)));
    assert_eq!(gateway.get("/api/v1/log")["level"], "error");
    assert_eq!(set("info").status, 200);
    gateway.ask("POST", "/api/v1/reload", None);
    // Lines are written in order: nothing of the quiet time stands before this one.
    gateway.wait_log("/api/v1/reload", wait::SOON);
    assert_eq!(audited(), before + 1);
    // The level of the API lasts until a reload.
    assert_eq!(gateway.get("/api/v1/log")["level"], "info,tandem::sip=info");
}

#[test]
fn a_token_may_do_what_its_role_may() {
    let lane = Lane::take("operate-roles");
    let operator = operator(&lane, "operator-answers").start();
    let gateway = builder(&lane, &operator).set("admin.operate_token", "may-operate");
    let gateway = gateway.set("admin.read_token", "may-read").start();
    alice(&lane, &gateway, "user-calls").pause(BLINK).start().succeed();
    operator.succeed();
    gateway.wait_cdr();
    let ask = |token: Option<&str>, method: &str, path: &str, body: Option<&str>| {
        http::request(gateway.admin(), method, path, token, &[], body).expect("an answer")
    };
    let user = r#"{"name":"mallory","password":"x"}"#;
    for (method, path, body, [nobody, stranger, read, operate, admin]) in [
        ("GET", "/api/v1/calls", None, [401, 401, 200, 200, 200]),
        ("GET", "/api/v1/cdrs", None, [401, 401, 200, 200, 200]),
        ("POST", "/api/v1/trunks/operator-a/block", None, [401, 401, 403, 200, 200]),
        ("PUT", "/api/v1/log", Some(r#"{"level":"info"}"#), [401, 401, 403, 200, 200]),
        ("POST", "/api/v1/users", Some(user), [401, 401, 403, 403, 201]),
        ("GET", "/health/live", None, [200; 5]),
        ("GET", "/metrics", None, [200; 5]),
    ] {
        for (token, status) in [
            (None, nobody),
            (Some("somebody-else's"), stranger),
            (Some("may-read"), read),
            (Some("may-operate"), operate),
            (Some(TOKEN), admin),
        ] {
            let answer = ask(token, method, path, body);
            assert_eq!(answer.status, status, "{token:?} {method} {path}: {}", answer.body);
            if status > 400 {
                assert_eq!(answer.header("Content-Type"), Some(PROBLEM));
                assert_eq!(answer.json()["status"], status);
            }
        }
    }
    assert!(ask(None, "GET", "/api/v1/calls", None).header("WWW-Authenticate").is_some());
    // Whole numbers take more than looking.
    let seen =
        |token| ask(Some(token), "GET", "/api/v1/cdrs", None).json()["cdrs"][0]["called_number"].clone();
    assert_eq!(seen("may-operate"), MOBILE);
    assert!(
        seen("may-read").as_str().is_some_and(|number| !number.contains("0123456")),
        "{}",
        seen("may-read")
    );
}

#[test]
fn a_drain_by_the_api_refuses_new_calls_until_it_is_taken_back() {
    let lane = Lane::take("operate-drain");
    let operator = operator(&lane, "operator-answers").start();
    let gateway = gateway(&lane, &operator);
    let ready = || http::get(gateway.admin(), "/health/ready").expect("health is open to all");
    assert_eq!((ready().status, &ready().json()["status"]), (200, &json!("ok")));
    assert_eq!(gateway.ask("POST", "/api/v1/drain", None).json()["draining"], true);
    assert_drains(&lane, &gateway);
    assert_eq!(gateway.ask("DELETE", "/api/v1/drain", None).json()["draining"], false);
    assert_eq!(ready().status, 200);
    Sipp::client(&lane, "anyone-asks-options", gateway.udp()).code(200, "").start().succeed();
    alice(&lane, &gateway, "user-calls").pause(BLINK).start().succeed();
    operator.succeed();
}

/// New calls and OPTIONS are refused for a while, and readiness says why.
#[track_caller]
pub fn assert_drains(lane: &Lane, gateway: &Gateway<'_>) {
    let ready = http::get(gateway.admin(), "/health/ready").expect("health is open to all");
    assert_eq!(ready.status, 503);
    let checks = ready.json()["checks"].as_array().cloned().unwrap_or_default();
    assert!(
        checks.iter().any(|check| check["name"] == "drain" && check["state"] == "failed"),
        "{}",
        ready.body
    );
    let asked = Sipp::client(lane, "anyone-asks-options", gateway.udp()).code(503, "").start().succeed();
    let called = alice(lane, gateway, "user-is-refused").code(503, "").start().succeed();
    for refused in [asked, called] {
        let again = refused.response(503).header("Retry-After").and_then(|after| after.parse::<u32>().ok());
        assert!(again.is_some_and(|seconds| seconds > 0), "{refused}");
    }
}
