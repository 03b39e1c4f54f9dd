//! `tandem check`: everything that can be known to be wrong before the gateway starts.

use super::{
    DEFAULT_NETWORK, Problem, Severity,
    dialplan::{ExpectFrom, Expectation, LoadedDialplan, load_dialplan},
    model::Config,
    read::{self, Read},
    source::KeyLines,
    stir,
};
use crate::{
    access::Directory,
    routing::{Caller, Dialplan, RouteDecision, RouteOutcome, RouteRequest, TrunkIndex},
    types::{E164, HostPort, TestLine},
};
use std::{collections::HashMap, path::Path};

/// Checks a configuration file, its dialplan with its cases, and what one must know of the other. Errors and
/// warnings, by file and line; empty where all is well.
pub fn check(path: &Path) -> Vec<Problem> {
    check_with(path, &|name| std::env::var(name).ok())
}

/// As [`check`], with another environment.
pub fn check_with(path: &Path, environment: &dyn Fn(&str) -> Option<String>) -> Vec<Problem> {
    examine(path, environment).problems
}

/// What a configuration file and its dialplan say, and what is wrong with them.
pub(super) struct Examined {
    /// Both are `None` where the file can't be read; wrong values are at their defaults.
    pub config: Option<Config>,
    pub dialplan: Option<Dialplan>,
    /// Where the keys of the file stand.
    pub lines: KeyLines,
    pub problems: Vec<Problem>,
}

pub(super) fn examine(path: &Path, environment: &dyn Fn(&str) -> Option<String>) -> Examined {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            let message = format!("{error}; write the path of a configuration file: --config FILE");
            let problems = vec![Problem::error(path, None, message)];
            return Examined { config: None, dialplan: None, lines: KeyLines::new(), problems };
        }
    };
    let Read { config, mut problems, trunk_lines, dialplan_line, lines, .. } =
        read::read(path, &text, path.parent().unwrap_or(Path::new("")), environment);
    problems.extend(ambiguous_trunks(path, &config, &trunk_lines));
    problems.extend(peers_in_vain(path, &config, &trunk_lines));
    problems.extend(media_ports(path, &config));
    problems.extend(missing_files(path, &config, &lines, &trunk_lines));
    problems.extend(shared_listener(path, &config, &lines));
    problems.extend(stir::files(path, &config.stir, &lines));
    let dialplan = match load_dialplan(&config.dialplan, config.trunk_forms()) {
        Ok(loaded) => {
            problems.extend(loaded.warnings.iter().cloned());
            let (directory, _) = Directory::new(config.file_users());
            let cost = |trunk: TrunkIndex, number: &E164| config.buy_price(trunk, number);
            problems.extend(run_expectations(&config.dialplan, &loaded, &directory, &cost));
            Some(loaded.dialplan)
        }
        Err(found) if found.iter().all(|problem| problem.line.is_none()) => {
            // The file is missing: what is wrong stands in the configuration.
            let of = |problem: Problem| {
                let message = format!("dialplan {}: {}", config.dialplan.display(), problem.message);
                Problem::error(path, dialplan_line, message)
            };
            problems.extend(found.into_iter().map(of));
            None
        }
        Err(found) => {
            problems.extend(found);
            None
        }
    };
    Examined { config: Some(config), dialplan, lines, problems }
}

/// Two trunks whose calls could not be told apart (decisions: "Who is calling").
fn ambiguous_trunks(path: &Path, config: &Config, lines: &[usize]) -> Vec<Problem> {
    let mut found: Vec<(TrunkIndex, TrunkIndex, String)> = config
        .peer_table()
        .ambiguities()
        .into_iter()
        .map(|ambiguity| (ambiguity.first, ambiguity.second, ambiguity.what))
        .collect();
    for (first, one) in config.trunks.iter().enumerate() {
        for (second, other) in config.trunks.iter().enumerate().skip(first + 1) {
            let same_place = one.network == other.network
                && one.match_host == other.match_host
                && one.match_trunk_group == other.match_trunk_group;
            if !same_place || !one.peers.is_empty() || !other.peers.is_empty() {
                continue;
            }
            let target = |proxy: &HostPort, trunk: &super::TrunkConfig| {
                (proxy.host.clone(), proxy.port.unwrap_or(trunk.transport.default_port()))
            };
            let shared = one
                .proxy
                .iter()
                .find(|proxy| other.proxy.iter().any(|theirs| target(proxy, one) == target(theirs, other)));
            if let Some(shared) = shared {
                let (first, second) = (TrunkIndex(first as u16), TrunkIndex(second as u16));
                found.push((first, second, format!("the proxy {shared}")));
            }
        }
    }
    let problem = |(first, second, what): (TrunkIndex, TrunkIndex, String)| {
        let line = |trunk: TrunkIndex| lines.get(usize::from(trunk.0)).copied();
        let name =
            |trunk: TrunkIndex| config.trunks.get(usize::from(trunk.0)).map_or("?", |trunk| &trunk.name);
        let message = format!(
            "calls from trunks \"{}\" and \"{}\" can't be told apart: both have {what}; write peers, match_host, match_trunk_group or \
             network so that they differ",
            name(first),
            name(second),
        );
        Problem::error(path, line(second), message)
    };
    found.into_iter().map(problem).collect()
}

