//! The SIP ladder of a demo call: every message the gateway received or sent, with its time.

use crate::call::io::Tap;
use crate::sip::message::{Message, Typed, parse};
use crate::telemetry::metrics::Flow;
use crate::telemetry::trace::{SPAN, arrow};
use crate::types::{AudioCodec, Peer};
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

#[derive(Debug, Clone)]
struct Seen {
    at: Instant,
    remote: SocketAddr,
    flow: Flow,
    what: String,
}

/// Collects messages as they pass; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Ladder {
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Ladder {
    /// What the gateway shows each message to.
    pub fn tap(&self) -> Tap {
        let seen = self.seen.clone();
        Box::new(move |peer: &Peer, bytes: &[u8], flow: Flow| {
            let what = match parse(bytes) {
                Ok(Message::Request(request)) => request.method.as_str().to_owned(),
                Ok(Message::Response(response)) => {
                    let method =
                        response.cseq().map(|cseq| format!(" ({})", cseq.method)).unwrap_or_default();
                    format!("{} {}{method}", response.status, response.reason)
                }
                Err(_) => "malformed".to_owned(),
            };
            let one = Seen { at: Instant::now(), remote: peer.remote, flow, what };
            seen.lock().unwrap_or_else(PoisonError::into_inner).push(one);
        })
    }

    /// Draws the messages from `start` on, the app user left, the gateway in the middle, the operator right, and the
    /// voice between them in its codecs. The gateway's questions after the operator's health are left out.
    pub fn draw(
        &self,
        start: Instant,
        [left, right]: [&str; 2],
        codecs: [Option<AudioCodec>; 2],
        operator: SocketAddr,
    ) -> String {
        let mut drawing = String::new();
        let _ = writeln!(
            drawing,
            "{:>9}  {left:<SPAN$}tandem{:>width$}",
            "",
            right,
            width = SPAN - 6 + right.len() / 2 + 1
        );
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut voice = match codecs {
            [Some(left), Some(right)] => {
                Some(format!("{:>9}  |{}|{}|", "", flow(left.encoding_name()), flow(right.encoding_name())))
            }
            [None, _] | [_, None] => None,
        };
        let of_the_call = |one: &&Seen| one.at >= start && !one.what.contains("OPTIONS");
        for one in seen.iter().filter(of_the_call) {
            if let Some(voice) = voice.take_if(|_| one.what == "BYE") {
                let _ = writeln!(drawing, "{voice}");
            }
            let is_right = one.remote == operator;
            // Towards the right: what the user sends and what the operator gets.
            let rightwards = (one.flow == Flow::Received) != is_right;
            let arrow = arrow(&one.what, rightwards);
            let after = one.at.duration_since(start).as_secs_f64() * 1e3;
            let empty = " ".repeat(SPAN - 1);
            let (left, right) = if is_right { (&empty, &arrow) } else { (&arrow, &empty) };
            let _ = writeln!(drawing, "{after:>7.1}ms  |{left}|{right}|");
        }
        drawing
    }
}

/// Voice both ways.
fn flow(codec: &str) -> String {
    let label = format!(" {codec} both ways ");
    format!("<{label:=^width$}>", width = SPAN - 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrows_have_one_width_whatever_they_carry() {
        for what in
            ["BYE", "INVITE", "200 OK (INVITE)", "503 Service Unavailable because of something (INVITE)"]
        {
            for rightwards in [true, false] {
                assert_eq!(arrow(what, rightwards).chars().count(), SPAN - 1, "{what}");
            }
        }
        assert_eq!(flow("opus").chars().count(), SPAN - 1);
    }
}
