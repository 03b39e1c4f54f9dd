//! Waits for a condition with a limit; the only place of the tests where time is spent on purpose.

use std::time::{Duration, Instant};

/// Long enough for a process to start on a busy machine.
pub const START: Duration = Duration::from_secs(20);
/// Long enough for anything that needs no timer of SIP to run out.
pub const SOON: Duration = Duration::from_secs(10);

/// Asks `probe` again and again until it gives a value. Panics with `what` after `limit`.
#[track_caller]
pub fn until<T>(what: &str, limit: Duration, probe: impl FnMut() -> Option<T>) -> T {
    match within(limit, probe) {
        Some(value) => value,
        None => panic!("waited {limit:?} in vain for {what}"),
    }
}

/// As [`until`], but gives `None` after `limit`.
pub fn within<T>(limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = probe() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        pause(Duration::from_millis(20));
    }
}

/// True if `probe` stays false for the whole of `span`: for what must not happen.
pub fn never(span: Duration, mut probe: impl FnMut() -> bool) -> bool {
    within(span, || probe().then_some(())).is_none()
}

/// Lets `span` of a call pass: speech is spoken in real time by peers that know no other.
pub fn talk(span: Duration) {
    pause(span);
}

#[allow(clippy::disallowed_methods, reason = "the one place where the tests poll")]
fn pause(span: Duration) {
    std::thread::sleep(span);
}

/// Waits until a UDP socket is bound to `port` (on any address), as the kernel lists it.
#[track_caller]
pub fn udp_bound(port: u16, limit: Duration) {
    until(&format!("a UDP socket on port {port}"), limit, || is_udp_bound(port).then_some(()));
}

pub fn is_udp_bound(port: u16) -> bool {
    listed(&["/proc/net/udp", "/proc/net/udp6"], port, None)
}

/// Waits until a TCP socket listens on `port` (on any address), as the kernel lists it.
#[track_caller]
pub fn tcp_listening(port: u16, limit: Duration) {
    until(&format!("a TCP listener on port {port}"), limit, || {
        listed(&["/proc/net/tcp", "/proc/net/tcp6"], port, Some("0A")).then_some(())
    });
}

/// Looks for a local port in the kernel's socket tables; `state` 0A is LISTEN.
fn listed(tables: &[&str], port: u16, state: Option<&str>) -> bool {
    let wanted = format!(":{port:04X}");
    tables.iter().any(|table| {
        let text = std::fs::read_to_string(table).unwrap_or_default();
        text.lines().skip(1).any(|line| {
            let mut fields = line.split_whitespace();
            let local = fields.nth(1).unwrap_or_default();
            let its_state = fields.nth(1).unwrap_or_default();
            local.ends_with(&wanted) && state.is_none_or(|state| state == its_state)
        })
    })
}
