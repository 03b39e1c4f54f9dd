//! UPDATE of a far end, before and after the answer (RFC 3311).

use super::dialog::{offer_in, reply, reply_later, reply_unacceptable};
use super::session_timer::reply_too_small;
use super::{Asked, Call};
use crate::call::core::Core;
use crate::call::leg::progress::Described;
use crate::call::leg::{Leg, LegState, Modification, Party};
use crate::sip::message::{HeaderName, Method, Response, Typed};
use crate::sip::session_timer;
use crate::types::{MediaDirection, Now};

/// Why an offer can't be taken now (RFC 3311 §5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unready {
    /// An offer of ours waits for its answer: 491.
    Glare,
    /// Its own offer waits for ours: 500, later.
    Unanswered,
    /// There is no dialog to change: 481.
    NoDialog,
}

impl Call {
    /// The far end of a leg refreshes its session, and may make an offer.
    pub(super) fn on_update(&mut self, core: &mut Core, now: Now, index: u8, asked: Asked) {
        let delayed = self.delayed_offer;
        // Before the answer nobody has anything to tell the other side.
        let direction = self.wanted_direction(index).unwrap_or(MediaDirection::SendRecv);
        let tag = asked.request.from_tag().unwrap_or_default().to_owned();
        let Some(leg) = self.leg_mut(index) else { return };
        let timer = match session_timer::answer(&asked.request, leg.session.wishes()) {
            Ok(timer) => timer,
            Err(small) => {
                reply_too_small(core, now, &asked, small);
                return;
            }
        };
        let mut answer = Response::to_request(&asked.request, 200);
        let early = matches!(leg.state, LegState::Inviting { .. });
        let before = if early { leg.media.agreed() } else { None };
        let offers = !asked.request.body.is_empty();
        if offers {
            match readiness(leg, &tag, delayed) {
                Ok(()) => {}
                Err(Unready::Glare) => return reply(core, now, &asked, 491),
                Err(Unready::Unanswered) => return reply_later(core, now, &asked),
                Err(Unready::NoDialog) => return reply(core, now, &asked, 481),
            }
            let address = leg.peer.local.ip();
            let text = offer_in(&asked.request)
                .and_then(|offer| leg.media.answer(address, 0, &offer, direction, core.randomness()));
            answer = match text {
                Ok(text) => answer.with_body("application/sdp", text),
                Err(refusal) => return reply_unacceptable(core, now, &asked, refusal),
            };
        }
        if let Some(dialog) = leg.dialog_with(&tag) {
            dialog.refresh_target(&asked.request);
        }
        if let (Party::User { .. }, true) = (&leg.party, leg.is_established()) {
            leg.peer = asked.peer;
        }
        answer.headers.push(HeaderName::Contact, Leg::contact(&leg.peer, None));
        leg.capabilities(&core.settings).tell(&mut answer.headers);
        leg.session.grant(now, &asked.request, timer, &mut answer.headers);
        if offers && (!early || leg.fork_changed(&tag, before)) {
            leg.configure_media(core);
        }
        core.respond(now, asked.key, &Method::Update, answer);
        if offers {
            self.supervise_media(core);
            self.tell_directions(core, now);
        }
    }
}

/// Whether an offer can be answered: one exchange of offer and answer at a time (RFC 3264 §4). `delayed`: the caller's
/// INVITE left the offer to us.
fn readiness(leg: &mut Leg, tag: &str, delayed: bool) -> Result<(), Unready> {
    if leg.media.closing || leg.media.closed {
        // The call is ending: what it would change is taken down already.
        return Err(Unready::NoDialog);
    }
    match &leg.state {
        LegState::Established | LegState::Accepted { .. } => {
            let asks = matches!(leg.modification, Modification::Pending { .. });
            let offered = leg.reinvite.as_ref().is_some_and(|pending| pending.offered);
            if asks || offered || leg.media.negotiated.is_none() { Err(Unready::Glare) } else { Ok(()) }
        }
        LegState::AnswerHeld { .. } => Ok(()),
        LegState::Incoming { .. } => match leg.reliable.as_ref() {
            Some(reliable) if reliable.settled => Ok(()),
            Some(reliable) if reliable.described == Described::Offer => Err(Unready::Glare),
            Some(_) | None if delayed => Err(Unready::Glare),
            Some(_) | None => Err(Unready::Unanswered),
        },
        LegState::Inviting { .. } => match leg.early.find(tag) {
            Some(early) if early.settled => Ok(()),
            Some(_) | None => Err(Unready::Glare),
        },
        LegState::Allocating | LegState::Cancelling | LegState::Releasing | LegState::Gone => {
            Err(Unready::NoDialog)
        }
    }
}
