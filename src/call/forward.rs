//! Calls that a user's device sends on (RFC 5359 §2.7-2.9): in whose name they go on, how far, and what the next place
//! hears of it.
//!
//! Where a device sends a call, its user calls: by its dialplan, within its limits, at its cost. Nobody else can make it
//! do so: what counts is the word of the device that was rung, from where it is registered.

use super::admission::{Hindrance, Source};
use super::exchange::Exchange;
use super::forwarding::Forwarding;
use super::identity::Identity;
use super::leg::media::{LegMedia, MediaPolicy};
use super::leg::{Leg, LegState, Party};
use super::machine::{ANONYMOUS, Call, Forward, Plan, SentOn};
use crate::access::User;
use crate::config::Transfer;
use crate::routing::Dialled;
use crate::sdp::Session;
use crate::sip::message::{HeaderName, Method, NameAddr, Request, Response, Uri};
use crate::types::{CallId, E164, EndCause, HostPort, LegId, Now, Peer};
use std::sync::Arc;

/// A call that is sent on by more users goes in a circle.
const MOST: usize = 3;

/// Who hears the callee in the end.
struct Waiting {
    /// Its own call, which waits.
    call: CallId,
    party: Party,
    media: MediaPolicy,
    offer: Option<Session>,
}

impl Exchange {
    /// A response that sends a call on has to come from where its device is: nobody else is followed.
    pub(super) fn hold_to_its_place(&self, leg: LegId, peer: &Peer, response: &mut Response) {
        if !(300..400).contains(&response.status) {
            return;
        }
        let leg = self.calls.get(&leg.call).and_then(|call| call.leg(leg.index));
        let stranger = leg.is_some_and(|leg| match leg.party {
            Party::User { .. } => leg.peer.remote != peer.remote || leg.peer.connection != peer.connection,
            Party::Trunk(_) => false,
        });
        if stranger {
            response.headers.remove(&HeaderName::Contact);
        }
    }

    /// One device of a call has sent it on, and no other one rings any more, or need not.
    pub(super) fn go_on(&mut self, now: Now, id: CallId) {
        let Some(sent_on) = self.calls.get_mut(&id).and_then(|call| call.take_sent_on()) else { return };
        match self.next_call(now, id, &sent_on) {
            Some((waits, next)) => {
                let next_id = next.id;
                self.with_call(id, |call, core, _| call.silence_devices(core, now, EndCause::Redirected));
                self.with_call(waits, |call, core, _| call.wait_for(core, now, next_id));
                if waits != id {
                    self.with_call(id, |call, core, _| call.leave_to_another(core, now));
                }
                self.add_call(next);
            }
            None => self.with_call(id, |call, core, _| call.goes_nowhere(core, now)),
        }
    }

