//! Offers inside a running call: hold, resume, and two of them at once (RFC 3261 §14, RFC 3264 §8).

use super::dialog::reply;
use super::{Asked, Call, Stage};
use crate::call::core::{ALLOW, Core, Owner, Purpose};
use crate::call::leg::{Leg, LegState, Modification, Reinvited};
use crate::sdp::Session;
use crate::sip::answer_retransmit::AnswerRetransmit;
use crate::sip::message::{HeaderName, Method, Response, Typed};
use crate::types::{MediaDirection, Now};
use std::time::Duration;

impl Call {
    /// The far end of a leg changes its session.
    pub(super) fn on_reinvite(&mut self, core: &mut Core, now: Now, index: u8, asked: Asked) {
        let talking = matches!(self.stage, Stage::Talking { .. });
        let Some(leg) = self.leg_mut(index) else { return };
        if !talking || !leg.is_established() {
            reply(core, now, &asked, 481);
            return;
        }
        if matches!(leg.modification, Modification::Pending { .. }) {
            // Ours is on its way: glare (RFC 3261 §14.2).
            reply(core, now, &asked, 491);
            return;
        }
        if leg.reinvite.is_some() || matches!(leg.state, LegState::Accepted { .. }) {
            // RFC 3261 §14.2: the previous one is not finished.
            let mut answer = Response::to_request(&asked.request, 500);
            let seconds = core.octets::<1>()[0] % 10;
            answer.headers.push(HeaderName::RetryAfter, seconds.to_string());
            core.respond(now, asked.key, &Method::Invite, answer);
            return;
        }
        if let Some(dialog) = leg.dialog.as_mut() {
            dialog.refresh_target(&asked.request);
        }
        let session_id = u64::from_be_bytes(core.octets::<8>()) >> 2;
        let address = leg.peer.local.ip();
        let before = leg.media.negotiated.as_ref().map(|agreed| agreed.direction);
        let description = if asked.request.body.is_empty() {
            // An INVITE without offer asks for ours (RFC 3261 §14.2).
            let direction = before.unwrap_or(MediaDirection::SendRecv);
            leg.media.offer(address, session_id, direction, core.randomness())
        } else {
            Session::parse(&asked.request.body)
                .ok()
                .and_then(|offer| leg.media.answer(address, session_id, &offer, core.randomness()).ok())
        };
        let Some(description) = description else {
            // The old session goes on untouched (RFC 3261 §14.2).
            reply(core, now, &asked, 488);
            return;
        };
        let mut answer = Response::to_request(&asked.request, 200);
        answer.headers.push(HeaderName::Contact, Leg::contact(&leg.peer, None));
        answer.headers.push(HeaderName::Allow, ALLOW);
        let mut answer = answer.with_body("application/sdp", description);
        core.sign(&mut answer);
        core.respond(now, asked.key, &Method::Invite, answer.clone());
        leg.reinvite = Some(Reinvited {
            server: asked.key,
            cseq: asked.request.cseq().ok().map(|cseq| cseq.number),
            response: Box::new(answer),
            retransmit: AnswerRetransmit::new(now.instant, &core.timers),
        });
        leg.configure_media(core, core.settings.media.timeout);
        let after = leg.media.negotiated.as_ref().map(|agreed| agreed.direction);
        self.supervise_media(core);
        if before != after {
            if let Some(direction) = after {
                self.mirror_direction(core, now, index, direction);
            }
        }
    }

    /// While one side holds, the silence of either is no failure.
    fn supervise_media(&self, core: &mut Core) {
        let held = self.legs().any(|leg| leg.media.is_held());
        let after = core.settings.media.timeout.filter(|_| !held);
        for leg in self.legs().filter(|leg| leg.is_established()) {
            core.emit(crate::call::event::Output::SetMediaTimeout { leg: leg.id, after });
        }
    }

