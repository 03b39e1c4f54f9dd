//! `/api/v1/users`: app users of the file and the database.

use super::access::{Caller, Role};
use super::control::{ControlCommand, UserView};
use super::endpoint::{Answer, Endpoint};
use super::extract::At;
use super::{Problem, Shared};
use axum::Json;
use axum::extract::State;
use axum::routing::get;
use serde::Serialize;

pub(super) const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        method: "GET",
        path: "/api/v1/users",
        role: Some(Role::Read),
        summary: "All app users, by name",
        query: &[],
        body: None,
        answer: Answer::List("users", "User"),
        problems: &[],
        handler: || get(list),
    },
    Endpoint {
        method: "GET",
        path: "/api/v1/users/{name}",
        role: Some(Role::Read),
        summary: "One app user",
        query: &[],
        body: None,
        answer: Answer::Json("User"),
        problems: &[404],
        handler: || get(show),
    },
];

#[derive(Serialize)]
struct Users {
    users: Vec<UserView>,
}

async fn list(State(admin): State<Shared>, caller: Caller) -> Result<Json<Users>, Problem> {
    let users = admin.control.ask(|reply| ControlCommand::Users { reply }).await?;
    Ok(Json(Users { users: users.into_iter().map(|user| shown(user, &caller)).collect() }))
}

async fn show(
    State(admin): State<Shared>,
    caller: Caller,
    At(name): At<String>,
) -> Result<Json<UserView>, Problem> {
    let users = admin.control.ask(|reply| ControlCommand::Users { reply }).await?;
    let user = users.into_iter().find(|user| user.name == name);
    user.map(|user| Json(shown(user, &caller))).ok_or_else(|| unknown(&name))
}

fn shown(user: UserView, caller: &Caller) -> UserView {
    if caller.sees_numbers() { user } else { user.masked() }
}

fn unknown(name: &str) -> Problem {
    Problem::not_found(format!("there is no user \"{name}\""))
}
