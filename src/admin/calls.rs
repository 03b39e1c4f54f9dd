//! `/api/v1/calls`: the calls now running, and hanging up.

use super::access::{Caller, Role};
use super::control::{CallView, ControlCommand};
use super::endpoint::{Answer, Endpoint};
use super::extract::{At, Params};
use super::{Problem, Shared};
use crate::types::{CallId, Direction};
use axum::Json;
use axum::extract::State;
use axum::routing::{delete, get};
use serde::{Deserialize, Serialize};

pub(super) const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        method: "GET",
        path: "/api/v1/calls",
        role: Some(Role::Read),
        summary: "Live calls, oldest first",
        query: &[
            ("trunk", "only calls from or to this trunk"),
            ("user", "only calls from or to this app user"),
            ("direction", "app_to_trunk, trunk_to_app, app_to_app or trunk_to_trunk"),
        ],
        body: None,
        answer: Answer::List("calls", "Call"),
        problems: &[400],
        handler: || get(list),
    },
    Endpoint {
        method: "GET",
        path: "/api/v1/calls/{id}",
        role: Some(Role::Read),
        summary: "One live call",
        query: &[],
        body: None,
        answer: Answer::Json("Call"),
        problems: &[400, 404],
        handler: || get(show),
    },
    Endpoint {
        method: "DELETE",
        path: "/api/v1/calls/{id}",
        role: Some(Role::Operate),
        summary: "Hang a call up; answers with the call as it was",
        query: &[],
        body: None,
        answer: Answer::Json("Call"),
        problems: &[400, 404],
        handler: || delete(hang_up),
    },
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    trunk: Option<String>,
    user: Option<String>,
    direction: Option<Direction>,
}

impl Filter {
    fn takes(&self, call: &CallView) -> bool {
        let names =
            |wanted: &Option<String>, ends: [&Option<String>; 2]| wanted.is_none() || ends.contains(&wanted);
        names(&self.trunk, [&call.ingress_trunk, &call.egress_trunk])
            && names(&self.user, [&call.caller_user, &call.callee_user])
            && self.direction.is_none_or(|direction| direction == call.direction)
    }
}

#[derive(Serialize)]
struct Calls {
    calls: Vec<CallView>,
}

async fn list(
    State(admin): State<Shared>,
    caller: Caller,
    Params(filter): Params<Filter>,
) -> Result<Json<Calls>, Problem> {
    let calls = admin.control.ask(|reply| ControlCommand::Calls { reply }).await?;
    let calls =
        calls.into_iter().filter(|call| filter.takes(call)).map(|call| shown(call, &caller)).collect();
    Ok(Json(Calls { calls }))
}

async fn show(
    State(admin): State<Shared>,
    caller: Caller,
    At(id): At<CallId>,
) -> Result<Json<CallView>, Problem> {
    let call = admin.control.ask(|reply| ControlCommand::Call { id, reply }).await?;
    call.map(|call| Json(shown(call, &caller))).ok_or_else(|| gone(id))
}

async fn hang_up(
    State(admin): State<Shared>,
    caller: Caller,
    At(id): At<CallId>,
) -> Result<Json<CallView>, Problem> {
    let call = admin.control.ask(|reply| ControlCommand::Hangup { id, reply }).await?;
    call.map(|call| Json(shown(call, &caller))).ok_or_else(|| gone(id))
}

fn shown(call: CallView, caller: &Caller) -> CallView {
    if caller.sees_numbers() { call } else { call.masked() }
}

fn gone(id: CallId) -> Problem {
    Problem::not_found(format!(
        "there is no live call {id}; if it has ended, /api/v1/cdrs/{id} has its record"
    ))
}
