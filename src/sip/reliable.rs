//! Provisional responses that have to arrive (RFC 3262), at the side that sends them.

use super::message::{HeaderName, RAck, Response};
use super::transaction::timers::{Repetition, Timers, earlier};
use std::time::{Duration, Instant};

/// The reliable provisional responses to one INVITE: one at a time is on its way, and repeated until its PRACK comes.
#[derive(Debug)]
pub struct ReliableProvisionals {
    /// The INVITE's sequence number, which each PRACK names.
    invite_cseq: u32,
    next: u32,
    outstanding: Option<Outstanding>,
    /// A PRACK for the last one is still understood after the final response (RFC 3262 §3).
    last: Option<u32>,
}

#[derive(Debug)]
struct Outstanding {
    rseq: u32,
    response: Box<Response>,
    repetition: Repetition,
    give_up_at: Instant,
}

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub enum ReliableStep<'a> {
    Wait,
    /// Send the same response again.
    Repeat(&'a Response),
    /// No PRACK in 64*T1: the INVITE is refused (RFC 3262 §3).
    GiveUp,
}

/// What a PRACK acknowledges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledged {
    /// The response that was on its way.
    Outstanding,
    /// One that nobody waits for any more; it is answered all the same.
    Earlier,
    /// None of ours: 481.
    Unknown,
}

impl ReliableProvisionals {
    /// `first` is any number: it becomes 1 to 2^31 - 1 (RFC 3262 §3).
    pub fn new(invite_cseq: u32, first: u32) -> ReliableProvisionals {
        let next = (first & 0x7fff_ffff).max(1);
        ReliableProvisionals { invite_cseq, next, outstanding: None, last: None }
    }

    /// Numbers a response that is sent now. Nothing may be on its way.
    pub fn send(&mut self, now: Instant, timers: &Timers, response: &mut Response) {
        let rseq = self.next;
        self.next = self.next.wrapping_add(1);
        response.headers.push(HeaderName::Require, "100rel");
        response.headers.push(HeaderName::RSeq, rseq.to_string());
        // RFC 3262 §3: the pause starts at T1 and doubles without a ceiling.
        let repetition = Repetition::starting(now, timers.t1, Duration::MAX / 2);
        let (response, give_up_at) = (Box::new(response.clone()), now + timers.life());
        self.outstanding = Some(Outstanding { rseq, response, repetition, give_up_at });
        self.last = Some(rseq);
    }

    /// True while a PRACK is waited for.
    pub fn is_waiting(&self) -> bool {
        self.outstanding.is_some()
    }

    pub fn acknowledge(&mut self, rack: &RAck) -> Acknowledged {
        if rack.cseq != self.invite_cseq || rack.method != super::message::Method::Invite {
            return Acknowledged::Unknown;
        }
        match self.outstanding.take_if(|outstanding| outstanding.rseq == rack.rseq) {
            Some(_) => Acknowledged::Outstanding,
            None if self.last == Some(rack.rseq) && self.outstanding.is_none() => Acknowledged::Earlier,
            None => Acknowledged::Unknown,
        }
    }

    /// A final response goes out: nothing is repeated any more.
    pub fn stop(&mut self) {
        self.outstanding = None;
    }

    pub fn handle_timeout(&mut self, now: Instant) -> ReliableStep<'_> {
        if self.outstanding.take_if(|outstanding| outstanding.give_up_at <= now).is_some() {
            return ReliableStep::GiveUp;
        }
        match &mut self.outstanding {
            Some(outstanding) if outstanding.repetition.at <= now => {
                outstanding.repetition.advance(now);
                ReliableStep::Repeat(&outstanding.response)
            }
            Some(_) | None => ReliableStep::Wait,
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let outstanding = self.outstanding.as_ref()?;
        Some(earlier(Some(outstanding.repetition), outstanding.give_up_at))
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::{Method, Request, Typed};
    use super::*;

    fn ringing() -> Response {
        Response::to_request(&Request::new(Method::Invite, "sip:h".parse().unwrap()), 180)
    }

    fn rack(rseq: u32, cseq: u32) -> RAck {
        RAck { rseq, cseq, method: Method::Invite }
    }

    #[test]
    fn numbers_start_within_31_bits_and_grow_by_one() {
        let now = Instant::now();
        let mut sent = ReliableProvisionals::new(7, 0xffff_fff0);
        let mut response = ringing();
        sent.send(now, &Timers::default(), &mut response);
        assert_eq!((response.rseq(), response.requires("100rel")), (Some(0x7fff_fff0), true));
        assert_eq!(sent.acknowledge(&rack(0x7fff_fff0, 7)), Acknowledged::Outstanding);
        let mut next = ringing();
        sent.send(now, &Timers::default(), &mut next);
        assert_eq!(next.rseq(), Some(0x7fff_fff1));
        assert_eq!(ReliableProvisionals::new(1, 0).next, 1);
    }

    #[test]
    fn it_is_repeated_from_t1_doubling_without_ceiling_and_given_up_after_64_t1() {
        let start = Instant::now();
        let mut sent = ReliableProvisionals::new(1, 5);
        sent.send(start, &Timers::default(), &mut ringing());
        let mut steps = Vec::new();
        while let Some(at) = sent.poll_timeout() {
            steps.push(((at - start).as_millis(), sent.handle_timeout(at) == ReliableStep::GiveUp));
        }
        let expected = [500, 1500, 3500, 7500, 15500, 31500].map(|at| (at, false));
        assert_eq!(steps[..6], expected);
        assert_eq!(steps[6..], [(32_000, true)]);
    }

    #[test]
    fn only_the_right_prack_stops_it() {
        let start = Instant::now();
        let mut sent = ReliableProvisionals::new(7, 5);
        sent.send(start, &Timers::default(), &mut ringing());
        for wrong in [rack(4, 7), rack(6, 7), rack(5, 8), RAck { method: Method::Update, ..rack(5, 7) }] {
            assert_eq!(sent.acknowledge(&wrong), Acknowledged::Unknown);
        }
        assert!(sent.is_waiting());
        assert_eq!(sent.acknowledge(&rack(5, 7)), Acknowledged::Outstanding);
        assert_eq!(sent.poll_timeout(), None);
    }

    #[test]
    fn after_the_final_response_a_late_prack_is_still_understood() {
        let start = Instant::now();
        let mut sent = ReliableProvisionals::new(7, 5);
        sent.send(start, &Timers::default(), &mut ringing());
        sent.stop();
        assert_eq!(sent.poll_timeout(), None);
        assert_eq!(sent.acknowledge(&rack(5, 7)), Acknowledged::Earlier);
    }
}
