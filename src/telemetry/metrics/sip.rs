//! What is counted of SIP messages.

use super::{counter, counters, gauge};
use crate::types::Transport;
use prometheus::{IntCounter, IntGauge, Registry};

/// The closed set of `method` labels; what is not listed counts as `other`, so that a scanner can't make series.
const METHODS: [&str; 14] = [
    "INVITE",
    "ACK",
    "BYE",
    "CANCEL",
    "REGISTER",
    "OPTIONS",
    "INFO",
    "MESSAGE",
    "NOTIFY",
    "PRACK",
    "PUBLISH",
    "REFER",
    "SUBSCRIBE",
    "UPDATE",
];
const METHOD_LABELS: usize = METHODS.len() + 1;
const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "6xx"];

/// Which way a message or packet went, seen from the gateway; the value of the `flow` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flow {
    Received,
    Sent,
}

impl Flow {
    pub const ALL: [Flow; 2] = [Flow::Received, Flow::Sent];

    pub fn as_str(self) -> &'static str {
        match self {
            Flow::Received => "received",
            Flow::Sent => "sent",
        }
    }
}

/// Why a message was turned away before it became a call attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refused {
    /// Not SIP, or SIP that breaks its grammar.
    Malformed,
    /// Over a stated limit of size, header count or line length.
    TooLarge,
    /// Wrong, replayed or malformed credentials; a first request without any is not a refusal.
    Unauthenticated,
    /// From an address that is no trunk's and no user's.
    UnknownSource,
    /// A dialog or transaction nobody here knows.
    UnknownDialog,
    /// A method, extension or URI scheme that isn't served.
    Unsupported,
    /// Merged or looping.
    Loop,
    /// Too much at once: a full queue or a source over its rate.
    Overload,
}

impl Refused {
    pub const ALL: [Refused; 8] = [
        Refused::Malformed,
        Refused::TooLarge,
        Refused::Unauthenticated,
        Refused::UnknownSource,
        Refused::UnknownDialog,
        Refused::Unsupported,
        Refused::Loop,
        Refused::Overload,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Refused::Malformed => "malformed",
            Refused::TooLarge => "too_large",
            Refused::Unauthenticated => "unauthenticated",
            Refused::UnknownSource => "unknown_source",
            Refused::UnknownDialog => "unknown_dialog",
            Refused::Unsupported => "unsupported",
            Refused::Loop => "loop",
            Refused::Overload => "overload",
        }
    }
}

/// Handles for SIP messages.
pub struct SipMetrics {
    requests: Vec<[[IntCounter; 2]; 5]>,
    responses: [Vec<IntCounter>; 6],
    retransmissions: IntCounter,
    trace_dropped: IntCounter,
    refused: [IntCounter; 8],
    registrations: IntGauge,
}

impl SipMetrics {
    pub(super) fn new(registry: &Registry) -> SipMetrics {
        let requests = counters(
            registry,
            "tandem_sip_requests_total",
            "SIP requests, retransmissions excluded.",
            &["method", "transport", "flow"],
        );
        let responses = counters(
            registry,
            "tandem_sip_responses_total",
            "SIP responses sent and received, retransmissions excluded but for a 2xx to INVITE that comes again.",
            &["class", "method"],
        );
        let refused = counters(
            registry,
            "tandem_sip_refused_total",
            "Messages turned away before they became a call attempt.",
            &["reason"],
        );
        SipMetrics {
            requests: method_labels()
                .map(|method| {
                    Transport::ALL.map(|transport| {
                        Flow::ALL.map(|flow| {
                            requests.with_label_values(&[method, transport.as_str(), flow.as_str()])
                        })
                    })
                })
                .collect(),
            responses: CLASSES.map(|class| {
                method_labels().map(|method| responses.with_label_values(&[class, method])).collect()
            }),
            retransmissions: counter(
                registry,
                "tandem_sip_retransmissions_total",
                "SIP messages sent again because no answer came in time.",
            ),
            trace_dropped: counter(
                registry,
                "tandem_trace_dropped_total",
                "Copies of SIP messages that could not be sent to the capture server.",
            ),
            refused: Refused::ALL.map(|reason| refused.with_label_values(&[reason.as_str()])),
            registrations: gauge(
                registry,
                "tandem_registrations_active",
                "Contacts of app users now registered.",
            ),
        }
    }

    /// A request that is not a retransmission. `method` as it stands in the start line.
    pub fn request(&self, method: &str, transport: Transport, flow: Flow) {
        self.requests[method_index(method)][transport as usize][flow as usize].inc();
    }

    /// A response that is not a retransmission, sent or received, to a request of `method`.
    pub fn response(&self, status: u16, method: &str) {
        let class = usize::from(status / 100).clamp(1, 6) - 1;
        self.responses[class][method_index(method)].inc();
    }

    pub fn retransmission(&self) {
        self.retransmissions.inc();
    }

    pub fn trace_dropped(&self) {
        self.trace_dropped.inc();
    }

    pub fn refused(&self, reason: Refused) {
        self.refused[reason as usize].inc();
    }

    /// The same for many at once.
    pub fn refused_many(&self, reason: Refused, count: u64) {
        self.refused[reason as usize].inc_by(count);
    }

    /// Contacts now registered.
    pub fn set_registrations(&self, contacts: usize) {
        self.registrations.set(contacts as i64);
    }
}

fn method_labels() -> impl Iterator<Item = &'static str> {
    METHODS.into_iter().chain(["other"])
}

/// Method names are case-sensitive (RFC 3261 §7.1).
fn method_index(method: &str) -> usize {
    METHODS.iter().position(|known| *known == method).unwrap_or(METHOD_LABELS - 1)
}
