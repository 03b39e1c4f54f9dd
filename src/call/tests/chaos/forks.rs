//! Other phones behind an operator's number: each has a dialog of its own with us, describes itself, changes that by UPDATE,
//! ends before the others or answers.

use super::{Chaos, Deed, Key};
use crate::call::tests::far::Side;
use crate::call::tests::world::*;
use crate::sip::message::{HeaderName, Message, Method, Request, Response, Typed};
use std::collections::BTreeMap;

/// A phone's tag.
pub type Place = String;

/// What it does next.
#[derive(Debug, Clone, Copy)]
pub enum Play {
    Say(u16),
    Update,
    Answer,
    /// The ACK has not come.
    AnswerAgain(u32),
    HangUp,
}

struct Fork {
    /// Whose it is.
    key: Key,
    side: Side,
    /// The number of its last reliable response.
    rseq: u32,
    /// Where it hears, in its last description.
    port: u64,
    /// It has described itself reliably, and knows that this has arrived.
    described: bool,
    settled: bool,
    answer: Option<Response>,
    acked: bool,
    over: bool,
}

/// All of them in a storm.
#[derive(Default)]
pub struct Forks {
    phones: BTreeMap<Place, Fork>,
    /// Changes before the answer that we took.
    pub changed: usize,
    /// Answers that we acknowledged.
    pub answered: usize,
}

impl Forks {
    /// Phones that answered and were never hung up on.
    pub fn left_open(&self) -> impl Iterator<Item = &Key> {
        self.phones.values().filter(|fork| fork.answer.is_some() && !fork.over).map(|fork| &fork.key)
    }
}

impl Fork {
    fn sdp(&self) -> String {
        ANSWER.replace("6000", &self.port.to_string())
    }
}

impl Chaos {
    /// One or two phones ring beside the one that a far end is.
    pub fn fork_plays(&mut self, key: &Key, invite: &Request) {
        for _ in 0..=self.dice.below(2) {
            let number = self.w.number();
            let place = format!("early{number}");
            let side = Side::called(key.0, invite.clone(), &place, self.w.via_of(key.0));
            let fork = Fork {
                key: key.clone(),
                side,
                rseq: 900,
                port: 6_400 + 2 * (number % 1_000),
                described: false,
                settled: false,
                answer: None,
                acked: false,
                over: false,
            };
            self.forks.phones.insert(place.clone(), fork);
            for (play, chance) in [
                (Play::Say(183), 80),
                (Play::Say(180), 60),
                (Play::Say(183), 40),
                (Play::Update, 30),
                (Play::Say(199), 25),
                (Play::Answer, 35),
            ] {
                if self.dice.percent(chance) {
                    let at = ms(100 + self.dice.below(6_000));
                    self.plan(at, Deed::Fork(place.clone(), play));
                }
            }
        }
    }

