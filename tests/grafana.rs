//! Dashboards and alert rules obey their rules: templated, titled, explained, free of overlap, and every expression
//! names metrics the gateway has. Whether each expression shows the truth is proven where a gateway runs.

#[path = "support/dashboard.rs"]
mod dashboard;

use dashboard::{dashboards, folder, panels, queries};
use regex_lite::Regex;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use tandem::telemetry::Metrics;

fn read(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Runs promtool in the rules' folder; its output if it is content.
fn promtool(arguments: &[&str]) -> String {
    let run = Command::new("promtool").args(arguments).current_dir(folder().join("prometheus")).output();
    let run =
        run.unwrap_or_else(|error| panic!("promtool (package prometheus; make test installs it): {error}"));
    let said = String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "promtool {}: {said}", arguments.join(" "));
    said
}

/// Every series the gateway exports, histograms with their suffixes.
fn exported() -> BTreeSet<String> {
    let text = Metrics::new(&["operator-a".to_owned()]).render();
    let mut names = BTreeSet::new();
    for line in text.lines() {
        let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) else {
            continue;
        };
        match kind {
            "histogram" => {
                names.extend(["_bucket", "_sum", "_count"].map(|suffix| format!("{name}{suffix}")))
            }
            _ => {
                names.insert(name.to_owned());
            }
        }
    }
    // Exported only where the kernel's clock may be asked, and follows a time server.
    names.extend(["tandem_clock_synchronised", "tandem_clock_offset_seconds"].map(str::to_owned));
    names
}

/// Our metric names and recorded rates in an expression.
fn named(expression: &str) -> Vec<String> {
    let names = Regex::new(r"\b(?:tandem|process)[_:][a-z0-9_:]+").unwrap();
    names.find_iter(expression).map(|found| found.as_str().to_owned()).collect()
}

fn recorded(rules: &str) -> BTreeSet<String> {
    let record = Regex::new(r"(?m)^ +- record: (\S+)$").unwrap();
    record.captures_iter(rules).map(|found| found[1].to_owned()).collect()
}

#[test]
fn every_panel_has_a_title_a_description_a_unit_and_an_id_of_its_own() {
    for (file, dashboard) in dashboards() {
        let mut ids = BTreeSet::new();
        for panel in dashboard["panels"].as_array().unwrap() {
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{file}: id {} twice", panel["id"]);
        }
        let mut titles = BTreeSet::new();
        for panel in panels(&dashboard) {
            let title = panel["title"].as_str().unwrap_or("");
            assert!(
                !title.is_empty() && titles.insert(title),
                "{file}: panel {} title {title:?}",
                panel["id"]
            );
            let description = panel["description"].as_str().unwrap_or("");
            assert!(description.len() > 15 && description.ends_with('.'), "{file}: {title} explains nothing");
            let unit = panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap_or("");
            assert!(!unit.is_empty(), "{file}: {title} has no unit");
            assert!(!panel["targets"].as_array().unwrap().is_empty(), "{file}: {title} asks nothing");
        }
    }
}

#[test]
fn no_panel_lies_over_another_or_beyond_the_edge() {
    for (file, dashboard) in dashboards() {
        let place = |panel: &Value| {
            let at = |key: &str| {
                panel["gridPos"][key].as_u64().unwrap_or_else(|| panic!("{file}: no {key}: {panel}"))
            };
            (at("x"), at("y"), at("w"), at("h"), panel["title"].to_string())
        };
        let places: Vec<_> = dashboard["panels"].as_array().unwrap().iter().map(place).collect();
        for (index, (x, y, w, h, title)) in places.iter().enumerate() {
            assert!(*w > 0 && *h > 0 && x + w <= 24, "{file}: {title} reaches beyond the edge");
            for (x2, y2, w2, h2, other) in &places[index + 1..] {
                let apart = x + w <= *x2 || x2 + w2 <= *x || y + h <= *y2 || y2 + h2 <= *y;
                assert!(apart, "{file}: {title} and {other} overlap");
            }
        }
    }
}

