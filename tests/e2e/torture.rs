//! The torture messages of RFC 4475 and RFC 5118 at a running gateway, over UDP, TCP and TLS: each is taken or refused
//! as its RFC says, and the next good request is answered.

use crate::scene::{BLINK, SECOND};
use crate::support::{
    digest,
    gateway::{Gateway, GatewayBuilder, PASSWORD},
    lane::Lane,
    raw_sip::{self, status},
    raw_stream::RawStream,
    tls::Authority,
    wait,
};
use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr, UdpSocket},
};

const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/sip/message/samples");

/// One message and the final answers it gets, none where it is to be passed over in silence.
struct Row {
    name: &'static str,
    answers: &'static [u16],
    stream: OnStream,
    /// What the answer says.
    says: &'static [&'static str],
}

/// What becomes of a message that comes by a stream.
enum OnStream {
    /// The same as of a datagram.
    Same,
    /// Where it ends nobody can tell: it is refused with 400 and the stream closed.
    Closes,
    /// It ends in the middle of something: what is whole is answered so, for the rest the stream waits.
    Waits(&'static [u16]),
}

const fn row(name: &'static str, answers: &'static [u16]) -> Row {
    Row { name, answers, stream: OnStream::Same, says: &[] }
}

impl Row {
    const fn stream(self, stream: OnStream) -> Row {
        Row { stream, ..self }
    }

    const fn says(self, says: &'static [&'static str]) -> Row {
        Row { says, ..self }
    }
}

const ALLOW: &[&str] = &["\r\nAllow: INVITE, "];

/// What a trunk gets that has proven itself by its address. Nearly all call names, which are no telephone numbers: a
/// call that is understood gets just so far (484).
const ROWS: &[Row] = &[
    // RFC 4475 §3.1.1, valid; the first one stands inside a dialog that nobody knows.
    row("wsinv", &[481]),
    row("intmeth", &[501]).says(ALLOW),
    row("esc01", &[484]),
    row("escnull", &[401]),
    row("esc02", &[501]).says(ALLOW),
    row("lwsdisp", &[200]).says(ALLOW),
    row("longreq", &[484]),
    // A second request behind the first one is no part of a datagram. On a stream it is one, of
    // a caller that says no Contact, and four octets remain.
    row("dblreq", &[401]).stream(OnStream::Waits(&[401, 400])),
    row("semiuri", &[200]),
    row("transports", &[200]),
    row("mpart01", &[405]).says(ALLOW),
    row("unreason", &[]),
    row("noreason", &[]),
    // §3.1.2, invalid
    row("badinv01", &[400]),
    row("clerr", &[400]).stream(OnStream::Waits(&[])),
    row("ncl", &[400]).stream(OnStream::Closes),
    row("scalar02", &[400]),
    row("scalarlg", &[]),
    row("quotbal", &[400]),
    row("ltgtruri", &[400]),
    row("lwsruri", &[400]),
    row("lwsstart", &[400]),
    row("trws", &[400]),
    row("escruri", &[400]),
    row("baddate", &[484]),
    row("regbadct", &[400]),
    row("badaspec", &[200]),
    row("baddn", &[200]),
    row("badvers", &[505]),
    row("mismatch01", &[400]),
    row("mismatch02", &[400]),
    row("bigcode", &[]),
    // §3.2, §3.3
    row("badbranch", &[200]),
    row("insuf", &[400]).says(&["branch=z9hG4bKkdj.insuf", "\r\nCSeq: 193942 INVITE\r\n"]),
    row("unkscm", &[416]),
    row("novelsc", &[416]),
    row("unksm2", &[400]),
    row("bext01", &[420]).says(&["\r\nUnsupported: nothingSupportsThis, nothingSupportsThisEither\r\n"]),
    row("invut", &[415]).says(&["\r\nAccept: application/sdp\r\n"]),
    row("regaut01", &[401]).says(&["\r\nWWW-Authenticate: Digest "]),
    row("multi01", &[400]),
    row("mcl01", &[400]).stream(OnStream::Closes),
    row("bcast", &[]),
    // An endpoint answers as if there were hops left (§3.3.11).
    row("zeromf", &[200]),
    row("cparam01", &[401]),
    row("cparam02", &[401]),
    row("regescrt", &[401]),
    row("sdp01", &[406]).says(&["\r\nWarning: 399 "]),
    // §3.4: what RFC 2543 let be left out, Content-Length among it, which a stream can't do without.
    row("inv2543", &[484]).stream(OnStream::Closes),
    // RFC 5118 §4
    row("rfc5118-valid", &[401]),
    row("rfc5118-no-brackets", &[400]),
    row("rfc5118-port-ambiguous", &[401]),
    row("rfc5118-port", &[401]),
    row("rfc5118-received-brackets", &[200]),
    row("rfc5118-received-bare", &[200]),
    // Read to the session, which nobody here could answer.
    row("rfc5118-sdp", &[488]).says(&["\r\nWarning: 3"]),
    row("rfc5118-mixed", &[481]),
    row("rfc5118-two-families", &[484]),
    row("rfc5118-mapped", &[488]).says(&["\r\nWarning: 3"]),
    row("rfc5118-three-colons", &[200]),
    row("rfc5118-two-colons", &[200]),
];

