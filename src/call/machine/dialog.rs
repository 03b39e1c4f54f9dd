//! Requests and responses inside the dialogs of a call.

use super::reason::{FarReason, warning};
use super::{Asked, Call, Parting, Stage};
use crate::call::core::{Core, Purpose, response, unsupported};
use crate::call::leg::{Leg, LegState, Modification};
use crate::call::trunks::Trunks;
use crate::sdp::{MediaKind, Refusal, Session};
use crate::sip::header_rules::Kind;
use crate::sip::message::{HeaderName, Method, Request, Response, Typed};
use crate::sip::transaction::ClientFailure;
use crate::types::{ConnectionId, EndCause, Fax, Now, ReleasedBy};
use std::time::Duration;

/// A change of the session that did not get out is tried again after the longest pause of RFC 3261 §14.1.
const RETRY: Duration = Duration::from_secs(4);

impl Call {
    /// A request inside the dialog of a leg; its sender is already known to be that leg's far end.
    pub fn on_request(&mut self, core: &mut Core, now: Now, index: u8, mut asked: Asked) {
        let Some(leg) = self.leg_mut(index) else { return };
        let tag = asked.request.from_tag().unwrap_or_default().to_owned();
        if let Some(dialog) = leg.dialog_with(&tag)
            && dialog.check_cseq(&asked.request).is_err()
        {
            // RFC 3261 §12.2.2: an older number than one already seen.
            reply(core, now, &asked, 500);
            return;
        }
        if let Some(unknown) = unsupported(&asked.request) {
            let answer = response(&asked.request, 420, "").with_header(HeaderName::Unsupported, unknown);
            core.respond(now, asked.key, &asked.request.method, answer);
            return;
        }
        self.read_request(index, &mut asked.request);
        self.note_fax(&asked.request);
        match &asked.request.method {
            Method::Bye => self.on_bye(core, now, index, asked),
            Method::Invite => self.on_reinvite(core, now, index, asked),
            Method::Prack => self.on_prack(core, now, index, asked),
            Method::Update => self.on_update(core, now, index, asked),
            Method::Options => {
                let mut answer = Response::to_request(&asked.request, 200);
                if let Some(leg) = self.leg(index) {
                    leg.capabilities(&core.settings).describe(&mut answer.headers);
                }
                core.respond(now, asked.key, &Method::Options, answer);
            }
            Method::Info => {
                // Key presses travel as RFC 4733 events; INFO packages are not passed on (RFC 6086 §4.2.2).
                let status = if asked.request.body.is_empty() { 200 } else { 415 };
                reply(core, now, &asked, status);
            }
            Method::Ack | Method::Cancel => {}
            Method::Register
            | Method::Message
            | Method::Notify
            | Method::Publish
            | Method::Refer
            | Method::Subscribe
            | Method::Other(_) => {
                let mut answer = Response::to_request(&asked.request, 405);
                if let Some(leg) = self.leg(index) {
                    leg.capabilities(&core.settings).tell_methods(&mut answer.headers);
                }
                core.respond(now, asked.key, &asked.request.method, answer);
            }
        }
    }

    /// A far end that asks to move to T.38 has a fax to send, whatever it is told.
    fn note_fax(&mut self, request: &Request) {
        let changes = matches!(request.method, Method::Invite | Method::Update);
        let is_fax = |offer: Session| {
            offer.medias().any(|media| matches!(media.kind(), MediaKind::Image) && media.port() != 0)
        };
        if changes && !request.body.is_empty() && offer_in(request).is_ok_and(is_fax) {
            self.cdr.fax = Some(Fax::T38);
        }
    }

    /// What a far end asks passes its trunk's header rules; its BYE is kept for the other side where a rule takes
    /// something along.
    fn read_request(&mut self, index: u8, request: &mut Request) {
        let Some(leg) = self.leg(index) else { return };
        let carried = leg.read_by_rules(Kind::Request(&request.method), &mut request.headers);
        if request.method == Method::Bye {
            let others = std::iter::once(&mut self.caller).chain(self.callees.iter_mut());
            for leg in others.filter(|leg| (leg.id.index == 0) != (index == 0)) {
                leg.hear(Kind::Request(&Method::Bye), &request.headers, carried.clone());
            }
        }
    }

