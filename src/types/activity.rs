//! Where the media path notes that a call is still heard, so that a crash can close it at its last packet.

/// A place that survives the process (a slot of a memory-mapped table); written at most a few times a second.
pub trait ActivityMark: Send {
    /// Notes that media of the call was alive at `unix_ms`.
    fn mark(&mut self, unix_ms: i64);
}
