//! Where calls go, rule by rule.

use super::*;
use crate::{
    routing::{Hours, NumberMatch, NumberPlan, Rewrite, RuleFrom, Schedule, TrunkForm, WeightedTrunk},
    types::{TimeZone, Weekday},
};
use proptest::prelude::*;
use regex_lite::Regex;

/// alice has +3225550001 and presents it or +3225550009; bob has +3225550002.
struct Users;

impl Subscribers for Users {
    fn is_user(&self, name: &str) -> bool {
        ["alice", "bob", "1001"].contains(&name)
    }
    fn user_of_did(&self, did: &E164) -> Option<String> {
        match did.as_str() {
            "+3225550001" => Some("alice".into()),
            "+3225550002" => Some("bob".into()),
            _ => None,
        }
    }
}

const A: TrunkIndex = TrunkIndex(0);
const B: TrunkIndex = TrunkIndex(1);

fn trunks(list: &[TrunkIndex]) -> RuleAction {
    RuleAction::Trunks {
        trunks: list.iter().map(|trunk| WeightedTrunk { trunk: *trunk, weight: 1 }).collect(),
        order: TrunkOrder::Listed,
    }
}

fn rule(name: &str, from: RuleFrom, prefix: &str, action: RuleAction) -> Rule {
    Rule {
        name: name.into(),
        emergency: false,
        from,
        numbers: vec![NumberMatch::Prefix(prefix.into())],
        routing_numbers: vec![],
        callers: vec![],
        schedule: Schedule::default(),
        called: None,
        calling: None,
        action,
    }
}

fn plan(rules: Vec<Rule>) -> Dialplan {
    let form = |name: &str, called_format, calling_format| TrunkForm {
        name: name.into(),
        called_format,
        calling_format,
        screening: Default::default(),
        app_side: false,
        emergency_format: EmergencyFormat::Number,
    };
    Dialplan {
        numbers: NumberPlan { country_code: "32".into(), ..NumberPlan::default() },
        zone: TimeZone::UTC,
        trunks: vec![
            form("a", NumberFormat::PlusE164, NumberFormat::PlusE164),
            form("b", NumberFormat::National, NumberFormat::E164),
        ],
        rules,
    }
}

fn caller_ids() -> Vec<E164> {
    ["+3225550001", "+3225550009"].map(|number| number.parse().unwrap()).to_vec()
}

/// alice calls, presenting `calling`.
fn user_call(plan: &Dialplan, called: &str, calling: Option<&str>) -> RouteDecision {
    let caller_ids = caller_ids();
    let caller = Caller::User { name: "alice", caller_ids: &caller_ids };
    plan.explain(
        &RouteRequest { caller, called, calling, asserted: None, unix_ms: 0, draw: 0 },
        &Users,
        &|_, _| None,
    )
}

fn trunk_call(plan: &Dialplan, trunk: TrunkIndex, called: &str, calling: Option<&str>) -> RouteDecision {
    let request =
        RouteRequest { caller: Caller::Trunk(trunk), called, calling, asserted: None, unix_ms: 0, draw: 0 };
    plan.explain(&request, &Users, &|_, _| None)
}

fn candidates(decision: &RouteDecision) -> Vec<(&str, &str, Option<&str>)> {
    match &decision.outcome {
        RouteOutcome::Trunks(list) => list
            .iter()
            .map(|one| (if one.trunk == A { "a" } else { "b" }, one.called.as_str(), one.calling.as_deref()))
            .collect(),
        RouteOutcome::User { .. } | RouteOutcome::Line(_) | RouteOutcome::Reject { .. } => vec![],
    }
}

fn cause(decision: &RouteDecision) -> Option<(u16, EndCause)> {
    match &decision.outcome {
        RouteOutcome::Reject { status, cause, .. } => Some((*status, *cause)),
        RouteOutcome::Trunks(_) | RouteOutcome::User { .. } | RouteOutcome::Line(_) => None,
    }
}

fn user(decision: &RouteDecision) -> Option<&str> {
    match &decision.outcome {
        RouteOutcome::User { name } => Some(name),
        RouteOutcome::Trunks(_) | RouteOutcome::Line(_) | RouteOutcome::Reject { .. } => None,
    }
}

