//! Answers the admin API: asks the shard, the configuration and the store.

use super::{quality, reload, views};
use crate::access::Directory;
use crate::admin::ControlCommand;
use crate::admin::control::{CheckState, DrainView, Readiness, ReadinessCheck, Traced, TrunkAction};
use crate::billing::io::Journal;
use crate::call::Settings;
use crate::call::io::{BindingChange, ShardHandle};
use crate::config::Config;
use crate::media::stats::{DELAY_BOUNDS_US, LegTotals, MediaTotals};
use crate::routing::AdminState;
use crate::sip::io::Transports;
use crate::stir::Certificate;
use crate::store::{RegistrationChange, Store, StoreError, read_snapshot, write_snapshot};
use crate::telemetry::metrics::{HistogramSnapshot, MediaLegSnapshot, MediaSnapshot};
use crate::telemetry::{LogControl, Metrics, certificate};
use crate::types::{EndCause, Now};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// Reloads and changes of users that wait for one another.
const SLOW_QUEUE: usize = 16;
/// Registrations written in one transaction.
const BINDING_BATCH: usize = 200;
/// Between attempts while the database is away.
const BINDING_PAUSE: std::time::Duration = std::time::Duration::from_secs(5);

/// What is needed to answer.
pub struct Context {
    pub path: Option<PathBuf>,
    pub shard: ShardHandle,
    pub store: Store,
    pub journal: Journal,
    pub transports: Transports,
    pub metrics: Arc<Metrics>,
    pub log: LogControl,
    pub settings: watch::Sender<Arc<Settings>>,
}

/// Answers commands one after the other; reloads have a queue of their own, so that two of them never cross.
pub async fn run(context: Context, mut commands: mpsc::Receiver<ControlCommand>) {
    let context = Arc::new(context);
    // What asks the database may wait for it; what asks the shard must not wait behind that.
    let (slow, mut waiting) = mpsc::channel(SLOW_QUEUE);
    let apart = context.clone();
    tokio::spawn(async move {
        while let Some(command) = waiting.recv().await {
            answer(&apart, command).await;
        }
    });
    while let Some(command) = commands.recv().await {
        match command {
            ControlCommand::Reload { .. } | ControlCommand::UsersChanged { .. } => {
                // A full queue drops the command, and with it the reply: its asker hears that at once.
                let _ = slow.try_send(command);
            }
            quick => answer(&context, quick).await,
        }
    }
}

/// A reply nobody waits for any more is dropped.
fn reply<T>(to: tokio::sync::oneshot::Sender<T>, answer: Option<T>) {
    if let Some(answer) = answer {
        let _ = to.send(answer);
    }
}

