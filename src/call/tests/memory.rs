//! What calls that are up and do nothing keep in memory, counted to the byte.

use super::world::*;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Counts what each thread holds.
struct Counting;

thread_local! {
    static HELD: Cell<i64> = const { Cell::new(0) };
}

fn held() -> i64 {
    HELD.with(Cell::get)
}

fn count(bytes: i64) {
    // A thread that ends frees memory when its variables are gone already: nobody asks for that.
    let _ = HELD.try_with(|held| held.set(held.get() + bytes));
}

// SAFETY: every call is handed to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as i64 - layout.size() as i64);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static GLOBAL: Counting = Counting;

/// What is freed at the end of an exchange that has so many calls between two trunks.
fn kept_by(calls: usize) -> i64 {
    let mut w = World::new();
    for _ in 0..calls {
        let mut caller = w.call_in(A, "+31201234567");
        let callee = w.invited(B);
        w.reply(&callee, 180);
        w.reply_with(&callee, 200, ANSWER);
        w.ack(&mut caller);
        w.heard(A);
        w.heard(B);
    }
    w.pass(secs(10));
    assert_eq!(w.exchange.calls().count(), calls);
    // What those around it keep is theirs; what they share with the exchange is the exchange's.
    w.trace = Vec::new();
    w.events = Vec::new();
    w.journal.written = Vec::new();
    w.media.legs.clear();
    let before = held();
    drop(w);
    before - held()
}

#[test]
fn a_held_call_keeps_little_of_what_it_took_to_set_up() {
    let calls = 50;
    let each = (kept_by(calls) - kept_by(0)) / calls as i64;
    println!("a held call keeps {each} bytes");
    // Both INVITE transactions and half-empty tables included; media, journal and allocator are not.
    assert!(each < 11_000, "{each} bytes");
}
