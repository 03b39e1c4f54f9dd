//! The early dialogs of our INVITE: each fork that says something has one of its own (RFC 3261 §12.1, RFC 3262 §4).

use super::media::Agreed;
use super::{Leg, Party};
use crate::call::core::{Core, Purpose};
use crate::config::Prack;
use crate::sdp::AnswerError;
use crate::sip::dialog::Dialog;
use crate::sip::message::{HeaderName, Method, RAck, Request, Response, Typed};
use crate::types::Now;
use bytes::Bytes;

/// More forks than an operator rings; whoever sends more wants our memory.
const MOST: usize = 16;

/// One fork that has answered something.
#[derive(Debug)]
pub struct EarlyDialog {
    pub dialog: Dialog,
    /// The last session description it sent, or the one that was its answer.
    description: Option<Bytes>,
    /// Its description came reliably: it is the answer, and the 2xx has none or repeats it (RFC 3261 §13.2.1).
    pub settled: bool,
    /// What an UPDATE has made of that answer.
    agreed: Option<Box<Agreed>>,
    /// Its network lets the caller hear it, by the last word it gave (RFC 5009 §8).
    permitted: bool,
    /// The number of its last reliable response.
    rseq: Option<u32>,
    /// It has ended, the others go on (199, RFC 6228 §4). It is kept for the PRACK that this may want.
    over: bool,
}

/// What a fork's network says of its early media.
#[derive(Debug, Clone, Copy)]
pub struct Permission {
    pub permitted: bool,
    /// It was forbidden before, and all that was missing to hear what the fork has described.
    pub completes: bool,
}

impl Party {
    /// True where callers hear what comes from this party before the answer, as far as its network permits.
    pub fn lets_hear(&self, permitted: bool) -> bool {
        match self {
            Party::Trunk(trunk) => trunk.config.early_media && (!trunk.config.p_early_media || permitted),
            // Several devices may ring: whose early voice would the caller hear?
            Party::User { .. } => false,
        }
    }
}

/// All of them, and whose description counts now.
#[derive(Debug, Default)]
pub struct EarlyDialogs {
    dialogs: Vec<EarlyDialog>,
    pub current: Option<String>,
}

impl EarlyDialogs {
    pub fn find(&mut self, tag: &str) -> Option<&mut EarlyDialog> {
        self.dialogs.iter_mut().find(|early| early.dialog.remote_tag == tag)
    }

    pub fn knows(&self, tag: &str) -> bool {
        self.dialogs.iter().any(|early| early.dialog.remote_tag == tag && !early.over)
    }

    pub fn take(&mut self, tag: &str) -> Option<EarlyDialog> {
        let position = self.dialogs.iter().position(|early| early.dialog.remote_tag == tag)?;
        let taken = self.dialogs.swap_remove(position);
        // Nearly always the only one: a call that talks holds no room for others.
        self.dialogs.shrink_to_fit();
        Some(taken)
    }

    pub fn clear(&mut self) {
        *self = EarlyDialogs::default();
    }

    /// Keeps what a fork describes, for an answer that says it no more.
    pub fn describe(&mut self, tag: &str, description: &Bytes) {
        if let Some(early) = self.find(tag).filter(|early| !early.settled) {
            early.description = Some(description.clone());
        }
    }

    /// Notes what a response says of its fork's early media, each of which has a permission of its own: the network lets
    /// the caller hear it unless it says that nothing flows backwards (RFC 5009 §8).
    pub fn permit(&mut self, progress: &Response) -> Permission {
        let says = |word| progress.headers.lists(&HeaderName::PEarlyMedia, word);
        let told = progress.headers.contains(&HeaderName::PEarlyMedia);
        let word = told.then(|| !(says("inactive") || says("recvonly")));
        let Some(early) = progress.to_tag().and_then(|tag| self.find(tag)) else {
            return Permission { permitted: word.unwrap_or(true), completes: false };
        };
        let before = early.permitted;
        early.permitted = word.unwrap_or(before);
        let described = early.description.is_some() || early.agreed.is_some();
        Permission { permitted: early.permitted, completes: early.permitted && !before && described }
    }

    /// A fork has ended. True where it was the one whose description counts.
    pub fn end(&mut self, tag: &str) -> bool {
        if let Some(early) = self.find(tag) {
            (early.over, early.settled) = (true, false);
            (early.description, early.agreed) = (None, None);
        }
        self.current.take_if(|current| current.as_str() == tag).is_some()
    }

    /// The newest fork that may be heard and has described itself.
    pub fn audible(&self) -> Option<String> {
        let audible = |early: &&EarlyDialog| {
            early.permitted && !early.over && (early.description.is_some() || early.agreed.is_some())
        };
        self.dialogs.iter().rev().find(audible).map(|early| early.dialog.remote_tag.clone())
    }

