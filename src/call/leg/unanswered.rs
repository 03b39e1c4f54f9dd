//! Requests of ours that are not made anew where they are challenged: reports of a transfer, and the BYE of a fork that
//! nobody wanted. They are kept until they have their answer, so that the same request can go once more.

use super::Leg;
use crate::call::core::{Core, Purpose};
use crate::sip::message::{CSeq, HeaderName, Request, Response, Typed};
use crate::types::{Now, Peer};

/// More than a call has under way at once; a far end that answers none of them is not waited for.
const MOST: usize = 8;

/// A request without an answer.
#[derive(Debug)]
pub struct Unanswered {
    purpose: Purpose,
    /// Where it went.
    peer: Peer,
    request: Request,
    /// It was asked for credentials before.
    challenged: bool,
}

impl Unanswered {
    /// True for the answer to it, or the same request.
    fn is_of(&self, message: &impl Typed) -> bool {
        self.request.to_tag() == message.to_tag() && self.request.cseq().ok() == message.cseq().ok()
    }
}

impl Leg {
    /// Sends a request inside a dialog of this leg, and keeps it where its far end may ask for credentials.
    pub fn send_and_keep(
        &mut self,
        core: &mut Core,
        now: Now,
        purpose: Purpose,
        peer: Peer,
        mut request: Request,
    ) {
        self.authorize(core, &mut request);
        self.keep_and_send(core, now, Unanswered { purpose, peer, request, challenged: false });
    }

    fn keep_and_send(&mut self, core: &mut Core, now: Now, unanswered: Unanswered) {
        let (purpose, peer) = (unanswered.purpose, unanswered.peer.clone());
        self.send(core, now, purpose, peer, unanswered.request.clone());
        if self.auth.is_some() {
            // Each repeated 2xx of a fork is hung up anew, by the same BYE.
            self.unanswered.retain(|other| !other.is_of(&unanswered.request));
            if self.unanswered.len() == MOST {
                self.unanswered.remove(0);
            }
            self.unanswered.push(unanswered);
        }
    }

    /// The answer to such a request changes nothing, but for a challenge, which is met.
    pub fn on_kept_answered(&mut self, core: &mut Core, now: Now, answer: &Response) {
        let position = self.unanswered.iter().position(|kept| kept.is_of(answer));
        let Some(position) = position.filter(|_| answer.status >= 200) else { return };
        let mut kept = self.unanswered.remove(position);
        if self.unanswered.is_empty() {
            // A call that talks holds no room for others.
            self.unanswered = Vec::new();
        }
        if !matches!(answer.status, 401 | 407) {
            return;
        }
        if !std::mem::replace(&mut kept.challenged, true)
            && let Some(auth) = self.auth.as_mut()
        {
            // Several are under way at once: what another one was asked is no refusal of this one's credentials.
            auth.answered(&kept.request.method);
        }
        if !self.meets(&kept.request.method, answer) {
            return;
        }
        let number = self.next_number(&kept.request);
        let cseq = CSeq { number, method: kept.request.method.clone() };
        kept.request.headers.set(HeaderName::CSeq, cseq.to_string());
        self.authorize(core, &mut kept.request);
        self.keep_and_send(core, now, kept);
    }

    /// The dialog of the leg is over, and reports in it with it. That of a fork is its BYE's alone.
    pub fn forget_reports(&mut self) {
        self.unanswered.retain(|kept| kept.purpose == Purpose::Stray);
    }

    /// The number under which a request goes once more (RFC 3261 §22.2): the next of its dialog.
    fn next_number(&mut self, request: &Request) -> u32 {
        let own = self.dialog.as_mut().filter(|dialog| Some(dialog.remote_tag.as_str()) == request.to_tag());
        match own {
            Some(dialog) => {
                dialog.local_cseq += 1;
                dialog.local_cseq
            }
            // A fork that was hung up has had nothing else.
            None => request.cseq().map_or(1, |cseq| cseq.number + 1),
        }
    }
}
