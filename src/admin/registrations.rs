//! `/api/v1/registrations`: where app users are reached now.

use super::access::Role;
use super::control::{ControlCommand, RegistrationView};
use super::endpoint::{Answer, Endpoint};
use super::extract::Params;
use super::{Problem, Shared};
use axum::Json;
use axum::extract::State;
use axum::routing::get;
use serde::{Deserialize, Serialize};

pub(super) const ENDPOINTS: &[Endpoint] = &[Endpoint {
    method: "GET",
    path: "/api/v1/registrations",
    role: Some(Role::Read),
    summary: "Contacts of app users, by user",
    query: &[("user", "only contacts of this app user")],
    body: None,
    answer: Answer::List("registrations", "Registration"),
    problems: &[400],
    handler: || get(list),
}];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    user: Option<String>,
}

#[derive(Serialize)]
struct Registrations {
    registrations: Vec<RegistrationView>,
}

async fn list(
    State(admin): State<Shared>,
    Params(filter): Params<Filter>,
) -> Result<Json<Registrations>, Problem> {
    let mut registrations = admin.control.ask(|reply| ControlCommand::Registrations { reply }).await?;
    registrations.retain(|registration| filter.user.as_ref().is_none_or(|user| *user == registration.user));
    Ok(Json(Registrations { registrations }))
}
