//! Billing's shell: the journal on disk, the table of last media times, the way to the database.

pub mod files;
pub mod journal;
mod keeper;
pub mod last_media;
mod reader;
mod recovery;
pub mod refused;
pub mod shipper;
mod space;
mod writer;

pub use journal::{Journal, JournalError, JournalOptions, JournalStatus, Recovery};
pub use last_media::LastMediaTable;
pub use refused::RefusedRecords;
pub use shipper::{Shipper, ShipperOptions};

#[cfg(test)]
mod tests;
