//! The transports on real loopback sockets: port 0, no waiting but for what has to come.

use super::*;
use crate::sip::mark::Marks;
use crate::sip::message::{Limits, Message, ParseErrorKind, Typed};
use crate::types::ConnectionId;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream, UdpSocket},
    sync::mpsc::Receiver,
    time::timeout,
};

/// Long enough for a busy machine; reached only when a test fails.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Side {
    pub transports: Transports,
    pub events: Receiver<TransportEvent>,
}

impl Side {
    pub(super) fn new(settings: TransportSettings) -> Side {
        Side::with_inbox(settings, 1_024)
    }

    fn with_inbox(settings: TransportSettings, inbox: usize) -> Side {
        let (sender, events) = mpsc::channel(inbox);
        Side { transports: Transports::bind(settings, sender).unwrap(), events }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.transports.local_addresses()[0].bind
    }

    pub(super) async fn event(&mut self) -> TransportEvent {
        timeout(PATIENCE, self.events.recv()).await.expect("an event in time").expect("open transports")
    }

    pub(super) async fn message(&mut self) -> (Peer, Message, Arc<[String]>) {
        match self.event().await {
            TransportEvent::Message { peer, message, tls_names, .. } => (peer, message, tls_names),
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn failed(&mut self) -> (u64, TransportFailure) {
        match self.event().await {
            TransportEvent::Failed { ticket, failure, .. } => (ticket, failure),
            other => panic!("{other:?}"),
        }
    }

    async fn closed(&mut self) -> ConnectionId {
        match self.event().await {
            TransportEvent::Closed { connection, .. } => connection,
            other => panic!("{other:?}"),
        }
    }
}

pub(super) fn listening(transport: Transport, ip: impl Into<IpAddr>) -> TransportSettings {
    let bind = SocketAddr::new(ip.into(), 0);
    TransportSettings {
        listeners: vec![Listener { transport, bind, network: NetworkId(0) }],
        door: Some(Marks::new(7)),
        ..TransportSettings::default()
    }
}

fn tcp(streams: StreamSettings) -> TransportSettings {
    TransportSettings { streams, ..listening(Transport::Tcp, Ipv4Addr::LOCALHOST) }
}

/// An OPTIONS request that can be told from others by its Call-ID.
pub(super) fn options(id: &str) -> String {
    format!(
        "OPTIONS sip:h SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK{id};rport\r\nMax-Forwards: 70\r\n\
         From: <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\nCall-ID: {id}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    )
}

pub(super) fn id(message: &Message) -> &str {
    message.call_id().unwrap()
}

async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        let read = timeout(PATIENCE, stream.read_buf(&mut text)).await.expect("octets in time").unwrap();
        assert_ne!(read, 0, "closed after {:?}", String::from_utf8_lossy(&text));
    }
    String::from_utf8(text).unwrap()
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    // A reset is an end like any other here.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut text)).await.expect("an end in time");
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn a_datagram_is_answered_to_where_it_came_from() {
    for ip in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let mut side = Side::new(listening(Transport::Udp, ip));
        let client = UdpSocket::bind(SocketAddr::new(ip, 0)).await.unwrap();
        client.send_to(options("c1").as_bytes(), side.address()).await.unwrap();
        let (peer, message, _) = side.message().await;
        assert_eq!((peer.remote, peer.local), (client.local_addr().unwrap(), side.address()));
        assert_eq!((peer.connection, id(&message)), (None, "c1"));

        side.transports.send(&peer, Bytes::from_static(b"answer"), 1);
        let mut buffer = [0; 100];
        let (length, from) = timeout(PATIENCE, client.recv_from(&mut buffer)).await.unwrap().unwrap();
        assert_eq!((&buffer[..length], from), (&b"answer"[..], side.address()));
    }
}

#[tokio::test]
async fn a_datagram_that_nobody_receives_comes_back_and_keeps_no_other_from_being_sent() {
    for ip in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let mut side = Side::new(listening(Transport::Udp, ip));
        let nobody = UdpSocket::bind(SocketAddr::new(ip, 0)).await.unwrap().local_addr().unwrap();
        let other = UdpSocket::bind(SocketAddr::new(ip, 0)).await.unwrap();
        let peer = |remote| side.transports.peer_for(NetworkId(0), Transport::Udp, remote, None);
        side.transports.send(&peer(nobody), Bytes::from(options("gone")), 1);
        side.transports.send(&peer(other.local_addr().unwrap()), Bytes::from_static(b"here"), 2);
        let mut buffer = [0; 100];
        let (length, _) = timeout(PATIENCE, other.recv_from(&mut buffer)).await.unwrap().unwrap();
        assert_eq!(&buffer[..length], b"here");
        let TransportEvent::Undelivered { remote, quoted } = side.event().await else { panic!() };
        assert_eq!((remote, &quoted[..]), (nobody, options("gone").as_bytes()));
        // The socket works on.
        other.send_to(options("c1").as_bytes(), side.address()).await.unwrap();
        assert_eq!(id(&side.message().await.1), "c1");
    }
}

