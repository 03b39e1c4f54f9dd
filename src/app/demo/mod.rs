//! One whole call on embedded parts: an app user, the gateway, a simulated operator, and a judge of what was heard.

mod fault;
mod lab;
mod ladder;
mod report;

pub use fault::Fault;
pub use report::{Report, SideReport};

use crate::app::{Gateway, Options, StartError};
use crate::simulator::conversation::{Moment, Script};
use crate::simulator::heard;
use crate::simulator::operator::run::{self as operator, Notice, RunSettings};
use crate::simulator::phone::{self, PhoneAction, PhoneEvent, PhoneOptions};
use crate::simulator::picture::{self, Row};
use crate::simulator::speech;
use crate::simulator::wav::Wav;
use crate::store::CdrRow;
use crate::telemetry::LogControl;
use crate::types::{Secret, Transport};
use ladder::Ladder;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Number the demo dials; the simulated operator answers it.
const NUMBER: &str = "0470 12 34 56";
/// The operator's own record of its calls, and what it heard of each.
const LEDGER: &str = "operator-ledger.jsonl";
const RECORDINGS: &str = "operator";
/// Longest wait for the operator to tell its side, and for the record to reach the database.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why the demo could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error("{0}: {1}")]
    File(PathBuf, std::io::Error),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("the simulated operator: {0}")]
    Operator(String),
    #[error("the app user's phone: {0}")]
    Phone(String),
    #[error("the call left no record in the database within {} s", PATIENCE.as_secs())]
    NoRecord,
}

/// What a watching person is told.
#[derive(Debug, Clone, Copy)]
pub enum Progress<'a> {
    /// Something happened.
    Step(&'a str),
    /// Both sides talk from now on, so long.
    Talking(Duration),
}

/// Makes the call. `tell` hears what happens as it happens; `folder` gets the recordings, the picture and the report.
/// With a `fault` the operator's voice is wrong, and the report must say so.
///
/// # Errors
/// What kept the call from being made. A call that was made but not heard is a report, not an error.
pub async fn run(
    folder: &Path,
    log: LogControl,
    fault: Option<Fault>,
    mut tell: impl FnMut(Progress<'_>) + Send + 'static,
) -> Result<Report, DemoError> {
    clean(folder).map_err(|error| DemoError::File(folder.to_owned(), error))?;
    let scratch = Scratch::new()?;
    let (caller_speech, callee_speech) = (speech::caller(), speech::callee());

    tell(Progress::Step("operator: listening for calls"));
    let spoken = fault.map_or_else(|| callee_speech.clone(), |fault| fault.apply(&callee_speech));
    let mut operator = Operator::start(folder, &spoken).await?;

    tell(Progress::Step("gateway: starting with its embedded database"));
    let ladder = Ladder::default();
    let loaded = lab::configuration(&scratch.0, operator.address)?;
    let options = Options { path: None, loaded, log, tap: Some(ladder.tap()) };
    let gateway = Gateway::start(options).await?;
    let listen = gateway
        .listeners
        .iter()
        .find(|listener| listener.transport == Transport::Udp)
        .map(|listener| listener.bind)
        .unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 5060)));

    tell(Progress::Step("app user: registering as alice, then calling 0470 12 34 56"));
    let started = Instant::now();
    let server = format!("sip:{listen}");
    // Long enough for the other side's words, which begin half a second after the answer.
    let talk = Duration::from_secs_f32(caller_speech.seconds().max(callee_speech.seconds()) + 2.0);
    let phone = PhoneOptions {
        domain: Some(lab::REALM.to_owned()),
        action: PhoneAction::Call(NUMBER.replace(' ', "")),
        play: Some(Arc::new(caller_speech.clone())),
        script: Script { talk: Some(talk), ..Script::default() },
        ..PhoneOptions::new(&server, "alice", Secret::new("alice-secret"))
    };
    let told = Arc::new(Mutex::new(tell));
    let watch = {
        let told = told.clone();
        move |event: PhoneEvent| {
            let mut tell = told.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(text) = words(&event) {
                tell(Progress::Step(&text));
            }
            if let PhoneEvent::Moment(Moment::Answered(_)) = event {
                tell(Progress::Talking(talk));
            }
        }
    };
    let phoned = phone::run(phone, Some(Arc::new(watch)))
        .await
        .map_err(|error| DemoError::Phone(error.to_string()))?;
    let call = phoned.call.ok_or_else(|| DemoError::Phone("it was not let in".to_owned()))?;
    let step = |text: &str| (told.lock().unwrap_or_else(PoisonError::into_inner))(Progress::Step(text));

    step("operator: telling its side of the call");
    let entry = operator.entry().await?;
    let cdr = record(&gateway).await?;
    step("gateway: the call record is in the database");
    let codecs = [cdr.cdr.caller_codec, cdr.cdr.callee_codec];
    let drawing = ladder.draw(started, ["alice", "operator"], codecs, operator.address);
    gateway.stop().await;
    operator.stop().await;

    step("judging what each side heard");
    let at_operator = entry.recording.as_deref().and_then(|file| Wav::read(Path::new(file)).ok());
    let at_operator = at_operator.unwrap_or_else(silence);
    let at_phone = call.wav.clone().unwrap_or_else(silence);
    let to_operator = heard::judge(&caller_speech, &at_operator, Some(&callee_speech));
    let to_phone = heard::judge(&callee_speech, &at_phone, Some(&caller_speech));
    let registered_ms = phoned.registration.map(|outcome| outcome.took_ms);
    let told = report::Told { cdr: &cdr.cdr, call: &call, entry: &entry, registered_ms };
    let report = report::build(told, drawing, to_operator, to_phone, folder);
    let files = [("operator-heard.wav", &at_operator), ("alice-heard.wav", &at_phone)];
    for (name, wav) in files {
        let path = folder.join(name);
        wav.write(&path).map_err(|error| DemoError::File(path, std::io::Error::other(error.to_string())))?;
    }
    let rows = [
        Row {
            title: "alice → operator (Opus in, PCMA out)",
            said: &caller_speech,
            heard: &at_operator,
            verdict: &report.to_operator.verdict,
            notes: &report.to_operator.notes(),
        },
        Row {
            title: "operator → alice (PCMA in, Opus out)",
            said: &callee_speech,
            heard: &at_phone,
            verdict: &report.to_app.verdict,
            notes: &report.to_app.notes(),
        },
    ];
    let path = folder.join("call.svg");
    let drawn = picture::draw("What each side said and heard", &rows);
    std::fs::write(&path, drawn).map_err(|error| DemoError::File(path, error))?;
    let path = folder.join("report.json");
    let json = serde_json::to_string_pretty(&report)
        .map_err(|error| DemoError::File(path.clone(), std::io::Error::other(error)))?;
    std::fs::write(&path, json + "\n").map_err(|error| DemoError::File(path, error))?;
    Ok(report)
}

