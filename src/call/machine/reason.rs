//! What a far end said about the end of a call, and what the other side is told of it (RFC 3326, RFC 3398).

use crate::call::leg;
use crate::sip::message::{HeaderName, Reason, Response, Typed};
use crate::types::{EndCause, q850};

/// The longest time that is passed on; nobody means more by it.
const LONGEST_WAIT: u32 = 3_600;

/// A far end's own words: codes only, since its texts may tell more about its network than the other side should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FarReason {
    pub q850: Option<u8>,
    /// The SIP status it names, as 200 for "answered elsewhere".
    pub sip: Option<u16>,
    /// How long it asks to be left alone, in seconds.
    pub retry_after: Option<u32>,
    /// Why no session came about (RFC 3261 §20.43).
    pub warning: Option<u16>,
}

impl FarReason {
    /// Of a BYE or CANCEL.
    pub fn of(message: &impl Typed) -> FarReason {
        let reasons = message.reasons();
        let cause = |wanted: fn(&Reason) -> bool| reasons.iter().find(|r| wanted(r)).and_then(|r| r.cause);
        let q850 = cause(Reason::is_q850).and_then(|cause| u8::try_from(cause).ok()).filter(|c| *c < 128);
        let sip = cause(|reason| reason.protocol.eq_ignore_ascii_case("SIP"));
        let warning = message.headers().get(&HeaderName::Warning).and_then(warn_code);
        let retry_after = message.retry_after().map(|seconds| seconds.min(LONGEST_WAIT));
        FarReason { q850, sip: sip.filter(|status| (200..700).contains(status)), retry_after, warning }
    }

    /// Of a final failure: where it gives no cause, its status has one.
    pub fn of_failure(answer: &Response) -> FarReason {
        let told = FarReason::of(answer);
        FarReason { q850: told.q850.or_else(|| q850::from_sip(answer.status)), ..told }
    }

    /// The value of the Reason header for the other side.
    pub fn value(&self, cause: EndCause) -> String {
        let number = self.q850.unwrap_or(cause.q850());
        let own = number == cause.q850();
        let text = if own { cause.meaning() } else { q850::meaning(number) };
        match self.sip {
            // RFC 3326 §3.1: a phone that stops ringing shows no missed call.
            Some(200) if self.q850.is_none() => leg::answered_elsewhere(),
            Some(_) | None => Reason::q850(number, text).to_string(),
        }
    }
}

/// The code of a Warning: its first word.
fn warn_code(value: &str) -> Option<u16> {
    value.split_whitespace().next()?.parse().ok().filter(|code| (300..400).contains(code))
}

/// The Warning that goes with a refused session. The agent is a pseudonym: an address would tell where we are.
pub fn warning(code: u16) -> String {
    let text = match code {
        300 => "Incompatible network protocol",
        301 => "Incompatible network address formats",
        302 => "Incompatible transport protocol",
        303 => "Incompatible bandwidth units",
        304 => "Media type not available",
        305 => "Incompatible media format",
        306 => "Attribute not understood",
        307 => "Session description parameter not understood",
        330 => "Multicast not available",
        331 => "Unicast not available",
        370 => "Insufficient bandwidth",
        _ => "Miscellaneous warning",
    };
    format!("{code} tandem \"{text}\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::message::{Method, Request};

    fn bye(fields: &[(HeaderName, &str)]) -> Request {
        let mut request = Request::new(Method::Bye, "sip:h".parse().unwrap());
        fields.iter().for_each(|(name, value)| request.headers.push(name.clone(), *value));
        request
    }

    #[test]
    fn a_far_ends_cause_is_passed_on_and_its_text_is_not() {
        let said =
            bye(&[(HeaderName::Reason, "SIP;cause=580, Q.850;cause=38;text=\"mgw7.core.example down\"")]);
        let value = FarReason::of(&said).value(EndCause::NormalClearing);
        assert_eq!(value, "Q.850;cause=38;text=\"Network out of order\"");
    }

    #[test]
    fn without_its_word_our_own_cause_is_told() {
        for said in [bye(&[]), bye(&[(HeaderName::Reason, "Q.850;cause=200, X;cause=1, Q.850")])] {
            assert_eq!(FarReason::of(&said).value(EndCause::Busy), "Q.850;cause=17;text=\"User busy\"");
        }
    }

    #[test]
    fn answered_elsewhere_stays_that() {
        let said = bye(&[(HeaderName::Reason, "SIP ;cause=200 ;text=\"whatever\"")]);
        let value = FarReason::of(&said).value(EndCause::CallerCancelled);
        assert_eq!(value, "SIP;cause=200;text=\"Call completed elsewhere\"");
    }

    #[test]
    fn a_failure_without_a_cause_has_that_of_its_status() {
        let answer = |status| Response::to_request(&bye(&[]), status);
        assert_eq!(FarReason::of_failure(&answer(480)).q850, Some(18));
        assert_eq!(FarReason::of_failure(&answer(488)).q850, None);
        let told = answer(480).with_header(HeaderName::Reason, "Q.850;cause=20");
        assert_eq!(FarReason::of_failure(&told).q850, Some(20));
    }

    #[test]
    fn warnings_are_read_by_their_code_and_written_without_an_address() {
        let said = bye(&[(HeaderName::Warning, "305 sbc1.core.example \"Incompatible media format\"")]);
        assert_eq!(FarReason::of(&said).warning, Some(305));
        assert_eq!(warning(305), "305 tandem \"Incompatible media format\"");
        assert_eq!(FarReason::of(&bye(&[(HeaderName::Warning, "many words")])).warning, None);
    }

    #[test]
    fn an_absurd_wait_is_not_passed_on() {
        assert_eq!(FarReason::of(&bye(&[(HeaderName::RetryAfter, "4294967295")])).retry_after, Some(3_600));
    }
}
