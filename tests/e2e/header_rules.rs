//! Header rules of trunks as SIPp sees them, and as `tandem route` and the API foretell them.

use crate::scene::{ALICE, BLINK, MOBILE, alice, incoming, operator};
use crate::support::{
    gateway::{Gateway, tandem},
    lane::Lane,
    sipp::Sipp,
    trace::TracedMessage,
};
use serde_json::Value;
use toml::{Table, Value as Toml};

/// The `[[trunk.header]]` of this text.
pub fn rules(text: &str) -> Toml {
    let table: Table = text.parse().expect("TOML");
    table["header"].clone()
}

fn headers<'a>(message: &'a TracedMessage, name: &'a str) -> Vec<&'a str> {
    message.headers(name).collect()
}

#[test]
fn an_operator_gets_the_headers_of_its_rules_and_of_the_caller_only_those_that_are_named() {
    let lane = Lane::take("rules-to");
    let switch = operator(&lane, "operator-answers").start();
    let gateway =
        Gateway::on(&lane).user("alice", ALICE).trunk_with("operator-a", switch.address(), |trunk| {
            trunk.set("identity", "pai").set(
                "header",
                rules(
                    r#"
[[header]]
action = "add"
header = "X-Customer"
value = "{account};user={user};to={called}"
[[header]]
action = "copy"
header = "X-Customer-Subject"
from = "s"
[[header]]
action = "replace"
header = "X-Customer-Subject"
pattern = "secret (\\w+)"
replace = "$1"
[[header]]
action = "remove"
header = "P-Asserted-Identity"
when = { header = "X-Customer-Subject", pattern = "word" }
[[header]]
action = "add"
header = "X-Gone"
value = "{call_id}"
methods = ["BYE"]
"#,
                ),
            );
        });
    let gateway = gateway.start();
    let more = "Subject: secret word\n      X-Inner: sip:10.0.0.7";
    alice(&lane, &gateway, "user-calls").fill("more", more).pause(BLINK).start().succeed();
    let switch = switch.succeed();
    let invite = switch.request("INVITE");
    assert_eq!(headers(invite, "X-Customer"), [format!("default;user=alice;to={MOBILE}")]);
    assert_eq!(headers(invite, "X-Customer-Subject"), ["word"]);
    assert_eq!(invite.header("P-Asserted-Identity"), None);
    assert!(!invite.text.contains("10.0.0.7") && !invite.text.contains("secret"), "{}", invite.text);
    assert_eq!(invite.header("X-Gone"), None);
    let call = gateway.wait_cdr()["id"].as_str().expect("an id").to_owned();
    assert_eq!(headers(switch.request("BYE"), "X-Gone"), [call]);
}

#[test]
fn what_an_operator_says_is_changed_and_crosses_to_the_phone_by_name_only() {
    let lane = Lane::take("rules-from");
    let device = lane.port();
    let from = lane.port();
    let gateway = Gateway::on(&lane).user("alice", ALICE);
    let gateway = gateway.trunk_with("operator-a", ([127, 0, 0, 1], from).into(), |trunk| {
        trunk.set(
            "header",
            rules(
                r#"
[[header]]
action = "add"
header = "Privacy"
value = "id"
direction = "from"
when = { header = "X-Class", pattern = "^hidden$" }
[[header]]
action = "copy"
header = "X-Class"
direction = "from"
[[header]]
action = "add"
header = "X-Answered-By"
value = "{trunk}"
responses = ["2xx"]
[[header]]
action = "copy"
header = "X-Phone"
from = "X-Handset"
responses = ["180", "200"]
"#,
            ),
        );
    });
    let gateway = gateway.start();
    Sipp::register(&lane, gateway.udp(), "alice", device);
    let phone = operator(&lane, "user-answers").at_port(device).start();
    let caller = incoming(&lane, &gateway, "operator-calls", from, ALICE)
        .fill("more", "X-Class: hidden\n      X-Trunk-Group: tg=10.0.0.7")
        .pause(BLINK)
        .start()
        .succeed();
    let phone = phone.succeed();
    let invite = phone.request("INVITE");
    assert_eq!(headers(invite, "X-Class"), ["hidden"]);
    assert!(
        invite.header("From").is_some_and(|value| value.contains("anonymous.invalid")),
        "{}",
        invite.text
    );
    assert!(!invite.text.contains("10.0.0.7"), "{}", invite.text);
    let answer = caller.response(200);
    assert_eq!(headers(answer, "X-Answered-By"), ["operator-a"]);
    assert_eq!(headers(answer, "X-Phone"), Vec::<&str>::new(), "the phone did not say it");
}

