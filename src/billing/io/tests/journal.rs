//! Admission, acknowledgement, recovery.

use super::{disk::Disk, *};
use crate::{
    billing::{
        CdrState, Refusal,
        io::{JournalError, journal::lock},
        record::{RecordKind, SEGMENT_HEADER, Scan},
    },
    types::EndCause,
};
use std::sync::{Arc, Mutex};

#[test]
fn a_ticket_is_answered_once_its_record_and_all_before_it_are_durable() {
    let directory = Directory::new();
    let opened = open(&directory);
    for n in 0..50 {
        opened.journal.append(JournalRecord::Start(cdr(n)), (n % 2 == 0).then_some(u64::from(n)));
    }
    let tickets: Vec<_> = (0..25).map(|_| opened.next_event()).collect();
    let expected: Vec<_> = (0..25).map(|n| JournalEvent::Durable { ticket: n * 2 }).collect();
    assert_eq!(tickets, expected);
    let image = directory.image();
    assert!(open(&image).closed.iter().map(|cdr| cdr.id).filter(|id| *id != call(49)).eq((0..49).map(call)));
}

#[test]
fn calls_number_from_one_without_gaps_and_each_run_has_its_own() {
    let directory = Directory::new();
    let first = open(&directory);
    for n in 0..3 {
        first.write(JournalRecord::Start(cdr(n)));
        first.write(JournalRecord::End(cdr(n)));
    }
    drop(first);
    let second = open(&directory);
    second.write(JournalRecord::End(cdr(3)));
    let ended = records(&directory, RecordKind::End);
    assert_eq!(ended.iter().map(|cdr| cdr.seq).collect::<Vec<_>>(), [1, 2, 3, 1]);
    assert!(ended[0].boot == ended[2].boot && ended[2].boot < ended[3].boot);
    assert!(ended.iter().all(|cdr| cdr.node == "gw1" && cdr.state == CdrState::Final));
    assert_eq!(ended.iter().map(|cdr| cdr.revision).collect::<Vec<_>>(), [2, 4, 6, 7]);
}

#[test]
fn calls_open_at_a_kill_are_closed_at_their_last_media_and_only_once() {
    let directory = Directory::new();
    let opened = open(&directory);
    opened.write(JournalRecord::Start(cdr(1)));
    opened.write(JournalRecord::Answer(answered(1)));
    opened.write(JournalRecord::Start(cdr(2)));
    opened.write(JournalRecord::End(answered(2)));
    let mut mark = opened.journal.last_media().slot(call(1)).unwrap();
    mark.mark(1_700_000_061_020);
    let image = directory.image();

    let mut rated = Vec::new();
    let (journal, recovery) = Journal::open(options(&image), |cdr| rated.push(cdr.id), |_| {}).unwrap();
    assert_eq!(rated, [call(1)]);
    let cdr = &recovery.closed[0];
    assert_eq!((cdr.state, cdr.end_cause), (CdrState::Recovered, Some(EndCause::GatewayCrashed)));
    assert_eq!((cdr.duration_ms, cdr.released_at), (60_020, Some(1_700_000_061_020)));
    assert_eq!(cdr.seq, 1, "the call keeps the number under which it began");
    drop(journal);
    let again = open(&image);
    assert!(again.closed.is_empty());
    assert_eq!(records(&image, RecordKind::End).iter().filter(|cdr| cdr.id == call(1)).count(), 1);
}

#[test]
fn a_kill_during_recovery_changes_nothing() {
    let directory = Directory::new();
    let opened = open(&directory);
    opened.write(JournalRecord::Answer(answered(1)));
    opened.journal.last_media().slot(call(1)).unwrap().mark(1_700_000_003_000);
    let image = directory.image();
    // The second recovery dies before it can write its end: nothing it did may be missed by the third.
    let disk = Disk::default();
    disk.fail_syncs(u32::MAX);
    let failed = Journal::open_on(Box::new(disk), options(&image), crate::types::Now::read(), |_| {}, |_| {});
    assert!(matches!(failed, Err(JournalError::Io(..))));
    let recovered = open(&image);
    assert_eq!(recovered.closed[0].duration_ms, 2_000);
}

