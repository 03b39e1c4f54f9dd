//! Reads TOML by name and place: every problem of a file in one go, each with its line and what to write instead.

use super::problem::{Problem, Severity};
use std::{
    cell::RefCell,
    collections::HashMap,
    ops::{Range, RangeInclusive},
    path::{Path, PathBuf},
};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

type Value<'t> = Spanned<DeValue<'t>>;

/// Where something stands in the text, in bytes.
pub type Span = Range<usize>;

/// A file being read: collects what is wrong and which keys exist.
pub struct Source {
    file: PathBuf,
    /// Byte offset of the first character of each line.
    lines: Vec<usize>,
    problems: RefCell<Vec<Problem>>,
    /// Every key that was asked for, as `section.key`; what the example file must show.
    known: RefCell<Vec<String>>,
    /// Where the file writes each key that was asked for.
    places: RefCell<KeyLines>,
}

/// Lines of keys, as `section.key`; of a section that stands several times the last.
pub type KeyLines = HashMap<String, usize>;

impl Source {
    pub fn new(file: &Path, text: &str) -> Source {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Source {
            file: file.to_owned(),
            lines,
            problems: RefCell::default(),
            known: RefCell::default(),
            places: RefCell::default(),
        }
    }

    /// Parses the text; syntax errors become problems and what could be read is given.
    pub fn parse<'t>(&self, text: &'t str) -> Spanned<DeTable<'t>> {
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            self.error(error.span().unwrap_or(0..0), format!("not TOML: {}", error.message()));
        }
        table
    }

    /// Line of a byte offset, counted from 1.
    pub fn line(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start <= offset)
    }

    /// The begin of a line, counted from 1.
    pub fn span_of_line(&self, line: usize) -> Span {
        let start = self.lines.get(line.saturating_sub(1)).copied().unwrap_or(0);
        start..start
    }

    pub fn error(&self, at: Span, message: impl Into<String>) {
        self.report(Severity::Error, at, message.into());
    }

    pub fn warning(&self, at: Span, message: impl Into<String>) {
        self.report(Severity::Warning, at, message.into());
    }

    fn report(&self, severity: Severity, at: Span, message: String) {
        let line = Some(self.line(at.start));
        self.problems.borrow_mut().push(Problem { severity, file: self.file.clone(), line, message });
    }

    /// All problems in the order of the file, all known keys, and where those stand that are written.
    pub fn finish(self) -> (Vec<Problem>, Vec<String>, KeyLines) {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| problem.line);
        let mut known = self.known.into_inner();
        known.sort();
        known.dedup();
        (problems, known, self.places.into_inner())
    }
}

/// One table of the file. Each key is asked for by name; [`finish`](Section::finish) reports those nobody asked for.
pub struct Section<'a> {
    pub source: &'a Source,
    /// As in a header: `sip`, `trunk`; empty at the top.
    name: String,
    table: Option<&'a DeTable<'a>>,
    span: Span,
    asked: RefCell<Vec<&'static str>>,
}

/// A value with its place.
#[derive(Debug, Clone)]
pub struct At<T> {
    pub value: T,
    pub span: Span,
}

