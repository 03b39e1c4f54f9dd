//! Gateways that share a database hash numbers under the same keys: the database knows a fingerprint of each.

use super::{
    error::StoreError,
    numbers::NumberKeys,
    pool::{Pool, on},
    rows::Columns,
};

/// Leaves the fingerprints of our keys, or finds that another gateway left others.
///
/// # Errors
/// A key of the same name has another secret: numbers that one gateway stored, the other would never find.
pub(super) async fn check(pool: &Pool, keys: &NumberKeys) -> Result<(), StoreError> {
    let known: Vec<(String, String)> = on!(pool, pool => {
        let mut transaction = pool.begin().await?;
        for (id, fingerprint) in keys.fingerprints() {
            let left = "INSERT INTO number_key (id, fingerprint) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING";
            sqlx::query(left).bind(id).bind(fingerprint).execute(&mut *transaction).await?;
        }
        let found = sqlx::query("SELECT id, fingerprint FROM number_key ORDER BY id");
        let found = found.fetch_all(&mut *transaction).await?;
        let rows = found.iter().map(|row| Ok((row.text("id")?, row.text("fingerprint")?)));
        let rows = rows.collect::<Result<Vec<_>, StoreError>>()?;
        check_all(&rows, keys)?;
        transaction.commit().await?;
        rows
    });
    for (id, _) in known.iter().filter(|(id, _)| !keys.fingerprints().any(|(own, _)| own == id)) {
        tracing::warn!(
            key = id,
            "numbers of the database are hashed under a key that number.keys does not have: calls of another gateway, \
             or of an older file, are not found by number once their digits are gone"
        );
    }
    Ok(())
}

/// All keys that both sides name have the same secret.
fn check_all(known: &[(String, String)], keys: &NumberKeys) -> Result<(), StoreError> {
    let other =
        keys.fingerprints().find(|(id, own)| known.iter().any(|(known, left)| known == id && left != own));
    match other {
        Some((id, _)) => Err(StoreError::OtherKey { id: id.to_owned() }),
        None => Ok(()),
    }
}