async fn answer(context: &Context, command: ControlCommand) {
    let shard = &context.shard;
    match command {
        ControlCommand::Calls { reply: to } => {
            reply(to, shard.ask(|shard, now| views::calls(&shard.exchange, now)).await);
        }
        ControlCommand::Call { id, reply: to } => {
            reply(to, quality::call(shard, id).await);
        }
        ControlCommand::Trace { id, reply: to } => {
            let may_be_whole = context.settings.borrow().trace.whole;
            let trace = move |shard: &mut crate::call::io::Shard, _| {
                shard.observer.trace(id).cloned().map(|kept| Traced { kept, may_be_whole })
            };
            reply(to, shard.ask(trace).await);
        }
        ControlCommand::Hangup { id, reply: to } => {
            let end = move |shard: &mut crate::call::io::Shard, now: Now| {
                let view = shard.exchange.call(id).map(|call| views::call(call, now));
                shard.exchange.hang_up(now, id, EndCause::AdminHangup).then_some(view).flatten()
            };
            reply(to, shard.ask(end).await);
        }
        ControlCommand::Trunks { reply: to } => {
            reply(to, shard.ask(|shard, now| views::trunks(&shard.exchange, now)).await);
        }
        ControlCommand::Trunk { name, action, reply: to } => {
            let act = move |shard: &mut crate::call::io::Shard, now: Now| {
                let admin = match action {
                    TrunkAction::Block => AdminState::Blocked,
                    TrunkAction::Unblock => AdminState::Open,
                    TrunkAction::Drain => AdminState::Draining,
                };
                shard.exchange.set_trunk(now, &name, admin);
                views::trunks(&shard.exchange, now).into_iter().find(|trunk| trunk.name == name)
            };
            reply(to, shard.ask(act).await);
        }
        ControlCommand::Registrations { reply: to } => {
            reply(to, shard.ask(|shard, _| views::registrations(&shard.exchange)).await);
        }
        ControlCommand::Users { reply: to } => {
            reply(to, shard.ask(|shard, _| views::users(&shard.exchange)).await);
        }
        ControlCommand::UsersChanged { reply: to } => {
            let config = context.settings.borrow().config.clone();
            let result = match directory(&config, &context.store).await {
                Ok(directory) => {
                    let directory = Arc::new(directory);
                    let taken =
                        shard.ask(move |shard, now| shard.exchange.set_directory(now, directory)).await;
                    taken.ok_or_else(|| "the gateway is stopping".to_owned())
                }
                Err(error) => Err(error),
            };
            let _ = to.send(result);
        }
        ControlCommand::Route { query, reply: to } => {
            reply(to, shard.ask(move |shard, now| views::route(shard, &query, now)).await);
        }
        ControlCommand::Reload { reply: to } => {
            let report = reload::reload(context).await;
            context.metrics.system.reloaded(report.accepted);
            let _ = to.send(report);
        }
        ControlCommand::Drain { on, reply: to } => {
            context.metrics.system.set_draining(on);
            let drain = move |shard: &mut crate::call::io::Shard, _| {
                shard.exchange.set_draining(on);
                let active_calls = shard.exchange.live_calls() as u32;
                DrainView { draining: on, active_calls, deadline: None }
            };
            reply(to, shard.ask(drain).await);
        }
        ControlCommand::Readiness { reply: to } => {
            let mut checks = vec![store_check(context), journal_check(context)];
            if let Some(more) = shard.ask(views::readiness).await {
                checks.extend(more);
                let _ = to.send(Readiness { checks });
            }
        }
    }
}

fn store_check(context: &Context) -> ReadinessCheck {
    if context.store.is_up() {
        ReadinessCheck::new("database", CheckState::Ok, "")
    } else {
        ReadinessCheck::new(
            "database",
            CheckState::Degraded,
            "unreachable: calls go on, their records wait in the journal",
        )
    }
}

fn journal_check(context: &Context) -> ReadinessCheck {
    if context.journal.healthy() {
        ReadinessCheck::new("journal", CheckState::Ok, "")
    } else {
        ReadinessCheck::new(
            "journal",
            CheckState::Failed,
            "its disk does not answer or can't be written: no new calls",
        )
    }
}

