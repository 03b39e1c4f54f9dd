//! `tandem operator`: a simulated operator trunk.

use super::output::{self, clock};
use super::remote::{converse, secret};
use super::{Failure, Outcome};
use crate::simulator::operator::fault::{FAULTS, Fault, fault};
use crate::simulator::operator::interconnect::{Guarded, INTERCONNECTS, Interconnect, interconnect};
use crate::simulator::operator::ledger::{Entry, ReleasedBy, Side};
use crate::simulator::operator::machine::{PLACED, Settings};
use crate::simulator::operator::run::{Notice, OrderPlan, RunSettings, run as run_operator};
use crate::simulator::operator::treatment::{PROFILES, Profile, Treatment, profile};
use crate::simulator::speech;
use crate::simulator::wav::Wav;
use crate::sip::io::{Identity, TlsSettings};
use crate::types::{AudioCodec, Transport};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

const NUMBERS: &str = "\
Numbers that end with two zeros and a code ask for a treatment of their own:
  00000 no word at all         00183 early media, then the answer   00401 00407 demand credentials
  00100 only 100 Trying        00200 answered at once               00300-00699 refused with that status
  00180 rings, no answer       007NN answered after NN seconds      009NN hung up NN seconds after the answer
  00801 deaf to ACK            00802 deaf to BYE                    00803 an answer without SDP
  00804 a codec never offered  00805 answers in spite of a CANCEL   00806 refuses every re-INVITE

What --fault may be, for every call:
  black-hole       not a word                      slow-trying      100 comes after two seconds
  ringing-storm    a hundred provisional answers   redirect-loop    302 to itself
  no-sdp           an answer without SDP           foreign-codec    a codec never offered
  late-answer      answers in spite of a CANCEL    lost-ack         deaf to ACK
  lost-bye         deaf to BYE                     lost-dialog      481 to a re-INVITE
  no-updates       488 to a re-INVITE              short-session    a session of five seconds, never refreshed
  spoofed-bye      a stranger's BYE                one-way          no voice comes back
  unsteady         hangs up after two seconds

The ledger is one JSON line a call, with the operator's own times, packets and verdict on who hung up.

Example: tandem operator --listen 127.0.0.1:5070 --ledger calls.jsonl";

/// A simulated operator trunk with faults, and its own ledger of calls
#[derive(Debug, clap::Args)]
#[command(after_help = NUMBERS)]
pub struct Args {
    /// Where UDP and TCP listen; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:5070")]
    listen: SocketAddr,
    /// What it is like: standard, quick, early-media, digest, no-answer, busy, decline, congested, unsteady or silent;
    /// or the far side of a file of config/trunks: sipconnect-register, sipconnect-static, plain-ip, ims-nni,
    /// cloud-trunk, teams-direct-routing or whatsapp-business-calling
    #[arg(long, value_name = "NAME", default_value = PROFILES[0].name, value_parser = known_profile)]
    profile: String,
    /// What it gets wrong (see below)
    #[arg(long, value_name = "NAME", value_parser = known_fault)]
    fault: Option<String>,
    /// Certificate chain, for a profile that speaks TLS
    #[arg(long, value_name = "PEM", requires = "key")]
    certificate: Option<PathBuf>,
    /// Its private key
    #[arg(long, value_name = "PEM", requires = "certificate")]
    key: Option<PathBuf>,
    /// Authorities that the gateway's certificate is checked against [default: the system's]
    #[arg(long, value_name = "PEM")]
    ca: Option<PathBuf>,
    /// The host that calls must have in From, where the profile agrees on one
    #[arg(long, value_name = "HOST")]
    from_host: Option<String>,
    /// Append a JSON line for each call to this file
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// Milliseconds of ringing before the answer
    #[arg(long, value_name = "MS")]
    ring: Option<u64>,
    /// Refuse every call with this status
    #[arg(long, value_name = "STATUS", value_parser = clap::value_parser!(u16).range(300..700))]
    reject: Option<u16>,
    /// Hang up so many seconds after the answer
    #[arg(long, value_name = "SECONDS")]
    talk: Option<u64>,
    /// Codecs, best first [default: PCMA,PCMU, or the profile's]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = codec)]
    codecs: Vec<AudioCodec>,
    /// Treat all numbers alike, whatever they end with
    #[arg(long)]
    plain_numbers: bool,
    /// Say this instead of the built-in speech
    #[arg(long, value_name = "WAV")]
    play: Option<PathBuf>,
    /// Save what is heard of each call in this folder
    #[arg(long, value_name = "FOLDER")]
    record: Option<PathBuf>,
    /// User that a challenge asks for
    #[arg(long, default_value = "tandem")]
    user: String,
    /// Its password: literal, env:NAME or file:PATH
    #[arg(long, default_value = "tandem")]
    password: String,
    /// Realm of a challenge
    #[arg(long, default_value = "operator.example")]
    realm: String,
    /// Challenge registrations too
    #[arg(long)]
    guard_registrations: bool,
    /// Hang up when nothing was heard for so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    media_timeout: u64,
    /// Place a call to this number, and end with it; may be repeated
    #[arg(long, value_name = "NUMBER")]
    call: Vec<String>,
    /// Number that calls are placed from
    #[arg(long, value_name = "NUMBER", default_value = "+32470123456")]
    from: String,
    /// Placed calls come from somebody who does not want to be shown
    #[arg(long)]
    withheld: bool,
    /// The gateway's address for calls that are placed [default: where it registers or sends OPTIONS from]
    #[arg(long, value_name = "ADDR")]
    via: Option<SocketAddr>,
    /// Place calls over TCP
    #[arg(long)]
    tcp: bool,
    /// Give a placed call up after so many seconds without an answer
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    patience: u64,
    /// Print a JSON line for each event
    #[arg(long)]
    json: bool,
}