#[test]
fn the_slot_of_an_ended_call_dates_no_other_call() {
    let directory = Directory::new();
    let opened = open(&directory);
    let mut late = opened.journal.last_media().slot(call(1)).unwrap();
    opened.write(JournalRecord::End(answered(1)));
    opened.write(JournalRecord::Answer(answered(2)));
    opened.journal.last_media().slot(call(2)).unwrap().mark(1_700_000_002_000);
    late.mark(1_700_000_099_000);
    let closed = open(&directory.image()).closed;
    assert_eq!((closed.len(), closed[0].duration_ms), (1, 1_000));
}

#[test]
fn a_call_released_before_its_end_is_durable_loses_nothing() {
    let directory = Directory::new();
    let disk = Disk::default();
    let opened = open_with(options(&directory), Box::new(disk.clone()));
    opened.journal.reserve(call(1)).unwrap();
    opened.write(JournalRecord::Answer(answered(1)));
    opened.journal.last_media().slot(call(1)).unwrap().mark(1_700_000_009_000);
    let image = Arc::new(Mutex::new(None));
    let (place, path) = (image.clone(), directory.0.clone());
    disk.before_sync(move |_| {
        let borrowed = std::mem::ManuallyDrop::new(Directory(path.clone()));
        place.lock().unwrap().get_or_insert_with(|| {
            let image = borrowed.image();
            // The end is written here; a power cut would have taken it.
            let segment = image.segments().pop().unwrap();
            let mut bytes = std::fs::read(&segment).unwrap();
            let first = Scan::new(&bytes[SEGMENT_HEADER..]).next().unwrap();
            let end = SEGMENT_HEADER + first.end;
            bytes[end..].fill(0);
            std::fs::write(segment, bytes).unwrap();
            image
        });
    });
    opened.journal.append(JournalRecord::End(answered(1)), Some(1));
    opened.journal.release(call(1));
    assert_eq!(opened.next_event(), JournalEvent::Durable { ticket: 1 });
    assert_eq!(records(&directory, RecordKind::End)[0].seq, 1, "the call keeps its number");
    let image = image.lock().unwrap().take().unwrap();
    assert_eq!(open(&image).closed[0].duration_ms, 8_000);
    opened.journal.reserve(call(2)).unwrap();
    opened.journal.release(call(2));
    until(|| !lock(&opened.journal.shared().space).knows(call(2)));
}

#[test]
fn setting_the_clock_forward_does_not_lengthen_a_crashed_call() {
    let directory = Directory::new();
    let opened = open(&directory);
    let now = crate::types::Now::read().unix_ms;
    let mut cdr = cdr(1);
    cdr.started_at = now;
    cdr.answered_at = Some(now);
    opened.write(JournalRecord::Answer(cdr));
    opened.journal.last_media().slot(call(1)).unwrap().mark(now + 3_600_000);
    let closed = open(&directory.image()).closed;
    assert!(closed[0].duration_ms < 60_000, "{}", closed[0].duration_ms);
}

#[test]
fn the_table_grows_beyond_one_file() {
    let directory = Directory::new();
    let opened = open(&directory);
    let marks: Vec<_> = (0..5_000).map(|n| opened.journal.last_media().slot(call(n)).unwrap()).collect();
    opened.write(JournalRecord::Answer(answered(4_999)));
    for mut mark in marks {
        mark.mark(1_700_000_001_500);
    }
    assert_eq!(open(&directory.image()).closed[0].duration_ms, 500);
}

