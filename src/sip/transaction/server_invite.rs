//! The INVITE server transaction (RFC 3261 §17.2.1 with the Accepted state of RFC 6026 §7.1).

use super::timers::{Repetition, Timers, earlier};
use std::time::Instant;

/// One INVITE that a far end sent: what its repetitions and its ACK mean, and how long failures are repeated.
#[derive(Debug)]
pub(super) struct ServerInvite {
    reliable: bool,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// No final response yet. `trying_at` is set until the first response went out.
    Proceeding {
        trying_at: Option<Instant>,
    },
    /// A failure went out. Timer G repeats it, Timer H gives up waiting for its ACK.
    Completed {
        repetition: Option<Repetition>,
        give_up_at: Instant,
    },
    /// The ACK came; Timer I absorbs its repetitions.
    Confirmed {
        until: Instant,
    },
    /// A 2xx went out; Timer L absorbs repetitions of the INVITE while the user repeats the 2xx.
    Accepted {
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
    /// Send the response the transaction user gave, which is a repetition of its 2xx.
    SendAgain,
    /// Send the last response once more.
    Repeat,
    /// Send the 100 Trying made at reception.
    SendTrying,
    /// Hand the ACK to the transaction user.
    DeliverAck,
    /// Tell the transaction user that the ACK never came.
    AckMissing,
    /// Forget the transaction: its last timer ran out.
    Finish,
}

impl ServerInvite {
    /// The INVITE has just come.
    pub fn new(now: Instant, timers: &Timers, reliable: bool) -> ServerInvite {
        ServerInvite { reliable, state: State::Proceeding { trying_at: Some(now + timers.trying) } }
    }

    /// The same INVITE came again.
    pub fn handle_invite(&self) -> Act {
        match self.state {
            // Without a response so far there is nothing to repeat; the 100 is due in a moment.
            State::Proceeding { trying_at: Some(_) } => Act::Absorb,
            State::Proceeding { trying_at: None } | State::Completed { .. } => Act::Repeat,
            // RFC 6026 §7.1: the transaction user repeats its 2xx by itself.
            State::Confirmed { .. } | State::Accepted { .. } | State::Terminated => Act::Absorb,
        }
    }

    /// An ACK with the branch of this INVITE came.
    pub fn handle_ack(&mut self, now: Instant, timers: &Timers) -> Act {
        match self.state {
            State::Completed { .. } => {
                // RFC 3261 §17.2.1: Timer I is zero over a reliable transport.
                self.state = if self.reliable {
                    State::Terminated
                } else {
                    State::Confirmed { until: now + timers.t4 }
                };
                Act::Absorb
            }
            // A 2xx's ACK has a branch of its own; some far ends keep the INVITE's all the same.
            State::Accepted { .. } => Act::DeliverAck,
            State::Proceeding { .. } | State::Confirmed { .. } | State::Terminated => Act::Absorb,
        }
    }

    /// The transaction user answers.
    pub fn respond(&mut self, now: Instant, timers: &Timers, status: u16) -> Act {
        match (&mut self.state, status) {
            (State::Proceeding { trying_at }, 100..=199) => {
                *trying_at = None;
                Act::Send
            }
            (State::Proceeding { .. }, 200..=299) => {
                // RFC 6026 §7.1: Timer L is 64*T1 on every transport.
                self.state = State::Accepted { until: now + timers.life() };
                Act::Send
            }
            (State::Proceeding { .. }, _) => {
                let repetition = (!self.reliable).then(|| Repetition::starting(now, timers.t1, timers.t2));
                self.state = State::Completed { repetition, give_up_at: now + timers.life() };
                Act::Send
            }
            (State::Accepted { .. }, 200..=299) => Act::SendAgain,
            (
                State::Accepted { .. }
                | State::Completed { .. }
                | State::Confirmed { .. }
                | State::Terminated,
                _,
            ) => Act::Absorb,
        }
    }

    pub fn handle_timeout(&mut self, now: Instant) -> Act {
        match &mut self.state {
            State::Proceeding { trying_at } if trying_at.is_some_and(|at| at <= now) => {
                *trying_at = None;
                Act::SendTrying
            }
            State::Completed { give_up_at, .. } if *give_up_at <= now => {
                self.state = State::Terminated;
                Act::AckMissing
            }
            State::Completed { repetition: Some(repetition), .. } if repetition.at <= now => {
                repetition.advance(now);
                Act::Repeat
            }
            State::Confirmed { until } | State::Accepted { until } if *until <= now => {
                self.state = State::Terminated;
                Act::Finish
            }
            State::Proceeding { .. }
            | State::Completed { .. }
            | State::Confirmed { .. }
            | State::Accepted { .. }
            | State::Terminated => Act::Absorb,
        }
    }

