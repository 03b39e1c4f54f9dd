//! Whole calls in virtual time: scripted phones and operators around one exchange, no socket, no sleep.

mod far;
mod lab;
mod world;

mod admission;
mod audio;
mod cancel;
mod chaos;
mod delayed_offer;
mod emergency;
mod failover;
mod fork;
mod header_rules;
mod identity;
mod journal;
mod lines;
mod loss;
mod progress;
mod provenance;
mod reason;
mod redirect;
mod refusals;
mod registration;
mod reinvite;
mod release;
mod reliable;
mod reload;
mod replaces;
mod session_timer;
mod setup;
mod timers;
mod transfer;
mod trunk_auth;
mod update;
mod upkeep;