/// What `--json` prints, one a line.
#[derive(serde::Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    Listening { address: SocketAddr },
    Registered { user: &'a str, contact: &'a str, expires: u32 },
    Alive { status: u16 },
    Call(&'a Entry),
}

pub fn run(args: Args) -> Outcome {
    let settings = settings(&args)?;
    let about = match interconnect(&args.profile) {
        Some(kind) => kind.about,
        None => profile(&args.profile).map_or("", |profile| profile.about),
    };
    let (mut unanswered, mut unprinted) = (0, Ok(()));
    converse(async {
        let notice = |notice: Notice| {
            if let Notice::Call(entry) = &notice
                && entry.treatment == PLACED
                && entry.answered_at.is_none()
            {
                unanswered += 1;
            }
            let printed = match args.json {
                true => print_event(&notice),
                false => output::print(&told(&notice, about)),
            };
            unprinted = std::mem::replace(&mut unprinted, Ok(())).and(printed);
        };
        run_operator(settings, notice, stopped()).await.map_err(|error| Failure::Failed(error.to_string()))
    })?;
    unprinted?;
    match unanswered {
        0 => Ok(()),
        count => Err(Failure::Failed(format!("{count} of {} calls were not answered", args.call.len()))),
    }
}

fn settings(args: &Args) -> Result<RunSettings, Failure> {
    let standard = &PROFILES[0];
    let kind = interconnect(&args.profile);
    let mut treatment = match kind {
        Some(kind) => kind.treatment(),
        None => (profile(&args.profile).unwrap_or(standard).treatment)(),
    };
    if let Some(fault) = args.fault.as_deref().and_then(fault) {
        treatment = fault.apply(treatment);
    }
    if let Some(status) = args.reject {
        treatment = Treatment::refuse(status);
    }
    if let Some(ring) = args.ring {
        treatment.after = Duration::from_millis(ring);
    }
    treatment.talk = args.talk.map(Duration::from_secs).or(treatment.talk);
    let speech = match &args.play {
        Some(path) => Wav::read(path).map_err(|error| Failure::Failed(error.to_string()))?,
        None => speech::callee(),
    };
    let transport = if args.tcp { Transport::Tcp } else { Transport::Udp };
    let orders = args.call.iter().map(|number| OrderPlan {
        number: number.clone(),
        from: args.from.clone(),
        withheld: args.withheld,
        via: args.via.map(|via| (transport, via)),
        // A placed call that nobody would end: ten seconds are enough to hear it.
        talk: Some(Duration::from_secs(args.talk.unwrap_or(10))),
        patience: Duration::from_secs(args.patience),
    });
    Ok(RunSettings {
        listen: args.listen,
        tls: tls(args, kind)?,
        machine: Settings {
            treatment,
            by_number: !args.plain_numbers,
            codecs: codecs(args, kind),
            user: args.user.clone(),
            password: secret(&args.password)?,
            realm: args.realm.clone(),
            guard_registrations: args.guard_registrations
                || kind.is_some_and(|kind| kind.guard == Guarded::CallsAndRegistrations),
            interconnect: kind,
            from_host: args.from_host.clone(),
            ..Settings::default()
        },
        speech,
        record: args.record.clone(),
        ledger: args.ledger.clone(),
        orders: orders.collect(),
        media_timeout: Duration::from_secs(args.media_timeout),
    })
}

