//! Who sent a call on before it came here (Diversion, RFC 5806; History-Info, RFC 7044): read entry by entry, and written
//! anew for the next hop, so that of the networks it came through nothing goes along but the numbers.

use super::identity::ANONYMOUS_HOST;
use super::settings::Trunk;
use crate::routing::{Dialled, NumberFormat, NumberPlan};
use crate::sip::message::{HeaderName, Headers, NameAddr, Reason, Uri, unescape};
use crate::types::{E164, HostPort};

/// Entries that are passed on; a longer history is a loop or a bomb.
const MOST: usize = 10;

/// The way of a call so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forwarding {
    /// Newest first.
    diversions: Vec<Diversion>,
    /// The whole way, in its order.
    history: Vec<Step>,
}

/// Why a user's device sends a call on: the word of RFC 5806 §4, and the cause of RFC 4458 §3 that is nearest to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Why {
    pub word: &'static str,
    pub cause: u16,
    /// The device says it; else it is what its ringing tells.
    said: bool,
}

const WHYS: [(&str, u16); 10] = [
    ("unconditional", 302),
    ("user-busy", 486),
    ("no-answer", 408),
    ("unavailable", 404),
    ("deflection", 487),
    ("do-not-disturb", 302),
    ("time-of-day", 302),
    ("follow-me", 302),
    ("out-of-service", 404),
    ("away", 302),
];

impl Why {
    /// What a device's 3xx says itself, else what its ringing tells: `rang` before it, a person has deflected the call.
    pub fn of(headers: &Headers, rang: bool) -> Why {
        let said = headers.list(&HeaderName::Diversion).next().and_then(|value| NameAddr::parse(value).ok());
        let said = said.as_ref().and_then(|entry| entry.params.value("reason"));
        let known = |word: &str| WHYS.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(word));
        let said = said.and_then(known);
        let (word, cause) = said.unwrap_or(if rang { ("deflection", 487) } else { ("unconditional", 302) });
        Why { word, cause, said: said.is_some() }
    }

    /// True where the device says that it holds for all calls of the user (RFC 5806 §4: "unconditional"), whatever this one
    /// met. A 302 without a word may be a busy phone's, and "do-not-disturb" is of one phone: the others ring on.
    pub fn is_unconditional(self) -> bool {
        self.said && self.word == "unconditional"
    }
}

/// Somebody on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Party {
    /// `None`: it has none that can be read, and what it has instead is nobody's business.
    number: Option<Dialled>,
    /// It wants not to be named.
    private: bool,
}

/// One that sent the call on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Diversion {
    party: Party,
    reason: Option<String>,
    counter: Option<u32>,
}

/// One that the call was meant for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    party: Party,
    index: String,
    /// Why it was sent here (RFC 4458).
    cause: Option<u16>,
    /// Why it did not stay, as (protocol, cause).
    reason: Option<(String, u16)>,
    /// How the next one was found (`rc`, `mp` or `np`), and from which entry.
    how: Option<(&'static str, String)>,
}

