//! What a signed caller identity says of a call, and what came of checking it (RFC 8224, RFC 8588).

use serde::{Deserialize, Serialize};

/// How well the signer knows who calls (RFC 8588 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Attestation {
    /// It knows the customer, and that the number is the customer's.
    A,
    /// It knows the customer, but not whether the number is the customer's.
    B,
    /// It only knows where the call entered its network.
    C,
}

impl Attestation {
    pub const ALL: [Attestation; 3] = [Attestation::A, Attestation::B, Attestation::C];

    pub fn as_str(self) -> &'static str {
        match self {
            Attestation::A => "A",
            Attestation::B => "B",
            Attestation::C => "C",
        }
    }
}

/// What came of checking a caller's signed identity: the `result` label and the CDR column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StirResult {
    Passed,
    /// The call has no signed identity that could be checked.
    NoIdentity,
    /// Its certificate lies where none may be fetched from.
    BadInfo,
    /// Its certificate could not be fetched, or not in time.
    Unreachable,
    /// Its certificate can't be read, or leads to no trusted authority.
    Untrusted,
    /// Its certificate is not valid now.
    Expired,
    /// Its certificate does not speak for the calling number, or not for what is claimed (RFC 8226 §8, §9).
    NotCovered,
    /// It is no PASSporT, or one that lacks what it must have.
    Malformed,
    BadSignature,
    /// It was signed for another calling number.
    OrigMismatch,
    /// It was signed for another called number.
    DestMismatch,
    /// It was signed too long ago, or in the future.
    Stale,
    /// It came before, with another call.
    Replayed,
}

/// What a phone is told of the calling number (3GPP TS 24.229 §7.2A.20).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verstat {
    Passed,
    Failed,
    /// Nothing could be checked, so nothing is known.
    NotValidated,
}

impl Verstat {
    pub fn as_str(self) -> &'static str {
        match self {
            Verstat::Passed => "TN-Validation-Passed",
            Verstat::Failed => "TN-Validation-Failed",
            Verstat::NotValidated => "No-TN-Validation",
        }
    }
}

impl StirResult {
    pub const ALL: [StirResult; 13] = [
        StirResult::Passed,
        StirResult::NoIdentity,
        StirResult::BadInfo,
        StirResult::Unreachable,
        StirResult::Untrusted,
        StirResult::Expired,
        StirResult::NotCovered,
        StirResult::Malformed,
        StirResult::BadSignature,
        StirResult::OrigMismatch,
        StirResult::DestMismatch,
        StirResult::Stale,
        StirResult::Replayed,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            StirResult::Passed => "passed",
            StirResult::NoIdentity => "no_identity",
            StirResult::BadInfo => "bad_info",
            StirResult::Unreachable => "unreachable",
            StirResult::Untrusted => "untrusted",
            StirResult::Expired => "expired",
            StirResult::NotCovered => "not_covered",
            StirResult::Malformed => "malformed",
            StirResult::BadSignature => "bad_signature",
            StirResult::OrigMismatch => "orig_mismatch",
            StirResult::DestMismatch => "dest_mismatch",
            StirResult::Stale => "stale",
            StirResult::Replayed => "replayed",
        }
    }

    pub fn verstat(self) -> Verstat {
        match self {
            StirResult::Passed => Verstat::Passed,
            StirResult::NoIdentity | StirResult::Unreachable => Verstat::NotValidated,
            StirResult::BadInfo
            | StirResult::Untrusted
            | StirResult::Expired
            | StirResult::NotCovered
            | StirResult::Malformed
            | StirResult::BadSignature
            | StirResult::OrigMismatch
            | StirResult::DestMismatch
            | StirResult::Stale
            | StirResult::Replayed => Verstat::Failed,
        }
    }
}
