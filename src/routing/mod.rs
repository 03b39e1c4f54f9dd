//! Numbers, dialplan, trunk selection and limits.

mod failover;
mod numbers;
mod peers;

pub use failover::{FailoverAction, FailoverKey, FailoverTable, Failure};
pub use numbers::{Dialled, NumberError, NumberFormat, NumberPlan};
pub use peers::{Ambiguity, Origin, PeerMatch, PeerTable, TrunkPeers};

/// Which configured trunk: its place in the list of `[[trunk]]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrunkIndex(pub u16);
