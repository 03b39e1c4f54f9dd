//! The moment somebody answers: first the record, then the ACK, the voice, and the caller's 200.

use super::record::AttemptEnd;
use super::{Call, Stage};
use crate::call::core::{ALLOW, Core, Owner, Purpose, response};
use crate::call::event::{Event, RecordStep};
use crate::call::leg::{self, Leg, LegState, Party};
use crate::call::trunks::Trunks;
use crate::sdp::AnswerError;
use crate::sip::answer_retransmit::{AnswerRetransmit, AnswerStep};
use crate::sip::dialog::Dialog;
use crate::sip::message::{HeaderName, Method, Request, Response, Typed};
use crate::types::{EndCause, LegId, Now, ReleasedBy};

impl Call {
    /// A 2xx to a callee's INVITE: the first one wins, every other is acknowledged and hung up.
    pub(super) fn on_answer(
        &mut self,
        core: &mut Core,
        trunks: &mut Trunks,
        now: Now,
        position: usize,
        answer: Response,
    ) {
        if self.is_repeated_answer(core, now, position, &answer) {
            return;
        }
        let leg = &mut self.callees[position];
        if !matches!(leg.state, LegState::Inviting { .. } | LegState::Cancelling) {
            return;
        }
        let wins =
            matches!(self.stage, Stage::Hunting { .. }) && matches!(leg.state, LegState::Inviting { .. });
        if let Some(attempt) = leg.attempt.as_mut() {
            attempt.answered = Some(now);
        }
        if !wins {
            // It lost against a CANCEL or another device: RFC 3261 §13.2.2.4 has it acknowledged and released.
            leg.state = LegState::AnswerHeld { response: Box::new(answer) };
            let elsewhere = self.winner.is_some_and(|winner| winner != leg.id.index);
            let why =
                if elsewhere { leg::answered_elsewhere() } else { leg::reason(EndCause::CallerCancelled) };
            leg.release(core, now, &why);
            leg.close_media(core);
            self.end_attempt(
                core,
                now,
                position,
                AttemptEnd { status: 200, cause: EndCause::CallerCancelled },
            );
            return;
        }
        let agreed = match answer.sdp() {
            Some(description) => leg.media.accept(&description),
            // Some peers put the answer into the 183 only.
            None if leg.media.negotiated.is_some() => Ok(false),
            None => Err(AnswerError::NoAudio),
        };
        if let Some(auth) = leg.auth.as_mut() {
            auth.succeeded();
        }
        leg.state = LegState::AnswerHeld { response: Box::new(answer) };
        let winner = leg.id.index;
        let Ok(new) = agreed else {
            // Whoever answered has been rung: no other trunk may ring the number again.
            leg.release(core, now, &leg::reason(EndCause::NotAcceptable));
            self.close(core, now, EndCause::FarEndFailure, ReleasedBy::Gateway, None);
            return;
        };
        if new {
            leg.configure_media(core);
        }
        self.winner = Some(winner);
        self.release_losers(core, now, winner);
        self.ringing.get_or_insert(now);
        self.answered = Some(now);
        self.stage = Stage::Answering { winner, cancelled: false };
        if let Some((trunk, attempt)) =
            self.callees[position].party.trunk_name().zip(self.callees[position].attempt.as_mut())
        {
            if !std::mem::replace(&mut attempt.progressed, true) {
                let after = now.instant - attempt.started.instant;
                core.event(Event::TrunkProgress { trunk, after });
            }
        }
        if let Some(trunk) = self.callees[position].party.trunk_name() {
            trunks.succeeded(now, &trunk);
        }
        self.record_answer(core, now);
    }

    /// Repeats the ACK for a repeated 2xx; releases the dialog of a second fork of the same INVITE.
    fn is_repeated_answer(&mut self, core: &mut Core, now: Now, position: usize, answer: &Response) -> bool {
        let leg = &mut self.callees[position];
        let Some(ack) = leg.ack.clone() else { return false };
        let same = leg.dialog.as_ref().map(|dialog| dialog.remote_tag.as_str()) == answer.to_tag();
        if same {
            core.send_ack(now, leg.next_hop(), ack);
        } else {
            refuse_answer(leg, core, now, answer);
        }
        true
    }

    fn release_losers(&mut self, core: &mut Core, now: Now, winner: u8) {
        for position in 0..self.callees.len() {
            let leg = &mut self.callees[position];
            if leg.id.index != winner && !leg.is_gone() {
                leg.release(core, now, &leg::answered_elsewhere());
                leg.close_media(core);
                self.end_attempt(
                    core,
                    now,
                    position,
                    AttemptEnd { status: 487, cause: EndCause::CallerCancelled },
                );
            }
        }
    }

    /// The answer is on disk: now everybody may know.
    pub(super) fn answer_durable(&mut self, core: &mut Core, now: Now) {
        let Stage::Answering { winner, cancelled } = self.stage else { return };
        let Some(position) = self.callee_position(winner) else { return };
        let leg = &mut self.callees[position];
        let LegState::AnswerHeld { response: answer } =
            std::mem::replace(&mut leg.state, LegState::Established)
        else {
            return;
        };
        leg.acknowledge(core, now, &answer);
        self.stage = Stage::Talking {
            callee: winner,
            ends_at: now.instant + self.longest(core),
            interim_at: now.instant + core.settings.billing.interim,
        };
        if !self.accept_caller(core, now, position) {
            self.close(core, now, EndCause::NotAcceptable, ReleasedBy::Gateway, None);
            return;
        }
        self.supervise_media(core);
        let trunk = self.trunk_name();
        core.event(Event::CallAnswered { call: self.id, trunk, direction: self.direction });
        if cancelled {
            self.close(core, now, EndCause::NormalClearing, ReleasedBy::Caller, None);
        }
    }