    /// A phone does something of its own accord.
    pub fn play_fork(&mut self, place: Place, play: Play) {
        let Some(fork) = self.forks.phones.get_mut(&place).filter(|fork| !fork.over) else { return };
        let key = fork.key.clone();
        // Where the operator has refused the call its phones ring no more; where another one has answered they may.
        let refused = self.bots.get(&key).is_some_and(|bot| match &bot.answer {
            Some(Message::Response(answer)) => answer.status >= 300,
            Some(Message::Request(_)) | None => bot.decided && !bot.over,
        });
        let early = fork.answer.is_none();
        let (at, dice) = (key.0, &mut self.dice);
        match play {
            Play::Say(status) if early && !refused => {
                let mut response = fork.side.response(&fork.side.invite, status);
                if status == 183 {
                    response = response.with_body("application/sdp", fork.sdp());
                }
                if fork.side.invite.supports("100rel") && dice.percent(60) {
                    fork.rseq += 1;
                    fork.described |= status == 183;
                    response.headers.push(HeaderName::Require, "100rel");
                    response.headers.push(HeaderName::RSeq, fork.rseq.to_string());
                }
                if dice.percent(30) {
                    let word = ["sendrecv", "inactive", "gated", "recvonly"][dice.below(4) as usize];
                    response.headers.push(HeaderName::PEarlyMedia, word);
                }
                fork.over = status == 199;
                self.say(at, response, ms(0));
            }
            Play::Update if fork.settled || !early => {
                fork.port += 1_000;
                let update = fork.side.request(Method::Update).with_body("application/sdp", fork.sdp());
                self.say(at, &update, ms(0));
                self.say(at, &update, ms(500));
            }
            Play::Answer if early && !refused => {
                let mut answer = fork.side.response(&fork.side.invite, 200);
                if !fork.settled || dice.percent(50) {
                    answer = answer.with_body("application/sdp", fork.sdp());
                }
                fork.answer = Some(answer.clone());
                // The operator lets it have the call.
                if let Some(bot) = self.bots.get_mut(&key).filter(|bot| !bot.decided) {
                    (bot.decided, bot.over) = (true, true);
                }
                self.say(at, answer, ms(0));
                self.plan(ms(500), Deed::Fork(place.clone(), Play::AnswerAgain(1)));
                let (change, end) = (ms(self.dice.below(10_000)), ms(self.dice.below(40_000)));
                self.plan(change, Deed::Fork(place.clone(), Play::Update));
                if self.dice.percent(50) {
                    self.plan(end, Deed::Fork(place, Play::HangUp));
                }
            }
            Play::AnswerAgain(round) if !fork.acked && round < 10 => {
                if let Some(answer) = fork.answer.clone() {
                    self.say(at, answer, ms(0));
                    self.plan(ms(500 << round.min(3)), Deed::Fork(place, Play::AnswerAgain(round + 1)));
                }
            }
            Play::HangUp if fork.acked => {
                let bye = fork.side.request(Method::Bye);
                self.say(at, &bye, ms(0));
                self.say(at, &bye, ms(500));
            }
            Play::Say(_) | Play::Update | Play::Answer | Play::AnswerAgain(_) | Play::HangUp => {}
        }
    }

    /// True for a request to one of these phones.
    pub fn is_for_fork(&mut self, key: &Key, request: &Request) -> bool {
        let place = request.to_tag().unwrap_or_default().to_owned();
        let Some(fork) = self.forks.phones.get_mut(&place) else { return false };
        let mut answer = fork.side.response(request, 200);
        match request.method {
            Method::Ack => {
                self.forks.answered += usize::from(!std::mem::replace(&mut fork.acked, true));
                return true;
            }
            Method::Bye => fork.over = true,
            Method::Prack => {
                fork.settled |= fork.described;
                if self.dice.percent(60) {
                    let after = ms(self.dice.below(1_000));
                    self.plan(after, Deed::Fork(place, Play::Update));
                }
            }
            Method::Invite => {
                let status = [200, 200, 200, 491, 488, 500][self.dice.below(6) as usize];
                answer = fork.side.response(request, status);
                if status == 200 {
                    answer = answer.with_body("application/sdp", fork.sdp());
                }
                if status == 500 {
                    answer.headers.push(HeaderName::RetryAfter, "2");
                }
            }
            _ => {}
        }
        self.say(key.0, answer, ms(0));
        true
    }

    /// True for a response to one of these phones.
    pub fn fork_hears(&mut self, response: &Response) -> bool {
        let place = response.from_tag().unwrap_or_default();
        let Some(fork) = self.forks.phones.get_mut(place) else { return false };
        match response.cseq().map(|cseq| cseq.method) {
            Ok(Method::Bye) => fork.over |= response.status >= 200,
            Ok(Method::Update) if fork.answer.is_none() => {
                self.forks.changed += usize::from(response.status == 200);
            }
            Ok(_) | Err(_) => {}
        }
        true
    }
}
