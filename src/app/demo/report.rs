//! What the demo found: for people as text, for machines as JSON.

use crate::billing::Cdr;
use crate::simulator::conversation::CallReport;
use crate::simulator::heard::Verdict;
use crate::simulator::operator::ledger::Entry;
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
    /// From the phone's first REGISTER.
    pub registered_ms: Option<u32>,
    /// From the phone's INVITE.
    pub ringing_ms: Option<u32>,
    pub answered_ms: Option<u32>,
    /// From the answer to the first voice the phone hears.
    pub first_voice_ms: Option<i64>,
    pub duration_ms: u64,
    pub operator: Entry,
    pub cdr: Cdr,
    pub folder: PathBuf,
    #[serde(skip)]
    ladder: String,
}

/// The accounts of all who took part.
pub(super) struct Told<'a> {
    pub cdr: &'a Cdr,
    pub call: &'a CallReport,
    pub entry: &'a Entry,
    pub registered_ms: Option<u32>,
}

pub(super) fn build(
    told: Told<'_>,
    ladder: String,
    to_operator: Verdict,
    to_app: Verdict,
    folder: &Path,
) -> Report {
    let Told { cdr, call, entry, registered_ms } = told;
    Report {
        id: cdr.id,
        heard: to_operator.heard && to_app.heard,
        to_operator: SideReport { verdict: to_operator, leg: cdr.caller_leg.clone() },
        to_app: SideReport { verdict: to_app, leg: cdr.callee_leg.clone() },
        registered_ms,
        ringing_ms: call.set_up.ringing_ms,
        answered_ms: call.set_up.answered_ms,
        first_voice_ms: call.set_up.first_voice_ms,
        duration_ms: cdr.duration_ms,
        operator: entry.clone(),
        cdr: cdr.clone(),
        folder: folder.to_owned(),
        ladder,
    }
}

impl SideReport {
    /// Measures of the leg, one a line.
    pub fn notes(&self) -> Vec<String> {
        let Some(leg) = &self.leg else { return Vec::new() };
        vec![
            format!("loss {}", loss(leg)),
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
        let after = |ms: Option<i64>| ms.map_or("-".to_owned(), |ms| format!("{ms} ms"));
        let _ = writeln!(text, "Set-up times");
        let times = [
            ("registered after", self.registered_ms.map(i64::from)),
            ("ringing after", self.ringing_ms.map(i64::from)),
            ("answered after", self.answered_ms.map(i64::from)),
            ("first voice then", self.first_voice_ms),
        ];
        for (name, ms) in times {
            let _ = writeln!(text, "  {name:<18}{:>8}", after(ms));
        }
        let cdr = &self.cdr;
        let codec =
            |codec: Option<crate::types::AudioCodec>| codec.map_or("-".to_owned(), |codec| codec.to_string());
        let _ = writeln!(
            text,
            "\nVoice as the gateway received it\n  {:<20}{:>9}{:>7}{:>9}{:>11}{:>13}{:>9}{:>9}",
            "leg", "packets", "lost", "loss", "jitter", "round trip", "MOS-LQ", "MOS-CQ"
        );
        let legs = [
            (format!("alice, {}", codec(cdr.caller_codec)), &self.to_operator.leg),
            (format!("operator, {}", codec(cdr.callee_codec)), &self.to_app.leg),
        ];
        for (name, leg) in legs {
            let Some(leg) = leg else { continue };
            let _ = writeln!(
                text,
                "  {name:<20}{:>9}{:>7}{:>9}{:>11}{:>13}{:>9}{:>9}",
                leg.packets_received,
                leg.packets_lost,
                loss(leg),
                measured(leg.jitter_ms, " ms"),
                measured(leg.rtt_ms, " ms"),
                measured(leg.mos_lq, ""),
                measured(leg.mos_cq, "")
            );
        }
        let _ = writeln!(text, "\nWhat was heard");
        let sides = [("operator heard alice", &self.to_operator), ("alice heard the operator", &self.to_app)];
        for (name, side) in sides {
            let verdict = &side.verdict;
            let word = verdict.fault.map_or("yes", |_| "NO");
            let _ = write!(
                text,
                "  {name:<26}{word:<5}{:.0} % of the speech, similarity {:.2}",
                verdict.coverage * 100.0,
                verdict.similarity
            );
            let _ = match verdict.fault {
                Some(fault) => writeln!(text, ": {}", fault.as_str()),
                None => writeln!(text),
            };
        }
        let _ = writeln!(text, "\nThe call record");
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
            "\nSaved in {}: alice-heard.wav, operator-heard.wav, call.svg (open it in a browser), report.json, \
             operator-ledger.jsonl",
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

fn loss(leg: &LegReport) -> String {
    let expected = (leg.packets_received + leg.packets_lost).max(1);
    format!("{:.1} %", leg.packets_lost as f32 * 100.0 / expected as f32)
}

/// A figure, or a word for what is none.
fn measured(value: Option<f32>, unit: &str) -> String {
    match value {
        Some(value) => format!("{value:.2}{unit}"),
        None => "unknown".to_owned(),
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