fn codecs(args: &Args, kind: Option<&Interconnect>) -> Vec<AudioCodec> {
    match (args.codecs.as_slice(), kind) {
        ([], Some(kind)) => kind.codecs.to_vec(),
        ([], None) => Settings::default().codecs,
        (asked, _) => asked.to_vec(),
    }
}

fn tls(args: &Args, kind: Option<&Interconnect>) -> Result<Option<TlsSettings>, Failure> {
    let identity = match (&args.certificate, &args.key) {
        (Some(certificate), Some(key)) => {
            Some(Identity { certificate: certificate.clone(), key: key.clone() })
        }
        (Some(_) | None, _) => None,
    };
    match (kind.filter(|kind| kind.secure), identity) {
        (Some(kind), None) => Err(Failure::Usage(format!(
            "the profile {} speaks TLS; give --certificate PEM and --key PEM",
            kind.name
        ))),
        (None, None) => Ok(None),
        (Some(_) | None, identity) => {
            Ok(Some(TlsSettings { identity, authorities: args.ca.clone(), ..TlsSettings::default() }))
        }
    }
}

/// Done at Ctrl-C or SIGTERM.
async fn stopped() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}

fn print_event(notice: &Notice) -> Outcome {
    let event = match notice {
        Notice::Listening(address) => Event::Listening { address: *address },
        Notice::Registered { user, contact, expires } => {
            Event::Registered { user, contact, expires: *expires }
        }
        Notice::Alive { status } => Event::Alive { status: *status },
        Notice::Call(entry) => Event::Call(entry),
    };
    let line = serde_json::to_string(&event).map_err(|error| Failure::Failed(error.to_string()))?;
    output::print(&format!("{line}\n"))
}

fn told(notice: &Notice, about: &str) -> String {
    match notice {
        Notice::Listening(address) => format!("operator on udp and tcp {address}: {about}\n"),
        Notice::Registered { user, contact, expires: 0 } => format!("{user} no longer at {contact}\n"),
        Notice::Registered { user, contact, expires } => format!("{user} at {contact} for {expires} s\n"),
        Notice::Alive { status } => format!("the gateway answers OPTIONS with {status}\n"),
        Notice::Call(entry) => format!("{}\n", output::printable(&call_line(entry))),
    }
}

fn call_line(entry: &Entry) -> String {
    let way = match entry.side {
        Side::Callee => "<-",
        Side::Caller => "->",
    };
    let (ours, theirs) = match entry.side {
        Side::Callee => (&entry.called, &entry.calling),
        Side::Caller => (&entry.calling, &entry.called),
    };
    let by = match entry.released_by {
        ReleasedBy::Caller => "the caller",
        ReleasedBy::Callee => "the callee",
        ReleasedBy::Nobody => "nobody",
    };
    let what = match entry.answered_at {
        Some(_) => {
            let codec = entry.codec.map_or("no codec", AudioCodec::encoding_name);
            let heard = (entry.media.packets_heard, entry.media.packets_lost);
            format!(
                "talked {}, released by {by}; {codec}, heard {} packets, {} lost",
                clock(entry.duration_ms),
                heard.0,
                heard.1
            )
        }
        None => format!("{}, status {}, ended by {by}", entry.treatment, entry.status),
    };
    format!("#{} {ours} {way} {theirs}: {what}", entry.call)
}

fn known_profile(name: &str) -> Result<String, String> {
    let names = PROFILES.iter().map(|profile: &Profile| profile.name);
    let names: Vec<&str> = names.chain(INTERCONNECTS.iter().map(|kind| kind.name)).collect();
    let known = profile(name).map(|known| known.name);
    match known.or(interconnect(name).map(|known| known.name)) {
        Some(known) => Ok(known.to_owned()),
        None => Err(format!("there is no such profile; write one of {}", names.join(", "))),
    }
}

fn known_fault(name: &str) -> Result<String, String> {
    let names: Vec<&str> = FAULTS.iter().map(|fault: &Fault| fault.name).collect();
    match fault(name) {
        Some(known) => Ok(known.name.to_owned()),
        None => Err(format!("there is no such fault; write one of {}", names.join(", "))),
    }
}

fn codec(name: &str) -> Result<AudioCodec, String> {
    let all = [AudioCodec::Pcma, AudioCodec::Pcmu, AudioCodec::Opus];
    let known = all.into_iter().find(|codec| codec.encoding_name().eq_ignore_ascii_case(name));
    known.ok_or_else(|| "write PCMA, PCMU or opus".to_owned())
}