fn sample(name: &str) -> Vec<u8> {
    std::fs::read(format!("{SAMPLES}/{name}.sip")).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A gateway that takes the messages for its trunk's.
fn builder(lane: &Lane) -> GatewayBuilder<'_> {
    let ip = lane.own_ip();
    Gateway::on(lane).set("sip.realm", "example.com").trunk_with(
        "operator-a",
        SocketAddr::new(ip, 5060),
        |trunk| {
            trunk.set("peers", vec![toml::Value::from(ip.to_string())]);
        },
    )
}

/// The acknowledgement of a refusal, where the refused request was an INVITE.
fn ack_of(request: &[u8], refusal: &str) -> Option<String> {
    let field = |name: &str| {
        refusal.lines().find(|line| line.split(':').next().is_some_and(|n| n.eq_ignore_ascii_case(name)))
    };
    let cseq = field("CSeq")?.strip_suffix(" INVITE")?;
    let request = String::from_utf8_lossy(request);
    let uri = request.lines().next()?.split(' ').nth(1)?.to_owned();
    let (via, from, to, call_id) = (field("Via")?, field("From")?, field("To")?, field("Call-ID")?);
    Some(format!(
        "ACK {uri} SIP/2.0\r\n{via}\r\nMax-Forwards: 70\r\n{from}\r\n{to}\r\n{call_id}\r\n{cseq} ACK\r\n\
         Content-Length: 0\r\n\r\n"
    ))
}

/// The final answers to a message, told apart from the one to the good request behind it.
#[derive(Default)]
struct Heard {
    finals: Vec<(u16, String)>,
    marker: bool,
}

impl Heard {
    /// Takes an answer in; gives the ACK it wants.
    fn take(&mut self, request: &[u8], marker: &str, text: &str) -> Option<String> {
        let code = status(text)?;
        if text.contains(marker) {
            assert_eq!(code, 200, "{text}");
            self.marker = true;
            return None;
        }
        let cseq = text.lines().find(|line| line.starts_with("CSeq:")).unwrap_or_default().to_owned();
        if code < 200 || self.finals.iter().any(|(known, said)| *known == code && said.contains(&cseq)) {
            return None;
        }
        self.finals.push((code, text.to_owned()));
        ack_of(request, text)
    }

    fn is_complete(&self, count: usize) -> bool {
        self.marker && self.finals.len() >= count
    }

    #[track_caller]
    fn check(&self, row: &Row, answers: &[u16]) {
        let codes: Vec<u16> = self.finals.iter().map(|(code, _)| *code).collect();
        assert_eq!(codes, answers, "{}: {:#?}", row.name, self.finals);
        assert!(self.marker, "{}: the good request behind it has no answer", row.name);
        for says in row.says {
            assert!(
                self.finals.iter().any(|(_, text)| text.contains(says)),
                "{}: {:#?}",
                row.name,
                self.finals
            );
        }
    }
}

