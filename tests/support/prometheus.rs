//! A real Prometheus that scrapes a gateway each second and answers PromQL.

use super::{http, lane::Lane, process::Process, wait};
use serde_json::Value;
use std::{net::SocketAddr, path::Path, process::Command};

pub struct Prometheus {
    _process: Process,
    address: SocketAddr,
}

/// One series of an answer.
#[derive(Debug, Clone)]
pub struct Series {
    pub labels: Vec<(String, String)>,
    pub value: f64,
}

impl Series {
    /// The value of one label; empty where there is none, as Prometheus sees it.
    pub fn label(&self, name: &str) -> &str {
        let found = self.labels.iter().find(|(label, _)| label == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    }
}

impl Prometheus {
    /// Starts a Prometheus that scrapes `targets` and loads the rule files.
    #[track_caller]
    pub fn start(lane: &Lane, targets: &[SocketAddr], rules: &[&Path]) -> Prometheus {
        let folder = lane.make_folder("prometheus");
        let address = lane.address();
        let targets: Vec<String> = targets.iter().map(|target| format!("\"{target}\"")).collect();
        let rules: Vec<String> = rules.iter().map(|rule| format!("\"{}\"", rule.display())).collect();
        let config = format!(
            "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\n  evaluation_interval: 1s\n\
             rule_files: [{}]\n\
             scrape_configs:\n  - job_name: tandem\n    static_configs:\n      - targets: [{}]\n",
            rules.join(", "),
            targets.join(", ")
        );
        std::fs::write(folder.join("prometheus.yml"), config).expect("a configuration file");
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=warn")
            .current_dir(&folder);
        let process = Process::start("prometheus", command);
        let prometheus = Prometheus { _process: process, address };
        wait::until("Prometheus to be ready", wait::START, || {
            http::get(address, "/-/ready").ok().filter(|answer| answer.status == 200)
        });
        prometheus
    }

    /// Waits until every target has been scraped.
    #[track_caller]
    pub fn wait_scraped(&self, targets: usize) {
        wait::until("Prometheus to scrape", wait::START, || {
            let up = self.query("up").iter().filter(|series| series.value == 1.0).count();
            (up == targets).then_some(())
        });
    }

    /// The instant value of an expression, now.
    #[track_caller]
    pub fn query(&self, expression: &str) -> Vec<Series> {
        self.try_query(expression).unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    /// As [`query`](Prometheus::query), with what Prometheus finds wrong with it.
    pub fn try_query(&self, expression: &str) -> Result<Vec<Series>, String> {
        self.answer(format!("/api/v1/query?query={}", http::escape(expression)))
    }

    /// The value that an expression had at a moment, in seconds since the epoch.
    pub fn query_at(&self, expression: &str, unix_seconds: f64) -> Result<Vec<Series>, String> {
        self.answer(format!("/api/v1/query?query={}&time={unix_seconds:.3}", http::escape(expression)))
    }

    fn answer(&self, path: String) -> Result<Vec<Series>, String> {
        let answer = http::get(self.address, &path).map_err(|error| error.to_string())?;
        let json = answer.json();
        if json["status"] != "success" {
            return Err(json["error"].as_str().unwrap_or_default().to_owned());
        }
        let result = &json["data"]["result"];
        let number = |value: &Value| value.as_str().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN);
        if json["data"]["resultType"] == "scalar" {
            return Ok(vec![Series { labels: Vec::new(), value: number(&result[1]) }]);
        }
        Ok(result
            .as_array()
            .into_iter()
            .flatten()
            .map(|series| Series {
                labels: series["metric"]
                    .as_object()
                    .into_iter()
                    .flatten()
                    .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
                    .collect(),
                value: number(&series["value"][1]),
            })
            .collect())
    }

    /// Waits until the only series of an expression fits.
    #[track_caller]
    pub fn wait_value(&self, expression: &str, fits: impl Fn(f64) -> bool) -> f64 {
        let mut last = Vec::new();
        let found = wait::within(wait::START, || {
            last = self.query(expression);
            match last.as_slice() {
                [one] if fits(one.value) => Some(one.value),
                _ => None,
            }
        });
        found.unwrap_or_else(|| panic!("{expression} is {last:?}"))
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
