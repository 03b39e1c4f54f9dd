//! A kept call as people read it: who said what when, what each leg heard, and what that means.

use super::{Flow, Kept, KeptMessage, masked};
use crate::types::{AudioFault, CallId, EndCause, LegReport, UnixMillis};
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::net::SocketAddr;

/// Loss above this is heard, whoever repairs it.
const AUDIBLE_LOSS: f64 = 0.01;
/// Width of the space between two lifelines, in characters.
pub const SPAN: usize = 36;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TraceView {
    pub id: CallId,
    /// Milliseconds since the Unix epoch at which the first message passed.
    pub started_at: UnixMillis,
    pub legs: Vec<TraceLeg>,
    pub messages: Vec<TraceMessage>,
    /// Messages of the middle of a long call that are not kept.
    pub left_out: usize,
    pub verdict: Verdict,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TraceLeg {
    /// 0 is the caller's.
    pub index: u8,
    /// `user alice` or `trunk operator-a`.
    pub party: String,
    /// What was measured, once the call has ended.
    pub report: Option<LegReport>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TraceMessage {
    pub after_ms: f64,
    /// The index of its leg.
    pub leg: u8,
    /// `received` or `sent`, seen from the gateway.
    pub flow: String,
    pub transport: String,
    pub local: SocketAddr,
    pub remote: SocketAddr,
    /// As `INVITE` or `180 Ringing (INVITE)`.
    pub summary: String,
    /// The same message passed before.
    pub retransmission: bool,
    pub has_sdp: bool,
    pub text: String,
}

/// What became of the call, and what in it should make one look.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Absent while the call goes on.
    pub cause: Option<EndCause>,
    pub duration_ms: Option<u64>,
    /// From the first INVITE to the first sign of ringing.
    pub ringing_after_ms: Option<f64>,
    /// From the first INVITE to the 200 that the caller got.
    pub answered_after_ms: Option<f64>,
    pub retransmissions: usize,
    /// In words, worst first; empty where nothing is remarkable.
    pub notes: Vec<String>,
}

impl TraceView {
    /// Builds the view; `whole` shows messages as they were, else numbers, credentials and keys are masked.
    pub fn of(kept: &Kept, whole: bool) -> TraceView {
        let start = kept.messages.first().map_or(0, |(_, message)| message.unix_micros);
        let mut messages: Vec<TraceMessage> = Vec::with_capacity(kept.messages.len());
        for (position, (place, message)) in kept.messages.iter().enumerate() {
            let same = |(_, earlier): &(usize, KeptMessage)| {
                earlier.flow == message.flow
                    && earlier.remote == message.remote
                    && earlier.octets == message.octets
            };
            let bytes = message.octets.to_bytes();
            messages.push(TraceMessage {
                after_ms: (message.unix_micros - start) as f64 / 1e3,
                leg: kept.legs.get(*place).map_or(0, |leg| leg.index),
                flow: message.flow.as_str().to_owned(),
                transport: message.transport.as_str().to_owned(),
                local: message.local,
                remote: message.remote,
                summary: summary(&bytes),
                retransmission: kept.messages[..position].iter().any(same),
                has_sdp: bytes.windows(7).any(|part| part == b"\nm=audi"),
                text: if whole { String::from_utf8_lossy(&bytes).into_owned() } else { masked(&bytes) },
            });
        }
        let legs = kept.legs.iter().map(|leg| TraceLeg {
            index: leg.index,
            party: leg.party.to_string(),
            report: leg.report.clone(),
        });
        let legs: Vec<TraceLeg> = legs.collect();
        let verdict = Verdict::of(kept, &messages, &legs);
        TraceView {
            id: kept.call,
            started_at: start / 1_000,
            legs,
            messages,
            left_out: kept.left_out,
            verdict,
        }
    }

    /// The ladder: the caller left, the gateway in the middle, everybody it tried right of it.
    pub fn draw(&self) -> String {
        let mut drawing = String::new();
        let name = |leg: &TraceLeg| format!("{} {}", leg.index, leg.party);
        let caller = self.legs.first().map_or_else(String::new, name);
        let others: Vec<String> = self.legs.iter().skip(1).map(name).collect();
        let _ = writeln!(drawing, "{:>10}  {caller:<SPAN$}tandem{:>28}", "", others.join(", "));
        for message in &self.messages {
            let right = message.leg != self.legs.first().map_or(0, |leg| leg.index);
            let sent = message.flow == Flow::Sent.as_str();
            let again = if message.retransmission { " again" } else { "" };
            let place =
                if right && self.legs.len() > 2 { format!("{}: ", message.leg) } else { String::new() };
            let arrow = arrow(&format!("{place}{}{again}", message.summary), sent == right);
            let empty = " ".repeat(SPAN - 1);
            let (left, right) = if right { (&empty, &arrow) } else { (&arrow, &empty) };
            let _ = writeln!(drawing, "{:>8.1}ms  |{left}|{right}|", message.after_ms);
        }
        if self.left_out > 0 {
            let _ = writeln!(drawing, "            ({} messages of the middle are not kept)", self.left_out);
        }
        drawing
    }
}

impl Verdict {
    fn of(kept: &Kept, messages: &[TraceMessage], legs: &[TraceLeg]) -> Verdict {
        let retransmissions = messages.iter().filter(|message| message.retransmission).count();
        let caller = legs.first().map_or(0, |leg| leg.index);
        let first = |fits: &dyn Fn(&TraceMessage) -> bool| {
            messages.iter().find(|message| fits(message)).map(|message| message.after_ms)
        };
        let to_caller = |message: &TraceMessage| {
            message.leg == caller
                && message.flow == Flow::Sent.as_str()
                && message.summary.ends_with("(INVITE)")
        };
        let ringing_after_ms = first(&|message| {
            to_caller(message) && (message.summary.starts_with("180") || message.summary.starts_with("183"))
        });
        let answered_after_ms = first(&|message| to_caller(message) && message.summary.starts_with("200"));
        let mut notes = Vec::new();
        for leg in legs {
            let answers = || {
                messages.iter().filter(|message| {
                    message.leg == leg.index
                        && leg.index != caller
                        && message.flow == Flow::Received.as_str()
                        && message.summary.ends_with("(INVITE)")
                })
            };
            let refuses = |message: &&TraceMessage| {
                matches!(message.summary.as_bytes().first(), Some(b'3'..=b'6'))
                    && !message.summary.starts_with("401")
                    && !message.summary.starts_with("407")
            };
            let accepted = answers().find(|message| message.summary.starts_with('2'));
            match accepted {
                // What a leg that was tried in vain answered last.
                None => notes.extend(answers().find(refuses).map(|refusal| {
                    format!("{} answered {} after {:.0} ms", leg.party, refusal.summary, refusal.after_ms)
                })),
                // It took the call, whatever it asked for before; what it refuses now is a change of it.
                Some(accepted) => {
                    let later = |message: &&TraceMessage| {
                        message.after_ms > accepted.after_ms && !message.summary.starts_with("491")
                    };
                    notes.extend(answers().filter(later).find(refuses).map(|refusal| {
                        format!("{} refused to change the call: {}", leg.party, refusal.summary)
                    }));
                }
            }
        }
        let heard: Vec<(&TraceLeg, &LegReport)> =
            legs.iter().filter_map(|leg| Some((leg, leg.report.as_ref()?))).collect();
        for (leg, report) in &heard {
            let others =
                heard.iter().any(|(other, theirs)| other.index != leg.index && theirs.packets_received > 0);
            if report.packets_received == 0 && others {
                notes.push(format!("nothing was heard from {}: one-way audio", leg.party));
            }
            if report.fault == Some(AudioFault::Unheard) {
                notes.push(format!("{} reports that it does not hear us: one-way audio", leg.party));
            }
            let expected = report.packets_received + report.packets_lost;
            let loss = report.packets_lost as f64 / expected.max(1) as f64;
            if loss > AUDIBLE_LOSS {
                notes.push(format!("{:.1} % of the packets from {} were lost", loss * 100.0, leg.party));
            }
            if let Some(theirs) = report.remote_loss.filter(|theirs| f64::from(*theirs) > AUDIBLE_LOSS) {
                notes.push(format!("{} lost {:.1} % of what we sent", leg.party, theirs * 100.0));
            }
        }
        if retransmissions > 0 {
            notes.push(format!("{retransmissions} messages were repeated: a lossy way or a slow peer"));
        }
        Verdict {
            cause: kept.end.map(|(cause, _)| cause),
            duration_ms: kept.end.and_then(|(_, duration)| duration),
            ringing_after_ms,
            answered_after_ms,
            retransmissions,
            notes,
        }
    }
}

/// The start line without what may be a number, and the method of a response.
fn summary(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let Some(status) = first.strip_prefix("SIP/2.0 ") else {
        return first.split(' ').next().unwrap_or_default().to_owned();
    };
    let method = lines
        .take_while(|line| !line.is_empty())
        .find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.trim().eq_ignore_ascii_case("cseq").then(|| value.split_whitespace().nth(1))?
        })
        .unwrap_or_default();
    format!("{status} ({method})")
}

