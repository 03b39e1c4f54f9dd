//! Load for an hour: does memory stay where it was after warm-up, and is everything given back in the end?

use super::HOLD;
use super::machine::Noise;
use super::server::Server;
use super::sipp::{Load, Long};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// One call in a hundred stays up for half a minute.
const LONG: Long = Long { share: 0.01, hold: Duration::from_secs(30) };
const SAMPLE: Duration = Duration::from_secs(10);
const LINE: Duration = Duration::from_secs(60);
/// So long calls come before anything is counted: they open what stays open, as the database's connections and the threads
/// of a pool at this rate.
const WARM_UP: u32 = 60;
/// The journal's files that may be open at once: how many spares it keeps ready changes with how full the active segment is.
const JOURNAL_FILES: u64 = 4;
/// Ports rest after a call, and the sockets of a database are closed when they have idled.
const SETTLE: Duration = Duration::from_secs(120);
/// Shorter loads say nothing about memory: caches and the kept calls are not full yet.
const SHORTEST: u32 = 1_200;
/// Memory counts as flat if it grew by less than this between the end of the warm-up and the end of the load.
const FLAT: f64 = 0.05;

/// How much the gateway holds.
#[derive(Clone, Copy)]
struct Sample {
    at: Duration,
    resident: u64,
    /// But for the journal's files.
    descriptors: u64,
    journal_files: u64,
    threads: u64,
    ports_free: u64,
    calls: u64,
}

pub fn row(rate: u32, seconds: u32) {
    let admin =
        TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let server = Server::gateway_with("soak", &admin.to_string(), &[]);
    server.sipp().run(Load::of(rate * WARM_UP.min(seconds), rate, HOLD));
    let look = |since: Instant| Sample::take(&server, admin, since.elapsed());
    let before = settled(&look, None);
    let (opened, running) = (server.descriptors(), server.thread_names());
    assert!(before.ports_free > 0, "the gateway does not tell its metrics");
    println!(
        "soak        cps={rate} for {seconds} s, {:.0} % of the calls held {} s; before: {before}",
        LONG.share * 100.0,
        LONG.hold.as_secs()
    );

    let noise = Noise::start();
    let cpu = server.cpu();
    let calls = rate * seconds;
    let mut caller = server.sipp().start(Load { long: Some(LONG), ..Load::of(calls, rate, HOLD) });
    let begun = Instant::now();
    let mut samples = Vec::new();
    let mut next_line = LINE;
    while caller.is_running() {
        std::thread::sleep(SAMPLE.min(Duration::from_secs(u64::from(seconds) / 10 + 1)));
        let sample = look(begun);
        // The last calls end when no new ones come: that is not the load that was asked for.
        if sample.at < Duration::from_secs(u64::from(seconds)) {
            samples.push(sample);
        }
        if sample.at >= next_line {
            next_line += LINE;
            let (ended, failed) = caller.so_far().map_or((0, 0), |so_far| (so_far.successful, so_far.failed));
            println!("soak minute {:>3}  ended={ended} failed={failed}  {sample}", sample.at.as_secs() / 60);
        }
    }
    let report = caller.finish();
    let cpu = (server.cpu() - cpu).as_secs_f64() * 1e3 / f64::from(calls);
    let after = settled(&look, Some(before));
    let noise = noise.to_string();

    println!(
        "soak        calls={calls} failed={} retransmitted={}  CPU-ms/call={cpu:.3}  (asked: 0 failed)  [{noise}]",
        report.failed, report.retransmitted
    );
    let leaked = |now: u64, then: u64| i128::from(now) - i128::from(then);
    let ports = leaked(before.ports_free, after.ports_free);
    let descriptors = leaked(after.descriptors, before.descriptors);
    let threads = leaked(after.threads, before.threads);
    println!(
        "soak        left behind: ports={ports} descriptors={descriptors} threads={threads} calls={}  (asked: 0 of each, \
         and no more than {JOURNAL_FILES} files of the journal); after: {after}",
        after.calls
    );
    if descriptors > 0 {
        println!(
            "soak        descriptors that were not open before: {}",
            beyond(server.descriptors(), opened)
        );
    }
    if threads > 0 {
        println!("soak        threads that did not run before: {}", beyond(server.thread_names(), running));
    }
    let all_given_back = ports <= 0
        && descriptors <= 0
        && threads <= 0
        && after.calls == 0
        && after.journal_files <= JOURNAL_FILES;
    let clean = report.failed == 0 && all_given_back;
    let Some(growth) = Growth::of(&samples, seconds, rate) else {
        println!("soak        memory: too few samples");
        return;
    };
    println!("soak        memory: {growth}  (asked: flat after warm-up)");
    match clean && (seconds < SHORTEST || growth.is_flat()) {
        true if seconds < SHORTEST => println!("soak        passed, but too short to judge memory"),
        true => println!("soak        passed"),
        false => println!("soak        NOT passed"),
    }
}

