//! What a trunk's failure means for the call: try the next trunk, or tell the caller.

use std::{collections::BTreeMap, fmt, time::Duration};

/// How an attempt towards a trunk failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// A final failure response, with the Q.850 cause of its Reason header (RFC 3326) where it had one.
    Status { code: u16, q850: Option<u8> },
    /// Nothing came in answer to the INVITE.
    NoReply,
    /// The transport failed or could not be opened.
    Transport,
    /// The trunk refuses our credentials.
    Credentials,
}

/// What to do after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailoverAction {
    /// Try the next trunk.
    Next,
    /// The answer is final: the caller gets it.
    Final,
    /// The answer is final, and the trunk takes no calls for this long.
    FinalAndBlock(Duration),
}

/// The key of a table entry: a response code, perhaps only with one Q.850 cause, or a failure without any response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FailoverKey {
    Status { code: u16, q850: Option<u8> },
    NoReply,
    Transport,
    Credentials,
}

/// From failure to action; per trunk, because carriers mean different things by one code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailoverTable {
    entries: BTreeMap<FailoverKey, FailoverAction>,
}

impl Default for FailoverTable {
    /// Next where the network failed; final on everything a person or a number decided, and on what is unknown,
    /// so that nobody who declined is rung twice.
    fn default() -> FailoverTable {
        let mut table = FailoverTable { entries: BTreeMap::new() };
        for code in [408, 500, 502, 503, 504] {
            table.set(FailoverKey::Status { code, q850: None }, FailoverAction::Next);
        }
        for key in [FailoverKey::NoReply, FailoverKey::Transport, FailoverKey::Credentials] {
            table.set(key, FailoverAction::Next);
        }
        table
    }
}

impl FailoverTable {
    /// Adds an entry or replaces the one with the same key.
    pub fn set(&mut self, key: FailoverKey, action: FailoverAction) {
        self.entries.insert(key, action);
    }

    pub fn iter(&self) -> impl Iterator<Item = (FailoverKey, FailoverAction)> + '_ {
        self.entries.iter().map(|(key, action)| (*key, *action))
    }

    /// The action for a failure: an entry with the Q.850 cause goes before one with the code alone.
    pub fn action(&self, failure: Failure) -> FailoverAction {
        let found = match failure {
            Failure::Status { code, q850 } => q850
                .and_then(|cause| self.entries.get(&FailoverKey::Status { code, q850: Some(cause) }))
                .or_else(|| self.entries.get(&FailoverKey::Status { code, q850: None })),
            Failure::NoReply => self.entries.get(&FailoverKey::NoReply),
            Failure::Transport => self.entries.get(&FailoverKey::Transport),
            Failure::Credentials => self.entries.get(&FailoverKey::Credentials),
        };
        found.copied().unwrap_or(FailoverAction::Final)
    }
}

impl fmt::Display for FailoverKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FailoverKey::Status { code, q850: None } => write!(f, "{code}"),
            FailoverKey::Status { code, q850: Some(cause) } => write!(f, "{code}/{cause}"),
            FailoverKey::NoReply => f.write_str("no-reply"),
            FailoverKey::Transport => f.write_str("transport"),
            FailoverKey::Credentials => f.write_str("credentials"),
        }
    }
}

impl fmt::Display for FailoverAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FailoverAction::Next => f.write_str("next"),
            FailoverAction::Final => f.write_str("final"),
            FailoverAction::FinalAndBlock(pause) => write!(f, "block:{}", pause.as_secs()),
        }
    }
}

impl std::str::FromStr for FailoverKey {
    type Err = String;
    fn from_str(text: &str) -> Result<FailoverKey, String> {
        let wrong = || {
            format!(
                "\"{text}\" is no failure; write a SIP code as \"503\", a code with a Q.850 cause as \"503/34\", \
                 \"no-reply\", \"transport\" or \"credentials\""
            )
        };
        match text {
            "no-reply" => return Ok(FailoverKey::NoReply),
            "transport" => return Ok(FailoverKey::Transport),
            "credentials" => return Ok(FailoverKey::Credentials),
            _ => {}
        }
        let (code, q850) = match text.split_once('/') {
            Some((code, cause)) => (code, Some(cause.parse::<u8>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let code: u16 = code.parse().map_err(|_| wrong())?;
        let valid = (300..700).contains(&code) && q850.is_none_or(|cause| (1..=127).contains(&cause));
        if valid { Ok(FailoverKey::Status { code, q850 }) } else { Err(wrong()) }
    }
}

impl std::str::FromStr for FailoverAction {
    type Err = String;
    fn from_str(text: &str) -> Result<FailoverAction, String> {
        match text {
            "next" => Ok(FailoverAction::Next),
            "final" => Ok(FailoverAction::Final),
            _ => text
                .strip_prefix("block:")
                .and_then(|seconds| seconds.parse::<u32>().ok())
                .filter(|seconds| *seconds > 0)
                .map(|seconds| FailoverAction::FinalAndBlock(Duration::from_secs(seconds.into())))
                .ok_or_else(|| {
                    format!(
                        "\"{text}\" is no action; write \"next\", \"final\" or \"block:30\" \
                         (final, and no call to this trunk for 30 seconds)"
                    )
                }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_written_as_they_are_read() {
        let mut table = FailoverTable::default();
        table.set("603/34".parse().unwrap(), "block:30".parse().unwrap());
        for (key, action) in table.iter() {
            assert_eq!(key.to_string().parse(), Ok(key));
            assert_eq!(action.to_string().parse(), Ok(action));
        }
    }

    fn status(code: u16) -> Failure {
        Failure::Status { code, q850: None }
    }

    #[test]
    fn by_default_the_network_is_retried_and_a_decision_is_not() {
        let table = FailoverTable::default();
        for code in [408, 500, 502, 503, 504] {
            assert_eq!(table.action(status(code)), FailoverAction::Next, "{code}");
        }
        for failure in [Failure::NoReply, Failure::Transport, Failure::Credentials] {
            assert_eq!(table.action(failure), FailoverAction::Next);
        }
        for code in [302, 403, 404, 480, 484, 486, 487, 488, 600, 603, 604, 607, 699] {
            assert_eq!(table.action(status(code)), FailoverAction::Final, "{code}");
        }
    }

    #[test]
    fn a_carriers_own_meaning_replaces_the_default_and_a_cause_is_more_exact_than_a_code() {
        let mut table = FailoverTable::default();
        table.set("603".parse().unwrap(), "next".parse().unwrap());
        table.set("503".parse().unwrap(), "block:30".parse().unwrap());
        table.set("503/17".parse().unwrap(), "final".parse().unwrap());
        assert_eq!(table.action(status(603)), FailoverAction::Next);
        assert_eq!(table.action(status(503)), FailoverAction::FinalAndBlock(Duration::from_secs(30)));
        assert_eq!(table.action(Failure::Status { code: 503, q850: Some(17) }), FailoverAction::Final);
        assert_eq!(
            table.action(Failure::Status { code: 503, q850: Some(34) }),
            FailoverAction::FinalAndBlock(Duration::from_secs(30))
        );
    }

    #[test]
    fn wrong_entries_say_what_to_write() {
        for key in ["", "99", "200", "700", "503/", "503/0", "503/200", "busy"] {
            assert!(key.parse::<FailoverKey>().unwrap_err().contains("503/34"), "{key}");
        }
        for action in ["", "block", "block:0", "block:x", "retry"] {
            assert!(action.parse::<FailoverAction>().unwrap_err().contains("block:30"), "{action}");
        }
    }
}
