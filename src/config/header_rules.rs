//! `[[trunk.header]]`: the header rules of a trunk, each checked for what it may touch and when it can act.

use super::source::{At, Section};
use super::values::word;
use crate::sip::header_rules::{
    Action, Condition, HeaderRules, MOST_RULES, Pattern, Rule, Scope, Side, Status, Template, Variable,
    may_be_copied, may_be_ruled,
};
use crate::sip::message::{HeaderName, Method};

/// What is sent to a trunk and passes rules.
const SENT: [Method; 7] = [
    Method::Invite,
    Method::Update,
    Method::Prack,
    Method::Bye,
    Method::Notify,
    Method::Options,
    Method::Register,
];
/// What comes from a trunk inside a call and passes rules.
const RECEIVED: [Method; 5] = [Method::Invite, Method::Update, Method::Prack, Method::Bye, Method::Info];
/// What is told on from leg to leg.
const PASSED_ON: [Method; 2] = [Method::Invite, Method::Bye];
/// Octets of a pattern or a replacement.
const LONGEST_PATTERN: usize = 256;

/// The kinds of action, before their own keys are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Add,
    Remove,
    Replace,
    Copy,
}

/// What the verbs are made of, as written.
struct Texts {
    value: Option<At<String>>,
    pattern: Option<At<String>>,
    with: Option<At<String>>,
    from: Option<At<String>>,
}

pub(super) fn read(trunk: &Section<'_>) -> HeaderRules {
    let sections = trunk.sections("header");
    if let Some(one) = sections.get(MOST_RULES) {
        one.error(one.span(), format!("trunk.header: a trunk has at most {MOST_RULES} rules; remove some"));
    }
    HeaderRules(sections.into_iter().filter_map(rule).collect())
}

fn rule(section: Section<'_>) -> Option<Rule> {
    let s = &section;
    let verb = match s.required("action", "\"add\"") {
        Some(text) => verb(s, text),
        None => None,
    };
    let name = s.required("header", "\"X-Customer\"").and_then(|text| ruled(s, "header", text));
    let side = s.parsed("direction", direction).unwrap_or(Side::To);
    let scope = scope(s, side, verb);
    let when = condition(s);
    let texts = Texts {
        value: s.text("value"),
        pattern: s.text("pattern"),
        with: s.text("replace"),
        from: s.text("from"),
    };
    let action = verb.zip(name.clone()).and_then(|(verb, name)| action(s, verb, texts, &name, side));
    section.finish();
    Some(Rule { side, scope: scope?, name: name?, action: action?, when: when? })
}

fn verb(s: &Section<'_>, text: At<String>) -> Option<Verb> {
    let words =
        [("add", Verb::Add), ("remove", Verb::Remove), ("replace", Verb::Replace), ("copy", Verb::Copy)];
    word(&text.value, &words)
        .map_err(|message| s.error(text.span, format!("trunk.header.action: {message}")))
        .ok()
}

fn direction(text: &str) -> Result<Side, String> {
    word(text, &[("to", Side::To), ("from", Side::From)])
}

/// A name that rules may touch.
fn ruled(s: &Section<'_>, key: &str, text: At<String>) -> Option<HeaderName> {
    let problem = match HeaderName::parse(&text.value) {
        None => format!("\"{}\" is no header name; write a name as \"X-Customer\"", text.value),
        Some(name) if !may_be_ruled(&name) => format!(
            "{name} belongs to the gateway, which routes, matches, proves or negotiates by it; rules are for fields \
             that only inform, as \"X-Customer\", \"P-Asserted-Identity\", \"Subject\" or \"Reason\""
        ),
        Some(name) => return Some(name),
    };
    s.error(text.span, format!("trunk.header.{key}: {problem}"));
    None
}

