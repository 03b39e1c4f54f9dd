//! The header fields of a message, in their order: ranges over the text they came in, or strings of our own.

use super::grammar::List;
use super::header_name::HeaderName;
use crate::types::mask;
use std::{fmt, sync::Arc};

/// Field values as they came share one text; those we set are our own.
#[derive(Clone)]
enum Value {
    Shared { start: u32, end: u32 },
    Own(String),
}

#[derive(Clone)]
struct Field {
    name: HeaderName,
    value: Value,
}

/// Header fields in their order. Cloning copies no text of a received message.
#[derive(Clone, Default)]
pub struct Headers {
    source: Option<Arc<str>>,
    fields: Vec<Field>,
}

impl Headers {
    pub fn new() -> Headers {
        Headers::default()
    }

    /// The text of a received message up to its body, as it came; `None` for one of our own.
    pub fn source(&self) -> Option<&Arc<str>> {
        self.source.as_ref()
    }

    pub(crate) fn over(source: Arc<str>, capacity: usize) -> Headers {
        Headers { source: Some(source), fields: Vec::with_capacity(capacity) }
    }

    /// Appends a field whose value lies in the shared text.
    pub(crate) fn push_shared(&mut self, name: HeaderName, start: usize, end: usize) {
        // The reader takes no message of 4 GiB.
        let value = Value::Shared { start: start as u32, end: end as u32 };
        self.fields.push(Field { name, value });
    }

    /// Appends a field. Line ends in a value become spaces, so that it can't bring a field of its own.
    pub fn push(&mut self, name: HeaderName, value: impl Into<String>) {
        self.fields.push(Field { name, value: Value::Own(one_line(value.into())) });
    }

    /// Puts a field before all others.
    pub fn push_front(&mut self, name: HeaderName, value: impl Into<String>) {
        self.fields.insert(0, Field { name, value: Value::Own(one_line(value.into())) });
    }

    /// Leaves one field of that name, where the first stood or else at the end.
    pub fn set(&mut self, name: HeaderName, value: impl Into<String>) {
        let value = Value::Own(one_line(value.into()));
        match self.fields.iter().position(|field| field.name == name) {
            Some(first) => {
                self.fields[first].value = value;
                let mut index = 0;
                self.fields.retain(|field| {
                    index += 1;
                    index <= first + 1 || field.name != name
                });
            }
            None => self.fields.push(Field { name, value }),
        }
    }

    /// Removes all fields of that name; true if there was one.
    pub fn remove(&mut self, name: &HeaderName) -> bool {
        let before = self.fields.len();
        self.fields.retain(|field| field.name != *name);
        self.fields.len() != before
    }

    /// Gives each field of that name the value that `new` makes of its old one; `None` leaves it.
    pub fn rewrite(&mut self, name: &HeaderName, mut new: impl FnMut(&str) -> Option<String>) {
        for index in 0..self.fields.len() {
            if self.fields[index].name == *name
                && let Some(value) = new(self.value(&self.fields[index]))
            {
                self.fields[index].value = Value::Own(one_line(value));
            }
        }
    }

    /// Replaces the first comma-separated value of the first field of that name, and keeps the others.
    /// Does nothing if there is no such field.
    pub fn replace_first(&mut self, name: &HeaderName, value: &str) {
        let Some(index) = self.fields.iter().position(|field| field.name == *name) else { return };
        let old = self.value(&self.fields[index]);
        let rest = super::grammar::separator(old, b',').map_or("", |comma| &old[comma..]);
        let new = format!("{value}{rest}");
        self.fields[index].value = Value::Own(one_line(new));
    }

    /// Removes the first comma-separated value of the first field of that name, and the field with its last value.
    pub fn remove_first(&mut self, name: &HeaderName) {
        let Some(index) = self.fields.iter().position(|field| field.name == *name) else { return };
        let old = self.value(&self.fields[index]);
        match super::grammar::separator(old, b',')
            .map(|comma| super::grammar::trim(&old[comma + 1..]).to_owned())
        {
            Some(rest) => self.fields[index].value = Value::Own(rest),
            None => drop(self.fields.remove(index)),
        }
    }

    /// The value of the first field of that name, without white space around it.
    pub fn get(&self, name: &HeaderName) -> Option<&str> {
        self.all(name).next()
    }

    pub fn contains(&self, name: &HeaderName) -> bool {
        self.fields.iter().any(|field| field.name == *name)
    }

