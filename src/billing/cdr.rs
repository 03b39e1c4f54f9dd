//! The CDR: what is kept of one call attempt, from its first message to its last.

use crate::types::{
    Attestation, AudioCodec, CallId, Direction, E164, Emergency, EndCause, Fax, LegReport, ReleasedBy,
    StirResult, TestLine, UnixMillis,
};
use serde::{Deserialize, Serialize};

use super::rating::Rated;

/// How far a record has come. A call has exactly one row; its state only moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CdrState {
    /// Started, perhaps answered, not ended.
    Open,
    /// Alive at its last periodic record.
    Interim,
    /// Ended in the ordinary way.
    Final,
    /// Found open after a crash and closed at its last known sign of life.
    Recovered,
}

impl CdrState {
    pub const ALL: [CdrState; 4] = [CdrState::Open, CdrState::Interim, CdrState::Final, CdrState::Recovered];

    pub fn as_str(self) -> &'static str {
        match self {
            CdrState::Open => "open",
            CdrState::Interim => "interim",
            CdrState::Final => "final",
            CdrState::Recovered => "recovered",
        }
    }

    /// True once nothing more will be written about the call.
    pub fn is_ended(self) -> bool {
        match self {
            CdrState::Open | CdrState::Interim => false,
            CdrState::Final | CdrState::Recovered => true,
        }
    }
}

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Caller {
    /// The app user, if the call came from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The account that pays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The number presented, normalised; `None` if withheld or not a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<E164>,
}

/// Who is called.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Called {
    /// What stood in the Request-URI's user part.
    pub dialled: String,
    /// The number it came to; `None` for a call by name and for what is no number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<E164>,
    /// The app user rung, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The test line that was called, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<TestLine>,
}

/// One attempt towards a callee: a trunk tried, a device rung.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CdrLeg {
    /// [`LegId::index`](crate::types::LegId): attempts count from 1, the caller's own leg is 0.
    pub index: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trunk: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// User part of the Request-URI as sent: the number in the trunk's own format.
    #[serde(default)]
    pub target: String,
    pub started_at: UnixMillis,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ringing_at: Option<UnixMillis>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_at: Option<UnixMillis>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<UnixMillis>,
    /// Last final status seen on this leg.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sip_code: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_cause: Option<EndCause>,
    /// True for the attempt whose answer was taken; at most one per call.
    #[serde(default)]
    pub chosen: bool,
}

/// One call attempt. Times are milliseconds since the epoch; durations come from the monotonic clock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cdr {
    pub id: CallId,
    /// Name of the gateway; written by the journal.
    #[serde(default)]
    pub node: String,
    /// Which run of the gateway began the call; written by the journal.
    #[serde(default)]
    pub boot: i64,
    /// Number of the call within (node, boot), from 1 without gaps; written by the journal.
    #[serde(default)]
    pub seq: u64,
    /// Journal sequence of this snapshot: of two snapshots of a call the higher one is true; written by the journal.
    #[serde(default)]
    pub revision: u64,
    pub state: CdrState,
    pub direction: Direction,
    /// The call that a transfer took this one out of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer_of: Option<CallId>,
    /// The call that a device of this one's user sent on: this is where it went, in the user's name and at its cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forwarded_of: Option<CallId>,
    /// A call for help, or one back to who asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emergency: Option<Emergency>,
    #[serde(default)]
    pub caller: Caller,
    #[serde(default)]
    pub called: Called,
    /// Trunk the call came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress_trunk: Option<String>,
    /// Trunk the call went to: the last one tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress_trunk: Option<String>,
    /// Company owning that trunk (or the ingress trunk where there is no other).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carrier: Option<String>,
    /// How well who signed the caller's identity knows the caller: the far end where the call came from a trunk, we
    /// ourselves where we signed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attestation: Option<Attestation>,
    /// What came of checking the caller's signed identity; `None` where nobody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stir_result: Option<StirResult>,
    /// Arrival of the caller's INVITE.
    pub started_at: UnixMillis,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ringing_at: Option<UnixMillis>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_at: Option<UnixMillis>,
    /// Last media packet heard on either leg.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_media_at: Option<UnixMillis>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released_at: Option<UnixMillis>,
    /// From the caller's INVITE to the first ringing or answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pdd_ms: Option<u64>,
    /// From answer to release; in an interim record, from answer to that record. 0 if not answered.
    #[serde(default)]
    pub duration_ms: u64,
    /// From answer until the trunk it went to had its part no more, where that left its caller to somebody else. `None`
    /// where it only took its call over by another dialog.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carried_ms: Option<u64>,
    /// From answer to the last media packet; `None` where no media was ever heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_cause: Option<EndCause>,
    /// Final SIP status of the attempt: 200 once answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sip_code: Option<u16>,
    /// ITU-T Q.850 cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub q850: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released_by: Option<ReleasedBy>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller_codec: Option<AudioCodec>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callee_codec: Option<AudioCodec>,
    /// It carried a fax or a modem, as far as that showed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fax: Option<Fax>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller_leg: Option<LegReport>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callee_leg: Option<LegReport>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub legs: Vec<CdrLeg>,
    /// Attempts left out of `legs` because the record would not have fitted its reserved space.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub legs_omitted: u16,
    /// What the account pays, or why it pays nothing; `None` until the call ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sell: Option<Rated>,
    /// What the carrier gets, or why it gets nothing; `None` until the call ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buy: Option<Rated>,
}

