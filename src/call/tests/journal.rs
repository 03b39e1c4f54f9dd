//! The journal and the call: nothing is told before it is on disk, and what becomes of calls when the disk fails.

use super::world::*;
use crate::billing::JournalRecord;
use crate::sip::message::Method;
use crate::types::EndCause;

#[test]
fn the_answer_is_acknowledged_and_passed_on_once_it_is_on_disk() {
    let mut w = World::new();
    w.journal.answer = Verdict::Durable(ms(700));
    let mut alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    w.reply(&callee, 180);
    w.reply_with(&callee, 200, ANSWER);
    w.pass(ms(500));
    // The callee repeats its 200, and a fork adds one of its own: they wait as well.
    w.reply_with(&callee, 200, ANSWER);
    assert_eq!((w.heard(ALICE), w.heard(A)), (vec!["180".to_owned()], vec![]));
    w.pass(ms(200));
    assert_eq!((w.heard(A), w.heard(ALICE)), (vec!["ACK".to_owned()], vec!["200".to_owned()]));
    let answer = w.last_response(ALICE, 200);
    let ack = alice.ack(&answer);
    w.send(alice.at, &ack);
    w.hang_up(&mut alice, &callee);
    let cdr = w.finish();
    assert_eq!(cdr.duration_ms, 700, "the call is answered when the trunk says so");
}

#[test]
fn a_journal_without_room_lets_nothing_ring() {
    let mut w = World::new();
    w.journal.has_room = false;
    let alice = w.dial("alice", "0470123456");
    let answer = w.refused(&alice, 500);
    assert_eq!(answer.headers.get(&crate::sip::message::HeaderName::RetryAfter), Some("30"));
    assert!(w.heard(A).is_empty());
    assert_eq!(w.finish().end_cause, Some(EndCause::JournalFailed));
}

#[test]
fn an_answer_that_can_not_be_kept_is_hung_up() {
    let mut w = World::new();
    w.journal.answer = Verdict::Fails;
    let alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    w.reply_with(&callee, 200, ANSWER);
    assert_eq!(w.heard(A), ["ACK", "BYE"]);
    w.refused(&alice, 500);
    w.ok(&callee, Method::Bye);
    assert_eq!(w.finish().end_cause, Some(EndCause::JournalFailed));
}

#[test]
fn an_end_that_can_not_be_kept_still_ends_the_call() {
    let mut w = World::new();
    let (mut alice, callee) = w.talking();
    w.journal.end = Verdict::Fails;
    w.hang_up(&mut alice, &callee);
    w.finish();

    let mut w = World::new();
    w.journal.end = Verdict::Fails;
    let alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    w.reply(&callee, 486);
    w.refused(&alice, 500);
    w.finish();
}

#[test]
fn a_broken_journal_ends_running_calls() {
    let mut w = World::new();
    let (alice, callee) = w.talking();
    w.exchange.hang_up_all(w.now, EndCause::JournalFailed);
    w.settle();
    w.ok(&alice, Method::Bye);
    w.ok(&callee, Method::Bye);
    assert_eq!(w.finish().end_cause, Some(EndCause::JournalFailed));
}

#[test]
fn a_running_call_leaves_a_sign_of_life_every_minute() {
    let mut w = World::new();
    let (mut alice, callee) = w.talking();
    w.pass(secs(125));
    w.hang_up(&mut alice, &callee);
    w.finish();
    assert_eq!(w.record_names(), ["start", "answer", "interim", "interim", "end"]);
    let durations: Vec<u64> = w
        .journal
        .written
        .iter()
        .filter_map(|(_, record)| match record {
            JournalRecord::Interim(cdr) => Some(cdr.duration_ms),
            JournalRecord::Start(_) | JournalRecord::Answer(_) | JournalRecord::End(_) => None,
        })
        .collect();
    assert_eq!(durations, [60_000, 120_000]);
}
