//! SIPp at both ends of what is measured.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const CALLER: &str = include_str!("caller.xml");
const CALLEE: &str = include_str!("callee.xml");

/// How many calls, how fast, and how long each one lasts.
#[derive(Clone, Copy)]
pub struct Load {
    pub calls: u32,
    pub rate: u32,
    pub hold: Duration,
    /// How long some of them last instead.
    pub long: Option<Long>,
}

/// Calls that outlast the others.
#[derive(Clone, Copy)]
pub struct Long {
    /// This part of all.
    pub share: f64,
    pub hold: Duration,
}

impl Load {
    /// Calls that all last the same.
    pub fn of(calls: u32, rate: u32, hold: Duration) -> Load {
        Load { calls, rate, hold, long: None }
    }

    fn scenario(&self) -> String {
        let Some(Long { share, hold }) = self.long else { return CALLER.to_owned() };
        CALLER.replace(
            "<pause/>",
            &format!(
                "<nop next=\"1\" chance=\"{share}\"/><pause/><nop next=\"2\"/><label id=\"1\"/>\
                 <pause milliseconds=\"{}\"/><label id=\"2\"/>",
                hold.as_millis()
            ),
        )
    }
}

/// What the caller counted.
pub struct SippReport {
    pub successful: u64,
    pub failed: u64,
    pub retransmitted: u64,
    /// From the first INVITE to the end of the last call.
    pub seconds: f64,
}

/// A callee that runs, and callers to be run.
pub struct Sipp {
    folder: PathBuf,
    caller: SocketAddr,
    server: SocketAddr,
    callee: Child,
}

impl Sipp {
    pub fn start_callee(folder: &Path, caller: SocketAddr, callee: SocketAddr, server: SocketAddr) -> Sipp {
        fs::write(folder.join("callee.xml"), CALLEE).expect("a scenario");
        let mut command = Command::new("sipp");
        command.args(["-sf", "callee.xml"]);
        let callee = spawn(&mut command, folder, callee);
        Sipp { folder: folder.to_owned(), caller, server, callee }
    }

    pub fn run(&self, load: Load) -> SippReport {
        self.start(load).finish()
    }

    pub fn start(&self, load: Load) -> Caller {
        self.start_from(self.caller, "caller", load)
    }

    /// The same from another address.
    pub fn start_from(&self, from: SocketAddr, name: &str, load: Load) -> Caller {
        let statistics = self.folder.join(format!("{name}.csv"));
        let scenario = format!("{name}.xml");
        fs::write(self.folder.join(&scenario), load.scenario()).expect("a scenario");
        let Load { calls, rate, hold, .. } = load;
        let mut command = Command::new("sipp");
        command
            .args(["-sf", &scenario, "-s", "+3225551234", "-trace_stat", "-fd", "1", "-stf"])
            .arg(&statistics)
            .args(["-m", &calls.to_string(), "-r", &rate.to_string(), "-l", &calls.to_string()])
            .args(["-d", &hold.as_millis().to_string(), &self.server.to_string()]);
        Caller { child: spawn(&mut command, &self.folder, from), statistics, started: Instant::now() }
    }
}

impl Drop for Sipp {
    fn drop(&mut self) {
        let _ = self.callee.kill();
        let _ = self.callee.wait();
    }
}

/// A caller at work.
pub struct Caller {
    child: Child,
    statistics: PathBuf,
    started: Instant,
}

impl Caller {
    /// What it counted up to now; `None` before its first second.
    pub fn so_far(&self) -> Option<SippReport> {
        let text = fs::read_to_string(&self.statistics).ok()?;
        // A line that is being written is not there yet.
        let whole = &text[..=text.rfind('\n')?];
        (whole.lines().count() > 1).then(|| SippReport::of(whole, self.started.elapsed()))
    }

    /// Whether it has calls to make or to end.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its last call.
    pub fn finish(&mut self) -> SippReport {
        let _ = self.child.wait();
        let text = fs::read_to_string(&self.statistics).unwrap_or_default();
        SippReport::of(&text, self.started.elapsed())
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl SippReport {
    /// The last line of its statistics; what is not there counts as the worst.
    fn of(statistics: &str, elapsed: Duration) -> SippReport {
        let mut lines = statistics.lines();
        let names: Vec<&str> = lines.next().unwrap_or_default().split(';').collect();
        let last: Vec<&str> = lines.last().unwrap_or_default().split(';').collect();
        let value = |name: &str| {
            let index = names.iter().position(|known| *known == name);
            index.and_then(|index| last.get(index)?.parse().ok()).unwrap_or(u64::MAX)
        };
        SippReport {
            successful: value("SuccessfulCall(C)"),
            failed: value("FailedCall(C)"),
            retransmitted: value("Retransmissions(C)"),
            seconds: elapsed.as_secs_f64(),
        }
    }
}

fn spawn(command: &mut Command, folder: &Path, at: SocketAddr) -> Child {
    // Its own buffer holds what comes in some 20 ms; a far end that drops what it was sent would be our failure.
    command.args([
        "-i",
        &at.ip().to_string(),
        "-p",
        &at.port().to_string(),
        "-nostdin",
        "-buff_size",
        "4194304",
        "-mp",
        &media_port().to_string(),
    ]);
    command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("sipp starts: `make bench` installs it")
}

/// A port for its media that no other SIPp of this machine has: it takes this one and the one two above.
fn media_port() -> u16 {
    let free = |port: &u16| {
        let bound = [*port, port + 2].map(|port| UdpSocket::bind(("127.0.0.1", port)));
        bound.iter().all(Result::is_ok)
    };
    (60_000..65_000).step_by(4).find(free).expect("a free media port")
}