#[test]
fn one_failed_sync_leaves_the_segment_for_another_and_nobody_notices() {
    let directory = Directory::new();
    let disk = Disk::default();
    let opened = open_with(options(&directory), Box::new(disk.clone()));
    opened.write(JournalRecord::Start(cdr(1)));
    let before = directory.segments();
    disk.fail_syncs(1);
    opened.write(JournalRecord::Answer(answered(1)));
    assert!(opened.journal.healthy());
    assert!(directory.segments().last() > before.last(), "another segment");
    let image = directory.image();
    assert_eq!(open(&image).closed[0].answered_at, Some(1_700_000_001_000));
}

#[test]
fn a_batch_longer_than_a_segment_fails_and_succeeds_as_a_whole() {
    let directory = Directory::new();
    let disk = Disk::default();
    let opened = open_with(options(&directory), Box::new(disk.clone()));
    // While this sync hangs the next batch grows over several segments; its second sync then fails.
    disk.hang(true);
    opened.journal.append(JournalRecord::Start(cdr(0)), Some(0));
    for n in 1..=300 {
        opened.journal.append(JournalRecord::Answer(answered(n)), (n == 300).then_some(300));
    }
    disk.fail_sync_after(2);
    disk.hang(false);
    assert_eq!(opened.next_event(), JournalEvent::Durable { ticket: 0 });
    assert_eq!(opened.next_event(), JournalEvent::Durable { ticket: 300 });
    let closed = open(&directory.image()).closed;
    assert!(closed.iter().map(|cdr| cdr.id).eq((0..=300).map(call)));
    drop(opened);
    assert_eq!(open(&directory).closed.len(), 301, "and no segment is missing later");
}

#[test]
fn two_failed_syncs_fail_the_ticket_and_the_record_is_still_written_later() {
    let directory = Directory::new();
    let disk = Disk::default();
    let opened = open_with(options(&directory), Box::new(disk.clone()));
    opened.journal.reserve(call(1)).unwrap();
    disk.fail_syncs(2);
    opened.journal.append(JournalRecord::Start(cdr(1)), Some(7));
    assert_eq!(opened.next_event(), JournalEvent::Broken);
    assert_eq!(opened.next_event(), JournalEvent::Failed { ticket: 7 });
    assert_eq!(opened.next_event(), JournalEvent::Recovered);
    assert!(opened.journal.healthy());
    opened.journal.reserve(call(2)).unwrap();
    drop(opened);
    assert_eq!(records(&directory, RecordKind::Start).len(), 1);
}

#[test]
fn while_nothing_can_be_written_new_calls_are_refused() {
    let directory = Directory::new();
    let disk = Disk::default();
    let opened = open_with(options(&directory), Box::new(disk.clone()));
    disk.fail_syncs(u32::MAX);
    opened.journal.append(JournalRecord::Start(cdr(1)), None);
    assert_eq!(opened.next_event(), JournalEvent::Broken);
    assert_eq!(opened.journal.reserve(call(2)), Err(Refusal::Failed));
    assert!(!opened.journal.healthy());
    opened.journal.append(JournalRecord::End(cdr(1)), Some(1));
    assert_eq!(opened.next_event(), JournalEvent::Failed { ticket: 1 });
    disk.fail_syncs(0);
    assert_eq!(opened.next_event(), JournalEvent::Recovered);
    opened.journal.reserve(call(2)).unwrap();
    drop(opened);
    assert_eq!(records(&directory, RecordKind::End).len(), 1, "nothing was lost");
    assert!(directory.segments().len() < 5, "abandoned segments without records are removed");
}

#[test]
fn a_hanging_sync_refuses_new_calls_until_it_returns() {
    let directory = Directory::new();
    let disk = Disk::default();
    let limit = Duration::from_millis(20);
    let options = JournalOptions { stall_after: limit, ..options(&directory) };
    let opened = open_with(options, Box::new(disk.clone()));
    disk.hang(true);
    opened.journal.append(JournalRecord::Start(cdr(1)), Some(1));
    assert_eq!(opened.next_event(), JournalEvent::Stalled);
    assert_eq!(opened.journal.reserve(call(2)), Err(Refusal::Stalled));
    assert!(!opened.journal.healthy());
    disk.hang(false);
    let mut events = [opened.next_event(), opened.next_event()];
    events.sort_by_key(|event| matches!(event, JournalEvent::Recovered));
    assert_eq!(events, [JournalEvent::Durable { ticket: 1 }, JournalEvent::Recovered]);
    opened.journal.reserve(call(2)).unwrap();
}

