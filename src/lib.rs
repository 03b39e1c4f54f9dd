//! Tandem: a SIP interconnect gateway between app users (Opus) and telecom operators (G.711).
//!
//! The folders are the architecture; `ARCHITECTURE.md` walks through them.

pub mod access;
pub mod admin;
pub mod app;
pub mod billing;
pub mod call;
pub mod cli;
pub mod config;
pub mod media;
pub mod routing;
pub mod runtime;
pub mod sdp;
pub mod simulator;
pub mod sip;
pub mod stir;
pub mod store;
pub mod telemetry;
pub mod types;
