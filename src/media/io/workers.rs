//! The media threads as signalling sees them: starts them, gives each call one, hands orders over.

use super::command::{MediaCommand, MediaEvent, WorkerId};
use super::worker::{Heir, Worker, let_packets_gather};
use crate::media::load::LoadLimit;
use crate::media::stats::{MediaTotals, WorkerStats};
use crate::types::{CallId, LegId};
use mio::{Poll, Token, Waker};
use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

/// What wakes a worker for orders; all other tokens are its sockets'.
pub(super) const WAKER: Token = Token(usize::MAX);

/// Told on the worker's thread.
pub(super) type EventHandler = Arc<dyn Fn(MediaEvent) + Send + Sync>;

/// All media threads of the process.
pub struct MediaWorkers {
    workers: Vec<Handle>,
}

struct Handle {
    orders: Sender<MediaCommand>,
    waker: Arc<Waker>,
    /// Orders were left that the thread was not woken for.
    left: Cell<bool>,
    legs: Arc<AtomicUsize>,
    stats: Arc<WorkerStats>,
    thread: JoinHandle<()>,
}

impl MediaWorkers {
    /// Starts `count` threads (at least one), each of which may be busy up to `limit`. `events` is called on them and
    /// must not block.
    pub fn start(
        count: usize,
        limit: LoadLimit,
        events: impl Fn(MediaEvent) + Send + Sync + 'static,
    ) -> io::Result<MediaWorkers> {
        let events: EventHandler = Arc::new(events);
        let workers = (0..count.max(1)).map(|index| start(index, limit, events.clone()));
        Ok(MediaWorkers { workers: workers.collect::<io::Result<_>>()? })
    }

    /// The worker that has the fewest legs, of those that take calls. Ask once per call, when its first leg opens.
    pub fn assign(&self, _call: CallId) -> WorkerId {
        let burden = |worker: &Handle| (!worker.stats.admits(), worker.legs.load(Ordering::Relaxed));
        let least = self.workers.iter().enumerate().min_by_key(|(_, worker)| burden(worker));
        WorkerId(least.map_or(0, |(index, _)| index))
    }

    /// False while every worker has as much to do as it may.
    pub fn admits(&self) -> bool {
        self.workers.iter().any(|worker| worker.stats.admits())
    }

    /// Gives an order; it is dropped if the worker is unknown or has stopped.
    pub fn send(&self, worker: WorkerId, command: MediaCommand) {
        self.leave(worker, command);
        self.wake();
    }

    /// Gives an order that the worker may see only at the next [`wake`](Self::wake): waking a thread costs more than
    /// most orders do, and whoever gives several at once wakes it once.
    pub fn leave(&self, worker: WorkerId, command: MediaCommand) {
        let Some(worker) = self.workers.get(worker.0) else { return };
        if matches!(command, MediaCommand::OpenLeg { .. }) {
            worker.legs.fetch_add(1, Ordering::Relaxed);
        }
        if worker.orders.send(command).is_ok() {
            worker.left.set(true);
        }
    }

    /// Moves a leg from one worker to another, as it is. From here on its orders go to the other one, which carries them
    /// out once the leg is there. As orders that are left, it may begin only at the next [`wake`](Self::wake).
    pub fn leave_move(&self, leg: LegId, from: WorkerId, to: WorkerId) {
        let Some(heir) = self.workers.get(to.0).filter(|_| from != to && from.0 < self.workers.len()) else {
            return;
        };
        let heir = Heir { orders: heir.orders.clone(), waker: heir.waker.clone(), legs: heir.legs.clone() };
        self.leave(to, MediaCommand::AwaitLeg { leg });
        self.leave(from, MediaCommand::GiveLeg { leg, to: heir });
    }

    /// Wakes the workers for which orders were left.
    pub fn wake(&self) {
        for worker in self.workers.iter().filter(|worker| worker.left.replace(false)) {
            // Waking fails only where the worker is awake anyway.
            let _ = worker.waker.wake();
        }
    }

    /// Legs open now.
    pub fn legs(&self) -> usize {
        self.workers.iter().map(|worker| worker.legs.load(Ordering::Relaxed)).sum()
    }

    /// Totals since the start. Each leg's counts arrive within seconds, and all of them with its end.
    pub fn totals(&self) -> MediaTotals {
        let mut totals = MediaTotals::default();
        self.workers.iter().for_each(|worker| worker.stats.add_to(&mut totals));
        totals
    }

    /// Reads the same totals wherever it is taken.
    pub fn totals_reader(&self) -> impl Fn() -> MediaTotals + Send + Sync + 'static {
        let stats: Vec<_> = self.workers.iter().map(|worker| worker.stats.clone()).collect();
        move || {
            let mut totals = MediaTotals::default();
            stats.iter().for_each(|stats| stats.add_to(&mut totals));
            totals
        }
    }

    /// Stops all threads and waits for them. Legs still open are dropped without a report.
    pub fn shutdown(self) {
        for Handle { orders, waker, thread, .. } in self.workers {
            drop(orders);
            let _ = waker.wake();
            let _ = thread.join();
        }
    }
}

fn start(index: usize, limit: LoadLimit, events: EventHandler) -> io::Result<Handle> {
    let poll = Poll::new()?;
    let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
    #[allow(clippy::disallowed_methods, reason = "a few orders a call, from a shard that may never wait")]
    let (orders, inbox) = channel();
    let legs = Arc::new(AtomicUsize::new(0));
    let stats = Arc::new(WorkerStats::default());
    let worker = Worker::new(poll, inbox, events, limit, legs.clone(), stats.clone());
    let work = move || worker.run(let_packets_gather);
    let thread = std::thread::Builder::new().name(WorkerId(index).to_string()).spawn(work)?;
    Ok(Handle { orders, waker, left: Cell::new(false), legs, stats, thread })
}

#[cfg(test)]
mod tests;
