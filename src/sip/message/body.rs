//! Finds the session description and the location in a body, alone or as a part of a multipart one (RFC 2046 §5.1, RFC 5621).

use super::grammar;
use super::params::Params;
use bytes::Bytes;

const SDP: &str = "application/sdp";
const LOCATION: &str = "application/pidf+xml";

/// Multipart bodies inside each other (RFC 5621 §4).
const MOST_NESTED: usize = 3;

/// Parts looked at: a call setup has at most a few (SDP, ISUP, location).
const MAX_PARTS: usize = 8;

/// The description of the session. One of another disposition is about something else, as an early session
/// (RFC 3959 §3), and is no part of the session's offer and answer.
pub(crate) fn sdp(content_type: &str, disposition: Option<&str>, body: &Bytes) -> Option<Bytes> {
    let description = part(content_type, disposition, body, SDP, MOST_NESTED)?;
    // The line end before a boundary belongs to the boundary, but SDP lines need theirs (RFC 4566 §5).
    if description.is_empty() || description.ends_with(b"\n") {
        Some(description)
    } else {
        Some(Bytes::from([&description[..], b"\r\n"].concat()))
    }
}

pub(crate) fn location(content_type: &str, body: &Bytes) -> Option<Bytes> {
    part(content_type, None, body, LOCATION, MOST_NESTED)
}

/// True for a body that whoever does not understand its disposition may leave aside (RFC 3261 §20.11).
pub(crate) fn is_optional(disposition: &str) -> bool {
    let params = disposition.split(';').skip(1).filter_map(|param| param.split_once('='));
    params.into_iter().any(|(name, value)| {
        grammar::trim(name).eq_ignore_ascii_case("handling")
            && grammar::trim(value).eq_ignore_ascii_case("optional")
    })
}

fn is_of_session(disposition: Option<&str>) -> bool {
    let kind = disposition.and_then(|disposition| disposition.split(';').next()).map(grammar::trim);
    kind.is_none_or(|kind| kind.eq_ignore_ascii_case("session"))
}

/// A body of the wanted type, or the first part that is one.
fn part(
    content_type: &str,
    disposition: Option<&str>,
    body: &Bytes,
    wanted: &str,
    nested: usize,
) -> Option<Bytes> {
    let (media_type, params) = content_type.split_at(content_type.find(';').unwrap_or(content_type.len()));
    let media_type = grammar::trim(media_type);
    if media_type.eq_ignore_ascii_case(wanted) {
        let counts = wanted != SDP || is_of_session(disposition);
        return (counts && !body.is_empty()).then(|| body.clone());
    }
    let multipart = media_type.get(..10).is_some_and(|start| start.eq_ignore_ascii_case("multipart/"));
    if !multipart || nested == 0 {
        return None;
    }
    let params = Params::parse_header(params)?;
    let boundary = params.value("boundary").filter(|boundary| !boundary.is_empty())?;
    parts(body, boundary).find_map(|piece| {
        let Opened { content_type, disposition, content } = opened(&piece)?;
        part(&content_type, disposition.as_deref(), &content, wanted, nested - 1)
    })
}

/// The parts between the boundary lines. A body without a closing boundary ends its last part.
fn parts(body: &Bytes, boundary: &str) -> impl Iterator<Item = Bytes> {
    let delimiter = format!("--{boundary}");
    let mut starts: Vec<(usize, usize)> = Vec::new();
    let mut line_start = 0;
    while line_start < body.len() && starts.len() <= MAX_PARTS {
        let line_end = find(&body[line_start..], b"\n").map_or(body.len(), |i| line_start + i + 1);
        let line = body[line_start..line_end].trim_ascii_end();
        if let Some(rest) = line.strip_prefix(delimiter.as_bytes()) {
            if rest.is_empty() {
                starts.push((line_start, line_end));
            } else if rest == b"--" {
                starts.push((line_start, body.len()));
                break;
            }
        }
        line_start = line_end;
    }
    let body = body.clone();
    let ends: Vec<usize> = starts.iter().skip(1).map(|(start, _)| *start).chain([body.len()]).collect();
    starts
        .into_iter()
        .zip(ends)
        .filter(|((_, from), to)| from <= to)
        .map(move |((_, from), to)| body.slice(from..to))
}

/// A part of a body.
struct Opened {
    content_type: String,
    disposition: Option<String>,
    content: Bytes,
}

