//! What the wire does to a SIP message: it stays in the way as a record-routing proxy without state does
//! (RFC 3261 §16.11), and writes its own media address into the session description.

use std::net::SocketAddr;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Towards {
    Gateway,
    Peer,
}

/// Addresses that a message may name.
pub struct Ends {
    pub wire: SocketAddr,
    pub peer: SocketAddr,
}

/// Where a session description wants RTP.
pub fn session(text: &str) -> Option<SocketAddr> {
    let (_, body) = text.split_once("\r\n\r\n").filter(|(_, body)| body.starts_with("v=0"))?;
    let address = body.lines().find_map(|line| line.strip_prefix("c=IN IP4 "))?;
    let port = body.lines().find_map(|line| line.strip_prefix("m=audio ")?.split(' ').next())?;
    format!("{address}:{port}").parse().ok()
}

pub fn call_id(text: &str) -> Option<&str> {
    let head = text.lines().take_while(|line| !line.is_empty());
    let mut fields = head.filter_map(|line| line.split_once(':'));
    let found = fields.find(|(name, _)| matches!(name.trim().to_ascii_lowercase().as_str(), "call-id" | "i"));
    found.map(|(_, value)| value.trim())
}

/// The message as it goes on. `media`: the port of the wire that stands for the session's.
pub fn pass(text: &str, towards: Towards, ends: &Ends, media: Option<(u16, SocketAddr)>) -> String {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text.trim_end(), ""));
    let body = match media {
        Some((port, session)) => describe(body, port, session),
        None => body.to_owned(),
    };
    let mut lines: Vec<String> = head.split("\r\n").map(str::to_owned).collect();
    if text.starts_with("SIP/2.0 ") {
        remove_own(&mut lines, ends, &["via", "v"]);
    } else {
        remove_own(&mut lines, ends, &["route"]);
        add_own(&mut lines, ends);
    }
    // A registered device is called through the wire, by the name it has for itself.
    let register = lines.iter().any(|line| line.starts_with("CSeq:") && line.ends_with("REGISTER"));
    let (from, to) = match towards {
        Towards::Gateway => (ends.peer, ends.wire),
        Towards::Peer => (ends.wire, ends.peer),
    };
    for (index, line) in lines.iter_mut().enumerate() {
        let contact = register && is_field(line, &["contact", "m"]);
        let called = index == 0 && towards == Towards::Peer;
        if contact || called {
            *line = line.replace(&from.to_string(), &to.to_string());
        }
        if is_field(line, &["content-length", "l"]) {
            *line = format!("Content-Length: {}", body.len());
        }
    }
    format!("{}\r\n\r\n{body}", lines.join("\r\n"))
}

fn is_field(line: &str, names: &[&str]) -> bool {
    line.split_once(':').is_some_and(|(name, _)| names.contains(&name.trim().to_ascii_lowercase().as_str()))
}

/// Takes the wire's own entry out of the first field of that name, which may be a list.
fn remove_own(lines: &mut Vec<String>, ends: &Ends, names: &[&str]) {
    let Some(index) = lines.iter().position(|line| is_field(line, names)) else { return };
    let Some((name, value)) = lines[index].split_once(':') else { return };
    let (first, rest) = value.split_once(',').map_or((value, None), |(first, rest)| (first, Some(rest)));
    if !first.contains(&ends.wire.to_string()) {
        return;
    }
    match rest.map(|rest| format!("{name}:{rest}")) {
        Some(rest) => lines[index] = rest,
        None => {
            lines.remove(index);
        }
    }
}

/// Its branch follows from the one above it, so that a retransmission, a CANCEL and an ACK get the same one.
fn add_own(lines: &mut Vec<String>, ends: &Ends) {
    let Some(index) = lines.iter().position(|line| is_field(line, &["via", "v"])) else { return };
    let branch = lines[index].split_once("branch=").map_or("", |(_, rest)| rest);
    let branch: String = branch.chars().take_while(|c| !matches!(c, ';' | ',' | ' ')).collect();
    let branch = format!("z9hG4bK-wire-{}", branch.trim_start_matches("z9hG4bK"));
    lines.insert(index, format!("Via: SIP/2.0/UDP {};branch={branch};rport", ends.wire));
    lines.insert(index, format!("Record-Route: <sip:{};lr>", ends.wire));
}

/// The session with the wire's port for RTP, and the one above for RTCP. On loopback the address is the same.
fn describe(body: &str, port: u16, session: SocketAddr) -> String {
    let media = format!("m=audio {} ", session.port());
    let lines = body.split("\r\n").map(|line| {
        if let Some(rest) = line.strip_prefix(&media) {
            format!("m=audio {port} {rest}")
        } else if line.starts_with("a=rtcp:") {
            format!("a=rtcp:{}", port + 1)
        } else if line == format!("c=IN IP4 {}", session.ip()) {
            "c=IN IP4 127.0.0.1".to_owned()
        } else {
            line.to_owned()
        }
    });
    lines.collect::<Vec<_>>().join("\r\n")
}
