//! What signalling costs: SIPp calls through a gateway to SIPp, both far ends software nobody here wrote.
//!
//! Prints CPU per call, failures and retransmissions at a rate, and memory per held call. Options of every row stand
//! beside it. Needs `sipp` (`make bench` installs it); load stops by itself.

use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Calls per second, seconds, and hold in milliseconds of the rate row.
const RATE: (u32, u32, u32) = (300, 20, 50);
/// Calls held at once, and for how many seconds.
const HELD: (u32, u32) = (1_500, 30);

fn main() {
    // `cargo test --benches` runs benches too; only `cargo bench` measures.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let profile = if cfg!(debug_assertions) { "debug: NOT a figure" } else { "release" };
    println!("signalling  profile={profile}  transport=UDP  far ends={}", version("sipp", "-v"));
    rate_row();
    held_row();
    peer_row();
}

fn rate_row() {
    let (rate, seconds, hold) = RATE;
    let bench = Bench::start("rate");
    let before = bench.cpu();
    let calls = rate * seconds;
    let report = bench.call(calls, rate, hold, calls);
    let cpu = (bench.cpu() - before).as_secs_f64() * 1e3 / f64::from(calls);
    println!(
        "rate        cps={rate} hold={hold}ms calls={calls} ports=allocated  failed={} retransmitted={}  \
         CPU-ms/call={cpu:.2}  (asked: 0, 0, <= 1.2)",
        report.failed, report.retransmitted
    );
}

fn held_row() {
    let (calls, seconds) = HELD;
    let bench = Bench::start("held");
    // A first burst warms allocator and tables, so that only what a call holds is counted.
    bench.call(300, 100, 50, 300);
    let before = bench.resident();
    let hold = seconds * 1_000;
    let mut caller = bench.caller(calls, 100, hold, calls);
    let half = Instant::now() + Duration::from_secs(u64::from(calls / 100 + seconds / 2));
    let mut peak = before;
    while Instant::now() < half {
        peak = peak.max(bench.resident());
        std::thread::sleep(Duration::from_millis(250));
    }
    let ended = caller.wait().map(|status| status.success()).unwrap_or(false);
    let each = (peak.saturating_sub(before)) as f64 / 1024.0 / f64::from(calls);
    println!(
        "held        calls={calls} hold={seconds}s ok={ended}  KB/call={each:.1}  (asked: <= 60 beyond codec state)"
    );
}

/// A peer of the same run: Kamailio as a stateful proxy, where it is installed.
fn peer_row() {
    println!("peer        Kamailio stateful proxy: not measured");
}

struct Report {
    failed: u64,
    retransmitted: u64,
}

struct Bench {
    gateway: Child,
    callee: Child,
    folder: PathBuf,
    sip: u16,
    caller_port: u16,
}

