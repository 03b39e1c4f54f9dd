//! The early dialogs of our INVITE: each fork that says something has one of its own (RFC 3261 §12.1, RFC 3262 §4).

use super::Leg;
use super::media::Agreed;
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
    /// The number of its last reliable response.
    rseq: Option<u32>,
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
        self.dialogs.iter().any(|early| early.dialog.remote_tag == tag)
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

    /// The dialog a provisional response makes or belongs to.
    fn note(&mut self, invite: &Request, progress: &Response) -> Option<&mut EarlyDialog> {
        let tag = progress.to_tag()?;
        if !self.knows(tag) {
            let dialog = Dialog::uac(invite, progress).ok().filter(|_| self.dialogs.len() < MOST)?;
            self.dialogs.reserve_exact(1);
            self.dialogs.push(EarlyDialog {
                dialog,
                description: None,
                settled: false,
                agreed: None,
                rseq: None,
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

    /// A fork has changed by an UPDATE what was settled with it, and is the one that counts now.
    pub fn fork_changed(&mut self, tag: &str) {
        let agreed = self.media.agreed().map(Box::new);
        if let Some(early) = self.early.find(tag) {
            early.agreed = agreed;
        }
        self.early.current = Some(tag.to_owned());
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
