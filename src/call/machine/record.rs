//! What the CDR says of a call, at each step of its life.

use super::{Admitted, Call, Plan, Stage};
use crate::billing::{Called, Caller, Cdr, CdrLeg, CdrState, JournalRecord};
use crate::call::core::Core;
use crate::call::event::{Event, Output, RecordStep};
use crate::call::leg::{Leg, Party};
use crate::types::{Direction, EndCause, Fax, LegReport, Now, ReleasedBy};
use std::sync::Arc;

/// How an attempt towards a callee ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct AttemptEnd {
    pub status: u16,
    pub cause: EndCause,
}

/// The record of a call that has just been admitted.
pub(super) fn opening(now: Now, admitted: &Admitted) -> Cdr {
    let mut cdr = Cdr::new(admitted.id, admitted.direction, now.unix_ms);
    cdr.caller = Caller {
        user: admitted.caller.user_name().map(|name| name.to_string()),
        account: admitted.account.as_deref().map(str::to_owned),
        number: admitted.calling.parse().ok(),
    };
    cdr.called = Called {
        dialled: admitted.dialled.clone(),
        number: admitted.number.clone(),
        user: admitted.callee_user.as_deref().map(str::to_owned),
        line: match admitted.plan {
            Plan::Line(line) => Some(line),
            Plan::Devices(_) | Plan::Trunks(_) | Plan::TakesOver { .. } | Plan::Refused { .. } => None,
        },
    };
    match &admitted.forward {
        Some(forward) => cdr.forwarded_of = forward.of,
        None => cdr.transfer_of = admitted.transfer_of,
    }
    cdr.stir_result = admitted.provenance.result();
    cdr.attestation = admitted.attestation;
    cdr.emergency = admitted.emergency;
    if let Party::Trunk(trunk) = &admitted.caller {
        cdr.ingress_trunk = Some(trunk.name.to_string());
        cdr.carrier = Some(trunk.carrier.to_string());
    }
    cdr
}

impl Call {
    pub(super) fn record_start(&mut self, core: &mut Core) {
        core.event(Event::CallStarted { call: self.id, direction: self.direction });
        if counted_at_ingress(self.direction) {
            self.count_at_ingress(core);
        }
        let record = JournalRecord::Start(self.cdr.clone());
        core.emit(Output::Record { call: self.id, record, wait: None });
    }

    /// Counts the attempt where the call comes from, once: each one that ends has begun.
    pub(super) fn count_at_ingress(&mut self, core: &mut Core) {
        if !std::mem::replace(&mut self.counted, true) {
            let trunk = self.caller.party.trunk_name();
            core.event(Event::AttemptStarted { trunk, direction: self.direction });
        }
    }

    /// Writes what is known now; with `step` somebody waits until it is durable.
    pub(super) fn write_record(&mut self, core: &mut Core, now: Now, step: Option<RecordStep>) {
        self.fill(now);
        let record = match step {
            Some(RecordStep::Answer) => JournalRecord::Answer(self.cdr.clone()),
            Some(RecordStep::End) => {
                self.cdr.state = CdrState::Final;
                JournalRecord::End(self.cdr.clone())
            }
            None => {
                self.cdr.state = CdrState::Interim;
                JournalRecord::Interim(self.cdr.clone())
            }
        };
        core.emit(Output::Record { call: self.id, record, wait: step });
    }

    /// Asks both legs' workers how it goes; the interim record is written when they have answered.
    pub(super) fn ask_reports(&mut self, core: &mut Core) {
        let legs: Vec<_> = self.legs().filter(|leg| leg.is_established()).map(|leg| leg.id).collect();
        self.reports_due = legs.len();
        for leg in legs {
            core.emit(Output::ReportMedia { leg });
        }
    }

    pub(super) fn on_interim_report(&mut self, core: &mut Core, now: Now) {
        if self.reports_due > 0 {
            self.reports_due -= 1;
            if self.reports_due == 0 && matches!(self.stage, Stage::Talking { .. }) {
                self.write_record(core, now, None);
            }
        }
    }

    /// Notes the end of the call.
    pub(super) fn set_end(&mut self, now: Now, cause: EndCause, released_by: ReleasedBy, status: u16) {
        self.released = Some(now);
        self.cdr.released_at = Some(now.unix_ms);
        self.cdr.end_cause = Some(cause);
        self.cdr.q850 = Some(self.far.q850.unwrap_or(cause.q850()));
        self.cdr.released_by = Some(released_by);
        self.cdr.sip_code = Some(if self.answered.is_some() { 200 } else { status });
    }