    /// The values of all fields of that name, one a field.
    pub fn all<'a>(&'a self, name: &HeaderName) -> impl Iterator<Item = &'a str> {
        self.fields.iter().filter(move |field| field.name == *name).map(|field| self.value(field))
    }

    /// The comma-separated values of all fields of that name, in order. Quotes and angle brackets hold commas.
    pub fn list<'a>(&'a self, name: &HeaderName) -> impl Iterator<Item = &'a str> {
        self.all(name).flat_map(List::new)
    }

    /// True if a comma-separated list holds the token, in any case: `lists(&Supported, "100rel")`.
    pub fn lists(&self, name: &HeaderName, token: &str) -> bool {
        self.list(name).any(|value| value.eq_ignore_ascii_case(token))
    }

    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, &str)> {
        self.fields.iter().map(|field| (&field.name, self.value(field)))
    }

    pub fn len(&self) -> usize {
        self.fields.len()
    }

    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Fields of another message, in its order, for which `wanted` is true. Copies no text of a received message.
    pub(crate) fn copy_from(other: &Headers, mut wanted: impl FnMut(&HeaderName) -> bool) -> Headers {
        let fields = other.fields.iter().filter(|field| wanted(&field.name)).cloned().collect();
        Headers { source: other.source.clone(), fields }
    }

    fn value<'a>(&'a self, field: &'a Field) -> &'a str {
        match (&field.value, &self.source) {
            (Value::Own(text), _) => text,
            (Value::Shared { start, end }, Some(source)) => {
                source.get(*start as usize..*end as usize).unwrap_or_default()
            }
            (Value::Shared { .. }, None) => "",
        }
    }
}

/// Line ends become spaces: whatever a value holds, it stays one field.
fn one_line(value: String) -> String {
    if super::grammar::holds_line_end(&value) { value.replace(['\r', '\n'], " ") } else { value }
}

impl PartialEq for Headers {
    fn eq(&self, other: &Headers) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl Eq for Headers {}

/// Debug output reaches logs, so numbers in it are masked.
impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(name, value)| (name.as_str(), mask(value)))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Headers {
        let mut headers = Headers::new();
        headers.push(HeaderName::Via, "SIP/2.0/UDP a, SIP/2.0/UDP b");
        headers.push(HeaderName::From, "<sip:a@h>");
        headers.push(HeaderName::Via, "SIP/2.0/UDP c");
        headers.push(HeaderName::new("X-Tag"), "1");
        headers
    }

    #[test]
    fn fields_and_list_values_keep_their_order() {
        let headers = sample();
        assert_eq!(headers.get(&HeaderName::Via), Some("SIP/2.0/UDP a, SIP/2.0/UDP b"));
        assert_eq!(headers.all(&HeaderName::Via).count(), 2);
        let vias: Vec<_> = headers.list(&HeaderName::Via).collect();
        assert_eq!(vias, ["SIP/2.0/UDP a", "SIP/2.0/UDP b", "SIP/2.0/UDP c"]);
        assert_eq!(headers.get(&HeaderName::new("x-tag")), Some("1"));
        assert_eq!(headers.get(&HeaderName::To), None);
    }

    #[test]
    fn set_leaves_one_field_where_the_first_stood() {
        let mut headers = sample();
        headers.set(HeaderName::Via, "SIP/2.0/UDP z");
        headers.set(HeaderName::To, "<sip:b@h>");
        let order: Vec<_> = headers.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(order, ["Via=SIP/2.0/UDP z", "From=<sip:a@h>", "X-Tag=1", "To=<sip:b@h>"]);
    }

    #[test]
    fn the_topmost_value_is_replaced_and_removed_alone() {
        let mut headers = sample();
        headers.replace_first(&HeaderName::Via, "SIP/2.0/UDP a;received=1.2.3.4");
        assert_eq!(headers.get(&HeaderName::Via), Some("SIP/2.0/UDP a;received=1.2.3.4, SIP/2.0/UDP b"));
        headers.remove_first(&HeaderName::Via);
        headers.remove_first(&HeaderName::Via);
        assert_eq!(headers.list(&HeaderName::Via).collect::<Vec<_>>(), ["SIP/2.0/UDP c"]);
        assert!(headers.remove(&HeaderName::Via) && !headers.remove(&HeaderName::Via));
    }

    #[test]
    fn a_value_cannot_bring_a_field_of_its_own() {
        let mut headers = Headers::new();
        headers.push(HeaderName::Subject, "a\r\nEvil: 1");
        headers.push_front(HeaderName::Subject, "b\nEvil: 1");
        headers.set(HeaderName::Server, "c\rEvil: 1");
        assert!(headers.iter().all(|(_, value)| !value.contains(['\r', '\n'])));
    }

    #[test]
    fn debug_output_masks_numbers() {
        let mut headers = Headers::new();
        headers.push(HeaderName::From, "<sip:+3225550001@h>");
        assert!(!format!("{headers:?}").contains("5550001"));
    }
}
