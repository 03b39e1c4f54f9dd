//! Audio that should be heard and is not: told once a call, and named in its record.

use super::{Call, Stage};
use crate::call::core::Core;
use crate::call::event::Event;
use crate::types::{AudioFault, LegId};

/// Half a second of voice. A call in which one side was heard for less, and the other not at all, was too short to judge.
const HEARD: u64 = 25;

impl Call {
    /// The media path missed one side while it heard the other.
    pub fn on_media_fault(&mut self, core: &mut Core, leg: LegId, fault: AudioFault) {
        match self.stage {
            Stage::Talking { .. } => self.tell_fault(core, leg.index, fault),
            Stage::Opening | Stage::Hunting { .. } | Stage::Answering { .. } | Stage::Closing(_) => {}
        }
    }

    /// At the end: a call too short for the media path to be sure was one-way too if a side was never heard. Where a leg
    /// talked to one of another call, the two of this call had nothing to hear of each other.
    pub(super) fn judge_one_way(&mut self, core: &mut Core) {
        if self.answered.is_none() || self.joined.is_some() || self.serves_transfer {
            return;
        }
        let Some(callee) = self.winner else { return };
        let held = [0, callee].into_iter().filter_map(|index| self.leg(index)).any(|leg| leg.media.is_held());
        if held {
            return;
        }
        let received = |call: &Call, index: u8| {
            let report = call.leg(index).and_then(|leg| leg.media.report.as_ref());
            report.map(|report| report.packets_received)
        };
        let missing = match (received(self, 0), received(self, callee)) {
            (Some(0), Some(HEARD..)) => 0,
            (Some(HEARD..), Some(0)) => callee,
            (Some(_) | None, Some(_) | None) => return,
        };
        let Some(leg) = self.leg_mut(missing) else { return };
        if let Some(report) = &mut leg.media.report {
            match report.fault {
                None | Some(AudioFault::Unheard) => {
                    (report.fault, report.fault_ms) = (Some(AudioFault::Missing), 0);
                }
                Some(AudioFault::Missing | AudioFault::Silent) => {}
            }
        }
        self.tell_fault(core, missing, AudioFault::Missing);
    }

    fn tell_fault(&mut self, core: &mut Core, index: u8, fault: AudioFault) {
        let Some(side) = self.leg(index) else { return };
        let (leg, of) = (side.kind(), side.party.trunk_name());
        // One that is not heard and does not hear is one fault of the way between. That nothing comes is told even where
        // one side has already said that it hears nothing.
        let known = self.faults.iter_mut().find(|known| known.is_one_way() == fault.is_one_way());
        let counted = known.is_some();
        match (known, fault) {
            (Some(known @ AudioFault::Unheard), AudioFault::Missing) => *known = fault,
            (Some(_), _) => return,
            (None, _) => self.faults.push(fault),
        }
        let trunk = self.trunk_name();
        core.event(Event::AudioFault { call: self.id, trunk, leg, of, fault, counted });
    }
}
