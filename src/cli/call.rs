//! `tandem call`: a test phone that makes one call and says how it went.

use super::output::{self, NONE, clock, shown};
use super::progress::TalkBar;
use super::remote::{converse, secret};
use super::{Failure, Outcome};
use crate::sdp::SrtpPolicy;
use crate::simulator::conversation::{CallReport, Moment, Script};
use crate::simulator::io::endpoint::{RegisterOutcome, VoiceOptions};
use crate::simulator::phone::{
    Flaw, PhoneAction, PhoneEvent, PhoneOptions, PhoneReport, Server, codec_named, run as run_phone,
};
use crate::simulator::wav::Wav;
use crate::simulator::{SimulatorError, speech};
use crate::types::AudioCodec;
use serde::Serialize;
use std::fmt::Write;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc};

const ABOUT: &str = "\
Without --play the phone speaks English sentences of its own. What comes back is judged: with --expect it must be just
that speech, whole and in time (\"--expect operator\" is what `tandem operator` says); without it the line must not be
silent. On a terminal the verdict is text, else, or with --json, it is one JSON document.

Exit code 0 if the call was answered and heard, 1 if it was refused, not answered, silent or not what was expected.

Example: tandem call --server sip:127.0.0.1:5060 --user alice --password alice-secret --to 0470123456 --seconds 5";

/// What stands for the simulated operator's speech in `--expect`.
const OPERATOR: &str = "operator";
/// Things to be shown that may wait for the screen.
const MOMENTS: usize = 64;
/// Speech begins half a second after the answer; two more seconds are for what is on its way.
const AROUND_SPEECH: f32 = 2.5;

/// Make one call as a test phone and judge it: set-up times, codec, packets, loss, jitter, MOS, what was heard
#[derive(Debug, clap::Args)]
#[command(after_help = ABOUT)]
pub struct Args {
    /// The gateway, as sip:HOST:PORT or sips:HOST, with ;transport=tcp or tls where it is not UDP
    #[arg(long, value_name = "URI")]
    server: String,
    /// Who calls
    #[arg(long)]
    user: String,
    /// Literal, env:NAME or file:PATH
    #[arg(long, value_name = "PASSWORD")]
    password: String,
    /// Number or user name to call
    #[arg(long, value_name = "NUMBER")]
    to: String,
    /// Speech to send, 16-bit WAV [default: English sentences]
    #[arg(long, value_name = "WAV")]
    play: Option<PathBuf>,
    /// What the far end says, to be recognised; "operator" is what `tandem operator` says
    #[arg(long, value_name = "WAV")]
    expect: Option<PathBuf>,
    /// Where to keep what was heard
    #[arg(long, value_name = "WAV")]
    record: Option<PathBuf>,
    /// How long to talk [default: until both sides have spoken]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: Option<u64>,
    /// Give up when nobody answers for so long
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    ring: u64,
    /// opus, pcma or pcmu; without it all three are offered
    #[arg(long, value_parser = codec)]
    codec: Option<AudioCodec>,
    /// Media in SRTP: sdes or off [default: sdes over TLS, else off]
    #[arg(long, value_name = "HOW", value_parser = srtp)]
    srtp: Option<SrtpPolicy>,
    /// Register first, and unregister in the end
    #[arg(long)]
    register: bool,
    /// Host part of the addresses [default: the server's]
    #[arg(long)]
    domain: Option<String>,
    /// Authorities that the server's certificate is checked against [default: the system's]
    #[arg(long, value_name = "PEM")]
    ca: Option<PathBuf>,
    /// Take any certificate
    #[arg(long, conflicts_with = "ca")]
    insecure: bool,
    /// Print JSON also on a terminal
    #[arg(long)]
    json: bool,
}

/// The verdict for machines.
#[derive(Serialize)]
struct Verdict<'a> {
    ok: bool,
    /// What went wrong first.
    flaw: Option<Flaw>,
    registration: Option<&'a RegisterOutcome>,
    /// `null` where the registration was refused.
    call: Option<&'a CallReport>,
}

