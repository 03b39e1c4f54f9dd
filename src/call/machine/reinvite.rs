//! Offers inside a running call: hold, resume, and two of them at once (RFC 3261 §14, RFC 3264 §8).
//!
//! What one far end allows is what the other one is told: each leg knows what its far end lets us do
//! ([`LegMedia::allowed`](crate::call::leg::media::LegMedia)) and what that far end was told of the other side
//! (`told`). Whenever the two differ and the leg is free, a re-INVITE goes out.

use super::dialog::{offer_in, reply, reply_later, reply_unacceptable};
use super::session_timer::reply_too_small;
use super::{Asked, Call, Callee, Stage};
use crate::call::core::{Core, Purpose};
use crate::call::event::Output;
use crate::call::leg::{Leg, LegState, Modification, Party, Reinvited, credentials_of};
use crate::sdp::Refusal;
use crate::sip::answer_retransmit::AnswerRetransmit;
use crate::sip::header_rules::Kind;
use crate::sip::message::{HeaderName, Method, Request, Response, Typed};
use crate::sip::session_timer;
use crate::sip::transaction::ClientKey;
use crate::types::{MediaDirection, Now};
use std::time::Duration;

/// How long a far end may put a change off: as long as RFC 3261 §14.2 lets it ask for. Meanwhile no other one goes out.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

impl Call {
    /// The far end of a leg changes its session.
    pub(super) fn on_reinvite(&mut self, core: &mut Core, now: Now, index: u8, asked: Asked) {
        let Some(direction) = self.wanted_direction(index) else {
            reply(core, now, &asked, 481);
            return;
        };
        let Some(leg) = self.leg_mut(index).filter(|leg| leg.is_established()) else {
            reply(core, now, &asked, 481);
            return;
        };
        if matches!(leg.modification, Modification::Pending { .. }) {
            // Ours is on its way: glare (RFC 3261 §14.2).
            reply(core, now, &asked, 491);
            return;
        }
        if leg.reinvite.is_some() || matches!(leg.state, LegState::Accepted { .. }) {
            // RFC 3261 §14.2: the previous one is not finished.
            reply_later(core, now, &asked);
            return;
        }
        let timer = match session_timer::answer(&asked.request, leg.session.wishes()) {
            Ok(timer) => timer,
            Err(small) => {
                reply_too_small(core, now, &asked, small);
                return;
            }
        };
        let address = leg.peer.local.ip();
        let offered = asked.request.body.is_empty();
        let description = if offered {
            // An INVITE without offer asks for ours (RFC 3261 §14.2).
            leg.media.offer(address, 0, direction, core.randomness()).ok_or(Refusal::NoAudio)
        } else {
            offer_in(&asked.request)
                .and_then(|offer| leg.media.answer(address, 0, &offer, direction, core.randomness()))
        };
        let description = match description {
            Ok(description) => description,
            Err(refusal) => {
                reply_unacceptable(core, now, &asked, refusal);
                return;
            }
        };
        if let Some(dialog) = leg.dialog.as_mut() {
            dialog.refresh_target(&asked.request);
        }
        if let Party::User { .. } = &leg.party {
            // A device sits behind NAT: it is reached where it last spoke from, whatever its Contact says.
            leg.peer = asked.peer;
        }
        let mut answer = Response::to_request(&asked.request, 200);
        answer.headers.push(HeaderName::Contact, Leg::contact(&leg.peer, None));
        leg.capabilities(&core.settings).tell(&mut answer.headers);
        leg.session.grant(now, &asked.request, timer, &mut answer.headers);
        let mut answer = answer.with_body("application/sdp", description);
        leg.dress(Kind::Response(200), &mut answer.headers);
        core.sign(&mut answer);
        core.respond(now, asked.key, &Method::Invite, answer.clone());
        leg.reinvite = Some(Box::new(Reinvited {
            server: asked.key,
            cseq: asked.request.cseq().ok().map(|cseq| cseq.number),
            offered,
            response: Box::new(answer),
            retransmit: AnswerRetransmit::new(now.instant, &core.timers),
        }));
        if !offered {
            leg.configure_media(core);
            self.supervise_media(core);
            self.tell_directions(core, now);
        }
    }

