//! Connections: to one SQLite file or to a PostgreSQL server, opened when first needed.

use sqlx::{
    ConnectOptions, PgPool, SqlitePool,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::{
    future::Future,
    path::PathBuf,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::OnceCell;

use super::{error::StoreError, key_check, migrate, numbers::NumberKeys};
use crate::types::{E164, Secret};

/// How the database is used.
#[derive(Debug, Clone, Copy)]
pub struct StoreOptions {
    /// Connections to PostgreSQL. 8: the shipper, the API and the jobs, none of them many at once.
    pub max_connections: u32,
    /// Longest wait for a connection. 3 s: a gateway that starts while the server is away waits no longer than that.
    pub connect_patience: Duration,
    /// Longest time for one request, connecting included. 10 s: a bulk upsert on a busy server takes under one.
    pub patience: Duration,
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions {
            max_connections: 8,
            connect_patience: Duration::from_secs(3),
            patience: Duration::from_secs(10),
        }
    }
}

/// The database. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    pool: Pool,
    pub(super) keys: Arc<NumberKeys>,
    options: StoreOptions,
    prepared: Arc<OnceCell<()>>,
    up: Arc<AtomicBool>,
}

/// The typed pool behind a store.
#[derive(Clone)]
pub(super) enum Pool {
    Sqlite { pool: SqlitePool, file: Option<PathBuf> },
    Postgres(PgPool),
}

/// Runs the same code on whichever pool it is: `$pool` is typed differently in the two copies.
macro_rules! on {
    ($pool:expr, $typed:ident => $body:expr) => {
        match $pool {
            $crate::store::pool::Pool::Sqlite { pool: $typed, .. } => $body,
            $crate::store::pool::Pool::Postgres($typed) => $body,
        }
    };
}
pub(super) use on;

impl Store {
    /// Prepares connections to `sqlite:FILE`, `sqlite::memory:` or `postgres://…`. Nothing is opened yet, so that a
    /// gateway starts while its database is away.
    ///
    /// # Errors
    /// The URL can't be understood.
    ///
    /// # Panics
    /// Outside a tokio runtime: the connections live in the one of the caller.
    pub fn connect(url: &Secret, keys: NumberKeys, options: StoreOptions) -> Result<Store, StoreError> {
        let pool = match Kind::of(url)? {
            Kind::Sqlite => sqlite(url.expose(), options)?,
            Kind::Postgres => postgres(url.expose(), options)?,
        };
        Ok(Store { pool, keys: Arc::new(keys), options, prepared: Arc::default(), up: Arc::default() })
    }

    /// Whether [`connect`](Store::connect) would take this URL; nothing is opened or made.
    ///
    /// # Errors
    /// The URL can't be understood, or names files that are not there.
    pub fn check_url(url: &Secret) -> Result<(), StoreError> {
        match Kind::of(url)? {
            Kind::Sqlite => sqlite_options(url.expose()).map(drop),
            Kind::Postgres => postgres_options(url.expose()).map(drop),
        }
    }

    /// Reaches the database, and brings its tables up to date the first time.
    ///
    /// # Errors
    /// It is away, a newer gateway has changed it, or another one hashes its numbers under other keys.
    pub async fn ready(&self) -> Result<(), StoreError> {
        self.within(async {
            on!(self.pool().await?, pool => {
                sqlx::query("SELECT 1").execute(pool).await?;
                Ok(())
            })
        })
        .await
    }

    /// Whether the database answered when it was last asked.
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// The keyed hash that a number is found by once it has lost its last digits.
    pub fn hash_of(&self, number: &E164) -> Option<String> {
        self.keys.hash(number)
    }

    /// True for the server that several gateways may share.
    pub fn is_postgres(&self) -> bool {
        matches!(self.pool, Pool::Postgres(_))
    }

    /// Closes all connections, after the statements that are running.
    pub async fn close(&self) {
        on!(&self.pool, pool => pool.close().await);
    }

