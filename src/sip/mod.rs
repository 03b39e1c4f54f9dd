//! SIP: messages, transactions, dialogs, digest. Pure; `io` holds the sockets.

pub mod message;
