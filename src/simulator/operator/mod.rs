//! A simulated operator trunk with faults, and a ledger of its own.

pub mod fault;
pub mod interconnect;
pub mod ledger;
pub mod machine;
pub mod run;
pub mod treatment;