/// Trunks that say where their calls come from, and are known by their certificate alone: an operator that shows none is a
/// stranger, whatever address it calls from.
fn peers_in_vain(path: &Path, config: &Config, lines: &[usize]) -> Vec<Problem> {
    let asked = config.tls.client_ca.is_some();
    let trunks = config.trunks.iter().zip(lines);
    let trunks = trunks.filter(|(trunk, _)| asked && trunk.is_known_by_name() && !trunk.peers.is_empty());
    let problem = |(trunk, line): (&super::TrunkConfig, &usize)| {
        let message = format!(
            "peers of trunk \"{}\" are not looked at: with tls.client_ca its calls are known by the certificate of its tls_name \
             \"{}\" alone, and refused without it; leave peers out, or write calls_over = \"tcp\" if it shows none when it calls",
            trunk.name,
            trunk.tls_name.as_deref().unwrap_or_default(),
        );
        Problem { severity: Severity::Warning, file: path.to_owned(), line: Some(*line), message }
    };
    trunks.map(problem).collect()
}

/// Two networks that would take media ports from each other, and listeners inside a media port range.
fn media_ports(path: &Path, config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut warn = |message: String| {
        problems.push(Problem { severity: Severity::Warning, file: path.to_owned(), line: None, message });
    };
    for (index, one) in config.networks.iter().enumerate() {
        for other in &config.networks[index + 1..] {
            let ports = one.media_ports.start() <= other.media_ports.end()
                && other.media_ports.start() <= one.media_ports.end();
            let meets = |a: &std::net::IpAddr, b: &std::net::IpAddr| {
                a.is_ipv4() == b.is_ipv4() && (a == b || a.is_unspecified() || b.is_unspecified())
            };
            if ports && one.bind.iter().any(|a| other.bind.iter().any(|b| meets(a, b))) {
                warn(format!(
                    "networks \"{}\" and \"{}\" share media ports on one address; give each its own media_ports",
                    one.name, other.name
                ));
            }
        }
    }
    for listen in config.sip.listen.iter().filter(|listen| !listen.transport.is_reliable()) {
        if let Some(network) =
            config.networks.iter().find(|network| network.media_ports.contains(&listen.bind.port()))
        {
            let range = format!("{}-{}", network.media_ports.start(), network.media_ports.end());
            let name = if network.name == DEFAULT_NETWORK { "the default network" } else { &network.name };
            warn(format!(
                "sip.listen {} lies in the media ports {range} of {name}; choose another port",
                listen.bind
            ));
        }
    }
    problems
}

/// Files that must be there at the start.
fn missing_files(path: &Path, config: &Config, lines: &KeyLines, trunk_lines: &[usize]) -> Vec<Problem> {
    let tls = &config.tls;
    let named = [
        ("tls.certificate", &tls.certificate),
        ("tls.key", &tls.key),
        ("tls.ca", &tls.ca),
        ("tls.client_ca", &tls.client_ca),
    ];
    let named = named.into_iter().map(|(key, file)| (key, file, lines.get(key).copied()));
    let of_trunks = config.trunks.iter().zip(trunk_lines);
    let of_trunks = of_trunks.map(|(trunk, line)| ("trunk.tls_ca", &trunk.tls_ca, Some(*line)));
    let mut problems = Vec::new();
    for (key, file, line) in named.chain(of_trunks) {
        let Some(file) = file else { continue };
        if let Err(error) = std::fs::File::open(file) {
            let message =
                format!("{key}: {}: {error}; write the path of a file that is there", file.display());
            problems.push(Problem::error(path, line, message));
        }
    }
    problems
}

/// The API at a port that calls come to.
fn shared_listener(path: &Path, config: &Config, lines: &KeyLines) -> Option<Problem> {
    let admin = config.admin.listen.filter(|admin| admin.port() != 0)?;
    let taken = config.sip.listen.iter().find(|listen| {
        let meets = listen.bind.ip() == admin.ip()
            || listen.bind.is_ipv4() == admin.is_ipv4()
                && (listen.bind.ip().is_unspecified() || admin.ip().is_unspecified());
        listen.transport.is_reliable() && listen.bind.port() == admin.port() && meets
    })?;
    let message = format!(
        "admin.listen {admin} is taken by sip.listen \"{}:{}\"; write another port",
        taken.transport.as_str(),
        taken.bind
    );
    Some(Problem::error(path, lines.get("admin.listen").copied(), message))
}

