//! What the admin API shows of the running gateway. The JSON names are a contract with scripts.

use crate::access;
use crate::admin::rfc3339;
use crate::telemetry::trace::Kept;
use crate::types::{
    AudioCodec, CallId, Direction, EndCause, LegReport, QualitySample, TestLine, Transport, UnixMillis, mask,
};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// What is kept of a call's signalling.
#[derive(Debug)]
pub struct Traced {
    pub kept: Kept,
    /// Whether the configuration lets anybody see it unmasked.
    pub may_be_whole: bool,
}

/// How far a live call has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallState {
    /// Being routed, or sent to a callee that has not rung yet.
    Trying,
    Ringing,
    /// The callee's side sends audio before its answer.
    EarlyMedia,
    Answered,
    /// Answered, and one side has put the other on hold.
    Held,
    /// One side is gone, the other is being told.
    Ending,
}

impl CallState {
    pub fn as_str(self) -> &'static str {
        match self {
            CallState::Trying => "trying",
            CallState::Ringing => "ringing",
            CallState::EarlyMedia => "early_media",
            CallState::Answered => "answered",
            CallState::Held => "held",
            CallState::Ending => "ending",
        }
    }
}

/// One live call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallView {
    pub id: CallId,
    pub direction: Direction,
    pub state: CallState,
    /// The calling app user; absent for a call from a trunk.
    pub caller_user: Option<String>,
    /// The number presented to the callee.
    pub caller_number: Option<String>,
    /// What was dialled, as the caller sent it.
    pub dialled: String,
    /// The dialled number in E.164, once normalised.
    pub number: Option<String>,
    /// The called app user; absent for a call to a trunk.
    pub callee_user: Option<String>,
    pub ingress_trunk: Option<String>,
    /// The trunk tried now or answered on.
    pub egress_trunk: Option<String>,
    #[serde(with = "rfc3339")]
    pub started_at: UnixMillis,
    #[serde(with = "rfc3339::option", default)]
    pub answered_at: Option<UnixMillis>,
    /// Since the answer, by the monotonic clock; 0 before it.
    pub duration_ms: u64,
    pub caller_codec: Option<AudioCodec>,
    pub callee_codec: Option<AudioCodec>,
    /// The thread that has each leg's voice, by its name in the process; absent while a leg has no media port.
    pub caller_thread: Option<String>,
    pub callee_thread: Option<String>,
    /// The media workers' report of each leg: as it is now where one call is asked for, else the last one that came
    /// by itself; absent before the first.
    pub caller_leg: Option<LegReport>,
    pub callee_leg: Option<LegReport>,
    /// The last five minutes in steps of five seconds, oldest first; only where one call is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller_series: Option<Vec<QualitySample>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callee_series: Option<Vec<QualitySample>>,
}

impl CallView {
    /// The same call for a reader who may not see numbers.
    pub fn masked(mut self) -> CallView {
        self.caller_number = self.caller_number.as_deref().map(mask);
        self.dialled = mask(&self.dialled);
        self.number = self.number.as_deref().map(mask);
        self
    }
}

/// What health checks know of a trunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrunkHealth {
    Up,
    Down,
    /// Not asked yet, and no call has told.
    Unknown,
}

impl TrunkHealth {
    pub fn as_str(self) -> &'static str {
        match self {
            TrunkHealth::Up => "up",
            TrunkHealth::Down => "down",
            TrunkHealth::Unknown => "unknown",
        }
    }
}

/// Where our own registration at a trunk stands; only with `auth = "register"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum TrunkRegistration {
    Registering,
    Registered {
        #[serde(with = "rfc3339")]
        expires_at: UnixMillis,
    },
    Failed {
        reason: String,
    },
}