    /// The longest this call may last: the shortest of what its trunks and the gateway allow.
    fn longest(&self, core: &Core) -> std::time::Duration {
        let trunk = |leg: &Leg| match &leg.party {
            Party::Trunk(trunk) => Some(trunk.max_duration),
            Party::User { .. } => None,
        };
        self.callee()
            .and_then(trunk)
            .into_iter()
            .chain(trunk(&self.caller))
            .min()
            .unwrap_or(core.settings.limits.max_duration)
    }

    /// Sends the caller its 200, with our answer, or with our offer where its INVITE had none. False where its offer
    /// can't be answered.
    fn accept_caller(&mut self, core: &mut Core, now: Now, position: usize) -> bool {
        if self.offer.is_some() {
            if !self.answer_caller_media(core, position) {
                return false;
            }
        } else {
            let session_id = u64::from_be_bytes(core.octets::<8>()) >> 2;
            let direction = self.callees[position].media.allowed.reversed();
            let address = self.caller.peer.local.ip();
            self.caller.media.offer(address, session_id, direction, core.randomness());
        }
        let LegState::Incoming { server, request } = &self.caller.state else { return false };
        let server = *server;
        let mut accepted = response(request, 200, &self.caller.local_tag);
        accepted.headers.push(HeaderName::Contact, Leg::contact(&self.caller.peer, None));
        accepted.headers.push(HeaderName::Allow, ALLOW);
        if let Some(description) = self.caller.media.described.clone() {
            accepted = accepted.with_body("application/sdp", description);
        }
        self.caller.dialog = Dialog::uas(request, &self.caller.local_tag).ok();
        core.sign(&mut accepted);
        core.respond(now, server, &Method::Invite, accepted.clone());
        self.caller.state = LegState::Accepted {
            server,
            response: Box::new(accepted),
            retransmit: AnswerRetransmit::new(now.instant, &core.timers),
            then_bye: false,
        };
        true
    }

    /// The caller's ACK of our 200.
    pub(super) fn on_caller_ack(&mut self, core: &mut Core, now: Now, ack: &Request) {
        let LegState::Accepted { server, then_bye, .. } = &self.caller.state else { return };
        let (server, then_bye) = (*server, *then_bye);
        core.forget_invite(server);
        self.caller.state = LegState::Established;
        if then_bye {
            let cause = self.end_cause().unwrap_or(EndCause::NormalClearing);
            self.caller.send_bye(core, now, &leg::reason(cause));
            return;
        }
        let Stage::Talking { callee, .. } = self.stage else { return };
        if self.offer.is_none() {
            // The INVITE had no offer, so this ACK must carry the answer (RFC 3261 §13.2.1).
            let agreed = ack.sdp().is_some_and(|answer| self.caller.media.accept(&answer).is_ok());
            if !agreed {
                self.close(core, now, EndCause::NotAcceptable, ReleasedBy::Gateway, None);
                return;
            }
            self.caller.configure_media(core);
            self.bridge(core, LegId { call: self.id, index: callee });
            self.supervise_media(core);
        }
        self.tell_directions(core, now);
    }

    /// Repeats unacknowledged 2xx answers; gives up where the ACK never comes.
    pub(super) fn repeat_answers(&mut self, core: &mut Core, now: Now) {
        if let LegState::Accepted { server, response, retransmit, then_bye } = &mut self.caller.state {
            match retransmit.handle_timeout(now.instant) {
                AnswerStep::Wait => {}
                AnswerStep::Repeat => {
                    core.repeat(now, *server, response);
                }
                AnswerStep::GiveUp => {
                    // RFC 3261 §13.3.1.4: without an ACK the session ends with a BYE.
                    let (server, then_bye) = (*server, *then_bye);
                    core.forget_invite(server);
                    self.caller.state = LegState::Established;
                    if then_bye {
                        self.caller.send_bye(core, now, &leg::reason(EndCause::NoAck));
                    } else {
                        self.close(core, now, EndCause::NoAck, ReleasedBy::Gateway, None);
                    }
                }
            }
        }
        let mut unanswered = false;
        for leg in std::iter::once(&mut self.caller).chain(self.callees.iter_mut()) {
            let Some(pending) = &mut leg.reinvite else { continue };
            match pending.retransmit.handle_timeout(now.instant) {
                AnswerStep::Wait => {}
                AnswerStep::Repeat => {
                    core.repeat(now, pending.server, &pending.response);
                }
                AnswerStep::GiveUp => {
                    leg.reinvite = None;
                    unanswered = true;
                }
            }
        }
        if unanswered {
            self.close(core, now, EndCause::NoAck, ReleasedBy::Gateway, None);
        }
    }

    /// Notes that the answer record is to be written and waited for.
    fn record_answer(&mut self, core: &mut Core, now: Now) {
        self.write_record(core, now, Some(RecordStep::Answer));
    }
}

/// A 2xx of a second fork of the same INVITE: acknowledged and hung up at once (RFC 3261 §13.2.2.4).
fn refuse_answer(leg: &Leg, core: &mut Core, now: Now, answer: &Response) {
    let Some((_, invite)) = &leg.invite else { return };
    let (Ok(mut stray), Ok(cseq)) = (Dialog::uac(invite, answer), invite.cseq()) else { return };
    core.send_ack(now, leg.peer.clone(), stray.ack(cseq.number));
    let bye = stray.request(Method::Bye, None);
    let owner = Owner::Leg { leg: leg.id, purpose: Purpose::Stray };
    core.send(now, owner, leg.peer.clone(), bye);
}
