//! Requests that wait: those of a source in the order they came, the sources in turn (RFC 970).

use super::Line;
use std::collections::{HashMap, VecDeque};

/// Lines that are kept though nobody stands in them: what comes next finds its room.
const KEPT: usize = 64;

#[derive(Debug)]
pub struct Queue<T> {
    /// Each entry with its number in the order of all.
    lines: HashMap<Line, VecDeque<(u64, T)>>,
    /// Lines in which somebody waits, in the order they are served.
    turns: VecDeque<Line>,
    next: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Queue<T> {
        Queue { lines: HashMap::new(), turns: VecDeque::new(), next: 0 }
    }
}

impl<T> Queue<T> {
    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    pub fn push(&mut self, line: Line, entry: T) {
        let waiting = self.lines.entry(line).or_default();
        if waiting.is_empty() {
            self.turns.push_back(line);
        }
        waiting.push_back((self.next, entry));
        self.next += 1;
    }

    /// The first of the line whose turn it is.
    pub fn pop(&mut self) -> Option<T> {
        let line = self.turns.pop_front()?;
        let waiting = self.lines.get_mut(&line)?;
        let (_, entry) = waiting.pop_front()?;
        if !waiting.is_empty() {
            self.turns.push_back(line);
        } else if self.lines.len() > KEPT {
            self.lines.remove(&line);
        }
        Some(entry)
    }

    /// The line in which the last one waits that is meant.
    pub fn line_of_last(&self, is_meant: impl Fn(&T) -> bool) -> Option<Line> {
        let last = |line: &Line| {
            let waiting = self.lines.get(line)?;
            let (number, _) = waiting.iter().rev().find(|(_, entry)| is_meant(entry))?;
            Some((*number, *line))
        };
        self.turns.iter().filter_map(last).max_by_key(|(number, _)| *number).map(|(_, line)| line)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Key;
    use super::*;

    fn line(last: u8) -> Line {
        Line(Some(Key { place: std::net::IpAddr::from([192, 0, 2, last]).into(), stream: false }))
    }

    fn drain(queue: &mut Queue<u32>) -> Vec<u32> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn lines_are_served_in_turn_and_each_in_its_order() {
        let mut queue = Queue::default();
        for entry in 0..6 {
            queue.push(line(1), entry);
        }
        queue.push(Line::STRANGERS, 10);
        queue.push(line(2), 20);
        queue.push(line(2), 21);
        assert_eq!(drain(&mut queue), [0, 10, 20, 1, 21, 2, 3, 4, 5]);
        assert!(queue.is_empty());
        queue.push(line(2), 22);
        assert_eq!((drain(&mut queue), queue.is_empty()), (vec![22], true));
    }

    #[test]
    fn the_line_of_the_last_one_is_found_wherever_it_waits() {
        let mut queue = Queue::default();
        queue.push(line(1), 7);
        queue.push(line(2), 7);
        queue.push(line(1), 8);
        assert_eq!(queue.line_of_last(|entry| *entry == 7), Some(line(2)));
        assert_eq!(queue.line_of_last(|entry| *entry == 8), Some(line(1)));
        assert_eq!(queue.line_of_last(|entry| *entry == 9), None);
    }

    #[test]
    fn lines_that_are_empty_are_not_kept_without_bound() {
        let mut queue = Queue::default();
        for last in 0..=255 {
            queue.push(line(last), u32::from(last));
        }
        assert_eq!(drain(&mut queue).len(), 256);
        assert_eq!(queue.lines.len(), KEPT);
    }
}
