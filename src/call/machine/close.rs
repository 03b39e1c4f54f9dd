//! The end of a call: voices stop, the last counts come in, the record becomes durable, then the far ends hear.

use super::emergency::RECORD_PATIENCE;
use super::reason::warning;
use super::record::{AttemptEnd, counted_at_ingress};
use super::{Asked, Call, Note, Stage};
use crate::call::core::{Core, response, unsupported};
use crate::call::event::{Event, RecordStep};
use crate::call::leg::{self, Leg, LegState, Party};
use crate::sip::header_rules::Kind;
use crate::sip::message::{HeaderName, Method, Request, Response};
use crate::sip::session_timer;
use crate::types::{EndCause, LegKind, Now, Outcome, ReleasedBy};
use std::time::{Duration, Instant};

/// A worker answers within a millisecond; one that does not must not hold the record back.
const REPORT_PATIENCE: Duration = Duration::from_millis(500);

/// What is still to do before a call is gone.
#[derive(Debug)]
pub struct Closing {
    pub cause: EndCause,
    /// The final status for a caller that was never answered.
    status: u16,
    step: Step,
}

#[derive(Debug)]
enum Step {
    AwaitingReports {
        until: Instant,
    },
    AwaitingRecord {
        /// A call for help ends also where the disk does not answer.
        until: Option<Instant>,
    },
    Recorded,
}

impl Closing {
    pub fn is_recorded(&self) -> bool {
        matches!(self.step, Step::Recorded)
    }
    pub fn deadline(&self) -> Option<Instant> {
        match self.step {
            Step::AwaitingReports { until } => Some(until),
            Step::AwaitingRecord { until } => until,
            Step::Recorded => None,
        }
    }
}

impl Call {
    /// Begins the end. The first cause counts; later ones only find the call closing.
    /// `status` is the far end's own code where it decided.
    pub(super) fn close(
        &mut self,
        core: &mut Core,
        now: Now,
        cause: EndCause,
        released_by: ReleasedBy,
        status: Option<u16>,
    ) {
        if !self.is_live() {
            return;
        }
        let status = told(cause, status);
        self.stage = Stage::Closing(Closing {
            cause,
            status,
            step: Step::AwaitingReports { until: now.instant + REPORT_PATIENCE },
        });
        self.set_end(now, cause, released_by, status);
        if self.joined.is_some() || self.transfer.is_some() || self.waits_for_another() {
            self.notes.push(Note::Ended(cause));
        } else if self.serves_transfer {
            self.notes.push(Note::Failed(status));
        }
        let reason = self.far.value(cause);
        for position in 0..self.callees.len() {
            let leg = &mut self.callees[position];
            let untried = matches!(leg.state, LegState::Allocating);
            leg.release(core, now, &reason);
            leg.close_media(core);
            let end = if self.callees[position].attempt.as_ref().is_some_and(|a| a.answered.is_some()) {
                AttemptEnd { status: 200, cause }
            } else if untried {
                AttemptEnd { status: cause.sip_code(), cause }
            } else {
                AttemptEnd { status: 487, cause }
            };
            self.end_attempt(core, now, position, end);
        }
        self.caller.release(core, now, &reason);
        if let Some(reliable) = self.caller.reliable.as_mut() {
            reliable.stop();
        }
        self.caller.close_media(core);
        self.freed_channels.extend(self.incoming_channel.take());
        self.close_step(core, now);
    }

    /// A BYE is answered when the end it makes is on disk.
    pub(super) fn answer_when_recorded(&mut self, core: &mut Core, now: Now, asked: Asked) {
        match &self.stage {
            Stage::Closing(closing) if closing.is_recorded() => answer_bye(core, now, &asked),
            Stage::Opening
            | Stage::Hunting { .. }
            | Stage::Answering { .. }
            | Stage::Talking { .. }
            | Stage::Closing(_) => self.byes.push(asked),
        }
    }

    /// Writes the record once every leg's media told its last counts.
    pub(super) fn close_step(&mut self, core: &mut Core, now: Now) {
        if self.legs().all(|leg| leg.media.is_settled()) {
            self.write_end(core, now);
        }
    }

    /// Reports or the record's word did not come in time.
    pub(super) fn end_overdue(&mut self, core: &mut Core, now: Now) {
        let Stage::Closing(closing) = &self.stage else { return };
        match closing.step {
            Step::AwaitingReports { .. } => self.write_end(core, now),
            Step::AwaitingRecord { .. } => self.end_recorded(core, now, true),
            Step::Recorded => {}
        }
    }

