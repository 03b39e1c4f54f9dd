//! `/api/v1/route`: what a call would do, without making it.

use super::access::Role;
use super::control::{ControlCommand, RouteQuery, RouteView};
use super::endpoint::{Answer, Endpoint};
use super::extract::Params;
use super::{Problem, Shared};
use axum::Json;
use axum::extract::State;
use axum::routing::get;

pub(super) const ENDPOINTS: &[Endpoint] = &[Endpoint {
    method: "GET",
    path: "/api/v1/route",
    role: Some(Role::Read),
    summary: "Explain a call: rules matched, number after each rewrite, trunks in order, rate",
    query: &[
        ("from", "name of an app user, or trunk:NAME"),
        ("to", "what is dialled, as the caller would send it"),
        ("calling", "the number the caller presents"),
        ("at", "when the call would be made; now if absent"),
    ],
    body: None,
    answer: Answer::Json("Route"),
    problems: &[400, 404],
    handler: || get(explain),
}];

/// Numbers are not masked even for a reader: they are the ones the question brought.
async fn explain(
    State(admin): State<Shared>,
    Params(query): Params<RouteQuery>,
) -> Result<Json<RouteView>, Problem> {
    let answer = admin.control.ask(|reply| ControlCommand::Route { query, reply }).await?;
    answer.map(Json).map_err(|error| Problem::not_found(error.to_string()))
}
