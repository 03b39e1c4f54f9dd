//! The voice itself: RTP, RTCP, SRTP, codecs, bridge, quality. Pure; `io` holds ports and workers.

pub mod adaptation;
pub mod announcer;
pub mod bridge;
pub mod bursts;
pub mod codec;
pub mod config;
pub mod dtmf;
pub mod fax;
pub mod feed;
mod fetch;
pub mod io;
pub mod latch;
pub mod leg;
pub mod level;
pub mod load;
pub mod quality;
pub mod readback;
pub mod reception;
pub mod recording;
pub mod recovery;
pub mod relay;
pub mod rtcp;
pub mod rtp;
pub mod series;
pub mod srtp;
pub mod stats;
pub mod timeline;
pub mod tone;
pub mod track;
pub mod transcoder;
pub mod transmit;
pub mod watch;

pub use config::{DtmfFormat, LegConfig, Line, OpusSettings, Ringing, Tone};
pub use io::{
    Family, LegSockets, MediaCommand, MediaEvent, MediaWorkers, NetworkPorts, PortAllocator, PortsExhausted,
    WorkerId,
};
pub use load::LoadLimit;
pub use stats::{LegTotals, MediaTotals};
