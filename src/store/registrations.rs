//! Where devices are registered, kept so that a restart does not lose them.

use super::{
    error::StoreError,
    pool::{Store, on},
    rows::Columns,
};
use crate::{access::StoredBinding, types::UnixMillis};

/// One change of the registrar.
#[derive(Debug, Clone, PartialEq)]
pub enum RegistrationChange {
    Stored(StoredBinding),
    Removed { user: String, contact: String },
}

impl Store {
    /// Registrations that have not expired at `now`.
    ///
    /// # Errors
    /// The database is away.
    pub async fn registrations(&self, now: UnixMillis) -> Result<Vec<StoredBinding>, StoreError> {
        let sql = "SELECT app_user, contact, network, transport, remote, local, expires_at, registered_at, call_id, \
             cseq, q, instance, user_agent FROM registration WHERE expires_at > $1";
        self.within(async {
            let mut found: Vec<StoredBinding> = on!(self.pool().await?, pool => {
                let rows = sqlx::query(sql).bind(now).fetch_all(pool).await?;
                rows.iter().map(read).collect::<Result<_, _>>()?
            });
            found.sort_by(|a, b| (&a.user, &a.contact).cmp(&(&b.user, &b.contact)));
            Ok(found)
        })
        .await
    }

    /// Applies changes in their order, all or none, and forgets what expired before `now`.
    ///
    /// # Errors
    /// The database is away.
    pub async fn save_registrations(
        &self,
        now: UnixMillis,
        changes: &[RegistrationChange],
    ) -> Result<(), StoreError> {
        let upsert = "INSERT INTO registration (app_user, contact, network, transport, remote, local, expires_at, \
             registered_at, call_id, cseq, q, instance, user_agent) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) \
             ON CONFLICT (app_user, contact) DO UPDATE SET network = excluded.network, \
             transport = excluded.transport, remote = excluded.remote, local = excluded.local, \
             expires_at = excluded.expires_at, registered_at = excluded.registered_at, call_id = excluded.call_id, \
             cseq = excluded.cseq, q = excluded.q, instance = excluded.instance, user_agent = excluded.user_agent";
        self.within(async {
            on!(self.pool().await?, pool => {
                let mut transaction = pool.begin().await?;
                for change in changes {
                    match change {
                        RegistrationChange::Stored(binding) => {
                            sqlx::query(upsert)
                                .bind(&binding.user)
                                .bind(&binding.contact)
                                .bind(i64::from(binding.network))
                                .bind(binding.transport.as_str())
                                .bind(binding.remote.to_string())
                                .bind(binding.local.to_string())
                                .bind(binding.expires_unix_ms)
                                .bind(binding.registered_unix_ms)
                                .bind(&binding.call_id)
                                .bind(i64::from(binding.cseq))
                                .bind(i64::from(binding.q))
                                .bind(&binding.instance)
                                .bind(&binding.user_agent)
                                .execute(&mut *transaction)
                                .await?;
                        }
                        RegistrationChange::Removed { user, contact } => {
                            let sql = "DELETE FROM registration WHERE app_user = $1 AND contact = $2";
                            sqlx::query(sql).bind(user).bind(contact).execute(&mut *transaction).await?;
                        }
                    }
                }
                let expired = sqlx::query("DELETE FROM registration WHERE expires_at <= $1").bind(now);
                expired.execute(&mut *transaction).await?;
                Ok(transaction.commit().await?)
            })
        })
        .await
    }
}

fn read(row: &impl Columns) -> Result<StoredBinding, StoreError> {
    Ok(StoredBinding {
        user: row.text("app_user")?,
        contact: row.text("contact")?,
        network: row.number("network")?,
        transport: row.parsed("transport", |text| text.parse().ok())?,
        remote: row.parsed("remote", |text| text.parse().ok())?,
        local: row.parsed("local", |text| text.parse().ok())?,
        expires_unix_ms: row.int("expires_at")?,
        registered_unix_ms: row.int("registered_at")?,
        call_id: row.text("call_id")?,
        cseq: row.number("cseq")?,
        q: row.number("q")?,
        instance: row.maybe_text("instance")?,
        user_agent: row.maybe_text("user_agent")?,
    })
}
