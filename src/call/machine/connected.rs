//! Who answers, as far as the caller is told: the connected number and its restriction (3GPP TS 24.608), in the fields
//! that responses have for it (RFC 3325 §9.1).

use super::Call;
use crate::call::charging;
use crate::call::core::Core;
use crate::call::identity::Identity;
use crate::call::leg::Party;
use crate::call::settings::Trunk;
use crate::sip::message::{HeaderName, NameAddr, Request, Response, Typed, Uri};
use crate::types::{E164, HostPort};

/// What a callee said of itself.
#[derive(Debug)]
pub(super) struct Connected {
    /// The index of its leg: nobody else's word is told in its place.
    pub leg: u8,
    /// Of several phones behind it, the one that said so.
    tag: Option<String>,
    number: E164,
    /// Nobody outside the trust domain may be told.
    withheld: bool,
}

fn tells(trunk: &Trunk) -> bool {
    trunk.config.connected_number
}

impl Call {
    /// Notes whom a callee's response says that the caller is connected with.
    pub(super) fn note_connected(&mut self, core: &Core, position: usize, response: &Response) {
        let callee = &self.callees[position];
        let leg = callee.id.index;
        let tag = response.to_tag().map(str::to_owned);
        // Whoever spoke before is not the one who is connected.
        self.connected.take_if(|connected| connected.leg != leg || connected.tag != tag);
        let (number, withheld) = match &callee.party {
            // RFC 3325 §5: what stands in a response counts as what stands in a request does.
            Party::Trunk(trunk) if tells(trunk) && trunk.config.trusted => {
                let format = trunk.config.calling_format;
                (Identity::of_response(response, &core.numbers, format), Identity::is_hidden(response))
            }
            Party::Trunk(_) => (None, false),
            // A number that rings a user is the user's; a phone that called it knows it.
            Party::User { .. } => {
                let number = self.number.as_ref().filter(|_| self.caller.party.trunk_name().is_some());
                (number.cloned(), false)
            }
        };
        match (number, &mut self.connected) {
            (Some(number), _) => {
                self.connected = Some(Box::new(Connected { leg, tag, number, withheld }));
            }
            // It may say only later that what it has told is not for everybody.
            (None, Some(connected)) => connected.withheld |= withheld,
            (None, None) => {}
        }
    }

    /// What a response to the caller says beside.
    pub(super) fn told_to_caller(&self, core: &Core, invite: &Request) -> Vec<(HeaderName, String)> {
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
        let number = match &self.caller.party {
            Party::Trunk(trunk) => core.numbers.format(&connected.number, trunk.config.calling_format),
            Party::User { .. } => connected.number.to_string(),
        };
        let address = NameAddr::new(Uri::sip(Some(&number), host));
        fields.push((HeaderName::PAssertedIdentity, address.to_string()));
        if connected.withheld {
            fields.push((HeaderName::Privacy, "id".to_owned()));
        }
        fields
    }
}
