//! A test phone, an operator and load: used by the demo, the tests and users.

pub mod agent;
pub mod heard;
pub mod operator;
pub mod picture;
mod spectrum;
pub mod speech;
pub mod wav;

pub use spectrum::{Alignment, align};
