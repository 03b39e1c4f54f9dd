//! Keeping sessions alive and ending those that nobody keeps alive (RFC 4028).

use super::reinvite::send_reinvite;
use super::{Asked, Call};
use crate::call::core::{Core, Purpose, response};
use crate::call::leg::{Leg, LegState, Modification};
use crate::sip::message::{HeaderName, Method, Response};
use crate::sip::session_timer::{Due, TooSmall};
use crate::types::{EndCause, Now, ReleasedBy};

impl Call {
    /// Refreshes the sessions whose time has come.
    pub(super) fn sessions_timeout(&mut self, core: &mut Core, now: Now) {
        let mut expired = false;
        for leg in std::iter::once(&mut self.caller).chain(self.callees.iter_mut()) {
            if !matches!(leg.state, LegState::Established) {
                continue;
            }
            match leg.session.timer.as_mut().map_or(Due::Wait, |timer| timer.handle_timeout(now.instant)) {
                Due::Wait => {}
                Due::Refresh => refresh(leg, core, now),
                Due::Expired => expired = true,
            }
        }
        if expired {
            self.expire(core, now);
        }
    }

    /// A session was not refreshed: both sides get their BYE (RFC 4028 §10).
    pub(super) fn expire(&mut self, core: &mut Core, now: Now) {
        self.close(core, now, EndCause::SessionExpired, ReleasedBy::Gateway, None);
    }

    /// The answer to an UPDATE of ours.
    pub(super) fn on_update_response(&mut self, core: &mut Core, now: Now, index: u8, answer: &Response) {
        let Some(leg) = self.leg_mut(index).filter(|leg| matches!(leg.state, LegState::Established)) else {
            return;
        };
        match answer.status {
            ..200 => {}
            200..=299 => {
                if let Some(dialog) = leg.dialog.as_mut() {
                    dialog.refresh_target(answer);
                }
                leg.session.granted(now, answer);
            }
            401 | 407 if leg.meets(&Method::Update, answer) => refresh(leg, core, now),
            // RFC 4028 §7.3: the same again with what it can bear.
            422 if leg.meets_interval(&Method::Update, answer) => refresh(leg, core, now),
            // It promised more than it can do; a re-INVITE is understood by everybody.
            405 | 501 => {
                leg.session.takes_updates = false;
                refresh(leg, core, now);
            }
            408 => self.expire(core, now),
            481 => self.lose_dialog(core, now, index),
            _ => leg.session.postpone(now),
        }
    }
}

/// Shows the far end that the session lives, by UPDATE without an offer where it takes that (RFC 4028 §7.4).
fn refresh(leg: &mut Leg, core: &mut Core, now: Now) {
    if leg.session.takes_updates {
        send_update(leg, core, now);
    } else if matches!(leg.modification, Modification::None) && leg.reinvite.is_none() {
        send_reinvite(leg, core, now, None);
    } else {
        // Another offer is on its way; its answer refreshes the session too.
        leg.session.postpone(now);
    }
}

fn send_update(leg: &mut Leg, core: &mut Core, now: Now) {
    let Some(dialog) = leg.dialog.as_mut() else { return };
    let mut request = dialog.request(Method::Update, None);
    request.headers.set(HeaderName::Contact, Leg::contact(&leg.peer, None));
    leg.capabilities(&core.settings).tell(&mut request.headers);
    leg.session.ask(&mut request.headers);
    leg.authorize(core, &mut request);
    leg.send(core, now, Purpose::Update, leg.next_hop(), request);
}

/// Refuses an interval that is too small (RFC 4028 §6).
pub(super) fn reply_too_small(core: &mut Core, now: Now, asked: &Asked, small: TooSmall) {
    let answer = response(&asked.request, 422, "").with_header(HeaderName::MinSe, small.least.to_string());
    core.respond(now, asked.key, &asked.request.method, answer);
}