#[test]
fn each_message_has_its_row() {
    let files = std::fs::read_dir(SAMPLES).expect("the folder of the messages");
    let files: BTreeSet<String> = files
        .map(|file| file.expect("a file").file_name().to_string_lossy().trim_end_matches(".sip").to_owned())
        .collect();
    let rows: BTreeSet<String> = ROWS.iter().map(|row| row.name.to_owned()).collect();
    assert_eq!(files, rows);
    assert_eq!(rows.len(), 49 + 12, "RFC 4475 and RFC 5118");
}

#[test]
fn each_message_is_taken_or_refused_as_its_rfc_says_over_udp() {
    let lane = Lane::take("torture-udp");
    let gateway = builder(&lane).start();
    let ip = lane.own_ip();
    // An answer goes to the port that Via names, at the address it came from: one that is this test's alone.
    let sockets: Vec<UdpSocket> = [5060, 5050, 6050, 19_823]
        .into_iter()
        .map(|port| UdpSocket::bind((ip, port)).expect("nobody else has this address"))
        .collect();
    for socket in &sockets {
        socket.set_nonblocking(true).expect("an option of sockets");
    }
    let from = sockets[0].local_addr().expect("bound");
    let send = |bytes: &[u8]| {
        sockets[0].send_to(bytes, gateway.udp()).expect("loopback takes it");
    };
    for row in ROWS {
        let (message, marker) = (sample(row.name), format!("behind-{}", row.name));
        send(&message);
        send(raw_sip::options(gateway.udp(), from, &marker, "").as_bytes());
        let mut heard = Heard::default();
        let mut buffer = vec![0; 65_535];
        wait::within(wait::SOON, || {
            for socket in &sockets {
                while let Ok(length) = socket.recv(&mut buffer) {
                    let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                    if let Some(ack) = heard.take(&message, &marker, &text) {
                        send(ack.as_bytes());
                    }
                }
            }
            heard.is_complete(row.answers.len()).then_some(())
        });
        heard.check(row, row.answers);
    }
    // What was no message at all opened nothing, and what was a call has its record.
    let calls = ROWS.iter().filter(|row| matches!(row.answers, [484 | 488 | 406 | 415])).count();
    gateway.wait_cdrs(calls);
    gateway.wait_idle();
}

/// How a stream to the gateway is opened.
type Open<'a> = &'a dyn Fn() -> RawStream;

fn over_streams(gateway: &Gateway<'_>, transport: &str, open: Open<'_>) {
    let good = |marker: &str, stream: &RawStream| {
        let options = raw_sip::options(gateway.udp(), stream.local(), marker, "");
        options.replace("SIP/2.0/UDP", &format!("SIP/2.0/{transport}"))
    };
    let listen = |stream: &mut RawStream, message: &[u8], marker: &str, count: usize| {
        let mut heard = Heard::default();
        while !heard.is_complete(count) {
            let Some(text) = stream.receive(wait::SOON) else { break };
            if let Some(ack) = heard.take(message, marker, &text) {
                stream.send(ack.as_bytes());
            }
        }
        heard
    };
    for row in ROWS {
        let (message, marker) = (sample(row.name), format!("behind-{transport}-{}", row.name));
        let mut stream = open();
        match row.stream {
            OnStream::Same => {
                // Both in one piece, which over TLS is one record.
                stream.send(&[message.as_slice(), good(&marker, &stream).as_bytes()].concat());
                listen(&mut stream, &message, &marker, row.answers.len()).check(row, row.answers);
                continue;
            }
            OnStream::Closes => {
                // What came whole before it is answered all the same.
                let before = good(&format!("before-{}", row.name), &stream);
                stream.send(&[before.as_bytes(), &message].concat());
                let told = std::iter::from_fn(|| stream.receive(wait::SOON));
                let told: Vec<_> = told.map(|text| status(&text)).collect();
                assert_eq!(told, [Some(200), Some(400)], "{}", row.name);
                assert!(stream.is_closed(wait::SOON), "{}: its stream can't be followed", row.name);
            }
            OnStream::Waits(answers) => {
                stream.send(&message);
                let mut heard = Heard::default();
                while heard.finals.len() < answers.len() {
                    let Some(text) = stream.receive(wait::SOON) else { break };
                    heard.take(&message, &marker, &text);
                }
                heard.marker = true;
                heard.check(row, answers);
                assert!(!stream.is_closed(BLINK * 3), "{}: more of it may come", row.name);
            }
        }
        let mut stream = open();
        stream.send(good(&marker, &stream).as_bytes());
        assert!(listen(&mut stream, b"", &marker, 0).marker, "{}", row.name);
    }
    gateway.wait_idle();
}

