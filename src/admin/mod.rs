//! The admin API and its Prometheus endpoint.
