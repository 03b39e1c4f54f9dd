//! Wiring: a gateway from its configuration.

mod control;
pub mod demo;
pub mod explain;
mod gateway;
pub mod preflight;
mod quality;
mod reload;
mod setup;
pub mod sheet;
mod views;

pub use gateway::{Gateway, Options, StartError};
pub use setup::store;
