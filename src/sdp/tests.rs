//! Offer and answer against descriptions of real stacks.