#[test]
fn a_test_line_is_for_whom_its_rule_names_and_needs_no_subscriber() {
    let plan = plan(vec![
        rule("echo", RuleFrom::Any, "+3225559901", RuleAction::Line(TestLine::Echo)),
        rule("tone", RuleFrom::Trunk(A), "+3225559902", RuleAction::Line(TestLine::Tone)),
    ]);
    let line = |decision: &RouteDecision| match decision.outcome {
        RouteOutcome::Line(line) => Some(line),
        RouteOutcome::Trunks(_) | RouteOutcome::User { .. } | RouteOutcome::Reject { .. } => None,
    };
    let decision = user_call(&plan, "02 555 99 01", None);
    assert_eq!(line(&decision), Some(TestLine::Echo));
    assert!(decision.explain.last().unwrap().contains("test line \"echo\""), "{:?}", decision.explain);
    assert_eq!(line(&trunk_call(&plan, B, "+3225559901", None)), Some(TestLine::Echo));
    assert_eq!(line(&trunk_call(&plan, A, "+3225559902", None)), Some(TestLine::Tone));
    assert_eq!(cause(&trunk_call(&plan, B, "+3225559902", None)), Some((404, EndCause::NoRoute)));
    assert_eq!(cause(&user_call(&plan, "02 555 99 02", None)), Some((404, EndCause::NoRoute)));
}

#[test]
fn each_trunk_gets_the_numbers_in_its_own_form() {
    let plan = plan(vec![rule("Belgium", RuleFrom::Users, "+32", trunks(&[A, B]))]);
    let decision = user_call(&plan, "0470 12 34 56", None);
    assert_eq!(
        candidates(&decision),
        [("a", "+32470123456", Some("+3225550001")), ("b", "0470123456", Some("3225550001"))]
    );
    assert_eq!(decision.number, Some("+32470123456".parse().unwrap()));
    assert_eq!(decision.rule.as_deref(), Some("Belgium"));
}

#[test]
fn the_first_rule_that_matches_decides() {
    let plan = plan(vec![
        rule("premium", RuleFrom::Users, "+32900", RuleAction::Reject(403)),
        rule("Belgium", RuleFrom::Users, "+32", trunks(&[A])),
    ]);
    assert_eq!(cause(&user_call(&plan, "0900 12345", None)), Some((403, EndCause::Blocked)));
    assert_eq!(candidates(&user_call(&plan, "0800 12345", None)).len(), 1);
}

#[test]
fn no_route_blocked_unknown_and_invalid_numbers_have_their_own_causes() {
    let plan = plan(vec![
        rule("ours", RuleFrom::Any, "+322555", RuleAction::Users),
        rule("not acceptable", RuleFrom::Users, "+33", RuleAction::Reject(406)),
    ]);
    let said = |called| cause(&user_call(&plan, called, None));
    assert_eq!(said("+441632960123"), Some((404, EndCause::NoRoute)));
    assert_eq!(said("+33123456789"), Some((406, EndCause::Blocked)));
    assert_eq!(said("+3225559999"), Some((604, EndCause::UnknownNumber)));
    assert_eq!(said("carol"), Some((404, EndCause::NumberNotFound)), "a name that nobody has");
    assert_eq!(said("470123456"), Some((484, EndCause::InvalidNumber)));
    assert_eq!(said("*21#"), Some((484, EndCause::InvalidNumber)));
    assert_eq!(said(""), Some((484, EndCause::InvalidNumber)));
}

#[test]
fn users_reach_each_other_by_name_or_did_without_a_rule() {
    let plan = plan(vec![rule("all", RuleFrom::Users, "+", trunks(&[A]))]);
    for called in ["bob", "+3225550002", "02 555 00 02", "003225550002"] {
        assert_eq!(user(&user_call(&plan, called, None)), Some("bob"), "{called}");
    }
    assert_eq!(user(&user_call(&plan, "1001", None)), Some("1001"), "a name may be digits");
}