/// One trunk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrunkView {
    pub name: String,
    pub carrier: String,
    pub transport: Transport,
    pub health: TrunkHealth,
    /// Takes no calls until it is unblocked, by an operator or for a while after a failure.
    pub blocked: bool,
    #[serde(with = "rfc3339::option", default)]
    pub blocked_until: Option<UnixMillis>,
    /// Gets no new calls; those it has go on.
    pub draining: bool,
    /// Why it is down or blocked, in words.
    pub reason: Option<String>,
    pub active_calls: u32,
    /// 0 is unlimited.
    pub max_channels: u32,
    /// New calls per second it may get; 0 is unlimited.
    pub max_cps: u32,
    /// New calls per second it may send; 0 is unlimited.
    pub max_cps_in: u32,
    pub registration: Option<TrunkRegistration>,
    /// The last answered OPTIONS.
    pub options_rtt_ms: Option<f64>,
    /// The proxies in the order they are tried.
    pub targets: Vec<TargetView>,
}

/// One address of a trunk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TargetView {
    /// As configured: host, host:port or a domain.
    pub proxy: String,
    pub address: Option<SocketAddr>,
    /// As configured, or as the operator's NAPTR records wish.
    pub transport: Transport,
    /// Down: it left a call or an OPTIONS unanswered and gets no calls while another address is there.
    pub health: TrunkHealth,
}

/// What an operator may do to a trunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrunkAction {
    /// No calls in either direction until it is unblocked; running calls go on.
    Block,
    /// Ends a block and a drain.
    Unblock,
    /// No new calls; running ones end by themselves.
    Drain,
}

impl TrunkAction {
    pub const ALL: [TrunkAction; 3] = [TrunkAction::Block, TrunkAction::Unblock, TrunkAction::Drain];

    pub fn as_str(self) -> &'static str {
        match self {
            TrunkAction::Block => "block",
            TrunkAction::Unblock => "unblock",
            TrunkAction::Drain => "drain",
        }
    }
}

/// One contact of an app user.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RegistrationView {
    pub user: String,
    pub contact: String,
    pub transport: Transport,
    /// Where its requests came from.
    pub remote: SocketAddr,
    pub user_agent: Option<String>,
    #[serde(with = "rfc3339")]
    pub expires_at: UnixMillis,
}

/// Where a user is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserSource {
    /// The configuration file: read-only here.
    File,
    Database,
}

impl UserSource {
    pub fn as_str(self) -> &'static str {
        match self {
            UserSource::File => "file",
            UserSource::Database => "database",
        }
    }
}

/// One app user, without its credentials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserView {
    pub name: String,
    pub source: UserSource,
    pub caller_ids: Vec<String>,
    pub dids: Vec<String>,
    pub account: Option<String>,
    /// Contacts now registered; absent where no gateway runs to know.
    pub registrations: Option<u32>,
}

impl UserView {
    pub fn of(user: &access::User, registrations: Option<u32>) -> UserView {
        UserView {
            name: user.name.to_string(),
            source: match user.source {
                access::UserSource::File => UserSource::File,
                access::UserSource::Database => UserSource::Database,
            },
            caller_ids: user.caller_ids.iter().map(ToString::to_string).collect(),
            dids: user.dids.iter().map(ToString::to_string).collect(),
            account: Some(user.account.clone()),
            registrations,
        }
    }

    /// The same user for a reader who may not see numbers.
    pub fn masked(mut self) -> UserView {
        for number in self.caller_ids.iter_mut().chain(&mut self.dids) {
            *number = mask(number);
        }
        self
    }
}

/// A call to explain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteQuery {
    /// The name of an app user, or `trunk:NAME`.
    pub from: String,
    /// What is dialled, as the caller would send it.
    pub to: String,
    /// The number the caller presents.
    #[serde(default)]
    pub calling: Option<String>,
    /// When the call would be made; now if absent.
    #[serde(with = "rfc3339::option", default)]
    pub at: Option<UnixMillis>,
}

/// Why a call can't be explained.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteQueryError {
    #[error("there is no user \"{0}\"")]
    UnknownUser(String),
    #[error("there is no trunk \"{0}\"")]
    UnknownTrunk(String),
}

