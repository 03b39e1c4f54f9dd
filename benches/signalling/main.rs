//! What signalling costs: SIPp calls through a gateway to SIPp, both far ends software nobody here wrote.
//!
//! Each row prints its options, what was asked, and the peers of the same run: Kamailio, a stateful proxy that stays in
//! the dialog but has no media ports, no CDR and no second dialog, Asterisk, a B2BUA with media ports and without CDR, and
//! rsip for reading a message. Needs `sipp`, `kamailio` and Asterisk (`make bench` sees to them); load stops by itself.
//! One row alone: `cargo bench --bench signalling -- rate`. `soak` lasts an hour when it is named, else a minute; `cps=N`
//! sets its rate and `soak=SECONDS` its length. For `flood`, `cps=N` is the clean rate that its own rates are parts of.

#![allow(clippy::disallowed_methods, reason = "a benchmark waits for the time its figures are of")]

mod flood;
mod machine;
mod parse;
mod peers;
mod server;
mod sipp;
mod soak;

use machine::Noise;
use server::Server;
use sipp::{Load, SippReport};
use std::time::{Duration, Instant};

/// Calls per second and seconds of the rate rows, and what is asked of each in CPU-ms a call.
const RATES: [(u32, u32, f64); 2] = [(300, 20, 0.8), (1_000, 12, 0.8)];
/// Faster than this Asterisk is not asked.
const ASTERISK_RATE: u32 = 300;
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
    let (options, rows): (Vec<&String>, Vec<&String>) =
        arguments.iter().filter(|argument| !argument.starts_with('-')).partition(|word| word.contains('='));
    let option = |name: &str| -> Option<u32> {
        options.iter().find_map(|option| option.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
    };
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
    let mut clean = None;
    if wanted("clean") {
        clean = clean_row("gateway", Server::gateway("clean"));
        match peers::kamailio("clean-peer") {
            Some(kamailio) => {
                clean_row("Kamailio", kamailio);
            }
            None => println!("clean       Kamailio: not measured"),
        }
    }
    if wanted("held") {
        held_row();
    }
    let measured = clean;
    if wanted("flood") {
        let clean = option("cps").or(measured).or_else(|| clean_row("gateway", Server::gateway("clean")));
        flood::rows(clean.unwrap_or(300));
    }
    if wanted("soak") {
        let clean = measured;
        let clean = || clean.or_else(|| clean_row("gateway", Server::gateway("clean")));
        let rate = option("cps").unwrap_or_else(|| clean().map_or(300, |rate| rate * 3 / 10));
        soak::row(rate, option("soak").unwrap_or(if rows.is_empty() { 60 } else { 3_600 }));
    }
}

/// CPU per call of the gateway and of its peers, at one rate.
fn rate_rows(rate: u32, seconds: u32, asked: f64) {
    let load = Load::of(rate * seconds, rate, HOLD);
    let own = measure(&Server::gateway("rate"), load);
    own.print("rate", load, &format!("(asked: 0, 0, <= {asked})"));
    let peer = |name: &str, server: Option<Server>| match server {
        Some(server) => {
            let peer = measure(&server, load);
            peer.print("rate peer", load, &format!("{name}; ratio={:.2}", own.cpu_ms / peer.cpu_ms));
        }
        None => println!("rate peer   {name}: not measured"),
    };
    peer("Kamailio", peers::kamailio("rate-peer"));
    if rate <= ASTERISK_RATE {
        peer(&peers::asterisk_version(), peers::asterisk("rate-peer"));
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
fn clean_row(name: &str, server: Server) -> Option<u32> {
    let mut clean = None;
    for rate in LADDER {
        let load = Load::of(rate * LADDER_SECONDS, rate, HOLD);
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
    let highest = clean.map_or("none".to_owned(), |rate| rate.to_string());
    println!("clean       {name} cps={highest} for {LADDER_SECONDS}s each, 0 failed  (asked: >= 1000)");
    clean
}

/// Memory of calls that are up and do nothing, of the gateway and of the peer that holds calls itself.
fn held_row() {
    let (calls, hold, rate) = HELD;
    let own = held(&Server::gateway("held"));
    println!(
        "held        calls={calls} hold={}s ports=allocated media time-out=off  {own}  (asked: <= 30 beyond codec state)",
        hold.as_secs(),
    );
    let name = peers::asterisk_version();
    match peers::asterisk("held-peer") {
        Some(server) => {
            let peer = held(&server);
            println!(
                "held peer   calls={calls} at {rate} cps  {peer}  {name}; ratio={:.3}",
                own.each / peer.each
            );
        }
        None => println!("held peer   {name}: not measured"),
    }
}

struct Held {
    report: SippReport,
    /// KB a call.
    each: f64,
    noise: String,
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let SippReport { failed, retransmitted, .. } = self.report;
        write!(f, "failed={failed} retransmitted={retransmitted}  KB/call={:.1}  [{}]", self.each, self.noise)
    }
}

fn held(server: &Server) -> Held {
    let (calls, hold, rate) = HELD;
    // A first burst warms allocator and tables, so that only what a call holds is counted.
    server.sipp().run(Load::of(300, rate, HOLD));
    let noise = Noise::start();
    let before = server.resident();
    let mut caller = server.sipp().start(Load::of(calls, rate, hold));
    let half = Instant::now() + Duration::from_secs(u64::from(calls / rate)) + hold / 2;
    let mut peak = before;
    while Instant::now() < half {
        peak = peak.max(server.resident());
        std::thread::sleep(Duration::from_millis(250));
    }
    let report = caller.finish();
    let each = peak.saturating_sub(before) as f64 / 1024.0 / f64::from(calls);
    Held { report, each, noise: noise.to_string() }
}
