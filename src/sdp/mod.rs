//! Session descriptions and the offer/answer rules (RFC 8866, RFC 3264).

pub mod agreement;
pub mod offer_answer;
pub mod opus_fmtp;
pub mod sdes;
pub mod session;

pub use agreement::{
    AnswerError, Capability, DtmfFormat, Loopback, Negotiated, Randomness, Refusal, SrtpPolicy,
};
pub use offer_answer::Local;
pub use opus_fmtp::{OpusParams, OpusRemote};
pub use session::{MediaKind, SdpError, Session};

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
