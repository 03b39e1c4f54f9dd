//! Batches of CDRs into the database, so that writing one again changes nothing.

use sqlx::{AssertSqlSafe, PgConnection, SqliteConnection};

use super::{
    cdr_rows::{Fields, cdr_fields, charge_fields, leg_fields},
    error::StoreError,
    pool::{Pool, Store},
    rows::{Value, bind},
};
use crate::billing::{Cdr, CdrSink, SinkError};

/// What happens to a row that exists.
struct Upsert {
    table: &'static str,
    key: &'static str,
    /// Which existing rows are replaced; without it they stay.
    replace_if: Option<&'static str>,
}

/// Rows a statement writes, largest first. 64 rows of 38 columns stay far below SQLite's 32,766 parameters.
const ROWS_AT_ONCE: [usize; 3] = [64, 8, 1];

/// A record that comes twice, or late, never wins over a newer one, and an ended call is never reopened.
const CDR: Upsert = Upsert {
    table: "cdr",
    key: "id",
    replace_if: Some("cdr.revision < excluded.revision AND cdr.state NOT IN ('final', 'recovered')"),
};
const LEG: Upsert =
    Upsert { table: "cdr_leg", key: "cdr_id, leg", replace_if: Some("cdr_leg.revision < excluded.revision") };
const CHARGE: Upsert = Upsert { table: "charge", key: "cdr_id, side, revision", replace_if: None };

impl CdrSink for Store {
    async fn store(&self, batch: &[Cdr]) -> Result<(), SinkError> {
        Ok(self.within(self.upsert(batch)).await?)
    }
}

impl Store {
    async fn upsert(&self, batch: &[Cdr]) -> Result<(), StoreError> {
        let tables = [
            (&CDR, batch.iter().map(|cdr| cdr_fields(cdr, &self.keys)).collect::<Vec<_>>()),
            (&LEG, batch.iter().flat_map(leg_fields).collect()),
            (&CHARGE, batch.iter().flat_map(charge_fields).collect()),
        ];
        match self.pool().await? {
            Pool::Sqlite { pool, .. } => {
                let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
                for (upsert, rows) in tables {
                    upsert.write_sqlite(rows, &mut transaction).await?;
                }
                transaction.commit().await?;
            }
            Pool::Postgres(pool) => {
                let mut transaction = pool.begin().await?;
                for (upsert, rows) in tables {
                    upsert.write_postgres(rows, &mut transaction).await?;
                }
                transaction.commit().await?;
            }
        }
        Ok(())
    }
}

impl Upsert {
    /// Statements of many rows: each one is a hop to SQLite's thread and back, which costs more than writing a row does.
    /// A few sizes keep the texts few, so that each is prepared once.
    async fn write_sqlite(
        &self,
        rows: Vec<Fields>,
        connection: &mut SqliteConnection,
    ) -> Result<(), StoreError> {
        let Some(first) = rows.first() else { return Ok(()) };
        let statements =
            ROWS_AT_ONCE.map(|count| (count, self.statement(first, &values(count, first.len()))));
        let mut rows = rows.into_iter();
        for (count, sql) in statements {
            while rows.len() >= count {
                let mut query = sqlx::query(AssertSqlSafe(sql.clone()));
                for (_, value) in rows.by_ref().take(count).flatten() {
                    query = bind!(query, value);
                }
                query.execute(&mut *connection).await?;
            }
        }
        Ok(())
    }

    /// One statement for all rows, a parameter per column: the text stays the same for every size of batch, so it is
    /// planned once, and hundreds of rows take one round trip.
    async fn write_postgres(
        &self,
        rows: Vec<Fields>,
        connection: &mut PgConnection,
    ) -> Result<(), StoreError> {
        let Some(first) = rows.first() else { return Ok(()) };
        let arrays: Vec<_> = first.iter().enumerate().map(|(at, (_, value))| array(at + 1, value)).collect();
        let columns: Vec<_> = first.iter().map(|(name, value)| unnested(name, value)).collect();
        let names = names(first);
        let source =
            format!("SELECT {} FROM UNNEST({}) AS new ({names})", columns.join(", "), arrays.join(", "));
        let sql = self.statement(first, &source);
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for column in transposed(rows) {
            query = match column {
                Column::Text(values) => query.bind(values),
                Column::Int(values) => query.bind(values),
                Column::Real(values) => query.bind(values),
                Column::Flag(values) => query.bind(values),
            };
        }
        query.execute(connection).await?;
        Ok(())
    }

    fn statement(&self, fields: &Fields, source: &str) -> String {
        let Upsert { table, key, replace_if } = self;
        let names = names(fields);
        let conflict = match replace_if {
            None => "DO NOTHING".to_owned(),
            Some(condition) => {
                let set: Vec<_> =
                    fields.iter().map(|(name, _)| format!("{name} = excluded.{name}")).collect();
                format!("DO UPDATE SET {} WHERE {condition}", set.join(", "))
            }
        };
        format!("INSERT INTO {table} ({names}) {source} ON CONFLICT ({key}) {conflict}")
    }
}

/// `VALUES (?, ?), (?, ?)`: so many rows of so many columns. A numbered place is looked up among all others each time a
/// value is put there, which for thousands of them costs more than all the rest.
fn values(rows: usize, columns: usize) -> String {
    let row = format!("({})", vec!["?"; columns].join(", "));
    format!("VALUES {}", vec![row; rows].join(", "))
}

fn names(fields: &Fields) -> String {
    fields.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

fn array(number: usize, value: &Value) -> String {
    let of = match value {
        Value::Id(_) | Value::Text(_) => "text",
        Value::Int(_) => "bigint",
        Value::Real(_) => "double precision",
        Value::Flag(_) => "boolean",
    };
    format!("${number}::{of}[]")
}

fn unnested(name: &str, value: &Value) -> String {
    match value {
        Value::Id(_) => format!("new.{name}::uuid"),
        Value::Text(_) | Value::Int(_) | Value::Real(_) | Value::Flag(_) => format!("new.{name}"),
    }
}

/// One column of many rows.
enum Column {
    Text(Vec<Option<String>>),
    Int(Vec<Option<i64>>),
    Real(Vec<Option<f64>>),
    Flag(Vec<bool>),
}

fn transposed(rows: Vec<Fields>) -> Vec<Column> {
    let mut columns: Vec<Column> = Vec::new();
    for row in rows {
        for (at, (_, value)) in row.into_iter().enumerate() {
            if columns.len() == at {
                columns.push(match value {
                    Value::Id(_) | Value::Text(_) => Column::Text(Vec::new()),
                    Value::Int(_) => Column::Int(Vec::new()),
                    Value::Real(_) => Column::Real(Vec::new()),
                    Value::Flag(_) => Column::Flag(Vec::new()),
                });
            }
            match (&mut columns[at], value) {
                (Column::Text(column), Value::Id(id)) => column.push(Some(id)),
                (Column::Text(column), Value::Text(text)) => column.push(text),
                (Column::Int(column), Value::Int(number)) => column.push(number),
                (Column::Real(column), Value::Real(number)) => column.push(number),
                (Column::Flag(column), Value::Flag(flag)) => column.push(flag),
                // One function makes all rows of a table, with one kind of value in each place.
                (column, value) => unreachable!("{value:?} in a column of {}", column.kind()),
            }
        }
    }
    columns
}

impl Column {
    fn kind(&self) -> &'static str {
        match self {
            Column::Text(_) => "texts",
            Column::Int(_) => "numbers",
            Column::Real(_) => "reals",
            Column::Flag(_) => "flags",
        }
    }
}
