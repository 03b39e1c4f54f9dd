//! Cuts a byte stream into SIP messages (RFC 3261 §18.3) and keep-alives (RFC 5626 §3.5.1).

use super::message::{Limits, ParseError, ParseErrorKind, framing_length, refuse};
use bytes::{Bytes, BytesMut};

/// What a stream carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// One whole message, start line to end of body. It may still be malformed inside.
    Message(Bytes),
    /// CRLF CRLF, to be answered with CRLF.
    KeepAlivePing,
}

/// Collects what a stream delivers and gives it back message by message. After an error the boundaries of the stream
/// are unknown: nothing more comes out, and the connection has to be closed.
#[derive(Debug)]
pub struct StreamFramer {
    limits: Limits,
    buffer: BytesMut,
    /// Octets at the start of the buffer known to hold no end of a head, so that no octet is searched twice.
    searched: usize,
    /// The length of the first message in the buffer, once its head is there.
    message: Option<usize>,
    broken: bool,
}

impl StreamFramer {
    pub fn new(limits: Limits) -> StreamFramer {
        StreamFramer { limits, buffer: BytesMut::new(), searched: 0, message: None, broken: false }
    }

    /// Takes what the stream delivered. The caller drains [`next_frame`](Self::next_frame) before it reads again, so the buffer
    /// holds at most one unfinished message and one read.
    pub fn push(&mut self, bytes: &[u8]) {
        if !self.broken {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The buffer itself, for a reader that can fill it in place; the rules of [`push`](Self::push) hold.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// True while a message has begun and is not whole.
    pub fn is_inside_message(&self) -> bool {
        self.buffer.iter().any(|b| !matches!(b, b'\r' | b'\n'))
    }

    /// The next message or keep-alive; `None` if more octets are needed. An error carries what is needed to refuse
    /// the request; the stream can't be followed any further.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, ParseError> {
        if self.broken {
            return Ok(None);
        }
        let result = self.cut();
        if result.is_err() {
            self.broken = true;
            self.buffer.clear();
        }
        result
    }

    fn cut(&mut self) -> Result<Option<Frame>, ParseError> {
        if self.message.is_none() {
            if let Some(ping) = self.skip_line_ends()? {
                return Ok(Some(ping));
            }
            self.message = self.find_message()?;
        }
        match self.message {
            Some(length) if self.buffer.len() >= length => {
                let message = self.buffer.split_to(length).freeze();
                (self.message, self.searched) = (None, 0);
                Ok(Some(Frame::Message(message)))
            }
            Some(_) | None => Ok(None),
        }
    }

    /// Between messages: two line ends are a ping, a single one (a pong, or RFC 3261 §7.5) means nothing.
    fn skip_line_ends(&mut self) -> Result<Option<Frame>, ParseError> {
        loop {
            match &self.buffer[..] {
                [b'\r', b'\n', b'\r', b'\n', ..] => {
                    let _ = self.buffer.split_to(4);
                    return Ok(Some(Frame::KeepAlivePing));
                }
                // More may come and make it a ping.
                [] | [b'\r'] | [b'\r', b'\n'] | [b'\r', b'\n', b'\r'] => return Ok(None),
                [b'\r', b'\n', ..] => drop(self.buffer.split_to(2)),
                // TLS or another protocol on a SIP port is known by its first octet.
                [first, ..] if first.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(first) => {
                    return Ok(None);
                }
                [..] => return Err(ParseError { kind: ParseErrorKind::StartLine, request: None }),
            }
        }
    }

    /// The length of the message at the start of the buffer, if its head is whole.
    fn find_message(&mut self) -> Result<Option<usize>, ParseError> {
        let from = self.searched.saturating_sub(3);
        let Some(end) = find_head_end(&self.buffer[from..]).map(|at| from + at) else {
            self.searched = self.buffer.len();
            if self.buffer.len() > self.limits.message {
                return Err(refuse(&self.buffer, ParseErrorKind::TooLarge, &self.limits));
            }
            return Ok(None);
        };
        let head = &self.buffer[..end];
        if head.len() > self.limits.message {
            return Err(refuse(head, ParseErrorKind::TooLarge, &self.limits));
        }
        let body = framing_length(head).map_err(|kind| refuse(head, kind, &self.limits))?;
        // Compared as 64 bits: a length that wraps around in 32 must not become a small one.
        let room = self.limits.message - head.len();
        if body > room as u64 {
            return Err(refuse(head, ParseErrorKind::BodyTooLarge, &self.limits));
        }
        Ok(Some(end + body as usize))
    }
}

/// The index just behind CRLF CRLF.
fn find_head_end(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + bytes[from..].iter().position(|b| *b == b'\n')?;
        if at >= 3 && bytes[at - 3..at] == *b"\r\n\r" {
            return Some(at + 1);
        }
        from = at + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEAD: &str =
        "Via: SIP/2.0/TCP a;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\nCall-ID: c\r\n";

    fn options(sequence: u32, body: &str) -> String {
        let length = body.len();
        format!(
            "OPTIONS sip:h SIP/2.0\r\n{HEAD}CSeq: {sequence} OPTIONS\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    }

    fn with_length(field: &str) -> String {
        format!(
            "OPTIONS sip:h SIP/2.0\r\n{HEAD}CSeq: 1 OPTIONS\r\n{field}\r\nOPTIONS sip:evil SIP/2.0\r\n\r\n"
        )
    }

    /// All frames of a stream delivered in pieces.
    fn frames(pieces: &[&[u8]]) -> (Vec<Frame>, Option<ParseError>) {
        let (mut framer, mut frames) = (StreamFramer::new(Limits::default()), Vec::new());
        for piece in pieces {
            framer.push(piece);
            loop {
                match framer.next_frame() {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(error) => return (frames, Some(error)),
                }
            }
        }
        (frames, None)
    }

    #[test]
    fn pipelined_messages_come_out_one_by_one() {
        let (first, second) = (options(1, "body"), options(2, ""));
        let stream = format!("{first}{second}\r\n\r\n{first}");
        let (frames, error) = frames(&[stream.as_bytes()]);
        let expected = [
            Frame::Message(Bytes::from(first.clone())),
            Frame::Message(Bytes::from(second)),
            Frame::KeepAlivePing,
            Frame::Message(Bytes::from(first)),
        ];
        assert_eq!((frames.as_slice(), error), (&expected[..], None));
    }

    #[test]
    fn a_ping_may_come_in_pieces_and_single_line_ends_mean_nothing() {
        assert_eq!(frames(&[b"\r", b"\n", b"\r\n"]).0, [Frame::KeepAlivePing]);
        assert_eq!(frames(&[b"\r\n\r\n\r\n\r\n"]).0, [Frame::KeepAlivePing, Frame::KeepAlivePing]);
        let message = options(1, "");
        let behind = [b"\r\n", message.as_bytes()].concat();
        assert_eq!(frames(&[&behind]).0, [Frame::Message(Bytes::from(message))]);
    }

    #[test]
    fn body_octets_never_become_a_request() {
        for (field, status) in [
            ("Content-Length: 4294967328\r\n", 413),
            ("Content-Length: 18446744073709551648\r\n", 400),
            ("Content-Length: -1\r\n", 400),
            ("Content-Length: 0x10\r\n", 400),
            ("Content-Length: 1 0\r\n", 400),
            ("Content-Length: 0\r\nl: 28\r\n", 400),
            ("Content-Length\u{b}: 28\r\nContent-Length: 0\r\n", 400),
            ("Subject: a\nContent-Length: 28\r\nContent-Length: 0\r\n", 400),
            ("Content-Length:\r\n 28\r\n", 400),
            ("no colon\r\nContent-Length: 0\r\n", 400),
            ("", 400),
        ] {
            let (frames, error) = frames(&[with_length(field).as_bytes()]);
            let error = error.unwrap_or_else(|| panic!("{field:?}"));
            assert_eq!((frames.len(), error.status()), (0, status), "{field:?}");
            assert!(error.refusal("192.0.2.1:5060".parse().unwrap()).is_some(), "{field:?}");
        }
    }

    #[test]
    fn nothing_comes_out_of_a_broken_stream() {
        let mut framer = StreamFramer::new(Limits::default());
        framer.push(with_length("Content-Length: x\r\n").as_bytes());
        assert!(framer.next_frame().is_err());
        framer.push(options(1, "").as_bytes());
        assert_eq!(framer.next_frame(), Ok(None));
    }

    #[test]
    fn other_protocols_are_known_at_once() {
        assert!(frames(&[&[0x16, 0x03, 0x01, 0x02, 0x00]]).1.is_some());
        assert!(frames(&[b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"]).1.is_some());
    }

    #[test]
    fn a_head_without_end_is_bounded() {
        let limits = Limits { message: 1000, ..Limits::default() };
        let mut framer = StreamFramer::new(limits);
        framer.push(options(1, "").trim_end().as_bytes());
        assert_eq!(framer.next_frame(), Ok(None));
        let error = (0..1000).find_map(|_| {
            framer.push(b"X: yyyyyyyyyyyyy\r\n");
            framer.next_frame().err()
        });
        let error = error.expect("an error");
        assert_eq!(error.status(), 513);
        assert!(error.request.is_some());
    }

    #[test]
    fn it_is_known_whether_a_message_has_begun() {
        let mut framer = StreamFramer::new(Limits::default());
        framer.push(b"\r\n");
        assert!(!framer.is_inside_message());
        framer.push(b"OPT");
        assert!(framer.is_inside_message());
    }

    proptest! {
        #[test]
        fn the_cuts_of_the_network_change_nothing(cuts in proptest::collection::vec(1usize..200, 0..40)) {
            let stream = format!("{}\r\n\r\n{}{}", options(1, "hello\r\n\r\nthere"), options(2, ""), options(3, "x"));
            let whole = frames(&[stream.as_bytes()]);
            let (mut pieces, mut rest) = (Vec::new(), stream.as_bytes());
            for cut in cuts {
                let (piece, behind) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = behind;
            }
            pieces.push(rest);
            prop_assert_eq!(frames(&pieces), whole);
        }

        #[test]
        fn no_octets_make_it_panic(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..8)) {
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            let _ = frames(&pieces);
        }
    }
}
