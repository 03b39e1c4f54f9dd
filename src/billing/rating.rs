//! The price of one call per side: longest prefix, increments, integers rounded once.

use crate::types::{Direction, Money, Rate};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

use super::cdr::Cdr;

/// Whose money: `sell` is what the account pays us, `buy` what we pay the carrier. Margin is their difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    Sell,
    Buy,
}

impl Side {
    pub const ALL: [Side; 2] = [Side::Sell, Side::Buy];

    /// The value of the `side` label and column.
    pub fn as_str(self) -> &'static str {
        match self {
            Side::Sell => "sell",
            Side::Buy => "buy",
        }
    }
}

/// The outcome of rating one side of an ended call: never silence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rated {
    Charge(Charge),
    NotRated(NotRated),
}

/// Why a side of a call has no price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotRated {
    NotAnswered,
    /// The call never left the gateway: there is nothing to buy or to sell.
    AppToApp,
    /// The gateway answered it itself, so that the line could be tested.
    TestLine,
    /// A call received from a trunk: the far carrier bills its own caller.
    Received,
    /// The called party is not a number, so no prefix can match.
    NoNumber,
    /// No rate's prefix matches.
    NoRate,
}

impl NotRated {
    pub const ALL: [NotRated; 6] = [
        NotRated::NotAnswered,
        NotRated::AppToApp,
        NotRated::TestLine,
        NotRated::Received,
        NotRated::NoNumber,
        NotRated::NoRate,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            NotRated::NotAnswered => "not_answered",
            NotRated::AppToApp => "app_to_app",
            NotRated::TestLine => "test_line",
            NotRated::Received => "received",
            NotRated::NoNumber => "no_number",
            NotRated::NoRate => "no_rate",
        }
    }
}

/// A price found and applied, with all that is needed to check it by hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    /// The prefix that matched, with `+`.
    pub prefix: String,
    pub rate: Rate,
    /// What was measured, in milliseconds.
    pub billable_ms: u64,
    /// What is billed after increments, in seconds.
    pub billed_s: u64,
    pub amount: Money,
}

/// Which way a fraction of the smallest unit goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Rounding {
    /// Half away from zero: what most interconnect contracts write.
    #[default]
    HalfUp,
    HalfEven,
    Up,
    Down,
}

/// One line of a price list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    pub rate: Rate,
    /// Due once for every answered call that is not within `grace_ms`, in 10⁻⁶ of the currency.
    pub connect_fee_micros: i64,
    /// The first piece billed, in seconds.
    pub first_increment_s: u32,
    /// Every further piece, in seconds; never 0.
    pub next_increment_s: u32,
    /// Least seconds billed.
    pub minimum_s: u32,
    /// Seconds given free at the start.
    pub free_s: u32,
    /// A call shorter than this costs nothing at all.
    pub grace_ms: u32,
    pub rounding: Rounding,
    /// Decimal places of the amount, 0 to 6.
    pub scale: u8,
}

impl Price {
    /// Billed by the second, rounded half up to the sixth decimal: the fairest rule where a contract says nothing.
    pub fn per_minute(rate: Rate) -> Price {
        Price {
            rate,
            connect_fee_micros: 0,
            first_increment_s: 1,
            next_increment_s: 1,
            minimum_s: 0,
            free_s: 0,
            grace_ms: 0,
            rounding: Rounding::default(),
            scale: 6,
        }
    }

    /// Seconds billed for `billable_ms` of conversation. No conversation takes no increment.
    pub fn billed_seconds(&self, billable_ms: u64) -> u64 {
        if billable_ms == 0 || billable_ms < u64::from(self.grace_ms) {
            return 0;
        }
        let first = u64::from(self.first_increment_s.max(self.minimum_s));
        let step = u64::from(self.next_increment_s.max(1));
        let beyond_ms = billable_ms.saturating_sub(first * 1_000);
        first + beyond_ms.div_ceil(step * 1_000) * step
    }

