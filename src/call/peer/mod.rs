//! Speaking SIP for the rooms that only decide: registrations of app users, health and registration of trunks.

pub mod registration;
pub mod trunk;