#[test]
fn a_full_journal_refuses_new_calls_and_ends_the_running_ones() {
    let directory = Directory::new();
    let opened = open(&directory);
    let mut admitted = Vec::new();
    // Nothing ships, so room ends however long the keeper is given.
    for n in 0.. {
        match opened.journal.reserve(call(n)) {
            Ok(()) => admitted.push(n),
            Err(Refusal::JournalFull) if admitted.len() > 30 => break,
            Err(Refusal::JournalFull) => std::thread::yield_now(),
            Err(other) => panic!("{other}"),
        }
    }
    for n in &admitted {
        opened.journal.append(JournalRecord::Start(cdr(*n)), None);
        opened.journal.append(JournalRecord::Answer(answered(*n)), None);
        opened.journal.append(JournalRecord::End(answered(*n)), Some(u64::from(*n)));
    }
    for n in &admitted {
        assert_eq!(opened.next_event(), JournalEvent::Durable { ticket: u64::from(*n) });
    }
}

#[test]
fn a_disk_without_room_for_a_segment_refuses_calls_instead_of_failing_them() {
    let directory = Directory::new();
    let disk = Disk::default();
    let opened = open_with(options(&directory), Box::new(disk.clone()));
    disk.fail_creating(true);
    let admitted: Vec<_> = (0..1_000).take_while(|n| opened.journal.reserve(call(*n)).is_ok()).collect();
    assert!((5..20).contains(&admitted.len()), "{}", admitted.len());
    for n in &admitted {
        for record in [JournalRecord::Start(cdr(*n)), JournalRecord::Answer(answered(*n))] {
            opened.write(record);
        }
        opened.write(JournalRecord::End(answered(*n)));
    }
}

#[test]
fn a_record_always_fits_what_was_reserved_for_it() {
    let directory = Directory::new();
    let opened = open(&directory);
    opened.journal.reserve(call(1)).unwrap();
    let mut big = answered(1);
    big.called.dialled = "\u{1}".repeat(10_000);
    big.caller.user = Some("é".repeat(10_000));
    for index in 1..=200 {
        let leg = crate::billing::CdrLeg {
            index,
            chosen: index == 150,
            target: "9".repeat(300),
            ..Default::default()
        };
        big.legs.push(leg);
    }
    opened.write(JournalRecord::End(big));
    let cdr = records(&directory, RecordKind::End).remove(0);
    assert!(cdr.legs.iter().any(|leg| leg.chosen));
    assert_eq!(cdr.legs.len() + usize::from(cdr.legs_omitted), 200);
}

#[test]
fn two_gateways_cannot_share_a_journal() {
    let directory = Directory::new();
    let _first = open(&directory);
    let second = Journal::open(options(&directory), |_| {}, |_| {});
    assert!(matches!(second, Err(JournalError::InUse(_))));
}

#[test]
fn a_directory_that_cannot_be_made_is_an_error_that_names_it() {
    let error =
        Journal::open(JournalOptions::new("/proc/none/journal", "gw1"), |_| {}, |_| {}).err().unwrap();
    assert!(error.to_string().contains("/proc/none/journal"), "{error}");
}

/// All records of one kind, in order.
fn records(directory: &Directory, kind: RecordKind) -> Vec<Cdr> {
    let mut found = Vec::new();
    for path in directory.segments() {
        let bytes = std::fs::read(path).unwrap();
        let scan = Scan::new(&bytes[SEGMENT_HEADER..]);
        found.extend(scan.filter(|record| record.header.kind == kind).map(|record| record.cdr().unwrap()));
    }
    found
}