    /// True until the transaction user gave a final response.
    pub fn is_pending(&self) -> bool {
        matches!(self.state, State::Proceeding { .. })
    }

    /// True while the last response may have to be sent again.
    pub fn keeps_response(&self) -> bool {
        matches!(self.state, State::Proceeding { .. } | State::Completed { .. })
    }

    pub fn is_terminated(&self) -> bool {
        self.state == State::Terminated
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Proceeding { trying_at } => *trying_at,
            State::Completed { repetition, give_up_at } => Some(earlier(*repetition, *give_up_at)),
            State::Confirmed { until } | State::Accepted { until } => Some(*until),
            State::Terminated => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn run(machine: &mut ServerInvite, start: Instant) -> Vec<(u128, Act)> {
        let mut acts = Vec::new();
        while let Some(at) = machine.poll_timeout() {
            acts.push(((at - start).as_millis(), machine.handle_timeout(at)));
        }
        acts
    }

    fn new(reliable: bool) -> (Instant, ServerInvite) {
        let start = Instant::now();
        (start, ServerInvite::new(start, &Timers::default(), reliable))
    }

    #[test]
    fn trying_is_said_after_200_ms_of_silence_and_only_then() {
        let (start, mut machine) = new(false);
        assert_eq!(machine.handle_invite(), Act::Absorb);
        assert_eq!(run(&mut machine, start), [(200, Act::SendTrying)]);
        assert_eq!(machine.handle_invite(), Act::Repeat);

        let (start, mut machine) = new(false);
        assert_eq!(machine.respond(start, &Timers::default(), 180), Act::Send);
        assert_eq!(machine.poll_timeout(), None);
    }

    #[test]
    fn timer_g_repeats_a_failure_up_to_t2_until_timer_h() {
        let (start, mut machine) = new(false);
        assert_eq!(machine.respond(start, &Timers::default(), 486), Act::Send);
        let expected: Vec<_> = [500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500]
            .map(|at| (at, Act::Repeat))
            .into_iter()
            .chain([(32_000, Act::AckMissing)])
            .collect();
        assert_eq!(run(&mut machine, start), expected);
    }

    #[test]
    fn over_a_reliable_transport_only_timer_h_runs() {
        let (start, mut machine) = new(true);
        machine.respond(start, &Timers::default(), 486);
        assert_eq!(run(&mut machine, start), [(32_000, Act::AckMissing)]);
    }

    #[test]
    fn the_ack_stops_timer_g_and_timer_i_absorbs_its_repetitions() {
        let (start, mut machine) = new(false);
        machine.respond(start, &Timers::default(), 486);
        assert_eq!(machine.handle_ack(start, &Timers::default()), Act::Absorb);
        assert_eq!(machine.handle_ack(start, &Timers::default()), Act::Absorb);
        assert_eq!(machine.handle_invite(), Act::Absorb);
        assert_eq!(run(&mut machine, start), [(5000, Act::Finish)]);
    }

    #[test]
    fn timer_i_is_zero_over_a_reliable_transport() {
        let (start, mut machine) = new(true);
        machine.respond(start, &Timers::default(), 486);
        machine.handle_ack(start, &Timers::default());
        assert!(machine.is_terminated());
    }

    #[test]
    fn timer_l_absorbs_the_invite_and_lets_the_user_repeat_its_2xx() {
        for reliable in [false, true] {
            let (start, mut machine) = new(reliable);
            assert_eq!(machine.respond(start, &Timers::default(), 200), Act::Send);
            assert_eq!(machine.handle_invite(), Act::Absorb);
            assert_eq!(machine.respond(start, &Timers::default(), 200), Act::SendAgain);
            assert_eq!(machine.respond(start, &Timers::default(), 486), Act::Absorb);
            assert_eq!(machine.respond(start, &Timers::default(), 180), Act::Absorb);
            assert_eq!(machine.handle_ack(start, &Timers::default()), Act::DeliverAck);
            assert_eq!(run(&mut machine, start), [(32_000, Act::Finish)]);
        }
    }

    #[test]
    fn an_ack_before_any_final_response_changes_nothing() {
        let (start, mut machine) = new(false);
        assert_eq!(machine.handle_ack(start + Duration::from_millis(1), &Timers::default()), Act::Absorb);
        assert!(machine.is_pending());
    }

    #[test]
    fn a_second_final_response_is_not_sent() {
        let (start, mut machine) = new(false);
        machine.respond(start, &Timers::default(), 486);
        assert_eq!(machine.respond(start, &Timers::default(), 200), Act::Absorb);
    }
}
