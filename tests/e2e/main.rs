//! The gateway as a whole, between real peers: SIPp, baresip, linphone, Kamailio, Prometheus.

#[path = "../support/mod.rs"]
mod support;

mod call;
mod cancel;
mod dialog;
mod failover;
mod harness;
mod media;
mod scene;
mod speech;
