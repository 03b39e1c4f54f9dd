//! The gateway as a whole, between real peers: SIPp, baresip, linphone, Kamailio, Prometheus.

#[path = "../support/mod.rs"]
mod support;

mod bad_input;
mod call;
mod cancel;
mod certificate;
mod crash;
mod dashboard;
mod database;
mod demo;
mod dialog;
mod did;
mod encoder;
mod failover;
mod features;
mod glare;
mod harness;
mod header_rules;
mod identity;
mod lifecycle;
mod lines;
mod load;
mod locate;
mod media;
mod media_attack;
mod metrics;
mod network;
mod operate;
mod packets;
mod proxy;
mod quality;
mod registration;
mod repair;
mod route;
mod scene;
mod settings;
mod simulator;
mod speech;
mod srtp;
mod test_phone;
mod torture;
mod trace;
mod transports;
mod trunk;
mod udp;
