//! P-Charging-Vector: the identifier under which operators of one trust domain bill the same call (RFC 7315 §4.6).

use super::settings::Trunk;
use crate::sip::message::{HeaderName, Params, Request, Typed};
use crate::types::{CallId, HostPort};
use std::fmt::Write;

/// Of an identifier or a network's name; a longer one is not passed on.
const LONGEST: usize = 128;

/// What a call is billed under.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Vector {
    icid: String,
    /// The network that the call comes from.
    orig_ioi: Option<String>,
}

impl Vector {
    fn read(invite: &Request) -> Option<Vector> {
        let value = invite.headers().get(&HeaderName::PChargingVector)?;
        let params = Params::parse_header(&format!(";{value}"))?;
        let plain = |name: &str| params.value(name).filter(|value| is_plain(value)).map(str::to_owned);
        Some(Vector { icid: plain("icid-value")?, orig_ioi: plain("orig-ioi") })
    }

    fn write(&self, generated_at: Option<&str>, term_ioi: Option<&str>) -> String {
        let mut text = format!("icid-value=\"{}\"", self.icid);
        if let Some(host) = generated_at {
            let host = HostPort { host: host.to_owned(), port: None };
            let _ = write!(text, ";icid-generated-at={host}");
        }
        for (name, value) in [("orig-ioi", self.orig_ioi.as_deref()), ("term-ioi", term_ioi)] {
            match value {
                // RFC 7315 §5.7: a network's name is a value as any, and what is no token is quoted.
                Some(value) if is_token(value) => _ = write!(text, ";{name}={value}"),
                Some(value) => _ = write!(text, ";{name}=\"{value}\""),
                None => {}
            }
        }
        text
    }
}

/// RFC 3261 §25.1, of the signs that [`is_plain`] lets through.
fn is_token(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-._+~".contains(&octet))
}

fn is_plain(value: &str) -> bool {
    !value.is_empty()
        && value.len() <= LONGEST
        && value.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-._@:+~[]".contains(&octet))
}

/// The vector in which an INVITE came from a trunk that takes part.
fn of_caller(from: Option<&Trunk>, invite: Option<&Request>) -> Option<Vector> {
    from.filter(|trunk| trunk.config.charging_vector).and(invite).and_then(Vector::read)
}

/// What our INVITE to a trunk says: the caller's vector where it came with one, else one of our own. `host` is what our
/// calls to that trunk come from.
pub fn of_call(
    call: CallId,
    to: &Trunk,
    from: Option<&Trunk>,
    invite: Option<&Request>,
    host: &HostPort,
) -> Option<(HeaderName, String)> {
    if !to.config.charging_vector {
        return None;
    }
    let value = match of_caller(from, invite) {
        Some(vector) => vector.write(None, None),
        None => {
            let own = Vector { icid: call.to_string(), orig_ioi: Some(host.host.clone()) };
            own.write(Some(&host.host), None)
        }
    };
    Some((HeaderName::PChargingVector, value))
}

/// What we answer a trunk that sent one: the same, and whose network the call has reached (RFC 7315 §4.6.2.2).
pub fn of_answer(trunk: &Trunk, invite: &Request, host: &HostPort) -> Option<(HeaderName, String)> {
    let vector = of_caller(Some(trunk), Some(invite))?;
    Some((HeaderName::PChargingVector, vector.write(None, Some(&host.host))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_six_stands_in_brackets_and_what_is_no_token_is_quoted() {
        let vector = |ioi: &str| {
            Vector { icid: "1".to_owned(), orig_ioi: Some(ioi.to_owned()) }.write(Some("2001:db8::1"), None)
        };
        let start = "icid-value=\"1\";icid-generated-at=[2001:db8::1]";
        assert_eq!(vector("a.example"), format!("{start};orig-ioi=a.example"));
        assert_eq!(vector("2001:db8::1"), format!("{start};orig-ioi=\"2001:db8::1\""));
        let term = Vector { icid: "1".to_owned(), orig_ioi: None }.write(None, Some("2001:db8::1"));
        assert_eq!(term, "icid-value=\"1\";term-ioi=\"2001:db8::1\"");
    }
}