    /// The ACK of a re-INVITE that we answered; it brings the answer where the offer was ours.
    pub(super) fn on_reinvite_ack(
        &mut self,
        core: &mut Core,
        now: Now,
        index: u8,
        cseq: Option<u32>,
        ack: &Request,
    ) {
        let Some(leg) = self.leg_mut(index) else { return };
        let Some(pending) = leg.reinvite.take_if(|pending| pending.cseq == cseq) else { return };
        if pending.offered {
            // Without a usable answer the old session goes on.
            let new = ack.sdp().and_then(|answer| leg.media.accept(&answer).ok());
            if new == Some(true) {
                leg.configure_media(core);
            }
            self.supervise_media(core);
        }
        self.tell_directions(core, now);
    }

    /// One side of the conversation holds. What a leg that is over agreed last says nothing any more: a transferor held
    /// before it left, and a trunk that failed may have announced something in one direction.
    pub(super) fn is_held(&self) -> bool {
        self.legs().any(|leg| leg.is_established() && leg.media.is_held())
    }

    /// While one side holds, the silence of either is no failure.
    pub(super) fn supervise_media(&self, core: &mut Core) {
        let held = self.is_held();
        let after = core.settings.media.timeout.filter(|_| !held);
        for leg in self.legs().filter(|leg| leg.is_established() && leg.media.negotiated.is_some()) {
            core.emit(Output::SetMediaTimeout { leg: leg.id, after });
            core.emit(Output::SetConversation { leg: leg.id, on: !held });
        }
    }

    /// What a leg of a conversation is to be told: what the far end of the other leg allows, seen from here.
    pub(super) fn wanted_direction(&self, index: u8) -> Option<MediaDirection> {
        let Stage::Talking { callee, .. } = self.stage else { return None };
        if self.joined.is_some() {
            return self.direction_from_partner(index);
        }
        let other = match callee {
            Callee::Leg(callee) if index == 0 => callee,
            Callee::Leg(callee) if index == callee => 0,
            // A line takes whatever comes.
            Callee::Line(_) if index == 0 => return Some(MediaDirection::SendRecv),
            Callee::Leg(_) | Callee::Line(_) | Callee::Elsewhere => return None,
        };
        self.leg(other).map(|leg| leg.media.allowed.reversed())
    }

    /// Tells each side that the other one holds or is back, where it does not know yet and can be told now. What can't
    /// be told now is told when the exchange that is in the way is over.
    pub(super) fn tell_directions(&mut self, core: &mut Core, now: Now) {
        let Stage::Talking { callee, .. } = self.stage else { return };
        for index in std::iter::once(0).chain(callee.leg()) {
            let Some(direction) = self.wanted_direction(index) else { continue };
            let Some(leg) = self.leg_mut(index) else { continue };
            let free = matches!(leg.state, LegState::Established)
                && matches!(leg.modification, Modification::None)
                && leg.reinvite.is_none();
            if free && leg.media.told != direction {
                send_reinvite(leg, core, now, Some(direction));
            }
        }
        self.tell_partner();
    }

    pub(super) fn on_reinvite_response(&mut self, core: &mut Core, now: Now, index: u8, answer: Response) {
        let direction = self.wanted_direction(index);
        let Some(leg) = self.leg_mut(index) else { return };
        if answer.status < 200 {
            return;
        }
        if !matches!(leg.modification, Modification::Pending { .. }) {
            // A repeated 2xx: its ACK was lost.
            if let (true, Some((_, ack))) = (answer.status < 300, leg.reinvite_ack.as_deref()) {
                core.send_ack(now, leg.next_hop(), ack.clone());
            }
            return;
        }
        let pending = std::mem::replace(&mut leg.modification, Modification::None);
        let Modification::Pending { client, credentials, before, described, refresh } = pending else {
            return;
        };
        if !leg.is_established() {
            // It crossed our BYE, which ends the dialog all the same (RFC 3261 §13.2.2.4).
            if answer.status < 300 {
                acknowledge(leg, core, now, client, credentials, &answer);
            }
            return;
        }
        let told = leg.media.told;
        if answer.status >= 300 {
            leg.media.take_back(before, described);
        }
        let pause = pause_after(core, index, &answer).filter(|_| leg.again.allows(&Method::Invite));
        if let Some(pause) = pause {
            leg.modification = Modification::RetryAt { at: now.instant + pause };
            if refresh {
                leg.session.postpone(now);
            }
            return;
        }
        match answer.status {
            200..=299 => {
                let new = answer.sdp().and_then(|description| leg.media.accept(&description).ok());
                if new == Some(true) {
                    leg.configure_media(core);
                }
                leg.session.granted(now, &answer);
                acknowledge(leg, core, now, client, credentials, &answer);
                self.supervise_media(core);
                self.tell_directions(core, now);
            }
            // RFC 4028 §7.3: the same again with what it can bear.
            401 | 407 | 422
                if leg.meets(&Method::Invite, &answer) || leg.meets_interval(&Method::Invite, &answer) =>
            {
                send_reinvite(leg, core, now, direction.filter(|_| !refresh));
            }
            408 if refresh => self.expire(core, now),
            408 | 481 => self.lose_dialog(core, now, index),
            // Refused: this side just is not told what the other one does.
            _ => {
                leg.media.told = told;
                if refresh {
                    leg.session.postpone(now);
                }
                self.tell_directions(core, now);
            }
        }
    }