    /// The dialog a provisional response makes or belongs to.
    fn note(&mut self, invite: &Request, progress: &Response) -> Option<&mut EarlyDialog> {
        let tag = progress.to_tag()?;
        if self.find(tag).is_none() {
            let dialog = Dialog::uac(invite, progress).ok()?;
            if self.dialogs.len() >= MOST {
                let over = self.dialogs.iter().position(|early| early.over)?;
                self.dialogs.swap_remove(over);
            }
            self.dialogs.reserve_exact(1);
            self.dialogs.push(EarlyDialog {
                dialog,
                description: None,
                settled: false,
                agreed: None,
                permitted: true,
                rseq: None,
                over: false,
            });
        }
        let early = self.find(tag)?;
        early.dialog.refresh_target(progress);
        Some(early)
    }
}

impl Leg {
    /// Takes a provisional response in its order and acknowledges it where it wants that. False for one that was taken
    /// before or came too early: its sender repeats it (RFC 3262 §4).
    pub fn take_progress(&mut self, core: &mut Core, now: Now, progress: &Response) -> bool {
        let Some(invite) = &self.invite else { return true };
        let reliable = self.party.prack() != Prack::Off && progress.requires("100rel");
        let Some(early) = self.early.note(invite, progress) else {
            // Without a tag there is no dialog, and nothing to acknowledge in.
            return !reliable;
        };
        self.session.learn(progress);
        match progress.rseq().filter(|_| reliable) {
            Some(rseq) => {
                if early.rseq.is_some_and(|last| last.wrapping_add(1) != rseq) {
                    return false;
                }
                early.rseq = Some(rseq);
                if let (Some(answer), false) = (progress.sdp(), early.settled) {
                    (early.description, early.settled) = (Some(answer), true);
                }
                let tag = early.dialog.remote_tag.clone();
                self.send_prack(core, now, &tag);
                true
            }
            None => true,
        }
    }

    /// What is agreed with one fork counts from here on: with what it describes in a response, where nothing is settled
    /// yet. True where that is new.
    pub fn turn_to(&mut self, tag: &str, described: Option<Bytes>) -> Result<bool, AnswerError> {
        let current = self.early.current.as_deref() == Some(tag);
        let early = self.early.find(tag);
        // RFC 3261 §13.2.1: after a reliable answer there is no other; an UPDATE may have moved on from it.
        if let Some(agreed) = early.as_ref().and_then(|early| early.agreed.as_deref()) {
            if !current {
                self.media.return_to(agreed.clone());
            }
            return Ok(!current);
        }
        let settled = early.as_ref().is_some_and(|early| early.settled);
        let known = early.and_then(|early| early.description.clone());
        // Some peers put the answer into the 183 only; of several forks the one that answers decides.
        let description = if settled { known } else { described.or(known) };
        match description {
            Some(description) => self.media.accept(&description),
            None if self.media.negotiated.is_some() => Ok(false),
            None => Err(AnswerError::NoAudio),
        }
    }

    /// A fork has changed by an UPDATE what was settled with it; `before` is what the leg had agreed on until then. True
    /// where the caller hears it from here on: of several forks the one that spoke last. Who may not be heard waits for its
    /// answer.
    pub fn fork_changed(&mut self, tag: &str, before: Option<Agreed>) -> bool {
        let agreed = self.media.agreed().map(Box::new);
        let mut permitted = true;
        if let Some(early) = self.early.find(tag) {
            early.agreed = agreed;
            permitted = early.permitted;
        }
        if self.party.lets_hear(permitted) {
            self.early.current = Some(tag.to_owned());
            return true;
        }
        let current = self.early.current.take_if(|current| current.as_str() == tag);
        if let Some(before) = before.filter(|_| current.is_none()) {
            self.media.return_to(before);
        }
        false
    }

    /// Acknowledges the last reliable response of a fork.
    fn send_prack(&mut self, core: &mut Core, now: Now, tag: &str) {
        let Some(cseq) = self.invite.as_ref().and_then(|invite| invite.cseq().ok()) else { return };
        let Some(early) = self.early.find(tag) else { return };
        let Some(rseq) = early.rseq else { return };
        let mut prack = early.dialog.request(Method::Prack, None);
        let rack = RAck { rseq, cseq: cseq.number, method: Method::Invite };
        prack.headers.push(HeaderName::RAck, rack.to_string());
        let dialog = early.dialog.clone();
        self.authorize(core, &mut prack);
        self.send(core, now, Purpose::Prack, self.hop_of(Some(&dialog)), prack);
    }

    /// The answer to a PRACK changes nothing, but for a challenge, which is met.
    pub fn on_prack_answered(&mut self, core: &mut Core, now: Now, answer: &Response) {
        let met = self.meets(&Method::Prack, answer);
        if let Some(tag) = answer.to_tag().filter(|_| met) {
            self.send_prack(core, now, tag);
        }
    }
}
