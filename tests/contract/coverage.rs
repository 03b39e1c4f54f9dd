//! `tests/COVERAGE.md` stays true: each test it names exists, each configuration key and metric stands in it;
//! and each panel of the dashboard has its expectation.

use crate::source::{root, sources};
use regex_lite::Regex;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use tandem::telemetry::Metrics;

const UNPROVEN: &str = "Not proven yet";

/// The lines of the file below each `## ` heading.
fn sections() -> BTreeMap<String, Vec<String>> {
    let text = std::fs::read_to_string(root().join("tests/COVERAGE.md")).expect("tests/COVERAGE.md");
    let mut sections: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut heading = String::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            title.clone_into(&mut heading);
        }
        sections.entry(heading.clone()).or_default().push(line.to_owned());
    }
    sections
}

/// What stands between backquotes.
fn quoted(text: &str) -> Vec<String> {
    let between = Regex::new("`([^`]+)`").expect("a valid pattern");
    between.captures_iter(text).map(|found| found[1].to_owned()).collect()
}

/// The names in the first cell of a table's rows that have something in the last one.
fn proven(lines: &[String]) -> BTreeSet<String> {
    let rows = lines.iter().filter(|line| line.starts_with('|'));
    rows.filter_map(|row| {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let (name, proof) = (cells.first()?, cells.last()?);
        (cells.len() > 1 && proof.contains("::")).then(|| quoted(name))
    })
    .flatten()
    .collect()
}

/// The names that a list of the last section begins with, as `- config `key`: why`.
fn unproven(lines: &[String], kind: &str) -> BTreeSet<String> {
    let start = format!("- {kind} ");
    let names = lines.iter().filter_map(|line| line.strip_prefix(&start));
    names.flat_map(|rest| quoted(rest).into_iter().next()).collect()
}

/// Every test of the tree as `media::quality::name` (of `src/media/quality.rs` or `src/media/quality/tests.rs`) or
/// `e2e::call::name` (of `tests/e2e/call.rs`).
fn tests_of_the_tree() -> BTreeSet<String> {
    let test = Regex::new(r"#\[(?:tokio::)?test[^\]]*\]\s*(?:#\[[^\]]*\]\s*)*(?:pub )?(?:async )?fn (\w+)")
        .expect("a valid pattern");
    // Behaviours that a macro makes a test of for each database.
    let both = Regex::new(r"on_both!\(([^)]*)\)").expect("a valid pattern");
    let mut found = BTreeSet::new();
    for folder in ["src", "tests"] {
        for source in sources(folder) {
            let stem =
                source.name.trim_end_matches(".rs").trim_end_matches("/mod").trim_end_matches("/tests");
            let module = stem.replace('/', "::");
            let listed = both
                .captures_iter(&source.code)
                .flat_map(|list| list[1].split(',').map(|name| name.trim().to_owned()).collect::<Vec<_>>());
            let written = test.captures_iter(&source.code).map(|name| name[1].to_owned());
            found.extend(written.chain(listed).map(|name| format!("{module}::{name}")));
        }
    }
    assert!(found.len() > 500, "only {} tests found", found.len());
    found
}

/// Every key that can be set, as the example shows it: `media.workers`, `trunk.max_cps`.
fn keys() -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join("config/tandem.example.toml")).expect("the example");
    let section = Regex::new(r"^(?:# )?\[{1,2}([a-z.]+)\]").expect("a valid pattern");
    let key = Regex::new(r"^(?:# )?([a-z_0-9]+) = ").expect("a valid pattern");
    let mut found = BTreeSet::new();
    let mut at = String::new();
    for line in text.lines() {
        if let Some(name) = section.captures(line) {
            at = format!("{}.", &name[1]);
        } else if let Some(name) = key.captures(line) {
            found.insert(format!("{at}{}", &name[1]));
        }
    }
    assert!(found.len() > 80, "only {} keys found", found.len());
    found
}

fn metrics() -> BTreeSet<String> {
    let text = Metrics::new(&["operator-a".to_owned()]).render();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let mut names: BTreeSet<String> = types.map(str::to_owned).collect();
    // Exported only where the kernel's clock may be asked, and follows a time server.
    names.extend(["tandem_clock_synchronised", "tandem_clock_offset_seconds"].map(str::to_owned));
    names
}

#[test]
fn every_test_that_is_named_exists() {
    let known = tests_of_the_tree();
    let mut missing = Vec::new();
    for (heading, lines) in sections() {
        for line in lines.iter().filter(|line| line.starts_with('|')) {
            let cells = line.trim_matches('|').split('|').skip(1);
            let named = cells.flat_map(quoted).filter(|name| name.contains("::"));
            missing
                .extend(named.filter(|name| !known.contains(name)).map(|name| format!("{heading}: {name}")));
        }
    }
    assert!(missing.is_empty(), "tests/COVERAGE.md names tests that nobody wrote:\n{}", missing.join("\n"));
}

/// Each of `wanted` is proven by a test or named as not proven, never both.
#[track_caller]
fn accounted(heading: &str, kind: &str, wanted: &BTreeSet<String>) {
    let sections = sections();
    let proven = proven(&sections[heading]);
    let open = unproven(&sections[UNPROVEN], kind);
    let nowhere: Vec<_> =
        wanted.iter().filter(|name| !proven.contains(*name) && !open.contains(*name)).collect();
    assert!(nowhere.is_empty(), "tests/COVERAGE.md says nothing of {nowhere:?}");
    let twice: Vec<_> = proven.intersection(&open).collect();
    assert!(twice.is_empty(), "proven and not proven: {twice:?}");
    let unknown: Vec<_> = proven.union(&open).filter(|name| !wanted.contains(*name)).collect();
    assert!(unknown.is_empty(), "tests/COVERAGE.md names what does not exist: {unknown:?}");
    println!("{kind}: {} of {} proven", proven.len(), wanted.len());
}

#[test]
fn every_configuration_key_is_proven_or_said_not_to_be() {
    accounted("Configuration keys", "config", &keys());
}

#[test]
fn every_metric_is_proven_or_said_not_to_be() {
    accounted("Metrics", "metric", &metrics());
}

#[test]
fn every_line_of_features_and_bad_input_has_its_tests_and_the_rest_is_counted() {
    let sections = sections();
    for heading in ["Features", "Flows of the RFCs", "How it is proven", "Bad input"] {
        for row in sections[heading].iter().filter(|line| line.starts_with("| ")).skip(1) {
            assert!(
                row.trim_matches('|').split('|').next_back().is_some_and(|cell| cell.contains("::")),
                "{row}"
            );
        }
    }
    let open = sections[UNPROVEN].iter().filter(|line| line.starts_with("- ")).count();
    println!("{open} lines of tests/COVERAGE.md have no test yet");
}

#[test]
fn every_panel_of_the_dashboard_has_an_expectation() {
    let expected =
        std::fs::read_to_string(root().join("tests/e2e/dashboard/expected.rs")).expect("a source file");
    for file in std::fs::read_dir(root().join("grafana/dashboards")).expect("the dashboards") {
        let text = std::fs::read_to_string(file.expect("an entry").path()).expect("a readable dashboard");
        let dashboard: Value = serde_json::from_str(&text).expect("JSON");
        for panel in dashboard["panels"].as_array().expect("panels") {
            let title = &panel["title"];
            let known = panel["type"] == "row" || expected.contains(&title.to_string());
            assert!(known, "panel {title}: say in tests/e2e/dashboard/expected.rs what it shows");
        }
    }
}
