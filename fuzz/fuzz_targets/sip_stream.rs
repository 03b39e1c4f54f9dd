//! Feeds arbitrary streams to the SIP framer: nothing may panic, and how the network cuts them changes nothing.
#![no_main]
#![allow(dead_code, unused_imports, reason = "the target compiles whole rooms and calls only part of them")]

#[path = "."]
mod sip {
    #[path = "../../src/sip/framing.rs"]
    pub mod framing;
    #[path = "../../src/sip/glance.rs"]
    pub mod glance;
    #[path = "../../src/sip/mark.rs"]
    pub mod mark;
    #[path = "../../src/sip/message/mod.rs"]
    pub mod message;
}
#[path = "../../src/types/mod.rs"]
mod types;

use sip::framing::{Frame, StreamFramer};
use sip::message::{HeaderName, Limits, Typed, parse};

/// All frames, and whether the stream broke.
fn frames<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Frame>, bool) {
    let (mut framer, mut frames) =
        (StreamFramer::new(Limits { message: 2_000, ..Limits::default() }), Vec::new());
    for piece in pieces {
        framer.push(piece);
        loop {
            match framer.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
    }
    (frames, false)
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((piece, stream)) = input.split_first() else { return };
    let whole = frames(std::iter::once(stream));
    assert_eq!(frames(stream.chunks(usize::from(*piece).max(1))), whole);
    for frame in whole.0 {
        let Frame::Message(bytes) = frame else { continue };
        // The framer and the reader agree on the length.
        if let Ok(message) = parse(&bytes) {
            let length = message.headers().get(&HeaderName::ContentLength).expect("the framer asked for it");
            assert_eq!(length.parse(), Ok(message.body().len()));
            assert!(bytes.ends_with(message.body()));
        }
    }
});
