//! Reads a dialplan file: its rules, and the cases it must pass.

use super::{
    problem::Problem,
    source::{At, Section, Source, Span, nearest},
    values::{or_list, word},
};
use crate::{
    routing::{
        CallerMatch, Dialplan, NumberMatch, NumberPlan, Rewrite, Rule, RuleAction, RuleFrom, Schedule,
        TrunkForm, TrunkIndex, TrunkOrder, WeightedTrunk, parse_days, service,
    },
    types::{TestLine, TimeZone, WallClock},
};
use regex_lite::Regex;
use std::path::Path;

/// A dialplan and what it promises.
#[derive(Debug, Clone)]
pub struct LoadedDialplan {
    pub dialplan: Dialplan,
    pub expectations: Vec<Expectation>,
    pub warnings: Vec<Problem>,
}

/// One `[[expect]]`: a call, and what must come of it. What is `None` is not checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Expectation {
    pub line: usize,
    pub from: ExpectFrom,
    pub dial: String,
    /// What the caller's phone presents as its own number.
    pub presents: Option<String>,
    pub at: WallClock,
    pub rule: Option<String>,
    pub number: Option<String>,
    /// What the first trunk is sent as the called number.
    pub called: Option<String>,
    /// What the first trunk is sent as the calling number; empty: none.
    pub calling: Option<String>,
    pub trunks: Option<Vec<String>>,
    pub user: Option<String>,
    pub test_line: Option<TestLine>,
    pub reject: Option<u16>,
    /// Whether no limit may hold it.
    pub emergency: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExpectFrom {
    User(String),
    Trunk(TrunkIndex),
}

/// Monday, 5 January 2026, noon: cases without `at` must not depend on when they are run.
const NOON: WallClock = WallClock { year: 2026, month: 1, day: 5, hour: 12, minute: 0 };

/// Where the system keeps its time zones.
const ZONES: &str = "/usr/share/zoneinfo";

/// Reads a dialplan file against the configured trunks.
///
/// # Errors
/// Every problem of the file, in the order of its lines. Its `[[expect]]` cases are read, not run.
pub fn load_dialplan(file: &Path, trunks: Vec<TrunkForm>) -> Result<LoadedDialplan, Vec<Problem>> {
    match std::fs::read_to_string(file) {
        Ok(text) => parse_dialplan(file, &text, trunks),
        Err(error) => Err(vec![Problem::error(
            file,
            None,
            format!("{error}; write the path of a dialplan: dialplan = \"../dialplans/default.toml\""),
        )]),
    }
}

/// Reads the text of a dialplan file.
///
/// # Errors
/// As [`load_dialplan`].
pub fn parse_dialplan(
    file: &Path,
    text: &str,
    trunks: Vec<TrunkForm>,
) -> Result<LoadedDialplan, Vec<Problem>> {
    let source = Source::new(file, text);
    let root = source.parse(text);
    let mut dialplan = Dialplan::empty(trunks);
    let expectations;
    {
        let top = Section::top(&source, &root);
        dialplan.numbers = number_plan(&top);
        dialplan.zone = top.parsed("time_zone", time_zone).unwrap_or(TimeZone::UTC);
        let mut lines = Vec::new();
        for section in top.sections("rule") {
            let line = source.line(section.span().start);
            dialplan.rules.extend(rule(section, &dialplan, line).inspect(|_| lines.push(line)));
        }
        shadowed(&source, &dialplan, &lines);
        expectations = top
            .sections("expect")
            .into_iter()
            .filter_map(|section| expectation(section, &dialplan))
            .collect();
        top.finish();
    }
    drop(root);
    let (problems, ..) = source.finish();
    if problems.iter().any(Problem::is_error) {
        return Err(problems);
    }
    Ok(LoadedDialplan { dialplan, expectations, warnings: problems })
}

