//! What the machine is, and what else it did while a row was measured: figures of a noisy machine are to be doubted.

use std::fmt;
use std::fs;
use std::process::Command;

/// Processor, cores and kernel, in one line.
pub fn describe() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} cores of {}, Linux {}", model.unwrap_or("an unknown processor"), kernel.trim())
}

/// What a program calls itself.
pub fn version(program: &str, argument: &str) -> String {
    let output = Command::new(program).arg(argument).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("not installed").to_owned()
}

/// The machine from a moment on; shown, it tells what happened since.
pub struct Noise {
    before: Ticks,
}

struct Ticks {
    all: u64,
    idle: u64,
    stolen: u64,
}

impl Noise {
    pub fn start() -> Noise {
        Noise { before: Ticks::read() }
    }
}

impl fmt::Display for Noise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let now = Ticks::read();
        let all = (now.all - self.before.all).max(1) as f64;
        let percent = |ticks: u64| ticks as f64 * 100.0 / all;
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').next().unwrap_or_default();
        let (idle, stolen) = (percent(now.idle - self.before.idle), percent(now.stolen - self.before.stolen));
        write!(f, "load={load} idle={idle:.0}% steal={stolen:.1}%")
    }
}

impl Ticks {
    /// The first line of proc(5) `/proc/stat`: user nice system idle iowait irq softirq steal …
    fn read() -> Ticks {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let line = stat.lines().next().unwrap_or_default();
        let fields: Vec<u64> =
            line.split_whitespace().skip(1).take(8).map(|text| text.parse().unwrap_or(0)).collect();
        let field = |index: usize| fields.get(index).copied().unwrap_or(0);
        Ticks { all: fields.iter().sum(), idle: field(3) + field(4), stolen: field(7) }
    }
}