pub fn run(args: Args) -> Outcome {
    let (options, stop) = options(&args)?;
    let talk = options.script.talk.unwrap_or_default();
    let report = converse(async {
        let (events, mut told) = mpsc::channel(MOMENTS);
        let watch = Arc::new(move |event: PhoneEvent| {
            // A screen that is behind misses a word; the verdict does not.
            let _ = events.try_send(event);
        });
        let call = run_phone(options, Some(watch));
        let watched = async {
            let mut bar = TalkBar::new("calling", talk);
            let mut tick = tokio::time::interval(Duration::from_millis(200));
            loop {
                tokio::select! {
                    event = told.recv() => match event {
                        Some(event) => show(&mut bar, &event),
                        None => std::future::pending().await,
                    },
                    _ = tick.tick() => bar.draw(Instant::now()),
                }
            }
        };
        tokio::select! {
            report = call => report.map_err(failure),
            never = watched => never,
            failure = interrupted(&stop) => Err(failure),
        }
    })?;
    if args.json || !std::io::stdout().is_terminal() {
        let PhoneReport { registration, call, .. } = &report;
        let (flaw, registration, call) = (report.flaw(), registration.as_ref(), call.as_ref());
        output::print_json(&Verdict { ok: flaw.is_none(), flaw, registration, call })?;
    } else {
        output::print(&output::printable(&text(&report)))?;
    }
    match report.flaw() {
        None => Ok(()),
        Some(flaw) => Err(Failure::Failed(why(flaw, &report))),
    }
}

fn options(args: &Args) -> Result<(PhoneOptions, Arc<Notify>), Failure> {
    let (transport, _) = Server::read(&args.server).map_err(failure)?;
    let play = match &args.play {
        Some(path) => wav(path)?,
        None => speech::caller(),
    };
    let expect = match &args.expect {
        Some(name) if name.as_os_str() == OPERATOR => Some(speech::callee()),
        Some(path) => Some(wav(path)?),
        None => None,
    };
    let longest = expect.iter().map(Wav::seconds).fold(play.seconds(), f32::max);
    let talk = match args.seconds {
        Some(seconds) => Duration::from_secs(seconds),
        None => Duration::from_secs_f32(longest + AROUND_SPEECH),
    };
    let defaults = VoiceOptions::default();
    let by_transport = if transport.is_secure() { SrtpPolicy::Sdes } else { SrtpPolicy::Off };
    let stop = Arc::new(Notify::new());
    let options = PhoneOptions {
        domain: args.domain.clone(),
        tls_ca: args.ca.clone(),
        tls_verify: !args.insecure,
        register: args.register,
        action: PhoneAction::Call(args.to.replace(' ', "")),
        voice: VoiceOptions {
            codecs: args.codec.map_or(defaults.codecs, |codec| vec![codec]),
            srtp: args.srtp.unwrap_or(by_transport),
            ..VoiceOptions::default()
        },
        play: Some(Arc::new(play)),
        expect: expect.map(Arc::new),
        record: args.record.clone(),
        script: Script {
            ring: Duration::from_secs(args.ring),
            talk: Some(talk),
            stop: Some(stop.clone()),
            ..Script::default()
        },
        ..PhoneOptions::new(&args.server, &args.user, secret(&args.password)?)
    };
    Ok((options, stop))
}

fn wav(path: &Path) -> Result<Wav, Failure> {
    Wav::read(path).map_err(|error| Failure::Failed(error.to_string()))
}

fn failure(error: SimulatorError) -> Failure {
    match error {
        SimulatorError::Address(_) => Failure::Usage(error.to_string()),
        error => Failure::Failed(error.to_string()),
    }
}

/// The first Ctrl-C hangs up, so that no far end is left in a call; the second one does not wait for that.
async fn interrupted(stop: &Notify) -> Failure {
    let _ = tokio::signal::ctrl_c().await;
    stop.notify_one();
    let _ = tokio::signal::ctrl_c().await;
    Failure::Failed("interrupted".to_owned())
}

/// Shows a person what happens.
fn show(bar: &mut TalkBar, event: &PhoneEvent) {
    let label = match event {
        PhoneEvent::Registered { .. } | PhoneEvent::Call { .. } | PhoneEvent::Ladder(_) => return,
        PhoneEvent::Moment(Moment::Trying | Moment::Held | Moment::Resumed) => return,
        PhoneEvent::Moment(Moment::Ringing) => "ringing",
        PhoneEvent::Moment(Moment::EarlyMedia(_)) => "early media",
        PhoneEvent::Moment(Moment::Answered(_)) => {
            bar.begin(Instant::now());
            "talking"
        }
        PhoneEvent::Moment(Moment::Ended) => "judging",
    };
    bar.label(label);
    bar.draw(Instant::now());
}