#[test]
fn each_message_is_taken_or_refused_as_its_rfc_says_over_tcp() {
    let lane = Lane::take("torture-tcp");
    let gateway = builder(&lane).start();
    over_streams(&gateway, "TCP", &|| RawStream::tcp(lane.own_ip(), gateway.tcp()));
}

#[test]
fn each_message_is_taken_or_refused_as_its_rfc_says_over_tls() {
    let lane = Lane::take("torture-tls");
    let authority = Authority::new("torture");
    let gateway = builder(&lane).tls(&authority).start();
    over_streams(&gateway, "TLS", &|| RawStream::tls(lane.own_ip(), gateway.tls(), &authority));
}

/// A message as another request: with a branch and a Call-ID of its own.
fn renamed(name: &str, number: usize) -> Vec<u8> {
    let text = sample(name);
    let mut out = Vec::with_capacity(text.len() + 16);
    for line in text.split_inclusive(|octet| *octet == b'\n') {
        out.extend_from_slice(line);
        for prefix in [&b"i: "[..], b"Call-ID: "] {
            if line.starts_with(prefix) {
                out.truncate(out.len() - line.len());
                out.extend_from_slice(prefix);
                out.extend_from_slice(format!("{number}.").as_bytes());
                out.extend_from_slice(&line[prefix.len()..]);
            }
        }
    }
    let branch = b"branch=z9hG4bK";
    let at = out.windows(branch.len()).position(|octets| octets == branch).expect("a branch") + branch.len();
    out.splice(at..at, format!("{number}-").into_bytes());
    out
}

/// Where a stream may be cut: one place of each kind, by what stands left and right of it.
fn cuts(stream: &[u8]) -> Vec<(&'static str, Vec<usize>)> {
    let all = |left: &[u8], right: &[u8]| -> Vec<usize> {
        let whole = [left, right].concat();
        let found = stream.windows(whole.len()).enumerate().filter(|(_, octets)| *octets == whole);
        found.map(|(at, _)| at + left.len()).collect()
    };
    let kinds = [
        ("nowhere", Vec::new()),
        ("before each octet", (1..stream.len()).collect()),
        ("behind every third octet", (1..stream.len()).step_by(3).collect()),
        ("inside line ends", all(b"\r", b"\n")),
        ("behind lines", all(b"\r\n", b"")),
        ("inside the end of a head", [all(b"\r\n", b"\r\n"), all(b"\r\n\r", b"\n")].concat()),
        ("between head and body", all(b"\r\n\r\n", b"")),
        ("before what was folded", all(b"\r\n", b" ")),
        ("inside Content-Length", [all(b"Content-", b"Length"), all(b"Length: 1", b"54")].concat()),
        ("inside start lines", [all(b"INV", b"ITE "), all(b"SIP/2", b".0\r\n")].concat()),
        ("inside an escape", all(b"%", b"3A")),
        ("inside a body", all(b"m=aud", b"io")),
    ];
    assert!(kinds[1..].iter().all(|(_, at)| !at.is_empty()), "each kind is somewhere");
    kinds.into()
}

