//! What the demo found: for people as text, for machines as JSON.

use crate::billing::Cdr;
use crate::simulator::conversation::CallReport;
use crate::simulator::heard::Verdict;
use crate::simulator::operator::ledger::Entry;
use crate::store::CdrRow;
use crate::types::{CallId, LegReport};
use serde::Serialize;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// One direction of the voice: what its receiver heard and how the gateway measured the leg it came in by.
#[derive(Debug, Serialize)]
pub struct SideReport {
    pub verdict: Verdict,
    /// The gateway's leg towards the speaker.
    pub leg: Option<LegReport>,
}

/// The whole demo call.
#[derive(Debug, Serialize)]
pub struct Report {
    pub id: CallId,
    /// True if each side truly heard the other.
    pub heard: bool,
    pub to_operator: SideReport,
    pub to_app: SideReport,
    /// From the phone's INVITE.
    pub ringing_ms: Option<u32>,
    pub answered_ms: Option<u32>,
    pub duration_ms: u64,
    pub operator: Entry,
    pub cdr: Cdr,
    pub folder: PathBuf,
    #[serde(skip)]
    ladder: String,
}

pub(super) fn build(
    cdr: &CdrRow,
    call: &CallReport,
    entry: &Entry,
    ladder: String,
    to_operator: Verdict,
    to_app: Verdict,
    folder: &Path,
) -> Report {
    Report {
        id: cdr.cdr.id,
        heard: to_operator.heard && to_app.heard,
        to_operator: SideReport { verdict: to_operator, leg: cdr.cdr.caller_leg.clone() },
        to_app: SideReport { verdict: to_app, leg: cdr.cdr.callee_leg.clone() },
        ringing_ms: call.set_up.ringing_ms,
        answered_ms: call.set_up.answered_ms,
        duration_ms: cdr.cdr.duration_ms,
        operator: entry.clone(),
        cdr: cdr.cdr.clone(),
        folder: folder.to_owned(),
        ladder,
    }
}

impl SideReport {
    /// Measures of the leg, one a line.
    pub fn notes(&self) -> Vec<String> {
        let Some(leg) = &self.leg else { return Vec::new() };
        let expected = (leg.packets_received + leg.packets_lost).max(1);
        let measured = |value: Option<f32>, unit: &str| match value {
            Some(value) => format!("{value:.2}{unit}"),
            None => "not measured".to_owned(),
        };
        vec![
            format!("loss {:.1} %", leg.packets_lost as f32 * 100.0 / expected as f32),
            format!("jitter {}", measured(leg.jitter_ms, " ms")),
            format!("MOS-LQ {}", measured(leg.mos_lq, "")),
            format!("MOS-CQ {}", measured(leg.mos_cq, "")),
        ]
    }
}

impl Report {
    /// The report for a person at a terminal.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "\nThe call, message by message\n\n{}", self.ladder);
        let _ = writeln!(text, "What was heard");
        let sides = [("operator heard alice", &self.to_operator), ("alice heard the operator", &self.to_app)];
        for (name, side) in sides {
            let verdict = &side.verdict;
            let word = if verdict.heard { "yes" } else { "NO" };
            let _ = writeln!(
                text,
                "  {name:<26}{word:<4}{:.0} % of the speech, similarity {:.2}, {}",
                verdict.coverage * 100.0,
                verdict.similarity,
                side.notes().join(", ")
            );
            if let Some(fault) = verdict.fault {
                let _ = writeln!(text, "  {:<26}{fault:?}", "");
            }
        }
        let after = |ms: Option<u32>| ms.map_or("-".to_owned(), |ms| format!("{ms} ms"));
        let cdr = &self.cdr;
        let _ = writeln!(
            text,
            "\nSet-up\n  ringing after {}, answered after {}",
            after(self.ringing_ms),
            after(self.answered_ms)
        );
        let _ = writeln!(text, "\nThe call record");
        let codec =
            |codec: Option<crate::types::AudioCodec>| codec.map_or("-".to_owned(), |codec| codec.to_string());
        let number = |number: Option<&crate::types::E164>| number.map_or("-".to_owned(), ToString::to_string);
        let lines = [
            ("id", cdr.id.to_string()),
            ("direction", cdr.direction.as_str().to_owned()),
            (
                "caller",
                format!(
                    "{} as {}",
                    cdr.caller.user.as_deref().unwrap_or("-"),
                    number(cdr.caller.number.as_ref())
                ),
            ),
            ("called", format!("{} = {}", cdr.called.dialled, number(cdr.called.number.as_ref()))),
            ("trunk", cdr.egress_trunk.clone().unwrap_or_default()),
            ("codecs", format!("{} / {}", codec(cdr.caller_codec), codec(cdr.callee_codec))),
            ("post-dial delay", format!("{} ms", cdr.pdd_ms.unwrap_or(0))),
            (
                "duration",
                format!("{} ms (operator's ledger: {} ms)", cdr.duration_ms, self.operator.duration_ms),
            ),
            (
                "ended",
                format!(
                    "{} by {}",
                    cdr.end_cause.map_or("-", |cause| cause.as_str()),
                    cdr.released_by.map_or("-", |by| by.as_str())
                ),
            ),
            ("account pays", rated(cdr.sell.as_ref())),
            ("trunk costs", rated(cdr.buy.as_ref())),
        ];
        for (name, value) in lines {
            let _ = writeln!(text, "  {name:<18}{value}");
        }
        let _ = writeln!(
            text,
            "\nSaved in {}: alice-heard.wav, operator-heard.wav, call.svg, operator-ledger.jsonl",
            self.folder.display()
        );
        let verdict = if self.heard {
            "Each side heard the other."
        } else {
            "The call FAILED: somebody was not heard."
        };
        let _ = writeln!(text, "\n{verdict}");
        text
    }
}

fn rated(side: Option<&crate::billing::Rated>) -> String {
    use crate::billing::Rated;
    match side {
        Some(Rated::Charge(charge)) => {
            format!("{} for {} s at {}", charge.amount, charge.billed_s, charge.prefix)
        }
        Some(Rated::NotRated(why)) => format!("nothing: {}", why.as_str()),
        None => "not rated yet".to_owned(),
    }
}
