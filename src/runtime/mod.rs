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
        let options = Options { path: Some(path.to_owned()), loaded, log: log.clone(), tap: None };
        let gateway = Gateway::start(options).await?;
        for listener in &gateway.listeners {
            tracing::info!(transport = listener.transport.as_str(), address = %listener.bind, "listening");
        }
        if let Some(address) = gateway.admin_address {
            tracing::info!(%address, "admin API");
        }
        tracing::info!("ready");
        serve(gateway).await.map_err(RunError::Runtime)
    });
    log.flush(LOG_FLUSH);
    result
}

async fn serve(gateway: Gateway) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => {
                // The report is logged where it is made.
                let _ = gateway.control.ask(|reply| ControlCommand::Reload { reply }).await;
            }
        }
    }
    drain(&gateway, &mut terminate, &mut interrupt).await;
    gateway.stop().await;
    Ok(())
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