    /// The call that one becomes which was sent on, and the one that waits for it; `None` where there can't be any.
    fn next_call(&mut self, now: Now, id: CallId, sent_on: &SentOn) -> Option<(CallId, Call)> {
        let waiting = self.waiting(id)?;
        let user = self.directory.get(&sent_on.user)?.clone();
        let device = sent_on.device.remote;
        if !self.registrar.reachable(&user.name).any(|binding| binding.peer.remote == device) {
            return None;
        }
        let wanted = sent_on.to.called();
        if self.dialplan.is_emergency_number(&wanted) {
            // Help is for who asks for it, where it is: nobody is sent there.
            return None;
        }
        let call = self.calls.get(&id)?;
        let carried = call.carried();
        let numbers = [user.dids.as_slice(), user.caller_ids.as_slice()].concat();
        let own = call.number.as_ref().filter(|number| numbers.contains(number)).or(numbers.first()).cloned();
        let history = carried.identity.forwarding.as_deref().cloned().unwrap_or_default();
        let is_short = match self.dialplan.numbers.normalise(&wanted) {
            Ok(Dialled::Short(_) | Dialled::Service(_)) => self.directory.get(&wanted).is_none(),
            Ok(Dialled::International(_)) | Err(_) => false,
        };
        let hindrance = if self.draining {
            Some(EndCause::Draining)
        } else if carried.passed.len() >= MOST || history.came_by(&numbers) {
            Some(EndCause::LoopDetected)
        } else if carried.max_forwards == 0 {
            Some(EndCause::TooManyHops)
        } else if is_short {
            Some(EndCause::Blocked)
        } else {
            None
        };
        let mut passed = carried.passed.to_vec();
        passed.push(user.name.clone());
        let (identity, calling) = (carried.identity.clone(), call.calling.clone());
        let mut invite = Request::new(Method::Invite, sent_on.to.clone())
            .with_header(HeaderName::MaxForwards, carried.max_forwards.to_string());
        if let Some(own) = &own {
            // As one of its own numbers where it may present that.
            let host = HostPort { host: self.core.settings.sip.realm.clone(), port: None };
            let from = NameAddr::new(Uri::sip(Some(own.as_str()), host));
            invite = invite.with_header(HeaderName::From, from.to_string());
        }
        let next = CallId::from_parts(now.unix_ms, self.core.octets());
        let hindrance = hindrance.map(Into::into);
        let hindrance = Hindrance { ordinary: hindrance, urgent: hindrance };
        let source = Source::User(user.clone());
        let said = Identity::of_user(&invite);
        let mut admitted = self.route(now, next, &source, &sent_on.device, &invite, said);
        self.hold(now, &source, &mut admitted, hindrance);
        // Whatever a rule makes of the number.
        if admitted.emergency.take().is_some() {
            admitted.plan = Plan::Refused { cause: EndCause::Blocked, status: None };
        }
        if let Some(cause) = self.refusal(&admitted.plan, admitted.callee_user.as_ref(), &passed) {
            admitted.plan = Plan::Refused { cause, status: None };
        }
        let shown: Option<E164> = calling.parse().ok();
        if let Plan::Trunks(candidates) = &mut admitted.plan {
            // Whoever waits must not reach by this what it may not call.
            candidates.retain(|candidate| waiting.party.may_meet(&Party::Trunk(candidate.trunk.clone())));
            for candidate in candidates.iter_mut() {
                // A dialplan rule that chose another number than the user's has had the last word.
                let is_own = candidate.calling == candidate.network.as_deref().unwrap_or(ANONYMOUS);
                if candidate.trunk.config.diversion && is_own {
                    let format = candidate.trunk.config.calling_format;
                    let number = shown.as_ref().map(|number| self.core.numbers.format(number, format));
                    candidate.calling = number.unwrap_or_else(|| ANONYMOUS.to_owned());
                }
            }
            if candidates.is_empty() {
                admitted.plan = Plan::Refused { cause: EndCause::Blocked, status: None };
            }
        }
        if matches!(admitted.plan, Plan::Refused { .. }) && self.calls.get(&id)?.rings_on() {
            // A phone that forwards to nowhere does not keep the others from ringing.
            return None;
        }
        let to = admitted.number.clone().or_else(|| self.number_of(admitted.callee_user.as_deref()?));
        let mut forwarding: Forwarding = history;
        forwarding.diverted(own, to, sent_on.status, sent_on.why);
        let call = self.calls.get(&id)?;
        admitted.provenance = call.provenance.sent_on(&user, admitted.provenance.network.clone());
        admitted.attestation = call.attestation();
        admitted.identity = identity.sent_on(forwarding);
        admitted.calling = calling;
        admitted.transfer_of = Some(waiting.call);
        admitted.beside = Some(waiting.call);
        admitted.forward = Some(Box::new(Forward::of(id, passed)));
        let caller = self.paying_leg(next, &user, &sent_on.device, waiting.media);
        Some((waiting.call, Call::open(&mut self.core, now, admitted, caller, waiting.offer)))
    }

    /// Why a call may not go on to where it would, though its user could call there.
    fn refusal(&self, plan: &Plan, callee: Option<&Arc<str>>, passed: &[Arc<str>]) -> Option<EndCause> {
        match (plan, self.core.settings.app.forward) {
            (Plan::Devices(_), Transfer::Users | Transfer::All) => {
                callee.is_some_and(|user| passed.contains(user)).then_some(EndCause::LoopDetected)
            }
            (Plan::Trunks(_), Transfer::All) | (Plan::Refused { .. }, _) => None,
            // A line tests the one who calls it.
            (Plan::Line(_) | Plan::TakesOver { .. }, _)
            | (Plan::Trunks(_), Transfer::Off | Transfer::Users)
            | (Plan::Devices(_), Transfer::Off) => Some(EndCause::Blocked),
        }
    }

    /// Who hears the callee of a call: its caller, or the one whom another call left to it.
    fn waiting(&self, id: CallId) -> Option<Waiting> {
        let call = self.calls.get(&id)?;
        let own = |call: &Call, leg: &Leg, offer: Option<&Session>| Waiting {
            call: call.id,
            party: leg.party.clone(),
            media: leg.media.policy.clone(),
            offer: offer.cloned(),
        };
        let Some(first) = call.is_for() else { return Some(own(call, &call.caller, call.offer())) };
        let first = self.calls.get(&first).filter(|first| first.waits_for(id))?;
        match first.transfer {
            Some(_) => Some(own(first, first.leg(first.transferred()?.index)?, None)),
            None => Some(own(first, &first.caller, first.offer())),
        }
    }

    fn number_of(&self, user: &str) -> Option<E164> {
        let user: &User = self.directory.get(user)?;
        user.dids.first().or(user.caller_ids.first()).cloned()
    }

    /// The leg of a caller that only pays: who speaks has its dialog in the call that waits.
    fn paying_leg(&mut self, call: CallId, user: &User, peer: &Peer, media: MediaPolicy) -> Leg {
        let names = (self.core.token(), self.core.token());
        let (id, party) = (LegId { call, index: 0 }, Party::User { name: user.name.clone() });
        Leg::new(id, party, peer.clone(), LegState::Gone, names, LegMedia::new(media))
    }
}
