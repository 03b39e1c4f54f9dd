//! `/api/openapi.json`: the API described, made from the same tables as the router.

use super::Shared;
use super::endpoint::{Answer, Endpoint};
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, get};
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

pub(super) const ENDPOINTS: &[Endpoint] = &[Endpoint {
    method: "GET",
    path: "/api/openapi.json",
    role: None,
    summary: "This document",
    query: &[],
    body: None,
    answer: Answer::Text("application/json"),
    problems: &[],
    handler,
}];

static DOCUMENT: LazyLock<String> = LazyLock::new(|| document().to_string());

fn handler() -> MethodRouter<Shared> {
    get(async || ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.as_str()).into_response())
}

/// The whole document (OpenAPI 3.1).
pub(super) fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for endpoint in super::endpoints() {
        let path = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        path[endpoint.method.to_ascii_lowercase()] = operation(endpoint);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tandem admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Times are RFC 3339 in UTC. Errors are problem JSON (RFC 9457). A token with the role \
                            read sees phone numbers masked.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

/// The schemas, hand-written; a test holds them against what the views really serialise to.
pub(super) fn schemas() -> Value {
    serde_json::from_str(include_str!("openapi/schemas.json")).expect("the embedded schemas are JSON")
}

fn operation(endpoint: &Endpoint) -> Value {
    let path_variables =
        endpoint.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let path_variables = path_variables
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }));
    let query = endpoint.query.iter().map(|(name, meaning)| {
        json!({ "name": name, "in": "query", "description": meaning, "schema": { "type": "string" } })
    });
    let mut operation = json!({
        "summary": endpoint.summary,
        "parameters": path_variables.chain(query).collect::<Vec<_>>(),
        "responses": responses(endpoint),
    });
    if let Some(role) = endpoint.role {
        operation["security"] = json!([{ "token": [] }]);
        operation["x-role"] = json!(role.as_str());
    }
    if let Some(schema) = endpoint.body {
        let content = json!({ "application/json": { "schema": reference(schema) } });
        operation["requestBody"] = json!({ "required": true, "content": content });
    }
    operation
}

fn responses(endpoint: &Endpoint) -> Value {
    let (status, content) = match endpoint.answer {
        Answer::Json(schema) => (200, json!({ "application/json": { "schema": reference(schema) } })),
        Answer::Created(schema) => (201, json!({ "application/json": { "schema": reference(schema) } })),
        Answer::List(name, schema) => (200, json!({ "application/json": { "schema": list(name, schema) } })),
        Answer::Page(name, schema) => {
            let mut page = list(name, schema);
            page["properties"]["next"] = json!({
                "type": ["string", "null"],
                "description": "the cursor of the next page; null on the last",
            });
            let csv = json!({ "schema": { "type": "string" } });
            (200, json!({ "application/json": { "schema": page }, "text/csv": csv }))
        }
        Answer::Text(media) => (200, json!({ media: {} })),
        Answer::Nothing => (204, Value::Null),
    };
    let mut responses = Map::new();
    let mut success = json!({ "description": "OK" });
    if !content.is_null() {
        success["content"] = content;
    }
    responses.insert(status.to_string(), success);
    // What the guard and a silent core may add to any guarded endpoint.
    let common: &[u16] = if endpoint.role.is_some() { &[401, 403, 503] } else { &[] };
    for status in endpoint.problems.iter().chain(common) {
        let content = json!({ "application/problem+json": { "schema": reference("Problem") } });
        responses.insert(status.to_string(), json!({ "description": "Problem", "content": content }));
    }
    Value::Object(responses)
}

fn list(name: &str, schema: &str) -> Value {
    json!({
        "type": "object",
        "required": [name],
        "properties": { name: { "type": "array", "items": reference(schema) } },
    })
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}
