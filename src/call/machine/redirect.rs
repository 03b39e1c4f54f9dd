//! A trunk that sends a call on (3xx, RFC 3261 §8.1.3.4): followed to where its configuration lets it, nowhere else.

use super::record::AttemptEnd;
use super::{Call, Stage};
use crate::call::core::Core;
use crate::call::event::{Rank, Target};
use crate::call::forwarding::Forwarding;
use crate::call::leg::Party;
use crate::call::settings::Trunk;
use crate::call::trunks::Trunks;
use crate::routing::Dialled;
use crate::sip::message::{Response, Typed};
use crate::types::{E164, EndCause, HostPort, Now};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// A call that is sent on more often goes in a circle.
const MOST: u8 = 3;

impl Call {
    /// Where a 3xx may send the call. The number must stay what was routed and will be charged, and the place must be
    /// one of those the trunk's configuration names by address. Where the number was ported to may be said beside it.
    pub(super) fn redirected(&self, position: usize, status: u16, answer: &Response) -> Option<SentOn> {
        if !(300..400).contains(&status)
            || self.redirects >= MOST
            || !matches!(self.stage, Stage::Hunting { .. })
        {
            return None;
        }
        let leg = &self.callees[position];
        let (Party::Trunk(trunk), Some(attempt)) = (&leg.party, &leg.attempt) else { return None };
        let contacts = answer.addresses(&crate::sip::message::HeaderName::Contact).ok()?;
        contacts.into_iter().find_map(|contact| {
            let said = contact.uri.subscriber();
            let routed = self.number.as_ref().is_some_and(|number| is_written(&said, number));
            let same = said.is_empty() || said == attempt.called || routed;
            let port = |place: &HostPort| place.port.unwrap_or(leg.peer.transport.default_port());
            let wanted = &contact.uri.host;
            let listed =
                trunk.config.redirect_to.iter().any(|place| {
                    place.host.eq_ignore_ascii_case(&wanted.host) && port(place) == port(wanted)
                });
            let address: IpAddr = wanted.host.parse().ok().filter(|_| same && listed)?;
            let remote = SocketAddr::new(address, port(wanted));
            let reachable = remote.is_ipv4() == leg.peer.remote.is_ipv4();
            let mut peer = leg.peer.clone();
            (peer.remote, peer.connection) = (remote, None);
            // RFC 5922 §4: the certificate must carry what was configured; who is known by its address is known by the
            // one that is listed.
            let by_address = |name: &str| trunk.config.tls_name.is_none() && name.parse::<IpAddr>().is_ok();
            if peer.tls_name.as_deref().is_some_and(by_address) {
                peer.tls_name = Some(Arc::from(address.to_string()));
            }
            let target = Target { host: wanted.clone(), peer, rank: Rank::default(), weight: 0 };
            let portability = Some(contact.uri.portability()).filter(|ported| !ported.is_empty());
            reachable.then_some(SentOn { target, portability })
        })
    }

    /// Goes where the trunk sent the call, as another attempt of the same trunk.
    pub(super) fn follow(
        &mut self,
        core: &mut Core,
        trunks: &mut Trunks,
        now: Now,
        position: usize,
        answer: &Response,
        sent_on: SentOn,
    ) {
        let (status, SentOn { target, portability }) = (answer.status, sent_on);
        self.redirects += 1;
        self.note_redirect(core, position, answer, portability);
        let leg = &mut self.callees[position];
        leg.vanish(core);
        leg.close_media(core);
        let index = leg.id.index;
        self.early.take_if(|early| *early == index);
        self.bridged.take_if(|bridged| *bridged == index);
        self.connected.take_if(|connected| connected.leg == index);
        self.stop_ringback(core);
        let channel = self.callees[position].attempt.as_mut().and_then(|attempt| attempt.channel.take());
        self.free_attempt(now, position, AttemptEnd { status, cause: EndCause::Redirected });
        match (self.retry.take(), channel) {
            // It stays one call of that trunk: its channel goes along.
            (Some((candidate, tried)), Some(channel)) => {
                self.attempt_trunk(core, now, candidate, tried, channel, target);
            }
            (_, channel) => {
                self.freed_channels.extend(channel);
                self.try_next_trunk(core, trunks, now);
            }
        }
        self.count_attempt(core, position, true);
    }

    /// What the next place is told: that the call was sent on, and where its number was ported to. Who answers so
    /// understands it, whatever its trunk is told of other calls.
    fn note_redirect(
        &mut self,
        core: &Core,
        position: usize,
        answer: &Response,
        portability: Option<String>,
    ) {
        let leg = &self.callees[position];
        let (Party::Trunk(trunk), Some(attempt)) = (&leg.party, &leg.attempt) else { return };
        let moved = self.moved.get_or_insert_with(|| {
            let before = self.identity.forwarding.clone();
            Box::new(Moved { by: trunk.name.clone(), portability: None, before })
        });
        moved.portability = portability.or(moved.portability.take());
        if trunk.config.diversion {
            // RFC 5806 §6: who diverted a call is a matter of trust, in a response as in a request.
            let said = Some(&answer.headers).filter(|_| trunk.config.trusted);
            let format = trunk.config.called_format;
            let said = said.and_then(|headers| Forwarding::of(headers, &core.numbers, format, false));
            let called = self.number.clone().map(Dialled::International);
            let called = called.unwrap_or_else(|| Dialled::Short(attempt.called.clone()));
            self.identity.forwarding.get_or_insert_default().sent_on(called, answer.status, said);
        }
    }
}

impl Call {
    /// An attempt at a trunk begins: what another one said when it sent the call on is forgotten.
    pub(super) fn leave_moved(&mut self, trunk: &Trunk) {
        if let Some(moved) = self.moved.take_if(|moved| moved.by != trunk.name) {
            self.identity.forwarding = moved.before;
        }
    }
}

/// True where a text is this number, in whichever form it is written that tells its country.
fn is_written(text: &str, number: &E164) -> bool {
    [number.as_str(), number.digits()].contains(&text) || text.strip_prefix("00") == Some(number.digits())
}

/// What a 3xx has changed of a call, for as long as the trunk that gave it is tried.
pub(super) struct Moved {
    by: Arc<str>,
    /// Where the number was ported to, as it stands in a URI (RFC 4694).
    pub portability: Option<String>,
    /// Who had sent the call on before.
    before: Option<Box<Forwarding>>,
}

/// Where a call goes on.
pub(super) struct SentOn {
    target: Target,
    /// Where its number was ported to, as it stands in a URI (RFC 4694).
    portability: Option<String>,
}
