//! Threads, signals, draining: what drives the machines.
