//! What the operator does with a call: as the end of the called number asks, else as its profile says.

use crate::simulator::agent::{Demand, Quirks};
use std::time::Duration;

/// What the far end hears of its call before the decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Nothing at all: the operator is dead.
    Silent,
    /// Nothing, if the decision is near.
    None,
    /// 100 Trying.
    Trying,
    /// 180 Ringing.
    Ringing,
    /// 183 Session Progress with a ringback tone in the media.
    EarlyMedia,
}

/// How a call is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Answer,
    Refuse {
        status: u16,
        /// Seconds in Retry-After.
        retry_after: Option<u32>,
    },
    /// It goes on until the far end gives up.
    Never,
}

/// One way to treat a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Treatment {
    /// As the ledger has it.
    pub name: String,
    /// Credentials the call has to bring.
    pub challenge: Option<Demand>,
    pub progress: Progress,
    /// From the INVITE to the decision.
    pub after: Duration,
    pub decision: Decision,
    /// From the answer to our BYE; `None`: the far end hangs up.
    pub talk: Option<Duration>,
    /// From the INVITE to the first word.
    pub slow: Duration,
    /// So many provisional responses more.
    pub storm: u16,
    /// No voice is sent.
    pub mute: bool,
    pub quirks: Quirks,
}

/// A second is long enough to hear it ring and short enough to wait for.
const RING: Duration = Duration::from_secs(1);
/// What a congested operator asks for, in seconds.
const RETRY_AFTER: u32 = 5;

impl Default for Treatment {
    /// Rings for a second and answers.
    fn default() -> Treatment {
        Treatment {
            name: "answer".to_owned(),
            challenge: None,
            progress: Progress::Ringing,
            after: RING,
            decision: Decision::Answer,
            talk: None,
            slow: Duration::ZERO,
            storm: 0,
            mute: false,
            quirks: Quirks::default(),
        }
    }
}

impl Treatment {
    fn named(name: &str) -> Treatment {
        Treatment { name: name.to_owned(), ..Treatment::default() }
    }

    /// Refuses at once with a status, a 503 with Retry-After (RFC 3261 §21.5.4).
    pub fn refuse(status: u16) -> Treatment {
        let retry_after = (status == 503).then_some(RETRY_AFTER);
        Treatment {
            progress: Progress::None,
            after: Duration::ZERO,
            decision: Decision::Refuse { status, retry_after },
            ..Treatment::named(&format!("refuse {status}"))
        }
    }

    /// What the last five digits of a called number ask for: two zeros and a code of three digits.
    ///
    /// `000` says nothing at all, `100` only 100 Trying; `180` rings and is never answered; `183` plays early media
    /// first; `200` answers at once; `401` and `407` demand credentials; other codes of 300 to 699 refuse with that
    /// status; `7NN` answers after NN seconds of ringing; `8NN` misbehaves (see [`misbehaviour`]); `9NN` answers and
    /// hangs up NN seconds later.
    pub fn of_number(number: &str) -> Option<Treatment> {
        let digits = number.strip_prefix('+').unwrap_or(number);
        let tail = digits.get(digits.len().checked_sub(5)?..)?;
        let code: u16 = tail.strip_prefix("00")?.parse().ok()?;
        let seconds = Duration::from_secs(u64::from(code % 100));
        let treatment = match code {
            0 => Treatment::silent(),
            100 => Treatment { progress: Progress::Trying, ..Treatment::never("trying") },
            180 => Treatment::never("no answer"),
            183 => Treatment::early_media(),
            200 => Treatment::at_once(),
            401 => Treatment { challenge: Some(Demand::Server), ..Treatment::named("challenge 401") },
            407 => Treatment { challenge: Some(Demand::Proxy), ..Treatment::named("challenge 407") },
            300..=699 => Treatment::refuse(code),
            700..=799 => Treatment { after: seconds, ..Treatment::named("answer late") },
            800..=899 => misbehaviour(code % 100)?,
            900..=999 => Treatment { talk: Some(seconds), ..Treatment::named("hang up") },
            _ => return None,
        };
        Some(treatment)
    }

    fn silent() -> Treatment {
        Treatment { progress: Progress::Silent, ..Treatment::never("silent") }
    }

    fn never(name: &str) -> Treatment {
        Treatment { decision: Decision::Never, ..Treatment::named(name) }
    }

    fn early_media() -> Treatment {
        Treatment { progress: Progress::EarlyMedia, ..Treatment::named("early media") }
    }

    fn at_once() -> Treatment {
        Treatment { progress: Progress::None, after: Duration::ZERO, ..Treatment::named("answer at once") }
    }
}

