//! Call records, prices and the journal that never loses them.
//!
//! `call` emits a [`JournalRecord`] → [`io::journal`] makes it durable and acknowledges it → [`io::shipper`] upserts it
//! through a [`CdrSink`] into the database → the checkpoint moves → the journal's segment is deleted.

pub mod cdr;
pub mod io;
pub mod rating;
pub mod record;
pub mod sink;

pub use cdr::{Called, Caller, Cdr, CdrLeg, CdrState};
pub use rating::{Charge, NotRated, Price, RateRow, RateTable, Rated, Side};
pub use record::{JournalEvent, JournalRecord, RecordKind, Refusal};
pub use sink::{CdrSink, SinkError};
