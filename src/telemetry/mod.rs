//! Metrics and logs.

pub mod metrics;

pub use metrics::Metrics;