#[tokio::test]
async fn both_families_listen_on_the_same_port() {
    let first = Side::new(listening(Transport::Udp, Ipv4Addr::UNSPECIFIED));
    let port = first.address().port();
    let bind = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
    let listener = Listener { transport: Transport::Udp, bind, network: NetworkId(0) };
    let settings = TransportSettings { listeners: vec![listener], ..TransportSettings::default() };
    assert_eq!(Side::new(settings).address(), bind);
}

#[tokio::test]
async fn a_malformed_datagram_brings_its_refusal_and_no_amplification() {
    let mut side = Side::new(listening(Transport::Udp, Ipv4Addr::LOCALHOST));
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let bad = options("c1")
        .replace("Content-Length: 0", "Content-Length: 99\r\nSubject: something to say at length");
    let tiny = "A sip:a SIP/2.0\r\nv:SIP/2.0/UDP a\r\nf:sip:a\r\nt:sip:a\r\ni:a\r\nCSeq:1 B\r\n\r\n";
    for datagram in ["\r\n\r\n", bad.as_str(), tiny, options("c2").as_str()] {
        client.send_to(datagram.as_bytes(), side.address()).await.unwrap();
    }
    let TransportEvent::Malformed { fault, refusal: Some(refusal), .. } = side.event().await else {
        panic!()
    };
    assert_eq!(fault, ParseErrorKind::BodyTooShort);
    let refusal = String::from_utf8(refusal.to_vec()).unwrap();
    assert!(
        refusal.starts_with("SIP/2.0 400 Bad Request - body shorter than Content-Length\r\n"),
        "{refusal}"
    );
    let TransportEvent::Malformed { fault, refusal: None, .. } = side.event().await else { panic!() };
    assert_eq!(fault, ParseErrorKind::CSeqMethod);
    assert_eq!(id(&side.message().await.1), "c2");
}

#[tokio::test]
async fn a_full_inbox_drops_datagrams_and_counts_them() {
    let mut side = Side::with_inbox(listening(Transport::Udp, Ipv4Addr::LOCALHOST), 1);
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    for i in 0..10 {
        client.send_to(options(&format!("c{i}")).as_bytes(), side.address()).await.unwrap();
    }
    let dropped = || side.transports.stats().udp_inbox_full.load(std::sync::atomic::Ordering::Relaxed);
    while dropped() < 9 {
        tokio::task::yield_now().await;
    }
    assert_eq!(id(&side.message().await.1), "c0");
}

#[tokio::test]
async fn a_stream_delivers_split_and_pipelined_messages_and_answers_keep_alives() {
    let mut side = Side::new(tcp(StreamSettings::default()));
    let mut client = TcpStream::connect(side.address()).await.unwrap();
    let stream = format!("{}{}\r\n\r\n{}", options("c1"), options("c2"), options("c3"));
    let (first, second) = stream.as_bytes().split_at(options("c1").len() / 2);
    client.write_all(first).await.unwrap();
    tokio::task::yield_now().await;
    client.write_all(second).await.unwrap();
    let mut peers = Vec::new();
    for expected in ["c1", "c2", "c3"] {
        let (peer, message, _) = side.message().await;
        assert_eq!(id(&message), expected);
        peers.push(peer);
    }
    assert!(peers.iter().all(|peer| *peer == peers[0]) && peers[0].connection.is_some());
    assert_eq!((peers[0].remote, peers[0].local), (client.local_addr().unwrap(), side.address()));
    assert_eq!(read_until(&mut client, "\r\n").await, "\r\n");
    side.transports.send(&peers[0], Bytes::from_static(b"answer."), 1);
    assert_eq!(read_until(&mut client, ".").await, "answer.");
    drop(client);
    assert_eq!(Some(side.closed().await), peers[0].connection);
    side.transports.send(&peers[0], Bytes::from_static(b"too late"), 7);
    assert_eq!(side.failed().await, (7, TransportFailure::Closed));
    assert_eq!(side.transports.open_streams(), 0);
}