    /// Tells the other side that this one holds or is back, so that it can say so to its user.
    fn mirror_direction(&mut self, core: &mut Core, now: Now, held_index: u8, direction: MediaDirection) {
        let Stage::Talking { callee, .. } = self.stage else { return };
        let other = if held_index == 0 { callee } else { 0 };
        let Some(leg) = self.leg_mut(other) else { return };
        send_reinvite(leg, core, now, direction.reversed());
    }

    pub(super) fn on_reinvite_response(&mut self, core: &mut Core, now: Now, index: u8, answer: Response) {
        let timeout = core.settings.media.timeout;
        let Some(leg) = self.leg_mut(index) else { return };
        if answer.status < 200 {
            return;
        }
        if answer.status < 300 {
            if matches!(leg.modification, Modification::Pending { .. }) {
                leg.modification = Modification::None;
                if let Ok(description) = Session::parse(&answer.body) {
                    if leg.media.accept(&description).is_ok() {
                        leg.configure_media(core, timeout);
                    }
                }
            }
            if let (Some(dialog), Ok(cseq)) = (leg.dialog.as_mut(), answer.cseq()) {
                dialog.refresh_target(&answer);
                let ack = dialog.ack(cseq.number);
                core.send_ack(now, leg.next_hop(), ack);
            }
            self.supervise_media(core);
            return;
        }
        let was_pending = matches!(leg.modification, Modification::Pending { .. });
        leg.modification = Modification::None;
        match answer.status {
            491 if was_pending => {
                // RFC 3261 §14.1: the owner of the Call-ID waits 2.1 to 4 s, the other 0 to 2 s.
                let random = u64::from(core.octets::<1>()[0]);
                let owns_call_id = index != 0;
                let wait = if owns_call_id { 2_100 + random * 190 / 25 } else { random * 2_000 / 255 };
                leg.modification = Modification::RetryAt { at: now.instant + Duration::from_millis(wait) };
            }
            408 | 481 => self.lose_dialog(core, now, index),
            // Refused: the other side just is not told that it is held.
            _ => {}
        }
    }

    /// Sends the re-INVITEs that had to wait after a 491, with what is true by now.
    pub(super) fn retry_reinvites(&mut self, core: &mut Core, now: Now) {
        let Stage::Talking { callee, .. } = self.stage else { return };
        for (index, other) in [(0, callee), (callee, 0)] {
            let due = self.leg(index).is_some_and(
                |leg| matches!(leg.modification, Modification::RetryAt { at } if at <= now.instant),
            );
            if !due {
                continue;
            }
            let direction = self
                .leg(other)
                .and_then(|leg| leg.media.negotiated.as_ref())
                .map_or(MediaDirection::SendRecv, |agreed| agreed.direction);
            if let Some(leg) = self.leg_mut(index) {
                leg.modification = Modification::None;
                send_reinvite(leg, core, now, direction.reversed());
            }
        }
    }
}

fn send_reinvite(leg: &mut Leg, core: &mut Core, now: Now, direction: MediaDirection) {
    let free = matches!(leg.modification, Modification::None) && leg.reinvite.is_none();
    if !matches!(leg.state, LegState::Established) || !free {
        return;
    }
    let address = leg.peer.local.ip();
    let Some(offer) = leg.media.offer(address, 0, direction, core.randomness()) else { return };
    let Some(dialog) = leg.dialog.as_mut() else { return };
    let mut request = dialog.request(Method::Invite, None);
    request.headers.set(HeaderName::Contact, Leg::contact(&leg.peer, None));
    request.headers.push(HeaderName::Allow, ALLOW);
    request.headers.push(HeaderName::ContentType, "application/sdp");
    request.body = offer.into();
    leg.authorize(core, &mut request);
    let owner = Owner::Leg { leg: leg.id, purpose: Purpose::Reinvite };
    let client = core.send(now, owner, leg.next_hop(), request);
    leg.modification = Modification::Pending { client };
}