impl Forwarding {
    /// Reads what an INVITE says, or a 3xx, its numbers in `format`. `hidden` is whether its Privacy covers all of it.
    pub fn of(
        headers: &Headers,
        numbers: &NumberPlan,
        format: NumberFormat,
        hidden: bool,
    ) -> Option<Box<Forwarding>> {
        let entries = |name: &HeaderName| -> Vec<NameAddr> {
            let values = headers.list(name).take(MOST);
            values.filter_map(|value| NameAddr::parse(value).ok()).collect()
        };
        let number = |uri: &Uri| numbers.normalise_as(&uri.subscriber(), Some(format)).ok();
        let diversion = |entry: NameAddr| {
            // RFC 5806 §4: `full` and `uri` hide the address; a display name is never passed on.
            let wish = entry.params.value("privacy").unwrap_or_default();
            let private = hidden || ["full", "uri"].iter().any(|hides| wish.eq_ignore_ascii_case(hides));
            Diversion {
                party: Party { number: number(&entry.uri), private },
                reason: entry.params.value("reason").filter(|reason| is_word(reason)).map(str::to_owned),
                counter: entry.params.value("counter").and_then(|counter| counter.parse().ok()),
            }
        };
        let step = |entry: NameAddr| {
            let mut wishes = embedded(&entry.uri, "Privacy");
            let private = hidden || wishes.any(|wishes| wishes.split(';').any(hides_history));
            let reason = embedded(&entry.uri, "Reason").find_map(|value| Reason::parse(&value));
            let how = ["rc", "mp", "np"].into_iter().find_map(|how| {
                let from = entry.params.value(how).filter(|from| is_index(from))?;
                Some((how, from.to_owned()))
            });
            Step {
                party: Party { number: number(&entry.uri), private },
                index: entry.params.value("index").filter(|index| is_index(index)).unwrap_or("1").to_owned(),
                cause: entry.uri.params.value("cause").and_then(|cause| cause.parse().ok()),
                reason: reason.and_then(|reason| Some((reason.protocol, reason.cause?))),
                how,
            }
        };
        let diversions: Vec<Diversion> = entries(&HeaderName::Diversion).into_iter().map(diversion).collect();
        let history: Vec<Step> = entries(&HeaderName::HistoryInfo).into_iter().map(step).collect();
        if diversions.is_empty() && history.is_empty() {
            return None;
        }
        let mut read = Forwarding { diversions, history };
        read.hide_everywhere();
        Some(Box::new(read))
    }

    /// Whoever wants not to be named in one entry is not named by another one.
    fn hide_everywhere(&mut self) {
        let hidden: Vec<Dialled> =
            self.parties().filter(|party| party.private).filter_map(|party| party.number.clone()).collect();
        for party in self.parties() {
            party.private |= party.number.as_ref().is_some_and(|number| hidden.contains(number));
        }
    }

    fn parties(&mut self) -> impl Iterator<Item = &mut Party> {
        let diverted = self.diversions.iter_mut().map(|diversion| &mut diversion.party);
        diverted.chain(self.history.iter_mut().map(|step| &mut step.party))
    }

    /// A trunk has sent the call on to another place of the same number, by a 3xx that `said` who diverted it, if
    /// anybody did (RFC 5806 §5). A number that only moved on inside its network was diverted by nobody.
    pub fn sent_on(&mut self, number: Dialled, status: u16, said: Option<Box<Forwarding>>) {
        if let Some(said) = said {
            self.diversions.splice(0..0, said.diversions);
            self.diversions.truncate(MOST);
        }
        // The next place grows out of the one that is left.
        let index = self.left(Some(number.clone()), status);
        self.history.push(Step::at(Some(number), format!("{index}.1"), Some(("rc", index))));
        self.forget_oldest();
    }

    /// A user of ours has sent the call on from its number to another one, by a 3xx of this status.
    pub fn diverted(&mut self, from: Option<E164>, to: Option<E164>, status: u16, why: Why) {
        let (from, to) = (from.map(Dialled::International), to.map(Dialled::International));
        let party = Party { number: from.clone(), private: false };
        self.diversions.insert(0, Diversion { party, reason: Some(why.word.to_owned()), counter: None });
        self.diversions.truncate(MOST);
        let index = self.left(from, status);
        // RFC 7044 §10.2: the next one is another user ("mp"), for a cause that RFC 4458 has a number for.
        let next = Step::at(to, format!("{index}.1"), Some(("mp", index)));
        self.history.push(Step { cause: Some(why.cause), ..next });
        self.forget_oldest();
    }

    /// True where one of these numbers has sent the call on already.
    pub fn came_by(&self, numbers: &[E164]) -> bool {
        let parties = self.diversions.iter().map(|diversion| &diversion.party);
        parties.filter_map(|party| party.number.as_ref()?.e164()).any(|number| numbers.contains(number))
    }

    /// The place that is left says why, as RFC 7044 §7.1 and §10.3 have it; its index.
    fn left(&mut self, number: Option<Dialled>, status: u16) -> String {
        let last = self.history.last().map(|last| (last.party.number == number, last.index.clone()));
        let index = match last {
            Some((true, index)) => index,
            Some((false, last)) => {
                let index = format!("{last}.1");
                self.history.push(Step::at(number, index.clone(), Some(("rc", last))));
                index
            }
            None => {
                self.history.push(Step::at(number, "1".to_owned(), None));
                "1".to_owned()
            }
        };
        if let Some(last) = self.history.last_mut() {
            last.reason = Some(("SIP".to_owned(), status));
        }
        index
    }