/// Makes the folder, and takes away what an earlier demo's operator left in it: one folder shows one call.
fn clean(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let gone = [std::fs::remove_file(folder.join(LEDGER)), std::fs::remove_dir_all(folder.join(RECORDINGS))];
    for result in gone {
        match result {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn silence() -> Wav {
    Wav { rate: 8_000, samples: Vec::new() }
}

/// What the phone lives through, for a person who watches.
fn words(event: &PhoneEvent) -> Option<String> {
    match event {
        PhoneEvent::Registered { took_ms } => Some(format!("app user: registered in {took_ms} ms")),
        PhoneEvent::Call { .. } | PhoneEvent::Ladder(_) => None,
        PhoneEvent::Moment(moment) => match moment {
            Moment::Trying | Moment::Held | Moment::Resumed => None,
            Moment::Ringing => Some("app user: it rings".to_owned()),
            Moment::EarlyMedia(codec) => Some(format!("app user: hears the network in {codec}")),
            Moment::Answered(codec) => {
                Some(format!("app user: answered; both talk, {codec} here, PCMA there"))
            }
            Moment::Ended => Some("app user: hung up".to_owned()),
        },
    }
}

/// The record of the one call, once the shipper has brought it to the database.
async fn record(gateway: &Gateway) -> Result<CdrRow, DemoError> {
    let until = tokio::time::Instant::now() + PATIENCE;
    while tokio::time::Instant::now() < until {
        let page = gateway.store.cdrs(&crate::store::CdrQuery::default()).await;
        let ended = page.ok().and_then(|page| page.cdrs.into_iter().find(|row| row.cdr.state.is_ended()));
        if let Some(row) = ended {
            return Ok(row);
        }
        // The shipper has no word for us: the database is looked at until the record is there.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(DemoError::NoRecord)
}

/// The simulated operator, running.
struct Operator {
    address: SocketAddr,
    entries: tokio::sync::mpsc::Receiver<crate::simulator::operator::ledger::Entry>,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<Result<(), operator::RunError>>,
}

impl Operator {
    async fn start(folder: &Path, speech: &Wav) -> Result<Operator, DemoError> {
        let settings = RunSettings {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            machine: crate::simulator::operator::machine::Settings::default(),
            speech: speech.clone(),
            record: Some(folder.join(RECORDINGS)),
            ledger: Some(folder.join(LEDGER)),
            orders: Vec::new(),
            tls: None,
            media_timeout: Duration::from_secs(30),
        };
        let (stop, stopped) = oneshot::channel::<()>();
        // One call is made, so one entry comes.
        let (heard, entries) = tokio::sync::mpsc::channel(1);
        let (listening, address) = oneshot::channel();
        let mut listening = Some(listening);
        let notice = move |notice: Notice| match notice {
            Notice::Listening(address) => {
                if let Some(listening) = listening.take() {
                    let _ = listening.send(address);
                }
            }
            Notice::Call(entry) => {
                let _ = heard.try_send(*entry);
            }
            Notice::Registered { .. } | Notice::Alive { .. } => {}
        };
        let task = tokio::spawn(operator::run(settings, notice, async move {
            let _ = stopped.await;
        }));
        let address = address.await.map_err(|_| DemoError::Operator("it did not start".to_owned()))?;
        Ok(Operator { address, entries, stop, task })
    }

    async fn entry(&mut self) -> Result<crate::simulator::operator::ledger::Entry, DemoError> {
        match tokio::time::timeout(PATIENCE, self.entries.recv()).await {
            Ok(Some(entry)) => Ok(entry),
            Ok(None) | Err(_) => Err(DemoError::Operator("it saw no call end".to_owned())),
        }
    }

    async fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

/// A folder for the gateway's state, gone with the demo.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Scratch, DemoError> {
        let name = format!("tandem-demo-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).map_err(|error| DemoError::File(path.clone(), error))?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
