//! Turns what was dialled into an E.164 number, and an E.164 number into the form a trunk wants.

use crate::types::E164;
use std::{fmt, str::FromStr};

/// How a country writes its own and foreign numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberPlan {
    /// Digits of the country code, without `+`; empty where only international numbers are understood.
    pub country_code: String,
    /// What stands before a national number: `0` in most of Europe, nothing in some countries.
    pub national_prefix: String,
    /// What stands before an international number: `00` nearly everywhere, `011` in North America.
    pub international_prefix: String,
}

impl Default for NumberPlan {
    fn default() -> NumberPlan {
        NumberPlan {
            country_code: String::new(),
            national_prefix: "0".into(),
            international_prefix: "00".into(),
        }
    }
}

/// What dialled digits mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dialled {
    International(E164),
    /// A short code such as 112: it means something only inside this plan.
    Short(String),
    /// An emergency service by its URN (RFC 5031).
    Service(String),
}

impl Dialled {
    /// The text that rules match: `+` and digits, the bare short code, or the URN.
    pub fn text(&self) -> &str {
        match self {
            Dialled::International(number) => number.as_str(),
            Dialled::Short(text) | Dialled::Service(text) => text,
        }
    }
    pub fn e164(&self) -> Option<&E164> {
        match self {
            Dialled::International(number) => Some(number),
            Dialled::Short(_) | Dialled::Service(_) => None,
        }
    }
}

/// Why dialled text is no number. Its texts are for explanations and never carry the number itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    #[error("nothing was dialled")]
    Empty,
    #[error("it holds something that is no digit")]
    NotDigits,
    #[error("it has more than 15 digits (ITU-T E.164 §6)")]
    TooLong,
    #[error("it is incomplete: neither a short number, nor national, nor international")]
    Incomplete,
    #[error("it is a national number and the dialplan has no country_code")]
    NoCountryCode,
}

/// Short codes have at most this many digits (ITU-T E.129 lists none longer; 116xxx and 118xxx have six).
const LONGEST_SHORT_CODE: usize = 6;

/// An international number without its `+` is taken as one only if it has at least this many digits.
const SHORTEST_BARE_INTERNATIONAL: usize = 9;

impl NumberPlan {
    /// Reads what a user dialled: `tel:` and visual separators (RFC 3966 §5.1.1) are dropped, `+` and the
    /// international prefix lead to an international number, the national prefix to one of this country.
    ///
    /// # Errors
    /// Says what is wrong where it can be no number at all.
    pub fn normalise(&self, dialled: &str) -> Result<Dialled, NumberError> {
        self.normalise_as(dialled, None)
    }

    /// As [`normalise`](Self::normalise), for a number that a trunk writes in `format`: there, digits without
    /// any prefix are international where the format is international.
    pub fn normalise_as(&self, dialled: &str, format: Option<NumberFormat>) -> Result<Dialled, NumberError> {
        let (digits, plus, context) = strip(dialled)?;
        if plus {
            return international(&digits);
        }
        if let Some(context) = context.as_deref().and_then(|context| context.strip_prefix('+')) {
            // RFC 3966 §5.1.5: the context is what must precede the number to make it global.
            let (context, ..) = strip(context)?;
            // A short code is none of the numbers behind its country's code, though phones write it so.
            let is_short =
                digits.len() <= LONGEST_SHORT_CODE && prefixed(&digits, &self.national_prefix).is_none();
            if is_short && context == self.country_code {
                return Ok(Dialled::Short(digits));
            }
            let local = digits.strip_prefix(self.national_prefix.as_str()).unwrap_or(&digits);
            return international(&format!("{context}{local}"));
        }
        if let Some(rest) = prefixed(&digits, &self.international_prefix) {
            return international(rest);
        }
        match format {
            Some(NumberFormat::PlusE164 | NumberFormat::E164) if !digits.starts_with('0') => {
                if digits.len() > LONGEST_SHORT_CODE {
                    return international(&digits);
                }
            }
            Some(
                NumberFormat::PlusE164
                | NumberFormat::E164
                | NumberFormat::ZeroZeroE164
                | NumberFormat::National,
            )
            | None => {}
        }
        if let Some(rest) = prefixed(&digits, &self.national_prefix) {
            return self.national(rest);
        }
        if digits.len() <= LONGEST_SHORT_CODE {
            return Ok(Dialled::Short(digits));
        }
        let has_country = !self.country_code.is_empty() && digits.starts_with(&self.country_code);
        if has_country && digits.len() >= SHORTEST_BARE_INTERNATIONAL.max(self.country_code.len() + 8) {
            return international(&digits);
        }
        if self.national_prefix.is_empty() || format == Some(NumberFormat::National) {
            return self.national(&digits);
        }
        Err(NumberError::Incomplete)
    }

