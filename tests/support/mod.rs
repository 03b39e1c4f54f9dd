//! What the tests need around a gateway: real peers as children, free ports, speech, and waiting without luck.
//!
//! Nothing here knows the gateway's code: it is driven and judged from outside only. Only chance on a bad network is
//! borrowed from where the repair of losses is tried out.
#![allow(dead_code, reason = "each test binary uses its part of it")]

pub mod baresip;
pub mod certificates;
pub mod dashboard;
pub mod digest;
pub mod dns;
pub mod fax;
pub mod gateway;
pub mod http;
pub mod image;
pub mod impairment;
pub mod kamailio;
pub mod keys;
pub mod lane;
pub mod linphone;
pub mod metrics;
pub mod postgres;
pub mod process;
pub mod prometheus;
pub mod raw_sip;
pub mod raw_stream;
pub mod rtp;
pub mod sipp;
pub mod speech;
pub mod tap;
pub mod tls;
pub mod trace;
pub mod wait;
pub mod wav;
pub mod wire;
pub mod wiretap;
