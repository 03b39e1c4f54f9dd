//! What keeps a phone, an operator or load from doing its work.

use super::agent::AgentError;
use super::wav::WavError;
use crate::sip::io::BindError;
use std::io;

/// A refused call is a result, not one of these.
#[derive(Debug, thiserror::Error)]
pub enum SimulatorError {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("no media socket: {0}")]
    Media(io::Error),
    #[error("\"{0}\" is no SIP address; write sip:HOST:PORT or HOST:PORT")]
    Address(String),
    #[error("can't resolve {host}: {error}")]
    Resolve { host: String, error: io::Error },
    #[error(transparent)]
    Agent(#[from] AgentError),
    #[error("the call is over")]
    CallOver,
    #[error("the agent has stopped")]
    Stopped,
    #[error(transparent)]
    Wav(#[from] WavError),
    #[error("can't write the ledger {path}: {error}")]
    Ledger { path: String, error: io::Error },
    #[error("process {pid} can't be watched: {error}")]
    Process { pid: u32, error: io::Error },
    #[error("the speech can't be encoded: {0}")]
    Codec(#[from] crate::media::codec::opus::OpusError),
    #[error("{0}")]
    Option(&'static str),
}
