//! `tandem load`: both ends of many calls through a gateway.

use super::output;
use super::progress::Progress as Bar;
use super::remote::{converse, secret};
use super::{Failure, Outcome};
use crate::simulator::load::run::{Options, Progress, run as run_load};
use crate::simulator::phone::codec_named;
use crate::types::AudioCodec;
use std::net::SocketAddr;
use std::time::Duration;

const ABOUT: &str = "\
The app users' calls go to --server, and the gateway's trunk must lead to --operator, where this tool answers them:
both ends speak, hear and measure. Calls dial --number and the numbers after it. A gateway limits the calls of one user
(limits.max_calls_per_user); --users spreads them over several.

Exit code 0 if every call was set up, kept and heard at both ends.

Without options it fits config/lab.toml.

Example: tandem load --calls 50 --rate 10 --seconds 30";

/// Load: both ends of many calls with real media through a gateway
#[derive(Debug, clap::Args)]
#[command(after_help = ABOUT)]
pub struct Args {
    /// The gateway, as HOST:PORT or sip:HOST:PORT;transport=tcp
    #[arg(long, value_name = "URI", default_value = "127.0.0.1:5060")]
    server: String,
    /// Where to answer the gateway's trunk, over UDP and TCP
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:5070")]
    operator: SocketAddr,
    /// App user, or with --users the beginning of the users' names
    #[arg(long, default_value = "alice")]
    user: String,
    /// Their password: literal, env:NAME or file:PATH
    #[arg(long, default_value = "alice-secret")]
    password: String,
    /// So many users, named by --user and a number from 1
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    users: Option<u32>,
    /// Host part of the users' addresses [default: the server's]
    #[arg(long)]
    domain: Option<String>,
    /// Called number of the first call
    #[arg(long, value_name = "NUMBER", default_value = "+32470100000", value_parser = number)]
    number: u64,
    /// Calls at once
    #[arg(long, value_name = "N", default_value_t = 10)]
    calls: usize,
    /// New calls a second
    #[arg(long, value_name = "CPS", default_value_t = 10.0, value_parser = rate)]
    rate: f64,
    /// Seconds for which all calls are up together
    #[arg(long, value_name = "S", default_value_t = 10)]
    seconds: u64,
    /// The gateway's process, to measure its processor time and memory
    #[arg(long)]
    pid: Option<u32>,
    /// Codec of the app users
    #[arg(long, default_value = "opus", value_parser = codec)]
    codec: AudioCodec,
    /// Codec of the trunk
    #[arg(long, default_value = "PCMA", value_parser = codec)]
    trunk_codec: AudioCodec,
    /// Measure the delay of so many calls; all others only count packets
    #[arg(long, value_name = "N", default_value_t = 16)]
    measured: usize,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Outcome {
    let options = Options {
        server: args.server,
        domain: args.domain,
        user: args.user,
        password: secret(&args.password)?,
        users: args.users,
        operator: args.operator,
        number: args.number,
        calls: args.calls,
        rate: args.rate,
        hold: Duration::from_secs(args.seconds),
        pid: args.pid,
        app_codec: args.codec,
        trunk_codec: args.trunk_codec,
        measured: args.measured,
    };
    // Calls up, seconds held, calls ended: one bar for all of it.
    let (calls, seconds) = (args.calls as u64, args.seconds);
    let mut bar = Bar::new("calls up", calls * 2 + seconds);
    let progress = |progress: Progress| match progress {
        Progress::SettingUp(done) => bar.set(done as u64),
        Progress::Holding(held) => {
            bar.label("talking");
            bar.set(calls + held.as_secs());
        }
        Progress::HangingUp(done) => {
            bar.label("hanging up");
            bar.set(calls + seconds + done as u64);
        }
        Progress::Measuring => bar.label("measuring"),
    };
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    let report = converse(async {
        run_load(options, progress, stop).await.map_err(|error| Failure::Failed(error.to_string()))
    })?;
    drop(bar);
    if args.json { output::print_json(&report) } else { output::print(&report.to_string()) }?;
    if report.is_clean() {
        return Ok(());
    }
    Err(Failure::Failed("not every call was set up, kept and heard at both ends".to_owned()))
}

fn number(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    let whole = (5..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| whole).ok_or_else(|| "write + and 5 to 15 digits".to_owned())
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| *rate > 0.0 && *rate <= 10_000.0);
    rate.ok_or_else(|| "write a number above 0, at most 10000".to_owned())
}

fn codec(name: &str) -> Result<AudioCodec, String> {
    codec_named(name).ok_or_else(|| "write opus, PCMA or PCMU".to_owned())
}
