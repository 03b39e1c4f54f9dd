//! The media threads: each owns its legs, their sockets and their bridges, and shares nothing with the others.

use super::command::{MediaCommand, MediaEvent, WorkerId};
use crate::types::{CallId, LegId, LegReport};
use mio::{Events, Poll, Token, Waker};
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;

const WAKER: Token = Token(usize::MAX);

type EventHandler = Arc<dyn Fn(MediaEvent) + Send + Sync>;

/// All media threads of the process.
pub struct MediaWorkers {
    workers: Vec<WorkerHandle>,
}

struct WorkerHandle {
    commands: Sender<MediaCommand>,
    waker: Arc<Waker>,
    legs: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl MediaWorkers {
    /// Starts `count` threads (at least one). `events` is called on them and must not block.
    pub fn start(
        count: usize,
        events: impl Fn(MediaEvent) + Send + Sync + 'static,
    ) -> io::Result<MediaWorkers> {
        let events: EventHandler = Arc::new(events);
        let workers = (0..count.max(1)).map(|index| start_worker(index, events.clone()));
        Ok(MediaWorkers { workers: workers.collect::<io::Result<_>>()? })
    }

    /// The worker that has the fewest legs. Ask once per call, when its first leg opens.
    pub fn assign(&self, _call: CallId) -> WorkerId {
        let least = self.workers.iter().enumerate().min_by_key(|(_, w)| w.legs.load(Ordering::Relaxed));
        WorkerId(least.map_or(0, |(index, _)| index))
    }

    /// Gives an order; it is dropped if the worker is unknown or has stopped.
    pub fn send(&self, worker: WorkerId, command: MediaCommand) {
        let Some(worker) = self.workers.get(worker.0) else { return };
        if matches!(command, MediaCommand::OpenLeg { .. }) {
            worker.legs.fetch_add(1, Ordering::Relaxed);
        }
        if worker.commands.send(command).is_ok() {
            let _ = worker.waker.wake();
        }
    }

    /// Legs open now.
    pub fn legs(&self) -> usize {
        self.workers.iter().map(|worker| worker.legs.load(Ordering::Relaxed)).sum()
    }

    /// Stops all threads and waits for them. Legs still open are dropped without a report.
    pub fn shutdown(self) {
        for worker in self.workers {
            let WorkerHandle { commands, waker, thread, .. } = worker;
            drop(commands);
            let _ = waker.wake();
            if let Some(thread) = thread {
                let _ = thread.join();
            }
        }
    }
}

fn start_worker(index: usize, events: EventHandler) -> io::Result<WorkerHandle> {
    let poll = Poll::new()?;
    let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
    let (commands, inbox) = channel();
    let legs = Arc::new(AtomicUsize::new(0));
    let mut worker = Worker { poll, inbox, events, load: legs.clone(), legs: HashMap::new() };
    let thread = std::thread::Builder::new().name(format!("media-{index}")).spawn(move || worker.run())?;
    Ok(WorkerHandle { commands, waker, legs, thread: Some(thread) })
}

struct Worker {
    poll: Poll,
    inbox: Receiver<MediaCommand>,
    events: EventHandler,
    load: Arc<AtomicUsize>,
    legs: HashMap<LegId, super::ports::LegSockets>,
}

impl Worker {
    fn run(&mut self) {
        let mut ready = Events::with_capacity(1024);
        loop {
            if let Err(error) = self.poll.poll(&mut ready, None)
                && error.kind() != io::ErrorKind::Interrupted
            {
                return;
            }
            loop {
                match self.inbox.try_recv() {
                    Ok(command) => self.handle_command(command),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return,
                }
            }
        }
    }

    fn handle_command(&mut self, command: MediaCommand) {
        match command {
            MediaCommand::OpenLeg { leg, sockets, .. } => {
                self.legs.insert(leg, sockets);
            }
            MediaCommand::CloseLeg { leg } => {
                if let Some(sockets) = self.legs.remove(&leg) {
                    self.load.fetch_sub(1, Ordering::Relaxed);
                    (self.events)(MediaEvent::Closed { leg, report: LegReport::default(), sockets });
                }
            }
            MediaCommand::Report { leg, tag } => {
                if self.legs.contains_key(&leg) {
                    (self.events)(MediaEvent::Report { leg, tag, report: LegReport::default() });
                }
            }
            MediaCommand::ConfigureLeg { .. }
            | MediaCommand::Bridge { .. }
            | MediaCommand::Unbridge { .. }
            | MediaCommand::PlayTone { .. }
            | MediaCommand::StopTone { .. }
            | MediaCommand::SetTimeout { .. } => {}
        }
    }
}