fn number_plan(top: &Section<'_>) -> NumberPlan {
    let default = NumberPlan::default();
    let digits = |key, longest: usize, example: &'static str| {
        top.parsed(key, move |text| {
            if text.len() <= longest && text.bytes().all(|b| b.is_ascii_digit()) {
                Ok(text.to_owned())
            } else {
                Err(format!("\"{text}\" are no digits; write {key} = \"{example}\""))
            }
        })
    };
    NumberPlan {
        country_code: digits("country_code", 3, "32").unwrap_or(default.country_code),
        national_prefix: digits("national_prefix", 4, "0").unwrap_or(default.national_prefix),
        international_prefix: digits("international_prefix", 6, "00").unwrap_or(default.international_prefix),
    }
}

/// A POSIX rule, or the name of a zone whose rule the system knows.
fn time_zone(text: &str) -> Result<TimeZone, String> {
    if let Ok(zone) = text.parse() {
        return Ok(zone);
    }
    let fine = text.split('/').all(|part| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'+'))
    });
    let file = fine.then(|| std::fs::read(Path::new(ZONES).join(text)).ok()).flatten();
    let rule = file.as_deref().and_then(zone_of_tzif);
    rule.ok_or_else(|| {
        format!(
            "\"{text}\" is no time zone of this system; write a name as \"Europe/Brussels\" (Debian's tzdata has \
             them) or a POSIX rule as \"CET-1CEST,M3.5.0,M10.5.0/3\""
        )
    })
}

/// RFC 8536 §3.3: a TZif file ends with its POSIX rule between two line ends.
fn zone_of_tzif(bytes: &[u8]) -> Option<TimeZone> {
    let rest = bytes.starts_with(b"TZif").then_some(bytes)?.strip_suffix(b"\n")?;
    std::str::from_utf8(rest.rsplit(|b| *b == b'\n').next()?).ok()?.parse().ok()
}

const ORDERS: [(&str, TrunkOrder); 3] = [
    ("listed", TrunkOrder::Listed),
    ("weighted", TrunkOrder::Weighted),
    ("least-cost", TrunkOrder::LeastCost),
];

fn rule(section: Section<'_>, plan: &Dialplan, line: usize) -> Option<Rule> {
    let s = &section;
    let name = s.text("name").map(|name| name.value).filter(|name| !name.is_empty());
    let name = name.unwrap_or_else(|| format!("rule at line {line}"));
    let from = s.parsed("from", |text| rule_from(text, plan));
    let numbers = numbers(s, &plan.numbers);
    let routing_numbers = s.values("match_rn", Vec::new(), super::values::number_prefix);
    let callers = s.values("callers", Vec::new(), caller);
    let days = s.values("days", Vec::new(), parse_days).concat();
    let hours = s.values("hours", Vec::new(), str::parse);
    let called = rewrite(s, "called");
    let calling = rewrite(s, "calling");
    let action = action(s, plan);
    let emergency = s.flag("emergency", false);
    let from_trunks = matches!(from, Some(RuleFrom::AnyTrunk));
    if from_trunks && matches!(action, Some(RuleAction::Trunks { .. })) {
        s.error(
            s.place("from"),
            "from = \"trunks\" can't lead to trunks: a call from one trunk to another needs its name; \
             write from = \"trunk:NAME\"",
        );
    }
    if let (Some(RuleFrom::Trunk(caller)), Some(RuleAction::Trunks { trunks, .. })) = (from, &action) {
        for trunk in
            trunks.iter().map(|weighted| weighted.trunk).filter(|trunk| !plan.may_meet(caller, *trunk))
        {
            s.error(
                s.place("trunks"),
                format!(
                    "calls of \"{}\" may not reach \"{}\": one of them is an app's network (app_side), the other a \
                     phone network; take it out of trunks",
                    plan.trunk_name(caller),
                    plan.trunk_name(trunk)
                ),
            );
        }
    }
    let wrong_from = s.has("from") && from.is_none();
    let rule = (!wrong_from && !numbers.is_empty()).then(|| action.map(|action| (action, numbers))).flatten();
    let rule = rule.map(|(action, numbers)| Rule {
        name,
        emergency,
        from: from.unwrap_or(RuleFrom::Users),
        numbers,
        routing_numbers,
        callers,
        schedule: Schedule { days, hours },
        called,
        calling,
        action,
    });
    if let Some(rule) = &rule {
        check_emergency(s, rule);
    }
    section.finish();
    rule
}

