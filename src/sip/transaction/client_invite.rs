//! The INVITE client transaction (RFC 3261 §17.1.1 with the Accepted state of RFC 6026 §7.2).

use super::timers::{Repetition, Timers, earlier};
use std::time::{Duration, Instant};

/// One INVITE on its way to a far end: when to repeat it, what to do with each response, when to give up.
#[derive(Debug)]
pub(super) struct ClientInvite {
    reliable: bool,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// Nothing came back yet. Timer A repeats, Timer B gives up.
    Calling {
        repetition: Option<Repetition>,
        give_up_at: Instant,
    },
    /// A provisional response came. How long it may ring is the user's business, unless it was cancelled.
    Proceeding {
        give_up_at: Option<Instant>,
    },
    /// A failure came and was acknowledged; Timer D absorbs its repetitions.
    Completed {
        until: Instant,
    },
    /// A 2xx came; Timer M lets its repetitions and those of other forks through.
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
    /// Hand the response to the transaction user.
    Deliver,
    /// Acknowledge the failure and hand it to the transaction user.
    AckAndDeliver,
    /// Acknowledge a repeated failure once more.
    AckAgain,
    /// Send the INVITE once more.
    Repeat,
    /// Tell the transaction user that no final response came in time.
    TimedOut,
    /// Forget the transaction: its last timer ran out.
    Finish,
}

impl ClientInvite {
    /// The INVITE is being sent now.
    pub fn new(now: Instant, timers: &Timers, reliable: bool) -> ClientInvite {
        // Timer A grows without a ceiling: only Timer B ends it (RFC 3261 §17.1.1.2).
        let repetition = (!reliable).then(|| Repetition::starting(now, timers.t1, Duration::MAX / 2));
        ClientInvite { reliable, state: State::Calling { repetition, give_up_at: now + timers.life() } }
    }

    pub fn handle_response(&mut self, now: Instant, timers: &Timers, status: u16) -> Act {
        match (&self.state, status) {
            (State::Calling { .. }, 100..=199) => {
                self.state = State::Proceeding { give_up_at: None };
                Act::Deliver
            }
            (State::Proceeding { .. }, 100..=199) => Act::Deliver,
            (State::Calling { .. } | State::Proceeding { .. }, 200..=299) => {
                // RFC 6026 §7.2: Timer M is 64*T1 on every transport.
                self.state = State::Accepted { until: now + timers.life() };
                Act::Deliver
            }
            (State::Calling { .. } | State::Proceeding { .. }, _) => {
                // RFC 3261 §17.1.1.2: Timer D is zero over a reliable transport.
                self.state = if self.reliable {
                    State::Terminated
                } else {
                    State::Completed { until: now + timers.life() }
                };
                Act::AckAndDeliver
            }
            (State::Accepted { .. }, 200..=299) => Act::Deliver,
            // A fork may answer after another's failure reached us: only the transaction user can
            // acknowledge it and hang up, else that phone would stay off-hook for 64*T1.
            (State::Completed { .. }, 200..=299) => Act::Deliver,
            (State::Completed { .. }, 300..) => Act::AckAgain,
            (State::Accepted { .. } | State::Completed { .. }, _) => Act::Absorb,
            (State::Terminated, _) => Act::Absorb,
        }
    }

    pub fn handle_timeout(&mut self, now: Instant) -> Act {
        match &mut self.state {
            State::Calling { give_up_at, .. } | State::Proceeding { give_up_at: Some(give_up_at) }
                if *give_up_at <= now =>
            {
                self.state = State::Terminated;
                Act::TimedOut
            }
            State::Calling { repetition: Some(repetition), .. } if repetition.at <= now => {
                repetition.advance(now);
                Act::Repeat
            }
            State::Completed { until } | State::Accepted { until } if *until <= now => {
                self.state = State::Terminated;
                Act::Finish
            }
            State::Calling { .. }
            | State::Proceeding { .. }
            | State::Completed { .. }
            | State::Accepted { .. }
            | State::Terminated => Act::Absorb,
        }
    }

    /// The transport could not carry a message of this transaction. True if the transaction user must know:
    /// only while nothing came back, since afterwards either the far end is known to be alive or all is said
    /// (RFC 3261 §17.1.1.2, RFC 6026 §7.2).
    pub fn handle_transport_failure(&mut self) -> bool {
        match self.state {
            State::Calling { .. } => {
                self.state = State::Terminated;
                true
            }
            State::Proceeding { .. }
            | State::Completed { .. }
            | State::Accepted { .. }
            | State::Terminated => false,
        }
    }

    /// A CANCEL is on its way: a far end that never answers the INVITE after it is given up after 64*T1
    /// (RFC 3261 §9.1).
    pub fn cancelled(&mut self, now: Instant, timers: &Timers) {
        if let State::Proceeding { give_up_at } = &mut self.state {
            give_up_at.get_or_insert(now + timers.life());
        }
    }

    pub fn is_calling(&self) -> bool {
        matches!(self.state, State::Calling { .. })
    }

    /// True until a final response came or the transaction was given up.
    pub fn is_pending(&self) -> bool {
        matches!(self.state, State::Calling { .. } | State::Proceeding { .. })
    }

