//! The layer as a whole, in virtual time: no test waits, and every clock is a parameter.

mod chaos;
mod client;
mod datagram;
mod server;

use super::{ClientKey, Output, ServerKey, Timers, TransactionLayer};
use crate::sip::mark::Marks;
use crate::sip::message::{HeaderName, Message, Method, Request, Response, Typed, parse};
use crate::types::{ConnectionId, NetworkId, Peer, Transport};
use std::time::{Duration, Instant};

const FAR: &str = "192.0.2.7:5060";

fn udp(remote: &str) -> Peer {
    Peer {
        network: NetworkId(0),
        transport: Transport::Udp,
        remote: remote.parse().unwrap(),
        local: "198.51.100.1:5060".parse().unwrap(),
        connection: None,
        tls_name: None,
    }
}

fn tcp(remote: &str) -> Peer {
    Peer { transport: Transport::Tcp, connection: Some(ConnectionId(1)), ..udp(remote) }
}

fn layer() -> TransactionLayer {
    TransactionLayer::new(Timers::default(), Marks::new(7)).with_tag("gw1s0")
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn message(text: &str) -> Message {
    parse(text.replace('\n', "\r\n").as_bytes()).unwrap_or_else(|error| panic!("{error:?} in {text}"))
}

/// A request of ours before the layer adds its Via.
fn own_request(method: Method) -> Request {
    let cseq = format!("17 {method}");
    Request::new(method, "sip:+3225550001@sbc.example;user=phone".parse().unwrap())
        .with_header(HeaderName::Route, "<sip:edge1.example;lr>")
        .with_header(HeaderName::Route, "<sip:edge2.example;lr>")
        .with_header(HeaderName::MaxForwards, "69")
        .with_header(HeaderName::From, "\"Alice\" <sip:alice@gw.example>;tag=a1")
        .with_header(HeaderName::To, "<sip:+3225550001@sbc.example>")
        .with_header(HeaderName::CallId, "call-1")
        .with_header(HeaderName::CSeq, cseq)
        .with_body("application/sdp", "v=0\r\n")
}

/// A far end's response to a request as it was transmitted.
fn response_to(sent: &[u8], status: u16, tag: &str) -> Message {
    let Ok(Message::Request(request)) = parse(sent) else { panic!("no request") };
    let response = Response::to_request(&request, status);
    Message::Response(if status == 100 { response } else { response.with_tag(tag) })
}

/// A far end's request. `via` is what stands behind `SIP/2.0/`.
fn far_request(method: &str, via: &str, to_tag: &str, call_id: &str, cseq: u32) -> Message {
    let cseq_method = method;
    message(&format!(
        "{method} sip:bob@gw.example SIP/2.0\nVia: SIP/2.0/{via}\nMax-Forwards: 70\n\
         From: <sip:carol@far.example>;tag=c1\nTo: <sip:bob@gw.example>{to_tag}\nCall-ID: {call_id}\n\
         CSeq: {cseq} {cseq_method}\nContent-Length: 0\n\n"
    ))
}

fn far_invite() -> Message {
    far_request("INVITE", "UDP 192.0.2.7:5060;branch=z9hG4bKone;rport", "", "call-1", 1)
}

fn drain(layer: &mut TransactionLayer) -> Vec<Output> {
    std::iter::from_fn(|| layer.poll_output()).collect()
}

/// What was transmitted, as text of its first line, and whether it was a repetition.
fn sent(outputs: &[Output]) -> Vec<(String, bool)> {
    let transmits = outputs.iter().filter_map(|output| {
        if let Output::Transmit { bytes, retransmission, .. } = output {
            {
                let text = String::from_utf8_lossy(bytes);
                Some((text.lines().next().unwrap_or_default().to_owned(), *retransmission))
            }
        } else {
            None
        }
    });
    transmits.collect()
}

/// The bytes of the only transmission.
fn only_transmit(outputs: &[Output]) -> Vec<u8> {
    let mut all = outputs.iter().filter_map(|output| {
        if let Output::Transmit { bytes, .. } = output { Some(bytes.to_vec()) } else { None }
    });
    let first = all.next().expect("a transmission");
    assert!(all.next().is_none(), "more than one transmission: {outputs:?}");
    first
}

fn request_of(bytes: &[u8]) -> Request {
    match parse(bytes) {
        Ok(Message::Request(request)) => request,
        other => panic!("{other:?}"),
    }
}

/// The key and request of the only new request.
fn only_request(outputs: &[Output]) -> (ServerKey, Request) {
    let mut all = outputs.iter().filter_map(|output| {
        if let Output::Request { key, request, .. } = output { Some((*key, request.clone())) } else { None }
    });
    let first = all.next().expect("a request");
    assert!(all.next().is_none());
    first
}

fn statuses(outputs: &[Output]) -> Vec<(ClientKey, u16)> {
    let responses = outputs.iter().filter_map(|output| {
        if let Output::Response { key, response, .. } = output { Some((*key, response.status)) } else { None }
    });
    responses.collect()
}

/// Jumps from deadline to deadline until nothing is left to do, and notes when each output came.
fn run_out(layer: &mut TransactionLayer, start: Instant) -> Vec<(u128, Output)> {
    let mut noted = Vec::new();
    while let Some(at) = layer.poll_timeout() {
        layer.handle_timeout(at);
        noted.extend(drain(layer).into_iter().map(|output| ((at - start).as_millis(), output)));
    }
    noted
}

#[test]
fn nothing_is_due_in_an_empty_layer() {
    let mut layer = layer();
    assert_eq!(layer.poll_timeout(), None);
    layer.handle_timeout(Instant::now());
    layer.handle_transport_failure(Instant::now(), 0);
    layer.handle_transport_failure(Instant::now(), 99);
    assert_eq!((layer.poll_output(), layer.active()), (None, 0));
}