fn scope(s: &Section<'_>, side: Side, verb: Option<Verb>) -> Option<Scope> {
    let (possible, whither): (&[Method], _) = match side {
        Side::To => (&SENT, "to"),
        Side::From => (&RECEIVED, "from"),
    };
    let list = |methods: &[Method]| methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
    let method = |text: &str| match Method::parse(text).filter(|method| possible.contains(method)) {
        None => Err(format!(
            "\"{text}\" passes no rule with direction = \"{whither}\"; there are {}",
            list(possible)
        )),
        Some(method) if verb == Some(Verb::Copy) && !PASSED_ON.contains(&method) => {
            Err(format!("{text} is not passed on from leg to leg; a copy goes with {}", list(&PASSED_ON)))
        }
        Some(method) => Ok(method),
    };
    let methods = s.list("methods", method);
    let responses = s.list("responses", str::parse::<Status>);
    for (key, empty) in [("methods", s.is_empty_list("methods")), ("responses", s.is_empty_list("responses"))]
    {
        if empty {
            s.error(
                s.place(key),
                format!("trunk.header.{key} is empty, so that the rule never acts; leave it out"),
            );
            return None;
        }
    }
    match (methods, responses) {
        (Some(_), Some(_)) => {
            s.error(
                s.place("responses"),
                "trunk.header.responses: a rule is for requests or for responses to INVITE; write two rules",
            );
            None
        }
        (None, Some(responses)) => Some(Scope::Responses(responses.into_iter().map(|at| at.value).collect())),
        (Some(methods), None) => Some(Scope::Requests(methods.into_iter().map(|at| at.value).collect())),
        (None, None) => Some(Scope::Requests(vec![Method::Invite])),
    }
}

/// `Some(None)` where the rule has no condition.
fn condition(s: &Section<'_>) -> Option<Option<Condition>> {
    let written = s.has("when");
    let when = s.section("when");
    let name = if written { when.required("header", "\"X-Customer\"") } else { when.text("header") };
    let pattern = if written { when.required("pattern", "\"^vip\"") } else { when.text("pattern") };
    let condition = name.zip(pattern).and_then(|(name, pattern)| {
        let known = HeaderName::parse(&name.value);
        if known.is_none() {
            let message = format!("\"{}\" is no header name; write a name as \"X-Customer\"", name.value);
            s.error(name.span, format!("trunk.header.when.header: {message}"));
        }
        Some(Condition { name: known?, pattern: expression(s, "when.pattern", pattern)? })
    });
    when.finish();
    if written { condition.map(Some) } else { Some(None) }
}

fn expression(s: &Section<'_>, key: &str, text: At<String>) -> Option<Pattern> {
    let pattern = if text.value.len() > LONGEST_PATTERN {
        Err(format!("{} octets are too many; write at most {LONGEST_PATTERN}", text.value.len()))
    } else {
        Pattern::new(&text.value).map_err(|why| format!("\"{}\" is no pattern: {why}", text.value))
    };
    pattern.map_err(|message| s.error(text.span, format!("trunk.header.{key}: {message}"))).ok()
}

/// What the verb does, by the keys that belong to it.
fn action(s: &Section<'_>, verb: Verb, texts: Texts, name: &HeaderName, side: Side) -> Option<Action> {
    let Texts { value, pattern, with, from } = texts;
    let owns: &[&str] = match verb {
        Verb::Add => &["value"],
        Verb::Remove => &[],
        Verb::Replace => &["value", "pattern", "replace"],
        Verb::Copy => &["from"],
    };
    let mut foreign = ["value", "pattern", "replace", "from"].into_iter().filter(|key| !owns.contains(key));
    if let Some(key) = foreign.find(|key| s.has(key)) {
        let takes = if owns.is_empty() { "header alone".to_owned() } else { owns.join(", ") };
        s.error(s.place(key), format!("trunk.header.{key} says nothing to this action, which takes {takes}"));
        return None;
    }
    match (verb, value, pattern.zip(with)) {
        (Verb::Remove, ..) => Some(Action::Remove),
        (Verb::Copy, ..) => copy(s, name, from),
        (Verb::Add, Some(value), _) => template(s, value, side).map(Action::Add),
        (Verb::Replace, Some(value), None) if !s.has("pattern") && !s.has("replace") => {
            template(s, value, side).map(Action::Set)
        }
        (Verb::Replace, None, Some((pattern, with))) => {
            if with.value.len() > LONGEST_PATTERN || with.value.chars().any(char::is_control) {
                let message = format!("write at most {LONGEST_PATTERN} octets without control characters");
                s.error(with.span, format!("trunk.header.replace: {message}"));
                return None;
            }
            Some(Action::Replace { pattern: expression(s, "pattern", pattern)?, with: with.value })
        }
        (Verb::Add, None, _) => {
            s.error(s.span(), "trunk.header.value is missing; write value = \"{account}\"");
            None
        }
        (Verb::Replace, ..) => {
            s.error(
                s.span(),
                "trunk.header: replace takes value = \"…\" (the whole value) or pattern = \"…\" and replace = \"…\"",
            );
            None
        }
    }
}