    fn national(&self, digits: &str) -> Result<Dialled, NumberError> {
        if self.country_code.is_empty() {
            return Err(NumberError::NoCountryCode);
        }
        if digits.is_empty() {
            return Err(NumberError::Incomplete);
        }
        international(&format!("{}{digits}", self.country_code))
    }

    /// Writes a number the way `format` wants it.
    pub fn format(&self, number: &E164, format: NumberFormat) -> String {
        match format {
            NumberFormat::PlusE164 => number.as_str().to_owned(),
            NumberFormat::E164 => number.digits().to_owned(),
            NumberFormat::ZeroZeroE164 => format!("00{}", number.digits()),
            NumberFormat::National => match prefixed(number.digits(), &self.country_code) {
                Some(rest) => format!("{}{rest}", self.national_prefix),
                None => format!("{}{}", self.international_prefix, number.digits()),
            },
        }
    }
}

/// The rest after a prefix that is not empty; an empty prefix never matches.
fn prefixed<'a>(digits: &'a str, prefix: &str) -> Option<&'a str> {
    if prefix.is_empty() { None } else { digits.strip_prefix(prefix) }
}

fn international(digits: &str) -> Result<Dialled, NumberError> {
    if digits.len() > 15 {
        return Err(NumberError::TooLong);
    }
    format!("+{digits}").parse().map(Dialled::International).map_err(|_| NumberError::Incomplete)
}

/// Digits, whether a `+` led them, and the `phone-context` of a `tel:` URI.
fn strip(dialled: &str) -> Result<(String, bool, Option<String>), NumberError> {
    let text = dialled.trim();
    let text = match text.get(..4) {
        Some(scheme) if scheme.eq_ignore_ascii_case("tel:") => &text[4..],
        Some(_) | None => text,
    };
    let (number, parameters) = text.split_once(';').unwrap_or((text, ""));
    let context = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("phone-context").then(|| value.trim().to_owned())
    });
    let (plus, number) = match number.trim_start().strip_prefix('+') {
        Some(rest) => (true, rest),
        None => (false, number),
    };
    // Printed as "+32 (0)2 555…": the bracketed national prefix is not dialled after a country code.
    let number = if plus { number.replacen("(0)", "", 1) } else { number.to_owned() };
    let mut digits = String::with_capacity(number.len());
    for c in number.chars() {
        match c {
            '0'..='9' => digits.push(c),
            '-' | '.' | '(' | ')' | '/' | '\u{2010}'..='\u{2015}' => {}
            c if c.is_whitespace() => {}
            _ => return Err(NumberError::NotDigits),
        }
    }
    if digits.is_empty() { Err(NumberError::Empty) } else { Ok((digits, plus, context)) }
}

/// Where a number was ported to, among the parameters behind it: `rn`, with its `rn-context` where it is a local one
/// (RFC 4694 §4).
pub fn routing_number(called: &str) -> Option<E164> {
    let param = |wanted: &str| {
        let mut pairs = called.split(';').skip(1).filter_map(|param| param.split_once('='));
        pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case(wanted)).map(|(_, value)| value)
    };
    let (digits, plus, _) = strip(param("rn")?).ok()?;
    let context = match plus {
        true => String::new(),
        false => strip(param("rn-context")?).ok().filter(|(_, plus, _)| *plus)?.0,
    };
    format!("+{context}{digits}").parse().ok()
}

/// The form in which a trunk writes numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NumberFormat {
    /// `+32470123456`
    #[default]
    PlusE164,
    /// `32470123456`
    E164,
    /// `0032470123456`
    ZeroZeroE164,
    /// `0470123456`; foreign numbers with the international prefix.
    National,
}

impl NumberFormat {
    pub const ALL: [NumberFormat; 4] =
        [NumberFormat::PlusE164, NumberFormat::E164, NumberFormat::ZeroZeroE164, NumberFormat::National];

    pub fn as_str(self) -> &'static str {
        match self {
            NumberFormat::PlusE164 => "+e164",
            NumberFormat::E164 => "e164",
            NumberFormat::ZeroZeroE164 => "00e164",
            NumberFormat::National => "national",
        }
    }
}

