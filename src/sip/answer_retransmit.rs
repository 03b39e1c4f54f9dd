//! Repeats a 2xx to INVITE until its ACK comes (RFC 3261 §13.3.1.4).

use super::transaction::timers::{Repetition, Timers, earlier};
use std::time::Instant;

/// The clock of one 2xx that waits for its ACK: the answering user's job, not the transaction's. It runs on
/// every transport, since the ACK may be lost behind the next hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerRetransmit {
    state: State,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Waiting { repetition: Repetition, give_up_at: Instant },
    Done,
}

/// What to do with the 2xx now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerStep {
    /// It is not time yet, or the ACK has come.
    Wait,
    /// Send the same 2xx again.
    Repeat,
    /// No ACK in 64*T1: the session ends with a BYE (RFC 3261 §13.3.1.4).
    GiveUp,
}

impl AnswerRetransmit {
    /// The 2xx has just been sent: its repetitions start after T1 and double up to T2.
    pub fn new(now: Instant, timers: &Timers) -> AnswerRetransmit {
        let repetition = Repetition::starting(now, timers.t1, timers.t2);
        AnswerRetransmit { state: State::Waiting { repetition, give_up_at: now + timers.life() } }
    }

    /// The ACK came. True the first time.
    pub fn acknowledged(&mut self) -> bool {
        std::mem::replace(&mut self.state, State::Done) != State::Done
    }

    pub fn is_waiting(&self) -> bool {
        self.state != State::Done
    }

    pub fn handle_timeout(&mut self, now: Instant) -> AnswerStep {
        match &mut self.state {
            State::Waiting { give_up_at, .. } if *give_up_at <= now => {
                self.state = State::Done;
                AnswerStep::GiveUp
            }
            State::Waiting { repetition, .. } if repetition.at <= now => {
                repetition.advance(now);
                AnswerStep::Repeat
            }
            State::Waiting { .. } | State::Done => AnswerStep::Wait,
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Waiting { repetition, give_up_at } => Some(earlier(Some(*repetition), *give_up_at)),
            State::Done => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_2xx_is_repeated_from_t1_doubling_to_t2_and_given_up_after_64_t1() {
        let start = Instant::now();
        let mut answer = AnswerRetransmit::new(start, &Timers::default());
        let mut steps = Vec::new();
        while let Some(at) = answer.poll_timeout() {
            steps.push(((at - start).as_millis(), answer.handle_timeout(at)));
        }
        let expected: Vec<_> = [500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500]
            .map(|at| (at, AnswerStep::Repeat))
            .into_iter()
            .chain([(32_000, AnswerStep::GiveUp)])
            .collect();
        assert_eq!(steps, expected);
    }

    #[test]
    fn the_ack_stops_it_once() {
        let start = Instant::now();
        let mut answer = AnswerRetransmit::new(start, &Timers::default());
        assert!(answer.acknowledged());
        assert!(!answer.acknowledged());
        assert_eq!(answer.poll_timeout(), None);
        assert_eq!(answer.handle_timeout(start + Timers::default().life()), AnswerStep::Wait);
    }
}
