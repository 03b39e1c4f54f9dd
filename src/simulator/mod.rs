//! A test phone, an operator and load: used by the demo, the tests and users.

pub mod agent;
pub mod conversation;
mod error;
pub mod heard;
pub mod io;
pub mod load;
pub mod operator;
pub mod phone;
pub mod picture;
mod spectrum;
pub mod speech;
pub mod stream;
pub mod voice;
pub mod wav;

pub use error::SimulatorError;
pub use spectrum::{Alignment, align};

#[cfg(test)]
mod tests;