    /// The pool, its tables up to date and its numbers hashed under our keys.
    pub(super) async fn pool(&self) -> Result<&Pool, StoreError> {
        let prepare = || async {
            migrate::migrate(&self.pool).await?;
            key_check::check(&self.pool, &self.keys).await
        };
        self.prepared.get_or_try_init(prepare).await?;
        Ok(&self.pool)
    }

    /// A server that has gone away silently must not hold anybody for minutes.
    pub(super) async fn within<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let done = match tokio::time::timeout(self.options.patience, work).await {
            Ok(done) => done,
            Err(_) => Err(StoreError::Unavailable(format!("no answer within {:?}", self.options.patience))),
        };
        let up = !done.as_ref().is_err_and(StoreError::is_unavailable);
        self.up.store(up, Ordering::Relaxed);
        done
    }
}

impl Pool {
    /// A call id as a parameter or in a condition: PostgreSQL has a type for it, SQLite keeps its text.
    pub fn id_parameter(&self, number: usize) -> String {
        match self {
            Pool::Sqlite { .. } => format!("${number}"),
            Pool::Postgres(_) => format!("${number}::uuid"),
        }
    }

    /// A call id as text in a result.
    pub fn id_column(&self, name: &str) -> String {
        match self {
            Pool::Sqlite { .. } => name.to_owned(),
            Pool::Postgres(_) => format!("{name}::text AS {name}"),
        }
    }
}

/// Which database a URL names.
enum Kind {
    Sqlite,
    Postgres,
}

impl Kind {
    fn of(url: &Secret) -> Result<Kind, StoreError> {
        let url = url.expose();
        if url.starts_with("sqlite:") {
            Ok(Kind::Sqlite)
        } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            Ok(Kind::Postgres)
        } else {
            Err(StoreError::Url("it begins with neither sqlite: nor postgres://".to_owned()))
        }
    }
}

fn sqlite_options(url: &str) -> Result<SqliteConnectOptions, StoreError> {
    SqliteConnectOptions::from_str(url).map_err(|error| StoreError::Url(error.to_string()))
}

fn postgres_options(url: &str) -> Result<PgConnectOptions, StoreError> {
    PgConnectOptions::from_str(url).map_err(|error| StoreError::Url(error.to_string()))
}

/// Without sqlx's own lines about statements: one for a few hundred records is 20 KB long. How far the database is
/// behind stands in the journal's age.
fn quiet<O: ConnectOptions>(options: O) -> O {
    options.disable_statement_logging()
}

fn sqlite(url: &str, options: StoreOptions) -> Result<Pool, StoreError> {
    let connect = sqlite_options(url)?;
    let memory = url.contains(":memory:");
    let file = (!memory).then(|| connect.get_filename().to_owned());
    let connect = quiet(connect)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // The journal forgets what was committed here, so a commit must survive a power cut.
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(options.patience / 2);
    let pool = SqlitePoolOptions::new()
        // Readers don't wait for the one writer (WAL); a database in memory lives in its one connection.
        .max_connections(if memory { 1 } else { 4 })
        .min_connections(u32::from(memory))
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(options.connect_patience)
        .connect_lazy_with(connect);
    Ok(Pool::Sqlite { pool, file })
}

fn postgres(url: &str, options: StoreOptions) -> Result<Pool, StoreError> {
    let connect = quiet(postgres_options(url)?).application_name("tandem");
    let pool = PgPoolOptions::new()
        .max_connections(options.max_connections)
        .acquire_timeout(options.connect_patience)
        .connect_lazy_with(connect);
    Ok(Pool::Postgres(pool))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_is_no_database_is_refused_without_repeating_its_password() {
        let url = Secret::new("mysql://user:hunter2@host/db");
        let error = Store::connect(&url, NumberKeys::for_tests(), StoreOptions::default()).err().unwrap();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