    /// What `billable_ms` of an answered call costs. The connect fee is due on answer, also for 0 ms, unless grace
    /// covers the call.
    pub fn amount(&self, billable_ms: u64) -> Money {
        let currency = self.rate.currency;
        if billable_ms < u64::from(self.grace_ms) {
            return Money { micros: 0, currency };
        }
        let paid_s = self.billed_seconds(billable_ms).saturating_sub(u64::from(self.free_s));
        // 10⁻⁸ per minute times seconds, as sixtieths of 10⁻⁸: 6,000 of them make 10⁻⁶ of the currency.
        let exact = i128::from(self.connect_fee_micros) * 6_000
            + i128::from(paid_s) * i128::from(self.rate.per_minute_e8);
        let unit = 10_i128.pow(u32::from(6 - self.scale.min(6)));
        let rounded = divide(exact, 6_000 * unit, self.rounding) * unit;
        Money { micros: rounded.clamp(i64::MIN.into(), i64::MAX.into()) as i64, currency }
    }
}

/// A price list's line cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    #[error("rate prefix \"{0}\" is not + and digits; write it as \"+32\"")]
    Prefix(String),
    #[error("two {side} rates for prefix \"{prefix}\"{of}", side = side.as_str(), of = of_trunk(trunk))]
    Twice { side: Side, prefix: String, trunk: Option<String> },
    #[error("rate for \"{0}\": the increment must be at least one second")]
    Increment(String),
}

/// One price with its place: a sell price for every account, or a buy price of one trunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateRow {
    pub side: Side,
    /// The trunk a buy price belongs to; `None` holds for every trunk without its own.
    pub trunk: Option<String>,
    /// `+` and leading digits of the called number; `+` alone matches every number.
    pub prefix: String,
    pub price: Price,
}

/// All prices, ready to look up.
#[derive(Debug, Clone, Default)]
pub struct RateTable {
    sell: PrefixMap,
    buy: PrefixMap,
    buy_of_trunk: HashMap<String, PrefixMap>,
}

type PrefixMap = HashMap<String, Price>;

impl RateTable {
    /// # Errors
    /// A prefix that is not `+` and digits, a duplicate, an increment of 0 s.
    pub fn new(rows: impl IntoIterator<Item = RateRow>) -> Result<RateTable, RateError> {
        let mut table = RateTable::default();
        for RateRow { side, trunk, prefix, price } in rows {
            if !prefix
                .strip_prefix('+')
                .is_some_and(|d| d.len() <= 15 && d.bytes().all(|b| b.is_ascii_digit()))
            {
                return Err(RateError::Prefix(prefix));
            }
            if price.next_increment_s == 0 {
                return Err(RateError::Increment(prefix));
            }
            let map = match (side, &trunk) {
                (Side::Sell, _) => &mut table.sell,
                (Side::Buy, None) => &mut table.buy,
                (Side::Buy, Some(trunk)) => table.buy_of_trunk.entry(trunk.clone()).or_default(),
            };
            if map.insert(prefix.clone(), price).is_some() {
                return Err(RateError::Twice { side, prefix, trunk });
            }
        }
        Ok(table)
    }

    /// The price of `number` on one side, by longest prefix; `trunk` matters to the buy side only.
    pub fn price(&self, side: Side, trunk: Option<&str>, number: &str) -> Option<(&str, &Price)> {
        match side {
            Side::Sell => longest(&self.sell, number),
            Side::Buy => match trunk.and_then(|trunk| self.buy_of_trunk.get(trunk)) {
                Some(own) => longest(own, number),
                None => longest(&self.buy, number),
            },
        }
    }

