//! The gateway as a whole, between real peers: SIPp, baresip, linphone, Kamailio, Prometheus.

#[path = "../support/mod.rs"]
mod support;

mod call;
mod did;
mod registration;
mod route;
mod trunk;
mod cancel;
mod dialog;
mod failover;
mod harness;
mod media;
mod scene;
mod speech;
