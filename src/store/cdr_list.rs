//! Finding CDRs: filters, an allow-list of orders, pages by cursor.

use sqlx::AssertSqlSafe;
use std::{collections::HashMap, str::FromStr};

use super::{
    cdr_rows::{CdrRow, read_cdr, read_charge, read_leg},
    error::StoreError,
    pool::{Pool, Store, on},
    rows::{Columns, Value, bind},
};
use crate::{
    billing::CdrState,
    types::{CallId, Direction, E164, EndCause, Outcome, UnixMillis},
};

/// Which CDRs. What is `None` matches every one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CdrFilter {
    /// Started at this time or later.
    pub from: Option<UnixMillis>,
    /// Started before this time.
    pub until: Option<UnixMillis>,
    /// Came from or went to this trunk.
    pub trunk: Option<String>,
    /// From or to this app user.
    pub user: Option<String>,
    pub account: Option<String>,
    pub direction: Option<Direction>,
    pub state: Option<CdrState>,
    /// Ended with one of the causes of this outcome.
    pub outcome: Option<Outcome>,
    /// From or to this number, whole; found by its hash, so also after the retention time.
    pub number: Option<E164>,
}

/// What CDRs may be sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SortKey {
    #[default]
    StartedAt,
    ReleasedAt,
    DurationMs,
    PddMs,
}

impl SortKey {
    pub const ALL: [SortKey; 4] =
        [SortKey::StartedAt, SortKey::ReleasedAt, SortKey::DurationMs, SortKey::PddMs];

    /// The name in `sort=`.
    pub fn as_str(self) -> &'static str {
        match self {
            SortKey::StartedAt => "started_at",
            SortKey::ReleasedAt => "released_at",
            SortKey::DurationMs => "duration_ms",
            SortKey::PddMs => "pdd_ms",
        }
    }

    /// A page ends at a value, so there must be one.
    fn expression(self) -> &'static str {
        match self {
            SortKey::StartedAt => "started_at",
            SortKey::ReleasedAt => "COALESCE(released_at, -1)",
            SortKey::DurationMs => "duration_ms",
            SortKey::PddMs => "COALESCE(pdd_ms, -1)",
        }
    }

    fn value(self, row: &CdrRow) -> i64 {
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        match self {
            SortKey::StartedAt => row.cdr.started_at,
            SortKey::ReleasedAt => row.cdr.released_at.unwrap_or(-1),
            SortKey::DurationMs => signed(row.cdr.duration_ms),
            SortKey::PddMs => row.cdr.pdd_ms.map_or(-1, signed),
        }
    }
}

/// `started_at`, or `-started_at` for newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CdrOrder {
    pub key: SortKey,
    pub descending: bool,
}

impl Default for CdrOrder {
    fn default() -> CdrOrder {
        CdrOrder { key: SortKey::StartedAt, descending: true }
    }
}

impl FromStr for CdrOrder {
    type Err = String;
    fn from_str(text: &str) -> Result<CdrOrder, String> {
        let (descending, name) = text.strip_prefix('-').map_or((false, text), |name| (true, name));
        let key = SortKey::ALL.into_iter().find(|key| key.as_str() == name).ok_or_else(|| {
            let known = SortKey::ALL.map(SortKey::as_str).join(", ");
            format!(
                "CDRs can't be sorted by \"{name}\"; write one of {known}, with - before it for descending"
            )
        })?;
        Ok(CdrOrder { key, descending })
    }
}

impl std::fmt::Display for CdrOrder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.descending { "-" } else { "" })?;
        f.write_str(self.key.as_str())
    }
}

/// One question.
#[derive(Debug, Clone, PartialEq)]
pub struct CdrQuery {
    pub filter: CdrFilter,
    pub order: CdrOrder,
    /// Where the page before this one ended, as it said.
    pub cursor: Option<String>,
    /// CDRs of a page, 1 to 1,000.
    pub limit: u32,
}

impl Default for CdrQuery {
    fn default() -> CdrQuery {
        CdrQuery { filter: CdrFilter::default(), order: CdrOrder::default(), cursor: None, limit: 100 }
    }
}

const LONGEST_PAGE: u32 = 1_000;

/// One answer.
#[derive(Debug, Clone, PartialEq)]
pub struct CdrPage {
    pub cdrs: Vec<CdrRow>,
    /// Gives the next page; `None` on the last one.
    pub next: Option<String>,
}

impl Store {
    /// One page of CDRs. Calls that begin or end meanwhile are neither missed nor seen twice on later pages, as long as
    /// they don't change the value that is sorted by.
    ///
    /// # Errors
    /// The database is away, or the cursor belongs to another order.
    pub async fn cdrs(&self, query: &CdrQuery) -> Result<CdrPage, StoreError> {
        self.within(self.cdr_page(query)).await
    }

