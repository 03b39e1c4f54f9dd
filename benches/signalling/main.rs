//! What signalling costs: SIPp calls through a gateway to SIPp, both far ends software nobody here wrote.
//!
//! Each row prints its options, what was asked, and the peer of the same run: Kamailio, a stateful proxy that stays in
//! the dialog but has no media ports, no CDR and no second dialog, and rsip for reading a message. Needs `sipp` and
//! `kamailio` (`make bench` installs them); load stops by itself. One row alone: `cargo bench --bench signalling -- rate`.

mod machine;
mod parse;
mod server;
mod sipp;

use machine::Noise;
use server::Server;
use sipp::{Load, SippReport};
use std::time::{Duration, Instant};

/// Calls per second and seconds of the rate rows, and what is asked of each in CPU-ms a call.
const RATES: [(u32, u32, f64); 2] = [(300, 20, 0.8), (1_000, 12, 0.8)];
/// From answer to BYE: with less, a proxy of several processes lets ACK and BYE overtake each other.
const HOLD: Duration = Duration::from_millis(50);
/// Rates tried one after the other until one is not clean.
const LADDER: [u32; 6] = [1_000, 1_250, 1_500, 1_750, 2_000, 2_500];
const LADDER_SECONDS: u32 = 10;
/// Calls held at once, for how long, and the rate at which they begin.
const HELD: (u32, Duration, u32) = (1_500, Duration::from_secs(30), 100);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --benches` runs benches too; only `cargo bench` measures.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    let rows: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |row: &str| rows.is_empty() || rows.iter().any(|wanted| row.starts_with(wanted.as_str()));
    println!("signalling  {}", machine::describe());
    println!(
        "options     profile={}  far ends={}  UDP on loopback, hold={} ms, log=warn, CDRs to journal (fdatasync) and \
         SQLite",
        if cfg!(debug_assertions) { "debug: NOT a figure" } else { "release" },
        machine::version("sipp", "-v"),
        HOLD.as_millis(),
    );
    if wanted("parse") {
        parse::row();
    }
    if wanted("rate") {
        RATES.iter().for_each(|(rate, seconds, asked)| rate_rows(*rate, *seconds, *asked));
    }
    if wanted("clean") {
        clean_row("gateway", Server::gateway("clean"));
        match Server::kamailio("clean-peer") {
            Some(kamailio) => clean_row("Kamailio", kamailio),
            None => println!("clean       Kamailio: not measured"),
        }
    }
    if wanted("held") {
        held_row();
    }
}

/// CPU per call of the gateway and of the peer, at one rate.
fn rate_rows(rate: u32, seconds: u32, asked: f64) {
    let load = Load { calls: rate * seconds, rate, hold: HOLD };
    let own = measure(&Server::gateway("rate"), load);
    own.print("rate", load, &format!("(asked: 0, 0, <= {asked})"));
    match Server::kamailio("rate-peer") {
        Some(kamailio) => {
            let peer = measure(&kamailio, load);
            peer.print(
                "rate peer",
                load,
                &format!("Kamailio; ratio gateway/Kamailio={:.2}", own.cpu_ms / peer.cpu_ms),
            );
        }
        None => println!("rate peer   Kamailio: not measured"),
    }
}

struct Measured {
    report: SippReport,
    /// User and system time a call.
    cpu_ms: f64,
    noise: String,
}

fn measure(server: &Server, load: Load) -> Measured {
    let noise = Noise::start();
    let before = server.cpu();
    let report = server.sipp().run(load);
    let cpu_ms = (server.cpu() - before).as_secs_f64() * 1e3 / f64::from(load.calls);
    Measured { report, cpu_ms, noise: noise.to_string() }
}

impl Measured {
    fn print(&self, row: &str, load: Load, remark: &str) {
        println!(
            "{row:<11} cps={} calls={}  failed={} retransmitted={}  CPU-ms/call={:.3}  {remark}  [{}]",
            load.rate, load.calls, self.report.failed, self.report.retransmitted, self.cpu_ms, self.noise
        );
    }
}

/// The highest rate at which no call fails, on the cores it shares with SIPp.
fn clean_row(name: &str, server: Server) {
    let mut clean = None;
    for rate in LADDER {
        let load = Load { calls: rate * LADDER_SECONDS, rate, hold: HOLD };
        let measured = measure(&server, load);
        let reached = f64::from(load.calls) / measured.report.seconds;
        println!(
            "clean step  {name} cps={rate} reached={reached:.0}  failed={} retransmitted={}  CPU-ms/call={:.3}  [{}]",
            measured.report.failed, measured.report.retransmitted, measured.cpu_ms, measured.noise
        );
        if measured.report.failed > 0 || reached < 0.95 * f64::from(rate) {
            break;
        }
        clean = Some(rate);
    }
    let clean = clean.map_or("none".to_owned(), |rate| rate.to_string());
    println!("clean       {name} cps={clean} for {LADDER_SECONDS}s each, 0 failed  (asked: >= 1000)");
}

/// Memory of calls that are up and do nothing.
fn held_row() {
    let (calls, hold, rate) = HELD;
    let server = Server::gateway("held");
    // A first burst warms allocator and tables, so that only what a call holds is counted.
    server.sipp().run(Load { calls: 300, rate, hold: HOLD });
    let noise = Noise::start();
    let before = server.resident();
    let mut caller = server.sipp().start(Load { calls, rate, hold });
    let half = Instant::now() + Duration::from_secs(u64::from(calls / rate)) + hold / 2;
    let mut peak = before;
    while Instant::now() < half {
        peak = peak.max(server.resident());
        std::thread::sleep(Duration::from_millis(250));
    }
    let report = caller.finish();
    let each = peak.saturating_sub(before) as f64 / 1024.0 / f64::from(calls);
    println!(
        "held        calls={calls} hold={}s ports=allocated media time-out=off  failed={} retransmitted={}  \
         KB/call={each:.1}  (asked: <= 30 beyond codec state)  [{noise}]",
        hold.as_secs(),
        report.failed,
        report.retransmitted,
    );
}
