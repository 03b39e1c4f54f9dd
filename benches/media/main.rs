//! What the media path costs: libopus alone, our path around it, calls over real sockets, and other gateways beside it.
//!
//! `cargo bench --bench media` prints our own figures, `… -- side-by-side` those of all gateways this machine has
//! (`make bench-media`), `… -- side-by-side quick` without the search for their capacity. `realtime` gives gateways and
//! load precedence before other work of the machine, `… -- instructions` counts instead of timing. Compare ratios.

#![allow(clippy::disallowed_methods, reason = "a benchmark waits for the time its figures are of")]

mod codec;
mod compare;
mod crowd;
mod gateway;
mod heard;
mod instructions;
mod machine;
mod own;
mod rtpengine;
mod speech;

fn main() {
    // `cargo bench` adds an option of the usual harness, which means nothing here.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let has = |word: &str| words.iter().any(|given| given == word);
    if has(gateway::SERVE) {
        return gateway::serve();
    }
    if has(codec::SLEEPING) {
        return codec::sleep();
    }
    if let [command, calls, loss] = words.as_slice()
        && command == codec::PACED
    {
        return codec::pace(calls.parse().expect("calls"), loss.parse().expect("percent"));
    }
    if let [command, kind, rounds] = words.as_slice()
        && command == instructions::COUNTED
    {
        return instructions::counted(kind, rounds.parse().expect("rounds"));
    }
    println!("Tandem media path · commit {} · {} build", commit(), build());
    machine::allow_many_sockets();
    if has("realtime") {
        machine::take_precedence();
    }
    if has("instructions") {
        return instructions::run();
    }
    if has("side-by-side") {
        return compare::run(has("quick"));
    }
    let speech = speech::caller();
    let frames = speech::voiced(&speech);
    println!("machine: {}", machine::describe());
    println!(
        "speech: {} voiced frames of 20 ms; Opus 24 kb/s, VOIP, FEC on at 0 % loss, DTX off unless said",
        frames.len()
    );
    println!();
    if !has("sockets") {
        codec::floors(&frames);
        codec::directions(&frames);
        codec::content_delay(&speech);
        println!();
    }
    let calls = words.iter().find_map(|word| word.strip_prefix("calls=")?.parse().ok());
    own::run(calls.unwrap_or(50));
}

fn commit() -> String {
    let output = std::process::Command::new("git").args(["describe", "--always", "--dirty"]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.ok().filter(|text| !text.is_empty()).unwrap_or_else(|| "unknown".to_owned())
}

fn build() -> &'static str {
    if cfg!(debug_assertions) { "unoptimised" } else { "optimised" }
}
