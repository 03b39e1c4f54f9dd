//! Test lines: what may answer inside the gateway in place of a person, so that an operator can test a trunk alone.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What stands at the far end of a call that the gateway answers itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TestLine {
    /// The caller hears itself.
    Echo,
    /// A steady tone of known frequency and level.
    Tone,
    /// A recorded voice, again and again.
    Speech,
    /// Never answers: 486 at once.
    Busy,
    /// Rings and never answers.
    NoAnswer,
    /// Plays back the keys that were pressed.
    Digits,
}

impl TestLine {
    pub const ALL: [TestLine; 6] = [
        TestLine::Echo,
        TestLine::Tone,
        TestLine::Speech,
        TestLine::Busy,
        TestLine::NoAnswer,
        TestLine::Digits,
    ];

    /// The name behind `line:` in a dialplan, and in the CDR.
    pub fn as_str(self) -> &'static str {
        match self {
            TestLine::Echo => "echo",
            TestLine::Tone => "tone",
            TestLine::Speech => "speech",
            TestLine::Busy => "busy",
            TestLine::NoAnswer => "no-answer",
            TestLine::Digits => "digits",
        }
    }

    /// What a caller meets there, in words.
    pub fn meaning(self) -> &'static str {
        match self {
            TestLine::Echo => "the caller hears itself",
            TestLine::Tone => "a steady tone",
            TestLine::Speech => "a recorded voice",
            TestLine::Busy => "busy",
            TestLine::NoAnswer => "rings and never answers",
            TestLine::Digits => "plays back the keys that are pressed",
        }
    }
}

impl fmt::Display for TestLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