#[test]
fn a_trunk_reaches_users_by_rule_and_by_did_only() {
    let open = plan(vec![rule("ours", RuleFrom::Trunk(A), "+322555", RuleAction::Users)]);
    assert_eq!(user(&trunk_call(&open, A, "+3225550001", None)), Some("alice"));
    assert_eq!(cause(&trunk_call(&open, A, "+3225559999", None)), Some((604, EndCause::UnknownNumber)));
    assert_eq!(cause(&trunk_call(&open, A, "alice", None)), Some((484, EndCause::InvalidNumber)));
    assert_eq!(cause(&trunk_call(&open, B, "+3225550001", None)), Some((404, EndCause::NoRoute)));
    assert_eq!(cause(&trunk_call(&plan(vec![]), A, "+3225550001", None)), Some((404, EndCause::NoRoute)));
}

#[test]
fn a_trunk_reaches_another_only_where_a_rule_names_it() {
    for from in [RuleFrom::Users, RuleFrom::Any, RuleFrom::AnyTrunk, RuleFrom::Trunk(B)] {
        let plan = plan(vec![rule("out", from, "+", trunks(&[B]))]);
        assert_eq!(
            cause(&trunk_call(&plan, A, "+441632960123", None)),
            Some((404, EndCause::NoRoute)),
            "{from:?}"
        );
    }
    let plan = plan(vec![rule("transit", RuleFrom::Trunk(A), "+44", trunks(&[B]))]);
    let decision = trunk_call(&plan, A, "+441632960123", Some("+32470123456"));
    assert_eq!(candidates(&decision), [("b", "00441632960123", Some("32470123456"))]);
    assert_eq!(decision.direction(Caller::Trunk(A)), Some(Direction::TrunkToTrunk));
}

#[test]
fn a_trunks_numbers_are_read_in_its_formats() {
    let plan = plan(vec![rule("ours", RuleFrom::AnyTrunk, "+322555", RuleAction::Users)]);
    let decision = trunk_call(&plan, B, "025550001", Some("441632960123"));
    assert_eq!(user(&decision), Some("alice"));
    assert_eq!(decision.calling, Some("+441632960123".parse().unwrap()));
    assert_eq!(trunk_call(&plan, B, "025550001", Some("anonymous")).calling, None);
    assert_eq!(decision.direction(Caller::Trunk(B)), Some(Direction::TrunkToApp));
}

#[test]
fn a_user_presents_only_its_own_numbers() {
    let plan = plan(vec![rule("all", RuleFrom::Users, "+", trunks(&[A]))]);
    let presented = |calling| user_call(&plan, "+441632960123", calling).calling.unwrap().to_string();
    assert_eq!(presented(None), "+3225550001");
    assert_eq!(presented(Some("+3225550009")), "+3225550009");
    assert_eq!(presented(Some("02 555 00 09")), "+3225550009");
    for stolen in ["+3225550002", "alice", "anonymous", "+322555000", "+32255500099"] {
        assert_eq!(presented(Some(stolen)), "+3225550001", "{stolen}");
    }
    let caller = Caller::User { name: "carol", caller_ids: &[] };
    let request = RouteRequest {
        caller,
        called: "+441632960123",
        calling: Some("+3225550001"),
        asserted: None,
        unix_ms: 0,
        draw: 0,
    };
    let decision = plan.route(&request, &Users, &|_, _| None);
    assert_eq!(candidates(&decision), [("a", "+441632960123", None)]);
    assert_eq!(decision.explain, Vec::<String>::new(), "explaining is for those who ask");
}

#[test]
fn rewrites_change_what_is_dialled_and_presented() {
    let mut rewriting = rule("out", RuleFrom::Users, "+32", trunks(&[A, B]));
    rewriting.called =
        Some(Rewrite::Replace { pattern: Regex::new(r"^\+320?(\d+)$").unwrap(), with: "+33$1".into() });
    rewriting.calling = Some(Rewrite::Fixed("+3225550000".into()));
    let decision = user_call(&plan(vec![rewriting.clone()]), "0470123456", None);
    assert_eq!(decision.number, Some("+33470123456".parse().unwrap()));
    assert_eq!(
        candidates(&decision),
        [("a", "+33470123456", Some("+3225550000")), ("b", "0033470123456", Some("3225550000"))]
    );
    // What is no E.164 number goes out as it is, to each trunk alike.
    rewriting.called = Some(Rewrite::Replace { pattern: Regex::new(r"^\+32").unwrap(), with: "9#0".into() });
    rewriting.calling = Some(Rewrite::Fixed(String::new()));
    let decision = user_call(&plan(vec![rewriting]), "0470123456", None);
    assert_eq!(candidates(&decision), [("a", "9#0470123456", None), ("b", "9#0470123456", None)]);
    assert_eq!((decision.number, decision.calling), (None, None));
}