/// An emergency call must get through, so its rule has to say everything.
fn check_emergency(s: &Section<'_>, rule: &Rule) {
    let names_service = rule.numbers.iter().any(|number| match number {
        NumberMatch::Service(_) => true,
        NumberMatch::Prefix(_) | NumberMatch::Short(_) | NumberMatch::Pattern(_) => false,
    });
    if !rule.emergency {
        if names_service {
            s.error(s.place("match"), "a rule for urn:service:sos needs emergency = true");
        }
        return;
    }
    match rule.action {
        RuleAction::Trunks { .. } => {}
        RuleAction::Users | RuleAction::Line(_) | RuleAction::Reject(_) => {
            s.error(s.place("emergency"), "an emergency rule leads to trunks; write trunks = [\"…\"]");
        }
    }
    if rule.called.is_none() && rule.own_number().is_none() {
        s.error(
            s.place("match"),
            "an emergency rule needs a number for trunks that want one; write match = [\"112\", …] or called = \"112\"",
        );
    }
    if !rule.callers.is_empty() || rule.schedule != Schedule::default() {
        s.source.warning(
            s.place("emergency"),
            format!("rule \"{}\" takes emergency calls of some callers or at some times only", rule.name),
        );
    }
}

fn rule_from(text: &str, plan: &Dialplan) -> Result<RuleFrom, String> {
    match text {
        "users" => Ok(RuleFrom::Users),
        "trunks" => Ok(RuleFrom::AnyTrunk),
        "any" => Ok(RuleFrom::Any),
        _ => match text.strip_prefix("trunk:") {
            Some(name) => trunk(name, plan).map(RuleFrom::Trunk),
            None => Err(format!(
                "\"{text}\" is no caller; write \"users\", \"trunk:NAME\", \"trunks\" or \"any\""
            )),
        },
    }
}

fn trunk(name: &str, plan: &Dialplan) -> Result<TrunkIndex, String> {
    let names: Vec<&str> = plan.trunks.iter().map(|trunk| trunk.name.as_str()).collect();
    plan.trunk_index(name).ok_or_else(|| match nearest(name, &names) {
        Some(near) => format!("there is no trunk \"{name}\"; did you mean \"{near}\"?"),
        None if names.is_empty() => {
            format!("there is no trunk \"{name}\": the configuration has none; write [[trunk]] name = \"{name}\" there")
        }
        None => format!("there is no trunk \"{name}\"; the configuration has {}", or_list(&names)),
    })
}

fn numbers(s: &Section<'_>, plan: &NumberPlan) -> Vec<NumberMatch> {
    let mut numbers = s.values("match", Vec::new(), |text| prefix(text, plan));
    let patterns = s.list("pattern", |text| {
        Regex::new(text)
            .map_err(|error| format!("\"{text}\" is no pattern: {error}; write \"^\\\\+32[2-9]\""))
    });
    for At { value, span } in patterns.unwrap_or_default() {
        if !value.as_str().starts_with('^') {
            let message =
                format!("rule.pattern \"{}\" matches anywhere in a number; begin it with ^", value.as_str());
            s.source.warning(span, message);
        }
        numbers.push(NumberMatch::Pattern(value));
    }
    if !s.has("match") && !s.has("pattern") {
        s.error(
            s.span(),
            "rule.match is missing; write match = \"+32\" (\"+\" is every international number)",
        );
    }
    numbers
}

