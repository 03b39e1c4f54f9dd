//! The shell of the media path: UDP ports and the threads that own them.

pub mod command;
pub mod ports;
pub mod socket;
mod worker;
pub mod workers;

pub use command::{MediaCommand, MediaEvent, WorkerId};
pub use ports::{Family, LegSockets, NetworkPorts, PortAllocator, PortsExhausted};
pub use workers::MediaWorkers;
