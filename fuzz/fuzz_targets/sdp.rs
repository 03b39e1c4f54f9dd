//! Feeds arbitrary bodies to the SDP room: nothing may panic, every answer must be readable and mirror its offer.
#![no_main]
#![allow(dead_code, unused_imports, reason = "the target compiles whole rooms and calls only part of them")]

#[path = "../../src/sdp/mod.rs"]
mod sdp;
#[path = "../../src/types/mod.rs"]
mod types;

use sdp::{Capability, Local, Session, SrtpPolicy};

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    let Ok(offer) = Session::parse(body) else { return };
    let again = Session::parse(offer.to_string().as_bytes()).expect("what was read is written readably");
    assert_eq!(again.to_string(), offer.to_string());
    let random = &mut |bytes: &mut [u8]| bytes.fill(7);
    for (address, srtp) in [
        ("192.0.2.1:20000", SrtpPolicy::Off),
        ("192.0.2.1:20000", SrtpPolicy::Sdes),
        ("[2001:db8::1]:20000", SrtpPolicy::Off),
    ] {
        let address = address.parse().expect("a literal");
        let mut local = Local::new(1, Capability { srtp, rtcp_mux: true, ..Capability::new(address) });
        if let Ok((text, _)) = local.answer(&offer, random) {
            let answer = Session::parse(text.as_bytes()).expect("our answer is readable");
            assert_eq!(answer.medias().len(), offer.medias().len());
            local.offer(random);
        }
        let mut local = Local::new(1, Capability { srtp, ..Capability::new(address) });
        local.offer(random);
        let _ = local.accept(&offer);
    }
});
