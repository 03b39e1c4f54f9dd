//! Header rules on plain headers.

use super::*;
use proptest::prelude::*;

const FACTS: Facts<'static> = Facts {
    called: Some("+32470123456"),
    calling: Some("+3225550001"),
    user: Some("alice"),
    account: Some("Example & Co"),
    trunk: Some("operator-a"),
    call_id: None,
};

fn headers(fields: &[(&str, &str)]) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in fields {
        headers.push(HeaderName::new(name), *value);
    }
    headers
}

fn told(headers: &Headers) -> Vec<String> {
    headers.iter().map(|(name, value)| format!("{name}: {value}")).collect()
}

fn rule(name: &str, action: Action) -> Rule {
    let scope = Scope::Requests(vec![Method::Invite]);
    Rule { side: Side::To, scope, name: HeaderName::new(name), action, when: None }
}

fn add(name: &str, value: &str) -> Rule {
    rule(name, Action::Add(value.parse().unwrap()))
}

fn pattern(text: &str) -> Pattern {
    Pattern::new(text).unwrap()
}

fn invite(rules: Vec<Rule>, headers: &mut Headers, other: Option<&Headers>) -> Carried {
    HeaderRules(rules).apply(Side::To, Kind::Request(&Method::Invite), headers, &FACTS, other)
}

#[test]
fn rules_act_in_their_order() {
    let mut message = headers(&[("s", "old"), ("X-Keep", "1"), ("X-Gone", "2"), ("x-gone", "3")]);
    let replace = Action::Replace { pattern: pattern("^(o)ld$"), with: "${1}ther".to_owned() };
    let rules = vec![
        rule("X-Gone", Action::Remove),
        rule("Subject", replace),
        add("X-Customer", "{user};account={account}"),
        rule("X-Customer", Action::Replace { pattern: pattern("alice"), with: "bob".to_owned() }),
        rule("X-Keep", Action::Set("{trunk}".parse().unwrap())),
        rule("X-Absent", Action::Set("never".parse().unwrap())),
    ];
    invite(rules, &mut message, None);
    assert_eq!(
        told(&message),
        ["Subject: other", "X-Keep: operator-a", "X-Customer: bob;account=Example%20%26%20Co"]
    );
}

#[test]
fn a_rule_acts_on_its_side_its_methods_and_its_responses_only() {
    let responses = Rule {
        scope: Scope::Responses(vec!["180".parse().unwrap(), "4xx".parse().unwrap()]),
        ..add("X-Response", "1")
    };
    let bye = Rule { scope: Scope::Requests(vec![Method::Bye]), ..add("X-Bye", "1") };
    let from = Rule { side: Side::From, ..add("X-From", "1") };
    let rules = HeaderRules(vec![add("X-Invite", "1"), responses, bye, from]);
    for (side, kind, wanted) in [
        (Side::To, Kind::Request(&Method::Invite), vec!["X-Invite: 1"]),
        (Side::To, Kind::Request(&Method::Bye), vec!["X-Bye: 1"]),
        (Side::To, Kind::Request(&Method::Update), vec![]),
        (Side::From, Kind::Request(&Method::Invite), vec!["X-From: 1"]),
        (Side::To, Kind::Response(180), vec!["X-Response: 1"]),
        (Side::To, Kind::Response(486), vec!["X-Response: 1"]),
        (Side::To, Kind::Response(200), vec![]),
        (Side::From, Kind::Response(180), vec![]),
    ] {
        let mut message = Headers::new();
        rules.apply(side, kind, &mut message, &FACTS, None);
        assert_eq!(told(&message), wanted, "{side:?} {kind:?}");
    }
}

#[test]
fn a_condition_looks_at_the_message_in_any_spelling() {
    let when =
        |name: &str, text: &str| Some(Condition { name: HeaderName::new(name), pattern: pattern(text) });
    let rules = vec![
        Rule { when: when("Subject", "^urgent"), ..add("X-Yes", "1") },
        Rule { when: when("s", "^late"), ..add("X-No", "1") },
        Rule { when: when("X-Yes", "1"), ..add("X-Then", "1") },
        Rule { when: when("X-Absent", ""), ..add("X-Absent-Too", "1") },
    ];
    let mut message = headers(&[("s", "urgent call")]);
    invite(rules, &mut message, None);
    assert_eq!(told(&message), ["Subject: urgent call", "X-Yes: 1", "X-Then: 1"]);
}

#[test]
fn only_what_a_rule_names_crosses_and_to_the_name_it_says() {
    let other = headers(&[("x-tenant", "a"), ("X-Tenant", "b"), ("X-Secret", "c"), ("Via", "inner")]);
    let mut message = Headers::new();
    let copy = |to: &str, from: &str| rule(to, Action::Copy { from: HeaderName::new(from) });
    invite(vec![copy("X-Customer", "X-Tenant"), copy("X-None", "X-Absent")], &mut message, Some(&other));
    assert_eq!(told(&message), ["X-Customer: a", "X-Customer: b"]);
    let rules = HeaderRules(vec![Rule { side: Side::From, ..copy("X-Customer", "X-Tenant") }]);
    let mut incoming = other.clone();
    let carried = rules.apply(Side::From, Kind::Request(&Method::Invite), &mut incoming, &FACTS, None);
    let names: Vec<String> = carried.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(names, ["X-Customer=a", "X-Customer=b"]);
    assert_eq!(told(&incoming), told(&other), "the message itself stays what it was");
}