/// All users: those of the file and those of the database. A database that is away costs the second kind only.
///
/// # Errors
/// A name that is in both places, and DIDs that two users have.
pub async fn directory(config: &Config, store: &Store) -> Result<Directory, String> {
    let mut users = config.file_users();
    let snapshot = config.gateway.data_dir.join("users.json");
    let stored = match store.users().await {
        Ok(stored) => {
            if let Err(error) = write_snapshot(&snapshot, &stored) {
                tracing::warn!(target: "tandem::access", %error, "users can't be kept for a start without database");
            }
            stored
        }
        // It would never store a call: better that somebody looks at once.
        Err(error @ StoreError::OtherKey { .. }) => return Err(error.to_string()),
        Err(error) => {
            tracing::warn!(target: "tandem::access", %error, "users of the database are those of its last answer");
            read_snapshot(&snapshot).map_err(|error| error.to_string())?
        }
    };
    // An HA1 of another realm proves nothing here.
    users.extend(
        stored.into_iter().filter(|stored| stored.realm == config.sip.realm).map(|stored| stored.user),
    );
    let (directory, errors) = Directory::new(users);
    match errors.is_empty() {
        true => Ok(directory),
        false => Err(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
    }
}

/// Keeps registrations in the database, for the next start. While it is away changes wait, as many as the queue holds.
pub async fn keep_bindings(mut changes: mpsc::Receiver<BindingChange>, store: Store) {
    let mut taken = Vec::new();
    while changes.recv_many(&mut taken, BINDING_BATCH).await > 0 {
        let batch: Vec<RegistrationChange> = taken
            .drain(..)
            .map(|change| match change {
                BindingChange::Stored(binding) => RegistrationChange::Stored(*binding),
                BindingChange::Removed { user, contact } => {
                    RegistrationChange::Removed { user: user.to_string(), contact }
                }
            })
            .collect();
        while let Err(error) = store.save_registrations(Now::read().unix_ms, &batch).await {
            tracing::debug!(target: "tandem::access", %error, "registrations are not yet kept for the next start");
            if !error.is_unavailable() {
                break;
            }
            tokio::time::sleep(BINDING_PAUSE).await;
        }
    }
}

/// Tells the metrics what the configuration holds: at the start and after each reload.
pub fn describe(metrics: &Metrics, config: &Config) {
    let names: Vec<String> = config.trunks.iter().map(|trunk| trunk.name.clone()).collect();
    metrics.set_trunks(&names);
    for trunk in &config.trunks {
        metrics.trunk(&trunk.name).set_channels_limit(trunk.max_channels.unwrap_or(0));
    }
    for rate in &config.rates {
        metrics.system.known_currency(rate.rate.currency);
    }
    let certificate =
        config.tls.certificate.as_ref().and_then(|file| CertificateDer::from_pem_file(file).ok());
    metrics.system.set_certificate_expiry(certificate.and_then(|der| certificate::not_after(&der)));
    let signing = config.stir.certificate.as_ref().and_then(|file| std::fs::read(file).ok());
    let signing = signing.and_then(|pem| Certificate::read(&pem).ok());
    metrics.system.set_stir_certificate_expiry(signing.map(|certificate| certificate.not_after));
}

/// Makes the metrics look at what keeps counts of its own, at every scrape.
pub fn publish(
    metrics: &Arc<Metrics>,
    journal: &Journal,
    store: &Store,
    log: &LogControl,
    settings: &Settings,
    media: impl Fn() -> MediaTotals + Send + Sync + 'static,
) {
    let (journal, store, log) = (journal.clone(), store.clone(), log.clone());
    let directory = settings.billing.journal_dir.clone();
    metrics.at_scrape(move |metrics| {
        let status = journal.status();
        let now = Now::read().unix_ms;
        let oldest = (status.records > 0).then_some(now - status.age_ms as i64);
        metrics.system.set_journal(status.records, oldest, now);
        metrics.system.set_cdrs_stored(status.stored_total);
        metrics.system.read_journal_disk(&directory);
        metrics.system.set_database_up(store.is_up());
        metrics.system.set_log_dropped(log.dropped());
        metrics.media.update(&snapshot(&media()));
    });
}

/// The media workers' totals as the metrics take them.
fn snapshot(totals: &MediaTotals) -> MediaSnapshot {
    let leg = |leg: &LegTotals| MediaLegSnapshot {
        packets_received: leg.received,
        packets_sent: leg.sent,
        packets_lost: leg.lost,
        packets_late: leg.late,
        packets_discarded: leg.discarded,
    };
    MediaSnapshot {
        app: leg(&totals.app),
        trunk: leg(&totals.trunk),
        // In the order of RecoveryMethod: FEC, DRED (not used), PLC.
        recovered: [totals.recovered_fec, 0, totals.recovered_plc],
        transcode: HistogramSnapshot {
            bounds: DELAY_BOUNDS_US.iter().map(|bound| *bound as f64 / 1e6).collect(),
            counts: totals.delay_counts.to_vec(),
            sum: totals.delay_sum_us as f64 / 1e6,
        },
        load: totals.load,
        complexity: totals.complexity,
    }
}
