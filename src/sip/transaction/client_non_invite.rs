//! The non-INVITE client transaction (RFC 3261 §17.1.2).

use super::timers::{Repetition, Timers, earlier};
use std::time::Instant;

/// One request other than INVITE and ACK on its way to a far end.
#[derive(Debug)]
pub(super) struct ClientNonInvite {
    reliable: bool,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// No final response yet. Timer E repeats, Timer F gives up; a provisional response slows Timer E to T2.
    Trying {
        repetition: Option<Repetition>,
        give_up_at: Instant,
    },
    /// The final response was delivered; Timer K absorbs its repetitions.
    Completed {
        until: Instant,
    },
    Terminated,
}

/// What the layer has to do after an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// Nothing: the message was absorbed.
    Absorb,
    /// Hand the response to the transaction user.
    Deliver,
    /// Send the request once more.
    Repeat,
    /// Tell the transaction user that no final response came in time.
    TimedOut,
    /// Forget the transaction: its last timer ran out.
    Finish,
}

impl ClientNonInvite {
    /// The request is being sent now.
    pub fn new(now: Instant, timers: &Timers, reliable: bool) -> ClientNonInvite {
        let repetition = (!reliable).then(|| Repetition::starting(now, timers.t1, timers.t2));
        let state = State::Trying { repetition, give_up_at: now + timers.life() };
        ClientNonInvite { reliable, state }
    }

    pub fn handle_response(&mut self, now: Instant, timers: &Timers, status: u16) -> Act {
        match &mut self.state {
            State::Trying { repetition, .. } if status < 200 => {
                // RFC 3261 §17.1.2.2: in Proceeding, Timer E is T2 from its next firing on.
                if let Some(repetition) = repetition {
                    repetition.slow_down();
                }
                Act::Deliver
            }
            State::Trying { .. } => {
                // RFC 3261 §17.1.2.2: Timer K is zero over a reliable transport.
                self.state = if self.reliable {
                    State::Terminated
                } else {
                    State::Completed { until: now + timers.t4 }
                };
                Act::Deliver
            }
            State::Completed { .. } | State::Terminated => Act::Absorb,
        }
    }

    pub fn handle_timeout(&mut self, now: Instant) -> Act {
        match &mut self.state {
            State::Trying { give_up_at, .. } if *give_up_at <= now => {
                self.state = State::Terminated;
                Act::TimedOut
            }
            State::Trying { repetition: Some(repetition), .. } if repetition.at <= now => {
                repetition.advance(now);
                Act::Repeat
            }
            State::Completed { until } if *until <= now => {
                self.state = State::Terminated;
                Act::Finish
            }
            State::Trying { .. } | State::Completed { .. } | State::Terminated => Act::Absorb,
        }
    }

    /// The transport could not carry the request. True if the transaction user must know (RFC 3261
    /// §17.1.2.2).
    pub fn handle_transport_failure(&mut self) -> bool {
        match self.state {
            State::Trying { .. } => {
                self.state = State::Terminated;
                true
            }
            State::Completed { .. } | State::Terminated => false,
        }
    }

    /// True until a final response came or the transaction was given up.
    pub fn is_pending(&self) -> bool {
        matches!(self.state, State::Trying { .. })
    }

    pub fn is_terminated(&self) -> bool {
        self.state == State::Terminated
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Trying { repetition, give_up_at, .. } => Some(earlier(*repetition, *give_up_at)),
            State::Completed { until } => Some(*until),
            State::Terminated => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn run(machine: &mut ClientNonInvite, start: Instant) -> Vec<(u128, Act)> {
        let mut acts = Vec::new();
        while let Some(at) = machine.poll_timeout() {
            acts.push(((at - start).as_millis(), machine.handle_timeout(at)));
        }
        acts
    }

    #[test]
    fn timer_e_doubles_up_to_t2_until_timer_f() {
        let start = Instant::now();
        let mut machine = ClientNonInvite::new(start, &Timers::default(), false);
        let expected: Vec<_> = [500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500]
            .map(|at| (at, Act::Repeat))
            .into_iter()
            .chain([(32_000, Act::TimedOut)])
            .collect();
        assert_eq!(run(&mut machine, start), expected);
    }

    #[test]
    fn a_reliable_transport_never_repeats() {
        let start = Instant::now();
        let mut machine = ClientNonInvite::new(start, &Timers::default(), true);
        assert_eq!(run(&mut machine, start), [(32_000, Act::TimedOut)]);
    }

    #[test]
    fn a_provisional_response_slows_timer_e_to_t2_and_keeps_timer_f() {
        let start = Instant::now();
        let mut machine = ClientNonInvite::new(start, &Timers::default(), false);
        let later = start + Duration::from_secs(1);
        machine.handle_timeout(start + Duration::from_millis(500));
        assert_eq!(machine.handle_response(later, &Timers::default(), 100), Act::Deliver);
        let expected: Vec<_> = [1500, 5500, 9500, 13500, 17500, 21500, 25500, 29500]
            .map(|at| (at, Act::Repeat))
            .into_iter()
            .chain([(32_000, Act::TimedOut)])
            .collect();
        assert_eq!(run(&mut machine, start), expected);
    }

    #[test]
    fn timer_k_absorbs_repeated_responses_for_t4() {
        let start = Instant::now();
        let mut machine = ClientNonInvite::new(start, &Timers::default(), false);
        assert_eq!(machine.handle_response(start, &Timers::default(), 200), Act::Deliver);
        assert_eq!(machine.handle_response(start, &Timers::default(), 200), Act::Absorb);
        assert!(!machine.handle_transport_failure());
        assert_eq!(run(&mut machine, start), [(5000, Act::Finish)]);
    }

    #[test]
    fn timer_k_is_zero_over_a_reliable_transport() {
        let start = Instant::now();
        let mut machine = ClientNonInvite::new(start, &Timers::default(), true);
        assert_eq!(machine.handle_response(start, &Timers::default(), 404), Act::Deliver);
        assert!(machine.is_terminated());
    }

    #[test]
    fn a_transport_failure_ends_it_before_and_after_a_provisional_response() {
        let start = Instant::now();
        let mut machine = ClientNonInvite::new(start, &Timers::default(), true);
        machine.handle_response(start, &Timers::default(), 100);
        assert!(machine.handle_transport_failure());
        assert!(machine.is_terminated());
    }
}
