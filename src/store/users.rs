//! App users of the database: their credentials as HA1, their numbers.

use std::collections::HashMap;

use super::{
    error::StoreError,
    pool::{Store, on},
    rows::Columns,
};
use crate::{
    access::{Credentials, User, UserSource},
    types::{E164, UnixMillis},
};

/// A user and the realm in which its credentials are good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredUser {
    pub user: User,
    pub realm: String,
}

/// Inside a transaction, whose type differs between the two databases.
macro_rules! insert_numbers {
    ($transaction:ident, $user:ident) => {
        for (purpose, numbers) in [("caller_id", &$user.caller_ids), ("did", &$user.dids)] {
            for (position, number) in numbers.iter().enumerate() {
                let sql = "INSERT INTO app_user_number (app_user, purpose, position, number) \
                    VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
                let query = sqlx::query(sql).bind(&*$user.name).bind(purpose).bind(position as i64);
                let added = query.bind(number.as_str()).execute(&mut *$transaction).await?;
                // A number written twice in one list is one number; a DID of another user is an error.
                if added.rows_affected() == 0 && !numbers[..position].contains(number) {
                    return Err(StoreError::DidTaken(number.to_string()));
                }
            }
        }
    };
}

/// Inside a transaction: an error unless the account exists.
macro_rules! expect_account {
    ($transaction:ident, $user:ident) => {
        let account = sqlx::query("SELECT name FROM account WHERE name = $1").bind(&$user.account);
        if account.fetch_optional(&mut *$transaction).await?.is_none() {
            return Err(StoreError::Missing { what: "account", name: $user.account.clone() });
        }
    };
}

impl Store {
    /// All users by name.
    ///
    /// # Errors
    /// The database is away.
    pub async fn users(&self) -> Result<Vec<StoredUser>, StoreError> {
        self.within(async {
            let mut users: Vec<StoredUser> = Vec::new();
            let mut numbers: HashMap<String, (Vec<E164>, Vec<E164>)> = HashMap::new();
            on!(self.pool().await?, pool => {
                // Numbers last: one of a user added in between has no user here yet, which is harmless.
                let sql = "SELECT name, account, realm, ha1_md5, ha1_sha256, max_calls FROM app_user";
                for row in &sqlx::query(sql).fetch_all(pool).await? {
                    users.push(read(row)?);
                }
                let sql = "SELECT app_user, purpose, number FROM app_user_number ORDER BY position";
                for row in &sqlx::query(sql).fetch_all(pool).await? {
                    let (caller_ids, dids) = numbers.entry(row.text("app_user")?).or_default();
                    let number = row.parsed("number", |text| text.parse().ok())?;
                    match row.text("purpose")?.as_str() {
                        "did" => dids.push(number),
                        _ => caller_ids.push(number),
                    }
                }
            });
            for StoredUser { user, .. } in &mut users {
                (user.caller_ids, user.dids) = numbers.remove(&*user.name).unwrap_or_default();
            }
            users.sort_by(|a, b| a.user.name.cmp(&b.user.name));
            Ok(users)
        })
        .await
    }

    /// Adds a user with its numbers.
    ///
    /// # Errors
    /// The name or a DID is taken, the account does not exist, or the database is away. Nothing is added then.
    pub async fn add_user(&self, now: UnixMillis, new: &StoredUser) -> Result<(), StoreError> {
        let StoredUser { user, realm } = new;
        self.within(async {
            on!(self.pool().await?, pool => {
                let mut transaction = pool.begin().await?;
                expect_account!(transaction, user);
                let sql = "INSERT INTO app_user \
                    (name, account, realm, ha1_md5, ha1_sha256, max_calls, created_at, updated_at) \
                    VALUES ($1, $2, $3, $4, $5, $6, $7, $7) ON CONFLICT DO NOTHING";
                let added = sqlx::query(sql)
                    .bind(&*user.name)
                    .bind(&user.account)
                    .bind(realm)
                    .bind(&user.credentials.md5)
                    .bind(&user.credentials.sha256)
                    .bind(user.max_calls.map(i64::from))
                    .bind(now)
                    .execute(&mut *transaction)
                    .await?;
                if added.rows_affected() == 0 {
                    return Err(StoreError::Exists { what: "user", name: user.name.to_string() });
                }
                insert_numbers!(transaction, user);
                Ok(transaction.commit().await?)
            })
        })
        .await
    }

