//! The one closed set of reasons a call ends, feeding SIP code, Reason header, CDR and metric alike.

use serde::{Deserialize, Serialize};

/// The `outcome` label of `tandem_calls_ended_total`: twelve values, never more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Answered,
    Busy,
    NoAnswer,
    Declined,
    Cancelled,
    NotFound,
    Blocked,
    NoRoute,
    Congestion,
    TrunkFailure,
    MediaFailure,
    ServerError,
}

impl Outcome {
    pub const ALL: [Outcome; 12] = [
        Outcome::Answered,
        Outcome::Busy,
        Outcome::NoAnswer,
        Outcome::Declined,
        Outcome::Cancelled,
        Outcome::NotFound,
        Outcome::Blocked,
        Outcome::NoRoute,
        Outcome::Congestion,
        Outcome::TrunkFailure,
        Outcome::MediaFailure,
        Outcome::ServerError,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Answered => "answered",
            Outcome::Busy => "busy",
            Outcome::NoAnswer => "no_answer",
            Outcome::Declined => "declined",
            Outcome::Cancelled => "cancelled",
            Outcome::NotFound => "not_found",
            Outcome::Blocked => "blocked",
            Outcome::NoRoute => "no_route",
            Outcome::Congestion => "congestion",
            Outcome::TrunkFailure => "trunk_failure",
            Outcome::MediaFailure => "media_failure",
            Outcome::ServerError => "server_error",
        }
    }
}

