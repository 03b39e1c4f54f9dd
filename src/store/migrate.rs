//! Brings the tables up to date: numbered scripts, each run once and whole.

use super::{error::StoreError, pool::Pool};

/// A step from one schema to the next, for both databases. Steps that were released never change.
struct Migration {
    version: i64,
    sqlite: &'static str,
    postgres: &'static str,
}

const MIGRATIONS: [Migration; 8] = [
    Migration {
        version: 1,
        sqlite: include_str!("../../migrations/sqlite/0001_calls_and_users.sql"),
        postgres: include_str!("../../migrations/postgres/0001_calls_and_users.sql"),
    },
    Migration {
        version: 2,
        sqlite: include_str!("../../migrations/sqlite/0002_number_keys.sql"),
        postgres: include_str!("../../migrations/postgres/0002_number_keys.sql"),
    },
    Migration {
        version: 3,
        sqlite: include_str!("../../migrations/sqlite/0003_transfers.sql"),
        postgres: include_str!("../../migrations/postgres/0003_transfers.sql"),
    },
    Migration {
        version: 4,
        sqlite: include_str!("../../migrations/sqlite/0004_leg_quality.sql"),
        postgres: include_str!("../../migrations/postgres/0004_leg_quality.sql"),
    },
    Migration {
        version: 5,
        sqlite: include_str!("../../migrations/sqlite/0005_test_lines.sql"),
        postgres: include_str!("../../migrations/postgres/0005_test_lines.sql"),
    },
    Migration {
        version: 6,
        sqlite: include_str!("../../migrations/sqlite/0006_signed_callers.sql"),
        postgres: include_str!("../../migrations/postgres/0006_signed_callers.sql"),
    },
    Migration {
        version: 7,
        sqlite: include_str!("../../migrations/sqlite/0007_emergency_calls.sql"),
        postgres: include_str!("../../migrations/postgres/0007_emergency_calls.sql"),
    },
    Migration {
        version: 8,
        sqlite: include_str!("../../migrations/sqlite/0008_forwarded_calls_and_fax.sql"),
        postgres: include_str!("../../migrations/postgres/0008_forwarded_calls_and_fax.sql"),
    },
];

const TABLE: &str = "CREATE TABLE IF NOT EXISTS schema_version (version BIGINT PRIMARY KEY)";
/// Any number that no other user of the server takes.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7363522010)";

pub(super) async fn migrate(pool: &Pool) -> Result<(), StoreError> {
    if let Pool::Sqlite { file: Some(file), .. } = pool
        && let Some(folder) = file.parent()
        && !folder.as_os_str().is_empty()
    {
        let made = tokio::fs::create_dir_all(folder).await;
        made.map_err(|error| StoreError::File(folder.to_owned(), error.to_string()))?;
    }
    // Gateways that start together wait for each other here, and the later one finds nothing to do.
    match pool {
        Pool::Sqlite { pool, .. } => {
            let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
            let connection = &mut *transaction;
            sqlx::raw_sql(TABLE).execute(&mut *connection).await?;
            let found = sqlx::query_scalar("SELECT COALESCE(MAX(version), 0) FROM schema_version");
            for migration in missing(found.fetch_one(&mut *connection).await?)? {
                sqlx::raw_sql(migration.sqlite).execute(&mut *connection).await?;
                let done = sqlx::query("INSERT INTO schema_version (version) VALUES ($1)");
                done.bind(migration.version).execute(&mut *connection).await?;
            }
            transaction.commit().await?;
        }
        Pool::Postgres(pool) => {
            let mut transaction = pool.begin().await?;
            let connection = &mut *transaction;
            sqlx::raw_sql(LOCK).execute(&mut *connection).await?;
            sqlx::raw_sql(TABLE).execute(&mut *connection).await?;
            let found = sqlx::query_scalar("SELECT COALESCE(MAX(version), 0) FROM schema_version");
            for migration in missing(found.fetch_one(&mut *connection).await?)? {
                sqlx::raw_sql(migration.postgres).execute(&mut *connection).await?;
                let done = sqlx::query("INSERT INTO schema_version (version) VALUES ($1)");
                done.bind(migration.version).execute(&mut *connection).await?;
            }
            transaction.commit().await?;
        }
    }
    Ok(())
}

fn missing(found: i64) -> Result<impl Iterator<Item = &'static Migration>, StoreError> {
    let known = MIGRATIONS.last().map_or(0, |last| last.version);
    if found > known {
        return Err(StoreError::NewerSchema { found, known });
    }
    Ok(MIGRATIONS.iter().filter(move |migration| migration.version > found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_databases_have_the_same_tables_and_columns() {
        let types = [("UUID", "TEXT"), ("DOUBLE PRECISION", "REAL"), ("DEFAULT FALSE", "DEFAULT 0")];
        for migration in &MIGRATIONS {
            let statements = |script: &str| {
                let lines = script.lines().map(|line| line.split("--").next().unwrap_or_default());
                let text = lines.collect::<Vec<_>>().join(" ");
                let text = types.iter().fold(text, |text, (postgres, sqlite)| text.replace(postgres, sqlite));
                text.split_whitespace().collect::<Vec<_>>().join(" ")
            };
            assert_eq!(statements(migration.sqlite), statements(migration.postgres));
        }
    }

    #[test]
    fn a_database_of_a_newer_gateway_is_left_alone() {
        assert!(matches!(missing(99).err(), Some(StoreError::NewerSchema { found: 99, .. })));
        assert_eq!(missing(0).unwrap().count(), MIGRATIONS.len());
        assert_eq!(missing(1).unwrap().count(), MIGRATIONS.len() - 1);
    }
}
