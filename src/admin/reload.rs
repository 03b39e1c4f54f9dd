//! `/api/v1/reload`: take up the configuration again, as a whole or not at all.

use super::access::Role;
use super::control::{ControlCommand, ReloadReport};
use super::endpoint::{Answer, Endpoint};
use super::{Problem, Shared};
use axum::Json;
use axum::extract::State;
use axum::routing::post;
use std::time::Duration;

pub(super) const ENDPOINTS: &[Endpoint] = &[Endpoint {
    method: "POST",
    path: "/api/v1/reload",
    role: Some(Role::Operate),
    summary: "Reload dialplans, trunks, users and certificates; running calls are not touched",
    query: &[],
    body: None,
    answer: Answer::Json("Reload"),
    problems: &[422],
    handler: || post(reload),
}];

/// Reading files and a database of users takes longer than a look at the calls.
const PATIENCE: Duration = Duration::from_secs(30);

async fn reload(State(admin): State<Shared>) -> Result<Json<ReloadReport>, Problem> {
    let report = admin.control.patient(PATIENCE).ask(|reply| ControlCommand::Reload { reply }).await?;
    if report.accepted {
        Ok(Json(report))
    } else {
        let refusal = Problem::unprocessable("the configuration has errors, so the old one stays");
        Err(refusal.with_errors(report.errors))
    }
}