/// Runs the `[[expect]]` cases of a dialplan; each that fails is an error at its line.
pub fn run_expectations(
    file: &Path,
    loaded: &LoadedDialplan,
    directory: &Directory,
    cost: &dyn Fn(TrunkIndex, &E164) -> Option<i64>,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    for case in &loaded.expectations {
        let decision = decide(&loaded.dialplan, case, directory, cost);
        for difference in differences(&loaded.dialplan, case, &decision) {
            let why = decision.explain.join("; ");
            let message = format!("dialling \"{}\": {difference} ({why})", case.dial);
            problems.push(Problem::error(file, Some(case.line), message));
        }
    }
    problems
}

fn decide(
    plan: &Dialplan,
    case: &Expectation,
    directory: &Directory,
    cost: &dyn Fn(TrunkIndex, &E164) -> Option<i64>,
) -> RouteDecision {
    let user = match &case.from {
        ExpectFrom::User(name) => directory.get(name),
        ExpectFrom::Trunk(_) => None,
    };
    let caller = match &case.from {
        // A user the file does not know may be one of the database.
        ExpectFrom::User(name) => {
            Caller::User { name, caller_ids: user.map_or(&[], |user| user.caller_ids.as_slice()) }
        }
        ExpectFrom::Trunk(trunk) => Caller::Trunk(*trunk),
    };
    let request = RouteRequest {
        caller,
        called: &case.dial,
        calling: case.presents.as_deref(),
        asserted: None,
        unix_ms: plan.zone.unix_ms_of(case.at),
        draw: 0,
    };
    plan.explain(&request, directory, cost)
}

/// What a case expects and the decision does not give.
fn differences(plan: &Dialplan, case: &Expectation, decision: &RouteDecision) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |what: &str, expected: Option<&str>, is: Option<&str>| {
        let quoted = |text: Option<&str>| text.map_or("none".to_owned(), |text| format!("\"{text}\""));
        // An empty expectation is one of nothing.
        if let Some(expected) = expected.filter(|expected| *expected != is.unwrap_or("")) {
            found.push(format!("{what} is {}, expected {}", quoted(is), quoted(Some(expected))));
        }
    };
    let candidates = match &decision.outcome {
        RouteOutcome::Trunks(candidates) => candidates.as_slice(),
        RouteOutcome::User { .. } | RouteOutcome::Line(_) | RouteOutcome::Reject { .. } => &[],
    };
    let user = match &decision.outcome {
        RouteOutcome::User { name } => Some(name.as_str()),
        RouteOutcome::Trunks(_) | RouteOutcome::Line(_) | RouteOutcome::Reject { .. } => None,
    };
    let line = match &decision.outcome {
        RouteOutcome::Line(line) => Some(line.as_str()),
        RouteOutcome::Trunks(_) | RouteOutcome::User { .. } | RouteOutcome::Reject { .. } => None,
    };
    let status = match &decision.outcome {
        RouteOutcome::Reject { status, .. } => Some(status.to_string()),
        RouteOutcome::Trunks(_) | RouteOutcome::User { .. } | RouteOutcome::Line(_) => None,
    };
    let first = candidates.first();
    compare("rule", case.rule.as_deref(), decision.rule.as_deref());
    compare("number", case.number.as_deref(), decision.number.as_ref().map(E164::as_str));
    compare("called", case.called.as_deref(), first.map(|first| first.called.as_str()));
    compare("calling", case.calling.as_deref(), first.and_then(|first| first.calling.as_deref()));
    compare("user", case.user.as_deref(), user);
    compare("line", case.test_line.map(TestLine::as_str), line);
    compare("reject", case.reject.map(|status| status.to_string()).as_deref(), status.as_deref());
    let (wanted, is) = (case.emergency.map(yes_or_no), yes_or_no(decision.emergency));
    compare("emergency", wanted, Some(is));
    if let Some(expected) = &case.trunks {
        let names: Vec<&str> = candidates.iter().map(|candidate| plan.trunk_name(candidate.trunk)).collect();
        let weighted = is_weighted(plan, decision);
        let same = if weighted { count(&names) == count(expected) } else { names == *expected };
        if !same {
            found.push(format!("trunks are {names:?}, expected {expected:?}"));
        }
    }
    found
}

fn yes_or_no(flag: bool) -> &'static str {
    if flag { "true" } else { "false" }
}

/// Where the order is drawn, a case can only say which trunks, not in which order.
fn is_weighted(plan: &Dialplan, decision: &RouteDecision) -> bool {
    use crate::routing::{RuleAction, TrunkOrder};
    plan.rules.iter().filter(|rule| Some(&rule.name) == decision.rule.as_ref()).any(|rule| {
        match &rule.action {
            RuleAction::Trunks { order, .. } => *order == TrunkOrder::Weighted,
            RuleAction::Users | RuleAction::Line(_) | RuleAction::Reject(_) => false,
        }
    })
}

fn count<T: AsRef<str>>(names: &[T]) -> HashMap<&str, usize> {
    names.iter().fold(HashMap::new(), |mut counts, name| {
        *counts.entry(name.as_ref()).or_default() += 1;
        counts
    })
}