#[test]
fn a_variable_without_a_value_leaves_the_rule_undone() {
    let mut message = headers(&[("X-Old", "1")]);
    invite(
        vec![add("X-Call", "{call_id}"), rule("X-Old", Action::Set("{call_id}".parse().unwrap()))],
        &mut message,
        None,
    );
    assert_eq!(told(&message), ["X-Old: 1"]);
}

#[test]
fn numbers_and_lengths_are_bounded() {
    let many: Vec<(&str, &str)> = vec![("X-Tenant", "v"); 50];
    let copy = || rule("X-Tenant", Action::Copy { from: HeaderName::new("X-Tenant") });
    let mut message = Headers::new();
    invite(vec![copy()], &mut message, Some(&headers(&many)));
    assert_eq!(message.len(), MOST_COPIES);
    let long = "x".repeat(LONGEST_VALUE + 1);
    let mut message = Headers::new();
    invite(vec![copy()], &mut message, Some(&headers(&[("X-Tenant", &long)])));
    assert_eq!(message.len(), 0);
    let wide = "x".repeat(LONGEST_VALUE);
    let other = headers(&[("X-Tenant", wide.as_str()); 10]);
    let mut message = Headers::new();
    invite(vec![copy(), copy(), copy()], &mut message, Some(&other));
    let added: usize = message.iter().map(|(_, value)| value.len()).sum();
    assert_eq!(added, MOST_ADDED);
}

#[test]
fn wrong_values_say_what_may_be_written() {
    for (text, says) in [
        ("", "value = "),
        ("a\r\nEvil: 1", "one line"),
        ("a\tb", "one line"),
        ("{tenant}", "{called} {calling} {user} {account} {trunk} {call_id}"),
        ("{called", "is no variable"),
    ] {
        assert!(text.parse::<Template>().unwrap_err().contains(says), "{text}");
    }
    assert!("x".repeat(600).parse::<Template>().unwrap_err().contains("512"));
    for text in ["", "7xx", "0xx", "99", "100", "700", "2x", "+180"] {
        assert!(text.parse::<Status>().unwrap_err().contains("2xx"), "{text}");
    }
    assert!(Pattern::new("(").is_err());
    assert!(Pattern::new("(a{1000}){1000}").is_err(), "no pattern costs more than it may");
}

#[test]
fn what_a_dialog_stands_on_is_nobodys_to_rule() {
    for name in [
        "v",
        "Route",
        "Record-Route",
        "f",
        "t",
        "i",
        "CSeq",
        "m",
        "l",
        "c",
        "Max-Forwards",
        "Authorization",
        "Proxy-Authorization",
        "Require",
        "k",
        "x",
        "Min-SE",
        "RAck",
        "r",
        "Replaces",
        "y",
        "User-Agent",
    ] {
        assert!(!may_be_ruled(&HeaderName::new(name)), "{name}");
    }
    for name in
        ["X-Any", "Subject", "P-Asserted-Identity", "Reason", "Alert-Info", "User-to-User", "Priority"]
    {
        assert!(may_be_ruled(&HeaderName::new(name)), "{name}");
    }
    assert!(!may_be_copied(&HeaderName::PAssertedIdentity) && !may_be_copied(&HeaderName::Via));
    assert!(may_be_copied(&HeaderName::new("X-Any")));
}

proptest! {
    /// Whatever callers and far ends write, a rule makes one field of it that ends no line.
    #[test]
    fn no_value_brings_a_field_of_its_own(
        user in "[\\x00-\\x7f]{0,20}",
        far in "[\\x00-\\x7f\\u{80}-\\u{9f}]{0,20}",
        with in "[\\x00-\\x7f]{0,20}",
    ) {
        let mut message = Headers::new();
        let mut other = Headers::new();
        other.push(HeaderName::new("X-Tenant"), far);
        let facts = Facts { user: Some(&user), ..FACTS };
        let rules = HeaderRules(vec![
            add("X-User", "<sip:{user}@example.org>"),
            rule("X-Tenant", Action::Copy { from: HeaderName::new("X-Tenant") }),
            rule("X-Tenant", Action::Replace { pattern: pattern(".*"), with }),
        ]);
        rules.apply(Side::To, Kind::Request(&Method::Invite), &mut message, &facts, Some(&other));
        for (name, value) in message.iter() {
            prop_assert!(!value.chars().any(char::is_control), "{name}: {value:?}");
        }
        let user = message.get(&HeaderName::new("X-User"));
        prop_assert!(user.is_none_or(|value| value.matches(['<', '>', '"']).count() == 2));
        prop_assert!(message.len() <= 2);
    }
}