    fn on_bye(&mut self, core: &mut Core, now: Now, index: u8, asked: Asked) {
        let by = if index == 0 { ReleasedBy::Caller } else { ReleasedBy::Callee };
        let said = FarReason::of(&asked.request);
        let live = self.is_live();
        if live && self.leaves_others(index) {
            if let Some(leg) = self.leg_mut(index) {
                leg.vanish(core);
                leg.close_media(core);
            }
            self.part_from(core, now, index, Parting::Leaves);
            reply(core, now, &asked, 200);
            return;
        }
        let Some(leg) = self.leg_mut(index) else { return };
        match &leg.state {
            // RFC 3261 §15.1.2 lets a caller end an early dialog with BYE: it gives up.
            LegState::Incoming { .. } => self.on_cancel(core, now, said),
            LegState::AnswerHeld { .. }
            | LegState::Accepted { .. }
            | LegState::Established
            | LegState::Releasing => {
                leg.vanish(core);
                if live {
                    self.far = said;
                }
                self.close(core, now, EndCause::NormalClearing, by, None);
            }
            // There is no dialog yet that it could end, or none any more.
            LegState::Allocating | LegState::Inviting { .. } | LegState::Cancelling | LegState::Gone => {
                reply(core, now, &asked, 481);
                return;
            }
        }
        self.answer_when_recorded(core, now, asked);
    }

    /// The caller took its INVITE back. The CANCEL itself was answered by the exchange.
    pub fn on_cancel(&mut self, core: &mut Core, now: Now, said: FarReason) {
        if self.is_live() && matches!(self.caller.state, LegState::Incoming { .. }) {
            self.far = said;
        }
        match &mut self.stage {
            // The answer was first: the call is answered, and this becomes its end.
            Stage::Answering { cancelled, .. } => *cancelled = true,
            Stage::Opening | Stage::Hunting { .. } => {
                self.close(core, now, EndCause::CallerCancelled, ReleasedBy::Caller, None);
            }
            // Its 200 still waits for a PRACK.
            Stage::Talking { .. } if matches!(self.caller.state, LegState::Incoming { .. }) => {
                self.close(core, now, EndCause::NormalClearing, ReleasedBy::Caller, Some(487));
            }
            Stage::Talking { .. } | Stage::Closing(_) => {}
        }
    }

    /// An ACK for a 2xx of ours.
    pub fn on_ack(&mut self, core: &mut Core, now: Now, index: u8, ack: &Request) {
        let acked = ack.cseq().ok().map(|cseq| cseq.number);
        let Some(leg) = self.leg_mut(index) else { return };
        match &leg.state {
            LegState::Accepted { response, .. } => {
                if response.cseq().ok().map(|cseq| cseq.number) == acked {
                    self.on_caller_ack(core, now, ack);
                }
            }
            LegState::Established => self.on_reinvite_ack(core, now, index, acked, ack),
            LegState::Allocating
            | LegState::Inviting { .. }
            | LegState::Cancelling
            | LegState::AnswerHeld { .. }
            | LegState::Incoming { .. }
            | LegState::Releasing
            | LegState::Gone => {}
        }
    }

    /// A response to a request we sent on a leg.
    pub fn on_response(
        &mut self,
        core: &mut Core,
        trunks: &mut Trunks,
        now: Now,
        index: u8,
        purpose: Purpose,
        answer: Response,
    ) {
        if let Some(leg) = self.leg_mut(index) {
            leg.settled(&purpose.method(), &answer);
        }
        match purpose {
            Purpose::Invite => {
                if let Some(position) = self.callee_position(index) {
                    self.on_invite_response(core, trunks, now, position, answer);
                }
            }
            Purpose::Reinvite => self.on_reinvite_response(core, now, index, answer),
            Purpose::Update => self.on_update_response(core, now, index, &answer),
            Purpose::Prack => {
                if let Some(leg) = self.leg_mut(index) {
                    leg.on_prack_answered(core, now, &answer);
                }
            }
            Purpose::Bye if answer.status >= 200 => self.on_bye_answered(core, now, index, &answer),
            Purpose::Notify | Purpose::Stray => {
                if let Some(leg) = self.leg_mut(index) {
                    leg.on_kept_answered(core, now, &answer);
                }
            }
            Purpose::Bye => {}
        }
    }

    /// Our BYE was answered; what the answer says changes nothing, but for a challenge, which is met.
    fn on_bye_answered(&mut self, core: &mut Core, now: Now, index: u8, answer: &Response) {
        let reason = self.far.value(self.end_cause().unwrap_or(EndCause::NormalClearing));
        let Some(leg) = self.leg_mut(index).filter(|leg| matches!(leg.state, LegState::Releasing)) else {
            return;
        };
        if leg.meets(&Method::Bye, answer) {
            leg.send_bye(core, now, &reason);
        } else {
            leg.vanish(core);
        }
    }

    /// A transaction of ours ended without an answer.
    pub fn on_request_lost(
        &mut self,
        core: &mut Core,
        trunks: &mut Trunks,
        now: Now,
        index: u8,
        purpose: Purpose,
        failure: ClientFailure,
    ) {
        let established = self.leg(index).is_some_and(Leg::is_established);
        match purpose {
            Purpose::Invite => {
                if let Some(position) = self.callee_position(index) {
                    self.on_invite_lost(core, trunks, now, position, failure);
                }
            }
            // The leg is let go; the others may go on without it.
            Purpose::Reinvite | Purpose::Update if !established => {}
            Purpose::Reinvite => self.on_reinvite_lost(core, now, index, failure),
            Purpose::Update => match failure {
                ClientFailure::TimedOut => self.expire(core, now),
                ClientFailure::Transport => {
                    if let Some(leg) = self.leg_mut(index) {
                        leg.changes_way(core);
                        leg.session.postpone(now);
                    }
                }
            },
            Purpose::Bye => self.on_bye_lost(core, now, index, failure),
            // The INVITE's own end decides.
            Purpose::Prack | Purpose::Notify | Purpose::Stray => {}
        }
    }