    fn forget_oldest(&mut self) {
        let late = self.history.len().saturating_sub(MOST);
        self.history.drain(..late);
        self.hide_everywhere();
    }

    /// The fields that tell a trunk of it; `host` is what stands behind our numbers.
    pub fn fields(&self, trunk: &Trunk, host: &HostPort, numbers: &NumberPlan) -> Vec<(HeaderName, String)> {
        let diversions = self.diversions.iter().map(|diversion| {
            let mut entry = NameAddr::new(diversion.party.uri(trunk, host, numbers));
            entry.params.set("reason", Some(diversion.reason.as_deref().unwrap_or("unknown")));
            if let Some(counter) = diversion.counter {
                entry.params.set("counter", Some(&counter.to_string()));
            }
            if diversion.party.private {
                entry.params.set("privacy", Some("full"));
            }
            (HeaderName::Diversion, entry.to_string())
        });
        let history = self.history.iter().map(|step| {
            let mut uri = step.party.uri(trunk, host, numbers);
            if let Some(cause) = step.cause {
                uri.params.set("cause", Some(&cause.to_string()));
            }
            let reason =
                step.reason.iter().map(|(protocol, cause)| format!("Reason={protocol}%3Bcause%3D{cause}"));
            // What is hidden needs no wish any more (RFC 7044 §10.1.2).
            let named = step.party.private && trunk.config.knows_withheld();
            let wish = named.then(|| "Privacy=history".to_owned());
            let headers: Vec<String> = reason.chain(wish).collect();
            uri.headers = (!headers.is_empty()).then(|| headers.join("&"));
            let mut entry = NameAddr::new(uri);
            entry.params.set("index", Some(&step.index));
            if let Some((how, from)) = &step.how {
                entry.params.set(how, Some(from));
            }
            (HeaderName::HistoryInfo, entry.to_string())
        });
        diversions.chain(history).collect()
    }
}

impl Step {
    fn at(number: Option<Dialled>, index: String, how: Option<(&'static str, String)>) -> Step {
        let party = Party { number, private: false };
        Step { party, index, cause: None, reason: None, how }
    }
}

impl Party {
    /// Somebody as a trunk may know it: by its number in the trunk's form, at our host.
    fn uri(&self, trunk: &Trunk, host: &HostPort, numbers: &NumberPlan) -> Uri {
        match self.number.as_ref().filter(|_| !self.private || trunk.config.knows_withheld()) {
            Some(Dialled::International(number)) => {
                let number = numbers.format(number, trunk.config.calling_format);
                Uri::sip(Some(&number), host.clone())
            }
            Some(Dialled::Short(code)) => Uri::sip(Some(code), host.clone()),
            Some(Dialled::Service(_)) | None => {
                let nowhere = HostPort { host: ANONYMOUS_HOST.to_owned(), port: None };
                Uri::sip(Some("anonymous"), nowhere)
            }
        }
    }
}

/// RFC 7044 §10.1: these words of Privacy cover entries of History-Info.
pub fn hides_history(word: &str) -> bool {
    let word = word.trim();
    ["history", "header", "session"].iter().any(|hides| word.eq_ignore_ascii_case(hides))
}

/// The values of a header field inside a URI (RFC 3261 §19.1.1).
fn embedded<'a>(uri: &'a Uri, name: &'a str) -> impl Iterator<Item = String> + 'a {
    let fields = uri.headers.as_deref().unwrap_or_default().split('&');
    fields.filter_map(move |field| {
        let (found, value) = field.split_once('=')?;
        found.eq_ignore_ascii_case(name).then(|| unescape(value).map(|value| value.into_owned())).flatten()
    })
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-')
}

/// `1.2.1` (RFC 7044 §10.3).
fn is_index(text: &str) -> bool {
    text.len() <= 32 && !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit() || octet == b'.')
}
