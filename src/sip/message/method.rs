//! SIP method names.

use super::grammar;
use std::{fmt, str::FromStr};

/// A method. Names are case-sensitive (RFC 3261 §7.1): `invite` is an unknown method, not INVITE.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Method {
    Invite,
    Ack,
    Bye,
    Cancel,
    Register,
    Options,
    Info,
    Message,
    Notify,
    Prack,
    Publish,
    Refer,
    Subscribe,
    Update,
    /// A well-formed name nobody here knows; answered 501 (RFC 3261 §8.2.1).
    Other(Box<str>),
}

impl Method {
    /// Every method that has a name of its own here.
    pub const KNOWN: [Method; 14] = [
        Method::Invite,
        Method::Ack,
        Method::Bye,
        Method::Cancel,
        Method::Register,
        Method::Options,
        Method::Info,
        Method::Message,
        Method::Notify,
        Method::Prack,
        Method::Publish,
        Method::Refer,
        Method::Subscribe,
        Method::Update,
    ];

    /// The name as it is written on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Method::Invite => "INVITE",
            Method::Ack => "ACK",
            Method::Bye => "BYE",
            Method::Cancel => "CANCEL",
            Method::Register => "REGISTER",
            Method::Options => "OPTIONS",
            Method::Info => "INFO",
            Method::Message => "MESSAGE",
            Method::Notify => "NOTIFY",
            Method::Prack => "PRACK",
            Method::Publish => "PUBLISH",
            Method::Refer => "REFER",
            Method::Subscribe => "SUBSCRIBE",
            Method::Update => "UPDATE",
            Method::Other(name) => name,
        }
    }

    /// Reads a method name; `None` if it is not a token.
    pub fn parse(name: &str) -> Option<Method> {
        let known = match name {
            "INVITE" => Method::Invite,
            "ACK" => Method::Ack,
            "BYE" => Method::Bye,
            "CANCEL" => Method::Cancel,
            "REGISTER" => Method::Register,
            "OPTIONS" => Method::Options,
            "INFO" => Method::Info,
            "MESSAGE" => Method::Message,
            "NOTIFY" => Method::Notify,
            "PRACK" => Method::Prack,
            "PUBLISH" => Method::Publish,
            "REFER" => Method::Refer,
            "SUBSCRIBE" => Method::Subscribe,
            "UPDATE" => Method::Update,
            other if grammar::is_token(other) => Method::Other(other.into()),
            _ => return None,
        };
        Some(known)
    }

    /// True for requests whose 2xx and 101–199 responses make a dialog (RFC 3261 §12.1, RFC 6665 §4.1, RFC 3515 §2.4).
    pub fn forms_dialog(&self) -> bool {
        matches!(self, Method::Invite | Method::Subscribe | Method::Refer | Method::Notify)
    }
}

impl FromStr for Method {
    type Err = ();
    fn from_str(name: &str) -> Result<Method, ()> {
        Method::parse(name).ok_or(())
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_of_the_vocabulary_is_known() {
        for method in rsip::Method::all() {
            let name = method.to_string();
            let ours = Method::parse(&name).unwrap();
            assert!(!matches!(ours, Method::Other(_)), "{name}");
            assert_eq!(ours.as_str(), name);
        }
        assert_eq!(rsip::Method::all().len(), Method::KNOWN.len());
    }

    #[test]
    fn names_are_case_sensitive_tokens() {
        assert_eq!(Method::parse("invite"), Some(Method::Other("invite".into())));
        assert_eq!(Method::parse("INV ITE"), None);
        assert_eq!(Method::parse(""), None);
    }
}
