//! `/api/v1/drain`: take no new calls, serve those that run.

use super::access::Role;
use super::control::{ControlCommand, DrainView};
use super::endpoint::{Answer, Endpoint};
use super::{Problem, Shared};
use axum::Json;
use axum::extract::State;
use axum::routing::{delete, post};

pub(super) const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        method: "POST",
        path: "/api/v1/drain",
        role: Some(Role::Operate),
        summary: "Take no new calls; running ones go on. SIGTERM does the same and then ends the process",
        query: &[],
        body: None,
        answer: Answer::Json("Drain"),
        problems: &[],
        handler: || post(start),
    },
    Endpoint {
        method: "DELETE",
        path: "/api/v1/drain",
        role: Some(Role::Operate),
        summary: "Take new calls again",
        query: &[],
        body: None,
        answer: Answer::Json("Drain"),
        problems: &[],
        handler: || delete(end),
    },
];

async fn start(admin: State<Shared>) -> Result<Json<DrainView>, Problem> {
    set(admin, true).await
}

async fn end(admin: State<Shared>) -> Result<Json<DrainView>, Problem> {
    set(admin, false).await
}

async fn set(State(admin): State<Shared>, on: bool) -> Result<Json<DrainView>, Problem> {
    Ok(Json(admin.control.ask(|reply| ControlCommand::Drain { on, reply }).await?))
}
