//! The layer as a whole, in virtual time.
