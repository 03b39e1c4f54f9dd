//! SIP transactions: what waits for a response, and what may have to be sent again (RFC 3261 §17, RFC 6026).
//!
//! One machine per file; `layer` matches messages to them and keeps their clocks.

mod amplification;
mod client_invite;
mod client_non_invite;
mod large;
mod layer;
mod matching;
mod output;
mod server_invite;
mod server_non_invite;
pub(crate) mod timers;

pub use layer::{Limits, TransactionLayer};
pub use output::{ClientFailure, ClientKey, Counters, Output, ServerKey};
pub use timers::Timers;

#[cfg(test)]
mod tests;
