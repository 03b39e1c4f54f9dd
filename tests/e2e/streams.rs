//! An operator over TCP whose connections end before its calls do (RFC 3261 §12.2.1.1, §18.2.2).

use crate::scene::{ALICE, SECOND, STRANGER, operator};
use crate::support::{
    gateway::Gateway,
    lane::Lane,
    raw_sip,
    raw_stream::RawStream,
    sipp::{Over, RunningSipp, Sipp},
    wait,
};
use crate::transports::known_by_address;
use std::net::{SocketAddr, TcpListener};

/// An operator's proxy that listens at one port and connects from others.
struct Switch {
    listener: TcpListener,
    listens: SocketAddr,
}

impl Switch {
    fn new(lane: &Lane) -> Switch {
        let listener = TcpListener::bind((lane.own_ip(), lane.port())).expect("a free port");
        listener.set_nonblocking(true).expect("an option of a socket");
        let listens = listener.local_addr().expect("bound");
        Switch { listener, listens }
    }

    /// A gateway that knows it by its address, and alice's device.
    fn gateway<'a>(&self, lane: &'a Lane, device: &str) -> (Gateway<'a>, RunningSipp) {
        let gateway = Gateway::on(lane).user("alice", ALICE);
        let gateway = gateway.trunk_with("operator-a", self.listens, |trunk| {
            known_by_address(trunk, Over::Tcp, self.listens);
        });
        let gateway = gateway.start();
        let port = lane.port();
        Sipp::register(lane, gateway.udp(), "alice", port);
        let phone = operator(lane, device).at_port(port).pause(2 * SECOND).start();
        (gateway, phone)
    }

    /// The next connection that the gateway makes.
    #[track_caller]
    fn called_back(&self) -> RawStream {
        let (socket, _) = wait::until("the gateway to connect", wait::SOON, || self.listener.accept().ok());
        RawStream::accepted(socket)
    }

    fn request(&self, method: &str, uri: &str, number: u32, to: &str, sdp: &str) -> String {
        let me = self.listens;
        let kind = if sdp.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        format!(
            "{method} {uri} SIP/2.0\r\n\
             Via: SIP/2.0/TCP {me};branch=z9hG4bK-{number}-{method}\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:{STRANGER}@{me}>;tag=switch\r\n\
             To: {to}\r\n\
             Call-ID: streams@{me}\r\n\
             CSeq: {number} {method}\r\n\
             Contact: <sip:switch@{me};transport=tcp>\r\n\
             {kind}Content-Length: {}\r\n\r\n{sdp}",
            sdp.len()
        )
    }

    fn invite(&self, gateway: &Gateway<'_>) -> String {
        let (uri, ip) = (format!("sip:{ALICE}@{}", gateway.tcp()), self.listens.ip());
        let sdp = format!(
            "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n\
             m=audio 40000 RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\n"
        );
        self.request("INVITE", &uri, 1, &format!("<{uri}>"), &sdp)
    }
}

fn header<'a>(text: &'a str, name: &str) -> &'a str {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    line.unwrap_or_else(|| panic!("no {name} in {text}"))
}

/// Reads on until a response of this status.
#[track_caller]
fn answered(stream: &mut RawStream, status: u16) -> String {
    loop {
        let text = stream.receive(wait::SOON).unwrap_or_else(|| panic!("no {status} came"));
        if raw_sip::status(&text) == Some(status) {
            return text;
        }
    }
}

/// To and Request-URI of what follows an answer in its dialog.
fn dialog(answer: &str) -> (String, String) {
    let target = header(answer, "Contact").trim_start_matches('<').split('>').next().unwrap_or_default();
    (header(answer, "To").to_owned(), target.to_owned())
}

fn ok(request: &str) -> String {
    let copied: String = ["Via", "From", "To", "Call-ID", "CSeq"]
        .iter()
        .map(|name| format!("{name}: {}\r\n", header(request, name)))
        .collect();
    format!("SIP/2.0 200 OK\r\n{copied}Content-Length: 0\r\n\r\n")
}

#[test]
fn an_operator_that_closed_its_connection_hears_that_the_call_is_over() {
    let lane = Lane::take("streams-bye");
    let switch = Switch::new(&lane);
    let (gateway, phone) = switch.gateway(&lane, "user-answers-and-hangs-up");
    let mut stream = RawStream::tcp(lane.own_ip(), gateway.tcp());
    assert_ne!(stream.local(), switch.listens);
    stream.send(switch.invite(&gateway).as_bytes());
    let (to, target) = dialog(&answered(&mut stream, 200));
    stream.send(switch.request("ACK", &target, 1, &to, "").as_bytes());
    // Long before the phone hangs up.
    drop(stream);
    let mut back = switch.called_back();
    let bye = back.receive(wait::SOON).expect("a request");
    assert!(bye.starts_with(&format!("BYE sip:switch@{}", switch.listens)), "{bye}");
    assert_eq!(header(&bye, "Call-ID"), format!("streams@{}", switch.listens));
    back.send(ok(&bye).as_bytes());
    phone.succeed();
    gateway.wait_idle();
}

#[test]
fn an_answer_whose_connection_is_gone_is_brought_to_where_the_operator_listens() {
    let lane = Lane::take("streams-answer");
    let switch = Switch::new(&lane);
    let (gateway, phone) = switch.gateway(&lane, "user-answers");
    let mut stream = RawStream::tcp(lane.own_ip(), gateway.tcp());
    stream.send(switch.invite(&gateway).as_bytes());
    answered(&mut stream, 180);
    // The phone rings on for a while.
    drop(stream);
    let mut back = switch.called_back();
    let (to, target) = dialog(&answered(&mut back, 200));
    back.send(switch.request("ACK", &target, 1, &to, "").as_bytes());
    back.send(switch.request("BYE", &target, 2, &to, "").as_bytes());
    let over = answered(&mut back, 200);
    // The 200 of the INVITE may have come twice before the ACK was there.
    if header(&over, "CSeq") != "2 BYE" {
        assert_eq!(header(&answered(&mut back, 200), "CSeq"), "2 BYE");
    }
    phone.succeed();
    gateway.wait_idle();
}
