//! Takes out of a message what a trace must not tell: numbers, names of people, credentials, keys, where a caller is.

use std::borrow::Cow;

/// Runs of so many digits and more are numbers (or might be).
const SHORTEST_NUMBER: usize = 6;
/// Digits of a number that stay, as elsewhere: about its country.
const KEPT: usize = 3;

/// The text of a message with numbers masked, and without names of people, credentials, SRTP keys and locations. Whatever is no text is
/// left out.
pub fn masked(message: &[u8]) -> String {
    let text = String::from_utf8_lossy(message);
    let mut shown = String::with_capacity(text.len());
    let mut document = Document::None;
    // The folded lines of a field that is not shown (RFC 3261 §7.3.1).
    let mut hides_folds = false;
    // A field of names goes on in these lines too.
    let mut names = None;
    for line in text.split_inclusive('\n') {
        let folded = line.starts_with([' ', '\t']);
        if hides_folds && folded {
            continue;
        }
        if let Some(names) = names.as_mut().filter(|_| folded) {
            without_names(names, line, &mut shown);
            continue;
        }
        names = None;
        if let Some((name, value)) = line.split_once(':')
            && holds_names(name.trim())
        {
            shown.extend([name, ":"]);
            let mut place = Place::Name;
            without_names(&mut place, value, &mut shown);
            (names, hides_folds) = (Some(place), false);
            continue;
        }
        hides_folds = is_secret(name_of(line));
        document = document.next(line);
        match document {
            Document::Begins => shown.push_str("(location)\r\n"),
            Document::GoesOn => {}
            Document::None | Document::Announced | Document::Awaited => {
                shown.push_str(&line_without_secrets(line))
            }
        }
    }
    without_numbers(&shown)
}

/// A location document (PIDF-LO) in a body, alone or as a part of one (RFC 6442 §3).
#[derive(Clone, Copy)]
enum Document {
    None,
    /// Its Content-Type was read.
    Announced,
    /// So was the empty line behind the fields.
    Awaited,
    Begins,
    GoesOn,
}

impl Document {
    fn next(self, line: &str) -> Document {
        let name = line.split(':').next().unwrap_or_default().trim();
        let field = ["Content-Type", "c"].iter().any(|known| name.eq_ignore_ascii_case(known))
            || line.starts_with([' ', '\t']);
        let announces = field && line.to_ascii_lowercase().contains("pidf+xml");
        // A comment of XML may end at the start of a line, but no boundary holds an angle bracket (RFC 2046 §5.1.1).
        let boundary = line.starts_with("--") && !line.contains(['<', '>']);
        match self {
            Document::None if announces => Document::Announced,
            Document::None => Document::None,
            Document::Announced if line.trim().is_empty() => Document::Awaited,
            Document::Announced => Document::Announced,
            Document::Awaited | Document::Begins | Document::GoesOn if boundary => Document::None,
            Document::Awaited => Document::Begins,
            Document::Begins | Document::GoesOn => Document::GoesOn,
        }
    }
}

/// What stands before the first colon of a line.
fn name_of(line: &str) -> &str {
    line.split(':').next().unwrap_or_default().trim()
}

/// Fields of which not all is shown.
fn is_secret(name: &str) -> bool {
    let names = ["Authorization", "Proxy-Authorization", "Geolocation", "Identity", "y"];
    names.iter().any(|secret| name.eq_ignore_ascii_case(secret))
}

/// Fields of addresses, which people's names stand before.
fn holds_names(field: &str) -> bool {
    let fields = [
        "From",
        "f",
        "To",
        "t",
        "Contact",
        "m",
        "Reply-To",
        "Referred-By",
        "b",
        "P-Asserted-Identity",
        "P-Preferred-Identity",
        "P-Called-Party-ID",
        "Remote-Party-ID",
        "Diversion",
        "History-Info",
    ];
    fields.iter().any(|known| field.eq_ignore_ascii_case(known))
}

/// Where in a list of addresses a reader is.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Name,
    /// Inside quotation marks; true behind a backslash.
    Quoted(bool),
    Address,
    Params,
}