#[test]
fn a_rule_to_users_looks_up_the_rewritten_number() {
    let mut hotline = rule("hotline", RuleFrom::AnyTrunk, "+328001", RuleAction::Users);
    hotline.called = Some(Rewrite::Fixed("+3225550002".into()));
    assert_eq!(user(&trunk_call(&plan(vec![hotline]), A, "+3280012345", None)), Some("bob"));
}

#[test]
fn callers_days_and_hours_narrow_a_rule() {
    let mut night = rule("night", RuleFrom::Users, "+32", trunks(&[B]));
    // The epoch is a Thursday, 00:00 UTC.
    night.schedule =
        Schedule { days: vec![Weekday::Wednesday], hours: vec![Hours { begin: 1_320, end: 360 }] };
    let mut bobs = rule("bob's", RuleFrom::Users, "+32", RuleAction::Reject(403));
    bobs.callers = vec![CallerMatch::User("bob".into()), CallerMatch::Prefix("+33".into())];
    let day = rule("day", RuleFrom::Users, "+32", trunks(&[A]));
    let plan = plan(vec![bobs, night, day]);
    let caller_ids = caller_ids();
    let at = |name, unix_ms| {
        let caller = Caller::User { name, caller_ids: &caller_ids };
        let request =
            RouteRequest { caller, called: "0470123456", calling: None, asserted: None, unix_ms, draw: 0 };
        plan.explain(&request, &Users, &|_, _| None)
    };
    assert_eq!(at("alice", 0).rule.as_deref(), Some("night"));
    assert_eq!(at("alice", 6 * 3_600_000).rule.as_deref(), Some("day"));
    assert_eq!(at("bob", 0).rule.as_deref(), Some("bob's"));
    let explain = at("alice", 6 * 3_600_000).explain.join("\n");
    assert!(explain.contains("rule \"bob's\" matches the number, but not the caller"), "{explain}");
    assert!(explain.contains("rule \"night\" matches the number, but not at this time"), "{explain}");
}

#[test]
fn short_codes_match_whole_and_go_out_as_they_are() {
    let mut emergency = rule("emergency", RuleFrom::Users, "", trunks(&[B]));
    emergency.numbers = vec![NumberMatch::Short("112".into())];
    let plan = plan(vec![emergency]);
    assert_eq!(candidates(&user_call(&plan, "112", None)), [("b", "112", Some("3225550001"))]);
    assert_eq!(cause(&user_call(&plan, "1120", None)), Some((404, EndCause::NoRoute)));
}

#[test]
fn the_cheapest_trunk_goes_first_where_the_rule_wants_it() {
    let mut cheap = rule("cheap", RuleFrom::Users, "+", trunks(&[A, B]));
    if let RuleAction::Trunks { order, .. } = &mut cheap.action {
        *order = TrunkOrder::LeastCost;
    }
    let plan = plan(vec![cheap]);
    let caller = Caller::User { name: "alice", caller_ids: &[] };
    let request =
        RouteRequest { caller, called: "+441632960123", calling: None, asserted: None, unix_ms: 0, draw: 0 };
    let decision = plan.explain(&request, &Users, &|trunk, _| Some(if trunk == A { 20 } else { 10 }));
    let RouteOutcome::Trunks(list) = &decision.outcome else { panic!("{:?}", decision.outcome) };
    assert_eq!(
        list.iter().map(|one| (one.trunk, one.cost)).collect::<Vec<_>>(),
        [(B, Some(10)), (A, Some(20))]
    );
}