    /// One CDR.
    ///
    /// # Errors
    /// The database is away.
    pub async fn cdr(&self, id: CallId) -> Result<Option<CdrRow>, StoreError> {
        self.within(async {
            let pool = self.pool().await?;
            let mut condition = Conditions::new(pool);
            condition.add("id = {}", [Value::Id(id.to_string())]);
            Ok(select(pool, condition, "", 1).await?.pop())
        })
        .await
    }

    async fn cdr_page(&self, query: &CdrQuery) -> Result<CdrPage, StoreError> {
        let pool = self.pool().await?;
        let CdrOrder { key, descending } = query.order;
        let limit = query.limit.clamp(1, LONGEST_PAGE);
        let mut conditions = self.conditions(pool, &query.filter);
        if let Some(cursor) = &query.cursor {
            let (value, id) = read_cursor(query.order, cursor)?;
            let beyond = if descending { "<" } else { ">" };
            let condition = format!("({}, id) {beyond} ({{}}, {{}})", key.expression());
            conditions.add(&condition, [Value::Int(Some(value)), Value::Id(id.to_string())]);
        }
        let way = if descending { "DESC" } else { "ASC" };
        let order = format!("ORDER BY {} {way}, id {way}", key.expression());
        // One more than asked for tells whether there is another page.
        let mut cdrs = select(pool, conditions, &order, limit + 1).await?;
        let more = cdrs.len() > limit as usize;
        cdrs.truncate(limit as usize);
        let last = cdrs.last().filter(|_| more);
        let next = last.map(|row| format!("{}.{}.{}", query.order, key.value(row), row.cdr.id));
        Ok(CdrPage { cdrs, next })
    }

    fn conditions(&self, pool: &Pool, filter: &CdrFilter) -> Conditions {
        let CdrFilter { from, until, trunk, user, account, direction, state, outcome, number } = filter;
        let mut all = Conditions::new(pool);
        if let Some(from) = from {
            all.add("started_at >= {}", [Value::int(*from)]);
        }
        if let Some(until) = until {
            all.add("started_at < {}", [Value::int(*until)]);
        }
        if let Some(trunk) = trunk {
            all.add("(egress_trunk = {} OR ingress_trunk = {})", [Value::text(trunk), Value::text(trunk)]);
        }
        if let Some(user) = user {
            all.add("(caller_user = {} OR called_user = {})", [Value::text(user), Value::text(user)]);
        }
        if let Some(account) = account {
            all.add("account = {}", [Value::text(account)]);
        }
        if let Some(direction) = direction {
            all.add("direction = {}", [Value::text(direction.as_str())]);
        }
        if let Some(state) = state {
            all.add("state = {}", [Value::text(state.as_str())]);
        }
        if let Some(outcome) = outcome {
            let causes: Vec<_> = EndCause::ALL
                .iter()
                .filter(|cause| cause.outcome() == *outcome)
                .map(|cause| Value::text(cause.as_str()))
                .collect();
            all.add(&format!("end_cause IN ({})", places(causes.len())), causes);
        }
        if let Some(number) = number {
            let hashes: Vec<_> = self.keys.hashes(number).into_iter().map(Value::text).collect();
            let places = places(hashes.len());
            let condition = format!("(caller_number_hash IN ({places}) OR called_number_hash IN ({places}))");
            all.add(&condition, [hashes.clone(), hashes].concat());
        }
        all
    }
}

fn places(count: usize) -> String {
    vec!["{}"; count].join(", ")
}

/// Conditions joined by AND, with their values.
struct Conditions {
    pool: Pool,
    sql: Vec<String>,
    values: Vec<Value>,
}

impl Conditions {
    fn new(pool: &Pool) -> Conditions {
        Conditions { pool: pool.clone(), sql: Vec::new(), values: Vec::new() }
    }

    /// Every `{}` stands for the next value.
    fn add(&mut self, condition: &str, values: impl IntoIterator<Item = Value>) {
        let mut parts = condition.split("{}");
        let mut sql = parts.next().unwrap_or_default().to_owned();
        for (part, value) in parts.zip(values) {
            let number = self.values.len() + 1;
            sql += &match value {
                Value::Id(_) => self.pool.id_parameter(number),
                Value::Text(_) | Value::Int(_) | Value::Real(_) | Value::Flag(_) => format!("${number}"),
            };
            sql += part;
            self.values.push(value);
        }
        self.sql.push(sql);
    }

    fn sql(&self) -> String {
        if self.sql.is_empty() { String::new() } else { format!("WHERE {}", self.sql.join(" AND ")) }
    }
}

