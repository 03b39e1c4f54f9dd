//! What the journal of a world was given to keep.

use super::World;
use crate::billing::{Cdr, JournalRecord, RecordKind};

impl World {
    /// End records written so far.
    pub fn ends(&self) -> Vec<&Cdr> {
        self.records(RecordKind::End).collect()
    }

    /// What the first Answer record says: all that is known of a call whose gateway is killed then.
    pub fn answer_record(&self) -> &Cdr {
        self.records(RecordKind::Answer).next().expect("an Answer record")
    }

    fn records(&self, kind: RecordKind) -> impl Iterator<Item = &Cdr> {
        self.journal.written.iter().filter(move |(_, record)| record.kind() == kind).map(|(_, record)| {
            match record {
                JournalRecord::Start(cdr)
                | JournalRecord::Answer(cdr)
                | JournalRecord::Interim(cdr)
                | JournalRecord::End(cdr) => &**cdr,
            }
        })
    }

    /// Kinds of records written so far.
    pub fn record_names(&self) -> Vec<&'static str> {
        self.journal
            .written
            .iter()
            .map(|(_, record)| match record {
                JournalRecord::Start(_) => "start",
                JournalRecord::Answer(_) => "answer",
                JournalRecord::Interim(_) => "interim",
                JournalRecord::End(_) => "end",
            })
            .collect()
    }

    /// The end of the only call so far.
    pub fn end(&self) -> Cdr {
        let ends = self.ends();
        assert_eq!(ends.len(), 1, "one End record for one call");
        ends[0].clone()
    }
}
