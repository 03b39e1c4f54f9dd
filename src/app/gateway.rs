//! A running gateway: started from a configuration, asked through handles, stopped in order.

use super::{control, setup};
use crate::access::{Directory, FloodGuard, LoginGuard, Registrar};
use crate::admin::{Admin, Control, Tokens};
use crate::billing::io::{Journal, Shipper, ShipperOptions};
use crate::call::io::{
    BindingKeeper, CertificateFetcher, Observer, Shard, ShardHandle, ShardParts, Tap, channel, resolve,
};
use crate::call::{Exchange, Parts, Settings};
use crate::config::{Loaded, Problem};
use crate::media::{MediaWorkers, PortAllocator};
use crate::routing::Dialplan;
use crate::sip::auth::Challenger;
use crate::sip::io::{Listener, Transports};
use crate::sip::mark::Marks;
use crate::sip::transaction::{Timers, TransactionLayer};
use crate::store::{Store, StoreError};
use crate::telemetry::{LogControl, Metrics};
use crate::types::{EndCause, Now};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

/// Messages from the network that may wait for the shard: half a second's at a full load, so that a pause of the machine
/// loses nothing. A lasting overload is met long before it is full.
const INBOX: usize = 4_096;
/// Registrations that may wait for the database.
const BINDING_QUEUE: usize = 4_096;
/// How long the BYEs of a forced end may take to be answered.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Why a gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Config(Vec<Problem>),
    #[error(transparent)]
    Bind(#[from] crate::sip::io::BindError),
    #[error("the signalling thread can't be started: {0}")]
    Signalling(std::io::Error),
    #[error("media threads can't be started: {0}")]
    Media(std::io::Error),
    #[error(transparent)]
    Journal(#[from] crate::billing::io::JournalError),
    #[error("{0}")]
    Rates(String),
    #[error("database: {0}")]
    Store(#[from] StoreError),
    #[error("users: {0}")]
    Users(String),
    #[error(transparent)]
    Stir(#[from] crate::stir::io::LoadFault),
    #[error("admin.listen {0}: {1}")]
    AdminListen(SocketAddr, std::io::Error),
}

/// How a gateway is started.
pub struct Options {
    /// Read again at a reload; `None` where the configuration is not a file.
    pub path: Option<PathBuf>,
    pub loaded: Loaded,
    pub log: LogControl,
    /// Sees every SIP message.
    pub tap: Option<Tap>,
}

/// A running gateway.
pub struct Gateway {
    pub shard: ShardHandle,
    pub control: Control,
    pub store: Store,
    /// Where it really listens.
    pub listeners: Vec<Listener>,
    pub admin_address: Option<SocketAddr>,
    pub metrics: Arc<Metrics>,
    drain: Duration,
    shard_task: JoinHandle<()>,
    signalling: Signalling,
    shipper_task: JoinHandle<()>,
    stop_shipper: watch::Sender<bool>,
    stop_admin: Option<oneshot::Sender<()>>,
    transports: Transports,
}

impl Gateway {
    /// Opens everything and starts to take calls.
    ///
    /// # Errors
    /// The first thing that can't be opened; then nothing keeps running.
    pub async fn start(options: Options) -> Result<Gateway, StartError> {
        let Options { path, loaded, log, tap } = options;
        let Loaded { config, dialplan, warnings, .. } = loaded;
        for warning in &warnings {
            tracing::warn!(target: "tandem::config", "{warning}");
        }
        let metrics = Arc::new(Metrics::new(&[]));
        control::describe(&metrics, &config);
        let rates = Arc::new(setup::rates(&config).map_err(StartError::Rates)?);
        let store = setup::store(&config)?;
        let directory = control::directory(&config, &store).await.map_err(StartError::Users)?;

        let (shard, inbox) = channel();
        let to_shard = shard.clone();
        let rating = rates.clone();
        let (journal, recovery) = Journal::open(
            setup::journal(&config),
            |cdr| rating.rate(cdr),
            move |event| to_shard.journal(event),
        )?;
        if !recovery.closed.is_empty() {
            tracing::warn!(target: "tandem::billing", calls = recovery.closed.len(), "closed calls that the last run left open");
        }
        let to_shard = shard.clone();
        let workers = match config.media.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            count => count,
        };
        let workers =
            MediaWorkers::start(workers, config.media.load_limit, move |event| to_shard.media(event))
                .map_err(StartError::Media)?;
        let media_totals = workers.totals_reader();
        let (messages, received) = mpsc::channel(INBOX);
        let mut key = [0; 16];
        random(&mut key);
        let marks = Marks::new(u128::from_be_bytes(key));
        let signalling = Signalling::start().map_err(StartError::Signalling)?;
        let transports = {
            let _on_it = signalling.handle.enter();
            Transports::bind(setup::transports(&config, marks.clone()), messages)?
        };
        let listeners = transports.local_addresses().to_vec();
        let (bindings, changes) = BindingKeeper::channel(BINDING_QUEUE);

        let stir = setup::stir(&config)?;
        let settings = Arc::new(Settings::new(config).with_stir(stir));
        let exchange = exchange(&settings, directory, dialplan, &store, marks).await;
        metrics.sip.set_registrations(exchange.registrar().len());
        let (new_settings, settings_seen) = watch::channel(settings.clone());
        let parts = ShardParts {
            exchange,
            inbox,
            transports: transports.clone(),
            messages: received,
            ports: PortAllocator::new(setup::ports(&settings)),
            workers,
            journal: journal.clone(),
            rates,
            observer: Observer::new(metrics.clone(), tap, &settings.trace),
            bindings,
            certificates: CertificateFetcher::new(shard.clone(), Handle::current(), &settings),
        };
        let shard_task = signalling.handle.spawn(Shard::new(parts).run());
        tokio::spawn(resolve::run(settings_seen, transports.clone(), shard.clone()));
        tokio::spawn(control::keep_bindings(changes, store.clone()));
        let current = new_settings.subscribe();
        tokio::spawn(store.clone().keep(move || current.borrow().billing.number_retention_days));
        let (current, hashes) = (new_settings.subscribe(), store.clone());
        let days = move || current.borrow().billing.number_retention_days;
        tokio::spawn(journal.refused().keep(days, move |number| hashes.hash_of(number)));
        let (stop_shipper, stop_seen) = watch::channel(false);
        let shipper = Shipper::new(journal.clone(), store.clone(), ShipperOptions::default());
        let shipper_task = tokio::spawn(shipper.run(stop_seen));
        control::publish(&metrics, &journal, &store, &log, &settings, media_totals);

        let now_set = new_settings.subscribe();
        let (control, commands) = Control::channel();
        let context = control::Context {
            path,
            shard: shard.clone(),
            store: store.clone(),
            journal,
            transports: transports.clone(),
            metrics: metrics.clone(),
            log: log.clone(),
            settings: new_settings,
        };
        tokio::spawn(control::run(context, commands));
        let (admin_address, stop_admin) = match settings.admin.listen {
            None => (None, None),
            Some(listen) => {
                let listener = tokio::net::TcpListener::bind(listen)
                    .await
                    .map_err(|error| StartError::AdminListen(listen, error))?;
                let address = listener.local_addr().ok();
                let admin = Admin {
                    control: control.clone(),
                    metrics: metrics.clone(),
                    log,
                    tokens: Tokens::configured(&settings.admin),
                    store: store.clone(),
                    realm: Box::new(move || now_set.borrow().sip.realm.clone()),
                };
                let (stop, stopped) = oneshot::channel::<()>();
                tokio::spawn(crate::admin::serve(listener, admin, async move {
                    let _ = stopped.await;
                }));
                (address, Some(stop))
            }
        };
        Ok(Gateway {
            shard,
            control,
            store,
            listeners,
            admin_address,
            metrics,
            drain: settings.gateway.drain,
            shard_task,
            signalling,
            shipper_task,
            stop_shipper,
            stop_admin,
            transports,
        })
    }

    /// How long running calls may go on after a drain began.
    pub fn drain_patience(&self) -> Duration {
        self.drain
    }

    /// Takes no new calls; running ones go on.
    pub async fn drain(&self) {
        self.metrics.system.set_draining(true);
        let _ = self.shard.ask(|shard, _| shard.exchange.set_draining(true)).await;
    }

    /// Calls that have not ended.
    pub async fn live_calls(&self) -> usize {
        self.shard.ask(|shard, _| shard.exchange.live_calls()).await.unwrap_or(0)
    }

    /// Ends what still runs, writes every record and closes everything.
    pub async fn stop(mut self) {
        self.drain().await;
        let _ = self.shard.ask(|shard, now| shard.exchange.hang_up_all(now, EndCause::Drained)).await;
        let until = tokio::time::Instant::now() + LAST_WORDS;
        while self.shard.ask(|shard, _| shard.exchange.calls().count()).await.unwrap_or(0) > 0
            && tokio::time::Instant::now() < until
        {
            // The far ends answer our BYEs; a shell that waits for them has nothing else to wait on.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.shard.errand(|shard, _| shard.stop());
        let _ = self.shard_task.await;
        self.transports.shutdown(Duration::from_millis(200)).await;
        drop(self.signalling);
        self.stop_shipper.send_replace(true);
        let _ = self.shipper_task.await;
        if let Some(stop) = self.stop_admin.take() {
            let _ = stop.send(());
        }
    }
}

/// The thread of the signalling shard and its sockets. A message is read, worked off and answered without a hop to
/// another thread; the database and the admin API run elsewhere and can't hold it up.
struct Signalling {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
}

impl Signalling {
    fn start() -> std::io::Result<Signalling> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        std::thread::Builder::new().name("signalling".to_owned()).spawn(move || {
            // An error means that the gateway is gone without a word: the thread ends all the same.
            let _ = runtime.block_on(stopped);
            // Connections may be writing their last bytes in blocking calls of the kernel; they are not waited for.
            runtime.shutdown_background();
        })?;
        Ok(Signalling { handle, stop: Some(stop) })
    }
}

impl Drop for Signalling {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }
}

async fn exchange(
    settings: &Arc<Settings>,
    directory: Directory,
    dialplan: Dialplan,
    store: &Store,
    marks: Marks,
) -> Exchange {
    let now = Now::read();
    let mut registrar = Registrar::new(settings.registrar_settings());
    match store.registrations(now.unix_ms).await {
        Ok(stored) => registrar.restore(now, stored),
        Err(error) => {
            tracing::warn!(target: "tandem::access", %error, "registrations of the last run are not known")
        }
    }
    let timers =
        Timers { t1: settings.sip.t1, t2: settings.sip.t2, t4: settings.sip.t4, ..Timers::default() };
    let mut secret = [0; 32];
    random(&mut secret);
    let parts = Parts {
        settings: settings.clone(),
        directory: Arc::new(directory),
        dialplan: Arc::new(dialplan),
        transactions: TransactionLayer::new(timers, marks),
        challenger: Challenger::new(secret, &settings.sip.realm, settings.guard.nonce_lifetime)
            .with_algorithms(&settings.sip.digest),
        registrar,
        login_guard: LoginGuard::new(settings.guard_settings()),
        flood_guard: FloodGuard::new(settings.flood_settings()),
        random: Box::new(random),
    };
    Exchange::new(parts, now)
}

/// Octets of the operating system's generator. Without it there are no keys and no nonces: better no gateway.
fn random(octets: &mut [u8]) {
    if rustls::crypto::ring::default_provider().secure_random.fill(octets).is_err() {
        std::process::abort();
    }
}
