//! Power cuts: whatever the disk had not yet promised to keep is lost in pieces, and nothing else.

use super::{disk::Disk, *};
use crate::billing::record::{self, RecordHeader, RecordKind, SEGMENT_HEADER, Scan};
use proptest::prelude::*;
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

/// A small generator of its own, so that a seed means the same everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}

/// Copies the directory as a power cut leaves it: of what was written but not synced, each 512-byte sector is kept,
/// lost or garbled.
fn cut(directory: &Directory, unsynced: &[(PathBuf, u64, usize)], seed: u64) -> Directory {
    let image = directory.image();
    let mut random = Random(seed | 1);
    let segment = image.segments().pop().unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    for (_, offset, length) in unsynced {
        let (mut at, end) = (*offset as usize, *offset as usize + length);
        while at < end {
            let sector_end = ((at / 512 + 1) * 512).min(end);
            match random.next() % 4 {
                0 | 1 => {}
                2 => bytes[at..sector_end].fill(0),
                _ => bytes[at..sector_end].iter_mut().for_each(|byte| *byte = random.next() as u8),
            }
            at = sector_end;
        }
    }
    std::fs::write(segment, bytes).unwrap();
    image
}

#[test]
fn whatever_was_acknowledged_survives_a_power_cut() {
    for seed in 1..20 {
        let directory = Directory::new();
        let disk = Disk::default();
        let acknowledged = Arc::new(Mutex::new(BTreeSet::new()));
        let images = Arc::new(Mutex::new(Vec::new()));
        {
            let (acknowledged, images, path) = (acknowledged.clone(), images.clone(), directory.0.clone());
            let mut random = Random(seed);
            disk.before_sync(move |unsynced| {
                // Before the first record is acknowledged recovery has nothing to prove.
                let acknowledged = acknowledged.lock().unwrap();
                if random.next().is_multiple_of(3)
                    && !acknowledged.is_empty()
                    && images.lock().unwrap().len() < 4
                {
                    let borrowed = std::mem::ManuallyDrop::new(Directory(path.clone()));
                    images
                        .lock()
                        .unwrap()
                        .push((cut(&borrowed, unsynced, random.next()), acknowledged.clone()));
                }
            });
        }
        let noted = acknowledged.clone();
        let on_event = move |event| {
            if let JournalEvent::Durable { ticket } = event {
                noted.lock().unwrap().insert(ticket);
            }
        };
        let now = crate::types::Now::read();
        let (journal, _) =
            Journal::open_on(Box::new(disk), options(&directory), now, |_| {}, on_event).unwrap();
        for n in 0..60 {
            journal.append(JournalRecord::Answer(answered(n)), Some(u64::from(n)));
            if n % 7 == 0 {
                until(|| acknowledged.lock().unwrap().len() > n as usize / 2);
            }
        }
        drop(journal);
        for (image, acknowledged) in images.lock().unwrap().drain(..) {
            let recovered: BTreeSet<_> = open(&image).closed.iter().map(|cdr| cdr.id).collect();
            for ticket in acknowledged {
                assert!(
                    recovered.contains(&call(ticket as u32)),
                    "seed {seed}: call {ticket} was acknowledged"
                );
            }
        }
    }
}

fn segment(lengths: &[usize]) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = record::segment_header(1, 1).to_vec();
    let mut ends = Vec::new();
    for (n, length) in lengths.iter().enumerate() {
        let mut cdr = cdr(n as u32);
        cdr.called.dialled = "7".repeat(*length);
        let header =
            RecordHeader { sequence: n as u64 + 1, kind: RecordKind::Start, call: cdr.id, written_at: 1 };
        bytes.extend(record::encode(header, &mut cdr));
        ends.push(bytes.len());
    }
    (bytes, ends)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Records that end within the part that was written are found, whatever follows: nothing, zeros or garbage.
    #[test]
    fn any_prefix_gives_back_every_record_within_it(
        lengths in prop::collection::vec(0_usize..600, 1..12),
        cut in any::<prop::sample::Index>(),
        garbage in prop::collection::vec(any::<u8>(), 0..64),
        zeros in 0_usize..2_000,
    ) {
        let (bytes, ends) = segment(&lengths);
        let cut = SEGMENT_HEADER + cut.index(bytes.len() - SEGMENT_HEADER + 1);
        let mut damaged = bytes[..cut].to_vec();
        damaged.extend(&garbage);
        damaged.resize(damaged.len() + zeros, 0);
        let whole = ends.iter().filter(|end| **end <= cut).count();
        let found: Vec<_> = Scan::new(&damaged[SEGMENT_HEADER..]).collect();
        prop_assert!(found.len() >= whole);
        for (n, record) in found.iter().enumerate() {
            prop_assert_eq!(record.header.sequence, n as u64 + 1);
            prop_assert!(record.cdr().is_ok());
        }
    }

    /// A damaged record takes only itself along.
    #[test]
    fn a_flipped_byte_costs_one_record(
        lengths in prop::collection::vec(0_usize..600, 3..12),
        at in any::<prop::sample::Index>(),
        flip in 1_u8..=255,
    ) {
        let (mut bytes, ends) = segment(&lengths);
        let at = SEGMENT_HEADER + at.index(bytes.len() - SEGMENT_HEADER);
        bytes[at] ^= flip;
        let hit = ends.iter().position(|end| at < *end).unwrap() as u64 + 1;
        let sequences: Vec<_> = Scan::new(&bytes[SEGMENT_HEADER..]).map(|found| found.header.sequence).collect();
        for sequence in 1..=ends.len() as u64 {
            prop_assert!(sequence == hit || sequences.contains(&sequence), "{} lost, {} hit", sequence, hit);
        }
    }

    /// Nothing that is read can stop the gateway from starting.
    #[test]
    fn noise_is_no_record(noise in prop::collection::vec(any::<u8>(), 0..4_096)) {
        prop_assert_eq!(Scan::new(&noise).count(), 0);
    }
}

#[test]
fn a_torn_tail_is_cut_and_writing_goes_on_behind_it() {
    let directory = Directory::new();
    let opened = open(&directory);
    opened.write(JournalRecord::Answer(answered(1)));
    opened.write(JournalRecord::Answer(answered(2)));
    let image = directory.image();
    let path = image.segments().pop().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[end - 20] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let recovered = open(&image);
    assert_eq!((recovered.torn, recovered.damaged), (1, 0));
    assert_eq!(recovered.closed.iter().map(|cdr| cdr.id).collect::<Vec<_>>(), [call(1)]);
    assert!(std::fs::metadata(&path).unwrap().len() < end as u64);
    drop(recovered);
    let again = open(&image);
    assert_eq!((again.torn, again.closed.len()), (0, 0));
}

#[test]
fn damage_in_the_middle_is_counted_and_hides_nothing_behind_it() {
    let directory = Directory::new();
    let opened = open(&directory);
    for n in 1..=3 {
        opened.write(JournalRecord::Answer(answered(n)));
    }
    let image = directory.image();
    let path = image.segments().pop().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let second = Scan::new(&bytes[SEGMENT_HEADER..]).nth(1).unwrap().offset + SEGMENT_HEADER;
    bytes[second + 60] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let recovered = open(&image);
    assert_eq!((recovered.torn, recovered.damaged), (0, 1));
    assert_eq!(recovered.closed.iter().map(|cdr| cdr.id).collect::<Vec<_>>(), [call(1), call(3)]);
}