impl<'a> Section<'a> {
    pub fn top(source: &'a Source, root: &'a Spanned<DeTable<'a>>) -> Section<'a> {
        Section {
            source,
            name: String::new(),
            table: Some(root.get_ref()),
            span: root.span(),
            asked: RefCell::default(),
        }
    }

    /// The place of the table's header.
    pub fn span(&self) -> Span {
        self.span.clone()
    }

    pub fn error(&self, at: Span, message: impl Into<String>) {
        self.source.error(at, message);
    }

    /// How a key is called in messages.
    fn path(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    fn get(&self, key: &'static str) -> Option<&'a Value<'a>> {
        self.asked.borrow_mut().push(key);
        let value = self.table?.get(key)?;
        let line = self.source.line(value.span().start);
        self.source.places.borrow_mut().insert(self.path(key), line);
        Some(value)
    }

    /// True where the file writes this key.
    pub fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    pub fn is_table(&self, key: &str) -> bool {
        self.table.and_then(|table| table.get(key)).is_some_and(|value| value.get_ref().is_table())
    }

    pub fn is_empty_list(&self, key: &str) -> bool {
        let value = self.table.and_then(|table| table.get(key));
        value.and_then(|value| value.get_ref().as_array()).is_some_and(|list| list.is_empty())
    }

    /// The place of a key's value, or of the section where the key is not written.
    pub fn place(&self, key: &str) -> Span {
        self.table.and_then(|table| table.get(key)).map_or(self.span(), Spanned::span)
    }

    /// A `[name]` table; where it is missing, all its keys are at their defaults.
    pub fn section(&self, key: &'static str) -> Section<'a> {
        let found = self.get(key);
        let table = found.and_then(|value| match value.get_ref() {
            DeValue::Table(table) => Some(table),
            other => {
                let path = self.path(key);
                self.error(value.span(), format!("{path} is {}; write a table: [{path}]", kind(other)));
                None
            }
        });
        let span = found.map_or(self.span(), Spanned::span);
        Section { source: self.source, name: self.path(key), table, span, asked: RefCell::default() }
    }

    /// All `[[name]]` tables, in order.
    pub fn sections(&self, key: &'static str) -> Vec<Section<'a>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let path = self.path(key);
        let wrong = |at: Span, what: &DeValue<'_>| {
            self.error(at, format!("{path} is {}; write [[{path}]] before each one", kind(what)));
        };
        let DeValue::Array(items) = value.get_ref() else {
            wrong(value.span(), value.get_ref());
            return Vec::new();
        };
        let mut sections = Vec::with_capacity(items.len());
        for item in items.iter() {
            match item.get_ref() {
                DeValue::Table(table) => sections.push(Section {
                    source: self.source,
                    name: path.clone(),
                    table: Some(table),
                    span: item.span(),
                    asked: RefCell::default(),
                }),
                other => wrong(item.span(), other),
            }
        }
        sections
    }

    /// A table whose keys are free, as texts by name, in the order of the file.
    pub fn entries(&self, key: &'static str) -> Vec<(At<String>, At<String>)> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let path = self.path(key);
        let DeValue::Table(table) = value.get_ref() else {
            self.error(
                value.span(),
                format!(
                    "{path} is {}; write a table, as {path} = {{ \"603\" = \"next\" }}",
                    kind(value.get_ref())
                ),
            );
            return Vec::new();
        };
        let mut entries: Vec<(At<String>, At<String>)> = table
            .iter()
            .filter_map(|(name, value)| {
                let name = At { span: name.span(), value: name.get_ref().to_string() };
                match value.get_ref() {
                    DeValue::String(text) => Some((name, At { span: value.span(), value: text.to_string() })),
                    other => {
                        let message = format!("{path}.\"{}\" is {}; write a text", name.value, kind(other));
                        self.error(value.span(), message);
                        None
                    }
                }
            })
            .collect();
        entries.sort_by_key(|(name, _)| name.span.start);
        entries
    }

    /// A text, or `None` where it is not written (or wrong, which is reported).
    pub fn text(&self, key: &'static str) -> Option<At<String>> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(At { value: text.to_string(), span: value.span() }),
            other => {
                let path = self.path(key);
                let instead = match other {
                    DeValue::Integer(number) => format!("write it in quotes: {key} = \"{number}\""),
                    DeValue::Boolean(flag) => format!("write it in quotes: {key} = \"{flag}\""),
                    DeValue::Array(_) => format!("write one text: {key} = \"…\""),
                    DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => {
                        format!("write a text: {key} = \"…\"")
                    }
                    DeValue::String(_) => String::new(),
                };
                self.error(value.span(), format!("{path} is {}; {instead}", kind(other)));
                None
            }
        }
    }

    pub fn text_or(&self, key: &'static str, default: String) -> String {
        self.text(key).map_or(default, |text| text.value)
    }

    /// A text that must be written and not be empty.
    pub fn required(&self, key: &'static str, example: &str) -> Option<At<String>> {
        let path = self.path(key);
        if !self.has(key) {
            self.get(key);
            self.error(self.span(), format!("{path} is missing; write {key} = {example}"));
            return None;
        }
        let text = self.text(key)?;
        if text.value.trim().is_empty() {
            self.error(text.span, format!("{path} is empty; write {key} = {example}"));
            return None;
        }
        Some(text)
    }

    /// A text that `parse` turns into a value; what it returns as an error says what to write instead.
    pub fn parsed<T>(&self, key: &'static str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let text = self.text(key)?;
        match parse(&text.value) {
            Ok(value) => Some(value),
            Err(message) => {
                self.error(text.span, format!("{}: {message}", self.path(key)));
                None
            }
        }
    }

    /// A list of texts, each parsed on its own; one text alone counts as a list of one.
    pub fn list<T>(
        &self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<At<T>>> {
        let value = self.get(key)?;
        let path = self.path(key);
        let items: Vec<&Value<'a>> = match value.get_ref() {
            DeValue::Array(items) => items.iter().collect(),
            DeValue::String(_) => vec![value],
            other => {
                self.error(value.span(), format!("{path} is {}; write a list: {key} = [\"…\"]", kind(other)));
                return None;
            }
        };
        let mut list = Vec::with_capacity(items.len());
        for item in items {
            match item.get_ref() {
                DeValue::String(text) => match parse(text) {
                    Ok(value) => list.push(At { value, span: item.span() }),
                    Err(message) => self.error(item.span(), format!("{path}: {message}")),
                },
                other => {
                    self.error(item.span(), format!("{path} holds {}; write texts in quotes", kind(other)));
                }
            }
        }
        Some(list)
    }

    /// As [`list`](Self::list), without the places.
    pub fn values<T>(
        &self,
        key: &'static str,
        default: Vec<T>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        match self.list(key, parse) {
            Some(list) => list.into_iter().map(|at| at.value).collect(),
            None => default,
        }
    }

    /// A list of whole numbers.
    pub fn numbers(&self, key: &'static str, range: RangeInclusive<i64>) -> Option<Vec<i64>> {
        let value = self.get(key)?;
        let path = self.path(key);
        let (low, high) = (range.start(), range.end());
        let DeValue::Array(items) = value.get_ref() else {
            let what = kind(value.get_ref());
            self.error(
                value.span(),
                format!("{path} is {what}; write a list of numbers: {key} = [{high}, {low}]"),
            );
            return None;
        };
        let mut list = Vec::with_capacity(items.len());
        for item in items.iter() {
            match integer(item.get_ref()).filter(|number| range.contains(number)) {
                Some(number) => list.push(number),
                None => self.error(item.span(), format!("{path} takes whole numbers from {low} to {high}")),
            }
        }
        Some(list)
    }

    /// A whole number within `range`; `meaning` explains the range in the error.
    pub fn number<T>(&self, key: &'static str, default: T, range: RangeInclusive<T>, meaning: &str) -> T
    where
        T: TryFrom<i64> + PartialOrd + std::fmt::Display + Copy,
    {
        let Some(value) = self.get(key) else { return default };
        let path = self.path(key);
        let found = integer(value.get_ref()).and_then(|number| T::try_from(number).ok());
        match found.filter(|number| range.contains(number)) {
            Some(number) => number,
            None => {
                let what = match value.get_ref() {
                    DeValue::Integer(number) => number.to_string(),
                    other => kind(other).to_owned(),
                };
                let (low, high) = (range.start(), range.end());
                self.error(
                    value.span(),
                    format!("{path} is {what}; write a whole number from {low} to {high}: {meaning}"),
                );
                default
            }
        }
    }

    pub fn flag(&self, key: &'static str, default: bool) -> bool {
        let Some(value) = self.get(key) else { return default };
        match value.get_ref() {
            DeValue::Boolean(flag) => *flag,
            other => {
                self.error(
                    value.span(),
                    format!("{} is {}; write true or false", self.path(key), kind(other)),
                );
                default
            }
        }
    }

    /// Reports every key of this table that was never asked for, with the nearest one that exists.
    pub fn finish(self) {
        let asked = self.asked.into_inner();
        let prefix = if self.name.is_empty() { String::new() } else { format!("{}.", self.name) };
        self.source.known.borrow_mut().extend(asked.iter().map(|key| format!("{prefix}{key}")));
        let Some(table) = self.table else { return };
        for key in table.keys() {
            let name: &str = key.get_ref();
            if asked.contains(&name) {
                continue;
            }
            let place = if self.name.is_empty() {
                "at the top of the file".to_owned()
            } else {
                format!("in [{}]", self.name)
            };
            let instead = match nearest(name, &asked) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => {
                    let mut all = asked.clone();
                    all.sort_unstable();
                    format!("what may stand here: {}", all.join(", "))
                }
            };
            self.source.error(key.span(), format!("unknown key \"{name}\" {place}; {instead}"));
        }
    }
}

fn integer(value: &DeValue<'_>) -> Option<i64> {
    let number = value.as_integer()?;
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The known name nearest to a mistyped one, if it is near enough to be meant.
pub fn nearest<'n>(wrong: &str, known: &[&'n str]) -> Option<&'n str> {
    let plain = |name: &str| name.to_ascii_lowercase().replace(['-', '_'], "");
    let wanted = plain(wrong);
    known
        .iter()
        .map(|name| (distance(&wanted, &plain(name)), *name))
        .filter(|(distance, name)| *distance <= 1 + name.len().max(wrong.len()) / 4)
        .min()
        .map(|(_, name)| name)
        .or_else(|| {
            // A word left out or added: "channels" for "max_channels".
            let contains = |name: &&&str| {
                let name = plain(name);
                wanted.len() >= 4 && (name.contains(&wanted) || wanted.contains(&name) && name.len() >= 4)
            };
            known.iter().find(contains).copied()
        })
}

