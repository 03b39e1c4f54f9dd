//! `/api/v1/calls/{id}/trace`: the signalling of a recent call as a ladder, or as a capture file.

use super::access::{Caller, Role};
use super::control::{ControlCommand, Traced};
use super::endpoint::{Answer, Endpoint};
use super::extract::{At, Params};
use super::{Problem, Shared};
use crate::telemetry::trace::{TraceView, pcap};
use crate::types::CallId;
use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;

const PCAP: &str = "application/vnd.tcpdump.pcap";

pub(super) const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        method: "GET",
        path: "/api/v1/calls/{id}/trace",
        role: Some(Role::Read),
        summary: "SIP ladder of a live or recent call, both legs' media and a verdict",
        query: &[(
            "whole",
            "true shows messages as they were; takes the admin role and trace.whole, and is noted in the log",
        )],
        body: None,
        answer: Answer::Json("Trace"),
        problems: &[400, 404],
        handler: || get(show),
    },
    Endpoint {
        method: "GET",
        path: "/api/v1/calls/{id}/trace.pcap",
        role: Some(Role::Admin),
        summary: "The same as a capture file; takes trace.whole, and is noted in the log",
        query: &[],
        body: None,
        answer: Answer::Text(PCAP),
        problems: &[400, 404],
        handler: || get(capture),
    },
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct How {
    #[serde(default)]
    whole: bool,
}

async fn show(
    State(admin): State<Shared>,
    caller: Caller,
    At(id): At<CallId>,
    Params(how): Params<How>,
) -> Result<Json<TraceView>, Problem> {
    let traced = traced(&admin, id).await?;
    if how.whole {
        may_see_whole(&caller, &traced)?;
        audit(&caller, id);
    }
    Ok(Json(TraceView::of(&traced.kept, how.whole)))
}

async fn capture(
    State(admin): State<Shared>,
    caller: Caller,
    At(id): At<CallId>,
) -> Result<Response, Problem> {
    let traced = traced(&admin, id).await?;
    may_see_whole(&caller, &traced)?;
    audit(&caller, id);
    let file = pcap(&traced.kept);
    let name = format!("attachment; filename=\"{id}.pcap\"");
    Ok(([(header::CONTENT_TYPE, PCAP.to_owned()), (header::CONTENT_DISPOSITION, name)], file).into_response())
}

async fn traced(admin: &Shared, id: CallId) -> Result<Traced, Problem> {
    let traced = admin.control.ask(|reply| ControlCommand::Trace { id, reply }).await?;
    traced.ok_or_else(|| {
        Problem::not_found(format!(
            "no trace of call {id} is kept; trace.calls says how many calls are, /api/v1/cdrs/{id} has its record"
        ))
    })
}

fn may_see_whole(caller: &Caller, traced: &Traced) -> Result<(), Problem> {
    if caller.role < Role::Admin {
        return Err(Problem::forbidden("whole messages take the admin role"));
    }
    if !traced.may_be_whole {
        return Err(Problem::forbidden(
            "whole messages are not shown here; set trace.whole = true and reload",
        ));
    }
    Ok(())
}

/// Who looked at what stays known.
fn audit(caller: &Caller, id: CallId) {
    tracing::warn!(target: "tandem::audit", by = %caller.token, call = %id, "the signalling of a call was shown whole");
}
