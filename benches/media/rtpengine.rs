//! rtpengine as a gateway: its daemon in userspace, driven by its ng protocol (bencode over UDP).

use crate::gateway::Gateway;
use crate::machine;
use crate::speech::payload_type;
use std::fmt::Write;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tandem::types::AudioCodec;

/// Where Debian puts it.
const INSTALLED: &str = "/usr/bin/rtpengine";

pub struct Rtpengine {
    name: String,
    child: Child,
    control: UdpSocket,
    cookie: u32,
    /// How its release is told the encoder's complexity.
    complexity: &'static str,
    calls: Vec<usize>,
}

/// The releases this machine has: Debian's own, and one in a folder made by `tools/debian-tree`.
pub fn installed() -> Vec<Rtpengine> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let newer = cache.map(|cache| cache.join("tandem/rtpengine-sid/rtpengine"));
    let own = Path::new(INSTALLED).exists().then(|| Command::new(INSTALLED));
    let newer = newer.filter(|program| program.exists()).map(Command::new);
    [(own, 30_000), (newer, 40_000)]
        .into_iter()
        .filter_map(|(command, ports)| start(command?, ports))
        .collect()
}

fn start(program: Command, first_port: u16) -> Option<Rtpengine> {
    let version = version(&program)?;
    let control = UdpSocket::bind("127.0.0.1:0").ok()?;
    control.set_read_timeout(Some(Duration::from_millis(500))).ok()?;
    let listen = UdpSocket::bind("127.0.0.1:0").ok()?.local_addr().ok()?;
    let mut command = machine::on_gateway_core();
    command.arg(program.get_program()).args(program.get_args());
    // A pidfile of its own: the packaged one needs rights. One worker, as ours.
    let pidfile = std::env::temp_dir().join(format!("tandem-bench-rtpengine-{}.pid", listen.port()));
    let child = command
        .args(["--config-file=none", "--interface=127.0.0.1", "--table=-1", "--foreground", "--log-stderr"])
        .args(["--log-level=3", "--num-threads=1", "--delete-delay=0", "--listen-cli=none"])
        .arg(format!("--listen-ng={listen}"))
        .arg(format!("--port-min={first_port}"))
        .arg(format!("--port-max={}", first_port + 9_999))
        .arg(format!("--pidfile={}", pidfile.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    control.connect(listen).ok()?;
    // Up to 10.5 Opus came by way of ffmpeg, whose word for it is another.
    let complexity = if version.starts_with("10.") { "compression_level" } else { "complexity" };
    let name = format!("rtpengine {version}");
    let mut peer = Rtpengine { name, child, control, cookie: 0, complexity, calls: Vec::new() };
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(10) {
        if peer.ask(&dictionary(&[("command", string("ping"))])).is_some_and(|reply| reply.contains("pong")) {
            return Some(peer);
        }
    }
    println!("{} does not start", peer.name);
    None
}

fn version(program: &Command) -> Option<String> {
    let output =
        Command::new(program.get_program()).args(program.get_args()).arg("--version").output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    let version = text.split("Version: ").nth(1)?;
    let end = version.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(version.len());
    Some(version[..end].to_owned())
}

impl Rtpengine {
    fn ask(&mut self, order: &str) -> Option<String> {
        self.cookie += 1;
        let cookie = format!("{} ", self.cookie);
        self.control.send(format!("{cookie}{order}").as_bytes()).ok()?;
        let mut reply = [0; 65_536];
        loop {
            let len = self.control.recv(&mut reply).ok()?;
            let reply = String::from_utf8_lossy(&reply[..len]).into_owned();
            // A late answer to an earlier question is passed over.
            if let Some(reply) = reply.strip_prefix(&cookie) {
                return Some(reply.to_owned());
            }
        }
    }

    /// Sends an SDP and returns the port in the one that comes back.
    fn negotiate(&mut self, entries: &[(&str, String)]) -> Option<u16> {
        let reply = self.ask(&dictionary(entries))?;
        reply.split("m=audio ").nth(1)?.split_whitespace().next()?.parse().ok()
    }
}

impl Gateway for Rtpengine {
    fn name(&self) -> &str {
        &self.name
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
        let id = format!("bench-{call}");
        let [a, b] = codecs;
        let set = format!("opus/48000/2/24000////{}=5", self.complexity);
        let mut codec = vec![("set", list(&[&set]))];
        if a != b {
            codec.push(("transcode", list(&[b.encoding_name()])));
        }
        let offer = [
            ("ICE", string("remove")),
            ("call-id", string(&id)),
            ("codec", dictionary(&codec)),
            ("command", string("offer")),
            ("from-tag", string("a")),
            ("sdp", string(&sdp(a, far[0]))),
        ];
        let to_b = self.negotiate(&offer)?;
        let answer = [
            ("ICE", string("remove")),
            ("call-id", string(&id)),
            ("command", string("answer")),
            ("from-tag", string("a")),
            ("sdp", string(&sdp(b, far[1]))),
            ("to-tag", string("b")),
        ];
        let to_a = self.negotiate(&answer)?;
        self.calls.push(call);
        // The port in the offer for B is where B sends to, and the other way round.
        Some([SocketAddr::from(([127, 0, 0, 1], to_a)), SocketAddr::from(([127, 0, 0, 1], to_b))])
    }

    fn close_all(&mut self) {
        for call in std::mem::take(&mut self.calls) {
            let id = format!("bench-{call}");
            let order = [
                ("call-id", string(&id)),
                ("command", string("delete")),
                ("delete-delay", "i0e".to_owned()),
                ("from-tag", string("a")),
            ];
            self.ask(&dictionary(&order));
        }
    }

    fn complexity(&mut self) -> Option<u8> {
        None
    }
}

impl Drop for Rtpengine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn sdp(codec: AudioCodec, far: SocketAddr) -> String {
    let format = match codec {
        AudioCodec::Opus => {
            "a=rtpmap:111 opus/48000/2\r\na=fmtp:111 useinbandfec=1;maxaveragebitrate=24000\r\n"
        }
        AudioCodec::Pcma => "a=rtpmap:8 PCMA/8000\r\n",
        AudioCodec::Pcmu => "a=rtpmap:0 PCMU/8000\r\n",
    };
    format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {} RTP/AVP {}\r\n\
         {format}a=ptime:20\r\n",
        far.port(),
        payload_type(codec)
    )
}

/// A bencoded byte string.
fn string(text: &str) -> String {
    format!("{}:{text}", text.len())
}

fn list(items: &[&str]) -> String {
    items.iter().fold("l".to_owned(), |list, item| list + &string(item)) + "e"
}

/// A bencoded dictionary; `entries` have their keys in ascending order, as bencode wants them.
fn dictionary(entries: &[(&str, String)]) -> String {
    let mut text = "d".to_owned();
    for (key, value) in entries {
        let _ = write!(text, "{}{value}", string(key));
    }
    text + "e"
}
