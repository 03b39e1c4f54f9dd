//! The admin API and its Prometheus endpoint.

pub mod control;
pub mod rfc3339;

pub use control::{Control, ControlCommand};