#[test]
fn the_explanation_says_every_step() {
    let plan = plan(vec![rule("Belgium", RuleFrom::Users, "+32", trunks(&[A]))]);
    assert_eq!(
        user_call(&plan, "0470 12 34 56", Some("+3225550002")).explain,
        [
            "alice may not present +3225550002: it is none of its caller_ids",
            "alice calls as +3225550001, the first of its caller_ids",
            "\"0470 12 34 56\" is the number +32470123456",
            "rule \"Belgium\" matches",
            "1. trunk a (as listed): called +32470123456, calling +3225550001",
        ]
    );
}

proptest! {
    /// Whatever a stranger on a trunk dials, it never leaves through a trunk that no rule of its own names.
    #[test]
    fn a_trunk_never_calls_out_by_a_rule_that_does_not_name_it(called in "\\PC{0,20}|\\+?[0-9]{1,18}", any: bool) {
        let from = if any { RuleFrom::Any } else { RuleFrom::AnyTrunk };
        let plan = plan(vec![
            rule("ours", from, "+322555", RuleAction::Users),
            rule("out", from, "+", trunks(&[A, B])),
            rule("users", RuleFrom::Users, "+", trunks(&[A, B])),
        ]);
        prop_assert!(candidates(&trunk_call(&plan, A, &called, None)).is_empty());
    }

    /// Whatever a user claims to be, what goes out is one of its own numbers.
    #[test]
    fn a_user_never_presents_a_foreign_number(calling in "\\PC{0,20}|\\+?[0-9]{1,18}") {
        let plan = plan(vec![rule("out", RuleFrom::Users, "+", trunks(&[A]))]);
        let decision = user_call(&plan, "+441632960123", Some(&calling));
        prop_assert!(caller_ids().contains(decision.calling.as_ref().unwrap()));
    }
}

#[test]
fn an_apps_network_and_a_phone_network_never_meet() {
    // No configuration has such a rule; should one ever come about, the call is refused all the same.
    for (from, to) in [(A, B), (B, A)] {
        let transit = rule("transit", RuleFrom::Trunk(from), "+3247", trunks(&[to]));
        let mut plan = super::tests::plan(vec![transit]);
        assert!(matches!(trunk_call(&plan, from, "+32470123456", None).outcome, RouteOutcome::Trunks(_)));
        plan.trunks[0].app_side = true;
        let decision = trunk_call(&plan, from, "+32470123456", None);
        assert!(
            matches!(decision.outcome, RouteOutcome::Reject { status: 403, cause: EndCause::Blocked, .. }),
            "{decision:?}"
        );
    }
}

/// Emergency calls to 112 and to any service over both trunks, police over one of them, at the end of a plan with a ban.
fn helping() -> Dialplan {
    let emergency = |name: &str, from, numbers: &[&str], to: &[TrunkIndex]| Rule {
        emergency: true,
        numbers: numbers
            .iter()
            .map(|text| match crate::routing::service(text) {
                Some(service) => NumberMatch::Service(service),
                None => NumberMatch::Short((*text).to_owned()),
            })
            .collect(),
        ..rule(name, from, "", trunks(to))
    };
    let mut plan = plan(vec![
        Rule {
            numbers: vec![NumberMatch::Pattern(Regex::new("^1").unwrap())],
            ..rule("ban", RuleFrom::Any, "", RuleAction::Reject(403))
        },
        emergency("police", RuleFrom::Users, &["101", "urn:service:sos.police"], &[B]),
        emergency("help", RuleFrom::Users, &["112", "1001", "urn:service:sos"], &[A, B]),
        emergency("transit", RuleFrom::Trunk(A), &["112"], &[B]),
    ]);
    plan.trunks[1].emergency_format = EmergencyFormat::Urn;
    plan
}

