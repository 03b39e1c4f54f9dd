//! Where the lines of a message's head end, found in one walk over its octets.

use smallvec::SmallVec;

/// The line ends of a head. Only CRLF ends a line (RFC 3261 §7); a CR or LF that stands alone stays in its line.
pub(super) struct Lines {
    /// Where each CRLF before the empty line starts.
    ends: SmallVec<[u32; 64]>,
    /// Where the body starts, behind the empty line; `None` where there is no empty line.
    pub body: Option<usize>,
    /// True where a CR or LF stands alone.
    pub bare_line_end: bool,
}

/// A header field with its folded lines (RFC 3261 §7.3.1), without its line end.
pub(super) struct FieldLine {
    pub start: usize,
    pub end: usize,
    pub folded: bool,
}

impl Lines {
    /// Walks from a start line to the empty line, or to the end.
    pub(super) fn of(bytes: &[u8]) -> Lines {
        let mut lines = Lines { ends: SmallVec::new(), body: None, bare_line_end: false };
        for feed in memchr::memchr_iter(b'\n', bytes) {
            if feed == 0 || bytes[feed - 1] != b'\r' {
                lines.bare_line_end = true;
                continue;
            }
            // The reader takes no message of 4 GiB.
            lines.ends.push((feed - 1) as u32);
            if let [b'\r', b'\n', ..] = bytes[feed + 1..] {
                lines.body = Some(feed + 3);
                break;
            }
        }
        let head = &bytes[..lines.body.map_or(bytes.len(), |body| body - 2)];
        lines.bare_line_end |= memchr::memchr_iter(b'\r', head).count() != lines.ends.len();
        lines
    }

    /// Where the start line ends.
    pub(super) fn start_line_end(&self, head: &str) -> usize {
        self.ends.first().map_or(head.len(), |end| *end as usize)
    }

    /// The fields behind the start line.
    pub(super) fn fields<'a>(&'a self, head: &'a str) -> impl Iterator<Item = FieldLine> + 'a {
        let end_of_head = self.body.map_or(head.len(), |body| body - 2);
        let bytes = &head.as_bytes()[..end_of_head.min(head.len())];
        let (mut line, mut start) = (1, (self.start_line_end(head) + 2).min(bytes.len()));
        std::iter::from_fn(move || {
            if start >= bytes.len() {
                return None;
            }
            let mut field = FieldLine { start, end: bytes.len(), folded: false };
            start = bytes.len();
            while let Some(end) = self.ends.get(line) {
                line += 1;
                field.end = *end as usize;
                start = field.end + 2;
                if !matches!(bytes.get(start), Some(b' ' | b'\t')) {
                    return Some(field);
                }
                field.folded = true;
            }
            // A fold without a line end behind it goes to the end of the head.
            field.end = bytes.len();
            start = bytes.len();
            Some(field)
        })
    }
}
