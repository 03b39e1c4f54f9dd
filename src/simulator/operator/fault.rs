//! What operators' trunks get wrong, by name: each a way to treat every call, for gateways that must stand it.

use super::treatment::{Decision, Progress, Treatment};
use std::time::Duration;

/// One fault.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    pub name: &'static str,
    pub about: &'static str,
    spoil: fn(&mut Treatment),
}

impl Fault {
    /// The treatment with the fault in it.
    pub fn apply(&self, mut treatment: Treatment) -> Treatment {
        (self.spoil)(&mut treatment);
        Treatment { name: self.name.to_owned(), ..treatment }
    }
}

pub static FAULTS: [Fault; 15] = [
    Fault {
        name: "black-hole",
        about: "not a word to any call",
        spoil: |treatment| (treatment.progress, treatment.decision) = (Progress::Silent, Decision::Never),
    },
    Fault {
        name: "slow-trying",
        about: "100 Trying comes after two seconds",
        spoil: |treatment| treatment.slow = Duration::from_secs(2),
    },
    Fault {
        name: "ringing-storm",
        about: "a hundred provisional responses before the answer",
        spoil: |treatment| treatment.storm = 100,
    },
    Fault {
        name: "no-sdp",
        about: "the answer has no session description",
        spoil: |treatment| {
            treatment.progress = Progress::Ringing;
            treatment.quirks.answer_without_sdp = true;
        },
    },
    Fault {
        name: "foreign-codec",
        about: "the answer names a codec that nobody offered",
        spoil: |treatment| {
            treatment.progress = Progress::Ringing;
            treatment.quirks.answer_with_foreign_codec = true;
        },
    },
    Fault {
        name: "redirect-loop",
        about: "302 to itself, again and again",
        spoil: |treatment| {
            *treatment = Treatment { challenge: treatment.challenge, ..Treatment::refuse(302) }
        },
    },
    Fault {
        name: "late-answer",
        about: "a CANCEL is answered, and the call too",
        spoil: |treatment| {
            treatment.after = Duration::from_secs(60);
            treatment.quirks.answer_after_cancel = true;
        },
    },
    Fault {
        name: "lost-ack",
        about: "no ACK is ever noticed: the answer is repeated until it gives up",
        spoil: |treatment| treatment.quirks.deaf_to_ack = true,
    },
    Fault {
        name: "lost-bye",
        about: "no BYE is ever answered",
        spoil: |treatment| treatment.quirks.deaf_to_bye = true,
    },
    Fault {
        name: "lost-dialog",
        about: "a re-INVITE gets 481",
        spoil: |treatment| treatment.quirks.refuse_updates = Some(481),
    },
    Fault {
        name: "no-updates",
        about: "a re-INVITE gets 488",
        spoil: |treatment| treatment.quirks.refuse_updates = Some(488),
    },
    Fault {
        name: "short-session",
        about: "the answer grants a session of five seconds, which it then does not refresh",
        spoil: |treatment| treatment.quirks.grants = Some(5),
    },
    Fault {
        name: "spoofed-bye",
        about: "somebody who does not know the dialog's tags sends a BYE",
        spoil: |treatment| treatment.quirks.spoofed_bye = true,
    },
    Fault { name: "one-way", about: "no voice comes back", spoil: |treatment| treatment.mute = true },
    Fault {
        name: "unsteady",
        about: "hangs up two seconds after the answer",
        spoil: |treatment| treatment.talk = Some(Duration::from_secs(2)),
    },
];

/// The fault of that name.
pub fn fault(name: &str) -> Option<&'static Fault> {
    FAULTS.iter().find(|known| known.name.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_is_found_by_its_name_and_changes_something() {
        for known in &FAULTS {
            assert!(std::ptr::eq(fault(&known.name.to_uppercase()).unwrap(), known));
            let spoilt = known.apply(Treatment::default());
            assert_eq!(spoilt.name, known.name);
            assert_ne!(Treatment { name: Treatment::default().name, ..spoilt }, Treatment::default());
        }
        assert!(fault("none").is_none());
    }
}
