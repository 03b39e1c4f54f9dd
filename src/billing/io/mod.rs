//! Billing's shell: the journal on disk, the table of last media times, the way to the database.

pub mod files;
pub mod last_media;
