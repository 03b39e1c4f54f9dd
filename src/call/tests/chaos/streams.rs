//! Operators over streams that break and are opened anew, and a DNS that moves them about.

use super::{Chaos, Key};
use crate::call::tests::world::*;
use crate::config::Config;
use crate::sip::message::{Message, Method, Request, Typed};
use crate::types::Transport;
use std::collections::HashSet;
use std::net::SocketAddr;

/// What becomes of the operators' streams in a storm.
pub struct Streams {
    active: bool,
    dice: Dice,
    port: u16,
    /// Calls, by their Call-ID, whose end an operator has heard of.
    ended: HashSet<String>,
    /// Calls in which a far end has said itself that there is none, or nothing at all.
    given_up: HashSet<String>,
    /// Streams that broke while there were calls.
    pub cuts: usize,
    /// Answers of the DNS.
    pub moves: usize,
}

impl Streams {
    /// In two of five storms.
    pub fn new(seed: u64) -> Streams {
        Streams {
            active: seed % 5 < 2,
            dice: Dice(seed ^ 0x577ea3),
            port: 40_000,
            ended: HashSet::new(),
            given_up: HashSet::new(),
            cuts: 0,
            moves: 0,
        }
    }

    pub fn shape(&self, config: &mut Config) {
        for trunk in config.trunks.iter_mut().filter(|_| self.active) {
            trunk.transport = Transport::Tcp;
        }
    }

    /// Whoever answers a request inside a call that there is none, or nothing at all, need not hear of its end.
    pub fn note_answer(&mut self, request: &Request, status: u16) {
        if matches!(status, 0 | 481) {
            self.given_up.insert(request.call_id().unwrap().to_owned());
        }
    }

    /// A request has reached a far end.
    pub fn note(&mut self, request: &Request) {
        if request.method == Method::Bye {
            self.ended.insert(request.call_id().unwrap().to_owned());
        }
    }
}

impl Chaos {
    /// An operator that has something to say and no stream opens one.
    pub fn connect(&mut self, at: SocketAddr) {
        let operator = [A, B].iter().any(|place| at.to_string() == *place);
        if self.streams.active && operator && !self.w.streams.contains_key(&at) {
            self.streams.port += 1;
            let from = SocketAddr::new(at.ip(), self.streams.port);
            self.w.stream_from(&at.to_string(), &from.to_string());
        }
    }

    /// A stream breaks, or the DNS says something else.
    pub fn shake(&mut self) {
        if !self.streams.active {
            return;
        }
        if self.streams.dice.percent(70) {
            let place = [A, B][self.streams.dice.below(2) as usize];
            if self.w.streams.contains_key(&place.parse().unwrap()) {
                self.streams.cuts += self.w.exchange.calls().count().min(1);
                self.w.close_stream(place);
            }
        } else {
            let places: [&[&str]; 4] = [&[A], &[A, A2], &[A2, A], &[A2]];
            let places = places[self.streams.dice.below(4) as usize];
            self.streams.moves += 1;
            self.w.move_trunk("a", places);
        }
    }

    /// Operators that still believe in a call, though all are over and nobody has lost a message.
    pub fn unheard(&self) -> Vec<&Key> {
        let operator = |key: &Key| [A, B].iter().any(|at| key.0.to_string() == *at);
        let reachable = |key: &Key| !self.w.unreachable.contains(&key.0);
        let told = |key: &Key| {
            let (streams, call_id) = (&self.streams, &key.1);
            streams.ended.contains(call_id) || streams.given_up.contains(call_id)
        };
        let left = self.bots.iter().filter(|(key, bot)| {
            let accepted = match &bot.answer {
                Some(Message::Response(answer)) => answer.status == 200 && bot.acked,
                // It called, and was answered.
                Some(Message::Request(_)) | None => true,
            };
            operator(key) && reachable(key) && accepted && bot.decided && !bot.over && !told(key)
        });
        left.map(|(key, _)| key).filter(|key| !self.doors.is_excused(key)).collect()
    }
}