/// Rules match the normalised number, so that is what must be written.
fn prefix(text: &str, plan: &NumberPlan) -> Result<NumberMatch, String> {
    if let Some(service) = service(text) {
        return Ok(NumberMatch::Service(service));
    }
    let digits = text.strip_prefix('+').unwrap_or(text);
    if !digits.bytes().all(|b| b.is_ascii_digit()) || digits.len() > 15 || text.is_empty() {
        return Err(format!(
            "\"{text}\" is no prefix; write + and digits, as \"+32900\", or a short code, as \"112\""
        ));
    }
    if text.starts_with('+') {
        return Ok(NumberMatch::Prefix(text.to_owned()));
    }
    let outside = |prefix: &str| if prefix.is_empty() { None } else { text.strip_prefix(prefix) };
    let normalised = outside(&plan.international_prefix)
        .map(|rest| format!("+{rest}"))
        .or_else(|| outside(&plan.national_prefix).map(|rest| format!("+{}{rest}", plan.country_code)));
    if let Some(normalised) = normalised {
        return Err(format!(
            "\"{text}\" is as it is dialled; rules match the normalised number: write \"{normalised}\""
        ));
    }
    if text.len() > 6 {
        return Err(format!("\"{text}\" is too long for a short code; write \"+{text}\""));
    }
    Ok(NumberMatch::Short(text.to_owned()))
}

fn caller(text: &str) -> Result<CallerMatch, String> {
    if let Some(digits) = text.strip_prefix('+') {
        return if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
            Ok(CallerMatch::Prefix(text.to_owned()))
        } else {
            Err(format!("\"{text}\" is no prefix of a calling number; write + and digits, as \"+322555\""))
        };
    }
    match super::user_name(text) {
        Ok(()) => Ok(CallerMatch::User(text.to_owned())),
        Err(_) => Err(format!("\"{text}\" is no caller; write a user's name or a prefix as \"+322555\"")),
    }
}

/// `called = "+3225550000"` or `called = { pattern = "^\\+32", replace = "0032" }`
fn rewrite(s: &Section<'_>, key: &'static str) -> Option<Rewrite> {
    if !s.is_table(key) {
        return s.text(key).map(|text| Rewrite::Fixed(text.value));
    }
    let table = s.section(key);
    let pattern = table.required("pattern", "\"^\\\\+32\"").and_then(|text| match Regex::new(&text.value) {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            let message =
                format!("rule.{key}.pattern: \"{}\" is no pattern: {error}; write \"^\\\\+32\"", text.value);
            table.error(text.span, message);
            None
        }
    });
    if !table.has("replace") {
        table.error(
            table.span(),
            format!("rule.{key}.replace is missing; write replace = \"0032\" (\"\" removes)"),
        );
    }
    let with = table.text_or("replace", String::new());
    table.finish();
    pattern.map(|pattern| Rewrite::Replace { pattern, with })
}

