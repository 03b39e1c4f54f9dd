//! What mends a received stream before its sound goes on: order, and the delay that a hiccup leaves behind.

pub mod catch_up;
pub mod reorder;
pub mod spread;
pub mod window;
pub mod wire;