#[tokio::test]
async fn a_stream_whose_boundaries_are_lost_is_answered_and_closed() {
    for (length, status) in
        [("4294967328", "413 Request Entity Too Large"), ("-1", "400 Bad Request - malformed")]
    {
        let mut side = Side::new(tcp(StreamSettings::default()));
        let mut client = TcpStream::connect(side.address()).await.unwrap();
        let bad = options("c1").replace("Content-Length: 0", &format!("Content-Length: {length}"));
        client.write_all(format!("{bad}{}", options("c2")).as_bytes()).await.unwrap();
        let answer = read_to_end(&mut client).await;
        assert!(answer.starts_with(&format!("SIP/2.0 {status}")), "{answer}");
        drop(client);
        let event = side.event().await;
        assert!(matches!(event, TransportEvent::Malformed { refusal: None, .. }), "{event:?}");
        side.closed().await;
    }
}

#[tokio::test]
async fn a_malformed_message_with_sure_boundaries_does_not_end_the_stream() {
    let mut side = Side::new(tcp(StreamSettings::default()));
    let mut client = TcpStream::connect(side.address()).await.unwrap();
    // As short as can be, so that the answer is far longer than what came.
    let bad = "A sip:a SIP/2.0\r\nv:SIP/2.0/TCP a\r\nf:sip:a\r\nt:\"\r\ni:a\r\nCSeq:1 A\r\nl:0\r\n\r\n";
    client.write_all(format!("{bad}{}", options("c2")).as_bytes()).await.unwrap();
    let event = side.event().await;
    let TransportEvent::Malformed { peer, refusal: Some(refusal), .. } = event else { panic!("{event:?}") };
    side.transports.send(&peer, refusal, 0);
    assert!(read_until(&mut client, "\r\n\r\n").await.starts_with("SIP/2.0 400 "));
    assert_eq!(id(&side.message().await.1), "c2");
}

#[tokio::test]
async fn a_connection_is_opened_once_and_used_again() {
    let (mut here, mut there) =
        (Side::new(tcp(StreamSettings::default())), Side::new(tcp(StreamSettings::default())));
    let peer = here.transports.peer_for(NetworkId(0), Transport::Tcp, there.address(), None);
    assert_eq!(peer.local, here.address());
    for i in 0..3 {
        here.transports.send(&peer, Bytes::from(options(&format!("c{i}"))), i);
    }
    let mut connections = Vec::new();
    for i in 0..3 {
        let (peer, message, _) = there.message().await;
        assert_eq!(id(&message), format!("c{i}"));
        connections.push(peer);
    }
    assert!(connections.iter().all(|peer| *peer == connections[0]));
    // The answer comes back on it, and so does what is sent later.
    there.transports.send(&connections[0], Bytes::from(options("back")), 9);
    let (back, message, _) = here.message().await;
    assert_eq!((id(&message), back.remote), ("back", there.address()));
    here.transports.send(&back, Bytes::from(options("again")), 10);
    assert_eq!(there.message().await.0, connections[0]);
    assert_eq!((here.transports.open_streams(), there.transports.open_streams()), (1, 1));
    // After the far end is gone the same peer is connected to again, and that fails here.
    there.transports.shutdown(PATIENCE).await;
    here.closed().await;
    here.transports.send(&back, Bytes::from(options("gone")), 11);
    assert_eq!(here.failed().await, (11, TransportFailure::Connect(io::ErrorKind::ConnectionRefused)));
}

