//! The configuration file: what may be set, its defaults, and clear errors.