    /// Gives a user other numbers, account and limit. Its credentials stay, whatever `user` has for them.
    ///
    /// # Errors
    /// There is no such user or account, a DID is taken, or the database is away. Nothing is changed then.
    pub async fn set_user(&self, now: UnixMillis, user: &User) -> Result<(), StoreError> {
        self.within(async {
            on!(self.pool().await?, pool => {
                let mut transaction = pool.begin().await?;
                expect_account!(transaction, user);
                let sql = "UPDATE app_user SET account = $2, max_calls = $3, updated_at = $4 WHERE name = $1";
                let query = sqlx::query(sql).bind(&*user.name).bind(&user.account);
                let query = query.bind(user.max_calls.map(i64::from)).bind(now);
                expect_one(query.execute(&mut *transaction).await?.rows_affected(), &user.name)?;
                let old = sqlx::query("DELETE FROM app_user_number WHERE app_user = $1").bind(&*user.name);
                old.execute(&mut *transaction).await?;
                insert_numbers!(transaction, user);
                Ok(transaction.commit().await?)
            })
        })
        .await
    }

    /// Gives a user a new password, as HA1.
    ///
    /// # Errors
    /// There is no such user, or the database is away.
    pub async fn set_credentials(
        &self,
        now: UnixMillis,
        name: &str,
        realm: &str,
        credentials: &Credentials,
    ) -> Result<(), StoreError> {
        let sql =
            "UPDATE app_user SET realm = $2, ha1_md5 = $3, ha1_sha256 = $4, updated_at = $5 WHERE name = $1";
        let changed = self.within(async {
            Ok(on!(self.pool().await?, pool => {
                let query = sqlx::query(sql).bind(name).bind(realm).bind(&credentials.md5);
                query.bind(&credentials.sha256).bind(now).execute(pool).await?.rows_affected()
            }))
        });
        expect_one(changed.await?, name)
    }

    /// Removes a user with its numbers and registrations. Its CDRs stay.
    ///
    /// # Errors
    /// There is no such user, or the database is away.
    pub async fn remove_user(&self, name: &str) -> Result<(), StoreError> {
        let removed = self.within(async {
            Ok(on!(self.pool().await?, pool => {
                let mut transaction = pool.begin().await?;
                let registrations = sqlx::query("DELETE FROM registration WHERE app_user = $1").bind(name);
                registrations.execute(&mut *transaction).await?;
                let user = sqlx::query("DELETE FROM app_user WHERE name = $1").bind(name);
                let removed = user.execute(&mut *transaction).await?.rows_affected();
                transaction.commit().await?;
                removed
            }))
        });
        expect_one(removed.await?, name)
    }
}

fn expect_one(rows: u64, name: &str) -> Result<(), StoreError> {
    match rows {
        0 => Err(StoreError::Missing { what: "user", name: name.to_owned() }),
        _ => Ok(()),
    }
}

fn read(row: &impl Columns) -> Result<StoredUser, StoreError> {
    let user = User {
        name: row.text("name")?.into(),
        credentials: Credentials { md5: row.text("ha1_md5")?, sha256: row.text("ha1_sha256")? },
        caller_ids: Vec::new(),
        dids: Vec::new(),
        account: row.text("account")?,
        max_calls: row.maybe_number("max_calls")?,
        place: Default::default(),
        source: UserSource::Database,
    };
    Ok(StoredUser { user, realm: row.text("realm")? })
}