/// What is there now beyond what was there before.
fn beyond(mut now: Vec<String>, mut before: Vec<String>) -> String {
    now.retain(|name| match before.iter().position(|known| known == name) {
        Some(known) => {
            before.swap_remove(known);
            false
        }
        None => true,
    });
    now.join(", ")
}

/// What is held once nothing changes any more: no call, no more ports in use than `before`, descriptors and threads
/// no more than then.
fn settled(look: &impl Fn(Instant) -> Sample, before: Option<Sample>) -> Sample {
    let begun = Instant::now();
    let mut last = look(begun);
    while begun.elapsed() < SETTLE {
        std::thread::sleep(Duration::from_secs(1));
        let sample = look(begun);
        let done = match before {
            Some(before) => {
                sample.ports_free >= before.ports_free
                    && sample.descriptors <= before.descriptors
                    && sample.threads <= before.threads
            }
            None => sample.ports_free == last.ports_free && sample.descriptors == last.descriptors,
        };
        last = sample;
        // The threads of a pool that has nothing to do end ten seconds later.
        if sample.calls == 0 && done && (before.is_some() || begun.elapsed() > Duration::from_secs(12)) {
            break;
        }
    }
    last
}

impl Sample {
    fn take(server: &Server, admin: SocketAddr, at: Duration) -> Sample {
        let metrics = metrics(admin).unwrap_or_default();
        let (journal, others): (Vec<String>, Vec<String>) =
            server.descriptors().into_iter().partition(|name| name.contains("/journal/"));
        Sample {
            at,
            resident: server.resident(),
            descriptors: others.len() as u64,
            journal_files: journal.len() as u64,
            threads: server.threads(),
            ports_free: sum(&metrics, "tandem_media_ports_free"),
            calls: sum(&metrics, "tandem_calls_active"),
        }
    }
}

impl std::fmt::Display for Sample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Sample { resident, descriptors, journal_files, threads, ports_free, calls, .. } = self;
        let kb = resident / 1024;
        write!(
            f,
            "RSS={kb} KB descriptors={descriptors} journal files={journal_files} threads={threads} \
             ports free={ports_free} calls={calls}"
        )
    }
}

/// What memory did from the end of the warm-up on.
struct Growth {
    /// At the end of the warm-up and of the load, each the middle of several samples.
    kb: [f64; 2],
    /// By least squares.
    kb_per_minute: f64,
    kb_per_thousand_calls: f64,
}

impl Growth {
    /// The first tenth of the time is warm-up.
    fn of(samples: &[Sample], seconds: u32, rate: u32) -> Option<Growth> {
        let warm = Duration::from_secs(u64::from(seconds) / 10);
        let warm: Vec<(f64, f64)> = samples
            .iter()
            .filter(|sample| sample.at >= warm)
            .map(|sample| (sample.at.as_secs_f64() / 60.0, sample.resident as f64 / 1024.0))
            .collect();
        let count = warm.len() as f64;
        let part = (warm.len() / 9).max(1);
        let (first, last) = (warm.get(..part)?, warm.get(warm.len() - part..)?);
        let mean = |part: &[(f64, f64)]| part.iter().map(|(_, kb)| kb).sum::<f64>() / part.len() as f64;
        let (x, y) = (warm.iter().map(|(at, _)| at).sum::<f64>() / count, mean(&warm));
        let across: f64 = warm.iter().map(|(at, kb)| (at - x) * (kb - y)).sum();
        let along: f64 = warm.iter().map(|(at, _)| (at - x).powi(2)).sum();
        let kb_per_minute = across / along.max(f64::MIN_POSITIVE);
        let kb_per_thousand_calls = kb_per_minute / (f64::from(rate) * 60.0 / 1e3);
        Some(Growth { kb: [mean(first), mean(last)], kb_per_minute, kb_per_thousand_calls })
    }

    fn is_flat(&self) -> bool {
        self.kb[1] <= self.kb[0] * (1.0 + FLAT)
    }
}

impl std::fmt::Display for Growth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Growth { kb: [first, last], kb_per_minute, kb_per_thousand_calls } = self;
        let verdict = if self.is_flat() { "flat" } else { "growing" };
        write!(
            f,
            "{first:.0} KB after warm-up, {last:.0} KB at the end ({:+.1} %), slope {kb_per_minute:+.1} KB/min, \
             {kb_per_thousand_calls:+.3} KB per 1,000 calls: {verdict}",
            (last / first - 1.0) * 100.0
        )
    }
}

/// What `/metrics` says; `None` where it does not answer.
pub fn metrics(admin: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&admin, Duration::from_secs(5)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

/// All samples of a metric, whatever their labels, together.
pub fn sum(metrics: &str, name: &str) -> u64 {
    let values = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        // Not the metric whose name only begins the same.
        rest.starts_with(['{', ' ']).then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())?
    });
    values.sum::<f64>() as u64
}