fn action(s: &Section<'_>, plan: &Dialplan) -> Option<RuleAction> {
    let trunks = s.list("trunks", |name| {
        if name == "*" {
            return Ok((0..plan.trunks.len()).map(|index| TrunkIndex(index as u16)).collect());
        }
        trunk(name, plan).map(|trunk| vec![trunk])
    });
    let order = s.parsed("order", |text| word(text, &ORDERS));
    let weights = s.numbers("weights", 0..=1_000_000);
    let to = s.parsed("to", inside);
    let reject =
        s.has("reject").then(|| s.number("reject", 403u16, 400..=699, "the SIP status the caller gets"));
    if !s.has("reject") {
        // Asked for all the same, so that it is known.
        s.number("reject", 403u16, 400..=699, "");
    }
    let written = ["trunks", "to", "reject"].into_iter().filter(|key| s.has(key)).collect::<Vec<_>>();
    match written.as_slice() {
        [_] => {}
        [] => {
            let message = "the rule leads nowhere; write trunks = [\"…\"], to = \"users\", to = \"line:echo\" or reject = 403";
            s.error(s.span(), message);
        }
        [_, second, ..] => {
            let message = format!("the rule has {}; write only one of them", written.join(" and "));
            s.error(s.place(second), message);
        }
    }
    for key in ["order", "weights"] {
        if s.has(key) && !s.has("trunks") {
            s.error(s.place(key), format!("rule.{key} needs trunks = [\"…\"]"));
        }
    }
    if let Some(status) = reject {
        return Some(RuleAction::Reject(status));
    }
    if to.is_some() {
        return to;
    }
    let trunks: Vec<TrunkIndex> = trunks?.into_iter().flat_map(|at| at.value).collect();
    if trunks.is_empty() && !plan.trunks.is_empty() {
        s.error(s.place("trunks"), "rule.trunks holds no trunk; write trunks = [\"…\"] or reject = 403");
    }
    if let Some(twice) = trunks.iter().enumerate().find(|(index, trunk)| trunks[..*index].contains(trunk)) {
        s.error(s.place("trunks"), format!("rule.trunks has \"{}\" twice", plan.trunk_name(*twice.1)));
    }
    let order = order.unwrap_or(TrunkOrder::Listed);
    let weights = match (order, weights) {
        (TrunkOrder::Weighted, Some(weights)) if weights.len() == trunks.len() => weights,
        (TrunkOrder::Weighted, found) => {
            let example: Vec<String> = trunks.iter().map(|_| "1".to_owned()).collect();
            let count = found.map_or("are missing".to_owned(), |list| format!("are {}", list.len()));
            s.error(
                s.place(if s.has("weights") { "weights" } else { "order" }),
                format!(
                    "rule.weights {count} for {} trunks; write weights = [{}]",
                    trunks.len(),
                    example.join(", ")
                ),
            );
            vec![1; trunks.len()]
        }
        (TrunkOrder::Listed | TrunkOrder::LeastCost, Some(_)) => {
            s.source.warning(s.place("weights"), "rule.weights has no effect; write order = \"weighted\"");
            vec![1; trunks.len()]
        }
        (TrunkOrder::Listed | TrunkOrder::LeastCost, None) => vec![1; trunks.len()],
    };
    let trunks = trunks
        .into_iter()
        .zip(weights)
        .map(|(trunk, weight)| WeightedTrunk { trunk, weight: u32::try_from(weight).unwrap_or(1) })
        .collect();
    Some(RuleAction::Trunks { trunks, order })
}

/// Where a call goes that stays inside: `users`, or `line:NAME`.
fn inside(text: &str) -> Result<RuleAction, String> {
    match text.strip_prefix("line:") {
        Some(name) => test_line(name).map(RuleAction::Line),
        None if text == "users" => Ok(RuleAction::Users),
        None => Err(format!("\"{text}\" is no place; write \"users\" or a test line, as \"line:echo\"")),
    }
}

fn test_line(name: &str) -> Result<TestLine, String> {
    let names = TestLine::ALL.map(TestLine::as_str);
    TestLine::ALL.into_iter().find(|line| line.as_str() == name).ok_or_else(|| match nearest(name, &names) {
        Some(near) => format!("there is no test line \"{name}\"; did you mean \"line:{near}\"?"),
        None => format!("there is no test line \"{name}\"; there are {}", or_list(&names)),
    })
}

