//! Call records, prices and the journal that never loses them.
