//! Threads, signals, draining: what drives the machines.

use crate::admin::ControlCommand;
use crate::app::{Gateway, Options, StartError};
use crate::config::{Config, Loaded};
use crate::telemetry::{LogControl, logging};
use std::path::Path;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How often a draining gateway looks whether its last call is over.
const DRAIN_LOOK: Duration = Duration::from_millis(100);
/// How long the last log lines may take to be written.
const LOG_FLUSH: Duration = Duration::from_secs(1);

/// Why the gateway could not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("log: {0}")]
    Log(String),
    #[error("the runtime can't be started: {0}")]
    Runtime(std::io::Error),
}

/// Starts the log as configured.
///
/// # Errors
/// A level that can't be read, or a log that runs already.
pub fn start_log(loaded: &Loaded) -> Result<LogControl, RunError> {
    logging::start(loaded.config.log.format, &loaded.config.log.level)
        .map_err(|error| RunError::Log(error.to_string()))
}

/// Descriptors beside those of media: the journal, the database, listeners, streams.
const OTHER_DESCRIPTORS: u64 = 512;
/// Media sockets of one call: RTP and RTCP of both legs.
const DESCRIPTORS_PER_CALL: u64 = 4;

/// What a gateway writes are numbers, and what stands for passwords: nobody else reads it.
pub fn keep_to_ourselves() {
    // SAFETY: umask only sets a number of this process; no other thread makes files yet.
    unsafe { libc::umask(0o077) };
}

/// Takes as many descriptors as the system gives, and says so where they are fewer than the calls may need.
fn raise_descriptors(config: &Config) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls only read or write the structure, which outlives them.
    let raised = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 && {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit) == 0
        }
    };
    let pairs = config.networks.iter().map(|network| network.media_ports.len() as u64 / 2);
    let calls = config.limits.max_calls.map_or(pairs.max().unwrap_or(0) / 2, u64::from);
    let wanted = calls * DESCRIPTORS_PER_CALL + OTHER_DESCRIPTORS;
    if !raised || limit.rlim_cur < wanted {
        tracing::warn!(
            descriptors = limit.rlim_cur,
            wanted,
            calls,
            "fewer descriptors than that many calls need: raise the limit (ulimit -n, LimitNOFILE) or set limits.max_calls"
        );
    }
}

/// Runs the gateway until it is told to stop: SIGTERM drains it, a second one ends it at once; SIGHUP reloads.
///
/// # Errors
/// What kept it from starting.
pub fn run(path: &Path, loaded: Loaded) -> Result<(), RunError> {
    let log = start_log(&loaded)?;
    keep_to_ourselves();
    raise_descriptors(&loaded.config);
    // Signalling is one task; the others are streams, the database and the admin API.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(RunError::Runtime)?;
    let result = runtime.block_on(async {
        // Before the gateway can be seen: a SIGHUP that came between would end the process.
        let signals = Signals::listen().map_err(RunError::Runtime)?;
        let options = Options { path: Some(path.to_owned()), loaded, log: log.clone(), tap: None };
        let gateway = Gateway::start(options).await?;
        for listener in &gateway.listeners {
            tracing::info!(transport = listener.transport.as_str(), address = %listener.bind, "listening");
        }
        if let Some(address) = gateway.admin_address {
            tracing::info!(%address, "admin API");
        }
        tracing::info!("ready");
        serve(gateway, signals).await;
        Ok(())
    });
    log.flush(LOG_FLUSH);
    result
}

/// What the process is told from outside.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }
}

async fn serve(gateway: Gateway, mut signals: Signals) {
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
            _ = signals.hang_up.recv() => {
                // The report is logged where it is made.
                let _ = gateway.control.ask(|reply| ControlCommand::Reload { reply }).await;
            }
        }
    }
    drain(&gateway, &mut signals.terminate, &mut signals.interrupt).await;
    gateway.stop().await;
}

/// Waits for the running calls to end, for as long as the configuration grants or until a second signal.
async fn drain(gateway: &Gateway, terminate: &mut Signal, interrupt: &mut Signal) {
    gateway.drain().await;
    let deadline = tokio::time::Instant::now() + gateway.drain_patience();
    let mut look = tokio::time::interval(DRAIN_LOOK);
    tracing::info!(calls = gateway.live_calls().await, "draining: new calls are refused, running ones go on");
    loop {
        tokio::select! {
            _ = terminate.recv() => return tracing::warn!("second signal: calls are ended now"),
            _ = interrupt.recv() => return tracing::warn!("second signal: calls are ended now"),
            () = tokio::time::sleep_until(deadline) => return tracing::warn!("drain deadline: calls are ended now"),
            _ = look.tick() => if gateway.live_calls().await == 0 { return },
        }
    }
}
