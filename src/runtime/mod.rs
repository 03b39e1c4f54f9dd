//! Threads, signals, draining: what drives the machines.

use crate::admin::ControlCommand;
use crate::app::{Gateway, Options, StartError};
use crate::config::Loaded;
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

/// Runs the gateway until it is told to stop: SIGTERM drains it, a second one ends it at once; SIGHUP reloads.
///
/// # Errors
/// What kept it from starting.
pub fn run(path: &Path, loaded: Loaded) -> Result<(), RunError> {
    let log = start_log(&loaded)?;
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