macro_rules! end_causes {
    ($($(#[$doc:meta])* $name:ident => $text:literal, $sip:literal $phrase:literal, $q850:literal $meaning:literal, $outcome:ident;)*) => {
        /// Why a call attempt ended.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum EndCause { $($(#[$doc])* $name,)* }

        impl EndCause {
            pub const ALL: &'static [EndCause] = &[$(EndCause::$name,)*];
            /// The name stored in the CDR.
            pub fn as_str(self) -> &'static str { match self { $(EndCause::$name => $text,)* } }
            /// The final SIP status the caller gets when the call was never answered.
            pub fn sip_code(self) -> u16 { match self { $(EndCause::$name => $sip,)* } }
            /// The reason phrase that goes with [`sip_code`](Self::sip_code).
            pub fn phrase(self) -> &'static str { match self { $(EndCause::$name => $phrase,)* } }
            /// The ITU-T Q.850 cause value (mapping of RFC 3398 §8.2.6 where it has one).
            pub fn q850(self) -> u8 { match self { $(EndCause::$name => $q850,)* } }
            /// Text of the Reason header.
            pub fn meaning(self) -> &'static str { match self { $(EndCause::$name => $meaning,)* } }
            pub fn outcome(self) -> Outcome { match self { $(EndCause::$name => Outcome::$outcome,)* } }
        }
    };
}

end_causes! {
    /// An answered call that one of its parties hung up.
    NormalClearing => "normal_clearing", 200 "OK", 16 "Normal call clearing", Answered;
    /// An answered call that reached its longest allowed duration.
    MaxDuration => "max_duration", 200 "OK", 16 "Maximum call duration reached", Answered;
    /// An answered call ended by an operator through the admin API.
    AdminHangup => "admin_hangup", 480 "Temporarily Unavailable", 16 "Call ended by the operator", Answered;
    /// An answered call ended because the gateway stopped at its drain deadline.
    Drained => "drained", 503 "Service Unavailable", 41 "Gateway is stopping", Answered;
    /// No media for `media.timeout_seconds` on a leg that should have some.
    MediaTimeout => "media_timeout", 408 "Request Timeout", 31 "Media time-out", MediaFailure;
    /// The answer's ACK never came (RFC 3261 §13.3.1.4).
    NoAck => "no_ack", 408 "Request Timeout", 102 "Answer was never acknowledged", ServerError;
    /// A provisional response that had to arrive was never acknowledged (RFC 3262 §3).
    NoPrack => "no_prack", 504 "Server Time-out", 102 "Progress was never acknowledged", ServerError;
    /// Nobody refreshed the session in its time (RFC 4028 §10).
    SessionExpired => "session_expired", 408 "Request Timeout", 102 "Session timer expired", TrunkFailure;
    /// The dialog was gone at the far end (481 or no answer to a request inside it).
    DialogLost => "dialog_lost", 481 "Call/Transaction Does Not Exist", 41 "Dialog lost at the far end", TrunkFailure;
    CallerCancelled => "caller_cancelled", 487 "Request Terminated", 16 "Caller gave up", Cancelled;
    Busy => "busy", 486 "Busy Here", 17 "User busy", Busy;
    /// It rang and nobody answered.
    NoAnswer => "no_answer", 480 "Temporarily Unavailable", 19 "No answer from user", NoAnswer;
    Declined => "declined", 603 "Decline", 21 "Call rejected", Declined;
    /// The called user has no device registered or is out of reach.
    Unavailable => "unavailable", 480 "Temporarily Unavailable", 20 "Subscriber absent", NoAnswer;
    /// The number or user does not exist at the far end.
    NumberNotFound => "number_not_found", 404 "Not Found", 1 "Unallocated number", NotFound;
    /// The number is in our own range and nobody has it: we are the authority on that (RFC 3261 §21.6.3).
    UnknownNumber => "unknown_number", 604 "Does Not Exist Anywhere", 1 "Unallocated number", NotFound;
    NumberChanged => "number_changed", 410 "Gone", 22 "Number changed", NotFound;
    /// What was dialled is not a number in any form of the dialplan.
    InvalidNumber => "invalid_number", 484 "Address Incomplete", 28 "Invalid number format", NotFound;
    /// A dialplan rule refuses the number.
    Blocked => "blocked", 403 "Forbidden", 21 "Blocked by the dialplan", Blocked;
    /// The far end refuses the call for what it is or for who we are.
    Forbidden => "forbidden", 403 "Forbidden", 21 "Refused by the far end", Blocked;
    /// No dialplan rule leads anywhere.
    NoRoute => "no_route", 404 "Not Found", 3 "No route to destination", NoRoute;
    /// All trunks of the route are down, blocked or draining.
    TrunkUnavailable => "trunk_unavailable", 503 "Service Unavailable", 27 "Destination out of order", TrunkFailure;
    /// All trunks of the route are at their channel or CPS limit.
    TrunkCongested => "trunk_congested", 503 "Service Unavailable", 34 "No circuit available", Congestion;
    /// The far end said it has no capacity.
    FarEndCongested => "far_end_congested", 503 "Service Unavailable", 42 "Switching equipment congestion", Congestion;
    /// The user has as many calls as it may.
    UserLimit => "user_limit", 403 "Forbidden", 50 "User has too many calls", Blocked;
    /// The trunk answered nothing.
    TrunkTimeout => "trunk_timeout", 504 "Server Time-out", 102 "Recovery on timer expiry", TrunkFailure;
    /// The trunk's transport failed.
    TransportFailed => "transport_failed", 502 "Bad Gateway", 38 "Network out of order", TrunkFailure;
    /// The trunk answered with a server error or something that is not an answer.
    FarEndFailure => "far_end_failure", 502 "Bad Gateway", 41 "Temporary failure", TrunkFailure;
    /// The trunk keeps asking for credentials that we gave.
    TrunkAuthFailed => "trunk_auth_failed", 502 "Bad Gateway", 38 "Trunk refused our credentials", TrunkFailure;
    /// A trunk sent the call on to another place.
    Redirected => "redirected", 480 "Temporarily Unavailable", 23 "Redirection to new destination", TrunkFailure;
    NotAcceptable => "not_acceptable", 488 "Not Acceptable Here", 88 "Incompatible destination", MediaFailure;
    TooManyHops => "too_many_hops", 483 "Too Many Hops", 25 "Exchange routing error", NoRoute;
    /// A call attempt that lacks what it must have (RFC 3261 §8.1.1).
    Malformed => "malformed", 400 "Bad Request", 41 "Malformed call attempt", Blocked;
    /// The caller insists on an extension that nobody here knows.
    UnknownExtension => "unknown_extension", 420 "Bad Extension", 127 "Unknown extension", Blocked;
    /// The caller lacks an extension that its trunk's configuration requires.
    ExtensionRequired => "extension_required", 421 "Extension Required", 127 "Extension required", Blocked;
    /// The caller asks for a session interval that is too small (RFC 4028 §6).
    SessionTooShort => "session_too_short", 422 "Session Interval Too Small", 127 "Session interval too small", Blocked;
    /// The trunk's calls have to be signed, and this one is not (RFC 8224 §6.2.2).
    IdentityMissing => "identity_missing", 428 "Use Identity Header", 21 "Signed identity required", Blocked;
    /// The certificate of the signed identity can't be had.
    IdentityUnreachable => "identity_unreachable", 436 "Bad Identity Info", 21 "Certificate can not be had", Blocked;
    /// The certificate of the signed identity is not believed.
    IdentityUntrusted => "identity_untrusted", 437 "Unsupported Credential", 21 "Certificate is not believed", Blocked;
    /// The signed identity is not that of this call.
    IdentityInvalid => "identity_invalid", 438 "Invalid Identity Header", 21 "Signed identity is invalid", Blocked;
    /// The identity was signed too long ago.
    IdentityStale => "identity_stale", 403 "Stale Date", 21 "Signed identity is stale", Blocked;
    LoopDetected => "loop_detected", 482 "Loop Detected", 25 "Exchange routing error", NoRoute;
    /// The gateway itself has no room: media ports, journal space, calls.
    GatewayCongested => "gateway_congested", 503 "Service Unavailable", 42 "Gateway congestion", Congestion;
    Draining => "draining", 503 "Service Unavailable", 42 "Gateway is draining", Congestion;
    /// Billing records cannot be kept, so no new call is taken and none goes on.
    JournalFailed => "journal_failed", 500 "Server Internal Error", 41 "Records cannot be kept", ServerError;
    ServerError => "server_error", 500 "Server Internal Error", 41 "Temporary failure", ServerError;
    /// Found open in the journal after a crash and closed at its last media.
    GatewayCrashed => "gateway_crashed", 500 "Server Internal Error", 41 "Gateway restarted", ServerError;
}

impl EndCause {
    /// What a final failure response of the far end means, by its status alone (RFC 3398 §8.2.6.1, RFC 3261 §21).
    pub fn from_sip(code: u16) -> EndCause {
        match code {
            404 | 604 | 485 => EndCause::NumberNotFound,
            410 => EndCause::NumberChanged,
            484 => EndCause::InvalidNumber,
            486 | 600 => EndCause::Busy,
            603 | 607 => EndCause::Declined,
            480 => EndCause::Unavailable,
            487 => EndCause::CallerCancelled,
            401 | 407 => EndCause::TrunkAuthFailed,
            403 | 402 | 428 | 433 | 436 | 437 | 438 | 608 => EndCause::Forbidden,
            408 | 504 => EndCause::TrunkTimeout,
            415 | 488 | 606 => EndCause::NotAcceptable,
            482 => EndCause::LoopDetected,
            483 => EndCause::TooManyHops,
            503 => EndCause::FarEndCongested,
            _ => EndCause::FarEndFailure,
        }
    }

    /// What a Q.850 cause of the far end means (RFC 3398 §7.2.4.1 by way of our own causes).
    pub fn from_q850(cause: u8) -> EndCause {
        match cause {
            1 | 26 => EndCause::NumberNotFound,
            2 | 3 => EndCause::NoRoute,
            16 => EndCause::NormalClearing,
            17 => EndCause::Busy,
            18 | 19 => EndCause::NoAnswer,
            20 | 31 => EndCause::Unavailable,
            21 => EndCause::Declined,
            22 | 23 => EndCause::NumberChanged,
            25 => EndCause::TooManyHops,
            27 | 38 | 41 => EndCause::FarEndFailure,
            28 => EndCause::InvalidNumber,
            29 => EndCause::Forbidden,
            65 | 70 | 79 | 88 => EndCause::NotAcceptable,
            102 => EndCause::TrunkTimeout,
            0..=31 => EndCause::Unavailable,
            32..=47 | 58 => EndCause::FarEndCongested,
            48..=63 | 87 => EndCause::Forbidden,
            64..=79 => EndCause::NotAcceptable,
            80.. => EndCause::FarEndFailure,
        }
    }

    /// What a final failure means, by its status and the Q.850 cause of its Reason (RFC 3326 §2). A status that says
    /// little is made more exact by the cause; one that says what a person or a number decided stands for itself.
    pub fn from_failure(status: u16, q850: Option<u8>) -> EndCause {
        let vague = matches!(status, 400 | 480 | 500..=504 | 580);
        match q850 {
            Some(cause) if vague && !matches!(cause, 16 | 31 | 127) => EndCause::from_q850(cause),
            Some(_) | None => EndCause::from_sip(status),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_route_blocked_and_unknown_numbers_get_distinct_codes() {
        let codes = [EndCause::NoRoute, EndCause::Blocked, EndCause::UnknownNumber].map(EndCause::sip_code);
        assert_eq!(codes, [404, 403, 604]);
    }

    #[test]
    fn a_vague_status_is_made_exact_by_its_cause_and_a_decision_stands() {
        for (status, q850, cause) in [
            (480, None, EndCause::Unavailable),
            (480, Some(19), EndCause::NoAnswer),
            (480, Some(31), EndCause::Unavailable),
            (500, Some(17), EndCause::Busy),
            (503, Some(34), EndCause::FarEndCongested),
            (503, Some(1), EndCause::NumberNotFound),
            (486, Some(41), EndCause::Busy),
            (404, Some(41), EndCause::NumberNotFound),
        ] {
            assert_eq!(EndCause::from_failure(status, q850), cause, "{status} {q850:?}");
        }
    }

    #[test]
    fn our_own_causes_are_of_the_same_kind_as_rfc_3398_makes_of_their_number() {
        for cause in 1..128 {
            let Some(status) = super::super::q850::to_sip(cause) else { continue };
            let kind = |cause: EndCause| match cause.outcome() {
                // A network that has no room and one that failed are one class to the RFC.
                Outcome::Congestion | Outcome::TrunkFailure | Outcome::ServerError => Outcome::TrunkFailure,
                // It knows no difference between who is away and who does not answer.
                outcome => outcome,
            };
            let (ours, theirs) = (kind(EndCause::from_q850(cause)), kind(EndCause::from_sip(status)));
            // 3398 has no word of its own for these: no route is "not found", a call rejected "forbidden", a timer
            // "no answer", a bearer that does not fit "unavailable".
            let apart = matches!(cause, 2 | 3 | 18 | 21 | 25 | 29 | 64..=79 | 88);
            assert!(ours == theirs || apart, "{cause}: {ours:?} and {theirs:?}");
        }
    }

    #[test]
    fn names_are_distinct() {
        let mut names: Vec<_> = EndCause::ALL.iter().map(|cause| cause.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), EndCause::ALL.len());
    }
}