/// A piece of a field of addresses without the names before them. An address that has no angle brackets has no name
/// either (RFC 3261 §20.10).
fn without_names(place: &mut Place, piece: &str, shown: &mut String) {
    const MASKED: &str = "\"(name)\"";
    let mut bare = String::new();
    for c in piece.chars() {
        match (*place, c) {
            (Place::Name, '"') => {
                *place = Place::Quoted(false);
                shown.extend(bare.drain(..).filter(|c| c.is_whitespace()));
                shown.push_str(MASKED);
            }
            (Place::Quoted(true), _) => *place = Place::Quoted(false),
            (Place::Quoted(false), '\\') => *place = Place::Quoted(true),
            (Place::Quoted(false), '"') => *place = Place::Name,
            // A name does not end at the end of a line, but what follows it is readable only there.
            (Place::Quoted(false), '\r' | '\n') => shown.push(c),
            (Place::Quoted(false), _) => {}
            (Place::Name, '<') => {
                let before = if bare.trim().is_empty() { bare.as_str() } else { " \"(name)\" " };
                shown.push_str(before);
                shown.push(c);
                bare.clear();
                *place = Place::Address;
            }
            (Place::Name, ',') | (Place::Name, ';') => {
                shown.push_str(&bare);
                shown.push(c);
                bare.clear();
                *place = if c == ';' { Place::Params } else { Place::Name };
            }
            (Place::Name, _) => bare.push(c),
            (Place::Address, '>') => {
                shown.push(c);
                *place = Place::Params;
            }
            (Place::Params, ',') => {
                shown.push(c);
                *place = Place::Name;
            }
            (Place::Address | Place::Params, _) => shown.push(c),
        }
    }
    shown.push_str(&bare);
}

fn line_without_secrets(line: &str) -> Cow<'_, str> {
    let ending = if line.ends_with("\r\n") { "\r\n" } else { "\n" };
    let name = name_of(line);
    if is_secret(name) && line.contains(':') {
        let value = line.split_once(':').map_or("", |(_, value)| value.trim());
        let shown = if name.eq_ignore_ascii_case("Geolocation") {
            // What is fetched there is a location too; a cid only names a part of this message.
            let places = value.split(',').map(|place| match place.trim() {
                cid if cid.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("<cid:")) => cid,
                _ => "(location)",
            });
            places.collect::<Vec<_>>().join(", ")
        } else if name.eq_ignore_ascii_case("Identity") || name == "y" || name == "Y" {
            // RFC 8225 §5: both numbers stand in it, in base64.
            let parameters = value.find(';').map_or("", |at| &value[at..]);
            format!("(numbers, signed){parameters}")
        } else {
            // Challenges tell nothing; what answers them can be guessed at by whoever reads it.
            "(credentials)".to_owned()
        };
        return format!("{name}: {shown}{ending}").into();
    }
    if let Some(crypto) = line.strip_prefix("a=crypto:") {
        let kept = crypto.split("inline:").next().unwrap_or_default();
        return format!("a=crypto:{kept}inline:(key){ending}").into();
    }
    line.into()
}

