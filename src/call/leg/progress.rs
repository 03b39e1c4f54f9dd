//! What a caller is told before the answer, where it has to arrive (RFC 3262).

use crate::sip::message::{Request, Typed};
use crate::sip::reliable::ReliableProvisionals;

/// The session description that went out in a reliable provisional response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Described {
    No,
    /// Our answer to the INVITE's offer. There is no other one, and the 2xx needs none (RFC 3261 §13.2.1).
    Answer,
    /// Our offer, where the INVITE had none; its PRACK brings the answer (RFC 3262 §5).
    Offer,
}

/// The reliable provisional responses of a caller's leg.
#[derive(Debug)]
pub struct ReliableProgress {
    pub sent: ReliableProvisionals,
    /// What is to be told next, and whether with media: one response at a time is on its way.
    pub queued: Option<(u16, bool)>,
    pub described: Described,
    /// Its PRACK came: offer and answer are complete.
    pub settled: bool,
    /// The answer to the INVITE waits for it (RFC 3262 §3).
    pub answer_waits: bool,
}

impl ReliableProgress {
    pub fn new(invite: &Request, first: u32) -> ReliableProgress {
        let cseq = invite.cseq().map_or(0, |cseq| cseq.number);
        ReliableProgress {
            sent: ReliableProvisionals::new(cseq, first),
            queued: None,
            described: Described::No,
            settled: false,
            answer_waits: false,
        }
    }

    /// True while a description is on its way: no 2xx may go out before its PRACK (RFC 3262 §3).
    pub fn holds_answer(&self) -> bool {
        self.sent.is_waiting() && !self.settled && self.described != Described::No
    }

    /// The INVITE has its final response or will have it now.
    pub fn stop(&mut self) {
        self.sent.stop();
        self.queued = None;
        self.answer_waits = false;
    }
}
