//! The moment somebody answers: first the record, then the ACK, the voice, and the caller's 200.

use super::record::AttemptEnd;
use super::{Call, Callee, Note, Plan, Stage};
use crate::call::core::{Core, Purpose, response};
use crate::call::event::{Event, RecordStep};
use crate::call::leg::progress::Described;
use crate::call::leg::{self, Leg, LegState, Party};
use crate::call::trunks::Trunks;
use crate::sip::answer_retransmit::{AnswerRetransmit, AnswerStep};
use crate::sip::dialog::Dialog;
use crate::sip::header_rules::Kind;
use crate::sip::message::{HeaderName, Method, Request, Response, Typed};
use crate::sip::session_timer;
use crate::types::{EndCause, LegId, Now, ReleasedBy};
use std::collections::VecDeque;

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
        self.note_life(trunks, now, position);
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
        self.note_connected(core, position, &answer);
        let leg = &mut self.callees[position];
        let agreed = leg.turn_to(answer.to_tag().unwrap_or_default(), answer.sdp());
        // Who names no place to ask it could not be hung up on later: that would be a call without an end.
        let named = Dialog::can_follow(&answer);
        leg.state = LegState::AnswerHeld { response: Box::new(answer) };
        let winner = leg.id.index;
        let Some(new) = agreed.ok().filter(|_| named) else {
            let why = if named { EndCause::NotAcceptable } else { EndCause::FarEndFailure };
            // Whoever answered has been rung: no other trunk may ring the number again.
            leg.release(core, now, &leg::reason(why));
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
        self.stage = Stage::Answering { callee: Callee::Leg(winner), cancelled: false };
        if let Some((trunk, attempt)) =
            self.callees[position].party.trunk_name().zip(self.callees[position].attempt.as_mut())
            && !std::mem::replace(&mut attempt.progressed, true)
        {
            let after = now.instant - attempt.started.instant;
            core.event(Event::TrunkProgress { trunk, after });
        }
        self.record_answer(core, now);
    }

    /// Repeats the ACK for a repeated 2xx; releases the dialog of a second fork of the same INVITE.
    fn is_repeated_answer(&mut self, core: &mut Core, now: Now, position: usize, answer: &Response) -> bool {
        let leg = &mut self.callees[position];
        if leg.ack.is_none() {
            return false;
        }
        let same = leg.dialog.as_ref().map(|dialog| dialog.remote_tag.as_str()) == answer.to_tag();
        if same {
            leg.send_ack(core, now);
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
        let Stage::Answering { callee, cancelled } = self.stage else { return };
        let winner = match callee {
            Callee::Leg(winner) => winner,
            Callee::Line(line) => return self.line_answered(core, now, line, cancelled),
            Callee::Elsewhere => return self.taken_over(core, now, cancelled),
        };
        let Some(position) = self.callee_position(winner) else { return };
        let leg = &mut self.callees[position];
        let LegState::AnswerHeld { response: answer } =
            std::mem::replace(&mut leg.state, LegState::Established)
        else {
            return;
        };
        leg.acknowledge(core, now, &answer);
        self.begin_talking(core, now, Callee::Leg(winner));
        if self.serves_transfer {
            let trunk = self.trunk_name();
            core.event(Event::CallAnswered { call: self.id, trunk, direction: self.direction });
            self.notes.push(Note::Answered);
            return;
        }
        if self.holds_answer(core, now, cancelled) {
            return;
        }
        self.let_caller_in(core, now);
        if cancelled {
            self.close(core, now, EndCause::NormalClearing, ReleasedBy::Caller, None);
        }
    }

    /// True where the caller's 200 waits for its PRACK (RFC 3262 §3).
    pub(super) fn holds_answer(&mut self, core: &mut Core, now: Now, cancelled: bool) -> bool {
        let Some(reliable) = self.caller.reliable.as_mut().filter(|reliable| reliable.holds_answer()) else {
            return false;
        };
        if cancelled {
            self.close(core, now, EndCause::NormalClearing, ReleasedBy::Caller, Some(487));
        } else {
            // What was to be told before is overtaken by the answer.
            reliable.queued = None;
            reliable.answer_waits = true;
        }
        true
    }

    pub(super) fn begin_talking(&mut self, core: &Core, now: Now, callee: Callee) {
        self.stage = Stage::Talking {
            callee,
            ends_at: now.instant + self.longest(core),
            interim_at: now.instant + core.settings.billing.interim,
        };
    }

    /// The caller gets its 200.
    pub(super) fn let_caller_in(&mut self, core: &mut Core, now: Now) {
        let Stage::Talking { callee, .. } = self.stage else { return };
        let position = callee.leg().and_then(|index| self.callee_position(index));
        if !self.accept_caller(core, now, position) {
            self.close(core, now, EndCause::NotAcceptable, ReleasedBy::Gateway, None);
            return;
        }
        self.stop_ringback(core);
        if self.caller.media.negotiated.is_some() {
            self.connect(core, callee);
        }
        self.supervise_media(core);
        let trunk = self.trunk_name();
        core.event(Event::CallAnswered { call: self.id, trunk, direction: self.direction });
        if callee == Callee::Elsewhere {
            self.notes.push(Note::TookOver);
        }
    }

    /// Lets a caller whose media is agreed hear the one it talks with.
    fn connect(&mut self, core: &mut Core, callee: Callee) {
        match callee {
            Callee::Leg(index) if self.joined.is_none() => {
                self.bridge(core, LegId { call: self.id, index });
            }
            Callee::Line(line) => self.serve(core, line),
            // A transfer has joined it with somebody, or is about to.
            Callee::Leg(_) | Callee::Elsewhere => {}
        }
    }

    /// The longest this call may last: the shortest of what its trunks, its test line and the gateway allow.
    pub(super) fn longest(&self, core: &Core) -> std::time::Duration {
        let trunk = |leg: &Leg| match &leg.party {
            Party::Trunk(trunk) => Some(trunk.max_duration),
            Party::User { .. } => None,
        };
        let parties = self.callee().and_then(trunk).into_iter().chain(trunk(&self.caller)).min();
        let longest = parties.unwrap_or(core.settings.limits.max_duration);
        match self.plan {
            Plan::Line(_) => longest.min(core.settings.lines.max_duration),
            Plan::Devices(_) | Plan::Trunks(_) | Plan::TakesOver { .. } | Plan::Refused { .. } => longest,
        }
    }

    /// Sends the caller its 200, with our answer, or with our offer where its INVITE had none. False where its offer
    /// can't be answered.
    fn accept_caller(&mut self, core: &mut Core, now: Now, position: Option<usize>) -> bool {
        if !self.delayed_offer {
            if !self.answer_caller_media(core, position) {
                return false;
            }
        } else if self.caller.media.negotiated.is_none() {
            self.offer_to_caller(core);
        }
        let LegState::Incoming { server, request } = &self.caller.state else { return false };
        let (server, told) = (*server, self.told_to_caller(core, request));
        self.connected = None;
        let leg = &mut self.caller;
        let LegState::Incoming { request, .. } = &leg.state else { return false };
        let mut accepted = response(request, 200, &leg.local_tag);
        accepted.headers.push(HeaderName::Contact, Leg::contact(&leg.peer, None));
        for (name, value) in told {
            accepted.headers.push(name, value);
        }
        leg.capabilities(&core.settings).tell(&mut accepted.headers);
        // Too small an interval was refused before anything rang.
        let timer = session_timer::answer(&**request, leg.session.wishes()).ok().flatten();
        leg.session.grant(now, request, timer, &mut accepted.headers);
        // What went out reliably is not said again (RFC 3261 §13.2.1).
        let said = leg.reliable.as_ref().is_some_and(|reliable| reliable.described != Described::No);
        if let Some(description) = leg.media.described().filter(|_| !said) {
            accepted = accepted.with_body("application/sdp", description);
        }
        if leg.dialog.is_none() {
            leg.dialog = Dialog::uas(request, &leg.local_tag).ok();
        }
        if let Some(reliable) = leg.reliable.as_mut() {
            reliable.stop();
        }
        leg.dress(Kind::Response(200), &mut accepted.headers);
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
        self.forget_search();
        if then_bye {
            let reason = self.far.value(self.end_cause().unwrap_or(EndCause::NormalClearing));
            self.caller.send_bye(core, now, &reason);
            return;
        }
        let Stage::Talking { callee, .. } = self.stage else { return };
        if self.delayed_offer && self.caller.media.negotiated.is_none() {
            // The INVITE had no offer, so this ACK must carry the answer (RFC 3261 §13.2.1).
            let agreed = ack.sdp().is_some_and(|answer| self.caller.media.accept(&answer).is_ok());
            if !agreed {
                self.close(core, now, EndCause::NotAcceptable, ReleasedBy::Gateway, None);
                return;
            }
            self.caller.configure_media(core);
            self.connect(core, callee);
            self.supervise_media(core);
        }
        self.tell_directions(core, now);
    }

    /// Both have each other: what was needed to get there is kept no longer than that.
    fn forget_search(&mut self) {
        self.offer = None;
        self.retry = None;
        match &mut self.plan {
            Plan::Devices(devices) => *devices = Vec::new(),
            Plan::Trunks(candidates) => *candidates = VecDeque::new(),
            Plan::TakesOver { .. } | Plan::Line(_) | Plan::Refused { .. } => {}
        }
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
    pub(super) fn record_answer(&mut self, core: &mut Core, now: Now) {
        self.write_record(core, now, Some(RecordStep::Answer));
    }
}

/// A 2xx of a second fork of the same INVITE: acknowledged and hung up at once (RFC 3261 §13.2.2.4).
fn refuse_answer(leg: &mut Leg, core: &mut Core, now: Now, answer: &Response) {
    // An early dialog has used numbers of its own already.
    let early = answer.to_tag().and_then(|tag| leg.early.take(tag)).map(|early| early.dialog);
    let stray = early.map_or_else(|| Dialog::of_answer(answer), Ok);
    let Ok(mut stray) = stray else { return };
    leg.send_ack_in(core, now, &stray, leg.peer.clone());
    let bye = stray.request(Method::Bye, None);
    leg.send_and_keep(core, now, Purpose::Stray, leg.peer.clone(), bye);
}
