//! Who calls, as SIP tells it beside From: P-Asserted-Identity, Privacy, Remote-Party-ID, Diversion, History-Info.

use super::settings::Trunk;
use crate::config::IdentityHeader;
use crate::sip::message::{HeaderName, NameAddr, Request, Typed, Uri};
use crate::types::HostPort;

/// Entries of Diversion and History-Info that are passed on; a longer history is a loop or a bomb.
const MOST_DIVERSIONS: usize = 10;

/// What a caller says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// The number must not be shown to the callee (RFC 3323, RFC 3325 §7).
    pub withheld: bool,
    /// The number its network vouches for; only of callers whose word counts.
    pub asserted: Option<String>,
    /// Who sent the call on before it came here, newest first (RFC 5806), and its whole way (RFC 7044).
    pub diversion: Vec<String>,
    pub history: Vec<String>,
}

impl Identity {
    /// Reads what an INVITE says; `trusted` is whether its sender stands inside our trust domain (RFC 3325 §2.3).
    pub fn of(request: &Request, trusted: bool) -> Identity {
        let anonymous = request.from().is_ok_and(|from| {
            from.uri.host.host.eq_ignore_ascii_case("anonymous.invalid")
                || from.uri.user().eq_ignore_ascii_case("anonymous")
        });
        let values = |name: &HeaderName| -> Vec<String> {
            request.headers.list(name).take(MOST_DIVERSIONS).map(str::to_owned).collect()
        };
        let party = first_address(request, &HeaderName::RemotePartyId);
        let hidden = party.as_ref().is_some_and(|party| {
            party.params.value("privacy").is_some_and(|privacy| !privacy.eq_ignore_ascii_case("off"))
        });
        let asserted = first_address(request, &HeaderName::PAssertedIdentity).or(party);
        Identity {
            withheld: anonymous || wants_privacy(request) || hidden,
            asserted: asserted.filter(|_| trusted).map(|address| address.uri.subscriber()),
            diversion: if trusted { values(&HeaderName::Diversion) } else { Vec::new() },
            history: if trusted { values(&HeaderName::HistoryInfo) } else { Vec::new() },
        }
    }

    /// The same of a call for help: who answers it must know who calls.
    pub fn disclosed(&self) -> Identity {
        Identity { withheld: false, ..self.clone() }
    }

    /// The header fields that tell a trunk who calls; `network` is the caller's own number in the trunk's form, `host`
    /// what stands behind it.
    pub fn fields(&self, trunk: &Trunk, network: Option<&str>, host: &HostPort) -> Vec<(HeaderName, String)> {
        let mut fields = Vec::new();
        if self.withheld {
            fields.push((HeaderName::Privacy, "id".to_owned()));
        }
        // RFC 3325 §5: outside the trust domain a number that is withheld is not told at all.
        let told = network.filter(|_| trunk.config.knows_withheld() || !self.withheld);
        if let Some(number) = told {
            let address = NameAddr::new(Uri::sip(Some(number), host.clone())).to_string();
            match trunk.config.identity {
                IdentityHeader::Off => {}
                IdentityHeader::Asserted => fields.push((HeaderName::PAssertedIdentity, address)),
                IdentityHeader::Preferred => fields.push((HeaderName::PPreferredIdentity, address)),
                IdentityHeader::RemoteParty => {
                    let privacy = if self.withheld { "full" } else { "off" };
                    let value = format!("{address};party=calling;screen=yes;privacy={privacy}");
                    fields.push((HeaderName::RemotePartyId, value));
                }
            }
        }
        // Whoever sent the call on may have asked not to be named to strangers.
        if trunk.config.diversion && (trunk.config.knows_withheld() || !self.withheld) {
            fields.extend(self.diversion.iter().map(|value| (HeaderName::Diversion, value.clone())));
            fields.extend(self.history.iter().map(|value| (HeaderName::HistoryInfo, value.clone())));
        }
        fields
    }
}

/// RFC 3323 §4.2 and RFC 3325 §9.3: everything but `none` and `critical` hides the caller.
fn wants_privacy(request: &Request) -> bool {
    request.headers.list(&HeaderName::Privacy).flat_map(|value| value.split(';')).any(|value| {
        ["id", "user", "header", "session"].iter().any(|hides| value.trim().eq_ignore_ascii_case(hides))
    })
}

fn first_address(request: &Request, name: &HeaderName) -> Option<NameAddr> {
    request.addresses(name).ok()?.into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::message::{Message, parse};

    fn invite(more: &str) -> Request {
        let text = format!(
            "INVITE sip:+32470123456@gw SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bKx\r\nMax-Forwards: 9\r\n\
             From: <sip:+33123456789@a>;tag=1\r\nTo: <sip:b@gw>\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n{more}\r\n"
        );
        match parse(text.as_bytes()) {
            Ok(Message::Request(request)) => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_asserted_number_counts_only_from_those_we_trust() {
        let request = invite("P-Asserted-Identity: \"A\" <sip:+3225550001@a>, <tel:+3225550001>\r\n");
        assert_eq!(Identity::of(&request, true).asserted.as_deref(), Some("+3225550001"));
        assert_eq!(Identity::of(&request, false).asserted, None);
        let tel = invite("P-Asserted-Identity: <tel:+3225550002>\r\n");
        assert_eq!(Identity::of(&tel, true).asserted.as_deref(), Some("+3225550002"));
        let party = invite("Remote-Party-ID: <sip:+3225550003@a>;party=calling;privacy=full\r\n");
        let identity = Identity::of(&party, true);
        assert!(identity.withheld && identity.asserted.as_deref() == Some("+3225550003"));
    }

    #[test]
    fn a_caller_withholds_its_number_in_each_of_the_ways_there_are() {
        for hides in ["Privacy: id\r\n", "Privacy: header;user\r\n", "Privacy: critical; id\r\n"] {
            assert!(Identity::of(&invite(hides), false).withheld, "{hides}");
        }
        for shows in ["", "Privacy: none\r\n", "Remote-Party-ID: <sip:1@a>;privacy=off\r\n"] {
            assert!(!Identity::of(&invite(shows), true).withheld, "{shows}");
        }
        let text = invite("").to_bytes();
        let anonymous =
            String::from_utf8_lossy(&text).replace("+33123456789@a", "anonymous@anonymous.invalid");
        let Ok(Message::Request(request)) = parse(anonymous.as_bytes()) else { panic!("{anonymous}") };
        assert!(Identity::of(&request, false).withheld);
    }

    #[test]
    fn a_history_is_passed_on_but_not_without_end() {
        let many: String = (0..50).map(|n| format!("Diversion: <sip:{n}@a>;reason=user-busy\r\n")).collect();
        assert_eq!(Identity::of(&invite(&many), true).diversion.len(), MOST_DIVERSIONS);
        assert!(Identity::of(&invite(&many), false).diversion.is_empty());
    }
}