/// Edits (insert, delete, replace, swap of neighbours) that lead from one text to the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replace.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str, with: impl FnOnce(&Section<'_>)) -> Vec<String> {
        let source = Source::new(Path::new("t.toml"), text);
        let root = source.parse(text);
        let top = Section::top(&source, &root);
        with(&top);
        top.finish();
        drop(root);
        source.finish().0.into_iter().map(|problem| problem.to_string()).collect()
    }

    #[test]
    fn an_unknown_key_names_the_nearest_known_one_and_its_line() {
        let problems = read("[sip]\nrealm = \"a\"\nlisten_to = []\nraelm = 1\nzzz = 1\n", |top| {
            let sip = top.section("sip");
            sip.text("realm");
            sip.values("listen", Vec::<String>::new(), |text| Ok(text.to_owned()));
            sip.finish();
        });
        assert_eq!(
            problems,
            [
                "t.toml:3: error: unknown key \"listen_to\" in [sip]; did you mean \"listen\"?",
                "t.toml:4: error: unknown key \"raelm\" in [sip]; did you mean \"realm\"?",
                "t.toml:5: error: unknown key \"zzz\" in [sip]; what may stand here: listen, realm",
            ]
        );
    }

    #[test]
    fn wrong_kinds_say_what_to_write() {
        let problems =
            read("text = 5\nnumber = \"5\"\nflag = \"yes\"\nlist = 3\n[[tables]]\n[table]\n", |top| {
                top.text("text");
                top.number("number", 1u16, 1..=9, "a digit");
                top.flag("flag", true);
                top.values("list", Vec::<String>::new(), |text| Ok(text.to_owned()));
                top.section("tables").finish();
                top.sections("table");
            });
        assert_eq!(
            problems,
            [
                "t.toml:1: error: text is a number; write it in quotes: text = \"5\"",
                "t.toml:2: error: number is a text; write a whole number from 1 to 9: a digit",
                "t.toml:3: error: flag is a text; write true or false",
                "t.toml:4: error: list is a number; write a list: list = [\"…\"]",
                "t.toml:5: error: tables is a list; write a table: [tables]",
                "t.toml:6: error: table is a table; write [[table]] before each one",
            ]
        );
    }

    #[test]
    fn broken_toml_is_placed() {
        let problems = read("a = 1\nb = = 2\n", |top| {
            top.number("a", 0u8, 0..=9, "");
            top.number("b", 0u8, 0..=9, "");
        });
        assert!(problems[0].starts_with("t.toml:2: error: not TOML: "), "{problems:?}");
    }

    #[test]
    fn every_wrong_element_of_a_list_is_reported_at_its_own_line() {
        let problems = read("ports = [\n  \"1\",\n  \"x\",\n  7,\n]\n", |top| {
            top.values("ports", Vec::new(), |text| {
                text.parse::<u16>().map_err(|_| format!("\"{text}\" is no port"))
            });
        });
        assert_eq!(
            problems,
            [
                "t.toml:3: error: ports: \"x\" is no port",
                "t.toml:4: error: ports holds a number; write texts in quotes",
            ]
        );
    }

    #[test]
    fn left_out_words_are_found_too() {
        assert_eq!(nearest("channels", &["max_channels", "codecs"]), Some("max_channels"));
        assert_eq!(nearest("max-channels", &["max_channels"]), Some("max_channels"));
        assert_eq!(nearest("colour", &["codecs", "carrier"]), None);
    }

    proptest! {
        #[test]
        fn distance_is_a_metric_on_short_words(a in "[a-c]{0,6}", b in "[a-c]{0,6}") {
            prop_assert_eq!(distance(&a, &a), 0);
            prop_assert_eq!(distance(&a, &b), distance(&b, &a));
            prop_assert_eq!(distance(&a, &b) == 0, a == b);
            prop_assert!(distance(&a, &b) <= a.len().max(b.len()));
        }
    }
}
