//! The process and its clock, read at each scrape; the process under the names every Prometheus client uses.

use super::mirror::family;
use prometheus::{core::Collector, core::Desc, proto};
use std::collections::HashMap;
use std::fs;

/// Reads /proc/self and the kernel's clock. What can't be read is left out, not shown as zero.
pub(super) struct ProcessCollector {
    figures: Vec<Figure>,
}

/// One figure, and how it is read.
struct Figure {
    desc: Desc,
    kind: proto::MetricType,
    read: fn() -> Option<f64>,
}

impl ProcessCollector {
    pub(super) fn new() -> ProcessCollector {
        use proto::MetricType::{COUNTER, GAUGE};
        type Row = (&'static str, &'static str, proto::MetricType, fn() -> Option<f64>);
        let rows: [Row; 9] = [
            ("process_cpu_seconds_total", "User and system CPU time.", COUNTER, cpu_seconds),
            ("process_resident_memory_bytes", "Memory resident in RAM.", GAUGE, resident_bytes),
            ("process_virtual_memory_bytes", "Virtual memory size.", GAUGE, virtual_bytes),
            ("process_open_fds", "Open file descriptors.", GAUGE, open_fds),
            ("process_max_fds", "Most file descriptors the process may open.", GAUGE, max_fds),
            ("process_threads", "Operating system threads.", GAUGE, threads),
            (
                "process_start_time_seconds",
                "Start of the process, seconds since the epoch.",
                GAUGE,
                start_time,
            ),
            (
                "tandem_clock_synchronised",
                "1 while the kernel's clock follows a time server, else 0.",
                GAUGE,
                clock_synchronised,
            ),
            (
                "tandem_clock_offset_seconds",
                "How far the kernel's clock is from its time server, while it follows one.",
                GAUGE,
                clock_offset,
            ),
        ];
        let figures = rows.map(|(name, help, kind, read)| {
            let desc = Desc::new(name.to_owned(), help.to_owned(), Vec::new(), HashMap::new())
                .expect("a valid constant name");
            Figure { desc, kind, read }
        });
        ProcessCollector { figures: figures.into() }
    }
}

impl Collector for ProcessCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.figures.iter().map(|figure| &figure.desc).collect()
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let read = |figure: &Figure| {
            let value = (figure.read)()?;
            let mut metric = proto::Metric::from_label(Vec::new());
            match figure.kind {
                proto::MetricType::COUNTER => {
                    let mut counter = proto::Counter::default();
                    counter.set_value(value);
                    metric.set_counter(counter);
                }
                _ => {
                    let mut gauge = proto::Gauge::default();
                    gauge.set_value(value);
                    metric.set_gauge(gauge);
                }
            }
            Some(family(&figure.desc, figure.kind, metric))
        };
        self.figures.iter().filter_map(read).collect()
    }
}

/// Field `number` (from 1, as proc(5) counts) of /proc/self/stat.
fn stat_field(number: usize) -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    parse_stat(&stat, number)
}

fn parse_stat(stat: &str, number: usize) -> Option<f64> {
    // Field 2 is the command in parentheses and may itself hold spaces and parentheses.
    let after_command = &stat[stat.rfind(')')? + 1..];
    after_command.split_ascii_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

fn sysconf(name: libc::c_int) -> Option<f64> {
    // SAFETY: sysconf takes an integer and touches no memory of ours.
    let value = unsafe { libc::sysconf(name) };
    (value > 0).then_some(value as f64)
}

fn cpu_seconds() -> Option<f64> {
    Some((stat_field(14)? + stat_field(15)?) / sysconf(libc::_SC_CLK_TCK)?)
}

fn resident_bytes() -> Option<f64> {
    Some(stat_field(24)? * sysconf(libc::_SC_PAGESIZE)?)
}

fn virtual_bytes() -> Option<f64> {
    stat_field(23)
}

fn threads() -> Option<f64> {
    stat_field(20)
}

fn open_fds() -> Option<f64> {
    // The descriptor that reads the directory counts itself.
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as f64)
}

fn max_fds() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?
        .split_ascii_whitespace()
        .next()?
        .parse()
        .ok()
}

fn start_time() -> Option<f64> {
    let system = fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = system.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + stat_field(22)? / sysconf(libc::_SC_CLK_TCK)?)
}

/// What the kernel says of its clock; `None` where it may not be asked.
fn clock() -> Option<libc::timex> {
    let mut state = std::mem::MaybeUninit::<libc::timex>::zeroed();
    // SAFETY: all zeros is a valid timex; modes = 0 only reads; the kernel fills the struct unless it returns -1.
    let (result, state) = unsafe {
        let result = libc::adjtimex(state.as_mut_ptr());
        (result, state.assume_init())
    };
    (result >= 0).then_some(state)
}

fn clock_synchronised() -> Option<f64> {
    clock().map(|clock| f64::from(u8::from(is_synchronised(&clock))))
}

fn clock_offset() -> Option<f64> {
    clock().as_ref().and_then(offset_seconds)
}

fn is_synchronised(clock: &libc::timex) -> bool {
    clock.status & libc::STA_UNSYNC == 0
}

/// Without a time server the offset means nothing. Its unit is a status bit, see adjtimex(2).
fn offset_seconds(clock: &libc::timex) -> Option<f64> {
    let unit = if clock.status & libc::STA_NANO != 0 { 1e9 } else { 1e6 };
    is_synchronised(clock).then(|| clock.offset as f64 / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "4242 (a (b) c) S 1 4242 4242 0 -1 4194560 100 0 0 0 7 3 0 0 20 0 5 0 999 1000000 250 1";
        assert_eq!(parse_stat(stat, 14), Some(7.0));
        assert_eq!(parse_stat(stat, 20), Some(5.0));
        assert_eq!(parse_stat(stat, 24), Some(250.0));
        assert_eq!(parse_stat("no command", 14), None);
    }

    #[test]
    fn the_clock_is_shown_as_the_kernel_tells_it() {
        let clock = |status, offset| {
            // SAFETY: all zeros is a valid timex.
            let mut clock: libc::timex = unsafe { std::mem::zeroed() };
            (clock.status, clock.offset) = (status, offset);
            clock
        };
        let following = clock(libc::STA_PLL | libc::STA_NANO, -1_500_000);
        assert!(is_synchronised(&following));
        assert_eq!(offset_seconds(&following), Some(-0.0015));
        assert_eq!(offset_seconds(&clock(libc::STA_PLL, 250_000)), Some(0.25), "microseconds");
        let alone = clock(libc::STA_UNSYNC | libc::STA_NANO, 7);
        assert!(!is_synchronised(&alone));
        assert_eq!(offset_seconds(&alone), None);
    }

    #[test]
    fn this_process_has_all_figures() {
        let families = ProcessCollector::new().collect();
        assert_eq!(families.iter().filter(|family| family.name().starts_with("process_")).count(), 7);
        assert!(resident_bytes().unwrap() > 100_000.0);
        assert!(start_time().unwrap() > 1.6e9);
        assert!(open_fds().unwrap() < max_fds().unwrap());
    }
}