#[test]
fn a_route_shows_what_the_tables_of_each_trunk_make_of_the_call_and_a_reload_takes_them() {
    let lane = Lane::take("rules-route");
    let switch = operator(&lane, "operator-answers").start();
    let gateway =
        Gateway::on(&lane).user("alice", ALICE).trunk_with("operator-a", switch.address(), |trunk| {
            let failover: Table = "\"603\" = \"next\"".parse().expect("TOML");
            let text = "[[header]]\naction = \"add\"\nheader = \"X-Customer\"\nvalue = \"{user}:{called}\"\n\
                    [[header]]\naction = \"copy\"\nheader = \"Subject\"\n";
            trunk
                .set("identity", "pai")
                .set("called_format", "00e164")
                .set("codecs", vec![Toml::from("PCMU"), Toml::from("PCMA")])
                .set("failover", failover)
                .set("header", rules(text));
        });
    let mut gateway = gateway.start();
    let config = gateway.config_file().to_str().expect("a plain path").to_owned();
    let arguments = ["route", "--config", &config, "--from", "alice", "--to", MOBILE];
    let told = tandem(&[&arguments[..], &["--json"]].concat());
    let told: Value = serde_json::from_slice(&told.stdout).expect("JSON");
    let asked = gateway.get(&format!("/api/v1/route?from=alice&to={}", MOBILE.replace('+', "%2B")));
    assert_eq!(asked["outcome"]["trunks"][0]["headers"], told["outcome"]["trunks"][0]["headers"]);
    let trunk = &asked["outcome"]["trunks"][0];
    assert_eq!((&trunk["called_format"], &trunk["calling_format"]), (&"00e164".into(), &"+e164".into()));
    assert_eq!(trunk["codecs"], serde_json::json!(["PCMU", "PCMA"]));
    let header = |trunk: &Value, name: &str| {
        let all = trunk["headers"].as_array().expect("a list").clone();
        all.into_iter().find(|header| header["name"] == name).map(|header| header["value"].clone())
    };
    assert_eq!(header(trunk, "X-Customer"), Some("alice:0032470123456".into()));
    assert_eq!(header(trunk, "Subject"), Some("(the caller's Subject)".into()));
    assert!(header(trunk, "P-Asserted-Identity").is_some_and(|value| value.to_string().contains(ALICE)));
    let failover = trunk["failover"].to_string();
    assert!(failover.contains("\"603\"") && failover.contains("no-reply"), "{failover}");
    let text = String::from_utf8(tandem(&arguments).stdout).expect("text");
    for says in ["X-Customer: alice:0032470123456", "codecs    PCMU, PCMA", "603 next", "called 00e164"] {
        assert!(text.contains(says), "{says} in {text}");
    }
    // What is shown is what is sent; and new rules need no restart.
    gateway.change(|builder| {
        let text = "[[header]]\naction = \"add\"\nheader = \"X-New\"\nvalue = \"{trunk}\"\n";
        builder.set("trunk.header", rules(text))
    });
    let answer = gateway.ask("POST", "/api/v1/reload", None);
    assert_eq!(answer.status, 200, "{}", answer.body);
    let asked = gateway.get(&format!("/api/v1/route?from=alice&to={}", MOBILE.replace('+', "%2B")));
    assert_eq!(header(&asked["outcome"]["trunks"][0], "X-New"), Some("operator-a".into()));
    alice(&lane, &gateway, "user-calls").pause(BLINK).start().succeed();
    let invite = switch.succeed().request("INVITE").clone();
    assert_eq!((invite.header("X-New"), invite.header("X-Customer")), (Some("operator-a"), None));
}

#[test]
fn a_rule_that_touches_the_dialog_is_refused_with_its_line() {
    let lane = Lane::take("rules-check");
    let builder = Gateway::on(&lane).user("alice", ALICE).trunk_with(
        "operator-a",
        ([127, 0, 0, 1], 5099).into(),
        |trunk| {
            let text = "[[header]]\naction = \"remove\"\nheader = \"m\"\n[[header]]\naction = \"add\"\n\
                        header = \"X-A\"\nvalue = \"a\\r\\nVia: x\"\n";
            trunk.set("header", rules(text));
        },
    );
    let file = builder.write();
    let checked = tandem(&["check", "--config", file.to_str().expect("a plain path")]);
    assert_eq!(checked.status.code(), Some(1));
    let said =
        String::from_utf8_lossy(&checked.stdout).into_owned() + &String::from_utf8_lossy(&checked.stderr);
    let line = |text: &str| {
        let config = std::fs::read_to_string(&file).expect("the file");
        config.lines().position(|line| line.contains(text)).expect("the line") + 1
    };
    assert!(
        said.contains(&format!(":{}: error: trunk.header.header: Contact belongs", line("header = \"m\""))),
        "{said}"
    );
    assert!(said.contains("error: trunk.header.value: a line end"), "{said}");
}
