//! Wiring: a gateway from its configuration.