    /// Rates both sides of an ended call. The sell side ends at the earlier of release and last media; the buy side
    /// at release, as the carrier measures it. Neither goes on once the trunk has left the call to others.
    pub fn rate(&self, cdr: &mut Cdr) {
        cdr.sell = Some(self.rate_side(Side::Sell, cdr));
        cdr.buy = Some(self.rate_side(Side::Buy, cdr));
    }

    fn rate_side(&self, side: Side, cdr: &Cdr) -> Rated {
        if cdr.called.line.is_some() {
            return Rated::NotRated(NotRated::TestLine);
        }
        match cdr.direction {
            Direction::AppToApp => return Rated::NotRated(NotRated::AppToApp),
            Direction::TrunkToApp => return Rated::NotRated(NotRated::Received),
            Direction::AppToTrunk | Direction::TrunkToTrunk => {}
        }
        if !cdr.is_answered() {
            return Rated::NotRated(NotRated::NotAnswered);
        }
        let Some(number) = &cdr.called.number else { return Rated::NotRated(NotRated::NoNumber) };
        let Some((prefix, price)) = self.price(side, cdr.egress_trunk.as_deref(), number.as_str()) else {
            return Rated::NotRated(NotRated::NoRate);
        };
        let carried_ms = cdr.duration_ms.min(cdr.carried_ms.unwrap_or(cdr.duration_ms));
        let billable_ms = match side {
            Side::Sell => carried_ms.min(cdr.heard_ms.unwrap_or(carried_ms)),
            Side::Buy => carried_ms,
        };
        Rated::Charge(Charge {
            prefix: prefix.to_owned(),
            rate: price.rate,
            billable_ms,
            billed_s: price.billed_seconds(billable_ms),
            amount: price.amount(billable_ms),
        })
    }
}

/// Amounts are kept exact until here, then rounded once.
fn divide(value: i128, by: i128, rounding: Rounding) -> i128 {
    let (quotient, rest) = (value / by, (value % by).abs());
    let away = match rounding {
        Rounding::Down => false,
        Rounding::Up => rest > 0,
        Rounding::HalfUp => rest * 2 >= by,
        Rounding::HalfEven => rest * 2 > by || (rest * 2 == by && quotient % 2 != 0),
    };
    quotient + if away { value.signum() } else { 0 }
}

fn longest<'a>(map: &'a PrefixMap, number: &str) -> Option<(&'a str, &'a Price)> {
    // At most sixteen probes, as E.164 has at most fifteen digits, however many rates there are.
    (1..=number.len())
        .rev()
        .find_map(|end| map.get_key_value(number.get(..end)?))
        .map(|(k, v)| (k.as_str(), v))
}

