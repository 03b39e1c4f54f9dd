//! The database: users, registrations, CDRs, on SQLite and PostgreSQL.
//!
//! One set of statements serves both; where they must differ, [`rows`] and [`pool`] hide it. Nothing here is on the way
//! of a call: calls write to the journal, and run on while the database is away.

mod accounts;
mod cdr_list;
mod cdr_rows;
mod cdr_sink;
mod error;
mod keep;
mod key_check;
mod migrate;
mod numbers;
mod pool;
mod registrations;
mod retention;
mod rows;
mod snapshot;
mod users;

pub use accounts::Account;
pub use cdr_list::{CdrFilter, CdrOrder, CdrPage, CdrQuery, SortKey};
pub use cdr_rows::CdrRow;
pub use error::StoreError;
pub use numbers::NumberKeys;
pub use pool::{Store, StoreOptions};
pub use registrations::RegistrationChange;
pub use snapshot::{read_snapshot, write_snapshot};
pub use users::StoredUser;
