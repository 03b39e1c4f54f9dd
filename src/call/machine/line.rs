//! A call whose callee is a test line inside the gateway: no leg is rung, the caller's own is answered at its worker.
//!
//! ```text
//! Hunting ── echo, tone, speech, digits ──▶ Answering ──durable──▶ Talking with the line
//!    ├─────── no-answer: 180, until the ring time is over ──▶ Closing (480/19)
//!    └─────── busy ──▶ Closing (486/17)
//! ```

use super::{Call, Callee, Stage};
use crate::call::core::Core;
use crate::call::event::Output;
use crate::media::{Line, Tone};
use crate::types::{EndCause, Now, ReleasedBy, TestLine};

impl Call {
    /// The dialplan led to a test line.
    pub(super) fn reach_line(&mut self, core: &mut Core, now: Now, line: TestLine) {
        match line {
            TestLine::Echo | TestLine::Tone | TestLine::Speech | TestLine::Digits => {
                self.ringing = Some(now);
                self.answered = Some(now);
                self.stage = Stage::Answering { callee: Callee::Line(line), cancelled: false };
                self.record_answer(core, now);
            }
            TestLine::NoAnswer => {
                self.ringing = Some(now);
                self.say_progress(core, now, 180, false);
            }
            TestLine::Busy => self.close(core, now, EndCause::Busy, ReleasedBy::Callee, Some(486)),
        }
    }

    /// The line's answer is on disk.
    pub(super) fn line_answered(&mut self, core: &mut Core, now: Now, line: TestLine, cancelled: bool) {
        self.begin_talking(core, now, Callee::Line(line));
        if cancelled {
            self.close(core, now, EndCause::NormalClearing, ReleasedBy::Caller, Some(487));
            return;
        }
        self.let_caller_in(core, now);
    }

    /// Lets the line be heard.
    pub(super) fn serve(&self, core: &mut Core, line: TestLine) {
        let settings = &core.settings.lines;
        let line = match line {
            TestLine::Echo => Line::Echo,
            TestLine::Tone => {
                Line::Tone(Tone::Steady { hertz: settings.tone_hertz, dbm0: settings.tone_dbm0 })
            }
            TestLine::Speech => Line::Speech,
            TestLine::Digits => Line::Digits,
            TestLine::Busy | TestLine::NoAnswer => return,
        };
        core.emit(Output::Serve { leg: self.caller.id, line });
    }
}