/// What a call would do, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RouteView {
    pub from: String,
    pub dialled: String,
    /// The dialled number in E.164; absent for a user's name.
    pub number: Option<String>,
    /// The number the callee would see, in E.164.
    pub calling: Option<String>,
    /// It is an emergency call: no limit holds it.
    pub emergency: bool,
    /// The rules matched and the rewrites made, one line each, in order.
    pub matched: Vec<String>,
    pub outcome: RouteOutcomeView,
    pub rate: Option<RateView>,
    /// 0 is unlimited.
    pub max_duration_seconds: u64,
}

/// Where a call would go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum RouteOutcomeView {
    Reject {
        status: u16,
        cause: EndCause,
        text: String,
    },
    /// In the order they would be tried.
    Trunks {
        trunks: Vec<RouteTrunkView>,
    },
    User {
        name: String,
        registrations: u32,
    },
    /// A test line of the gateway itself.
    Line {
        line: TestLine,
    },
}

/// One trunk a call would try.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RouteTrunkView {
    pub name: String,
    /// The numbers as this trunk would get them.
    pub called: String,
    /// Absent where the caller has no number to present.
    pub calling: Option<String>,
    /// Cost per minute, as `0.0125 EUR`; absent without a buy rate.
    pub cost: Option<String>,
    /// Would get the call now.
    pub usable: bool,
    /// Why it would be passed over.
    pub reason: Option<String>,
    pub called_format: String,
    pub calling_format: String,
    /// Its codecs, in order of preference.
    pub codecs: Vec<String>,
    /// What its INVITE would say beside what makes the dialog: who calls, and what the trunk's header rules make of it.
    pub headers: Vec<HeaderView>,
    /// What its failures mean, as `503` and `next`; all others are final.
    pub failover: Vec<FailoverView>,
}

/// One header field, in its place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeaderView {
    pub name: String,
    pub value: String,
}

/// One entry of a trunk's table of failures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FailoverView {
    /// A SIP code, a code with a Q.850 cause, or `no-reply`, `transport`, `credentials`.
    pub failure: String,
    /// `next`, `final`, or `block:30`.
    pub action: String,
}

/// The sell rate of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateView {
    pub prefix: String,
    /// As `0.0125 EUR`.
    pub per_minute: String,
}

/// What a reload did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ReloadReport {
    /// False: the old state stays as a whole, and `errors` says why.
    pub accepted: bool,
    /// What changed, in words.
    pub changed: Vec<String>,
    /// Settings that differ in the file but are taken only by a restart.
    pub needs_restart: Vec<String>,
    pub warnings: Vec<String>,
    /// File, line and what to write instead.
    pub errors: Vec<String>,
}

/// Where a drain stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainView {
    pub draining: bool,
    pub active_calls: u32,
    /// When the calls still running are ended; absent unless the process is stopping.
    #[serde(with = "rfc3339::option", default)]
    pub deadline: Option<UnixMillis>,
}

/// How one part of the gateway is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckState {
    Ok,
    /// Calls go on, but not for ever: the database is down, a trunk is down.
    Degraded,
    /// No new call can be taken.
    Failed,
}

impl CheckState {
    pub fn as_str(self) -> &'static str {
        match self {
            CheckState::Ok => "ok",
            CheckState::Degraded => "degraded",
            CheckState::Failed => "failed",
        }
    }
}

/// One part of the gateway and how it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadinessCheck {
    /// `signalling`, `journal`, `database`, `media_ports`, `trunks`, `drain` …
    pub name: String,
    pub state: CheckState,
    /// What is wrong, in words; empty when nothing is.
    pub detail: String,
}

impl ReadinessCheck {
    pub fn new(name: &str, state: CheckState, detail: impl Into<String>) -> ReadinessCheck {
        ReadinessCheck { name: name.to_owned(), state, detail: detail.into() }
    }
}

/// Whether the gateway can take calls. It is as well as the worst of its parts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Readiness {
    pub checks: Vec<ReadinessCheck>,
}

impl Readiness {
    pub fn state(&self) -> CheckState {
        self.checks.iter().map(|check| check.state).max().unwrap_or(CheckState::Ok)
    }
}
