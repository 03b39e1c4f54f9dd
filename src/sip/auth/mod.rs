//! Digest authentication, asking and answering (RFC 3261 §22, RFC 7616, RFC 8760).

pub mod client;
pub mod digest;
pub mod nonces;
pub mod server;

pub use client::{AuthRefused, ClientAuth, Credentials};
pub use digest::{Algorithm, ha1};
pub use server::{AuthFailure, Challenger, Verified};