fn called_at_trunks(decision: &RouteDecision) -> Vec<&str> {
    match &decision.outcome {
        RouteOutcome::Trunks(candidates) => candidates.iter().map(|one| one.called.as_str()).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_call_for_help_comes_before_bans_names_and_numbers_and_each_trunk_reads_it_in_its_own_way() {
    let plan = helping();
    for (dialled, rule, called) in [
        ("112", "help", vec!["112", "urn:service:sos"]),
        ("1 1 2", "help", vec!["112", "urn:service:sos"]),
        // There is a user of this name.
        ("1001", "help", vec!["1001", "urn:service:sos"]),
        ("URN:service:sos.Fire", "help", vec!["112", "urn:service:sos.fire"]),
        ("101", "police", vec!["urn:service:sos.police"]),
        ("urn:service:sos.police.federal", "police", vec!["urn:service:sos.police.federal"]),
    ] {
        let decision = user_call(&plan, dialled, None);
        assert!(decision.emergency, "{dialled}");
        assert_eq!(decision.rule.as_deref(), Some(rule), "{dialled}");
        assert_eq!(called_at_trunks(&decision), called, "{dialled}");
    }
    let other = user_call(&plan, "118", None);
    assert!(!other.emergency && matches!(other.outcome, RouteOutcome::Reject { status: 403, .. }));
}

#[test]
fn a_service_that_no_rule_names_is_helped_all_the_same_and_none_is_help_without_such_a_rule() {
    let mut plan = helping();
    plan.rules.remove(2);
    assert_eq!(called_at_trunks(&user_call(&plan, "urn:service:sos.fire", None)), ["urn:service:sos.fire"]);
    plan.rules.retain(|rule| !rule.emergency);
    let none = user_call(&plan, "urn:service:sos", None);
    assert!(!none.emergency && matches!(none.outcome, RouteOutcome::Reject { .. }));
    assert!(!plan.is_emergency_number("urn:service:sos") && helping().is_emergency_number("112"));
}

#[test]
fn who_calls_for_help_through_a_trunk_may_call_with_any_number() {
    let mut plan = helping();
    plan.trunks[0].screening = crate::routing::Screening {
        ranges: vec!["+3225550".into()],
        default: None,
        action: crate::routing::ScreeningAction::Reject,
    };
    let decision = trunk_call(&plan, A, "112", Some("+33123456789"));
    assert!(
        decision.emergency
            && decision.calling.as_ref().is_some_and(|number| number.as_str() == "+33123456789")
    );
    assert!(plan.carries_emergency_calls(B));
}

#[test]
fn a_service_code_with_the_context_of_its_country_is_a_call_for_help() {
    let plan = helping();
    for dialled in ["112;phone-context=+32", "tel:112;phone-context=+32"] {
        let decision = user_call(&plan, dialled, None);
        assert!(decision.emergency && plan.is_emergency_number(dialled), "{dialled}");
        assert_eq!(candidates(&decision)[0].1, "112");
    }
    assert!(!user_call(&plan, "470123456;phone-context=+32", None).emergency);
}

#[test]
fn a_ported_number_goes_where_its_routing_number_leads() {
    let mut ported = rule("ported", RuleFrom::Trunk(A), "+32", trunks(&[B]));
    ported.routing_numbers = vec!["+3299".into()];
    let plan = plan(vec![
        ported,
        rule("others", RuleFrom::Trunk(A), "+32", RuleAction::Reject(403)),
        rule("users", RuleFrom::Users, "+32", trunks(&[A])),
    ]);
    let taken = |called: &str| trunk_call(&plan, A, called, None).rule;
    for called in [
        "+32470123456;npdi;rn=+32-99-1234",
        "tel:+32470123456;rn=991234;rn-context=+32",
        "+32470123456;RN=+3299",
    ] {
        assert_eq!(taken(called).as_deref(), Some("ported"), "{called}");
    }
    for called in [
        "+32470123456",
        "+32470123456;npdi",
        "+32470123456;rn=991234",
        "+32470123456;rn=+3288",
        "+32470123456;rn=",
    ] {
        assert_eq!(taken(called).as_deref(), Some("others"), "{called}");
    }
    // What a device says of it counts for nothing, and does no harm.
    let decision = user_call(&plan, "+32470123456;npdi;rn=+32991234", None);
    assert_eq!((decision.rule.as_deref(), candidates(&decision)[0].1), (Some("users"), "+32470123456"));
    assert_eq!(user_call(&plan, "bob;rn=+3299", None).outcome, RouteOutcome::User { name: "bob".into() });
    let local = trunk_call(&plan, A, "470123456;phone-context=+32", None);
    assert_eq!(local.number.as_ref().map(E164::as_str), Some("+32470123456"));
}