fn copy(s: &Section<'_>, name: &HeaderName, from: Option<At<String>>) -> Option<Action> {
    let (from, place) = match from {
        Some(from) => {
            let place = from.span.clone();
            (ruled(s, "from", from)?, place)
        }
        None => (name.clone(), s.place("header")),
    };
    for name in [name, &from] {
        if !may_be_copied(name) {
            let message = format!(
                "{name} says who calls and is not copied, so that nobody is believed unproven; \
                 see trunk.identity, trunk.trusted and trunk.diversion"
            );
            s.error(place, format!("trunk.header.from: {message}"));
            return None;
        }
    }
    Some(Action::Copy { from })
}

fn template(s: &Section<'_>, text: At<String>, side: Side) -> Option<Template> {
    let parsed = text.value.parse::<Template>().and_then(|template| {
        // What comes in has not been routed yet.
        let early = |variable: &Variable| match variable {
            Variable::Called | Variable::Calling | Variable::Trunk => false,
            Variable::User | Variable::Account | Variable::CallId => side == Side::From,
        };
        let refused = template.variables().find(early);
        match refused {
            Some(variable) => Err(format!(
                "{{{}}} has no value with direction = \"from\"; there are {{called}} {{calling}} {{trunk}}",
                variable.name()
            )),
            None => Ok(template),
        }
    });
    parsed.map_err(|message| s.error(text.span, format!("trunk.header.value: {message}"))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::path::Path;

    const TRUNK: &str = "[[trunk]]\nname = \"a\"\nproxy = [\"a.example\"]\n[[trunk.header]]\n";

    fn parse(rule: &str) -> Result<HeaderRules, Vec<String>> {
        let text = format!("{TRUNK}{rule}");
        match Config::parse(Path::new("t.toml"), &text, &|_| None) {
            Ok(mut config) => Ok(config.trunks.remove(0).header_rules),
            Err(problems) => Err(problems.iter().map(ToString::to_string).collect()),
        }
    }

    #[test]
    fn a_rule_is_read_as_it_is_written() {
        let rules = parse(
            "action = \"replace\"\nheader = \"s\"\npattern = \"^a\"\nreplace = \"b\"\ndirection = \"from\"\n\
             methods = [\"INVITE\", \"BYE\"]\nwhen = { header = \"X-Foo\", pattern = \"^bar\" }\n\
             [[trunk.header]]\naction = \"copy\"\nheader = \"X-Customer\"\nfrom = \"X-Tenant\"\nresponses = [\"2xx\", \"180\"]\n",
        );
        let pattern = |text: &str| Pattern::new(text).unwrap();
        let first = Rule {
            side: Side::From,
            scope: Scope::Requests(vec![Method::Invite, Method::Bye]),
            name: HeaderName::Subject,
            action: Action::Replace { pattern: pattern("^a"), with: "b".to_owned() },
            when: Some(Condition { name: HeaderName::new("X-Foo"), pattern: pattern("^bar") }),
        };
        let second = Rule {
            side: Side::To,
            scope: Scope::Responses(vec![Status::Class(2), Status::Code(180)]),
            name: HeaderName::new("X-Customer"),
            action: Action::Copy { from: HeaderName::new("X-Tenant") },
            when: None,
        };
        assert_eq!(rules, Ok(HeaderRules(vec![first, second])));
    }

    #[test]
    fn what_a_message_stands_on_is_refused_with_its_line_and_what_may_be_ruled() {
        for name in ["Via", "v", "Contact", "call-id", "Authorization", "Supported", "l"] {
            let problems = parse(&format!("action = \"remove\"\nheader = \"{name}\"\n")).unwrap_err();
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].starts_with("t.toml:6: error: trunk.header.header: "), "{problems:?}");
            assert!(problems[0].contains("X-Customer"), "{problems:?}");
        }
    }

    #[test]
    fn a_rule_that_can_never_act_says_why() {
        for (rule, says) in [
            ("header = \"X-A\"\n", "trunk.header.action is missing"),
            ("action = \"drop\"\nheader = \"X-A\"\n", "write \"add\", \"remove\""),
            ("action = \"add\"\nheader = \"X-A\"\n", "trunk.header.value is missing"),
            ("action = \"add\"\nheader = \"X A\"\nvalue = \"1\"\n", "is no header name"),
            ("action = \"add\"\nheader = \"X-A\"\nvalue = \"{tenant}\"\n", "{called} {calling}"),
            ("action = \"add\"\nheader = \"X-A\"\nvalue = \"a\\r\\nB: 1\"\n", "write one line"),
            (
                "action = \"add\"\nheader = \"X-A\"\nvalue = \"{user}\"\ndirection = \"from\"\n",
                "{called} {calling} {trunk}",
            ),
            ("action = \"remove\"\nheader = \"X-A\"\nvalue = \"1\"\n", "takes header alone"),
            ("action = \"replace\"\nheader = \"X-A\"\npattern = \"a\"\n", "pattern = \"…\" and replace"),
            ("action = \"replace\"\nheader = \"X-A\"\npattern = \"(\"\nreplace = \"\"\n", "is no pattern"),
            (
                "action = \"replace\"\nheader = \"X-A\"\npattern = \"a\"\nreplace = \"\\n\"\n",
                "control characters",
            ),
            (
                "action = \"remove\"\nheader = \"X-A\"\nmethods = [\"CANCEL\"]\n",
                "INVITE, UPDATE, PRACK, BYE, NOTIFY",
            ),
            ("action = \"copy\"\nheader = \"X-A\"\nmethods = [\"UPDATE\"]\n", "a copy goes with INVITE, BYE"),
            ("action = \"copy\"\nheader = \"P-Asserted-Identity\"\n", "trunk.identity"),
            ("action = \"copy\"\nheader = \"X-A\"\nfrom = \"Via\"\n", "trunk.header.from: Via belongs"),
            ("action = \"remove\"\nheader = \"X-A\"\nresponses = [\"9xx\"]\n", "a class as \"2xx\""),
            ("action = \"remove\"\nheader = \"X-A\"\nmethods = []\n", "leave it out"),
            (
                "action = \"remove\"\nheader = \"X-A\"\nmethods = [\"BYE\"]\nresponses = [\"2xx\"]\n",
                "write two rules",
            ),
            ("action = \"remove\"\nheader = \"X-A\"\nwhen = { header = \"X-B\" }\n", "pattern is missing"),
        ] {
            let problems = parse(rule).unwrap_err();
            assert!(problems.len() == 1 && problems[0].contains(says), "{rule}: {problems:?}");
        }
        let many = format!(
            "{}action = \"remove\"\nheader = \"X-A\"\n",
            "action = \"remove\"\nheader = \"X-A\"\n[[trunk.header]]\n".repeat(32)
        );
        assert!(parse(&many).unwrap_err()[0].contains("at most 32 rules"));
    }
}
