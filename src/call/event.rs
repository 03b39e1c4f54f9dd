//! What goes into the exchange and what comes out of it: the whole seam between the machines and their shell.

use crate::access::StoredBinding;
use crate::billing::JournalRecord;
use crate::media::{LegConfig, Line, Tone};
use crate::routing::AdminState;
use crate::sip::message::{Message, Method};
use crate::types::{
    Attestation, AudioFault, CallId, ConnectionId, Direction, Emergency, EndCause, LegId, LegKind, LegReport,
    NetworkId, Outcome, Peer, StirResult, Transport,
};
use bytes::Bytes;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// No media port is free on the leg's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortsExhausted;

/// Where the shell opened a leg's media: local ports, on the address the signalling peer sees us at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediaPorts {
    pub rtp: u16,
    pub rtcp: u16,
    /// Which thread has them: two legs of one can be joined.
    pub worker: usize,
}

/// Which record of a call became durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordStep {
    Answer,
    End,
}

/// What happened outside.
#[derive(Debug)]
pub enum Input {
    Sip {
        peer: Peer,
        message: Message,
        /// Names its verified client certificate carries.
        tls_names: Arc<[String]>,
    },
    /// A message that was to be sent could not be.
    TransportFailed {
        ticket: u64,
    },
    /// A datagram to `remote` came back as undeliverable; `quoted` is how it began.
    Undelivered {
        remote: SocketAddr,
        quoted: Bytes,
    },
    ConnectionClosed {
        connection: ConnectionId,
    },
    /// The answer to [`Output::Reserve`]: is there journal space for all records of the call?
    Reserved {
        call: CallId,
        reserved: bool,
    },
    /// The answer to [`Output::OpenMedia`].
    MediaOpened {
        leg: LegId,
        result: Result<MediaPorts, PortsExhausted>,
    },
    MediaClosed {
        leg: LegId,
        report: LegReport,
    },
    MediaReport {
        leg: LegId,
        report: LegReport,
    },
    MediaTimedOut {
        leg: LegId,
    },
    /// A leg of the conversation is not heard, or holds nothing, while the other is heard.
    MediaFault {
        leg: LegId,
        fault: AudioFault,
    },
    /// The answer to [`Output::Record`] with `wait`.
    Recorded {
        call: CallId,
        step: RecordStep,
        durable: bool,
    },
    /// The answer to [`Output::FetchCertificate`]: a chain in PEM and how long it may be kept, or why there is none.
    CertificateFetched {
        url: String,
        fetched: Result<(Vec<u8>, Option<Duration>), StirResult>,
    },
    /// Addresses of a trunk's proxies, in the order of its list.
    TrunkResolved {
        trunk: Arc<str>,
        targets: Vec<Target>,
    },
}

/// One address of one proxy of a trunk.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// As configured: the host of Request-URIs.
    pub host: crate::types::HostPort,
    pub peer: Peer,
    pub rank: Rank,
    /// The share of calls among targets of one rank (RFC 2782).
    pub weight: u16,
}

/// The place of a target among those of its trunk: the lowest is tried first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// Place of its proxy in the trunk's list.
    pub proxy: u16,
    /// Priority of its SRV record.
    pub priority: u16,
    /// The how-manieth address of its host.
    pub address: u16,
}

/// What the shell must do. The result of doing it returns as an [`Input`].
#[allow(clippy::large_enum_variant, reason = "moved once each; the large ones are the usual ones")]
#[derive(Debug)]
pub enum Output {
    Transmit {
        peer: Peer,
        bytes: Bytes,
        ticket: u64,
    },
    /// Reserves journal space for all records of a call.
    Reserve {
        call: CallId,
    },
    /// Opens media ports for a leg, of the family of `address`; the first leg of a call goes to the worker of `beside`
    /// where that has one.
    OpenMedia {
        leg: LegId,
        kind: LegKind,
        network: NetworkId,
        address: IpAddr,
        beside: Option<CallId>,
    },
    ConfigureMedia {
        leg: LegId,
        config: Box<LegConfig>,
    },
    Bridge {
        caller: LegId,
        callee: LegId,
    },
    /// A test line answers on a leg.
    Serve {
        leg: LegId,
        line: Line,
    },
    /// A tone for a leg that would hear nothing: until [`Output::StopTone`], or where it is `unless` another leg is
    /// heard, until that is.
    PlayTone {
        leg: LegId,
        tone: Tone,
        unless: Option<LegId>,
    },
    StopTone {
        leg: LegId,
    },
    /// Brings a leg to the thread of another one, so that the two can be joined.
    MoveMedia {
        leg: LegId,
        beside: LegId,
    },
    SetMediaTimeout {
        leg: LegId,
        after: Option<Duration>,
    },
    /// Both sides are to be heard, or no more.
    SetConversation {
        leg: LegId,
        on: bool,
    },
    ReportMedia {
        leg: LegId,
    },
    CloseMedia {
        leg: LegId,
    },
    /// Writes a record to the journal; with `wait` the durable write comes back as [`Input::Recorded`].
    Record {
        call: CallId,
        record: JournalRecord,
        wait: Option<RecordStep>,
    },
    /// Fetches the certificate of somebody who signed a call.
    FetchCertificate {
        url: String,
    },
    /// The call is over: its reservations can go.
    Forget {
        call: CallId,
    },
    /// A device of a user is registered, or longer.
    BindingStored(Box<StoredBinding>),
    BindingRemoved {
        user: Arc<str>,
        contact: String,
    },
    /// A source keeps sending more than it may: nothing that comes from it need be looked at for a while.
    Mute {
        source: IpAddr,
    },
    Event(Event),
}

