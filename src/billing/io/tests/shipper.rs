//! From the journal to a database that comes and goes.

use super::*;
use crate::billing::{
    CdrSink, CdrState, SinkError,
    io::{Shipper, ShipperOptions},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};
use tokio::sync::watch;

/// A database of the test's own.
#[derive(Clone, Default)]
struct Table(Arc<Mutex<TableState>>);

#[derive(Default)]
struct TableState {
    rows: HashMap<CallId, Cdr>,
    batches: Vec<usize>,
    down_for: u32,
    refuses: Option<CallId>,
    attempts: u32,
}

impl CdrSink for Table {
    async fn store(&self, batch: &[Cdr]) -> Result<(), SinkError> {
        let mut state = self.0.lock().unwrap();
        state.attempts += 1;
        if state.down_for > 0 {
            state.down_for -= 1;
            return Err(SinkError::Unavailable("down".into()));
        }
        if batch.iter().any(|cdr| Some(cdr.id) == state.refuses) {
            return Err(SinkError::Refused("no".into()));
        }
        state.batches.push(batch.len());
        for cdr in batch {
            let newer = state.rows.get(&cdr.id).is_none_or(|row| row.revision < cdr.revision);
            if newer {
                state.rows.insert(cdr.id, cdr.clone());
            }
        }
        Ok(())
    }
}

fn quick() -> ShipperOptions {
    ShipperOptions {
        gather: Duration::ZERO,
        batch: 20,
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(2),
        farewell: PATIENCE,
    }
}

/// Ships until the journal is empty or given up on.
fn ship(journal: &Journal, table: &Table) {
    ship_with(journal, table, quick());
}

fn ship_with(journal: &Journal, table: &Table, options: ShipperOptions) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (stop, stopped) = watch::channel(true);
    runtime.block_on(Shipper::new(journal.clone(), table.clone(), options).run(stopped));
    drop(stop);
}

fn run_calls(opened: &Opened, calls: std::ops::Range<u32>) {
    let last = calls.end - 1;
    for n in calls {
        opened.journal.append(JournalRecord::Start(cdr(n)), None);
        opened.journal.append(JournalRecord::Answer(answered(n)), None);
        opened.journal.append(JournalRecord::End(answered(n)), (n == last).then_some(1));
    }
    assert_eq!(opened.next_event(), JournalEvent::Durable { ticket: 1 });
}

#[test]
fn every_call_arrives_once_and_its_newest_state_counts() {
    let directory = Directory::new();
    let opened = open(&directory);
    let table = Table::default();
    run_calls(&opened, 0..100);
    assert_eq!(opened.journal.status().records, 300);
    ship(&opened.journal, &table);
    let state = table.0.lock().unwrap();
    assert_eq!(state.rows.len(), 100);
    assert!(state.rows.values().all(|row| row.state == CdrState::Final));
    assert!(state.batches.iter().all(|size| *size <= 20));
    let status = opened.journal.status();
    assert_eq!((status.records, status.age_ms, status.stored_total), (0, 0, 100));
}

#[test]
fn a_database_that_is_down_is_caught_up_later() {
    let directory = Directory::new();
    let opened = open(&directory);
    let table = Table::default();
    table.0.lock().unwrap().down_for = 5;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (stop, stopped) = watch::channel(false);
    let shipper = Shipper::new(opened.journal.clone(), table.clone(), quick());
    let thread = std::thread::spawn(move || runtime.block_on(shipper.run(stopped)));
    run_calls(&opened, 0..30);
    until(|| opened.journal.status().stored_total == 30);
    // Rings without being asked again.
    run_calls(&opened, 30..40);
    until(|| table.0.lock().unwrap().rows.len() == 40);
    stop.send(true).unwrap();
    thread.join().unwrap();
    assert_eq!(table.0.lock().unwrap().down_for, 0);
}

/// A database whose gateway never rests: while it takes its first batch, another call ends.
struct Busy {
    table: Table,
    journal: Journal,
}

