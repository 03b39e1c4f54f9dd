//! Ringback of our own for a caller whose session runs before the answer and who would hear nothing (RFC 3960 §3.2): its
//! own phone rings no more by itself, and nobody sends it anything.
//!
//! ```text
//! Silent ── it rings, and its far end may be heard ──▶ DueAt ── no voice for a second ──▶ Sounds ──▶ Silent
//!    └───── it rings, and nobody may be heard ──────────────────────────────────────────────┘
//! ```

use super::{Call, Plan, Stage};
use crate::call::core::Core;
use crate::call::event::Output;
use crate::call::leg::Leg;
use crate::media::Tone;
use crate::types::{LegId, Now};
use std::time::{Duration, Instant};

/// How long the far end may take until its early media comes.
const PATIENCE: Duration = Duration::from_secs(1);

/// What becomes of the tone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ringback {
    Silent,
    /// It sounds from then on if this leg was not heard.
    DueAt {
        at: Instant,
        unless: u8,
    },
    /// Until this leg is heard, where one may be.
    Sounds {
        unless: Option<u8>,
    },
}

impl Ringback {
    /// When the tone is due.
    pub fn poll_timeout(self) -> Option<Instant> {
        match self {
            Ringback::DueAt { at, .. } => Some(at),
            Ringback::Silent | Ringback::Sounds { .. } => None,
        }
    }
}

impl Call {
    /// A callee rings, or says that its media comes.
    pub(super) fn play_ringback(&mut self, core: &mut Core, now: Now) {
        // Before its own session runs the caller's phone rings by itself; and a PRACK that completes the session may come
        // late, when the one that rang has given up.
        if self.serves_transfer
            || !self.somebody_rings()
            || self.caller.media.negotiated.is_none()
            || !matches!(self.stage, Stage::Hunting { .. })
        {
            return;
        }
        match (self.ringback, self.early) {
            (Ringback::DueAt { unless, .. }, Some(early)) if unless == early => {}
            (Ringback::Sounds { unless }, early) if unless == early => {}
            (Ringback::Silent | Ringback::DueAt { .. }, Some(early)) => {
                self.ringback = Ringback::DueAt { at: now.instant + PATIENCE, unless: early };
            }
            // What sounds goes on, and ends as soon as the one that may be heard now is heard.
            (Ringback::Sounds { .. }, early) | (Ringback::Silent | Ringback::DueAt { .. }, early @ None) => {
                self.sound(core, early);
            }
        }
    }

    /// True while a phone rings: a trunk that was only just asked has rung nobody.
    fn somebody_rings(&self) -> bool {
        let rings = |leg: &Leg| {
            leg.is_inviting() && leg.attempt.as_ref().is_some_and(|attempt| attempt.ringing.is_some())
        };
        let line_rings = match self.plan {
            Plan::Line(_) => self.ringing.is_some(),
            Plan::Devices(_) | Plan::Trunks(_) | Plan::TakesOver { .. } | Plan::Refused { .. } => false,
        };
        line_rings || self.callees.iter().any(rings) || self.rings_elsewhere()
    }

    fn sound(&mut self, core: &mut Core, unless: Option<u8>) {
        self.ringback = Ringback::Sounds { unless };
        core.emit(Output::PlayTone {
            leg: self.caller.id,
            tone: Tone::Ringback(core.settings.media.ringback),
            unless: unless.map(|index| LegId { call: self.id, index }),
        });
    }

    /// The second is over.
    pub(super) fn ringback_timeout(&mut self, core: &mut Core, now: Now) {
        let Ringback::DueAt { at, unless } = self.ringback else { return };
        if at <= now.instant && matches!(self.stage, Stage::Hunting { .. }) {
            self.sound(core, Some(unless));
        }
    }

    /// Nobody is rung any more, or somebody has answered.
    pub(super) fn stop_ringback(&mut self, core: &mut Core) {
        match std::mem::replace(&mut self.ringback, Ringback::Silent) {
            Ringback::Silent | Ringback::DueAt { .. } => {}
            Ringback::Sounds { .. } => core.emit(Output::StopTone { leg: self.caller.id }),
        }
    }
}