/// A message between two lifelines, [`SPAN`] less one characters wide whatever it carries.
pub fn arrow(what: &str, rightwards: bool) -> String {
    let room = SPAN.saturating_sub(2);
    let label: String = what.chars().take(room.saturating_sub(4)).collect();
    let dashes = room.saturating_sub(label.chars().count() + 2);
    let (left, right) = (dashes / 2, dashes - dashes / 2);
    match rightwards {
        true => format!("{} {label} {}>", "-".repeat(left), "-".repeat(right)),
        false => format!("<{} {label} {}", "-".repeat(left), "-".repeat(right)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::trace::{KeptLeg, Octets};
    use crate::types::Transport;
    use bytes::Bytes;

    fn message(at_ms: i64, flow: Flow, first: &str, cseq: &str) -> KeptMessage {
        KeptMessage {
            unix_micros: at_ms * 1_000,
            flow,
            transport: Transport::Udp,
            local: "192.0.2.9:5060".parse().unwrap(),
            remote: "192.0.2.1:5060".parse().unwrap(),
            octets: Octets::Whole(Bytes::from(format!("{first}\r\nCSeq: {cseq}\r\n\r\n"))),
        }
    }

    fn leg(index: u8, party: &str, report: LegReport) -> KeptLeg {
        KeptLeg { index, party: party.into(), call_id: "x".into(), report: Some(report) }
    }

    fn kept() -> Kept {
        use Flow::{Received, Sent};
        let heard = LegReport { packets_received: 90, packets_lost: 10, ..LegReport::default() };
        Kept {
            call: CallId::from_parts(0, [1; 10]),
            legs: vec![
                leg(0, "user alice", heard),
                leg(1, "trunk a", LegReport::default()),
                leg(2, "trunk b", LegReport { fault: Some(AudioFault::Unheard), ..LegReport::default() }),
            ],
            messages: vec![
                (0, message(1_000, Received, "INVITE sip:+32470123456@gw SIP/2.0", "1 INVITE")),
                (1, message(1_005, Sent, "INVITE sip:+32470123456@a SIP/2.0", "1 INVITE")),
                (1, message(1_505, Sent, "INVITE sip:+32470123456@a SIP/2.0", "1 INVITE")),
                (1, message(1_600, Received, "SIP/2.0 503 Service Unavailable", "1 INVITE")),
                (2, message(1_700, Received, "SIP/2.0 180 Ringing", "1 INVITE")),
                (0, message(1_701, Sent, "SIP/2.0 180 Ringing", "1 INVITE")),
                (0, message(3_000, Sent, "SIP/2.0 200 OK", "1 INVITE")),
                (0, message(9_000, Sent, "SIP/2.0 200 OK", "2 BYE")),
            ],
            left_out: 0,
            end: Some((EndCause::NormalClearing, Some(6_000))),
        }
    }

    #[test]
    fn the_verdict_names_what_one_should_look_at() {
        let verdict = TraceView::of(&kept(), false).verdict;
        assert_eq!(verdict.ringing_after_ms, Some(701.0));
        assert_eq!(verdict.answered_after_ms, Some(2_000.0));
        assert_eq!(verdict.retransmissions, 1);
        let notes = verdict.notes.join("\n");
        for part in [
            "trunk a answered 503 Service Unavailable (INVITE) after 600 ms",
            "nothing was heard from trunk b: one-way audio",
            "trunk b reports that it does not hear us: one-way audio",
            "10.0 % of the packets from user alice were lost",
            "1 messages were repeated",
        ] {
            assert!(notes.contains(part), "{part} in\n{notes}");
        }
    }

    #[test]
    fn a_change_that_is_refused_is_no_attempt_that_failed() {
        use Flow::Received;
        let mut kept = kept();
        let answers = [
            (1_100, "SIP/2.0 422 Session Interval Too Small"),
            (1_200, "SIP/2.0 200 OK"),
            (2_000, "SIP/2.0 491 Request Pending"),
            (3_000, "SIP/2.0 488 Not Acceptable Here"),
        ];
        kept.messages = answers.map(|(at, first)| (1, message(at, Received, first, "1 INVITE"))).to_vec();
        let notes = TraceView::of(&kept, false).verdict.notes;
        let of_trunk: Vec<_> = notes.iter().filter(|note| note.starts_with("trunk a ")).collect();
        assert_eq!(of_trunk, ["trunk a refused to change the call: 488 Not Acceptable Here (INVITE)"]);
    }

    #[test]
    fn numbers_show_only_to_whom_they_may() {
        let text = |whole| TraceView::of(&kept(), whole).messages[0].text.clone();
        assert!(text(true).contains("+32470123456"));
        assert!(!text(false).contains("470123456"));
    }

    #[test]
    fn the_ladder_has_a_line_a_message_and_says_what_came_again() {
        let view = TraceView::of(&kept(), false);
        let drawing = view.draw();
        assert_eq!(drawing.lines().count(), 1 + view.messages.len());
        assert!(drawing.contains("1: INVITE again"), "{drawing}");
        let widths: Vec<usize> = drawing.lines().skip(1).map(|line| line.chars().count()).collect();
        assert!(widths.iter().all(|width| *width == widths[0]), "{drawing}");
    }
}