impl CdrSink for Busy {
    async fn store(&self, batch: &[Cdr]) -> Result<(), SinkError> {
        let first = self.table.0.lock().unwrap().batches.is_empty();
        self.table.store(batch).await?;
        if first {
            let before = self.journal.status().records;
            self.journal.append(JournalRecord::Start(cdr(2)), None);
            self.journal.append(JournalRecord::End(answered(2)), None);
            until(|| self.journal.status().records == before + 2);
        }
        Ok(())
    }
}

#[test]
fn a_busy_gateway_gathers_its_records_too() {
    let directory = Directory::new();
    let opened = open(&directory);
    let table = Table::default();
    run_calls(&opened, 1..2);
    let sink = Busy { table: table.clone(), journal: opened.journal.clone() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (stop, stopped) = watch::channel(false);
    let options = ShipperOptions { gather: PATIENCE, ..quick() };
    let shipper = Shipper::new(opened.journal.clone(), sink, options);
    let thread = std::thread::spawn(move || runtime.block_on(shipper.run(stopped)));
    until(|| opened.journal.status().stored_total == 1);
    run_calls(&opened, 3..4);
    stop.send(true).unwrap();
    thread.join().unwrap();
    assert_eq!(table.0.lock().unwrap().batches, [1, 2], "the second call waited for the third");
}

#[test]
fn what_a_stopped_shipper_left_is_shipped_by_the_next_run_without_twins() {
    let directory = Directory::new();
    let opened = open(&directory);
    let table = Table::default();
    run_calls(&opened, 0..40);
    table.0.lock().unwrap().down_for = u32::MAX;
    ship_with(&opened.journal, &table, ShipperOptions { farewell: Duration::ZERO, ..quick() });
    assert_eq!(opened.journal.status().records, 120);
    table.0.lock().unwrap().down_for = 0;
    drop(opened);
    let again = open(&directory);
    ship(&again.journal, &table);
    ship(&again.journal, &table);
    let image = directory.image();
    drop(again);
    // A lost checkpoint ships again what is already there.
    std::fs::remove_file(image.0.join("checkpoint")).unwrap();
    ship(&open(&image).journal, &table);
    let state = table.0.lock().unwrap();
    assert_eq!(state.rows.len(), 40);
}

#[test]
fn calls_closed_by_recovery_replace_their_open_rows() {
    let directory = Directory::new();
    let opened = open(&directory);
    let table = Table::default();
    opened.write(JournalRecord::Answer(answered(1)));
    ship(&opened.journal, &table);
    assert_eq!(table.0.lock().unwrap().rows[&call(1)].state, CdrState::Open);
    let image = directory.image();
    let recovered = open(&image);
    ship(&recovered.journal, &table);
    assert_eq!(table.0.lock().unwrap().rows[&call(1)].state, CdrState::Recovered);
}

#[test]
fn segments_go_only_after_the_database_has_them_and_make_room() {
    let directory = Directory::new();
    let opened = open(&directory);
    let table = Table::default();
    for round in 0..40 {
        // Each round fills half a segment: without deleting, the journal would be full after a few.
        let calls = round * 100..round * 100 + 25;
        for n in calls.clone() {
            until(|| opened.journal.reserve(call(n)).is_ok());
        }
        run_calls(&opened, calls);
        ship(&opened.journal, &table);
    }
    until(|| directory.segments().len() <= 2);
    assert_eq!(table.0.lock().unwrap().rows.len(), 1_000);
}

#[test]
fn a_long_call_does_not_hold_up_the_journal() {
    let directory = Directory::new();
    let opened = open(&directory);
    let table = Table::default();
    opened.journal.reserve(call(9_999)).unwrap();
    opened.write(JournalRecord::Answer(answered(9_999)));
    for round in 0..40 {
        let calls = round * 100..round * 100 + 25;
        for n in calls.clone() {
            until(|| opened.journal.reserve(call(n)).is_ok());
        }
        run_calls(&opened, calls);
        ship(&opened.journal, &table);
    }
    let image = directory.image();
    let closed = open(&image).closed;
    assert_eq!(closed.iter().map(|cdr| cdr.id).collect::<Vec<_>>(), [call(9_999)]);
    opened.write(JournalRecord::End(answered(9_999)));
    ship(&opened.journal, &table);
    assert_eq!(table.0.lock().unwrap().rows[&call(9_999)].state, CdrState::Final);
}

#[test]
fn a_record_that_no_database_takes_is_set_aside_and_the_others_arrive() {
    let directory = Directory::new();
    let opened = open(&directory);
    let table = Table::default();
    table.0.lock().unwrap().refuses = Some(call(17));
    run_calls(&opened, 0..40);
    ship(&opened.journal, &table);
    assert_eq!(table.0.lock().unwrap().rows.len(), 39);
    let refused = std::fs::read_to_string(directory.0.join("refused.jsonl")).unwrap();
    assert!(refused.lines().all(|line| serde_json::from_str::<Cdr>(line).unwrap().id == call(17)));
    assert_eq!(opened.journal.status().refused_total as usize, refused.lines().count());
    // Its numbers stay whole as long as those of all others, and no longer.
    let number = cdr(17).called.number.unwrap().to_string();
    assert!(refused.contains(&number), "{refused}");
    let records = opened.journal.refused();
    let started = cdr(17).started_at;
    let hash = |_: &crate::types::E164| Some("k1:beef".to_owned());
    assert_eq!(records.shorten_numbers(started, hash).unwrap(), 0);
    assert_eq!(records.shorten_numbers(started + 1, hash).unwrap() as usize, refused.lines().count());
    let kept = std::fs::read_to_string(directory.0.join("refused.jsonl")).unwrap();
    assert!(!kept.contains(&number) && kept.contains("****") && kept.contains("k1:beef"), "{kept}");
    assert_eq!(records.shorten_numbers(started + 1, hash).unwrap(), 0);
    assert_eq!(opened.journal.status().records, 0);
}

/// Bursts of every size, syncs that fail once or twice, a database that comes and goes, all at once.
#[test]
fn whatever_goes_wrong_at_the_same_time_every_call_arrives_once() {
    for seed in 1..=6 {
        let directory = Directory::new();
        let disk = super::disk::Disk::default();
        let opened = open_with(options(&directory), Box::new(disk.clone()));
        let table = Table::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (stop, stopped) = watch::channel(false);
        let shipper = Shipper::new(opened.journal.clone(), table.clone(), quick());
        let thread = std::thread::spawn(move || runtime.block_on(shipper.run(stopped)));
        let mut random = super::power_cut::Random(seed);
        let mut next = 0;
        for round in 0..40 {
            let burst = random.next() % 25 + 1;
            disk.fail_syncs([0, 0, 0, 1, 2][random.next() as usize % 5]);
            table.0.lock().unwrap().down_for = random.next() as u32 % 3;
            let calls = next..next + burst as u32;
            next = calls.end;
            for n in calls.clone() {
                until(|| opened.journal.reserve(call(n)).is_ok());
            }
            for n in calls.clone() {
                opened.journal.append(JournalRecord::Start(cdr(n)), None);
            }
            for n in calls.clone() {
                opened.journal.append(JournalRecord::Answer(answered(n)), None);
                opened.journal.append(JournalRecord::Interim(answered(n)), None);
            }
            for n in calls {
                opened.journal.append(JournalRecord::End(answered(n)), None);
                opened.journal.release(call(n));
            }
            if round % 10 == 9 {
                until(|| table.0.lock().unwrap().rows.len() == next as usize);
            }
        }
        until(|| opened.journal.status().stored_total == u64::from(next));
        stop.send(true).unwrap();
        thread.join().unwrap();
        let state = table.0.lock().unwrap();
        assert!(state.rows.values().all(|row| row.state == CdrState::Final), "seed {seed}");
        let mut numbers: Vec<_> = state.rows.values().map(|row| row.seq).collect();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(1..=u64::from(next)), "seed {seed}");
        assert!(open(&directory.image()).closed.is_empty(), "seed {seed}");
    }
}

#[test]
fn the_age_of_the_oldest_waiting_record_is_known() {
    let directory = Directory::new();
    let opened = open(&directory);
    assert_eq!(opened.journal.status().age_ms, 0);
    run_calls(&opened, 0..1);
    let status = opened.journal.status();
    assert_eq!(status.records, 3);
    assert!(status.age_ms < 30_000);
}
