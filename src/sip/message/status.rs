//! Status codes and their reason phrases: rsip's vocabulary, spelled as the RFCs spell it.

use std::fmt;

/// A three-digit response code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Status(pub u16);

impl Status {
    /// 1xx.
    pub fn is_provisional(self) -> bool {
        self.0 < 200
    }
    /// 2xx.
    pub fn is_success(self) -> bool {
        (200..300).contains(&self.0)
    }
    /// 2xx to 6xx.
    pub fn is_final(self) -> bool {
        self.0 >= 200
    }

    /// The phrase of the RFC that defines the code; for an unknown code that of its class (RFC 3261 §8.1.3.2).
    pub fn phrase(self) -> &'static str {
        use rsip::StatusCode as Code;
        match Code::from(self.0) {
            Code::Trying => "Trying",
            Code::Ringing => "Ringing",
            Code::CallIsBeingForwarded => "Call Is Being Forwarded",
            Code::Queued => "Queued",
            Code::SessionProgress => "Session Progress",
            Code::EarlyDialogTerminated => "Early Dialog Terminated",
            Code::OK => "OK",
            Code::Accepted => "Accepted",
            Code::NoNotification => "No Notification",
            Code::MultipleChoices => "Multiple Choices",
            Code::MovedPermanently => "Moved Permanently",
            Code::MovedTemporarily => "Moved Temporarily",
            Code::UseProxy => "Use Proxy",
            Code::AlternativeService => "Alternative Service",
            Code::BadRequest => "Bad Request",
            Code::Unauthorized => "Unauthorized",
            Code::PaymentRequired => "Payment Required",
            Code::Forbidden => "Forbidden",
            Code::NotFound => "Not Found",
            Code::MethodNotAllowed => "Method Not Allowed",
            Code::NotAcceptable => "Not Acceptable",
            Code::ProxyAuthenticationRequired => "Proxy Authentication Required",
            Code::RequestTimeout => "Request Timeout",
            Code::Conflict => "Conflict",
            Code::Gone => "Gone",
            Code::LengthRequired => "Length Required",
            Code::ConditionalRequestFailed => "Conditional Request Failed",
            Code::RequestEntityTooLarge => "Request Entity Too Large",
            Code::RequestUriTooLong => "Request-URI Too Long",
            Code::UnsupportedMediaType => "Unsupported Media Type",
            Code::UnsupportedUriScheme => "Unsupported URI Scheme",
            Code::UnknownResourcePriority => "Unknown Resource-Priority",
            Code::BadExtension => "Bad Extension",
            Code::ExtensionRequired => "Extension Required",
            Code::SessionIntervalTooSmall => "Session Interval Too Small",
            Code::IntervalTooBrief => "Interval Too Brief",
            Code::BadLocationInformation => "Bad Location Information",
            Code::UseIdentityHeader => "Use Identity Header",
            Code::ProvideReferrerIdentity => "Provide Referrer Identity",
            Code::AnonymityDisallowed => "Anonymity Disallowed",
            Code::BadIdentityInfo => "Bad Identity Info",
            Code::UnsupportedCertificate => "Unsupported Credential",
            Code::InvalidIdentityHeader => "Invalid Identity Header",
            Code::FirstHopLacksOutboundSupport => "First Hop Lacks Outbound Support",
            Code::MaxBreadthExceeded => "Max-Breadth Exceeded",
            Code::BadInfoPackage => "Bad Info Package",
            Code::ConsentNeeded => "Consent Needed",
            Code::TemporarilyUnavailable => "Temporarily Unavailable",
            Code::CallTransactionDoesNotExist => "Call/Transaction Does Not Exist",
            Code::LoopDetected => "Loop Detected",
            Code::TooManyHops => "Too Many Hops",
            Code::AddressIncomplete => "Address Incomplete",
            Code::Ambiguous => "Ambiguous",
            Code::BusyHere => "Busy Here",
            Code::RequestTerminated => "Request Terminated",
            Code::NotAcceptableHere => "Not Acceptable Here",
            Code::BadEvent => "Bad Event",
            Code::RequestPending => "Request Pending",
            Code::Undecipherable => "Undecipherable",
            Code::SecurityAgreementRequired => "Security Agreement Required",
            Code::ServerInternalError => "Server Internal Error",
            Code::NotImplemented => "Not Implemented",
            Code::BadGateway => "Bad Gateway",
            Code::ServiceUnavailable => "Service Unavailable",
            Code::ServerTimeOut => "Server Time-out",
            Code::VersionNotSupported => "Version Not Supported",
            Code::MessageTooLarge => "Message Too Large",
            Code::PreconditionFailure => "Precondition Failure",
            Code::BusyEverywhere => "Busy Everywhere",
            Code::Decline => "Decline",
            Code::DoesNotExistAnywhere => "Does Not Exist Anywhere",
            Code::NotAcceptableGlobal => "Not Acceptable",
            Code::Unwanted => "Unwanted",
            Code::Other(code, _) => phrase_beyond_vocabulary(code),
        }
    }
}

/// Codes newer than rsip's list, then the class.
fn phrase_beyond_vocabulary(code: u16) -> &'static str {
    match code {
        202 => "Accepted",
        425 => "Bad Alert Message",
        555 => "Push Notification Service Not Supported",
        608 => "Rejected",
        100..=199 => "Session Progress",
        200..=299 => "OK",
        300..=399 => "Redirection",
        400..=499 => "Request Failure",
        500..=599 => "Server Failure",
        _ => "Global Failure",
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.phrase())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phrases_are_those_of_the_rfcs() {
        assert_eq!(Status(200).to_string(), "200 OK");
        assert_eq!(Status(481).to_string(), "481 Call/Transaction Does Not Exist");
        assert_eq!(Status(505).phrase(), "Version Not Supported");
        assert_eq!(Status(608).phrase(), "Rejected");
    }

    #[test]
    fn unknown_codes_take_their_class() {
        assert_eq!(Status(299).phrase(), "OK");
        assert_eq!(Status(499).phrase(), "Request Failure");
        assert!(Status(199).is_provisional() && !Status(199).is_final());
        assert!(Status(299).is_success() && Status(699).is_final());
    }
}