/// What is in a part; `None` where it has no type, or is encoded as mail is.
fn opened(part: &Bytes) -> Option<Opened> {
    let end = find(part, b"\r\n\r\n").filter(|_| !part.starts_with(b"\r\n"))?;
    let head = std::str::from_utf8(&part[..end]).ok()?;
    let field = |wanted: &str| {
        let fields = head.split("\r\n").filter_map(|line| line.split_once(':'));
        let mut fields = fields.map(|(name, value)| (grammar::trim(name), grammar::trim(value)));
        fields.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value)
    };
    let encoding = field("Content-Transfer-Encoding").unwrap_or("binary");
    if !["binary", "8bit", "7bit"].iter().any(|plain| encoding.eq_ignore_ascii_case(plain)) {
        return None;
    }
    // RFC 2046 §5.1.1: the line end before a boundary is part of the boundary.
    let content = part.slice(end + 4..);
    let content = if content.ends_with(b"\r\n") { content.slice(..content.len() - 2) } else { content };
    let content_type = field("Content-Type")?.to_owned();
    Some(Opened { content_type, disposition: field("Content-Disposition").map(str::to_owned), content })
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_body_is_the_description() {
        let body = Bytes::from_static(b"v=0\r\n");
        assert_eq!(sdp("Application/SDP;charset=utf-8", None, &body), Some(body.clone()));
        assert_eq!(sdp("application/sdp", None, &Bytes::new()), None);
        assert_eq!(sdp("text/plain", None, &body), None);
        assert_eq!(sdp("\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}", None, &body), None);
    }

    #[test]
    fn the_description_is_found_among_parts() {
        let body = Bytes::from_static(
            b"preamble\r\n--b1\r\nContent-Type: application/isup;version=x\r\n\r\n\x01\x02\xff\r\n--b1\r\n\
              Content-Disposition: session\r\ncontent-type : application/sdp\r\n\r\nv=0\r\ns=-\r\n--b1--\r\nafter",
        );
        assert_eq!(sdp("multipart/mixed;boundary=\"b1\"", None, &body).unwrap(), "v=0\r\ns=-\r\n");
        assert_eq!(sdp("multipart/mixed;boundary=b2", None, &body), None);
        assert_eq!(sdp("multipart/mixed", None, &body), None);
    }

    #[test]
    fn the_location_is_found_beside_the_description_also_one_level_down() {
        let body = Bytes::from_static(
            b"--b1\r\nContent-Type: multipart/related;boundary=b2\r\n\r\n--b2\r\n\
              Content-Type: application/pidf+xml\r\nContent-ID: <1@a>\r\n\r\n<presence/>\r\n--b2--\r\n\r\n--b1\r\n\
              Content-Type: application/sdp\r\n\r\nv=0\r\n\r\n--b1--\r\n",
        );
        assert_eq!(location("multipart/mixed;boundary=b1", &body).unwrap(), "<presence/>");
        assert_eq!(sdp("multipart/mixed;boundary=b1", None, &body).unwrap(), "v=0\r\n");
        assert_eq!(location("application/pidf+xml", &Bytes::from_static(b"<p/>")).unwrap(), "<p/>");
        assert_eq!(location("application/sdp", &body), None);
    }

    #[test]
    fn bodies_within_bodies_end_somewhere_and_encoded_parts_are_left_out() {
        let mut body = "v=0\r\n".to_owned();
        let mut content_type = "application/sdp".to_owned();
        for level in 0..10 {
            body = format!("--x{level}\r\nContent-Type: {content_type}\r\n\r\n{body}\r\n--x{level}--\r\n");
            content_type = format!("multipart/mixed;boundary=x{level}");
            let found = sdp(&content_type, None, &Bytes::from(body.clone()));
            assert_eq!(found.is_some(), level < MOST_NESTED, "{level}");
        }
        let encoded = Bytes::from_static(
            b"--b\r\nContent-Transfer-Encoding: base64\r\nContent-Type: application/sdp\r\n\r\ndj0w\r\n--b--",
        );
        assert_eq!(sdp("multipart/mixed;boundary=b", None, &encoded), None);
    }

    #[test]
    fn broken_multiparts_give_nothing_or_what_is_there() {
        for body in
            ["", "--b", "--b\r\n", "--b\r\n--b--", "--b--\r\n--b\r\n", "--b\r\nContent-Type: application/sdp"]
        {
            assert_eq!(sdp("multipart/mixed;boundary=b", None, &Bytes::from(body)), None, "{body:?}");
        }
        let cut = Bytes::from_static(b"--b\r\nContent-Type: application/sdp\r\n\r\nv=0");
        assert_eq!(sdp("multipart/mixed;boundary=b", None, &cut).unwrap(), "v=0\r\n");
    }

    #[test]
    fn an_early_session_is_no_session() {
        let body = Bytes::from_static(
            b"--b1\r\nContent-Type: application/sdp\r\nContent-Disposition: early-session\r\n\r\nv=0\r\ns=early\r\n\
              --b1\r\nContent-Type: application/sdp\r\nContent-Disposition: session\r\n\r\nv=0\r\ns=-\r\n--b1--\r\n",
        );
        assert_eq!(sdp("multipart/mixed;boundary=b1", None, &body).unwrap(), "v=0\r\ns=-\r\n");
        let alone = Bytes::from_static(b"v=0\r\n");
        assert_eq!(sdp("application/sdp", Some("early-session; handling=optional"), &alone), None);
        assert_eq!(sdp("application/sdp", Some("Session;handling=required"), &alone), Some(alone.clone()));
        assert!(is_optional("early-session; Handling = optional") && !is_optional("early-session"));
    }
}