impl Cdr {
    /// The record of an attempt that has just begun.
    pub fn new(id: CallId, direction: Direction, started_at: UnixMillis) -> Cdr {
        Cdr {
            id,
            node: String::new(),
            boot: 0,
            seq: 0,
            revision: 0,
            state: CdrState::Open,
            direction,
            transfer_of: None,
            forwarded_of: None,
            emergency: None,
            caller: Caller::default(),
            called: Called::default(),
            ingress_trunk: None,
            egress_trunk: None,
            carrier: None,
            attestation: None,
            stir_result: None,
            started_at,
            ringing_at: None,
            answered_at: None,
            last_media_at: None,
            released_at: None,
            pdd_ms: None,
            duration_ms: 0,
            carried_ms: None,
            heard_ms: None,
            end_cause: None,
            sip_code: None,
            q850: None,
            released_by: None,
            caller_codec: None,
            callee_codec: None,
            fax: None,
            caller_leg: None,
            callee_leg: None,
            legs: Vec::new(),
            legs_omitted: 0,
            sell: None,
            buy: None,
        }
    }

    pub fn is_answered(&self) -> bool {
        self.answered_at.is_some()
    }

    /// Closes a call that was open when the gateway died, from its newest record and the last media time noted
    /// for it. Nothing later than the last sign of life counts, so the call is never billed for time it may not
    /// have lived; `now` (the restart) only bounds times that a damaged table may hold.
    pub fn close_after_crash(&mut self, noted_media_at: Option<UnixMillis>, now: UnixMillis) {
        let begun = self.answered_at.unwrap_or(self.started_at);
        let noted = noted_media_at.filter(|at| (self.started_at..=now).contains(at));
        self.last_media_at = self.last_media_at.max(noted);
        self.state = CdrState::Recovered;
        self.end_cause = Some(EndCause::GatewayCrashed);
        self.q850 = Some(EndCause::GatewayCrashed.q850());
        self.released_by = Some(ReleasedBy::Gateway);
        match self.answered_at {
            Some(answered_at) => {
                let heard =
                    self.last_media_at.filter(|at| *at >= answered_at).map(|at| (at - answered_at) as u64);
                self.heard_ms = self.heard_ms.max(heard);
                // An interim record proves the call alive without media too (hold).
                self.duration_ms = self.duration_ms.max(self.heard_ms.unwrap_or(0));
                self.released_at = Some(answered_at + self.duration_ms as i64);
            }
            None => {
                self.duration_ms = 0;
                self.released_at = Some(self.ringing_at.unwrap_or(begun));
            }
        }
    }
}

fn is_zero(count: &u16) -> bool {
    *count == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> Cdr {
        Cdr::new(CallId::from_parts(1_000, [7; 10]), Direction::AppToTrunk, 1_000)
    }

    #[test]
    fn a_crashed_call_ends_at_its_last_media_and_not_at_the_restart() {
        let mut cdr = call();
        cdr.answered_at = Some(5_000);
        cdr.close_after_crash(Some(65_250), 900_000);
        assert_eq!((cdr.duration_ms, cdr.heard_ms, cdr.released_at), (60_250, Some(60_250), Some(65_250)));
        assert_eq!((cdr.end_cause, cdr.state), (Some(EndCause::GatewayCrashed), CdrState::Recovered));
    }

    #[test]
    fn without_a_noted_time_the_last_interim_record_counts() {
        let mut cdr = call();
        cdr.answered_at = Some(5_000);
        cdr.duration_ms = 30_000;
        cdr.heard_ms = Some(29_990);
        cdr.last_media_at = Some(34_990);
        cdr.close_after_crash(None, 900_000);
        assert_eq!((cdr.duration_ms, cdr.heard_ms, cdr.released_at), (30_000, Some(29_990), Some(35_000)));
    }

    #[test]
    fn a_noted_time_outside_the_call_is_not_believed() {
        for noted in [0, 999, 900_001, i64::MAX] {
            let mut cdr = call();
            cdr.answered_at = Some(5_000);
            cdr.close_after_crash(Some(noted), 900_000);
            assert_eq!(
                (cdr.duration_ms, cdr.released_at, cdr.last_media_at),
                (0, Some(5_000), None),
                "{noted}"
            );
        }
    }

    #[test]
    fn early_media_before_the_answer_bills_nothing() {
        let mut cdr = call();
        cdr.answered_at = Some(5_000);
        cdr.close_after_crash(Some(4_000), 900_000);
        assert_eq!((cdr.duration_ms, cdr.released_at), (0, Some(5_000)));
    }

    #[test]
    fn an_unanswered_call_ends_when_it_was_last_known_to_ring() {
        let mut cdr = call();
        cdr.ringing_at = Some(1_800);
        cdr.close_after_crash(Some(3_000), 900_000);
        assert_eq!((cdr.duration_ms, cdr.released_at), (0, Some(1_800)));
    }
}