/// Warns of rules that no call reaches because one before them takes all of it.
fn shadowed(source: &Source, plan: &Dialplan, lines: &[usize]) {
    for (index, rule) in plan.rules.iter().enumerate() {
        let shadow = plan.rules[..index].iter().position(|before| {
            if rule.emergency && !before.emergency {
                // Emergency calls find their rule before all others.
                return false;
            }
            let always = before.callers.is_empty()
                && before.routing_numbers.is_empty()
                && before.schedule == Schedule::default();
            let users = !rule.is_for_users() || before.is_for_users();
            let trunks = (0..plan.trunks.len())
                .map(|trunk| TrunkIndex(trunk as u16))
                .all(|trunk| !rule.is_for_trunk(trunk) || before.is_for_trunk(trunk));
            always && users && trunks && rule.numbers.iter().all(|number| covers(before, number))
        });
        let Some(shadow) = shadow else { continue };
        // A rule for trunks only, in a configuration without any, is for later.
        if !rule.is_for_users() && plan.trunks.is_empty() {
            continue;
        }
        let place: Span = source.span_of_line(lines.get(index).copied().unwrap_or(1));
        source.warning(
            place,
            format!(
                "rule \"{}\" is never reached: \"{}\" at line {} matches all of it; move it up",
                rule.name,
                plan.rules[shadow].name,
                lines.get(shadow).copied().unwrap_or(1)
            ),
        );
    }
}

/// True where a rule surely matches whatever `number` matches.
fn covers(rule: &Rule, number: &NumberMatch) -> bool {
    rule.numbers.iter().any(|wider| match (wider, number) {
        (NumberMatch::Prefix(wider), NumberMatch::Prefix(prefix)) => prefix.starts_with(wider.as_str()),
        (NumberMatch::Short(wider), NumberMatch::Short(code)) => wider == code,
        (NumberMatch::Pattern(wider), NumberMatch::Pattern(pattern)) => wider.as_str() == pattern.as_str(),
        (NumberMatch::Service(wider), NumberMatch::Service(service)) => wider == service,
        (
            NumberMatch::Prefix(_)
            | NumberMatch::Short(_)
            | NumberMatch::Pattern(_)
            | NumberMatch::Service(_),
            _,
        ) => false,
    })
}

fn expectation(section: Section<'_>, plan: &Dialplan) -> Option<Expectation> {
    let s = &section;
    let from = s.required("from", "\"alice\"").and_then(|text| match text.value.strip_prefix("trunk:") {
        None => Some(ExpectFrom::User(text.value)),
        Some(name) => match trunk(name, plan) {
            Ok(trunk) => Some(ExpectFrom::Trunk(trunk)),
            Err(message) => {
                s.error(text.span, format!("expect.from: {message}"));
                None
            }
        },
    });
    let dial = s.required("dial", "\"0470 12 34 56\"");
    let optional = |key| s.text(key).map(|text| text.value);
    let reject =
        s.has("reject").then(|| s.number("reject", 403u16, 400..=699, "the SIP status the caller gets"));
    if reject.is_none() {
        s.number("reject", 403u16, 400..=699, "");
    }
    let expectation = Expectation {
        line: s.source.line(s.span().start),
        from: from.clone().unwrap_or(ExpectFrom::User(String::new())),
        dial: dial.as_ref().map(|dial| dial.value.clone()).unwrap_or_default(),
        presents: optional("presents"),
        at: s.parsed("at", str::parse).unwrap_or(NOON),
        rule: optional("rule"),
        number: optional("number"),
        called: optional("called"),
        calling: optional("calling"),
        trunks: s
            .list("trunks", |name| Ok(name.to_owned()))
            .map(|list| list.into_iter().map(|at| at.value).collect()),
        user: optional("user"),
        test_line: s.parsed("line", test_line),
        reject,
        emergency: Some(s.flag("emergency", false)).filter(|_| s.has("emergency")),
    };
    let promises = ["rule", "number", "called", "calling", "trunks", "user", "line", "reject", "emergency"];
    if !promises.iter().any(|key| s.has(key)) {
        s.error(
            s.span(),
            "the case expects nothing; write number = \"…\", trunks = [\"…\"], user = \"…\", line = \"echo\" or reject = 403",
        );
    }
    section.finish();
    (from.is_some() && dial.is_some()).then_some(expectation)
}

#[cfg(test)]
mod tests;