    /// Sends the re-INVITEs that had to wait after a 491, with what is true by now.
    pub(super) fn retry_reinvites(&mut self, core: &mut Core, now: Now) {
        for leg in std::iter::once(&mut self.caller).chain(self.callees.iter_mut()) {
            if matches!(leg.modification, Modification::RetryAt { at } if at <= now.instant) {
                leg.modification = Modification::None;
            }
        }
        self.tell_directions(core, now);
    }
}

/// Acknowledges the 2xx to our re-INVITE.
fn acknowledge(
    leg: &mut Leg,
    core: &mut Core,
    now: Now,
    client: ClientKey,
    credentials: Vec<(HeaderName, String)>,
    answer: &Response,
) {
    let (Some(dialog), Ok(cseq)) = (leg.dialog.as_mut(), answer.cseq()) else { return };
    dialog.refresh_target(answer);
    let mut ack = dialog.ack(cseq.number);
    for (name, value) in credentials {
        ack.headers.push(name, value);
    }
    core.send_ack(now, leg.next_hop(), ack.clone());
    leg.reinvite_ack = Some(Box::new((client, ack)));
}

/// How long a change that was refused for now waits until it is tried again; `None` where it was refused for good.
fn pause_after(core: &mut Core, index: u8, answer: &Response) -> Option<Duration> {
    match answer.status {
        491 => {
            // RFC 3261 §14.1: the owner of the Call-ID waits 2.1 to 4 s, the other 0 to 2 s, in steps of 10 ms.
            let random = u64::from(core.octets::<1>()[0]);
            let owns_call_id = index != 0;
            let steps = if owns_call_id { 210 + random * 190 / 255 } else { random * 200 / 255 };
            Some(Duration::from_millis(steps * 10))
        }
        // RFC 3261 §14.2: it is not done with another exchange, or has no room for this one now.
        500 | 503 => Some(Duration::from_secs(answer.retry_after()?.into()).min(LONGEST_PAUSE)),
        _ => None,
    }
}

/// Sends a re-INVITE: with a new direction, or without one to show that the session lives. That one repeats what was
/// said last, word for word (RFC 4028 §7.4).
pub(super) fn send_reinvite(leg: &mut Leg, core: &mut Core, now: Now, direction: Option<MediaDirection>) {
    let (address, before, described) = (leg.peer.local.ip(), leg.media.told, leg.media.described());
    let offer = match direction {
        Some(direction) => leg.media.offer(address, 0, direction, core.randomness()),
        None => described.clone(),
    };
    let Some(offer) = offer else { return };
    let Some(dialog) = leg.dialog.as_mut() else { return };
    let mut request = dialog.request(Method::Invite, None);
    request.headers.set(HeaderName::Contact, Leg::contact(&leg.peer, None));
    leg.capabilities(&core.settings).tell(&mut request.headers);
    leg.session.ask(&mut request.headers);
    request.headers.push(HeaderName::ContentType, "application/sdp");
    request.body = offer.into();
    leg.authorize(core, &mut request);
    let credentials = credentials_of(&request);
    let client = leg.send(core, now, Purpose::Reinvite, leg.next_hop(), request);
    if let Some(answered) = leg.reinvite_ack.take() {
        core.forget_client(answered.0);
    }
    let refresh = direction.is_none();
    leg.modification = Modification::Pending { client, credentials, before, described, refresh };
}
