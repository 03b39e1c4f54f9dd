//! `/api/v1/trunks`: how the trunks are; block, unblock, drain.

use super::access::Role;
use super::control::{ControlCommand, TrunkAction, TrunkView};
use super::endpoint::{Answer, Endpoint};
use super::extract::At;
use super::{Problem, Shared};
use axum::Json;
use axum::extract::State;
use axum::routing::{get, post};
use serde::Serialize;

pub(super) const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        method: "GET",
        path: "/api/v1/trunks",
        role: Some(Role::Read),
        summary: "All trunks in the order of the configuration",
        query: &[],
        body: None,
        answer: Answer::List("trunks", "Trunk"),
        problems: &[],
        handler: || get(list),
    },
    Endpoint {
        method: "GET",
        path: "/api/v1/trunks/{name}",
        role: Some(Role::Read),
        summary: "One trunk",
        query: &[],
        body: None,
        answer: Answer::Json("Trunk"),
        problems: &[404],
        handler: || get(show),
    },
    action(TrunkAction::Block, || post(block)),
    action(TrunkAction::Unblock, || post(unblock)),
    action(TrunkAction::Drain, || post(drain)),
];

const fn action(action: TrunkAction, handler: fn() -> axum::routing::MethodRouter<Shared>) -> Endpoint {
    let (path, summary) = match action {
        TrunkAction::Block => {
            ("/api/v1/trunks/{name}/block", "Take no calls from or to the trunk until it is unblocked")
        }
        TrunkAction::Unblock => ("/api/v1/trunks/{name}/unblock", "End a block or a drain of the trunk"),
        TrunkAction::Drain => {
            ("/api/v1/trunks/{name}/drain", "Give the trunk no new calls; running ones go on")
        }
    };
    Endpoint {
        method: "POST",
        path,
        role: Some(Role::Operate),
        summary,
        query: &[],
        body: None,
        answer: Answer::Json("Trunk"),
        problems: &[404],
        handler,
    }
}

#[derive(Serialize)]
struct Trunks {
    trunks: Vec<TrunkView>,
}

async fn list(State(admin): State<Shared>) -> Result<Json<Trunks>, Problem> {
    Ok(Json(Trunks { trunks: admin.control.ask(|reply| ControlCommand::Trunks { reply }).await? }))
}

async fn show(State(admin): State<Shared>, At(name): At<String>) -> Result<Json<TrunkView>, Problem> {
    let trunks = admin.control.ask(|reply| ControlCommand::Trunks { reply }).await?;
    trunks.into_iter().find(|trunk| trunk.name == name).map(Json).ok_or_else(|| unknown(&name))
}

async fn block(admin: State<Shared>, name: At<String>) -> Result<Json<TrunkView>, Problem> {
    act(admin, name, TrunkAction::Block).await
}

async fn unblock(admin: State<Shared>, name: At<String>) -> Result<Json<TrunkView>, Problem> {
    act(admin, name, TrunkAction::Unblock).await
}

async fn drain(admin: State<Shared>, name: At<String>) -> Result<Json<TrunkView>, Problem> {
    act(admin, name, TrunkAction::Drain).await
}

async fn act(
    State(admin): State<Shared>,
    At(name): At<String>,
    action: TrunkAction,
) -> Result<Json<TrunkView>, Problem> {
    let command = |reply| ControlCommand::Trunk { name: name.clone(), action, reply };
    admin.control.ask(command).await?.map(Json).ok_or_else(|| unknown(&name))
}

fn unknown(name: &str) -> Problem {
    Problem::not_found(format!("there is no trunk \"{name}\""))
}