/// Digits with the signs people write between them count as one number.
fn without_numbers(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        shown.push_str(&rest[..start]);
        let run = &rest[start..];
        let end = run.find(|c: char| !c.is_ascii_digit()).unwrap_or(run.len());
        if end >= SHORTEST_NUMBER {
            shown.push_str(&run[..KEPT]);
            shown.extend(std::iter::repeat_n('*', end - KEPT));
        } else {
            shown.push_str(&run[..end]);
        }
        rest = &run[end..];
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_wherever_they_stand_and_addresses_stay() {
        let message = "INVITE sip:+32470123456@192.0.2.7:5060 SIP/2.0\r\n\
                       Via: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bKab\r\n\
                       From: \"0470123457\" <sip:3225550001@gw>;tag=1\r\n\
                       CSeq: 1 INVITE\r\n\r\nc=IN IP4 192.0.2.9\r\nm=audio 20000 RTP/AVP 8\r\n";
        let shown = masked(message.as_bytes());
        for secret in ["470123456", "0470123457", "3225550001"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        assert!(shown.contains("+324********@192.0.2.7:5060"), "{shown}");
        assert!(shown.contains("m=audio 20000 RTP/AVP 8\r\n") && shown.contains("CSeq: 1 INVITE"));
    }

    #[test]
    fn names_of_people_go_and_their_addresses_stay() {
        let message = "INVITE sip:a@b SIP/2.0\r\nFrom: \"Alice \\\"B\\\" <x>, Peeters\" <sip:a@gw>;tag=\"q\"\r\n\
                       t: Bob Maes <sip:b@gw>\r\nP-Asserted-Identity: \"Carol\" <sip:c@gw>,\r\n \"Dirk\r\n  Claes\" <tel:112>\r\n\
                       Remote-Party-ID: <sip:d@gw>;party=calling, Emma <sip:e@gw>\r\nContact: sip:f@gw;x=1\r\n\
                       Subject: \"Project\"\r\n\r\n";
        let shown = masked(message.as_bytes());
        for secret in ["Alice", "Peeters", "Bob", "Maes", "Carol", "Dirk", "Claes", "Emma"] {
            assert!(!shown.contains(secret), "{secret}: {shown}");
        }
        for kept in [
            "From: \"(name)\" <sip:a@gw>;tag=\"q\"\r\n",
            "t: \"(name)\" <sip:b@gw>\r\n",
            "P-Asserted-Identity: \"(name)\" <sip:c@gw>,\r\n",
            " <tel:112>\r\n",
            "Remote-Party-ID: <sip:d@gw>;party=calling, \"(name)\" <sip:e@gw>\r\n",
            "Contact: sip:f@gw;x=1\r\n",
            "Subject: \"Project\"\r\n\r\n",
        ] {
            assert!(shown.contains(kept), "{kept}: {shown}");
        }
    }

    #[test]
    fn credentials_and_keys_are_never_shown() {
        let message = "BYE sip:a@b SIP/2.0\r\nproxy-authorization: Digest response=\"secret\"\r\n\r\n\
                       a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:c2VjcmV0\r\na=ptime:20\r\n";
        let shown = masked(message.as_bytes());
        assert!(!shown.contains("secret") && !shown.contains("c2VjcmV0"), "{shown}");
        assert!(shown.contains("proxy-authorization: (credentials)\r\n"));
        assert!(shown.contains("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:(key)\r\na=ptime:20"));
    }

    #[test]
    fn where_a_caller_is_is_never_shown() {
        let document = "<?xml version=\"1.0\"?>\r\n<presence entity=\"pres:a@b\">\r\n<cl:RD>Wetstraat</cl:RD>\r\n\r\n\
                        <gml:pos>50.85 4.35</gml:pos>\r\n</presence>\r\n";
        let head = "INVITE urn:service:sos SIP/2.0\r\nGeolocation: <cid:1@a>\r\n";
        let alone =
            format!("{head}Content-Type: application/pidf+xml\r\nContent-Length: 9\r\n\r\n{document}");
        let parts = format!(
            "{head}Content-Type: multipart/mixed;boundary=x\r\n\r\n--x\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n\
             --x\r\nContent-Type: application/pidf+xml\r\nContent-ID: <1@a>\r\n\r\n{document}--x\r\n\
             Content-Type: text/plain\r\n\r\nend\r\n--x--\r\n"
        );
        for message in [alone, parts.clone()] {
            let shown = masked(message.as_bytes());
            for secret in ["Wetstraat", "50.85", "presence", "pres:"] {
                assert!(!shown.contains(secret), "{shown}");
            }
            assert!(shown.contains("(location)") && shown.contains("<cid:1@a>"), "{shown}");
        }
        let shown = masked(parts.as_bytes());
        assert!(shown.contains("v=0") && shown.contains("end\r\n--x--"), "{shown}");
        let fetched = masked(b"INVITE a SIP/2.0\r\nGeolocation: <https://lis.example/alice>\r\n\r\n");
        assert!(!fetched.contains("alice"), "{fetched}");
    }

    #[test]
    fn neither_lists_nor_folds_nor_comments_nor_signatures_bring_it_out() {
        let message = "INVITE urn:service:sos SIP/2.0\r\nGeolocation: <cid:1@a>, <https://lis.example/alice>\r\n\
                       Authorization: Digest username=\"u\",\r\n response=\"secret\"\r\nIdentity: eyJ0biI6WyIzMjQ3M.eyJ.c2ln;\
                       info=<https://cert.example/1>;ppt=shaken\r\nContent-Type: application/pidf+xml\r\n\r\n\
                       <presence>\r\n<!-- made by\r\n-->\r\n<cl:RD>Wetstraat</cl:RD>\r\n</presence>\r\n";
        let shown = masked(message.as_bytes());
        for secret in ["alice", "secret", "eyJ0", "Wetstraat"] {
            assert!(!shown.contains(secret), "{secret}: {shown}");
        }
        assert!(shown.contains("Geolocation: <cid:1@a>, (location)\r\n"), "{shown}");
        assert!(
            shown.contains("Identity: (numbers, signed);info=<https://cert.example/1>;ppt=shaken\r\n"),
            "{shown}"
        );
    }

    #[test]
    fn what_is_no_text_does_no_harm() {
        assert_eq!(masked(b""), "");
        assert!(masked(&[0xff, b'1', 0xfe]).contains('1'));
    }
}