#[tokio::test]
async fn a_refused_connection_fails_each_ticket() {
    // A port that is taken and where nobody listens: one given back could be another test's by then.
    let taken = TcpSocket::new_v4().unwrap();
    taken.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let closed = taken.local_addr().unwrap();
    let mut side = Side::new(tcp(StreamSettings::default()));
    let peer = side.transports.peer_for(NetworkId(0), Transport::Tcp, closed, None);
    side.transports.send(&peer, Bytes::from_static(b"1"), 1);
    side.transports.send(&peer, Bytes::from_static(b"2"), 2);
    let refused = TransportFailure::Connect(io::ErrorKind::ConnectionRefused);
    assert_eq!([side.failed().await, side.failed().await], [(1, refused.clone()), (2, refused)]);
    assert_eq!(side.transports.open_streams(), 0);
}

#[tokio::test]
async fn what_no_socket_can_carry_fails() {
    let mut side = Side::new(listening(Transport::Udp, Ipv4Addr::LOCALHOST));
    let six = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), 5060);
    let peer = side.transports.peer_for(NetworkId(0), Transport::Udp, six, None);
    side.transports.send(&peer, Bytes::from_static(b"x"), 3);
    assert_eq!(side.failed().await, (3, TransportFailure::NoSocket));
    let four = side.transports.peer_for(NetworkId(0), Transport::Udp, side.address(), None);
    side.transports.send(&four, Bytes::from(vec![0; 70_000]), 4);
    assert!(matches!(side.failed().await, (4, TransportFailure::Send(_))));
}