impl fmt::Display for NumberFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for NumberFormat {
    type Err = String;
    fn from_str(text: &str) -> Result<NumberFormat, String> {
        NumberFormat::ALL
            .into_iter()
            .find(|format| format.as_str() == text)
            .ok_or_else(|| format!("\"{text}\" is no number format; write +e164, e164, 00e164 or national"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn belgium() -> NumberPlan {
        NumberPlan { country_code: "32".into(), ..NumberPlan::default() }
    }

    #[test]
    fn every_way_to_dial_one_number_leads_to_it() {
        for dialled in [
            "0470 12 34 56",
            "0470/12.34.56",
            "0032470123456",
            "+32 470 12 34 56",
            "+32 (0)470-12-34-56",
            "tel:+32-470-123456",
            "TEL:0470123456",
            "tel:470123456;phone-context=+32",
            "tel:0470123456;phone-context=+32;ext=1",
            "32470123456",
            "\u{a0}0470\u{2011}123456",
        ] {
            assert_eq!(belgium().normalise(dialled).unwrap().text(), "+32470123456", "{dialled}");
        }
    }

    #[test]
    fn short_codes_stay_short() {
        for code in ["112", "100", "116000", "1 1 2"] {
            let expected: String = code.split(' ').collect();
            assert_eq!(belgium().normalise(code), Ok(Dialled::Short(expected)));
        }
    }

    #[test]
    fn a_short_code_in_its_own_country_s_context_stays_one_and_elsewhere_leads_there() {
        let plan = belgium();
        assert_eq!(plan.normalise("tel:116000;phone-context=+32"), Ok(Dialled::Short("116000".into())));
        assert_eq!(plan.normalise("1207;phone-context=+32").unwrap().text(), "1207");
        assert_eq!(plan.normalise("tel:116000;phone-context=+33").unwrap().text(), "+33116000");
        assert_eq!(plan.normalise("tel:02123;phone-context=+32").unwrap().text(), "+322123");
    }

    #[test]
    fn what_is_no_number_is_refused_with_its_reason() {
        let cases = [
            ("", NumberError::Empty),
            ("tel:", NumberError::Empty),
            ("+", NumberError::Empty),
            ("bob", NumberError::NotDigits),
            ("*21#", NumberError::NotDigits),
            ("++32470", NumberError::NotDigits),
            ("0032470123456789012", NumberError::TooLong),
            ("470123456", NumberError::Incomplete),
            ("0", NumberError::Incomplete),
            ("00", NumberError::Incomplete),
        ];
        for (dialled, error) in cases {
            assert_eq!(belgium().normalise(dialled), Err(error), "{dialled}");
        }
        assert_eq!(NumberPlan::default().normalise("0470123456"), Err(NumberError::NoCountryCode));
    }

    #[test]
    fn a_trunk_that_leaves_the_plus_out_is_understood_by_its_format() {
        let plan = belgium();
        let from = |text, format| plan.normalise_as(text, Some(format)).unwrap().text().to_owned();
        assert_eq!(from("441632960123", NumberFormat::E164), "+441632960123");
        assert_eq!(from("441632960123", NumberFormat::PlusE164), "+441632960123");
        assert_eq!(from("0470123456", NumberFormat::E164), "+32470123456");
        assert_eq!(from("470123456", NumberFormat::National), "+32470123456");
        assert_eq!(from("00441632960123", NumberFormat::National), "+441632960123");
        assert_eq!(from("112", NumberFormat::E164), "112");
    }

    #[test]
    fn countries_without_a_national_prefix_and_with_another_international_one_work() {
        let spain =
            NumberPlan { country_code: "34".into(), national_prefix: "".into(), ..NumberPlan::default() };
        assert_eq!(spain.normalise("912 345 678").unwrap().text(), "+34912345678");
        let usa = NumberPlan {
            country_code: "1".into(),
            national_prefix: "1".into(),
            international_prefix: "011".into(),
        };
        assert_eq!(usa.normalise("1 (415) 555-0100").unwrap().text(), "+14155550100");
        assert_eq!(usa.normalise("011 32 470 12 34 56").unwrap().text(), "+32470123456");
    }

    #[test]
    fn formats_write_national_and_foreign_numbers() {
        let home: E164 = "+32470123456".parse().unwrap();
        let abroad: E164 = "+441632960123".parse().unwrap();
        let written = |number: &E164| NumberFormat::ALL.map(|format| belgium().format(number, format));
        assert_eq!(written(&home), ["+32470123456", "32470123456", "0032470123456", "0470123456"]);
        assert_eq!(written(&abroad), ["+441632960123", "441632960123", "00441632960123", "00441632960123"]);
    }

    proptest! {
        #[test]
        fn a_number_written_for_a_trunk_and_read_back_is_the_same(digits in "[1-9][0-9]{8,14}", which in 0usize..4) {
            let plan = belgium();
            let number: E164 = format!("+{digits}").parse().unwrap();
            let format = NumberFormat::ALL[which];
            // "32" + "0…" has no national form of its own: 0 followed by 0 reads as the international prefix.
            prop_assume!(!(format == NumberFormat::National && digits.starts_with("320")));
            let written = plan.format(&number, format);
            let read = plan.normalise_as(&written, Some(format)).unwrap();
            prop_assert_eq!(read.text(), number.as_str());
        }

        #[test]
        fn no_input_panics(text in "\\PC{0,40}") {
            let _ = belgium().normalise(&text);
        }
    }
}
