//! The gateway as a whole, between real peers: SIPp, baresip, linphone, Kamailio, Prometheus.

#[path = "../support/mod.rs"]
mod support;

mod bad_input;
mod call;
mod cancel;
mod crash;
mod dialog;
mod did;
mod failover;
mod harness;
mod media;
mod network;
mod registration;
mod route;
mod scene;
mod simulator;
mod speech;
mod trunk;
