//! The non-INVITE server transaction (RFC 3261 §17.2.2).

use super::timers::Timers;
use std::time::Instant;

/// One request other than INVITE and ACK that a far end sent.
#[derive(Debug)]
pub(super) struct ServerNonInvite {
    reliable: bool,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// No final response yet. At `give_up_at` the far end's Timer F has run out, an answer would reach nobody
    /// (RFC 4320 §4.2), and the last copy of the request has left the network.
    Trying {
        responded: bool,
        give_up_at: Instant,
    },
    /// The final response went out; Timer J repeats it for repetitions of the request.
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
    /// Send the response the transaction user gave.
    Send,
    /// Send the last response once more.
    Repeat,
    /// Forget the transaction: its last timer ran out.
    Finish,
}

impl ServerNonInvite {
    /// The request has just come.
    pub fn new(now: Instant, timers: &Timers, reliable: bool) -> ServerNonInvite {
        ServerNonInvite {
            reliable,
            state: State::Trying { responded: false, give_up_at: now + timers.life() + timers.t4 },
        }
    }

    /// Its answer may have to go out again, whatever carried the request.
    pub fn keep_answer(&mut self) {
        self.reliable = false;
    }

    /// The same request came again.
    pub fn handle_request(&self) -> Act {
        match self.state {
            State::Trying { responded: false, .. } | State::Terminated => Act::Absorb,
            State::Trying { responded: true, .. } | State::Completed { .. } => Act::Repeat,
        }
    }

    /// The transaction user answers.
    pub fn respond(&mut self, now: Instant, timers: &Timers, status: u16) -> Act {
        match &mut self.state {
            State::Trying { responded, .. } if status < 200 => {
                *responded = true;
                Act::Send
            }
            State::Trying { .. } => {
                // RFC 3261 §17.2.2: Timer J is zero over a reliable transport.
                self.state = if self.reliable {
                    State::Terminated
                } else {
                    State::Completed { until: now + timers.life() }
                };
                Act::Send
            }
            State::Completed { .. } | State::Terminated => Act::Absorb,
        }
    }

    pub fn handle_timeout(&mut self, now: Instant) -> Act {
        match self.state {
            State::Trying { give_up_at: until, .. } | State::Completed { until } if until <= now => {
                self.state = State::Terminated;
                Act::Finish
            }
            State::Trying { .. } | State::Completed { .. } | State::Terminated => Act::Absorb,
        }
    }

    /// True until the transaction user gave a final response.
    pub fn is_pending(&self) -> bool {
        matches!(self.state, State::Trying { .. })
    }

    pub fn is_terminated(&self) -> bool {
        self.state == State::Terminated
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Trying { give_up_at: until, .. } | State::Completed { until } => Some(until),
            State::Terminated => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn new(reliable: bool) -> (Instant, ServerNonInvite) {
        let start = Instant::now();
        (start, ServerNonInvite::new(start, &Timers::default(), reliable))
    }

    #[test]
    fn a_repeated_request_is_absorbed_until_there_is_a_response_to_repeat() {
        let (start, mut machine) = new(false);
        assert_eq!(machine.handle_request(), Act::Absorb);
        assert_eq!(machine.respond(start, &Timers::default(), 100), Act::Send);
        assert_eq!(machine.handle_request(), Act::Repeat);
        assert_eq!(machine.respond(start, &Timers::default(), 200), Act::Send);
        assert_eq!(machine.handle_request(), Act::Repeat);
        assert_eq!(machine.respond(start, &Timers::default(), 500), Act::Absorb);
    }

    #[test]
    fn timer_j_keeps_the_final_response_for_64_t1() {
        let (start, mut machine) = new(false);
        machine.respond(start, &Timers::default(), 200);
        assert_eq!(machine.poll_timeout(), Some(start + Duration::from_secs(32)));
        assert_eq!(machine.handle_timeout(start + Duration::from_secs(31)), Act::Absorb);
        assert_eq!(machine.handle_timeout(start + Duration::from_secs(32)), Act::Finish);
        assert!(machine.is_terminated());
    }

    #[test]
    fn timer_j_is_zero_over_a_reliable_transport() {
        let (start, mut machine) = new(true);
        machine.respond(start, &Timers::default(), 200);
        assert!(machine.is_terminated());
    }

    #[test]
    fn a_request_nobody_answers_is_forgotten_when_the_far_end_has_given_up() {
        let (start, mut machine) = new(true);
        assert_eq!(machine.handle_timeout(start + Duration::from_secs(32)), Act::Absorb);
        assert_eq!(machine.handle_timeout(start + Duration::from_secs(37)), Act::Finish);
        assert!(machine.is_terminated());
    }
}
