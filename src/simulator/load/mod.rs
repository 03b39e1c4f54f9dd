//! Load: both ends of many calls with real media through a gateway, and what it made of them.

pub mod cost;
pub mod delay;
pub mod report;
pub mod run;
pub mod tape;
