//! Cores, processor time and memory of processes, and how much of the machine others took.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// The gateway's core; what loads it has another where there is one.
pub const GATEWAY_CORE: usize = 0;

/// All of the machine's, whatever this process is pinned to.
pub fn cores() -> usize {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let core = |line: &&str| line.starts_with("cpu") && !line.starts_with("cpu ");
    stat.lines().filter(core).count().max(1)
}

/// Where the load runs.
pub fn load_core() -> usize {
    usize::from(cores() > 1)
}

/// Real-time priority where it is wished for: above everything usual, below what the kernel itself needs.
const PRIORITY: &str = "10";
static REAL_TIME: AtomicBool = AtomicBool::new(false);

/// Gives gateways and load precedence before whatever else runs here; needs the rights for it.
pub fn take_precedence() {
    REAL_TIME.store(true, Relaxed);
}

/// The beginning of a command that runs on the gateways' core.
pub fn on_gateway_core() -> Command {
    let core = GATEWAY_CORE.to_string();
    if REAL_TIME.load(Relaxed) {
        let mut command = Command::new("chrt");
        command.args(["-r", PRIORITY, "taskset", "-c", &core]);
        return command;
    }
    let mut command = Command::new("taskset");
    command.args(["-c", &core]);
    command
}

/// Lets this process and those it starts open as many sockets as the system allows at all.
pub fn allow_many_sockets() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls are given a pointer to an rlimit that outlives them.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

/// Keeps this process on the core of the load.
pub fn pin_self() {
    let (pid, core) = (std::process::id().to_string(), load_core().to_string());
    let run = |program: &str, arguments: &[&str]| {
        let status = Command::new(program).args(arguments).stdout(Stdio::null()).status();
        if !status.is_ok_and(|status| status.success()) {
            println!("  ({program} {} failed)", arguments.join(" "));
        }
    };
    run("taskset", &["-a", "-p", "-c", &core, &pid]);
    if REAL_TIME.load(Relaxed) {
        run("chrt", &["-a", "-r", "-p", PRIORITY, &pid]);
    }
}

/// Processor time of all threads of a process so far.
pub fn cpu(pid: u32) -> Duration {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Duration::ZERO };
    let of_task = |task: std::fs::DirEntry| {
        let times = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        times.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
    };
    tasks.flatten().filter_map(of_task).sum()
}

/// How often the threads of a process went to sleep of their own accord so far.
pub fn sleeps(pid: u32) -> u64 {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    let of_task = |task: std::fs::DirEntry| -> Option<u64> {
        let status = std::fs::read_to_string(task.path().join("status")).ok()?;
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        count.trim().parse().ok()
    };
    tasks.flatten().filter_map(of_task).sum()
}

/// Processor time of this thread so far: on a shared machine it says more than the clock on the wall.
pub fn own_cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer leads to a timespec that outlives the call.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Resident memory of a process in bytes.
pub fn resident(pid: u32) -> usize {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages: usize = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4096
}

/// Time all processes together were busy on one core, interrupts included.
fn busy(core: usize) -> Duration {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let name = format!("cpu{core}");
    let line = stat.lines().find(|line| line.split_whitespace().next() == Some(&name)).unwrap_or_default();
    let ticks: Vec<u64> = line.split_whitespace().skip(1).filter_map(|tick| tick.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal
    let busy: u64 = [0, 1, 2, 5, 6, 7].iter().filter_map(|field| ticks.get(*field)).sum();
    Duration::from_millis(busy * 10)
}

/// Watches how much of the gateway's core others take.
pub struct Noise {
    pid: u32,
    busy: Duration,
    own: Duration,
    since: std::time::Instant,
}

impl Noise {
    pub fn beside(pid: u32) -> Noise {
        Noise { pid, busy: busy(GATEWAY_CORE), own: cpu(pid), since: std::time::Instant::now() }
    }

    /// Percent of the core that was not the gateway's since the start.
    pub fn percent(&self) -> f64 {
        let others = (busy(GATEWAY_CORE) - self.busy).saturating_sub(cpu(self.pid).saturating_sub(self.own));
        100.0 * others.as_secs_f64() / self.since.elapsed().as_secs_f64()
    }
}

/// The machine in one line.
pub fn describe() -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("?").to_owned();
    format!("{} cores of {}, load average {load}", cores(), model.trim_start_matches([' ', '\t', ':']))
}
