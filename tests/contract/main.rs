//! What the project promises of itself: its architecture, its coverage, its configuration and its words.

mod architecture;
mod coverage;
mod source;
