//! The words every room shares: identities, numbers, codecs, causes and addresses. No behaviour of a domain.

pub mod activity;
pub mod clock;
pub mod codec;
pub mod end_cause;
pub mod ids;
pub mod line;
pub mod money;
pub mod net;
pub mod number;
pub mod place;
pub mod q850;
pub mod quality;
pub mod secret;
pub mod stir;
pub mod time_zone;

pub use activity::ActivityMark;
pub use clock::{Now, UnixMillis, days_before};
pub use codec::{AudioCodec, DtmfMode, MediaDirection, SrtpKeys, SrtpSuite};
pub use end_cause::{EndCause, Outcome};
pub use ids::{CallId, LegId};
pub use line::TestLine;
pub use money::{Currency, Money, Rate};
pub use net::{ConnectionId, HostPort, NetworkId, Peer, Transport};
pub use number::{E164, mask, shorten_number};
pub use place::{Place, Point};
pub use quality::{AudioFault, Fax, LegReport, QualitySample};
pub use secret::Secret;
pub use stir::{Attestation, StirResult, Verstat};
pub use time_zone::{LocalTime, TimeZone, WallClock, Weekday};

use serde::{Deserialize, Serialize};

/// Which way a call goes between the two kinds of party.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    AppToTrunk,
    TrunkToApp,
    AppToApp,
    /// Only where a dialplan rule names a trunk in `from` and another in `trunks`.
    TrunkToTrunk,
}

impl Direction {
    pub const ALL: [Direction; 4] =
        [Direction::AppToTrunk, Direction::TrunkToApp, Direction::AppToApp, Direction::TrunkToTrunk];

    /// The value of the `direction` label and of the CDR column.
    pub fn as_str(self) -> &'static str {
        match self {
            Direction::AppToTrunk => "app_to_trunk",
            Direction::TrunkToApp => "trunk_to_app",
            Direction::AppToApp => "app_to_app",
            Direction::TrunkToTrunk => "trunk_to_trunk",
        }
    }
}

/// A call for help, or one back to who asked for it: no limit stands in its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Emergency {
    Call,
    /// From those who answer emergency calls to somebody who made one (RFC 7090).
    Callback,
}

impl Emergency {
    pub const ALL: [Emergency; 2] = [Emergency::Call, Emergency::Callback];

    /// The value of the CDR column.
    pub fn as_str(self) -> &'static str {
        match self {
            Emergency::Call => "call",
            Emergency::Callback => "callback",
        }
    }
}

/// What stands at the far end of a leg; the value of the `leg` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LegKind {
    App,
    Trunk,
}

impl LegKind {
    pub fn as_str(self) -> &'static str {
        match self {
            LegKind::App => "app",
            LegKind::Trunk => "trunk",
        }
    }
}

/// Who ended a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReleasedBy {
    Caller,
    Callee,
    Gateway,
}

impl ReleasedBy {
    pub fn as_str(self) -> &'static str {
        match self {
            ReleasedBy::Caller => "caller",
            ReleasedBy::Callee => "callee",
            ReleasedBy::Gateway => "gateway",
        }
    }
}
