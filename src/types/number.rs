//! Telephone numbers in their one internal form, and the two ways to hide them: masked in logs, shortened in old records.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// An international number: `+` and 1 to 15 digits (ITU-T E.164 §6).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct E164(String);

impl E164 {
    /// With the leading `+`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// Without the leading `+`.
    pub fn digits(&self) -> &str {
        &self.0[1..]
    }
}

impl FromStr for E164 {
    type Err = String;
    fn from_str(text: &str) -> Result<E164, String> {
        let digits = text.strip_prefix('+').unwrap_or("");
        if (1..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) {
            Ok(E164(text.to_owned()))
        } else {
            Err(format!("\"{text}\" is not an E.164 number; write + and 1 to 15 digits, as +3225550001"))
        }
    }
}

impl TryFrom<String> for E164 {
    type Error = String;
    fn try_from(text: String) -> Result<E164, String> {
        text.parse()
    }
}

impl From<E164> for String {
    fn from(number: E164) -> String {
        number.0
    }
}

impl fmt::Display for E164 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Debug output reaches logs, so it is masked; `Display` is whole.
impl fmt::Debug for E164 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&mask(&self.0))
    }
}

/// Hides a phone number for logs, traces and metrics: everything but the country's first digits becomes `*`.
/// What does not look like a number (fewer than five digits) is kept.
pub fn mask(number: &str) -> String {
    let digits = number.bytes().filter(u8::is_ascii_digit).count();
    if digits < 5 {
        return number.to_owned();
    }
    let mut seen = 0;
    number
        .chars()
        .map(|c| {
            if c.is_ascii_digit() {
                seen += 1;
                if seen <= 3 { c } else { '*' }
            } else {
                c
            }
        })
        .collect()
}

/// What is left of a number after the retention time: its last four digits become `*`. A text with fewer than five
/// digits is no subscriber's number (112, a name) and stays.
pub fn shorten_number(number: &str) -> String {
    let digits = number.bytes().filter(u8::is_ascii_digit).count();
    if digits < 5 {
        return number.to_owned();
    }
    let mut seen = 0;
    let hide = |c: char| {
        if c.is_ascii_digit() {
            seen += 1;
            if seen > digits - 4 {
                return '*';
            }
        }
        c
    };
    number.chars().map(hide).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e164_takes_plus_and_up_to_fifteen_digits() {
        assert!("+3225550001".parse::<E164>().is_ok());
        for bad in ["", "+", "3225550001", "+32 2", "+1234567890123456", "+32a"] {
            assert!(bad.parse::<E164>().is_err(), "{bad}");
        }
    }

    #[test]
    fn mask_keeps_three_digits_and_debug_is_masked() {
        assert_eq!(mask("+3225550001"), "+322*******");
        assert_eq!(mask("alice"), "alice");
        assert_eq!(mask("112"), "112");
        assert_eq!(format!("{:?}", "+3225550001".parse::<E164>().unwrap()), "+322*******");
    }

    #[test]
    fn the_last_four_digits_go_and_names_stay() {
        let shortened =
            ["+32470123456", "0470 12 34 56", "alice", "112", "00.32.470", ""].map(shorten_number);
        assert_eq!(shortened, ["+3247012****", "0470 12 ** **", "alice", "112", "00.3*.***", ""]);
    }
}
