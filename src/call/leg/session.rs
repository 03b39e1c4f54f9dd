//! The session timer of a leg (RFC 4028): what its far end is asked for, and the clock once that is agreed.

use super::Party;
use crate::sip::message::{HeaderName, Headers, Refresher, Request, Response, SessionExpires, Typed};
use crate::sip::session_timer::{self, Reply, SessionTimer, Wishes};
use crate::types::Now;

/// The longest interval a far end can make us ask for: beyond a day a timer finds nothing that the longest duration of
/// a call does not end.
const LONGEST: u32 = 86_400;

/// What a leg knows of its session's refreshes.
#[derive(Debug)]
pub struct LegSession {
    wishes: Wishes,
    /// The least the far end or a proxy before it can bear, by its 422.
    least: Option<u32>,
    pub timer: Option<SessionTimer>,
    /// Its Allow lists UPDATE (RFC 3311 §4): a refresh needs no offer then.
    pub takes_updates: bool,
}

impl LegSession {
    /// A trunk's timer is configuration; an app gets one where it asks.
    pub fn new(party: &Party) -> LegSession {
        let wishes = match party {
            Party::Trunk(trunk) => {
                let interval = trunk.config.session_timer.map(|timer| timer.as_secs() as u32);
                Wishes { interval, takes_part: interval.is_some() }
            }
            Party::User { .. } => Wishes { interval: None, takes_part: true },
        };
        LegSession { wishes, least: None, timer: None, takes_updates: false }
    }

    pub fn wishes(&self) -> Wishes {
        self.wishes
    }

    /// The interval that a request of ours asks for.
    fn interval(&self) -> Option<u32> {
        let running = self.timer.as_ref().map(|timer| timer.agreed().seconds);
        Some(running.or(self.wishes.interval)?.max(self.least.unwrap_or(0)))
    }

    /// Asks for the timer in an INVITE, re-INVITE or UPDATE of ours. Inside a session the roles stay as they are
    /// (RFC 4028 §7.4).
    pub fn ask(&self, headers: &mut Headers) {
        let Some(seconds) = self.interval() else { return };
        let refresher = self.timer.as_ref().map(|timer| match timer.agreed().ours {
            true => Refresher::Uac,
            false => Refresher::Uas,
        });
        headers.set(HeaderName::SessionExpires, SessionExpires { seconds, refresher }.to_string());
        if let Some(least) = self.least {
            headers.set(HeaderName::MinSe, least.to_string());
        }
    }

    /// A 422: the next request asks for what it says. False where that would change nothing.
    pub fn raise(&mut self, refusal: &Response) -> bool {
        let Some(least) = refusal.min_se().filter(|least| *least <= LONGEST) else { return false };
        let raises = self.interval().is_some_and(|interval| interval < least);
        if raises {
            self.least = Some(least);
        }
        raises
    }

    /// The 2xx to a session refresh request of ours.
    pub fn granted(&mut self, now: Now, answer: &Response) {
        self.learn(answer);
        if self.wishes.takes_part {
            let agreed = session_timer::agreed(answer, self.interval());
            self.timer = agreed.map(|agreed| SessionTimer::new(now.instant, agreed));
        }
    }

    /// A session refresh request of the far end is answered 2xx, with what was decided on its timer.
    pub fn grant(&mut self, now: Now, request: &Request, reply: Option<Reply>, answer: &mut Headers) {
        self.learn(request);
        if let Some(reply) = reply {
            reply.write(answer);
        }
        self.timer = reply.map(|reply| SessionTimer::new(now.instant, reply.agreed()));
    }

    /// A refresh of ours was refused for now.
    pub fn postpone(&mut self, now: Now) {
        if let Some(timer) = self.timer.as_mut() {
            timer.postpone(now.instant);
        }
    }

    /// Notes what the far end takes. A message without Allow says nothing about it.
    pub fn learn(&mut self, message: &impl Typed) {
        if message.headers().contains(&HeaderName::Allow) {
            self.takes_updates = message.headers().lists(&HeaderName::Allow, "UPDATE");
        }
    }
}