    fn write_end(&mut self, core: &mut Core, now: Now) {
        let Stage::Closing(closing) = &mut self.stage else { return };
        if !matches!(closing.step, Step::AwaitingReports { .. }) {
            return;
        }
        let until = self.emergency.map(|_| now.instant + RECORD_PATIENCE);
        closing.step = Step::AwaitingRecord { until };
        self.judge_one_way(core);
        self.write_record(core, now, Some(RecordStep::End));
    }

    /// The end is on disk (or can't be): the waiting far ends get their answers.
    pub(super) fn end_recorded(&mut self, core: &mut Core, now: Now, durable: bool) {
        let Stage::Closing(closing) = &mut self.stage else { return };
        if closing.is_recorded() {
            return;
        }
        closing.step = Step::Recorded;
        let (cause, status) = if durable || self.answered.is_some() || self.emergency.is_some() {
            (closing.cause, closing.status)
        } else {
            (EndCause::JournalFailed, EndCause::JournalFailed.sip_code())
        };
        for asked in std::mem::take(&mut self.byes) {
            answer_bye(core, now, &asked);
        }
        if matches!(self.caller.state, LegState::Incoming { .. }) {
            self.refuse_caller(core, now, cause, status);
        }
        let measured = |leg: &Leg| {
            leg.media.negotiated.as_ref()?;
            Some((leg.kind(), leg.media.report.as_deref().cloned()?))
        };
        let (caller, callee) = (measured(&self.caller), self.callee().and_then(measured));
        if counted_at_ingress(self.direction) || self.callees.is_empty() {
            self.count_at_ingress(core);
            let trunk = self.caller.party.trunk_name();
            core.event(Event::AttemptEnded {
                trunk,
                direction: self.direction,
                outcome: cause.outcome(),
                failed_over: false,
            });
        }
        core.event(Event::CallEnded {
            call: self.id,
            trunk: self.trunk_name(),
            direction: self.direction,
            cause,
            emergency: self.emergency,
            duration_ms: self.duration_ms(now),
            ingress: self.caller.party.trunk_name(),
            caller,
            callee,
            callee_leg: self.callee().map(|leg| leg.id.index),
        });
    }

    /// The final failure answer to the caller's INVITE.
    pub(super) fn refuse_caller(&mut self, core: &mut Core, now: Now, cause: EndCause, status: u16) {
        let LegState::Incoming { server, request } = &self.caller.state else { return };
        let server = *server;
        let refusal = with_reason(response(request, status, &self.caller.local_tag), cause);
        let mut refusal = with_hints(refusal, request, Some(&self.caller.party));
        if cause == EndCause::IdentityStale {
            // RFC 8224 §6.2.2 gives this 403 a phrase of its own.
            refusal = refusal.with_reason(cause.phrase());
        }
        refusal.headers.set(HeaderName::Reason, self.far.value(cause));
        if let Some(seconds) = self.far.retry_after.filter(|_| is_decision(cause)) {
            refusal.headers.set(HeaderName::RetryAfter, seconds.to_string());
        }
        if matches!(status, 406 | 488 | 606) {
            // RFC 3261 §21.4.26: why no session came about.
            refusal.headers.push(HeaderName::Warning, warning(self.far.warning.unwrap_or(399)));
        }
        self.caller.dress(Kind::Response(status), &mut refusal.headers);
        core.respond(now, server, &Method::Invite, refusal);
        self.caller.vanish(core);
    }

    pub(super) fn end_cause(&self) -> Option<EndCause> {
        match &self.stage {
            Stage::Closing(closing) => Some(closing.cause),
            Stage::Opening | Stage::Hunting { .. } | Stage::Answering { .. } | Stage::Talking { .. } => None,
        }
    }

    /// Notes how an attempt towards a callee ended, once, and frees its trunk channel.
    pub(super) fn end_attempt(&mut self, core: &mut Core, now: Now, position: usize, end: AttemptEnd) {
        self.free_attempt(now, position, end);
        self.count_attempt(core, position, false);
    }

    /// As [`end_attempt`](Self::end_attempt), but it is not known yet whether another trunk takes the call.
    pub(super) fn free_attempt(&mut self, now: Now, position: usize, end: AttemptEnd) {
        let Some(attempt) = self.callees[position].attempt.as_mut() else { return };
        attempt.ended.get_or_insert((now, end.status, end.cause));
        self.freed_channels.extend(attempt.channel.take());
    }

