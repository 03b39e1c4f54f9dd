//! The rules of the rooms (ARCHITECTURE.md), held by reading who names whom.

use crate::source::{Source, paths, root, sources};
use std::fmt::Write;

/// Rooms of pure logic that must not know each other.
const DOMAINS: [&str; 7] = ["sip", "sdp", "media", "routing", "access", "billing", "stir"];

/// Each foreign crate that has one home: its name in paths, and the folder or file it may be named in.
const HOMES: [(&str, &[&str]); 14] = [
    ("hickory_resolver", &["sip/io/dns"]),
    ("hyper", &["stir/io/fetch"]),
    ("rsip", &["sip/message"]),
    ("rtp_rs", &["media/rtp"]),
    ("opus", &["media/codec/opus"]),
    ("sqlx", &["store"]),
    ("axum", &["admin"]),
    ("prometheus", &["telemetry"]),
    ("clap", &["cli"]),
    ("rtc_srtp", &["media/srtp"]),
    ("sdp_types", &["sdp/session"]),
    ("webpki", &["sip/io/certificate", "stir/certificate"]),
    ("x509_parser", &["stir/certificate"]),
    ("ring", &["stir"]),
];

/// What only shells may touch: time, chance, threads, tasks, files and sockets.
const OUTSIDE: [&str; 15] = [
    "std::time::Instant::now",
    "Instant::now",
    "std::time::SystemTime::now",
    "SystemTime::now",
    "Now::read",
    "crate::types::Now::read",
    "tokio",
    "mio",
    "socket2",
    "std::fs",
    "std::thread",
    "std::env",
    "std::process",
    "std::net::UdpSocket",
    "std::net::TcpStream",
];

/// Longer than this no longer fits in one head.
const LONGEST: usize = 700;

fn is_within(path: &str, start: &str) -> bool {
    path == start || path.strip_prefix(start).is_some_and(|rest| rest.starts_with("::"))
}

fn stands_in(source: &Source, home: &str) -> bool {
    let name = &source.name;
    name.strip_prefix(home)
        .is_some_and(|rest| rest.starts_with('/') || rest == ".rs" || rest.starts_with('_'))
        || name == &format!("{home}.rs")
}

/// Gathers what breaks a rule and fails with all of it at once.
#[derive(Default)]
struct Broken(String);

impl Broken {
    fn add(&mut self, source: &Source, what: &str) {
        writeln!(self.0, "src/{}: {what}", source.name).expect("a string takes it");
    }
    #[track_caller]
    fn none(self, rule: &str) {
        assert!(self.0.is_empty(), "{rule}\n{}", self.0);
    }
}

#[test]
fn domains_do_not_know_each_other() {
    let mut broken = Broken::default();
    for source in sources("src") {
        if !DOMAINS.contains(&source.room()) {
            continue;
        }
        for path in paths(&source.code) {
            let Some(rest) = path.strip_prefix("crate::").or_else(|| path.strip_prefix("tandem::")) else {
                continue;
            };
            let room = rest.split("::").next().unwrap_or_default();
            if room != source.room() && room != "types" {
                broken.add(&source, &path);
            }
        }
    }
    broken.none("a domain knows its own room and `types`, nothing else");
}

#[test]
fn types_know_nobody() {
    let mut broken = Broken::default();
    for source in sources("src").iter().filter(|source| source.room() == "types") {
        for path in paths(&source.code) {
            if is_within(&path, "crate") && !is_within(&path, "crate::types") {
                broken.add(source, &path);
            }
        }
    }
    broken.none("`types` is known by all and knows nobody");
}

#[test]
fn pure_code_does_not_name_a_shell() {
    let mut broken = Broken::default();
    for source in sources("src") {
        let pure = DOMAINS.contains(&source.room()) || source.room() == "call";
        if !pure || source.is_shell() {
            continue;
        }
        for path in paths(&source.product) {
            let mut parts = path.split("::").peekable();
            let ours = matches!(parts.next(), Some("crate" | "super" | "self"));
            if ours && parts.any(|part| part == "io") {
                broken.add(&source, &path);
            }
        }
    }
    broken.none("only shells (folders named `io`) and the wiring name a shell");
}

