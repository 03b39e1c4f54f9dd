//! Whole calls in virtual time: scripted phones and operators around one exchange, no socket, no sleep.

mod far;
mod world;

mod setup;
