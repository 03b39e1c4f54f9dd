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
        let more = [
            ("icid-generated-at", generated_at),
            ("orig-ioi", self.orig_ioi.as_deref()),
            ("term-ioi", term_ioi),
        ];
        for (name, value) in more {
            if let Some(value) = value {
                let _ = write!(text, ";{name}={value}");
            }
        }
        text
    }
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