/// Faults of real operators by number: 1 never notices an ACK, 2 does not answer a BYE, 3 answers without a session
/// description, 4 answers with a codec nobody offered, 5 answers in spite of a CANCEL, 6 refuses every re-INVITE.
fn misbehaviour(number: u16) -> Option<Treatment> {
    let (name, quirks) = match number {
        1 => ("deaf to ACK", Quirks { deaf_to_ack: true, ..Quirks::default() }),
        2 => ("deaf to BYE", Quirks { deaf_to_bye: true, ..Quirks::default() }),
        3 => ("no SDP", Quirks { answer_without_sdp: true, ..Quirks::default() }),
        4 => ("foreign codec", Quirks { answer_with_foreign_codec: true, ..Quirks::default() }),
        5 => ("answer after CANCEL", Quirks { answer_after_cancel: true, ..Quirks::default() }),
        6 => ("refuse re-INVITE", Quirks { refuse_updates: Some(488), ..Quirks::default() }),
        _ => return None,
    };
    let after = if quirks.answer_after_cancel { Duration::from_secs(60) } else { RING };
    Some(Treatment { quirks, after, ..Treatment::named(name) })
}

/// A profile's name, what it is like, and its treatment of calls whose number asks for nothing special.
pub struct Profile {
    pub name: &'static str,
    pub about: &'static str,
    pub treatment: fn() -> Treatment,
}

/// All profiles; the first is the default.
pub static PROFILES: [Profile; 10] = [
    Profile { name: "standard", about: "rings for a second and answers", treatment: Treatment::default },
    Profile { name: "quick", about: "answers without ringing", treatment: Treatment::at_once },
    Profile {
        name: "early-media",
        about: "plays a ringback tone in early media, then answers",
        treatment: Treatment::early_media,
    },
    Profile {
        name: "digest",
        about: "demands credentials of every call",
        treatment: || Treatment { challenge: Some(Demand::Proxy), ..Treatment::named("challenge 407") },
    },
    Profile {
        name: "no-answer",
        about: "rings and never answers",
        treatment: || Treatment::never("no answer"),
    },
    Profile { name: "busy", about: "is always busy (486)", treatment: || Treatment::refuse(486) },
    Profile { name: "decline", about: "declines every call (603)", treatment: || Treatment::refuse(603) },
    Profile {
        name: "congested",
        about: "has no capacity (503 with Retry-After)",
        treatment: || Treatment::refuse(503),
    },
    Profile {
        name: "unsteady",
        about: "hangs up five seconds after the answer",
        treatment: || Treatment { talk: Some(Duration::from_secs(5)), ..Treatment::named("hang up") },
    },
    Profile { name: "silent", about: "says nothing at all to any call", treatment: Treatment::silent },
];

/// The profile of that name.
pub fn profile(name: &str) -> Option<&'static Profile> {
    PROFILES.iter().find(|profile| profile.name.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(number: &str) -> Treatment {
        Treatment::of_number(number).unwrap_or_else(|| panic!("{number} asks for nothing"))
    }

    #[test]
    fn ordinary_numbers_ask_for_nothing() {
        for number in ["+32470123456", "112", "", "+", "+3247001234", "00999a", "+32470000800", "+3247000250"]
        {
            assert_eq!(Treatment::of_number(number), None, "{number}");
        }
    }

    #[test]
    fn the_end_of_a_number_asks_for_a_treatment() {
        assert_eq!(of("+3247000000").progress, Progress::Silent);
        assert_eq!(of("+3247000100").progress, Progress::Trying);
        assert_eq!(of("+3247000180").decision, Decision::Never);
        assert_eq!(of("+3247000183").progress, Progress::EarlyMedia);
        assert_eq!(of("003247000200").after, Duration::ZERO);
        assert_eq!(of("+3247000401").challenge, Some(Demand::Server));
        assert_eq!(of("+3247000407").challenge, Some(Demand::Proxy));
        assert_eq!(of("+3247000486").decision, Decision::Refuse { status: 486, retry_after: None });
        assert_eq!(of("+3247000503").decision, Decision::Refuse { status: 503, retry_after: Some(5) });
        assert_eq!(of("00712").after, Duration::from_secs(12));
        assert!(of("+3247000801").quirks.deaf_to_ack);
        assert_eq!(of("+3247000806").quirks.refuse_updates, Some(488));
        assert_eq!(of("+3247000903").talk, Some(Duration::from_secs(3)));
    }

    #[test]
    fn every_profile_is_found_by_its_name() {
        for known in &PROFILES {
            assert!(std::ptr::eq(profile(&known.name.to_uppercase()).unwrap(), known));
        }
        assert!(profile("unheard of").is_none());
        assert_eq!((PROFILES[0].treatment)(), Treatment::default());
    }
}
