//! Numbers lose their last four digits when their time is over.

use sqlx::AssertSqlSafe;

use super::{
    error::StoreError,
    pool::{Store, on},
    rows::Columns,
};
use crate::types::{UnixMillis, days_before, shorten_number};

/// Calls shortened in one transaction: short enough that nobody waits for its locks.
const BATCH: i64 = 500;

impl Store {
    /// Shortens the numbers of calls that started more than `days` days before `now`; their hashes stay. Gives the
    /// number of calls done. What was done stays done if it is interrupted.
    ///
    /// # Errors
    /// The database is away.
    pub async fn shorten_numbers(&self, now: UnixMillis, days: u32) -> Result<u64, StoreError> {
        let before = days_before(now, days);
        let mut done = 0;
        loop {
            let batch = self.within(self.shorten_batch(before)).await?;
            done += batch;
            if batch < BATCH as u64 {
                return Ok(done);
            }
        }
    }

    async fn shorten_batch(&self, before: UnixMillis) -> Result<u64, StoreError> {
        let pool = self.pool().await?;
        // An open row would be overwritten with whole numbers by its next record.
        let cdrs = format!(
            "SELECT {}, caller_number, called_number, dialled FROM cdr \
             WHERE NOT numbers_shortened AND started_at < $1 AND state IN ('final', 'recovered') \
             ORDER BY started_at LIMIT {BATCH}",
            pool.id_column("id")
        );
        let id = pool.id_parameter(1);
        let legs = format!("SELECT leg, target FROM cdr_leg WHERE cdr_id = {id}");
        let set_leg = format!("UPDATE cdr_leg SET target = $2 WHERE cdr_id = {id} AND leg = $3");
        let set_cdr = format!(
            "UPDATE cdr SET caller_number = $2, called_number = $3, dialled = $4, numbers_shortened = TRUE \
             WHERE id = {id}"
        );
        on!(pool, pool => {
            let mut transaction = pool.begin().await?;
            let rows = sqlx::query(AssertSqlSafe(cdrs)).bind(before).fetch_all(&mut *transaction).await?;
            for row in &rows {
                let id = row.text("id")?;
                let query = sqlx::query(AssertSqlSafe(legs.clone())).bind(&id);
                for leg in &query.fetch_all(&mut *transaction).await? {
                    let query = sqlx::query(AssertSqlSafe(set_leg.clone())).bind(&id);
                    let query = query.bind(shorten_number(&leg.text("target")?)).bind(leg.int("leg")?);
                    query.execute(&mut *transaction).await?;
                }
                let query = sqlx::query(AssertSqlSafe(set_cdr.clone())).bind(&id);
                query
                    .bind(row.maybe_text("caller_number")?.as_deref().map(shorten_number))
                    .bind(row.maybe_text("called_number")?.as_deref().map(shorten_number))
                    .bind(shorten_number(&row.text("dialled")?))
                    .execute(&mut *transaction)
                    .await?;
            }
            transaction.commit().await?;
            Ok(rows.len() as u64)
        })
    }
}
