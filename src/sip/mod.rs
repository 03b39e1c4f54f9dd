//! SIP: messages, transactions, dialogs, digest. Pure; `io` holds the sockets.

pub mod answer_retransmit;
pub mod auth;
pub mod dialog;
pub mod framing;
pub mod glance;
pub mod header_rules;
pub mod io;
pub mod locate;
pub mod lookup;
pub mod mark;
pub mod message;
pub mod overload;
pub mod reliable;
pub mod session_timer;
pub mod transaction;
