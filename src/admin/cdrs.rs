//! `/api/v1/cdrs`: call records, filtered, sorted, paged; CSV for who asks for it.

mod csv;
mod view;

pub use view::{CdrLegView, CdrView, RatedView};

use super::access::{Caller, Role};
use super::endpoint::{Answer, Endpoint};
use super::extract::{At, Params};
use super::{Problem, Shared, client, rfc3339};
use crate::billing::CdrState;
use crate::store::{CdrFilter, CdrQuery, CdrRow, StoreError};
use crate::types::{CallId, Direction, E164, Outcome, UnixMillis};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::{Deserialize, Serialize};

const PATH: &str = "/api/v1/cdrs";
const LONGEST_PAGE: u32 = 1_000;

pub(super) const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        method: "GET",
        path: PATH,
        role: Some(Role::Read),
        summary: "Call records, newest first; CSV with Accept: text/csv. The Link header leads to the next page",
        query: &[
            ("from", "started at this time or later"),
            ("until", "started before this time"),
            ("trunk", "came from or went to this trunk"),
            ("user", "from or to this app user"),
            ("account", "paid by this account"),
            ("direction", "app_to_trunk, trunk_to_app, app_to_app or trunk_to_trunk"),
            ("state", "open, interim, final or recovered"),
            (
                "outcome",
                "answered, busy, no_answer, declined, cancelled, not_found, blocked, no_route, congestion, \
                         trunk_failure, media_failure or server_error",
            ),
            ("number", "from or to this E.164 number, whole; found also after the retention time"),
            ("sort", "started_at, released_at, duration_ms or pdd_ms; with - before it for descending"),
            ("limit", "records of a page, 1 to 1000; 100 if absent"),
            ("cursor", "next of the page before"),
        ],
        body: None,
        answer: Answer::Page("cdrs", "Cdr"),
        problems: &[400],
        handler: || get(list),
    },
    Endpoint {
        method: "GET",
        path: "/api/v1/cdrs/{id}",
        role: Some(Role::Read),
        summary: "One call record",
        query: &[],
        body: None,
        answer: Answer::Json("Cdr"),
        problems: &[400, 404],
        handler: || get(show),
    },
];

/// The query as it is written in the URL.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    #[serde(with = "rfc3339::option", default)]
    from: Option<UnixMillis>,
    #[serde(with = "rfc3339::option", default)]
    until: Option<UnixMillis>,
    trunk: Option<String>,
    user: Option<String>,
    account: Option<String>,
    direction: Option<Direction>,
    state: Option<CdrState>,
    outcome: Option<Outcome>,
    number: Option<String>,
    sort: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

impl Question {
    fn query(self) -> Result<CdrQuery, Problem> {
        let defaults = CdrQuery::default();
        let limit = self.limit.unwrap_or(defaults.limit);
        if !(1..=LONGEST_PAGE).contains(&limit) {
            return Err(Problem::bad_request(format!("limit is {limit}; write 1 to {LONGEST_PAGE}")));
        }
        let number =
            self.number.as_deref().map(str::parse::<E164>).transpose().map_err(Problem::bad_request)?;
        let order = self.sort.as_deref().map(str::parse).transpose().map_err(Problem::bad_request)?;
        let filter = CdrFilter {
            from: self.from,
            until: self.until,
            trunk: self.trunk,
            user: self.user,
            account: self.account,
            direction: self.direction,
            state: self.state,
            outcome: self.outcome,
            number,
        };
        Ok(CdrQuery { filter, order: order.unwrap_or(defaults.order), cursor: self.cursor, limit })
    }
}

/// A page as the API sends it and its client reads it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CdrsPage {
    pub cdrs: Vec<CdrView>,
    /// `cursor` of the next page; null on the last.
    pub next: Option<String>,
}

async fn list(
    State(admin): State<Shared>,
    caller: Caller,
    headers: HeaderMap,
    Params(question): Params<Question>,
    axum::extract::RawQuery(written): axum::extract::RawQuery,
) -> Result<Response, Problem> {
    let page = admin.store.cdrs(&question.query()?).await?;
    let cdrs: Vec<CdrView> = page.cdrs.into_iter().map(|row| shown(row, &caller)).collect();
    let link = page.next.as_deref().map(|next| next_page(written.as_deref().unwrap_or(""), next));
    let mut response = if wants_csv(&headers) {
        ([(header::CONTENT_TYPE, "text/csv; charset=utf-8; header=present")], csv::write(&cdrs))
            .into_response()
    } else {
        Json(CdrsPage { cdrs, next: page.next }).into_response()
    };
    if let Some(link) = link.and_then(|link| HeaderValue::from_str(&link).ok()) {
        response.headers_mut().insert(header::LINK, link);
    }
    Ok(response)
}

async fn show(
    State(admin): State<Shared>,
    caller: Caller,
    At(id): At<CallId>,
) -> Result<Json<CdrView>, Problem> {
    let row = admin.store.cdr(id).await?;
    row.map(|row| Json(shown(row, &caller))).ok_or_else(|| {
        Problem::not_found(format!("there is no record of {id}; a live call's is at /api/v1/calls/{id}"))
    })
}

fn shown(row: CdrRow, caller: &Caller) -> CdrView {
    let view = CdrView::from(row);
    if caller.sees_numbers() { view } else { view.masked() }
}

/// The same question with another cursor (RFC 8288).
fn next_page(written: &str, cursor: &str) -> String {
    let kept = written.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("cursor="));
    let pairs: Vec<String> =
        kept.map(str::to_owned).chain([format!("cursor={}", client::escape(cursor))]).collect();
    format!("<{PATH}?{}>; rel=\"next\"", pairs.join("&"))
}

/// The first type listed that we have decides; who lists none of ours gets JSON.
fn wants_csv(headers: &HeaderMap) -> bool {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut types =
        accept.flat_map(|value| value.split(',')).map(|range| range.split(';').next().unwrap_or("").trim());
    types.find(|range| matches!(*range, "text/csv" | "application/json" | "*/*")) == Some("text/csv")
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Problem {
        let detail = error.to_string();
        match error {
            StoreError::Missing { .. } => Problem::not_found(detail),
            StoreError::Exists { .. } | StoreError::DidTaken(_) => Problem::conflict(detail),
            StoreError::Cursor => Problem::bad_request(detail),
            StoreError::Refused(_) => Problem::unprocessable(detail),
            StoreError::Url(_)
            | StoreError::Unavailable(_)
            | StoreError::NewerSchema { .. }
            | StoreError::Corrupt { .. }
            | StoreError::OtherKey { .. }
            | StoreError::File(..) => Problem::unavailable(detail),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(value: &'static str) -> bool {
        wants_csv(&HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(value))]))
    }

    #[test]
    fn the_first_type_that_is_there_decides() {
        assert!(accepts("text/csv"));
        assert!(accepts("text/html, text/csv; q=0.9, */*"));
        assert!(!accepts("application/json, text/csv"));
        assert!(!accepts("*/*"));
        assert!(!wants_csv(&HeaderMap::new()));
    }

    #[test]
    fn the_next_page_asks_the_same_question() {
        let link = next_page("trunk=a&cursor=old&limit=2", "-started_at.1.x y");
        assert_eq!(link, "</api/v1/cdrs?trunk=a&limit=2&cursor=-started_at.1.x%20y>; rel=\"next\"");
        assert_eq!(next_page("", "c"), "</api/v1/cdrs?cursor=c>; rel=\"next\"");
    }
}
