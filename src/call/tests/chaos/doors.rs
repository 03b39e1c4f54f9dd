//! Operators that want each request of ours proven, by nonces that serve for a moment.

use super::{Chaos, Key};
use crate::call::tests::world::*;
use crate::config::{Config, TrunkAuth};
use crate::sip::message::{HeaderName, Method, Request, Response, Typed};
use crate::types::Secret;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

/// What the operators of a storm keep of those they ask.
pub struct Doors {
    asks: bool,
    dice: Dice,
    doors: HashMap<Key, Door>,
    /// Dialogs that the far end has ended itself, or in which something of ours never left.
    excused: HashSet<Key>,
    /// Requests inside a call that were let in after they had been asked, those that end it counted too.
    pub proven: usize,
}

/// One dialog's.
#[derive(Default)]
struct Door {
    nonce: u64,
    /// So many more requests are let in by it.
    left: u64,
    /// What became of each request: it may come again.
    verdicts: BTreeMap<String, Option<Response>>,
    /// Something was let in.
    known: bool,
    /// How often our BYE was asked in vain.
    byes: usize,
}

impl Doors {
    /// In every third storm.
    pub fn new(seed: u64) -> Doors {
        Doors {
            asks: seed.is_multiple_of(3),
            dice: Dice(seed ^ 0x5eed),
            doors: HashMap::new(),
            excused: HashSet::new(),
            proven: 0,
        }
    }

    pub fn shape(&self, config: &mut Config) {
        for trunk in config.trunks.iter_mut().filter(|_| self.asks) {
            trunk.auth = TrunkAuth::Digest;
            trunk.username = "gw".into();
            trunk.password = Secret::new("gw-secret");
        }
    }

    /// Whether we are heard in this dialog is not for us to say.
    pub fn excuse(&mut self, key: Key) {
        self.excused.insert(key);
    }

    pub fn is_excused(&self, key: &Key) -> bool {
        self.excused.contains(key)
    }

    /// Dialogs that we left without the far end believing it, though it has asked; and those of `others` that have no
    /// excuse either.
    pub fn left_open<'a>(&'a self, others: impl Iterator<Item = &'a Key>) -> Vec<&'a Key> {
        let open = |(_, door): &(&Key, &Door)| (1..3).contains(&door.byes);
        let open = self.doors.iter().filter(open).map(|(key, _)| key);
        open.chain(others).filter(|key| !self.is_excused(key)).collect()
    }
}

impl Chaos {
    /// True where an operator wants to know first who says so.
    pub fn is_asked(&mut self, key: &Key, request: &Request) -> bool {
        let kind = matches!(request.method, Method::Invite | Method::Prack | Method::Update | Method::Bye);
        let operator = [A, B].iter().any(|at| key.0.to_string() == *at);
        let other = |tag| self.bots.get(key).is_some_and(|bot| bot.side.own.tag() != Some(tag));
        // A second fork is hung up on without much ado.
        if !self.doors.asks || !kind || !operator || request.to_tag().is_some_and(other) {
            return false;
        }
        let Doors { dice, doors, proven, .. } = &mut self.doors;
        let door = doors.entry(key.clone()).or_default();
        let via = request.headers.get(&HeaderName::Via).unwrap().to_owned();
        let challenge = match door.verdicts.get(&via) {
            Some(verdict) => verdict.clone(),
            None => {
                let verdict = door.verdict(dice, request, proven);
                door.verdicts.insert(via, verdict.clone());
                verdict
            }
        };
        let asked = challenge.is_some();
        if let Some(challenge) = challenge {
            self.say(key.0, challenge, Duration::ZERO);
        }
        asked
    }
}

impl Door {
    fn verdict(&mut self, dice: &mut Dice, request: &Request, proven: &mut usize) -> Option<Response> {
        let bye = request.method == Method::Bye;
        let credentials = request.headers.get(&HeaderName::ProxyAuthorization);
        let nonce = format!("nonce=\"{}\"", self.nonce);
        if credentials.is_some_and(|credentials| self.left > 0 && credentials.contains(&nonce)) {
            self.left -= 1;
            self.known = true;
            *proven += usize::from(request.to_tag().is_some());
            if bye {
                self.byes = 0;
            }
            return None;
        }
        if bye && self.known && credentials.is_none() {
            // An answer that came after the call was forgotten is hung up on by nobody in particular.
            return None;
        }
        self.byes += usize::from(bye);
        (self.nonce, self.left) = (dice.next(), 1 + dice.below(3));
        let stale = if credentials.is_some() { ",stale=true" } else { "" };
        let value = format!("Digest realm=\"operator\",nonce=\"{}\",qop=\"auth\"{stale}", self.nonce);
        let answer = Response::to_request(request, 407);
        let answer = if request.to_tag().is_some() { answer } else { answer.with_tag("door") };
        Some(answer.with_header(HeaderName::ProxyAuthenticate, value))
    }
}