fn in_pieces(gateway: &Gateway<'_>, transport: &str, open: Open<'_>) {
    for number in 0.. {
        let mut stream = open();
        let marker = format!("last-{transport}-{number}");
        let good = raw_sip::options(gateway.udp(), stream.local(), &marker, "");
        let good = good.replace("SIP/2.0/UDP", &format!("SIP/2.0/{transport}"));
        let names = ["esc01", "lwsdisp", "mpart01"];
        let [esc01, lwsdisp, mpart01] = names.map(|name| renamed(name, number));
        let whole =
            [b"\r\n\r\n", esc01.as_slice(), b"\r\n", &lwsdisp, b"\r\n\r\n", &mpart01, good.as_bytes()];
        let whole = whole.concat();
        let kinds = cuts(&whole);
        let Some((kind, mut at)) = kinds.into_iter().nth(number) else { break };
        at.sort_unstable();
        let mut from = 0;
        for end in at.into_iter().chain([whole.len()]) {
            stream.send(&whole[from..end]);
            from = end;
        }
        assert_eq!(stream.receive_octets(2, wait::SOON), Some(b"\r\n".to_vec()), "{kind}: the first ping");
        let mut heard = Heard::default();
        while !heard.is_complete(3) {
            let text = stream.receive(wait::SOON).unwrap_or_else(|| panic!("{kind}: {:#?}", heard.finals));
            if let Some(ack) = heard.take(&esc01, &marker, &text) {
                stream.send(ack.as_bytes());
            }
        }
        // A call is refused once its record is kept, the others at once.
        let codes: BTreeSet<u16> = heard.finals.iter().map(|(code, _)| *code).collect();
        assert_eq!(codes, BTreeSet::from([200, 405, 484]), "{kind}");
    }
    gateway.wait_idle();
}

#[test]
fn a_stream_may_be_cut_anywhere_and_keep_alives_stand_between_messages() {
    let lane = Lane::take("torture-pieces");
    let authority = Authority::new("torture");
    let gateway = builder(&lane).tls(&authority).start();
    in_pieces(&gateway, "TCP", &|| RawStream::tcp(lane.own_ip(), gateway.tcp()));
    in_pieces(&gateway, "TLS", &|| RawStream::tls(lane.own_ip(), gateway.tls(), &authority));
}

#[test]
fn a_tortuous_registration_counts_once_it_is_proven() {
    let lane = Lane::take("torture-register");
    let gateway = builder(&lane).user("watson", "+3225550001").user("user", "+3225550002").start();
    let ip: IpAddr = lane.own_ip();
    // (message, user, the Contact that is kept)
    for (name, user, contact) in [
        ("cparam01", "watson", "\r\nContact: <sip:+19725552222@gw1.example.net>;expires="),
        ("cparam02", "watson", "\r\nContact: <sip:+19725552222@gw1.example.net;unknownparam>;expires="),
        ("regescrt", "user", "\r\nContact: <sip:user@example.com?Route=%3Csip:sip.example.com%3E>;expires="),
        ("rfc5118-valid", "user", "\r\nContact: <sip:caller@[2001:db8::1]>;expires="),
    ] {
        let mut stream = RawStream::tcp(ip, gateway.tcp());
        let first = String::from_utf8(renamed(name, 0)).expect("text");
        stream.send(first.as_bytes());
        let challenge = stream.receive(SECOND * 5).expect("a challenge");
        let offered = challenge.lines().filter_map(|line| line.strip_prefix("WWW-Authenticate: "));
        let md5 = offered.into_iter().find(|offer| !offer.contains("SHA")).expect("a digest with MD5");
        let uri = first.split(' ').nth(1).expect("a Request-URI");
        let answer = digest::answer(md5, user, PASSWORD, "REGISTER", uri, 1);
        let number: u32 =
            first.split("CSeq: ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok()).unwrap();
        let second = first
            .replace(&format!("CSeq: {number} "), &format!("CSeq: {} ", number + 1))
            .replacen("branch=z9hG4bK", "branch=z9hG4bK-proven-", 1)
            .replacen("\r\nMax-Forwards:", &format!("\r\nAuthorization: {answer}\r\nMax-Forwards:"), 1);
        stream.send(second.as_bytes());
        let taken = stream.receive(SECOND * 5).unwrap_or_default();
        assert_eq!(status(&taken), Some(200), "{name}: {taken}");
        assert!(taken.contains(contact), "{name}: {taken}");
    }
}
