//! Dialplan files as their writers meet them.

use super::*;
use crate::routing::NumberFormat;
use crate::types::Weekday;

fn trunks() -> Vec<TrunkForm> {
    let form = |name: &str| TrunkForm {
        name: name.into(),
        called_format: NumberFormat::PlusE164,
        calling_format: NumberFormat::PlusE164,
        screening: Default::default(),
        ..TrunkForm::default()
    };
    vec![form("operator-a"), form("operator-b")]
}

fn parse(text: &str) -> Result<LoadedDialplan, Vec<String>> {
    parse_dialplan(Path::new("d.toml"), text, trunks())
        .map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

fn errors(text: &str) -> Vec<String> {
    let problems = parse(text).expect_err("the text should be wrong");
    problems.into_iter().map(|problem| problem.replace("d.toml:", "").replace(" error: ", " ")).collect()
}

#[test]
fn a_whole_rule_is_read() {
    let loaded = parse(
        r#"
        country_code = "32"
        time_zone = "CET-1CEST,M3.5.0,M10.5.0/3"
        [[rule]]
        name = "office"
        from = "any"
        match = ["+32", "112"]
        pattern = "^\\+33[67]"
        callers = ["alice", "+322555"]
        days = ["mon-wed", "sat"]
        hours = ["08:00-12:00", "13:00-17:00"]
        called = { pattern = "^\\+32", replace = "0032" }
        calling = "+3225550000"
        trunks = ["operator-b", "operator-a"]
        order = "weighted"
        weights = [70, 30]
        "#,
    )
    .unwrap();
    let rule = &loaded.dialplan.rules[0];
    assert_eq!((rule.name.as_str(), rule.from), ("office", RuleFrom::Any));
    assert_eq!(rule.numbers.len(), 3);
    assert_eq!(rule.callers, [CallerMatch::User("alice".into()), CallerMatch::Prefix("+322555".into())]);
    assert_eq!(rule.schedule.days.last(), Some(&Weekday::Saturday));
    assert_eq!((rule.schedule.days.len(), rule.schedule.hours.len()), (4, 2));
    let entry = |index, weight| WeightedTrunk { trunk: TrunkIndex(index), weight };
    assert_eq!(
        rule.action,
        RuleAction::Trunks { trunks: vec![entry(1, 70), entry(0, 30)], order: TrunkOrder::Weighted }
    );
    assert_eq!(rule.called.as_ref().unwrap().apply("+32470"), "0032470");
    assert_eq!(rule.calling.as_ref().unwrap().apply("+331"), "+3225550000");
    assert_eq!(loaded.warnings, []);
}

#[test]
fn a_star_is_every_trunk_in_the_order_of_the_configuration() {
    let loaded = parse("[[rule]]\nmatch = \"+\"\ntrunks = [\"*\"]\n").unwrap();
    let RuleAction::Trunks { trunks, .. } = &loaded.dialplan.rules[0].action else { panic!("no trunks") };
    assert_eq!(trunks.iter().map(|entry| entry.trunk.0).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(loaded.dialplan.rules[0].name, "rule at line 1");
}

#[test]
fn mistakes_say_what_to_write() {
    let cases = [
        (
            "trunks = [\"operator-a\"]",
            "1: rule.match is missing; write match = \"+32\" (\"+\" is every international number)",
        ),
        (
            "match = \"+32\"",
            "1: the rule leads nowhere; write trunks = [\"…\"], to = \"users\", to = \"line:echo\" or reject = 403",
        ),
        (
            "match = \"+32\"\nreject = 403\nto = \"users\"",
            "3: the rule has to and reject; write only one of them",
        ),
        (
            "match = \"+32\"\nto = \"line:ecco\"",
            "3: rule.to: there is no test line \"ecco\"; did you mean \"line:echo\"?",
        ),
        (
            "match = \"+32\"\nto = \"line:operator\"",
            "3: rule.to: there is no test line \"operator\"; there are echo, tone, speech, busy, no-answer or digits",
        ),
        (
            "match = \"+32\"\nto = \"lines\"",
            "3: rule.to: \"lines\" is no place; write \"users\" or a test line, as \"line:echo\"",
        ),
        (
            "match = \"+32\"\nreject = 302",
            "3: rule.reject is 302; write a whole number from 400 to 699: the SIP status the caller gets",
        ),
        (
            "match = \"0470\"\nreject = 403",
            "2: rule.match: \"0470\" is as it is dialled; rules match the normalised number: write \"+32470\"",
        ),
        (
            "match = \"0033\"\nreject = 403",
            "2: rule.match: \"0033\" is as it is dialled; rules match the normalised number: write \"+33\"",
        ),
        (
            "match = \"32470123\"\nreject = 403",
            "2: rule.match: \"32470123\" is too long for a short code; write \"+32470123\"",
        ),
        (
            "match = \"+\"\ntrunks = [\"operator-c\"]",
            "3: rule.trunks: there is no trunk \"operator-c\"; did you mean \"operator-a\"?",
        ),
        (
            "match = \"+\"\ntrunks = [\"x\"]",
            "3: rule.trunks: there is no trunk \"x\"; the configuration has operator-a or operator-b",
        ),
        (
            "match = \"+\"\ntrunks = [\"operator-a\", \"operator-a\"]",
            "3: rule.trunks has \"operator-a\" twice",
        ),
        (
            "match = \"+\"\nfrom = \"trunk:opertor-a\"\nto = \"users\"",
            "3: rule.from: there is no trunk \"opertor-a\"; did you mean \"operator-a\"?",
        ),
        (
            "match = \"+\"\nfrom = \"everyone\"\nto = \"users\"",
            "3: rule.from: \"everyone\" is no caller; write \"users\", \"trunk:NAME\", \"trunks\" or \"any\"",
        ),
        (
            "match = \"+\"\ntrunks = [\"operator-a\"]\norder = \"cheapest\"",
            "4: rule.order: \"cheapest\" is not known; write \"listed\", \"weighted\" or \"least-cost\"",
        ),
        (
            "match = \"+\"\ntrunks = [\"*\"]\norder = \"weighted\"",
            "4: rule.weights are missing for 2 trunks; write weights = [1, 1]",
        ),
        (
            "match = \"+\"\ntrunks = [\"*\"]\norder = \"weighted\"\nweights = [1]",
            "5: rule.weights are 1 for 2 trunks; write weights = [1, 1]",
        ),
        ("match = \"+\"\nto = \"users\"\norder = \"listed\"", "4: rule.order needs trunks = [\"…\"]"),
        (
            "match = \"+\"\nreject = 403\ncalled = { pattern = \"x\" }",
            "4: rule.called.replace is missing; write replace = \"0032\" (\"\" removes)",
        ),
        (
            "match = \"+\"\nreject = 403\nhours = [\"8-18\"]",
            "4: rule.hours: \"8-18\" are no hours; write \"08:00-18:30\" (\"22:00-06:00\" passes midnight)",
        ),
        (
            "match = \"+\"\nreject = 403\nday = [\"mon\"]",
            "4: unknown key \"day\" in [rule]; did you mean \"days\"?",
        ),
        (
            "match = \"+\"\nfrom = \"trunks\"\ntrunks = [\"*\"]",
            "3: from = \"trunks\" can't lead to trunks: a call from one trunk to another needs its name; write from = \"trunk:NAME\"",
        ),
    ];
    for (rule, expected) in cases {
        // The plan comes after its rules here, so that lines count from the rule.
        let text = format!("[[rule]]\n{rule}\n");
        let found = errors_of(&text);
        assert!(found.iter().any(|found| found == expected), "expected {expected}\nfound {found:#?}");
    }
}

/// With country code 32, without moving the lines.
fn errors_of(rule: &str) -> Vec<String> {
    errors(&format!("country_code = \"32\"\n{rule}"))
        .into_iter()
        .map(|problem| {
            let (line, rest) = problem.split_once(": ").unwrap();
            format!("{}: {rest}", line.parse::<usize>().unwrap() - 1)
        })
        .collect()
}

#[test]
fn cases_and_the_plan_are_checked_too() {
    let cases = [
        ("country_code = \"+32\"", "1: country_code: \"+32\" are no digits; write country_code = \"32\""),
        (
            "[[expect]]\nfrom = \"alice\"\ndial = \"1\"",
            "1: the case expects nothing; write number = \"…\", trunks = [\"…\"], user = \"…\", line = \"echo\" or reject = 403",
        ),
        (
            "[[expect]]\nfrom = \"alice\"\nreject = 403",
            "1: expect.dial is missing; write dial = \"0470 12 34 56\"",
        ),
        (
            "[[expect]]\nfrom = \"trunk:x\"\ndial = \"1\"\nreject = 403",
            "2: expect.from: there is no trunk \"x\"; the configuration has operator-a or operator-b",
        ),
        (
            "[[expect]]\nfrom = \"a\"\ndial = \"1\"\nreject = 403\nat = \"noon\"",
            "5: expect.at: \"noon\" is no date and time; write \"2026-03-02 10:00\"",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(errors(text), [expected], "{text}");
    }
    let zone = errors("time_zone = \"Mars/Olympus\"");
    assert!(zone[0].contains("write a name as \"Europe/Brussels\""), "{zone:?}");
    assert!(errors("time_zone = \"../../etc/passwd\"")[0].contains("no time zone"));
}

#[test]
fn the_rule_of_a_zone_is_the_last_line_of_its_file() {
    let file = b"TZif2\0\0\xff\n\0\nCET-1CEST,M3.5.0,M10.5.0/3\n";
    assert_eq!(zone_of_tzif(file), "CET-1CEST,M3.5.0,M10.5.0/3".parse().ok());
    for bad in [&b"TZif2\n\n"[..], b"CET-1", b"", b"TZif2\n\xff\n", b"TZif2\nCET-1"] {
        assert_eq!(zone_of_tzif(bad), None);
    }
}

#[test]
fn a_rule_that_no_call_reaches_is_told() {
    let text = "[[rule]]\nname = \"all\"\nmatch = \"+32\"\nreject = 403\n\
                [[rule]]\nname = \"mobile\"\nmatch = \"+324\"\ntrunks = [\"*\"]\n";
    let warnings = parse(text).unwrap().warnings;
    assert_eq!(
        warnings[0].to_string(),
        "d.toml:5: warning: rule \"mobile\" is never reached: \"all\" at line 1 matches all of it; move it up"
    );
    for different in [
        text.replacen("match = \"+32\"", "match = \"+32\"\ncallers = [\"alice\"]", 1),
        text.replacen("match = \"+32\"", "match = \"+32\"\nhours = [\"08:00-09:00\"]", 1),
        text.replacen("match = \"+32\"", "match = \"+32\"\nfrom = \"trunks\"", 1),
        text.replacen("match = \"+32\"", "match = \"+325\"", 1),
    ] {
        assert_eq!(parse(&different).unwrap().warnings, [], "{different}");
    }
}

#[test]
fn a_pattern_without_an_anchor_is_warned_of() {
    let warnings = parse("[[rule]]\npattern = \"32\"\nreject = 403\n").unwrap().warnings;
    assert!(warnings[0].message.contains("begin it with ^"));
}

proptest::proptest! {
    /// Half-written files are what an editor leaves: they give problems, never a panic.
    #[test]
    fn no_text_panics(at in 0usize..4_000, with in "[\\PC\n]{0,3}") {
        let plan = include_str!("../../../dialplans/default.toml");
        let at = (0..=at.min(plan.len())).rev().find(|at| plan.is_char_boundary(*at)).unwrap_or(0);
        let _ = parse(&format!("{}{with}{}", &plan[..at], plan[at..].get(1..).unwrap_or("")));
    }
}

#[test]
fn no_rule_may_lead_an_apps_network_to_a_phone_network_or_back() {
    for (from, to) in [("app-network", "operator-a"), ("operator-a", "app-network")] {
        let text = format!(
            "country_code = \"32\"\n[[rule]]\nname = \"out\"\nfrom = \"trunk:{from}\"\nmatch = \"+32\"\ntrunks = [\"{to}\"]\n"
        );
        let mut trunks = trunks();
        trunks.push(TrunkForm { name: "app-network".into(), app_side: true, ..TrunkForm::default() });
        let problems = parse_dialplan(Path::new("d.toml"), &text, trunks).map(|_| ()).unwrap_err();
        assert!(problems[0].message.contains("app_side"), "{problems:?}");
    }
    let text = "country_code = \"32\"\n[[rule]]\nfrom = \"trunk:operator-a\"\nmatch = \"+32\"\ntrunks = [\"operator-b\"]\n";
    assert!(parse(text).is_ok());
}

#[test]
fn an_emergency_rule_says_all_that_is_needed_and_is_never_hidden() {
    let loaded = parse(
        r#"
        [[rule]]
        name = "no short codes"
        pattern = "^1"
        match = "112"
        reject = 403
        [[rule]]
        name = "help"
        emergency = true
        match = ["112", "urn:service:SOS"]
        trunks = ["*"]
        [[expect]]
        from = "alice"
        dial = "112"
        emergency = true
        "#,
    )
    .unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert!(loaded.dialplan.rules[1].emergency && loaded.expectations[0].emergency == Some(true));
    let cases = [
        (
            "match = \"urn:service:sos\"\ntrunks = [\"*\"]",
            "2: a rule for urn:service:sos needs emergency = true",
        ),
        (
            "emergency = true\nmatch = \"112\"\nreject = 403",
            "2: an emergency rule leads to trunks; write trunks = [\"…\"]",
        ),
        (
            "emergency = true\nmatch = \"urn:service:sos\"\ntrunks = [\"*\"]",
            "3: an emergency rule needs a number for trunks that want one; write match = [\"112\", …] or called = \"112\"",
        ),
    ];
    for (rule, message) in cases {
        assert_eq!(errors(&format!("[[rule]]\n{rule}\n")), [message]);
    }
    let at_night =
        "[[rule]]\nemergency = true\nmatch = \"112\"\ntrunks = [\"*\"]\nhours = [\"22:00-06:00\"]\n";
    assert_eq!(parse(at_night).unwrap().warnings.len(), 1);
}