/// The verdict for a person.
fn text(report: &PhoneReport) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<12}{value}");
    };
    if let Some(outcome) = &report.registration {
        let RegisterOutcome { status, phrase, took_ms, .. } = outcome;
        line("register", format!("{status} {phrase} after {took_ms} ms"));
    }
    let Some(call) = &report.call else { return text };
    let after = |what: &str, ms: Option<u32>| ms.map(|ms| format!("{what} after {ms} ms"));
    let times = [
        after("trying", call.set_up.trying_ms),
        after("ringing", call.set_up.ringing_ms),
        after("answered", call.set_up.answered_ms),
        call.set_up.first_voice_ms.map(|ms| format!("first voice {ms} ms later")),
    ];
    let times: Vec<String> = times.into_iter().flatten().collect();
    line("set-up", if times.is_empty() { NONE.to_owned() } else { times.join(", ") });
    let reason = call.reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    line("result", format!("{} {}{reason}", call.status, call.phrase));
    if !call.was_answered() {
        return text;
    }
    let srtp = if call.srtp { ", SRTP" } else { "" };
    let codec = shown(call.codec.map(|codec| codec.encoding_name()));
    let ptime = call.ptime_ms.unwrap_or(0);
    line("talked", format!("{} in {codec}, {ptime} ms a packet{srtp}", clock(call.talked_ms.into())));
    let media = &call.media;
    let expected = (media.packets_received + media.packets_lost).max(1);
    let loss = media.packets_lost as f32 * 100.0 / expected as f32;
    let (sent, received, lost, late) =
        (media.packets_sent, media.packets_received, media.packets_lost, media.packets_late);
    line("packets", format!("{sent} sent, {received} received, {lost} lost ({loss:.1} %), {late} late"));
    let measured = |value: Option<f32>, unit: &str| match value {
        Some(value) => format!("{value:.2}{unit}"),
        None => "not measured".to_owned(),
    };
    let (jitter, rtt) = (measured(media.jitter_ms, " ms"), measured(media.rtt_ms, " ms"));
    line("network", format!("jitter {jitter}, round trip {rtt}"));
    line("quality", format!("MOS-LQ {}, MOS-CQ {}", measured(media.mos_lq, ""), measured(media.mos_cq, "")));
    if let Some(verdict) = &call.heard {
        let word = if verdict.heard { "what was expected" } else { "NOT what was expected" };
        let coverage = verdict.coverage * 100.0;
        line("heard", format!("{word}: {coverage:.0} % of it, similarity {:.2}", verdict.similarity));
    } else if let Some(sound) = &call.sound {
        let word = if sound.heard { "something" } else { "NOTHING" };
        let length = f64::from(sound.sound_ms) / 1_000.0;
        line("heard", format!("{word}: {length:.1} s of sound, own echo {:.2}", sound.echo));
    }
    if let Some(path) = &call.recording {
        line("recorded", path.display().to_string());
    }
    text
}

fn why(flaw: Flaw, report: &PhoneReport) -> String {
    match flaw {
        Flaw::NotRegistered => {
            let outcome = report.registration.as_ref();
            let said = outcome.map(|outcome| format!("{} {}", outcome.status, outcome.phrase));
            format!("registration refused: {}", shown(said))
        }
        Flaw::NotCalled => "there was no call".to_owned(),
        Flaw::NotAnswered => {
            let said = report.call.as_ref().map(|call| format!("{} {}", call.status, call.phrase));
            format!("not answered: {}", shown(said))
        }
        Flaw::NothingHeard => "the call was answered, but the line was silent".to_owned(),
        Flaw::NotWhatWasSaid => {
            let fault = report.call.as_ref().and_then(|call| call.heard.as_ref()?.fault);
            let named = fault.map_or("", |fault| fault.as_str());
            format!("the call was answered, but what was expected was not heard: {named}")
        }
    }
}

fn codec(name: &str) -> Result<AudioCodec, String> {
    codec_named(name).ok_or_else(|| "write opus, pcma or pcmu".to_owned())
}

fn srtp(name: &str) -> Result<SrtpPolicy, String> {
    match name {
        "sdes" => Ok(SrtpPolicy::Sdes),
        "off" => Ok(SrtpPolicy::Off),
        _ => Err("write sdes or off".to_owned()),
    }
}