/// All columns but the id, which is read as text.
const COLUMNS: &str = "\
    node, boot, seq, revision, state, direction, transfer_of, forwarded_of, emergency, caller_user, account, caller_number, \
    dialled, called_user, called_line, called_number, ingress_trunk, egress_trunk, carrier, attestation, stir_result, started_at, \
    ringing_at, answered_at, last_media_at, released_at, pdd_ms, duration_ms, heard_ms, end_cause, sip_code, \
    q850, released_by, caller_codec, callee_codec, fax, legs_omitted, sell_not_rated, buy_not_rated, \
    numbers_shortened";

/// CDRs with their legs and charges: three statements, however many CDRs.
async fn select(
    pool: &Pool,
    conditions: Conditions,
    order: &str,
    limit: u32,
) -> Result<Vec<CdrRow>, StoreError> {
    let sql = format!(
        "SELECT {}, {COLUMNS} FROM cdr {} {order} LIMIT {limit}",
        pool.id_column("id"),
        conditions.sql()
    );
    let mut cdrs: Vec<CdrRow> = on!(pool, pool => {
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for value in conditions.values {
            query = bind!(query, value);
        }
        query.fetch_all(pool).await?.iter().map(read_cdr).collect::<Result<_, _>>()?
    });
    if cdrs.is_empty() {
        return Ok(cdrs);
    }
    let places: HashMap<String, usize> =
        cdrs.iter().enumerate().map(|(at, row)| (row.cdr.id.to_string(), at)).collect();
    let mut ids = Conditions::new(pool);
    let values: Vec<_> = places.keys().map(|id| Value::Id(id.clone())).collect();
    ids.add(&format!("cdr_id IN ({})", self::places(values.len())), values);
    let id = pool.id_column("cdr_id");
    let legs = format!(
        "SELECT {id}, leg, trunk, app_user, target, started_at, ringing_at, answered_at, ended_at, sip_code, \
         end_cause, chosen, packets_received, packets_sent, bytes_received, bytes_sent, packets_lost, \
         packets_unrepaired, packets_late, packets_discarded, burst_ratio, burst_density, gap_density, burst_ms, \
         gap_ms, jitter_ms, rtt_ms, mos_lq, mos_cq, remote_loss, remote_jitter_ms, remote_discard, remote_mos_lq, \
         remote_mos_cq, fault, fault_ms, last_media_at \
         FROM cdr_leg {} ORDER BY leg",
        ids.sql()
    );
    let charges = format!(
        "SELECT {id}, side, prefix, rate_per_minute_e8, currency, billable_ms, billed_s, amount_micros \
         FROM charge {} ORDER BY revision",
        ids.sql()
    );
    on!(pool, pool => {
        for (sql, read) in [(legs, Part::Leg), (charges, Part::Charge)] {
            let mut query = sqlx::query(AssertSqlSafe(sql));
            for value in ids.values.clone() {
                query = bind!(query, value);
            }
            for row in query.fetch_all(pool).await?.iter() {
                let cdr = places.get(&row.text("cdr_id")?).and_then(|at| cdrs.get_mut(*at));
                match (cdr, read) {
                    (Some(row_of), Part::Leg) => read_leg(row, &mut row_of.cdr)?,
                    (Some(row_of), Part::Charge) => read_charge(row, &mut row_of.cdr)?,
                    (None, Part::Leg | Part::Charge) => {}
                }
            }
        }
    });
    Ok(cdrs)
}

#[derive(Clone, Copy)]
enum Part {
    Leg,
    Charge,
}

fn read_cursor(order: CdrOrder, cursor: &str) -> Result<(i64, CallId), StoreError> {
    let mut parts = cursor.splitn(3, '.');
    let belongs = parts.next().is_some_and(|named| named == order.to_string());
    let value = parts.next().and_then(|value| value.parse().ok());
    let id = parts.next().and_then(|id| id.parse().ok());
    match (belongs, value, id) {
        (true, Some(value), Some(id)) => Ok((value, id)),
        _ => Err(StoreError::Cursor),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_columns_sort() {
        for key in SortKey::ALL {
            for descending in [false, true] {
                let order = CdrOrder { key, descending };
                assert_eq!(order.to_string().parse(), Ok(order));
            }
        }
        for bad in ["", "-", "id", "duration_ms; DROP TABLE cdr", "--started_at"] {
            let error = bad.parse::<CdrOrder>().unwrap_err();
            assert!(error.contains("started_at, released_at, duration_ms, pdd_ms"), "{error}");
        }
    }

    #[test]
    fn a_cursor_of_another_order_is_refused() {
        let id = CallId::from_parts(1, [1; 10]);
        let order = CdrOrder::default();
        assert_eq!(read_cursor(order, &format!("-started_at.17.{id}")).unwrap(), (17, id));
        for bad in
            [format!("started_at.17.{id}"), "-started_at.17".into(), format!("-started_at.x.{id}"), "".into()]
        {
            assert!(matches!(read_cursor(order, &bad), Err(StoreError::Cursor)), "{bad}");
        }
    }
}
