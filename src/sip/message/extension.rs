//! Values of the extensions a gateway meets: session timers, reliable provisionals, reasons.

use super::grammar;
use super::method::Method;
use super::params::Params;
use std::fmt;

/// Who refreshes the session (RFC 4028 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refresher {
    Uac,
    Uas,
}

/// The Session-Expires header (RFC 4028 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionExpires {
    pub seconds: u32,
    pub refresher: Option<Refresher>,
}

impl SessionExpires {
    pub fn parse(text: &str) -> Option<SessionExpires> {
        let (seconds, params) = text.split_at(text.find(';').unwrap_or(text.len()));
        let params = Params::parse_header(params)?;
        let refresher = match params.value("refresher") {
            Some(who) if who.eq_ignore_ascii_case("uac") => Some(Refresher::Uac),
            Some(who) if who.eq_ignore_ascii_case("uas") => Some(Refresher::Uas),
            Some(_) | None => None,
        };
        Some(SessionExpires { seconds: grammar::seconds(grammar::trim(seconds))?, refresher })
    }
}

impl fmt::Display for SessionExpires {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refresher = match self.refresher {
            Some(Refresher::Uac) => ";refresher=uac",
            Some(Refresher::Uas) => ";refresher=uas",
            None => "",
        };
        write!(f, "{}{refresher}", self.seconds)
    }
}

/// The RAck header (RFC 3262 §7.2): which provisional response a PRACK acknowledges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RAck {
    pub rseq: u32,
    pub cseq: u32,
    pub method: Method,
}

impl RAck {
    pub fn parse(text: &str) -> Option<RAck> {
        let mut words = text.split(grammar::is_space).filter(|word| !word.is_empty());
        let mut number = || u32::try_from(grammar::number(words.next()?)?).ok();
        let (rseq, cseq) = (number()?, number()?);
        let method = Method::parse(words.next()?)?;
        words.next().is_none().then_some(RAck { rseq, cseq, method })
    }
}

impl fmt::Display for RAck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.rseq, self.cseq, self.method)
    }
}

/// One value of the Reason header (RFC 3326 §2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// `SIP`, `Q.850` or another, as written.
    pub protocol: String,
    pub cause: Option<u16>,
    pub text: Option<String>,
}

impl Reason {
    /// A Q.850 cause.
    pub fn q850(cause: u8, text: &str) -> Reason {
        Reason { protocol: "Q.850".into(), cause: Some(u16::from(cause)), text: Some(text.into()) }
    }

    /// A SIP status.
    pub fn sip(status: u16, text: &str) -> Reason {
        Reason { protocol: "SIP".into(), cause: Some(status), text: Some(text.into()) }
    }

    pub fn is_q850(&self) -> bool {
        self.protocol.eq_ignore_ascii_case("Q.850")
    }

    pub fn parse(text: &str) -> Option<Reason> {
        let (protocol, params) = text.split_at(text.find(';').unwrap_or(text.len()));
        let (protocol, params) = (grammar::trim(protocol), Params::parse_header(params)?);
        let cause = params.value("cause").and_then(grammar::number).and_then(|n| u16::try_from(n).ok());
        let text = params.value("text").map(str::to_owned);
        grammar::is_token(protocol).then(|| Reason { protocol: protocol.to_owned(), cause, text })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.protocol)?;
        if let Some(cause) = self.cause {
            write!(f, ";cause={cause}")?;
        }
        match &self.text {
            Some(text) => {
                f.write_str(";text=")?;
                grammar::quote(text, f)
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_timers_are_read_and_written() {
        let timer = SessionExpires::parse("1800 ;refresher=UAC;x=y").unwrap();
        assert_eq!(timer, SessionExpires { seconds: 1800, refresher: Some(Refresher::Uac) });
        assert_eq!(timer.to_string(), "1800;refresher=uac");
        assert_eq!(SessionExpires::parse("soon"), None);
    }

    #[test]
    fn racks_have_three_words() {
        let rack = RAck::parse("776656 1 INVITE").unwrap();
        assert_eq!((rack.rseq, rack.cseq, rack.to_string().as_str()), (776656, 1, "776656 1 INVITE"));
        assert_eq!(RAck::parse("1 INVITE"), None);
        assert_eq!(RAck::parse("1 2 INVITE 3"), None);
    }

    #[test]
    fn reasons_are_read_and_written() {
        let reason = Reason::parse("Q.850 ;cause=16 ;text=\"Normal \\\"call\\\" clearing\"").unwrap();
        assert_eq!((reason.is_q850(), reason.cause), (true, Some(16)));
        assert_eq!(Reason::parse(&reason.to_string()), Some(reason));
        assert_eq!(
            Reason::sip(200, "Call completed elsewhere").to_string(),
            "SIP;cause=200;text=\"Call completed elsewhere\""
        );
    }
}
