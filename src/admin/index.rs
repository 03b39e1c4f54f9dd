//! `GET /`: one static page that says what this is and links what there is.

use super::Shared;
use super::endpoint::{Answer, Endpoint};
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, get};

pub(super) const ENDPOINTS: &[Endpoint] = &[Endpoint {
    method: "GET",
    path: "/",
    role: None,
    summary: "A page that links what there is",
    query: &[],
    body: None,
    answer: Answer::Text("text/html"),
    problems: &[],
    handler,
}];

const PAGE: &str = include_str!("index.html");

fn handler() -> MethodRouter<Shared> {
    get(async || {
        let headers = [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'"),
        ];
        (headers, PAGE).into_response()
    })
}
