//! The gateways under test, each a process of its own on its own core: ours, and whatever else can bridge two legs.

use crate::machine;
use crate::speech::{CONTINUOUS, address, bind, payload_type};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use tandem::media::config::{LegConfig, OpusSettings};
use tandem::media::{LegSockets, LoadLimit, MediaCommand, MediaEvent, MediaWorkers};
use tandem::types::{AudioCodec, CallId, LegId, LegKind, NetworkId};

/// Something that bridges two far sides.
pub trait Gateway {
    fn name(&self) -> &str;
    fn pid(&self) -> u32;
    /// Bridges a call and says where its far sides send to; `None` if it can't.
    fn open(&mut self, call: usize, codecs: [AudioCodec; 2], far: [SocketAddr; 2])
    -> Option<[SocketAddr; 2]>;
    /// Ends all calls.
    fn close_all(&mut self);
    /// Highest complexity its encoders may have now, if it changes by itself.
    fn complexity(&mut self) -> Option<u8>;
}

/// The command line by which this program becomes the gateway.
pub const SERVE: &str = "serve";

/// Our media workers in a child process: one worker, as it ships.
pub struct Tandem {
    child: Child,
    orders: ChildStdin,
    replies: BufReader<ChildStdout>,
    settings: OpusSettings,
    calls: Vec<usize>,
}

impl Tandem {
    pub fn start(settings: OpusSettings) -> Tandem {
        let own = std::env::current_exe().expect("the path of this program");
        let mut child = machine::on_gateway_core()
            .arg(own)
            .arg(SERVE)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("taskset");
        let orders = child.stdin.take().expect("piped");
        let replies = BufReader::new(child.stdout.take().expect("piped"));
        Tandem { child, orders, replies, settings, calls: Vec::new() }
    }

    fn ask(&mut self, order: &str) -> String {
        writeln!(self.orders, "{order}").expect("the gateway listens");
        let mut reply = String::new();
        self.replies.read_line(&mut reply).expect("the gateway answers");
        reply
    }
}

impl Gateway for Tandem {
    fn name(&self) -> &str {
        "Tandem"
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn open(
        &mut self,
        call: usize,
        codecs: [AudioCodec; 2],
        far: [SocketAddr; 2],
    ) -> Option<[SocketAddr; 2]> {
        let OpusSettings { complexity, fec, dtx, .. } = self.settings;
        let [a, b] = codecs.map(payload_type);
        let reply = self.ask(&format!("open {call} {a} {b} {} {} {complexity} {fec} {dtx}", far[0], far[1]));
        self.calls.push(call);
        let mut ports = reply.split_whitespace().map(|port| port.parse().ok());
        Some([ports.next()??, ports.next()??])
    }

    fn close_all(&mut self) {
        for call in std::mem::take(&mut self.calls) {
            self.ask(&format!("close {call}"));
        }
    }

    fn complexity(&mut self) -> Option<u8> {
        self.ask("complexity").trim().parse().ok()
    }
}

impl Drop for Tandem {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The child's side: carries out the orders that come in on standard input.
pub fn serve() {
    let (sender, events) = mpsc::channel();
    let sender = std::sync::Mutex::new(sender);
    let workers = MediaWorkers::start(1, LoadLimit::default(), move |event| {
        let _ = sender.lock().expect("nobody panics holding it").send(event);
    })
    .expect("a media thread");
    for order in std::io::stdin().lines() {
        let order = order.expect("text");
        let words: Vec<&str> = order.split_whitespace().collect();
        match words.as_slice() {
            ["open", call, a, b, far_a, far_b, complexity, fec, dtx] => {
                let opus = OpusSettings {
                    complexity: complexity.parse().expect("a number"),
                    fec: *fec == "true",
                    dtx: *dtx == "true",
                    ..CONTINUOUS
                };
                let far = [far_a, far_b].map(|far| far.parse().expect("an address"));
                let [a, b] = open(&workers, id(call), [codec(a), codec(b)], far, opus);
                settle(&workers, &events, id(call));
                println!("{a} {b}");
            }
            ["close", call] => {
                for leg in legs(id(call)) {
                    workers.send(workers.assign(leg.call), MediaCommand::CloseLeg { leg });
                }
                let closed = events.iter().filter(|event| matches!(event, MediaEvent::Closed { .. }));
                closed.take(2).for_each(drop);
                println!("closed");
            }
            ["complexity"] => println!("{}", workers.totals().complexity),
            other => panic!("no such order: {other:?}"),
        }
    }
    workers.shutdown();
}

fn id(call: &str) -> CallId {
    let mut random = [0; 10];
    random[..8].copy_from_slice(&call.parse::<u64>().expect("a number").to_be_bytes());
    CallId::from_parts(1, random)
}

fn legs(call: CallId) -> [LegId; 2] {
    [0, 1].map(|index| LegId { call, index })
}

fn codec(payload_type: &str) -> AudioCodec {
    match payload_type {
        "111" => AudioCodec::Opus,
        "8" => AudioCodec::Pcma,
        "0" => AudioCodec::Pcmu,
        other => panic!("no codec has {other}"),
    }
}

fn open(
    workers: &MediaWorkers,
    call: CallId,
    codecs: [AudioCodec; 2],
    far: [SocketAddr; 2],
    opus: OpusSettings,
) -> [SocketAddr; 2] {
    let worker = workers.assign(call);
    let legs = legs(call);
    let ports = [0, 1].map(|side| {
        let (rtp, rtcp) = (bind(), bind());
        let local_rtp = address(&rtp);
        let sockets = LegSockets { rtp, rtcp: Some(rtcp), network: NetworkId(0), local_rtp };
        let config = Some(Box::new(config(codecs[side], far[side], opus)));
        let kind = [LegKind::App, LegKind::Trunk][side];
        workers.send(worker, MediaCommand::OpenLeg { leg: legs[side], kind, sockets, config });
        local_rtp
    });
    workers.send(worker, MediaCommand::Bridge { a: legs[0], b: legs[1], mark: None });
    ports
}

/// Waits until the worker has carried out everything so far.
fn settle(workers: &MediaWorkers, events: &mpsc::Receiver<MediaEvent>, call: CallId) {
    let leg = legs(call)[0];
    workers.send(workers.assign(call), MediaCommand::Report { leg, tag: 1 });
    while let Ok(event) = events.recv_timeout(Duration::from_secs(10)) {
        if matches!(event, MediaEvent::Report { .. }) {
            return;
        }
    }
}

pub fn config(codec: AudioCodec, far: SocketAddr, opus: OpusSettings) -> LegConfig {
    LegConfig { opus, ..LegConfig::plain(codec, payload_type(codec), far) }
}