/// Why a request was refused that opened nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedFor {
    /// No such dialog or transaction.
    UnknownDialog,
    /// Not from the far end its dialog belongs to.
    Stranger,
    /// A user that acts on another's behalf.
    OtherUser,
    /// A method or extension that is not served.
    Unsupported,
    /// The request came back, or has no hops left.
    Loop,
    /// A header that can't be read.
    Malformed,
    /// A source over its rate.
    Overload,
}

/// What the outside may want to know; counting and logging are the shell's.
#[allow(clippy::large_enum_variant, reason = "moved once each; the large ones are the usual ones")]
#[derive(Debug, Clone)]
pub enum Event {
    Request {
        method: Method,
        transport: Transport,
        received: bool,
    },
    Response {
        status: u16,
        method: Method,
    },
    Retransmission,
    /// A request of a source over its rate was dropped without an answer.
    Dropped,
    /// A call has its ports and journal space.
    CallStarted {
        call: CallId,
        direction: Direction,
    },
    /// An attempt counted for a trunk began (`None`: no trunk is involved).
    AttemptStarted {
        trunk: Option<Arc<str>>,
        direction: Direction,
    },
    AttemptEnded {
        trunk: Option<Arc<str>>,
        direction: Direction,
        outcome: Outcome,
        /// The trunk failed and another one has the call now.
        failed_over: bool,
    },
    /// First 180, 183 or 2xx of one trunk attempt.
    TrunkProgress {
        trunk: Arc<str>,
        after: Duration,
    },
    CallAnswered {
        call: CallId,
        trunk: Option<Arc<str>>,
        direction: Direction,
    },
    /// A leg has its Call-ID: what passes under it from now on is this call's.
    LegKnown {
        leg: LegId,
        party: Arc<str>,
        call_id: String,
    },
    CallEnded {
        call: CallId,
        trunk: Option<Arc<str>>,
        direction: Direction,
        cause: EndCause,
        emergency: Option<Emergency>,
        duration_ms: Option<u64>,
        /// The trunk at the far end of the caller's leg.
        ingress: Option<Arc<str>>,
        /// What was measured of the caller's and the callee's leg; absent where nothing was agreed.
        caller: Option<(LegKind, LegReport)>,
        callee: Option<(LegKind, LegReport)>,
        /// Index of the leg of `callee`.
        callee_leg: Option<u8>,
    },
    /// One side of an answered call is not heard, or holds nothing; each kind once a call, but that nothing comes is told
    /// after one side said that it hears nothing too.
    AudioFault {
        call: CallId,
        trunk: Option<Arc<str>>,
        /// The side that is not heard.
        leg: LegKind,
        /// The trunk at its far end, which need not be the one that counts the call.
        of: Option<Arc<str>>,
        fault: AudioFault,
        /// The call was told of as one-way before: it is found to be worse, and is still one call.
        counted: bool,
    },
    /// What came of checking the signed identity of a trunk's call.
    StirVerified {
        call: CallId,
        trunk: Arc<str>,
        result: StirResult,
    },
    /// We signed who calls, towards a trunk.
    StirSigned {
        trunk: Arc<str>,
        attestation: Attestation,
    },
    /// A call that had to be signed goes unsigned: our certificate has ended.
    StirUnsigned {
        call: CallId,
        trunk: Arc<str>,
    },
    TrunkHealth {
        trunk: Arc<str>,
        up: bool,
    },
    /// The gateway's operator blocked, drained or opened a trunk.
    TrunkAdmin {
        trunk: Arc<str>,
        admin: AdminState,
    },
    /// A trunk gets no calls, or gets calls again.
    TrunkBlocked {
        trunk: Arc<str>,
        blocked: bool,
    },
    /// A draining trunk carries no call any more.
    TrunkDrained {
        trunk: Arc<str>,
    },
    TrunkOptions {
        trunk: Arc<str>,
        round_trip: Duration,
    },
    TrunkRegistered {
        trunk: Arc<str>,
        registered: bool,
        why: String,
    },
    Registrations {
        active: usize,
    },
    /// A request refused before its source was proven; no CDR.
    Refused {
        method: Method,
        status: u16,
        why: RefusedFor,
    },
    /// A call was refused because media has no room for it.
    RefusedForMedia,
    /// A user was asked for credentials, or gave wrong ones (`failed`).
    Challenged {
        method: Method,
        failed: bool,
    },
}
