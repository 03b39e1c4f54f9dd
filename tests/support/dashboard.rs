//! The Grafana dashboards as data: panels, and their expressions as Prometheus gets them.

use serde_json::Value;
use std::path::PathBuf;

/// One query of one panel.
#[derive(Debug, Clone)]
pub struct Query {
    pub panel: String,
    /// As written, with Grafana's variables.
    pub written: String,
    /// True where only the newest value is shown.
    pub instant: bool,
}

impl Query {
    /// The expression for Prometheus, with all gateways and all trunks selected.
    pub fn expression(&self, rate_interval: &str, range: &str) -> String {
        self.selecting(rate_interval, range, ".*", ".*")
    }

    /// The expression with these gateways and trunks selected.
    pub fn selecting(&self, rate_interval: &str, range: &str, instance: &str, trunk: &str) -> String {
        self.written
            .replace("$__rate_interval", rate_interval)
            .replace("$__range", range)
            .replace("$instance", instance)
            .replace("$trunk", trunk)
    }
}

pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("grafana")
}

/// Every dashboard file with its name.
pub fn dashboards() -> Vec<(String, Value)> {
    let files = std::fs::read_dir(folder().join("dashboards")).expect("the dashboards' folder");
    let mut found: Vec<(String, Value)> = files
        .map(|file| {
            let path = file.expect("a directory entry").path();
            let text = std::fs::read_to_string(&path).expect("a readable dashboard");
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let dashboard = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            (name, dashboard)
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(!found.is_empty(), "there is a dashboard");
    found
}

/// The panels of a dashboard, rows left out.
pub fn panels(dashboard: &Value) -> Vec<&Value> {
    let all = dashboard["panels"].as_array().expect("panels");
    all.iter().filter(|panel| panel["type"] != "row").collect()
}

/// Every query of every panel of every dashboard.
pub fn queries() -> Vec<Query> {
    let mut found = Vec::new();
    for (_, dashboard) in dashboards() {
        for panel in panels(&dashboard) {
            for target in panel["targets"].as_array().expect("targets") {
                found.push(Query {
                    panel: panel["title"].as_str().expect("a title").to_owned(),
                    written: target["expr"].as_str().expect("an expression").to_owned(),
                    instant: target["instant"] == true,
                });
            }
        }
    }
    found
}
