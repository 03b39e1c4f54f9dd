//! SIP messages as a peer wrote them into its own message log, to be judged field by field.

use std::{
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

/// One message that a SIPp sent or received.
#[derive(Debug, Clone)]
pub struct TracedMessage {
    pub sent: bool,
    /// When the peer logged it, right behind its system call: Unix time in microseconds.
    pub at_us: i64,
    pub text: String,
}

impl TracedMessage {
    /// A message that is passing now, as it is on the wire.
    pub fn now(sent: bool, text: &str) -> TracedMessage {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        TracedMessage { sent, at_us: since.as_micros() as i64, text: text.replace("\r\n", "\n") }
    }

    pub fn start_line(&self) -> &str {
        self.text.lines().next().unwrap_or_default()
    }

    /// The method of a request; `None` for a response.
    pub fn method(&self) -> Option<&str> {
        let line = self.start_line();
        if line.starts_with("SIP/2.0 ") { None } else { line.split(' ').next() }
    }

    /// The Request-URI of a request.
    pub fn uri(&self) -> Option<&str> {
        self.method()?;
        self.start_line().split(' ').nth(1)
    }

    /// The status of a response; `None` for a request.
    pub fn status(&self) -> Option<u16> {
        self.start_line().strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    /// The first field of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.fields().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// All fields of that name. Long names only: Tandem writes no compact ones.
    pub fn headers<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields().filter(move |(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        let head = self.text.lines().skip(1).take_while(|line| !line.is_empty());
        head.filter_map(|line| line.split_once(':')).map(|(key, value)| (key.trim(), value.trim()))
    }

    /// The text behind the empty line.
    pub fn body(&self) -> &str {
        self.text.split_once("\n\n").map(|(_, body)| body).unwrap_or_default()
    }

    /// Lines of the session description that start with `start`, as `a=rtpmap:`.
    pub fn sdp<'a>(&'a self, start: &'a str) -> impl Iterator<Item = &'a str> {
        self.body().lines().filter_map(move |line| line.strip_prefix(start))
    }
}

/// Reads the file of SIPp's `-trace_msg`.
pub fn read_sipp(file: &Path) -> Vec<TracedMessage> {
    let text =
        std::fs::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let text = text.replace("\r\n", "\n");
    text.split("-----------------------------------------------")
        .filter_map(|part| {
            // First the time, then a line as "UDP message sent [420] bytes:", then the message.
            let (time, part) = part.split_once('\n')?;
            let (title, message) = part.split_once('\n')?;
            let sent = title.contains("sent");
            if !sent && !title.contains("received") {
                return None;
            }
            let text = message.trim_start_matches('\n').to_owned();
            Some(TracedMessage { sent, at_us: unix_us(time)?, text })
        })
        .collect()
}

/// Reads `2026-11-23 07:11:58.272068`, which is UTC: SIPp is started so.
fn unix_us(text: &str) -> Option<i64> {
    let mut fields = text.trim().split(|c: char| !c.is_ascii_digit()).map(|field| field.parse::<i64>().ok());
    let mut next = || fields.next().flatten();
    let (year, month, day) = (next()?, next()?, next()?);
    let (hour, minute, second, micros) = (next()?, next()?, next()?, next()?);
    // Days from a civil date, with years that begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let days =
        era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * month + 2) / 5 + day - 719_469;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000 + micros)
}