#[tokio::test]
async fn one_who_does_not_read_is_closed_and_blocks_nobody() {
    let streams = StreamSettings { queue: 64 * 1024, ..StreamSettings::default() };
    let mut side = Side::with_inbox(tcp(streams), 100_000);
    let mut lazy = TcpStream::connect(side.address()).await.unwrap();
    lazy.write_all(options("lazy").as_bytes()).await.unwrap();
    let (peer, ..) = side.message().await;
    let mut busy = TcpStream::connect(side.address()).await.unwrap();
    busy.write_all(options("busy").as_bytes()).await.unwrap();
    let (busy_peer, ..) = side.message().await;

    let block = Bytes::from(vec![b'x'; 16 * 1024]);
    let mut tickets = 0;
    while side.transports.open_streams() == 2 {
        side.transports.send(&peer, block.clone(), tickets);
        tickets += 1;
        // The connection's task has to get its turn to fill the kernel's buffers.
        tokio::task::yield_now().await;
        assert!(tickets < 100_000, "never closed");
    }
    side.transports.send(&busy_peer, Bytes::from_static(b"still here."), 0);
    assert_eq!(read_until(&mut busy, ".").await, "still here.");
    let mut failed = Vec::new();
    loop {
        match side.event().await {
            TransportEvent::Failed { ticket, .. } => failed.push(ticket),
            TransportEvent::Closed { connection, .. } => {
                assert_eq!(Some(connection), peer.connection);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    // Everything that was still in the queue is told, and what was sent before it is not.
    assert!(failed.len() >= 4 && failed.len() < tickets as usize, "{} of {tickets}", failed.len());
    assert_eq!(side.transports.stats().slow_readers.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[tokio::test]
async fn one_stream_cannot_fill_the_inbox_alone() {
    let streams = StreamSettings { in_flight: 4, ..StreamSettings::default() };
    let mut side = Side::new(tcp(streams));
    let mut flood = TcpStream::connect(side.address()).await.unwrap();
    let all: String = (0..50).map(|i| options(&format!("f{i}"))).collect();
    flood.write_all(all.as_bytes()).await.unwrap();
    let mut waiting = Vec::new();
    for _ in 0..4 {
        waiting.push(side.event().await);
    }
    let mut other = TcpStream::connect(side.address()).await.unwrap();
    other.write_all(options("other").as_bytes()).await.unwrap();
    assert_eq!(id(&side.message().await.1), "other");
    // Each one taken lets the next one in.
    drop(waiting);
    for i in 4..50 {
        assert_eq!(id(&side.message().await.1), format!("f{i}"));
    }
}

#[tokio::test]
async fn streams_of_one_address_are_counted() {
    let streams = StreamSettings { max_per_address: 2, ..StreamSettings::default() };
    let mut side = Side::new(tcp(streams));
    let first = TcpStream::connect(side.address()).await.unwrap();
    let mut second = TcpStream::connect(side.address()).await.unwrap();
    let mut third = TcpStream::connect(side.address()).await.unwrap();
    assert_eq!(read_to_end(&mut third).await, "");
    second.write_all(options("c2").as_bytes()).await.unwrap();
    assert_eq!(id(&side.message().await.1), "c2");
    // One that ends makes room.
    drop(first);
    side.closed().await;
    let mut fourth = TcpStream::connect(side.address()).await.unwrap();
    fourth.write_all(options("c4").as_bytes()).await.unwrap();
    assert_eq!(id(&side.message().await.1), "c4");
}

#[tokio::test]
async fn a_stream_that_stalls_is_closed_and_one_that_idles_is_not() {
    let streams = StreamSettings { message: Duration::from_millis(50), ..StreamSettings::default() };
    let mut side = Side::new(tcp(streams));
    let mut silent = TcpStream::connect(side.address()).await.unwrap();
    assert_eq!(read_to_end(&mut silent).await, "");
    side.closed().await;
    let mut idle = TcpStream::connect(side.address()).await.unwrap();
    idle.write_all(options("c1").as_bytes()).await.unwrap();
    side.message().await;
    let mut half = TcpStream::connect(side.address()).await.unwrap();
    half.write_all(options("c2").as_bytes()).await.unwrap();
    side.message().await;
    half.write_all(&options("c3").as_bytes()[..30]).await.unwrap();
    assert_eq!(read_to_end(&mut half).await, "");
    side.closed().await;
    assert_eq!(side.transports.open_streams(), 1);
}

#[tokio::test]
async fn a_long_head_is_refused_at_its_limit() {
    let message = Limits { message: 2_000, ..Limits::default() };
    let mut side = Side::new(TransportSettings { message, ..tcp(StreamSettings::default()) });
    let mut client = TcpStream::connect(side.address()).await.unwrap();
    let endless = format!("{}X: {}\r\n", options("c1").trim_end_matches("\r\n\r\n"), "y".repeat(2_000));
    client.write_all(endless.as_bytes()).await.unwrap();
    assert!(read_to_end(&mut client).await.starts_with("SIP/2.0 513 Message Too Large\r\n"));
    assert!(matches!(side.event().await, TransportEvent::Malformed { fault: ParseErrorKind::TooLarge, .. }));
}

#[tokio::test]
async fn what_is_queued_goes_out_before_a_shutdown_ends() {
    let mut side = Side::new(tcp(StreamSettings::default()));
    let mut client = TcpStream::connect(side.address()).await.unwrap();
    client.write_all(options("c1").as_bytes()).await.unwrap();
    let (peer, ..) = side.message().await;
    side.transports.send(&peer, Bytes::from_static(b"last words"), 1);
    let address = side.address();
    let (_, text) = tokio::join!(side.transports.shutdown(PATIENCE), read_to_end(&mut client));
    assert_eq!(text, "last words");
    assert_eq!(side.transports.open_streams(), 0);
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn listeners_that_cannot_be_opened_are_named() {
    let side = Side::new(tcp(StreamSettings::default()));
    let taken = Listener { bind: side.address(), ..side.transports.local_addresses()[0] };
    let bind = |listener| {
        let settings = TransportSettings { listeners: vec![listener], ..TransportSettings::default() };
        Transports::bind(settings, mpsc::channel(1).0).err().expect("an error").to_string()
    };
    assert!(bind(taken).starts_with(&format!("can't listen on tcp:{}: ", side.address())));
    let ws = Listener { transport: Transport::Ws, ..taken };
    assert_eq!(bind(ws), "ws is not a transport this version listens on");
    let tls = Listener { transport: Transport::Tls, ..taken };
    assert_eq!(bind(tls), format!("tls:{} needs a certificate and a key", side.address()));
}

#[tokio::test]
async fn a_muted_source_is_not_heard_while_others_are() {
    let mut side = Side::new(listening(Transport::Udp, Ipv4Addr::UNSPECIFIED));
    let to = (Ipv4Addr::LOCALHOST, side.address().port());
    let muted = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).await.unwrap();
    let other = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let now = std::time::Instant::now();
    side.transports.mute(now, muted.local_addr().unwrap().ip(), std::time::Duration::from_secs(600));
    muted.send_to(options("c1").as_bytes(), to).await.unwrap();
    other.send_to(options("c2").as_bytes(), to).await.unwrap();
    assert_eq!(id(&side.message().await.1), "c2");
    assert_eq!(side.transports.stats().turned_away(), 1);
}