#[test]
fn every_question_goes_to_the_chosen_data_source() {
    fn walk(value: &Value, found: &mut Vec<Value>) {
        match value {
            Value::Object(fields) => {
                for (name, field) in fields {
                    if name == "datasource" {
                        found.push(field.clone());
                    }
                    walk(field, found);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| walk(item, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    for (file, dashboard) in dashboards() {
        let mut sources = Vec::new();
        walk(&dashboard, &mut sources);
        assert!(sources.len() > 10);
        for source in sources {
            assert_eq!(source["uid"], "${datasource}", "{file}: a data source that nobody else has");
        }
        for panel in panels(&dashboard) {
            let own =
                panel["targets"].as_array().unwrap().iter().all(|target| target["datasource"].is_object());
            assert!(own && panel["datasource"].is_object(), "{file}: {} has no data source", panel["title"]);
        }
        let variables = dashboard["templating"]["list"].as_array().unwrap();
        let has = |name: &str, kind: &str| variables.iter().any(|v| v["name"] == name && v["type"] == kind);
        assert!(
            has("datasource", "datasource") && has("instance", "query") && has("trunk", "query"),
            "{file}"
        );
    }
}

#[test]
fn rates_span_the_interval_grafana_chooses() {
    let window = Regex::new(r"\[([^\]]*)\]").unwrap();
    for query in queries() {
        for found in window.captures_iter(&query.written) {
            let fits = if query.instant { "$__range" } else { "$__rate_interval" };
            assert_eq!(&found[1], fits, "{}: {}", query.panel, query.written);
        }
    }
}

#[test]
fn every_panel_keeps_to_the_gateways_chosen() {
    let selector = Regex::new(r"\b((?:tandem|process)_[a-z0-9_]+)(\{[^}]*\})?").unwrap();
    for query in queries() {
        for found in selector.captures_iter(&query.written) {
            let matchers = found.get(2).map(|matchers| matchers.as_str()).unwrap_or("");
            assert!(matchers.contains("instance=~\"$instance\""), "{}: {}", query.panel, &found[1]);
        }
    }
}

#[test]
fn expressions_name_only_what_the_gateway_exports_or_the_rules_record() {
    let rules = read("prometheus/rules.yaml");
    let known: BTreeSet<String> = exported().into_iter().chain(recorded(&rules)).collect();
    let asked = queries().into_iter().map(|query| (query.panel.clone(), query.written));
    let ruled = rules.lines().map(|line| ("rules.yaml".to_owned(), line.to_owned()));
    for (place, expression) in asked.chain(ruled) {
        // A group's name looks like a metric's but for its dash.
        for name in named(&expression).iter().filter(|_| !expression.contains("- name: ")) {
            assert!(known.contains(name), "{place}: {name} is exported by nobody");
        }
    }
}

#[test]
fn every_metric_of_ours_is_seen_by_somebody() {
    let seen: String = queries().iter().map(|query| query.written.clone() + "\n").collect::<String>()
        + &read("prometheus/rules.yaml");
    // Choosing a gateway in the dashboard asks for this one.
    let chosen = ["tandem_build_info"];
    for name in
        exported().iter().filter(|name| name.starts_with("tandem_") && !chosen.contains(&name.as_str()))
    {
        let family =
            ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
        assert!(seen.contains(family), "{name} stands on no dashboard and in no rule");
    }
}

#[test]
fn prometheus_understands_every_expression() {
    let mut rules = String::from("groups:\n  - name: panels\n    rules:\n");
    for (index, query) in queries().iter().enumerate() {
        let expression = serde_json::to_string(&query.expression("1m", "3h")).unwrap();
        rules += &format!("      - record: panel_{index}\n        expr: {expression}\n");
    }
    let file = std::env::temp_dir().join(format!("tandem-panels-{}.yaml", std::process::id()));
    std::fs::write(&file, rules).unwrap();
    let said = promtool(&["check", "rules", &file.to_string_lossy()]);
    std::fs::remove_file(&file).unwrap();
    assert!(said.contains(&format!("{} rules found", queries().len())), "{said}");
    promtool(&["check", "rules", "rules.yaml"]);
    promtool(&["check", "config", "prometheus.yaml"]);
}

#[test]
fn every_alert_is_tested_firing_and_not_firing() {
    let alert = Regex::new(r"(?m)^ +- alert: (\S+)$").unwrap();
    let rules = read("prometheus/rules.yaml");
    let mut tested: BTreeMap<String, (bool, bool)> =
        alert.captures_iter(&rules).map(|found| (found[1].to_owned(), (false, false))).collect();
    assert!(tested.len() > 10);
    let case = Regex::new(r"alertname: ([A-Za-z]+)[\s,]+exp_alerts:(\s*\[\])?").unwrap();
    let tests = read("prometheus/rules_test.yaml") + &read("prometheus/rules_long_test.yaml");
    for found in case.captures_iter(&tests) {
        let (firing, quiet) = tested.get_mut(&found[1]).unwrap_or_else(|| panic!("no alert {}", &found[1]));
        if found.get(2).is_some() {
            *quiet = true;
        } else {
            *firing = true;
        }
    }
    for (alert, (firing, quiet)) in tested {
        assert!(firing && quiet, "{alert}: tested firing {firing}, not firing {quiet}");
    }
    promtool(&["test", "rules", "rules_test.yaml", "rules_long_test.yaml"]);
}

#[test]
fn provisioning_leads_grafana_to_the_data_source_and_the_dashboards() {
    assert!(read("provisioning/datasources/prometheus.yaml").contains("type: prometheus"));
    let dashboards = read("provisioning/dashboards/tandem.yaml");
    let path = dashboards.lines().find_map(|line| line.trim().strip_prefix("path: ")).unwrap();
    assert!(
        Path::new(path).is_absolute() && read("README.md").contains(path),
        "the README copies them to {path}"
    );
}
