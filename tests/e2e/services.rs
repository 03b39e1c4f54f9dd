//! The rest of an interconnect's checklist over UDP, TCP and TLS: test lines, calls for help, and signed callers.

mod help;
mod lines;
mod signed;

use crate::support::trace::TracedMessage;

#[track_caller]
fn says(message: &TracedMessage, name: &str, start: &str) {
    let value = message.header(name).unwrap_or_default();
    assert!(value.starts_with(start), "{name} of {}: {value}", message.start_line());
}