    /// True while a failure may come again and need its ACK once more.
    pub fn is_completed(&self) -> bool {
        matches!(self.state, State::Completed { .. })
    }

    pub fn is_terminated(&self) -> bool {
        self.state == State::Terminated
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Calling { repetition, give_up_at } => Some(earlier(*repetition, *give_up_at)),
            State::Proceeding { give_up_at } => *give_up_at,
            State::Completed { until } | State::Accepted { until } => Some(*until),
            State::Terminated => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMERS: Timers = Timers {
        t1: Duration::from_millis(500),
        t2: Duration::from_secs(4),
        t4: Duration::from_secs(5),
        trying: Duration::from_millis(200),
    };

    /// Runs all timers that are due, jumping from deadline to deadline, and notes when each act came.
    fn run(machine: &mut ClientInvite, start: Instant) -> Vec<(u128, Act)> {
        let mut acts = Vec::new();
        while let Some(at) = machine.poll_timeout() {
            acts.push(((at - start).as_millis(), machine.handle_timeout(at)));
        }
        acts
    }

    #[test]
    fn timer_a_doubles_without_ceiling_until_timer_b() {
        let start = Instant::now();
        let mut machine = ClientInvite::new(start, &TIMERS, false);
        let expected: Vec<_> = [500, 1500, 3500, 7500, 15500, 31500]
            .map(|at| (at, Act::Repeat))
            .into_iter()
            .chain([(32_000, Act::TimedOut)])
            .collect();
        assert_eq!(run(&mut machine, start), expected);
        assert!(machine.is_terminated());
    }

    #[test]
    fn a_reliable_transport_never_repeats() {
        let start = Instant::now();
        let mut machine = ClientInvite::new(start, &TIMERS, true);
        assert_eq!(run(&mut machine, start), [(32_000, Act::TimedOut)]);
    }

    #[test]
    fn a_provisional_response_stops_both_timers() {
        let start = Instant::now();
        let mut machine = ClientInvite::new(start, &TIMERS, false);
        assert_eq!(machine.handle_response(start, &TIMERS, 100), Act::Deliver);
        assert_eq!(machine.handle_response(start, &TIMERS, 180), Act::Deliver);
        assert_eq!(machine.poll_timeout(), None);
    }

    #[test]
    fn a_cancelled_invite_is_given_up_after_64_t1() {
        let start = Instant::now();
        let mut machine = ClientInvite::new(start, &TIMERS, false);
        machine.handle_response(start, &TIMERS, 180);
        machine.cancelled(start + Duration::from_secs(9), &TIMERS);
        machine.cancelled(start + Duration::from_secs(11), &TIMERS);
        assert_eq!(run(&mut machine, start), [(41_000, Act::TimedOut)]);
    }

    #[test]
    fn a_failure_is_acknowledged_each_time_and_delivered_once() {
        let start = Instant::now();
        let mut machine = ClientInvite::new(start, &TIMERS, false);
        assert_eq!(machine.handle_response(start, &TIMERS, 486), Act::AckAndDeliver);
        assert_eq!(machine.handle_response(start, &TIMERS, 486), Act::AckAgain);
        assert_eq!(machine.handle_response(start, &TIMERS, 180), Act::Absorb);
        assert_eq!(run(&mut machine, start), [(32_000, Act::Finish)]);
    }

    #[test]
    fn timer_d_is_zero_over_a_reliable_transport() {
        let start = Instant::now();
        let mut machine = ClientInvite::new(start, &TIMERS, true);
        assert_eq!(machine.handle_response(start, &TIMERS, 486), Act::AckAndDeliver);
        assert!(machine.is_terminated());
    }

    #[test]
    fn timer_m_lets_every_2xx_through_on_every_transport() {
        for reliable in [false, true] {
            let start = Instant::now();
            let mut machine = ClientInvite::new(start, &TIMERS, reliable);
            for _ in 0..3 {
                assert_eq!(machine.handle_response(start, &TIMERS, 200), Act::Deliver);
            }
            assert_eq!(machine.handle_response(start, &TIMERS, 486), Act::Absorb);
            assert_eq!(machine.handle_response(start, &TIMERS, 180), Act::Absorb);
            assert_eq!(run(&mut machine, start), [(32_000, Act::Finish)]);
        }
    }

    #[test]
    fn a_2xx_of_another_fork_is_delivered_after_a_failure() {
        let start = Instant::now();
        let mut machine = ClientInvite::new(start, &TIMERS, false);
        machine.handle_response(start, &TIMERS, 487);
        assert_eq!(machine.handle_response(start, &TIMERS, 200), Act::Deliver);
    }

    #[test]
    fn a_transport_failure_counts_only_while_nothing_came_back() {
        let start = Instant::now();
        let mut machine = ClientInvite::new(start, &TIMERS, true);
        assert!(machine.handle_transport_failure());
        assert!(machine.is_terminated());
        let mut machine = ClientInvite::new(start, &TIMERS, true);
        machine.handle_response(start, &TIMERS, 180);
        assert!(!machine.handle_transport_failure());
        assert!(!machine.is_terminated());
    }
}