impl Bench {
    fn start(name: &str) -> Bench {
        let folder = std::env::temp_dir().join(format!("tandem-bench-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder for the bench");
        let (sip, caller_port, callee_port) = (free_port(), free_port(), free_port());
        let config = format!(
            r#"
dialplan = "dialplan.toml"
[gateway]
data_dir = "data"
[sip]
listen = ["udp:127.0.0.1:{sip}"]
[[network]]
name = "default"
bind = ["127.0.0.1"]
media_ports = "30000-59999"
[database]
url = "sqlite:tandem.db"
[admin]
listen = ""
[log]
level = "warn"
[media]
timeout_seconds = 0
[billing]
journal_dir = "journal"
[[trunk]]
name = "caller"
proxy = ["127.0.0.1:{caller_port}"]
peers = ["127.0.0.1:{caller_port}"]
options_seconds = 0
[[trunk]]
name = "callee"
proxy = ["127.0.0.1:{callee_port}"]
peers = ["127.0.0.1:{callee_port}"]
options_seconds = 0
"#
        );
        let dialplan = "country_code = \"32\"\n[[rule]]\nname = \"through\"\nfrom = \"trunk:caller\"\nmatch = \"+\"\ntrunks = [\"callee\"]\n";
        fs::write(folder.join("tandem.toml"), config).expect("a configuration");
        fs::write(folder.join("dialplan.toml"), dialplan).expect("a dialplan");
        let callee = quiet(
            Command::new("sipp")
                .args(["-sn", "uas", "-i", "127.0.0.1", "-p"])
                .arg(callee_port.to_string())
                .args(["-nostdin", "-mp", "60100"]),
            &folder,
        );
        let gateway = Command::new(env!("CARGO_BIN_EXE_tandem"))
            .args(["run", "--config"])
            .arg(folder.join("tandem.toml"))
            .stderr(fs::File::create(folder.join("gateway.log")).expect("a log file"))
            .spawn()
            .expect("the gateway starts");
        let bench = Bench { gateway, callee, folder, sip, caller_port };
        bench.await_ready();
        bench
    }

    /// Polls with OPTIONS until the gateway answers.
    fn await_ready(&self) {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a time-out");
        let local = socket.local_addr().expect("an address");
        for attempt in 0..100 {
            let options = format!(
                "OPTIONS sip:127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK-{attempt};rport\r\nMax-Forwards: 1\r\n\
                 From: <sip:bench@127.0.0.1>;tag=1\r\nTo: <sip:127.0.0.1>\r\nCall-ID: ready-{attempt}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
            );
            let _ = socket.send_to(options.as_bytes(), ("127.0.0.1", self.sip));
            if socket.recv(&mut [0; 2048]).is_ok() {
                return;
            }
        }
        panic!("the gateway did not get ready: see {}", self.folder.join("gateway.log").display());
    }

    fn caller(&self, calls: u32, rate: u32, hold_ms: u32, limit: u32) -> Child {
        let mut command = Command::new("sipp");
        command
            .args(["-sn", "uac", "-i", "127.0.0.1", "-p"])
            .arg(self.caller_port.to_string())
            .args(["-s", "+3225551234", "-nostdin", "-mp", "60000", "-trace_stat", "-fd", "1", "-stf"])
            .arg(self.folder.join("stat.csv"))
            .args(["-m", &calls.to_string(), "-r", &rate.to_string(), "-d", &hold_ms.to_string()])
            .args(["-l", &limit.to_string(), &format!("127.0.0.1:{}", self.sip)]);
        quiet(&mut command, &self.folder)
    }

    fn call(&self, calls: u32, rate: u32, hold_ms: u32, limit: u32) -> Report {
        let _ = self.caller(calls, rate, hold_ms, limit).wait();
        let text = fs::read_to_string(self.folder.join("stat.csv")).unwrap_or_default();
        let mut lines = text.lines();
        let names: Vec<&str> = lines.next().unwrap_or("").split(';').collect();
        let last: Vec<&str> = lines.last().unwrap_or("").split(';').collect();
        let value = |name: &str| {
            let index = names.iter().position(|known| *known == name);
            index.and_then(|index| last.get(index)?.parse().ok()).unwrap_or(u64::MAX)
        };
        Report { failed: value("FailedCall(C)"), retransmitted: value("Retransmissions(C)") }
    }

    /// User and system time of the gateway so far.
    fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.gateway.id())).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        // Fields 14 and 15 of proc(5); the part behind the name starts with field 3. A tick is 10 ms on Linux.
        Duration::from_millis((ticks(11) + ticks(12)) * 10)
    }

    /// Bytes of memory that are really there.
    fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.gateway.id())).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or("");
        line.split_whitespace().nth(1).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0) * 1024
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for child in [&mut self.callee, &mut self.gateway] {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn quiet(command: &mut Command, folder: &Path) -> Child {
    command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("sipp starts: `make bench` installs it")
}

fn free_port() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.local_addr().expect("its number").port()
}

fn version(program: &str, argument: &str) -> String {
    let output = Command::new(program).arg(argument).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("not installed").to_owned()
}
