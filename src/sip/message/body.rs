//! Finds the session description in a body, alone or as a part of a multipart one (RFC 2046 §5.1, RFC 5621).

use super::grammar;
use super::params::Params;
use bytes::Bytes;

const SDP: &str = "application/sdp";

/// Parts looked at: a call setup has at most a few (SDP, ISUP, location).
const MAX_PARTS: usize = 8;

pub(crate) fn sdp(content_type: &str, body: &Bytes) -> Option<Bytes> {
    let (media_type, params) = content_type.split_at(content_type.find(';').unwrap_or(content_type.len()));
    let media_type = grammar::trim(media_type);
    if media_type.eq_ignore_ascii_case(SDP) {
        return (!body.is_empty()).then(|| body.clone());
    }
    let multipart = media_type.get(..10).is_some_and(|start| start.eq_ignore_ascii_case("multipart/"));
    if !multipart {
        return None;
    }
    let params = Params::parse_header(params)?;
    let boundary = params.value("boundary").filter(|boundary| !boundary.is_empty())?;
    parts(body, boundary).find_map(|part| part_with_sdp(&part))
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

fn part_with_sdp(part: &Bytes) -> Option<Bytes> {
    let (head, content) = if part.starts_with(b"\r\n") {
        (0, 2)
    } else {
        let end = find(part, b"\r\n\r\n")?;
        (end, end + 4)
    };
    let head = std::str::from_utf8(&part[..head]).ok()?;
    let is_sdp = head.split("\r\n").filter_map(|line| line.split_once(':')).any(|(name, value)| {
        let value = value.split(';').next().unwrap_or_default();
        grammar::trim(name).eq_ignore_ascii_case("Content-Type")
            && grammar::trim(value).eq_ignore_ascii_case(SDP)
    });
    is_sdp.then(|| {
        let content = part.slice(content..);
        // The line end before the boundary belongs to the boundary, but SDP lines need theirs (RFC 4566 §5).
        if content.is_empty() || content.ends_with(b"\n") {
            content
        } else {
            Bytes::from([&content[..], b"\r\n"].concat())
        }
    })
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
        assert_eq!(sdp("Application/SDP;charset=utf-8", &body), Some(body.clone()));
        assert_eq!(sdp("application/sdp", &Bytes::new()), None);
        assert_eq!(sdp("text/plain", &body), None);
        assert_eq!(sdp("\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}", &body), None);
    }

    #[test]
    fn the_description_is_found_among_parts() {
        let body = Bytes::from_static(
            b"preamble\r\n--b1\r\nContent-Type: application/isup;version=x\r\n\r\n\x01\x02\xff\r\n--b1\r\n\
              Content-Disposition: session\r\ncontent-type : application/sdp\r\n\r\nv=0\r\ns=-\r\n--b1--\r\nafter",
        );
        assert_eq!(sdp("multipart/mixed;boundary=\"b1\"", &body).unwrap(), "v=0\r\ns=-\r\n");
        assert_eq!(sdp("multipart/mixed;boundary=b2", &body), None);
        assert_eq!(sdp("multipart/mixed", &body), None);
    }

    #[test]
    fn broken_multiparts_give_nothing_or_what_is_there() {
        for body in
            ["", "--b", "--b\r\n", "--b\r\n--b--", "--b--\r\n--b\r\n", "--b\r\nContent-Type: application/sdp"]
        {
            assert_eq!(sdp("multipart/mixed;boundary=b", &Bytes::from(body)), None, "{body:?}");
        }
        let cut = Bytes::from_static(b"--b\r\nContent-Type: application/sdp\r\n\r\nv=0");
        assert_eq!(sdp("multipart/mixed;boundary=b", &cut).unwrap(), "v=0\r\n");
    }
}
