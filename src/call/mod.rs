//! The B2BUA: two legs made one call. The only room that knows more than one domain.
//!
//! [`exchange::Exchange`] is the whole of it: messages and reports go in, orders come out.
//! [`machine`] is one call, [`leg`] one dialog of it, [`admission`] decides what becomes a call at all,
//! [`peer`] speaks SIP for registrations and trunk health, [`io`] drives it with sockets and threads.

pub mod admission;
mod charging;
pub mod core;
pub mod emergency;
pub mod event;
pub mod exchange;
mod forward;
pub mod forwarding;
pub mod identity;
pub mod io;
pub mod leg;
pub mod location;
pub mod machine;
pub mod peer;
mod provenance;
pub mod settings;
mod streams;
pub mod targets;
pub mod transfer;
pub mod trunks;

#[cfg(test)]
mod tests;

pub use event::{Event, Input, Output};
pub use exchange::{Exchange, Parts};
pub use settings::Settings;