    /// A re-INVITE of ours has no answer, or did not get out. That counts as a 503 (RFC 3261 §8.1.3.1), which ends neither
    /// a dialog (§12.2.1.2) nor a session (RFC 4028 §10): silence alone does.
    fn on_reinvite_lost(&mut self, core: &mut Core, now: Now, index: u8, failure: ClientFailure) {
        let Some(leg) = self.leg_mut(index) else { return };
        let lost = std::mem::replace(&mut leg.modification, Modification::None);
        match (lost, failure) {
            (Modification::Pending { before, described, refresh, .. }, ClientFailure::Transport) => {
                leg.changes_way(core);
                leg.media.take_back(before, described);
                if refresh {
                    leg.session.postpone(now);
                    self.tell_directions(core, now);
                } else if leg.again.allows(&Method::Invite) {
                    leg.modification = Modification::RetryAt { at: now.instant + RETRY };
                } else {
                    // Whoever can't be told of a hold can't be reached at all.
                    self.lose_dialog(core, now, index);
                }
            }
            (Modification::Pending { refresh: true, .. }, ClientFailure::TimedOut) => self.expire(core, now),
            (
                Modification::None | Modification::Pending { .. } | Modification::RetryAt { .. },
                ClientFailure::TimedOut | ClientFailure::Transport,
            ) => self.lose_dialog(core, now, index),
        }
    }

    /// The far end has no dialog any more: the call is over, and no BYE goes to it.
    pub(super) fn lose_dialog(&mut self, core: &mut Core, now: Now, index: u8) {
        if let Some(leg) = self.leg_mut(index) {
            leg.vanish(core);
        }
        self.close(core, now, EndCause::DialogLost, ReleasedBy::Gateway, None);
    }

    /// Our BYE was not answered, or did not get out: where the far end can be reached another way it hears it there, lest
    /// it goes on charging for the call.
    fn on_bye_lost(&mut self, core: &mut Core, now: Now, index: u8, failure: ClientFailure) {
        let reason = self.far.value(self.end_cause().unwrap_or(EndCause::NormalClearing));
        let Some(leg) = self.leg_mut(index).filter(|leg| matches!(leg.state, LegState::Releasing)) else {
            return;
        };
        if failure == ClientFailure::Transport && leg.changes_way(core) {
            leg.send_bye(core, now, &reason);
        } else {
            leg.vanish(core);
        }
    }

    /// The stream a leg's far end signalled by is gone. The call goes on: media has its own way, and the far
    /// end may come back on another connection; a dead far end is found by its silence.
    pub fn on_connection_closed(&mut self, core: &Core, connection: ConnectionId) {
        for leg in std::iter::once(&mut self.caller).chain(self.callees.iter_mut()) {
            leg.lose_stream(core, connection);
        }
    }
}

/// Another exchange is not finished: it may come again (RFC 3261 §14.2).
pub(super) fn reply_later(core: &mut Core, now: Now, asked: &Asked) {
    let seconds = core.octets::<1>()[0] % 10;
    let answer = response(&asked.request, 500, "").with_header(HeaderName::RetryAfter, seconds.to_string());
    core.respond(now, asked.key, &asked.request.method, answer);
}

/// An offer that can't be answered; the old session goes on untouched (RFC 3261 §14.2).
pub(super) fn reply_unacceptable(core: &mut Core, now: Now, asked: &Asked, refusal: Refusal) {
    let answer =
        response(&asked.request, 488, "").with_header(HeaderName::Warning, warning(refusal.warning()));
    core.respond(now, asked.key, &asked.request.method, answer);
}

/// The offer in a request; without a readable description there is no audio to agree on.
pub(super) fn offer_in(request: &Request) -> Result<Session, Refusal> {
    request.sdp().and_then(|body| Session::parse(&body).ok()).ok_or(Refusal::NoAudio)
}

/// Answers with a bare status.
pub(super) fn reply(core: &mut Core, now: Now, asked: &Asked, status: u16) {
    let answer = response(&asked.request, status, "");
    core.respond(now, asked.key, &asked.request.method, answer);
}

impl Leg {
    /// True for a leg both ends of which agreed on a dialog.
    pub fn is_established(&self) -> bool {
        matches!(self.state, LegState::Established | LegState::Accepted { .. })
    }
}