    /// Counts an ended attempt for its trunk, once.
    pub(super) fn count_attempt(&mut self, core: &mut Core, position: usize, failed_over: bool) {
        let direction = self.direction;
        let leg = &mut self.callees[position];
        let (Some(attempt), Some(trunk)) = (leg.attempt.as_mut(), leg.party.trunk_name()) else { return };
        let Some((.., cause)) = attempt.ended else { return };
        if !std::mem::replace(&mut attempt.counted, true) {
            let outcome = cause.outcome();
            core.event(Event::AttemptEnded { trunk: Some(trunk), direction, outcome, failed_over });
        }
    }
}

/// Adds the Reason and, where waiting helps, Retry-After.
fn with_reason(mut response: Response, cause: EndCause) -> Response {
    response.headers.set(HeaderName::Reason, leg::reason(cause));
    if let Some(seconds) = leg::retry_after(cause) {
        response.headers.set(HeaderName::RetryAfter, seconds.to_string());
    }
    response
}

/// What an INVITE is answered that is refused without a call.
pub fn refusal_of(
    request: &Request,
    party: &Party,
    cause: EndCause,
    status: Option<u16>,
    warned: Option<u16>,
) -> Response {
    let status = told(cause, status);
    let mut refusal = with_hints(with_reason(response(request, status, ""), cause), request, Some(party));
    if matches!(status, 406 | 488 | 606) {
        refusal.headers.push(HeaderName::Warning, warning(warned.unwrap_or(399)));
    }
    refusal
}

/// Adds what a refused request should have been like, where its status asks for that. `party` is who sent it, where that
/// is known.
pub fn with_hints(mut response: Response, request: &Request, party: Option<&Party>) -> Response {
    match response.status {
        // RFC 3261 §21.4.13: it says what would have been taken.
        415 => response.headers.push(HeaderName::Accept, "application/sdp"),
        420 => {
            // RFC 3261 §8.2.2.3: it says what is not known here.
            let denied = party.into_iter().flat_map(|party| party.denied_extensions(request));
            let unknown: Vec<String> =
                unsupported(request).into_iter().chain(denied.map(str::to_owned)).collect();
            response.headers.push(HeaderName::Unsupported, unknown.join(", "));
        }
        // RFC 3261 §21.4.16.
        421 => response.headers.push(HeaderName::Require, "100rel"),
        // RFC 4028 §6.
        422 => response.headers.push(HeaderName::MinSe, session_timer::SHORTEST.to_string()),
        _ => {}
    }
    response
}

/// What the caller is told: the far end's own code where a person or a number decided, else ours.
fn told(cause: EndCause, far_end: Option<u16>) -> u16 {
    let decided = is_decision(cause) || cause == EndCause::NotAcceptable;
    // A status that was made exact by its Q.850 cause says less than ours.
    let says = |code: &u16| {
        let meant = EndCause::from_sip(*code);
        let vague = matches!(meant, EndCause::FarEndFailure | EndCause::FarEndCongested);
        meant == cause || cause == EndCause::NotAcceptable || !vague
    };
    let code =
        far_end.filter(|code| decided && (400..700).contains(code)).filter(says).unwrap_or(cause.sip_code());
    // Causes of answered calls have no failure of their own; a caller that hears of one was never let in.
    if code < 400 && far_end == Some(487) {
        // It took its INVITE back while the answer waited for its PRACK.
        487
    } else if code < 400 {
        EndCause::Unavailable.sip_code()
    } else {
        code
    }
}

/// True for what a person or a number decided.
fn is_decision(cause: EndCause) -> bool {
    match cause.outcome() {
        Outcome::Busy | Outcome::NoAnswer | Outcome::Declined | Outcome::NotFound | Outcome::Blocked => true,
        Outcome::Answered
        | Outcome::Cancelled
        | Outcome::NoRoute
        | Outcome::Congestion
        | Outcome::TrunkFailure
        | Outcome::MediaFailure
        | Outcome::ServerError => false,
    }
}

fn answer_bye(core: &mut Core, now: Now, asked: &Asked) {
    let answer = Response::to_request(&asked.request, 200);
    core.respond(now, asked.key, &asked.request.method, answer);
}

impl Leg {
    /// The kind of far end, for reports.
    pub fn kind(&self) -> LegKind {
        self.party.kind()
    }
}
