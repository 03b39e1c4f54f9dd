//! `/health` and `/metrics`: for probes and Prometheus, without a token.

use super::control::{CheckState, ControlCommand, Readiness, ReadinessCheck};
use super::endpoint::{Answer, Endpoint};
use super::{Problem, Shared};
use crate::telemetry::metrics;
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use serde::Serialize;

pub(super) const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        method: "GET",
        path: "/health/live",
        role: None,
        summary: "The process serves requests",
        query: &[],
        body: None,
        answer: Answer::Json("Health"),
        problems: &[],
        handler: || get(live),
    },
    Endpoint {
        method: "GET",
        path: "/health/ready",
        role: None,
        summary: "The gateway takes calls; 503 with the same document when it can't, or while it drains",
        query: &[],
        body: None,
        answer: Answer::Json("Health"),
        problems: &[],
        handler: || get(ready),
    },
    Endpoint {
        method: "GET",
        path: "/metrics",
        role: None,
        summary: "Metrics in Prometheus' text format",
        query: &[],
        body: None,
        answer: Answer::Text("text/plain"),
        problems: &[],
        handler: || get(scrape),
    },
];

/// How the gateway is, and why.
#[derive(Serialize)]
struct Health {
    status: CheckState,
    #[serde(flatten)]
    readiness: Readiness,
}

async fn live() -> Json<Health> {
    Json(Health { status: CheckState::Ok, readiness: Readiness::default() })
}

async fn ready(State(admin): State<Shared>) -> impl IntoResponse {
    let readiness =
        admin.control.ask(|reply| ControlCommand::Readiness { reply }).await.unwrap_or_else(|error| {
            let check = ReadinessCheck::new("signalling", CheckState::Failed, error.to_string());
            Readiness { checks: vec![check] }
        });
    let status = readiness.state();
    let code = match status {
        CheckState::Ok | CheckState::Degraded => StatusCode::OK,
        CheckState::Failed => StatusCode::SERVICE_UNAVAILABLE,
    };
    (code, Json(Health { status, readiness }))
}

/// A scrape looks at disks and locks, so it gets a thread that may wait: nothing that serves calls waits with it.
async fn scrape(State(admin): State<Shared>) -> Result<impl IntoResponse, Problem> {
    let text = tokio::task::spawn_blocking(move || admin.metrics.render()).await;
    let text = text.map_err(|error| Problem::unavailable(format!("metrics can't be read: {error}")))?;
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text))
}
