//! The shell of the exchange: the task that feeds it, what it tells the world, and where trunks are.

mod certificates;
pub mod observe;
pub mod resolve;
pub mod shard;

pub use certificates::{CertificateFetcher, Fetching};
pub use observe::{Observer, Tap};
pub use shard::{BindingChange, BindingKeeper, Shard, ShardHandle, ShardInbox, ShardParts, channel};
