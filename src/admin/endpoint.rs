//! One endpoint: what it serves, whom, and what the OpenAPI document says of it.

use super::Shared;
use super::access::{Role, guard};
use axum::middleware::from_fn_with_state;
use axum::routing::MethodRouter;

/// A row of a resource's table.
pub(super) struct Endpoint {
    pub method: &'static str,
    /// With variables in braces, as both axum and OpenAPI write them.
    pub path: &'static str,
    /// `None` is open to everybody.
    pub role: Option<Role>,
    pub summary: &'static str,
    /// Query parameters and what they mean. Path variables speak for themselves.
    pub query: &'static [(&'static str, &'static str)],
    /// Schema of the JSON body.
    pub body: Option<&'static str>,
    pub answer: Answer,
    /// Statuses of the problems it may answer beside 401, 403 and 503.
    pub problems: &'static [u16],
    pub handler: fn() -> MethodRouter<Shared>,
}

/// What a successful request gets.
pub(super) enum Answer {
    /// A JSON document of this schema.
    Json(&'static str),
    /// An object with one list of this schema: (name of the list, schema).
    List(&'static str, &'static str),
    /// The same, or CSV by `Accept`.
    Page(&'static str, &'static str),
    /// Another media type.
    Text(&'static str),
    /// 201 with a JSON document of this schema.
    Created(&'static str),
    /// 204.
    Nothing,
}

impl Endpoint {
    /// The handler behind its role.
    pub fn guarded(&self, admin: &Shared) -> MethodRouter<Shared> {
        match self.role {
            Some(role) => (self.handler)().route_layer(from_fn_with_state((admin.clone(), role), guard)),
            None => (self.handler)(),
        }
    }
}
