//! Metrics, logs and traces.

pub mod certificate;
pub mod logging;
pub mod metrics;
pub mod trace;

pub use logging::{LogControl, LogFormat};
pub use metrics::Metrics;
