//! Metrics and logs.

pub mod certificate;
pub mod logging;
pub mod metrics;

pub use logging::{LogControl, LogFormat};
pub use metrics::Metrics;
