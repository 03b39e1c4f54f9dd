//! Where finished journal records go: the database, as the shipper sees it.

use super::cdr::Cdr;
use std::future::Future;

/// Why a batch was not stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// The database is away or busy: the same batch may succeed later.
    #[error("database unavailable: {0}")]
    Unavailable(String),
    /// The database will never take something in this batch.
    #[error("database refuses the records: {0}")]
    Refused(String),
}

/// Stores records so that storing them again changes nothing.
pub trait CdrSink: Send + Sync + 'static {
    /// Upserts the batch in one transaction; every id occurs once in it. Of two snapshots of a call the one with the
    /// higher `revision` stays, and an ended one is never reopened.
    ///
    /// # Errors
    /// Nothing of the batch is stored on error.
    fn store(&self, batch: &[Cdr]) -> impl Future<Output = Result<(), SinkError>> + Send;
}