    /// From the answer to the end, or to now; `None` before the answer.
    pub fn duration_ms(&self, now: Now) -> Option<u64> {
        let answered = self.answered?;
        let end = self.released.unwrap_or(now);
        Some(end.instant.saturating_duration_since(answered.instant).as_millis() as u64)
    }

    /// The trunk the call is counted for, which is the one that its attempt is counted for: the one it came from, or the
    /// last one tried.
    pub fn trunk_name(&self) -> Option<Arc<str>> {
        let from = self.caller.party.trunk_name();
        let to = self.callee().and_then(|leg| leg.party.trunk_name());
        if counted_at_ingress(self.direction) { from.or(to) } else { to.or(from) }
    }

    fn fill(&mut self, now: Now) {
        self.cdr.ringing_at = self.ringing.map(|at| at.unix_ms);
        self.cdr.answered_at = self.answered.map(|at| at.unix_ms);
        self.cdr.pdd_ms = self
            .ringing
            .map(|at| at.instant.saturating_duration_since(self.started.instant).as_millis() as u64);
        self.cdr.duration_ms = self.duration_ms(now).unwrap_or(0);
        self.cdr.caller_codec = self.caller_codec();
        self.cdr.caller_leg = measured(&self.caller);
        if let Some(callee) = self.callee() {
            let codec = callee.media.negotiated.as_ref().map(|agreed| agreed.codec);
            let report = measured(callee);
            let user = callee.party.user_name().map(|name| name.to_string());
            let trunk = match &callee.party {
                Party::Trunk(trunk) => Some((trunk.name.to_string(), trunk.carrier.to_string())),
                Party::User { .. } => None,
            };
            self.cdr.callee_codec = codec;
            self.cdr.callee_leg = report;
            self.cdr.called.user = user.or(self.cdr.called.user.take());
            if let Some((trunk, carrier)) = trunk {
                self.cdr.egress_trunk = Some(trunk);
                self.cdr.carrier = Some(carrier);
            }
        }
        if [&self.cdr.caller_leg, &self.cdr.callee_leg].into_iter().flatten().any(|leg| leg.fax) {
            self.cdr.fax.get_or_insert(Fax::Heard);
        }
        let heard = |leg: &Option<LegReport>| leg.as_ref().and_then(|report| report.last_media_at);
        self.cdr.last_media_at = heard(&self.cdr.caller_leg).max(heard(&self.cdr.callee_leg));
        self.cdr.heard_ms = self
            .cdr
            .last_media_at
            .zip(self.cdr.answered_at)
            .filter(|(heard, answered)| heard >= answered)
            .map(|(heard, answered)| ((heard - answered) as u64).min(self.cdr.duration_ms));
        let chosen = self.answered.and(self.winner);
        let mut legs = Vec::with_capacity(self.callees.len());
        legs.extend(self.callees.iter().filter_map(|leg| attempt(leg, chosen)));
        self.cdr.legs = legs;
    }
}

/// Counts of a leg that ever had something to count.
fn measured(leg: &Leg) -> Option<LegReport> {
    leg.media.negotiated.as_ref().and(leg.media.report.as_deref().cloned())
}

fn attempt(leg: &Leg, chosen: Option<u8>) -> Option<CdrLeg> {
    let attempt = leg.attempt.as_ref()?;
    Some(CdrLeg {
        index: leg.id.index,
        trunk: leg.party.trunk_name().map(|name| name.to_string()),
        user: leg.party.user_name().map(|name| name.to_string()),
        target: match leg.party {
            Party::Trunk(_) => attempt.called.clone(),
            // A device's contact holds its address: the record knows the user, that is enough.
            Party::User { .. } => String::new(),
        },
        started_at: attempt.started.unix_ms,
        ringing_at: attempt.ringing.map(|at| at.unix_ms),
        answered_at: attempt.answered.map(|at| at.unix_ms),
        ended_at: attempt.ended.map(|(at, ..)| at.unix_ms),
        sip_code: attempt.ended.map(|(_, status, _)| status),
        end_cause: attempt.ended.map(|(.., cause)| cause),
        chosen: chosen == Some(leg.id.index),
    })
}

/// True for calls that are counted where they come from; the others are counted per trunk tried.
pub(super) fn counted_at_ingress(direction: Direction) -> bool {
    match direction {
        Direction::TrunkToApp | Direction::AppToApp => true,
        Direction::AppToTrunk | Direction::TrunkToTrunk => false,
    }
}
