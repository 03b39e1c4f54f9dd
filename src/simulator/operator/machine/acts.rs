//! What the operator does on a line: treats a call, refuses, hangs up, and settles the times of what is over.

use super::{Line, Operator, Output, Stage};
use crate::sdp::Capability;
use crate::simulator::agent::{AgentError, EndedBy, Ending};
use crate::simulator::operator::ledger::{Media, ReleasedBy, Side};
use crate::simulator::operator::treatment::{Decision, Progress};
use crate::sip::message::{HeaderName, NameAddr, Uri};
use crate::types::{HostPort, Now};
use std::time::Instant;

impl Operator {
    /// Begins a call that came in, now that the media address is known.
    pub(super) fn treat(&mut self, now: Now, line: Line, capability: Capability) {
        let Some(call) = self.calls.get_mut(&line) else { return };
        let Some(handle) = call.handle else { return };
        let at = match call.treatment.decision {
            Decision::Never => None,
            Decision::Answer | Decision::Refuse { .. } => Some(call.started + call.treatment.after),
        };
        let (progress, slow, started) = (call.treatment.progress, call.treatment.slow, call.started);
        call.stage = Stage::Deciding { at };
        match self.agent.prepare(now, handle, capability) {
            Ok(()) => {}
            // The agent has refused the call, and says so by an event.
            Err(AgentError::Refused(_) | AgentError::WrongState) => return,
        }
        if !slow.is_zero() {
            if let Some(call) = self.calls.get_mut(&line) {
                call.stage = Stage::Waiting { at: started + slow };
            }
            return;
        }
        self.say_progress(now, line, progress, at);
    }

    /// The first word, and what follows from it.
    fn say_progress(&mut self, now: Now, line: Line, progress: Progress, at: Option<Instant>) {
        let Some((handle, storm)) =
            self.calls.get_mut(&line).and_then(|call| Some((call.handle?, call.treatment.storm)))
        else {
            return;
        };
        let said = match progress {
            Progress::Silent | Progress::None => Ok(()),
            Progress::Trying => self.agent.progress(now, handle, 100, false),
            Progress::Ringing => self.agent.progress(now, handle, 180, false),
            Progress::EarlyMedia => self.agent.progress(now, handle, 183, true),
        };
        for number in 0..storm {
            // Each is another word than the one before, as if the call wandered.
            let status = [181, 183, 180][usize::from(number % 3)];
            let _ = self.agent.progress(now, handle, status, false);
        }
        if said.is_ok() && at.is_some_and(|at| at <= now.instant) {
            self.act(now, line);
        }
    }

    /// Does what a line's deadline is for.
    pub(super) fn act(&mut self, now: Now, line: Line) {
        let Some(call) = self.calls.get_mut(&line) else { return };
        if let Stage::Waiting { at } = call.stage {
            let (progress, ends) = (call.treatment.progress, at + call.treatment.after);
            call.stage = Stage::Deciding { at: Some(ends) };
            return self.say_progress(now, line, progress, Some(ends));
        }
        match (&call.stage, call.treatment.decision, call.handle) {
            (Stage::Deciding { at: Some(_) }, Decision::Answer, Some(handle)) => {
                match self.agent.answer(now, handle) {
                    // The time of the answer is that of our 2xx, even if it carries an offer and media waits for the
                    // ACK.
                    Ok(()) => call.note_answer(now),
                    Err(AgentError::WrongState | AgentError::Refused(_)) => {
                        self.agent.reject(now, handle, 500, &[]);
                    }
                }
            }
            (Stage::Deciding { at: Some(_) }, Decision::Refuse { status, retry_after }, _) => {
                self.refuse(now, line, status, retry_after);
            }
            (Stage::Talking { .. } | Stage::Calling { .. }, _, _) => self.hang_up(now, line),
            (Stage::Waiting { .. } | Stage::Deciding { .. } | Stage::Opening(_) | Stage::Closing, _, _) => {}
        }
    }

    pub(super) fn refuse(&mut self, now: Now, line: Line, status: u16, retry_after: Option<u32>) {
        let Some(call) = self.calls.get(&line) else { return };
        let Some(handle) = call.handle else { return };
        let mut headers = Vec::new();
        if let Some(seconds) = retry_after {
            headers.push((HeaderName::RetryAfter, seconds.to_string()));
        }
        if (300..400).contains(&status) {
            // Back to where it came from: whoever follows goes round in circles.
            let here = Uri::sip(Some(&call.entry.called), HostPort::from(call.local));
            headers.push((HeaderName::Contact, NameAddr::new(here).to_string()));
        }
        if let Some(why) = &call.entry.reason {
            // RFC 3261 §20.43: 399 is for words.
            headers.push((HeaderName::Warning, format!("399 {} \"{why}\"", call.local)));
        }
        self.agent.reject(now, handle, status, &headers);
    }

    /// Ends a line from our side, now.
    pub(super) fn hang_up(&mut self, now: Now, line: Line) {
        let Some(call) = self.calls.get_mut(&line) else { return };
        call.released.get_or_insert(now.instant);
        call.entry.released_at = now.unix_ms;
        call.entry.released_by = match call.entry.side {
            Side::Callee => ReleasedBy::Callee,
            Side::Caller => ReleasedBy::Caller,
        };
        match &mut call.stage {
            Stage::Talking { hang_up_at } => *hang_up_at = None,
            Stage::Calling { .. } => call.stage = Stage::Deciding { at: None },
            Stage::Deciding { at } => *at = None,
            Stage::Waiting { .. } => call.stage = Stage::Deciding { at: None },
            Stage::Opening(_) | Stage::Closing => {}
        }
        match call.handle {
            Some(handle) => self.agent.hang_up(now, handle, 480),
            None => self.close(now, line),
        }
    }

    pub(super) fn on_ended(&mut self, now: Now, line: Line, ending: Ending) {
        let Some(call) = self.calls.get_mut(&line) else { return };
        if call.released.is_none() {
            call.released = Some(now.instant);
            call.entry.released_at = now.unix_ms;
            call.entry.released_by = match (ending.by, call.entry.side) {
                (EndedBy::Us, Side::Callee) | (EndedBy::Them, Side::Caller) => ReleasedBy::Callee,
                (EndedBy::Us, Side::Caller) | (EndedBy::Them, Side::Callee) => ReleasedBy::Caller,
                (EndedBy::Failure, _) => ReleasedBy::Nobody,
            };
        }
        if call.answered.is_none() {
            call.entry.status = ending.status;
        }
        let failure = (ending.by == EndedBy::Failure).then_some(ending.phrase);
        if let Some(reason) = ending.reason.or(failure) {
            call.entry.reason.get_or_insert(reason);
        }
        self.close(now, line);
    }

    /// Settles a line's times, and its entry once its media is closed.
    pub(super) fn close(&mut self, now: Now, line: Line) {
        let Some(call) = self.calls.get_mut(&line) else { return };
        if matches!(call.stage, Stage::Closing) && call.handle.is_none() && call.has_media {
            return;
        }
        call.stage = Stage::Closing;
        if call.released.is_none() {
            call.entry.released_at = now.unix_ms;
        }
        let released = *call.released.get_or_insert(now.instant);
        if let Some(answered) = call.answered {
            call.entry.duration_ms = released.saturating_duration_since(answered).as_millis() as u64;
        }
        if let Some(handle) = call.handle.take() {
            self.lines.remove(&handle);
        }
        if call.has_media {
            self.outputs.push_back(Output::CloseMedia { line });
        } else {
            self.media_closed(line, Media::default(), None);
        }
    }
}
