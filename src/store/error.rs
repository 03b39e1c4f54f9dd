//! Why the database did not do what it was asked.

use crate::billing::SinkError;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The text of the URL is not repeated: it may hold a password.
    #[error("the database URL can't be used: {0}")]
    Url(String),
    /// Away, busy, or too slow: may work later.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// A constraint or a type forbids the data: will never work.
    #[error("the database refuses the data: {0}")]
    Refused(String),
    #[error("the database has schema version {found}, this gateway knows up to {known}: install a newer one")]
    NewerSchema { found: i64, known: i64 },
    #[error(
        "number.keys: the database knows key \"{id}\" with another secret. Gateways that share a database share this file: \
         copy it from the gateway that came first. If that file is lost, give the key here another id; old calls are then \
         not found by number any more"
    )]
    OtherKey { id: String },
    #[error("{what} \"{name}\" exists already")]
    Exists { what: &'static str, name: String },
    #[error("there is no {what} \"{name}\"")]
    Missing { what: &'static str, name: String },
    #[error("the DID {0} rings another user already")]
    DidTaken(String),
    #[error("the cursor belongs to another list; begin again without it")]
    Cursor,
    /// A value in the database that no version of the gateway wrote.
    #[error("the database holds {value:?} in {column}")]
    Corrupt { column: String, value: String },
    #[error("{0}: {1}")]
    File(PathBuf, String),
}

impl StoreError {
    pub(super) fn corrupt(column: &str, value: impl ToString) -> StoreError {
        StoreError::Corrupt { column: column.to_owned(), value: value.to_string() }
    }

    pub fn is_unavailable(&self) -> bool {
        matches!(self, StoreError::Unavailable(_))
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> StoreError {
        if let sqlx::Error::Database(database) = &error {
            let code = database.code().unwrap_or_default();
            // PostgreSQL: classes 22 (data) and 23 (integrity). SQLite: the low byte of an extended code is the
            // primary one; 18 too big, 19 constraint, 20 mismatch.
            let postgres = code.len() == 5 && (code.starts_with("22") || code.starts_with("23"));
            let sqlite =
                code.len() < 5 && code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 18..=20));
            if postgres || sqlite {
                return StoreError::Refused(database.message().to_owned());
            }
        }
        if let sqlx::Error::Encode(error) = &error {
            return StoreError::Refused(error.to_string());
        }
        StoreError::Unavailable(error.to_string())
    }
}

impl From<StoreError> for SinkError {
    fn from(error: StoreError) -> SinkError {
        match error {
            StoreError::Refused(reason) => SinkError::Refused(reason),
            error => SinkError::Unavailable(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_never_work_is_refused_for_good() {
        let missing = StoreError::Missing { what: "user", name: "alice".into() };
        assert!(matches!(SinkError::from(missing), SinkError::Unavailable(_)));
        assert!(matches!(StoreError::from(sqlx::Error::PoolTimedOut), StoreError::Unavailable(_)));
        assert!(matches!(SinkError::from(StoreError::Refused("no".into())), SinkError::Refused(_)));
    }
}
