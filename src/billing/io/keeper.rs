//! The journal's housekeeping thread: files made ready, shipped ones deleted, a hanging disk noticed.

use crate::billing::record::JournalEvent;
use std::{
    io,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{
    journal::{Command, Shared, lock},
    recovery::SPARE_SUFFIX,
    space::Spare,
};

/// Deleting and preparing files can wait this long; a stall is noticed in a quarter of its own limit.
const TICK: Duration = Duration::from_millis(250);

pub(super) struct Keeper {
    shared: Arc<Shared>,
    stalled: bool,
    short: bool,
    age_at: Instant,
}

impl Keeper {
    pub fn new(shared: Arc<Shared>) -> Keeper {
        let age_at = Instant::now() + shared.options.segment_age;
        Keeper { shared, stalled: false, short: false, age_at }
    }

    pub fn run(mut self) {
        let tick = TICK.min(self.shared.options.stall_after / 4);
        while !self.shared.is_closing() {
            self.watch();
            self.sweep();
            if Instant::now() >= self.age_at {
                self.age_at = Instant::now() + self.shared.options.segment_age;
                self.shared.command(Command::Age);
            }
            let ready = self.make_ready();
            if let (Err(error), false) = (&ready, self.short) {
                tracing::warn!(%error, "no room for another journal segment");
            }
            self.short = ready.is_err();
            let woken = lock(&self.shared.keep.0);
            let waited = self.shared.keep.1.wait_timeout_while(woken, tick, |woken| !*woken);
            *waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0 = false;
        }
    }

    /// Prepares files until every promise and one whole segment beyond fit, or the journal has what it may have.
    pub fn make_ready(&self) -> io::Result<()> {
        while lock(&self.shared.space).wants_spare() {
            let spare = make_spare(&self.shared)?;
            lock(&self.shared.space).spares.push_back(spare);
        }
        Ok(())
    }

    fn watch(&mut self) {
        let stalled = self.shared.is_stalled();
        if stalled != self.stalled {
            self.stalled = stalled;
            if stalled {
                tracing::error!("the CDR journal's disk does not answer: new calls are refused");
                (self.shared.on_event)(JournalEvent::Stalled);
            } else {
                (self.shared.on_event)(JournalEvent::Recovered);
            }
        }
    }

    fn sweep(&self) {
        let (paths, holding_up) = {
            let mut space = lock(&self.shared.space);
            (space.take_deletable(), space.holding_up())
        };
        for path in paths {
            if let Err(error) = self.shared.files.remove(&path) {
                tracing::warn!(%error, path = %path.display(), "a shipped journal segment can't be removed");
            }
        }
        if !holding_up.is_empty() {
            let queued = {
                let queue = lock(&self.shared.queue);
                queue.commands.iter().any(|command| matches!(command, Command::Carry(_)))
            };
            if !queued {
                holding_up.into_iter().for_each(|call| self.shared.command(Command::Carry(call)));
            }
        }
    }
}

/// One empty file, with its blocks.
pub(super) fn make_spare(shared: &Shared) -> io::Result<Spare> {
    let name = format!("{:016}.{SPARE_SUFFIX}", shared.next_file.fetch_add(1, Ordering::Relaxed));
    let path = shared.options.directory.join(name);
    match shared.files.create(&path, shared.options.segment_bytes) {
        Ok(file) => Ok(Spare { path, file }),
        Err(error) => {
            // A part of a file on a full disk helps nobody.
            let _ = shared.files.remove(&path);
            Err(error)
        }
    }
}
