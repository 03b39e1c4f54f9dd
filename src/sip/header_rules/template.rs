//! The values of header rules: text with a small, closed set of variables.

use std::fmt::Write;

/// What a value may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variable {
    /// The called number as the trunk gets it.
    Called,
    /// The calling number as the trunk gets it; `anonymous` where it is withheld from it.
    Calling,
    /// The app user who calls.
    User,
    /// That user's account.
    Account,
    /// The trunk's name.
    Trunk,
    /// The call's id, as records, logs and the API have it.
    CallId,
}

/// What the variables stand for; a rule that names one without a value does nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts<'a> {
    pub called: Option<&'a str>,
    pub calling: Option<&'a str>,
    pub user: Option<&'a str>,
    pub account: Option<&'a str>,
    pub trunk: Option<&'a str>,
    pub call_id: Option<&'a str>,
}

/// A value to be filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Variable(Variable),
}

impl Variable {
    pub const ALL: [Variable; 6] = [
        Variable::Called,
        Variable::Calling,
        Variable::User,
        Variable::Account,
        Variable::Trunk,
        Variable::CallId,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Variable::Called => "called",
            Variable::Calling => "calling",
            Variable::User => "user",
            Variable::Account => "account",
            Variable::Trunk => "trunk",
            Variable::CallId => "call_id",
        }
    }
}

impl<'a> Facts<'a> {
    fn get(&self, variable: Variable) -> Option<&'a str> {
        match variable {
            Variable::Called => self.called,
            Variable::Calling => self.calling,
            Variable::User => self.user,
            Variable::Account => self.account,
            Variable::Trunk => self.trunk,
            Variable::CallId => self.call_id,
        }
    }
}

impl Template {
    /// The variables it names.
    pub fn variables(&self) -> impl Iterator<Item = Variable> + '_ {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Variable(variable) => Some(*variable),
            Piece::Text(_) => None,
        })
    }

    /// The value, or `None` where a variable has none.
    pub fn expand(&self, facts: &Facts<'_>) -> Option<String> {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Variable(variable) => escape(facts.get(*variable)?, &mut text),
            }
        }
        Some(text)
    }
}

/// What a caller chose can end no quote, bracket or list of the value around it: it is written as in a URI's user part
/// (RFC 3261 §25.1), and what may not stand there as `%` and two digits.
fn escape(value: &str, text: &mut String) {
    for octet in value.bytes() {
        if octet.is_ascii_alphanumeric() || b"-_.!~*'+#@".contains(&octet) {
            text.push(char::from(octet));
        } else {
            let _ = write!(text, "%{octet:02X}");
        }
    }
}

impl std::str::FromStr for Template {
    type Err = String;
    fn from_str(text: &str) -> Result<Template, String> {
        if text.trim().is_empty() {
            return Err("a value is missing; write value = \"…\"".to_owned());
        }
        if text.len() > super::LONGEST_VALUE / 2 {
            return Err(format!(
                "{} octets are too many; write at most {}",
                text.len(),
                super::LONGEST_VALUE / 2
            ));
        }
        if text.chars().any(char::is_control) {
            return Err(
                "a line end or another control character can't stand in a header; write one line".to_owned()
            );
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find('{') {
            let Some(length) = rest[start..].find('}') else { return Err(unknown(&rest[start..])) };
            let name = &rest[start + 1..start + length];
            let variable = Variable::ALL.into_iter().find(|variable| variable.name() == name);
            if start > 0 {
                pieces.push(Piece::Text(rest[..start].to_owned()));
            }
            pieces.push(Piece::Variable(variable.ok_or_else(|| unknown(&rest[start..=start + length]))?));
            rest = &rest[start + length + 1..];
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Template(pieces))
    }
}

fn unknown(found: &str) -> String {
    let all: Vec<String> = Variable::ALL.iter().map(|variable| format!("{{{}}}", variable.name())).collect();
    format!("\"{found}\" is no variable; there are {}", all.join(" "))
}
