//! The simulator's shells: media threads and the task that runs an agent.

pub mod endpoint;
pub mod media;
mod stamped;

use crate::simulator::stream::StreamSeed;

/// Octets of the operating system's generator; keys and tags must not be guessed even in a test tool.
pub(super) fn random(octets: &mut [u8]) {
    if rustls::crypto::ring::default_provider().secure_random.fill(octets).is_err() {
        std::process::abort();
    }
}

/// Numbers for a stream to start with.
pub(super) fn stream_seed() -> StreamSeed {
    let mut bytes = [0; 10];
    random(&mut bytes);
    StreamSeed {
        ssrc: u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
        sequence: u16::from_ne_bytes([bytes[4], bytes[5]]),
        timestamp: u32::from_ne_bytes([bytes[6], bytes[7], bytes[8], bytes[9]]),
    }
}
