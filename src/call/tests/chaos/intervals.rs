//! Far ends to which no session is long enough: each answer asks for a longer one.

use super::{Chaos, Key};
use crate::call::tests::world::*;
use crate::sip::message::{HeaderName, Message, Method, Request, Response, Typed};
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;

/// What they have asked for in a storm.
#[derive(Default)]
pub struct Intervals {
    /// What became of each request: it may come again.
    verdicts: HashMap<(Key, String), Option<Response>>,
    /// They are not content yet.
    asking: BTreeSet<Key>,
    /// Sessions that were long enough in the end.
    pub raised: usize,
}

impl Chaos {
    /// True where a far end wants a longer session first.
    pub fn is_too_short(&mut self, key: &Key, request: &Request) -> bool {
        let Some(asked) = request.session_expires() else { return false };
        if !matches!(request.method, Method::Invite | Method::Update) {
            return false;
        }
        let place = (key.clone(), request.headers.get(&HeaderName::Via).unwrap().to_owned());
        let verdict = match self.intervals.verdicts.get(&place) {
            Some(verdict) => verdict.clone(),
            None => {
                let asking = self.intervals.asking.contains(key);
                let refuses = self.dice.percent(if asking { 75 } else { 8 });
                let verdict = refuses.then(|| {
                    let least = u64::from(asked.seconds) + 1 + self.dice.below(30);
                    let answer = Response::to_request(request, 422);
                    let answer = if request.to_tag().is_some() { answer } else { answer.with_tag("short") };
                    answer.with_header(HeaderName::MinSe, least.to_string())
                });
                if refuses {
                    self.intervals.asking.insert(key.clone());
                } else {
                    self.intervals.raised += usize::from(self.intervals.asking.remove(key));
                }
                self.intervals.verdicts.insert(place, verdict.clone());
                verdict
            }
        };
        let refuses = verdict.is_some();
        if let Some(answer) = verdict {
            self.say(key.0, answer, ms(0));
        }
        refuses
    }
}

/// How often the call that was asked most often was asked for, whatever was answered.
pub fn most_asked(w: &World) -> usize {
    let mut asked: HashMap<(SocketAddr, &str), BTreeSet<u32>> = HashMap::new();
    for line in w.trace.iter().filter(|line| line.sent) {
        if let Message::Request(request) = &line.message
            && request.method == Method::Invite
            && request.to_tag().is_none()
        {
            let numbers = asked.entry((line.far, request.call_id().unwrap())).or_default();
            numbers.insert(request.cseq().unwrap().number);
        }
    }
    asked.values().map(BTreeSet::len).max().unwrap_or_default()
}