#[test]
fn pure_code_touches_no_clock_chance_thread_or_file() {
    let mut broken = Broken::default();
    for source in sources("src") {
        let pure = DOMAINS.contains(&source.room()) || source.room() == "call";
        if !pure || source.is_shell() {
            continue;
        }
        for path in paths(&source.product) {
            if OUTSIDE.iter().any(|outside| is_within(&path, outside)) {
                broken.add(&source, &path);
            }
        }
    }
    broken.none(
        "pure code is given its time and its randomness, and leaves threads, files and sockets to its shell",
    );
}

#[test]
fn each_foreign_crate_has_one_home() {
    let mut broken = Broken::default();
    for source in sources("src") {
        for path in paths(&source.code) {
            for (foreign, homes) in HOMES {
                if is_within(&path, foreign) && !homes.iter().any(|home| stands_in(&source, home)) {
                    broken.add(&source, &format!("{path} belongs into {}", homes.join(" or ")));
                }
            }
        }
    }
    broken.none("a foreign crate is named in its one home");
}

#[test]
fn each_file_says_its_one_job_first() {
    let mut broken = Broken::default();
    for folder in ["src", "tests", "benches"] {
        if !root().join(folder).exists() {
            continue;
        }
        for source in sources(folder) {
            let first = source.text.lines().next().unwrap_or_default();
            if !first.starts_with("//! ") {
                broken.add(&source, first);
            }
        }
    }
    broken.none("the first line of a file is `//! ` and its job");
}

#[test]
fn each_file_fits_in_one_head() {
    let mut broken = Broken::default();
    for folder in ["src", "tests"] {
        for source in sources(folder) {
            let lines = source.text.lines().count();
            if lines > LONGEST {
                broken.add(&source, &format!("{lines} lines"));
            }
        }
    }
    broken.none("a file that no longer fits in one head becomes two");
}

#[test]
fn nothing_is_left_for_later() {
    let mut broken = Broken::default();
    for folder in ["src", "tests", "benches"] {
        if !root().join(folder).exists() {
            continue;
        }
        for source in sources(folder) {
            for (number, line) in source.code.lines().enumerate() {
                let later =
                    ["todo!(", "unimplemented!(", "#[ignore", "dbg!("].iter().any(|mark| line.contains(mark));
                if later {
                    broken.add(&source, &format!("line {}: {}", number + 1, line.trim()));
                }
            }
        }
    }
    broken.none("no stub, no ignored test");
}

#[test]
fn nobody_sleeps_but_the_one_place_where_tests_wait() {
    let mut broken = Broken::default();
    for folder in ["src", "tests"] {
        for source in sources(folder) {
            // Media threads nap for a millisecond at most: the simulator's so that packets leave on time, the gateway's
            // so that they gather. Two tests speak to them at the pace of a voice: more is not heard from any source.
            let allowed = match folder {
                "tests" => matches!(source.name.as_str(), "support/wait.rs" | "media_allocations.rs"),
                _ => matches!(
                    source.name.as_str(),
                    "simulator/io/media.rs" | "media/io/worker.rs" | "media/io/workers/tests.rs"
                ),
            };
            for path in paths(&source.code) {
                if !allowed && (path.ends_with("thread::sleep") || path.ends_with("thread::sleep_ms")) {
                    broken.add(&source, &path);
                }
            }
        }
    }
    broken.none("wait for a condition, not for luck");
}

#[test]
fn unsafe_code_says_why_it_is_sound() {
    let mut broken = Broken::default();
    for folder in ["src", "tests"] {
        for source in sources(folder) {
            let lines: Vec<&str> = source.text.lines().collect();
            for (index, line) in source.code.lines().enumerate() {
                let opens = line.contains("unsafe {") || line.contains("unsafe impl");
                let explained =
                    lines[index.saturating_sub(4)..=index].iter().any(|near| near.contains("SAFETY:"));
                if opens && !explained {
                    broken.add(&source, &format!("line {}", index + 1));
                }
            }
        }
    }
    broken.none("an unsafe block has a SAFETY comment");
}