fn of_trunk(trunk: &Option<String>) -> String {
    trunk.as_ref().map(|name| format!(" of trunk {name}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{CallId, Currency, E164};

    fn price(per_minute_e8: i64, first: u32, next: u32) -> Price {
        Price {
            first_increment_s: first,
            next_increment_s: next,
            ..Price::per_minute(Rate { per_minute_e8, currency: Currency::EUR })
        }
    }

    #[test]
    fn increments_follow_the_table() {
        // (first, next, milliseconds, seconds billed)
        let vectors = [
            (60, 60, 0, 0),
            (60, 60, 400, 60),
            (60, 60, 60_000, 60),
            (60, 60, 60_001, 120),
            (60, 60, 120_000, 120),
            (60, 60, 120_001, 180),
            (30, 6, 0, 0),
            (30, 6, 400, 30),
            (30, 6, 30_000, 30),
            (30, 6, 30_001, 36),
            (30, 6, 36_000, 36),
            (30, 6, 36_001, 42),
            (6, 6, 400, 6),
            (6, 6, 6_000, 6),
            (6, 6, 6_001, 12),
            // 6-second pulses: 56 s are ten of them.
            (6, 6, 56_000, 60),
            (1, 1, 0, 0),
            (1, 1, 400, 1),
            (1, 1, 1_000, 1),
            (1, 1, 1_001, 2),
            (60, 1, 400, 60),
            (60, 1, 60_000, 60),
            (60, 1, 60_001, 61),
            (60, 1, 61_000, 61),
            (30, 30, 30_000, 30),
            (30, 30, 30_001, 60),
            (30, 30, 60_001, 90),
            // more than a day
            (60, 60, 90_000_000, 90_000),
            (1, 1, 90_000_001, 90_001),
        ];
        for (first, next, ms, seconds) in vectors {
            assert_eq!(price(0, first, next).billed_seconds(ms), seconds, "{first}/{next} {ms} ms");
        }
    }

    #[test]
    fn amounts_are_exact_and_rounded_once() {
        // 0.0125 a minute: 1 s is 0.000208333…
        assert_eq!(price(1_250_000, 1, 1).amount(1_000).micros, 208);
        assert_eq!(price(1_250_000, 1, 1).amount(60_000).micros, 12_500);
        // Not 3,600 times the rounded second (748,800): one rounding at the end.
        assert_eq!(price(1_250_000, 1, 1).amount(3_600_000).micros, 750_000);
        // More than a day at a dear rate fits.
        assert_eq!(price(99_999_999_999, 60, 60).amount(90_000_000).micros, 1_499_999_999_985);
    }

    #[test]
    fn the_connect_fee_is_due_on_answer_and_grace_covers_all() {
        let fee = Price { connect_fee_micros: 50_000, ..price(1_200_000, 60, 60) };
        assert_eq!(fee.amount(0).micros, 50_000);
        assert_eq!(fee.amount(1).micros, 62_000);
        let graceful = Price { grace_ms: 3_000, ..fee };
        assert_eq!(graceful.amount(0).micros, 0);
        assert_eq!(graceful.amount(2_999).micros, 0);
        assert_eq!(graceful.amount(3_000).micros, 62_000);
    }

    #[test]
    fn minimum_and_free_seconds() {
        let minimum = Price { minimum_s: 45, ..price(6_000_000, 30, 6) };
        assert_eq!([1, 45_000, 45_001].map(|ms| minimum.billed_seconds(ms)), [45, 45, 51]);
        let free = Price { free_s: 30, ..price(6_000_000, 30, 6) };
        assert_eq!([1, 30_000, 30_001].map(|ms| free.amount(ms).micros), [0, 0, 6_000]);
    }

    #[test]
    fn rounding_modes_at_a_scale() {
        let at = |rounding, scale, rate| Price { rounding, scale, ..price(rate, 60, 60) }.amount(1).micros;
        // 0.0125 to two places
        assert_eq!(at(Rounding::HalfUp, 2, 1_250_000), 10_000);
        assert_eq!(at(Rounding::Up, 2, 1_250_000), 20_000);
        assert_eq!(at(Rounding::Down, 2, 1_990_000), 10_000);
        // 0.0150 and 0.0250: halves
        assert_eq!(at(Rounding::HalfUp, 2, 1_500_000), 20_000);
        assert_eq!(at(Rounding::HalfEven, 2, 1_500_000), 20_000);
        assert_eq!(at(Rounding::HalfEven, 2, 2_500_000), 20_000);
        assert_eq!(at(Rounding::HalfUp, 2, 2_500_000), 30_000);
        // A refund mirrors its charge.
        assert_eq!(at(Rounding::HalfUp, 2, -2_500_000), -30_000);
    }

    fn row(side: Side, trunk: Option<&str>, prefix: &str, per_minute_e8: i64) -> RateRow {
        RateRow {
            side,
            trunk: trunk.map(str::to_owned),
            prefix: prefix.to_owned(),
            price: price(per_minute_e8, 1, 1),
        }
    }

    fn answered(direction: Direction, number: &str) -> Cdr {
        let mut cdr = Cdr::new(CallId::from_parts(0, [0; 10]), direction, 0);
        cdr.called.number = number.parse::<E164>().ok();
        cdr.answered_at = Some(1);
        cdr.duration_ms = 61_000;
        cdr.heard_ms = Some(60_000);
        cdr.egress_trunk = Some("a".into());
        cdr
    }

    #[test]
    fn both_sides_are_charged_by_their_own_end_and_longest_prefix() {
        let table = RateTable::new([
            row(Side::Sell, None, "+32", 2_000_000),
            row(Side::Sell, None, "+3247", 3_000_000),
            row(Side::Buy, None, "+32", 1_000_000),
            row(Side::Buy, Some("a"), "+3247", 1_800_000),
        ])
        .unwrap();
        let mut cdr = answered(Direction::AppToTrunk, "+32470123456");
        table.rate(&mut cdr);
        let (Some(Rated::Charge(sell)), Some(Rated::Charge(buy))) = (&cdr.sell, &cdr.buy) else {
            panic!("{cdr:?}")
        };
        assert_eq!((sell.prefix.as_str(), sell.billed_s, sell.amount.micros), ("+3247", 60, 30_000));
        assert_eq!((buy.prefix.as_str(), buy.billed_s, buy.amount.micros), ("+3247", 61, 18_300));
    }

    #[test]
    fn a_trunk_that_moved_its_call_away_and_left_costs_until_it_left() {
        let table =
            RateTable::new([row(Side::Sell, None, "+32", 2_000_000), row(Side::Buy, None, "+32", 1_000_000)])
                .unwrap();
        for (carried_ms, sell_ms, buy_ms) in
            [(None, 60_000, 61_000), (Some(20_000), 20_000, 20_000), (Some(70_000), 60_000, 61_000)]
        {
            let mut cdr = answered(Direction::AppToTrunk, "+32470123456");
            cdr.carried_ms = carried_ms;
            table.rate(&mut cdr);
            let (Some(Rated::Charge(sell)), Some(Rated::Charge(buy))) = (&cdr.sell, &cdr.buy) else {
                panic!("{cdr:?}")
            };
            assert_eq!((sell.billable_ms, buy.billable_ms), (sell_ms, buy_ms), "{carried_ms:?}");
        }
    }

    #[test]
    fn what_has_no_price_says_why() {
        let table = RateTable::new([row(Side::Sell, None, "+32", 2_000_000)]).unwrap();
        let reason = |mut cdr: Cdr| {
            table.rate(&mut cdr);
            match cdr.sell {
                Some(Rated::NotRated(why)) => why,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(reason(answered(Direction::AppToApp, "+321")), NotRated::AppToApp);
        assert_eq!(reason(answered(Direction::TrunkToApp, "+321")), NotRated::Received);
        for direction in Direction::ALL {
            let mut line = answered(direction, "+321");
            line.called.line = Some(crate::types::TestLine::Echo);
            assert_eq!(reason(line), NotRated::TestLine);
        }
        assert_eq!(reason(answered(Direction::AppToTrunk, "bob")), NotRated::NoNumber);
        assert_eq!(reason(answered(Direction::AppToTrunk, "+331")), NotRated::NoRate);
        let unanswered = Cdr { answered_at: None, ..answered(Direction::AppToTrunk, "+321") };
        assert_eq!(reason(unanswered), NotRated::NotAnswered);
    }

    #[test]
    fn a_price_list_that_cannot_be_used_says_which_line() {
        let twice = RateTable::new([row(Side::Buy, Some("a"), "+1", 1), row(Side::Buy, Some("a"), "+1", 2)]);
        assert_eq!(twice.unwrap_err().to_string(), "two buy rates for prefix \"+1\" of trunk a");
        for bad in ["32", "", "+3x", "+1234567890123456"] {
            assert!(RateTable::new([row(Side::Sell, None, bad, 1)]).is_err(), "{bad}");
        }
        assert!(RateTable::new([row(Side::Sell, None, "+", 1)]).is_ok());
    }
}
