//! Accounts: who pays.

use super::{
    error::StoreError,
    pool::{Store, on},
    rows::Columns,
};
use crate::types::{Currency, UnixMillis};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub name: String,
    pub currency: Currency,
}

impl Store {
    /// All accounts by name; `default` always exists.
    ///
    /// # Errors
    /// The database is away.
    pub async fn accounts(&self) -> Result<Vec<Account>, StoreError> {
        self.within(async {
            let mut accounts: Vec<Account> = on!(self.pool().await?, pool => {
                let rows = sqlx::query("SELECT name, currency FROM account").fetch_all(pool).await?;
                rows.iter().map(read).collect::<Result<_, _>>()?
            });
            // Not by the server's collation, so that both databases answer alike.
            accounts.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(accounts)
        })
        .await
    }

    /// Adds an account.
    ///
    /// # Errors
    /// The name is taken, or the database is away.
    pub async fn add_account(&self, now: UnixMillis, account: &Account) -> Result<(), StoreError> {
        let sql =
            "INSERT INTO account (name, currency, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        self.within(async {
            let added = on!(self.pool().await?, pool => {
                let query = sqlx::query(sql).bind(&account.name).bind(account.currency.as_str()).bind(now);
                query.execute(pool).await?.rows_affected()
            });
            match added {
                0 => Err(StoreError::Exists { what: "account", name: account.name.clone() }),
                _ => Ok(()),
            }
        })
        .await
    }
}

fn read(row: &impl Columns) -> Result<Account, StoreError> {
    Ok(Account { name: row.text("name")?, currency: row.parsed("currency", |text| text.parse().ok())? })
}
