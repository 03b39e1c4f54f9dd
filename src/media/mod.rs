//! The voice itself: RTP, RTCP, SRTP, codecs, bridge, quality. Pure; `io` holds ports and workers.

pub mod config;
pub mod io;

pub use config::{DtmfFormat, LegConfig, OpusSettings, Tone};
pub use io::{LegSockets, MediaCommand, MediaEvent, MediaWorkers, NetworkPorts, PortAllocator, WorkerId};
