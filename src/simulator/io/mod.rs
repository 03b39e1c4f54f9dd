//! The simulator's shells: media threads and the task that runs an agent.

pub mod endpoint;
pub mod media;
mod stamped;
