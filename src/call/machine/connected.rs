//! Who answers, as far as the caller is told: the connected number and its restriction (3GPP TS 24.608), in the fields
//! that responses have for it (RFC 3325 §9.1).

use super::Call;
use crate::call::charging;
use crate::call::identity::Identity;
use crate::call::leg::Party;
use crate::call::settings::Trunk;
use crate::sip::message::{HeaderName, NameAddr, Request, Response, Uri};
use crate::types::HostPort;

/// What a callee said of itself.
#[derive(Debug)]
pub(super) struct Connected {
    number: String,
    /// Nobody outside the trust domain may be told.
    withheld: bool,
}

fn tells(trunk: &Trunk) -> bool {
    trunk.config.connected_number
}

impl Call {
    /// Notes whom a callee's response says that the caller is connected with.
    pub(super) fn note_connected(&mut self, position: usize, response: &Response) {
        let said = match &self.callees[position].party {
            // RFC 3325 §5: what stands in a response counts as what stands in a request does.
            Party::Trunk(trunk) if tells(trunk) => Identity::of_response(response, trunk.config.trusted),
            Party::Trunk(_) => None,
            // A number that rings a user is the user's; a phone that called it knows it.
            Party::User { .. } => {
                let number = self.number.as_ref().filter(|_| self.caller.party.trunk_name().is_some());
                number.map(|number| (number.to_string(), false))
            }
        };
        if let Some((number, withheld)) = said {
            self.connected = Some(Box::new(Connected { number, withheld }));
        }
    }

    /// What a response to the caller says beside.
    pub(super) fn told_to_caller(&self, invite: &Request) -> Vec<(HeaderName, String)> {
        let mut fields = Vec::new();
        let mut host = HostPort { host: self.caller.peer.local.ip().to_string(), port: None };
        let (listens, knows_withheld) = match &self.caller.party {
            Party::Trunk(trunk) => {
                if let Some(domain) = trunk.own_domain() {
                    host.host = domain.to_owned();
                }
                fields.extend(charging::of_answer(trunk, invite, &host));
                (tells(trunk), trunk.config.knows_withheld())
            }
            // A phone shows whom it has reached, if the one who is reached lets it.
            Party::User { .. } => (true, false),
        };
        let Some(connected) = self.connected.as_deref().filter(|_| listens) else { return fields };
        if connected.withheld && !knows_withheld {
            return fields;
        }
        let address = NameAddr::new(Uri::sip(Some(&connected.number), host));
        fields.push((HeaderName::PAssertedIdentity, address.to_string()));
        if connected.withheld {
            fields.push((HeaderName::Privacy, "id".to_owned()));
        }
        fields
    }
}
