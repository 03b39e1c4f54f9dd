//! `/api/v1/log`: what is logged, changed while calls run.

use super::access::Role;
use super::endpoint::{Answer, Endpoint};
use super::extract::Body;
use super::{Problem, Shared};
use axum::Json;
use axum::extract::State;
use axum::routing::{get, put};
use serde::{Deserialize, Serialize};

pub(super) const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        method: "GET",
        path: "/api/v1/log",
        role: Some(Role::Read),
        summary: "The log level, and the lines given up because their reader was too slow",
        query: &[],
        body: None,
        answer: Answer::Json("Log"),
        problems: &[],
        handler: || get(show),
    },
    Endpoint {
        method: "PUT",
        path: "/api/v1/log",
        role: Some(Role::Operate),
        summary: "Change the log level until the next restart or reload",
        query: &[],
        body: Some("LogLevel"),
        answer: Answer::Json("Log"),
        problems: &[400, 422],
        handler: || put(set),
    },
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Level {
    level: String,
}

#[derive(Serialize)]
struct Log {
    level: String,
    dropped_lines: u64,
}

async fn show(State(admin): State<Shared>) -> Json<Log> {
    Json(Log { level: admin.log.level(), dropped_lines: admin.log.dropped() })
}

async fn set(admin: State<Shared>, Body(wanted): Body<Level>) -> Result<Json<Log>, Problem> {
    admin.log.set_level(&wanted.level).map_err(|error| Problem::unprocessable(error.to_string()))?;
    Ok(show(admin).await)
}
