//! Amounts and rates as integers: money is never a float.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// An ISO 4217 code, three capital letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency([u8; 3]);

impl Currency {
    pub const EUR: Currency = Currency(*b"EUR");
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XXX")
    }
}

impl FromStr for Currency {
    type Err = String;
    fn from_str(text: &str) -> Result<Currency, String> {
        match <[u8; 3]>::try_from(text.as_bytes()) {
            Ok(code) if code.iter().all(u8::is_ascii_uppercase) => Ok(Currency(code)),
            _ => Err(format!("\"{text}\" is not a currency; write its three-letter code, as EUR")),
        }
    }
}

impl TryFrom<String> for Currency {
    type Error = String;
    fn try_from(text: String) -> Result<Currency, String> {
        text.parse()
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> String {
        currency.as_str().to_owned()
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An amount in 10⁻⁶ of the currency's unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Money {
    pub micros: i64,
    pub currency: Currency,
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.micros < 0 { "-" } else { "" };
        let micros = self.micros.unsigned_abs();
        write!(f, "{sign}{}.{:06} {}", micros / 1_000_000, micros % 1_000_000, self.currency)
    }
}

/// A price per minute in 10⁻⁸ of the currency's unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rate {
    pub per_minute_e8: i64,
    pub currency: Currency,
}

/// As `0.0125 EUR`: no more decimals than it has, at least two.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.per_minute_e8 < 0 { "-" } else { "" };
        let units = self.per_minute_e8.unsigned_abs();
        let decimals = format!("{:08}", units % 100_000_000);
        write!(f, "{sign}{}.{:0<2} {}", units / 100_000_000, decimals.trim_end_matches('0'), self.currency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_show_the_decimals_they_have() {
        let shown = |per_minute_e8| Rate { per_minute_e8, currency: Currency::EUR }.to_string();
        assert_eq!(shown(1_250_000), "0.0125 EUR");
        assert_eq!(shown(150_000_000), "1.50 EUR");
        assert_eq!(shown(-1), "-0.00000001 EUR");
    }
}
