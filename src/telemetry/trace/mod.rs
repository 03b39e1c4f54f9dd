//! What passed in the signalling of recent calls: kept in memory within bounds, shown as a ladder, sent to Homer,
//! saved as a capture. Pure but for `export`; numbers are masked unless somebody with the right asks otherwise.

mod capture;
mod export;
mod hep;
mod ladder;
mod mask;
mod recorder;

pub use capture::pcap;
pub use export::HepExport;
pub use hep::{Sender, hep3};
pub use ladder::{SPAN, TraceLeg, TraceMessage, TraceView, Verdict, arrow};
pub use mask::masked;
pub use recorder::{Kept, KeptLeg, KeptMessage, Octets, Recorder};

/// Which way a message went, seen from the gateway.
pub use crate::telemetry::metrics::Flow;
