//! Carries durable records from the journal to the database, as often as it takes, and remembers how far it came.

use crate::{
    billing::{
        cdr::Cdr,
        sink::{CdrSink, SinkError},
    },
    types::Now,
};
use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};
use tokio::sync::watch;

use super::{
    journal::Journal,
    reader::{Batch, Reader},
};

/// How records are carried.
#[derive(Debug, Clone, Copy)]
pub struct ShipperOptions {
    /// Records read at once. 500: bulk upserts are fastest from there on, and one batch is under 1 MB of memory.
    pub batch: usize,
    /// How long records are gathered before they are read. 250 ms: nobody looks for a CDR sooner, and the journal has
    /// it already.
    pub gather: Duration,
    /// First pause after the database was found away, doubled each time.
    pub first_pause: Duration,
    /// Longest pause: a database that comes back is used within this.
    pub longest_pause: Duration,
    /// At the end, how long the rest may take; what is left stays in the journal for the next start.
    pub farewell: Duration,
}

impl Default for ShipperOptions {
    fn default() -> ShipperOptions {
        ShipperOptions {
            batch: 500,
            gather: Duration::from_millis(250),
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(10),
            farewell: Duration::from_secs(5),
        }
    }
}

/// The way to one database.
pub struct Shipper<S> {
    journal: Journal,
    sink: S,
    options: ShipperOptions,
}

/// The time granted after `stop` is over; what is left waits in the journal.
struct TimeIsUp;

/// The wish to end, and how long the farewell may still take.
struct Stop {
    wish: watch::Receiver<bool>,
    farewell: Duration,
    leave_at: Option<Instant>,
}

impl Stop {
    fn is_wished(&self) -> bool {
        *self.wish.borrow() || self.wish.has_changed().is_err()
    }

    fn is_over(&mut self) -> bool {
        let farewell = self.farewell;
        self.is_wished() && Instant::now() >= *self.leave_at.get_or_insert_with(|| Instant::now() + farewell)
    }

    /// Returns once the end is wished.
    async fn wished(&mut self) {
        // An error means that nobody is left to wish for anything else.
        let _ = self.wish.wait_for(|stop| *stop).await;
    }
}

impl<S: CdrSink> Shipper<S> {
    pub fn new(journal: Journal, sink: S, options: ShipperOptions) -> Shipper<S> {
        Shipper { journal, sink, options }
    }

    /// Ships until `stop` becomes true (or its sender is gone), then what can be shipped in `farewell`.
    pub async fn run(self, stop: watch::Receiver<bool>) {
        let mut stop = Stop { wish: stop, farewell: self.options.farewell, leave_at: None };
        let mut reader = self.journal.reader();
        loop {
            let shippable = self.journal.shared().shippable.notified();
            let batch;
            (reader, batch) = self.read(reader, &mut stop).await;
            match batch {
                Some(batch) => {
                    if self.ship(batch, &mut stop).await.is_err() || stop.is_over() {
                        return;
                    }
                    // On a busy gateway something new has come meanwhile, but not enough for a transaction.
                    if self.journal.status().records < self.options.batch as u64 {
                        self.gather(&mut stop).await;
                    }
                }
                None if stop.is_wished() => return,
                None => {
                    tokio::select! {
                        () = shippable => self.gather(&mut stop).await,
                        () = stop.wished() => {}
                    }
                }
            }
        }
    }

    /// Lets more records come before the next transaction: a short call's start, answer and end become one row's one
    /// upsert, and a busy gateway commits a few times a second instead of once a record.
    async fn gather(&self, stop: &mut Stop) {
        tokio::select! {
            () = tokio::time::sleep(self.options.gather) => {}
            () = stop.wished() => {}
        }
    }

    /// File reading happens away from the tasks that serve callers: the disk may be slow.
    async fn read(&self, mut reader: Reader, stop: &mut Stop) -> (Reader, Option<Batch>) {
        let limit = self.options.batch;
        loop {
            let joined = tokio::task::spawn_blocking(move || {
                let batch = reader.read(limit);
                (reader, batch)
            });
            match joined.await {
                Ok((reader, Ok(batch))) => return (reader, batch),
                Ok((back, Err(error))) => {
                    tracing::error!(%error, "the CDR journal can't be read");
                    reader = back;
                }
                Err(error) => {
                    tracing::error!(%error, "reading the CDR journal stopped");
                    reader = self.journal.reader();
                }
            }
            if stop.is_over() {
                return (reader, None);
            }
            tokio::time::sleep(self.options.first_pause).await;
        }
    }

    async fn ship(&self, batch: Batch, stop: &mut Stop) -> Result<(), TimeIsUp> {
        for payload in &batch.unreadable {
            self.journal.refused().keep_unreadable(payload, Now::read().unix_ms);
        }
        // What the database refuses is halved until the one record it means stands alone.
        let mut parts = vec![batch.cdrs.as_slice()];
        while let Some(part) = parts.pop() {
            match self.store(part, stop).await? {
                Ok(()) => {
                    let ended = part.iter().filter(|cdr| cdr.state.is_ended()).count() as u64;
                    self.journal.shared().stored.fetch_add(ended, Ordering::Relaxed);
                }
                Err(reason) if part.len() == 1 => {
                    tracing::error!(call = %part[0].id, reason, "the database refuses a CDR: kept in refused.jsonl");
                    // It must not hold up all others.
                    let record = serde_json::to_vec(&part[0]).unwrap_or_default();
                    self.journal.refused().keep_cdr(&record);
                }
                Err(_) => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
            }
        }
        let journal = self.journal.clone();
        let sequence = batch.last_sequence;
        if tokio::task::spawn_blocking(move || journal.shared().set_shipped(sequence)).await.is_err() {
            tracing::error!("the journal's checkpoint was not moved");
        }
        Ok(())
    }

    /// Tries until the database has taken the part or refused it.
    async fn store(&self, part: &[Cdr], stop: &mut Stop) -> Result<Result<(), String>, TimeIsUp> {
        if part.is_empty() {
            return Ok(Ok(()));
        }
        let mut pause = self.options.first_pause;
        loop {
            match self.sink.store(part).await {
                Ok(()) => return Ok(Ok(())),
                Err(SinkError::Refused(reason)) => return Ok(Err(reason)),
                Err(SinkError::Unavailable(reason)) => {
                    tracing::warn!(reason, ?pause, "the database is away: CDRs wait in the journal");
                }
            }
            if stop.is_over() {
                return Err(TimeIsUp);
            } else if stop.is_wished() {
                tokio::time::sleep(self.options.first_pause).await;
            } else {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = stop.wished() => {}
                }
                pause = (pause * 2).min(self.options.longest_pause);
            }
        }
    }
}
