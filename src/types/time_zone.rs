//! Local time by the rule of a time zone, as POSIX writes it; the history of zones is left out.

use super::UnixMillis;
use std::str::FromStr;

/// A time zone as a POSIX TZ string has it (IEEE Std 1003.1 §8.3): offsets and the two changes of a year.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeZone {
    /// Seconds east of UTC.
    standard: i32,
    summer: Option<Summer>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Summer {
    /// Seconds east of UTC.
    offset: i32,
    begins: Change,
    ends: Change,
}

/// A moment of every year, in the local time that is valid before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Change {
    day: YearDay,
    /// Seconds after midnight; may be negative or beyond the day.
    second: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum YearDay {
    /// `Mm.w.d`: weekday `d` (0 = Sunday) of week `w` (5 = the last) of month `m`.
    Weekday { month: u8, week: u8, weekday: u8 },
    /// `Jn`: 1 to 365, February 29 never counts.
    Julian(u16),
    /// `n`: 0 to 365, February 29 counts.
    Ordinal(u16),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Weekday {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

impl Weekday {
    pub const ALL: [Weekday; 7] = [
        Weekday::Monday,
        Weekday::Tuesday,
        Weekday::Wednesday,
        Weekday::Thursday,
        Weekday::Friday,
        Weekday::Saturday,
        Weekday::Sunday,
    ];

    /// Three letters, lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Weekday::Monday => "mon",
            Weekday::Tuesday => "tue",
            Weekday::Wednesday => "wed",
            Weekday::Thursday => "thu",
            Weekday::Friday => "fri",
            Weekday::Saturday => "sat",
            Weekday::Sunday => "sun",
        }
    }

    pub fn next(self) -> Weekday {
        Weekday::ALL[(self as usize + 1) % 7]
    }

    pub fn previous(self) -> Weekday {
        Weekday::ALL[(self as usize + 6) % 7]
    }
}

/// What a clock on the wall shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalTime {
    pub weekday: Weekday,
    /// Minutes after midnight, 0 to 1439.
    pub minute: u16,
}

const DAY: i64 = 86_400;

impl TimeZone {
    pub const UTC: TimeZone = TimeZone { standard: 0, summer: None };

    /// Seconds east of UTC at a moment.
    pub fn offset_at(&self, unix_ms: UnixMillis) -> i32 {
        let Some(summer) = &self.summer else { return self.standard };
        let utc = unix_ms.div_euclid(1_000);
        let (year, ..) = civil(utc.saturating_add(i64::from(self.standard)).div_euclid(DAY));
        let begins = summer.begins.in_year(year) - i64::from(self.standard);
        let ends = summer.ends.in_year(year) - i64::from(summer.offset);
        let in_summer = if begins < ends {
            (begins..ends).contains(&utc)
        } else {
            // South of the equator summer spans the turn of the year.
            !(ends..begins).contains(&utc)
        };
        if in_summer { summer.offset } else { self.standard }
    }

    pub fn local(&self, unix_ms: UnixMillis) -> LocalTime {
        let seconds = unix_ms.div_euclid(1_000) + i64::from(self.offset_at(unix_ms));
        let days = seconds.div_euclid(DAY);
        // 1970-01-01 was a Thursday.
        let weekday = Weekday::ALL[(days + 3).rem_euclid(7) as usize];
        LocalTime { weekday, minute: (seconds.rem_euclid(DAY) / 60) as u16 }
    }
}

/// A date and time as a clock on the wall shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WallClock {
    pub year: i64,
    pub month: u8,
    pub day: u8,
    pub hour: u8,
    pub minute: u8,
}

impl WallClock {
    /// What a clock in UTC shows.
    pub fn of(unix_ms: UnixMillis) -> WallClock {
        let seconds = unix_ms.div_euclid(1_000);
        let (year, month, day) = civil(seconds.div_euclid(DAY));
        let minutes = seconds.rem_euclid(DAY) / 60;
        let small = |number: i64| number as u8;
        WallClock {
            year,
            month: small(month),
            day: small(day),
            hour: small(minutes / 60),
            minute: small(minutes % 60),
        }
    }
}

impl TimeZone {
    /// The moment at which a clock of this zone shows that. Of an hour that comes twice it is the first one, of an
    /// hour that is left out the same time after the change.
    pub fn unix_ms_of(&self, wall: WallClock) -> UnixMillis {
        let days = days_from_civil(wall.year, wall.month.into(), wall.day.into());
        let shown = days * DAY + i64::from(wall.hour) * 3_600 + i64::from(wall.minute) * 60;
        let offsets = [self.summer.as_ref().map_or(self.standard, |summer| summer.offset), self.standard];
        let earliest_first = [offsets[0].max(offsets[1]), offsets[0].min(offsets[1])];
        let fits = |offset: &i32| self.offset_at((shown - i64::from(*offset)) * 1_000) == *offset;
        let offset = earliest_first.into_iter().find(fits).unwrap_or(earliest_first[1]);
        (shown - i64::from(offset)) * 1_000
    }
}

impl std::str::FromStr for WallClock {
    type Err = String;
    /// Reads `2026-03-02 10:00`.
    fn from_str(text: &str) -> Result<WallClock, String> {
        let read = || {
            let (date, time) = text.split_once([' ', 'T'])?;
            let mut date = date.splitn(3, '-');
            let (year, month, day) = (date.next()?, date.next()?, date.next()?);
            let (hour, minute) = time.split_once(':')?;
            let number = |text: &str, low: u8, high: u8| {
                text.parse::<u8>().ok().filter(|value| text.len() == 2 && (low..=high).contains(value))
            };
            let wall = WallClock {
                year: year.parse().ok().filter(|year| (1970..=9999).contains(year))?,
                month: number(month, 1, 12)?,
                day: number(day, 1, 31)?,
                hour: number(hour, 0, 23)?,
                minute: number(minute, 0, 59)?,
            };
            let days = days_from_civil(wall.year, wall.month.into(), wall.day.into());
            (civil(days) == (wall.year, wall.month.into(), wall.day.into())).then_some(wall)
        };
        read().ok_or_else(|| format!("\"{text}\" is no date and time; write \"2026-03-02 10:00\""))
    }
}

impl Change {
    /// Seconds after the epoch, in local time.
    fn in_year(self, year: i64) -> i64 {
        let day = match self.day {
            YearDay::Weekday { month, week, weekday } => {
                let first = days_from_civil(year, month.into(), 1);
                // Day 0 of the epoch was a Thursday, 4 when Sunday is 0.
                let first_weekday = (first + 4).rem_euclid(7);
                let mut day =
                    first + (i64::from(weekday) - first_weekday).rem_euclid(7) + (i64::from(week) - 1) * 7;
                let next_month = if month == 12 {
                    days_from_civil(year + 1, 1, 1)
                } else {
                    days_from_civil(year, i64::from(month) + 1, 1)
                };
                while day >= next_month {
                    day -= 7;
                }
                day
            }
            YearDay::Julian(day) => {
                let leap = days_from_civil(year + 1, 1, 1) - days_from_civil(year, 1, 1) == 366;
                days_from_civil(year, 1, 1) + i64::from(day) - 1 + i64::from(leap && day >= 60)
            }
            YearDay::Ordinal(day) => days_from_civil(year, 1, 1) + i64::from(day),
        };
        day * DAY + i64::from(self.second)
    }
}

/// Days after 1970-01-01 of a date of the Gregorian calendar (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month and day of a count of days after 1970-01-01; the inverse of [`days_from_civil`].
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

impl FromStr for TimeZone {
    type Err = String;

    /// Reads `UTC0`, `CET-1CEST,M3.5.0,M10.5.0/3` or `<+0330>-3:30`.
    fn from_str(text: &str) -> Result<TimeZone, String> {
        parse(text).ok_or_else(|| {
            format!("\"{text}\" is no POSIX time zone; write \"UTC0\" or, for Brussels, \"CET-1CEST,M3.5.0,M10.5.0/3\"")
        })
    }
}

fn parse(text: &str) -> Option<TimeZone> {
    if text == "UTC" {
        return Some(TimeZone::UTC);
    }
    let rest = name(text)?;
    let (standard, rest) = time(rest)?;
    // POSIX counts west of UTC as positive.
    let standard = -standard;
    if rest.is_empty() {
        return within_a_day(standard).then_some(TimeZone { standard, summer: None });
    }
    let rest = name(rest)?;
    let (offset, rest) = if rest.starts_with(',') {
        (standard + 3_600, rest)
    } else {
        let (offset, rest) = time(rest)?;
        (-offset, rest)
    };
    let mut changes = rest.strip_prefix(',')?.split(',');
    let (begins, ends) = (change(changes.next()?)?, change(changes.next()?)?);
    let fine = changes.next().is_none() && within_a_day(standard) && within_a_day(offset);
    fine.then_some(TimeZone { standard, summer: Some(Summer { offset, begins, ends }) })
}

fn within_a_day(seconds: i32) -> bool {
    i64::from(seconds.abs()) <= DAY
}

/// The rest after a zone's abbreviation: three letters or more, or anything in angle brackets.
fn name(text: &str) -> Option<&str> {
    if let Some(quoted) = text.strip_prefix('<') {
        let (name, rest) = quoted.split_once('>')?;
        return (name.len() >= 3).then_some(rest);
    }
    let end = text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len());
    (end >= 3).then(|| &text[end..])
}

/// `[+-]hh[:mm[:ss]]` in seconds, and the rest.
fn time(text: &str) -> Option<(i32, &str)> {
    let (sign, text) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let end = text.find(|c: char| !c.is_ascii_digit() && c != ':').unwrap_or(text.len());
    let (written, rest) = text.split_at(end);
    let mut seconds = 0;
    let mut parts = written.split(':');
    for (index, unit) in [3_600, 60, 1].into_iter().enumerate() {
        let Some(part) = parts.next() else {
            if index == 0 {
                return None;
            }
            break;
        };
        let limit = if index == 0 { 167 } else { 59 };
        let value: i32 = part.parse().ok().filter(|value| *value <= limit)?;
        seconds += value * unit;
    }
    parts.next().is_none().then_some((sign * seconds, rest))
}

fn change(text: &str) -> Option<Change> {
    let (day, second) = match text.split_once('/') {
        Some((day, written)) => {
            let (second, rest) = time(written)?;
            rest.is_empty().then_some((day, second))?
        }
        None => (text, 2 * 3_600),
    };
    let number = |text: &str, range: std::ops::RangeInclusive<u16>| {
        text.parse::<u16>().ok().filter(|value| range.contains(value))
    };
    let day = if let Some(rule) = day.strip_prefix('M') {
        let mut parts = rule.split('.');
        let month = number(parts.next()?, 1..=12)? as u8;
        let week = number(parts.next()?, 1..=5)? as u8;
        let weekday = number(parts.next()?, 0..=6)? as u8;
        parts.next().is_none().then_some(YearDay::Weekday { month, week, weekday })?
    } else if let Some(day) = day.strip_prefix('J') {
        YearDay::Julian(number(day, 1..=365)?)
    } else {
        YearDay::Ordinal(number(day, 0..=365)?)
    };
    Some(Change { day, second })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BRUSSELS: &str = "CET-1CEST,M3.5.0,M10.5.0/3";

    fn offset(zone: &str, unix_seconds: i64) -> i32 {
        zone.parse::<TimeZone>().unwrap().offset_at(unix_seconds * 1_000)
    }

    #[test]
    fn brussels_changes_at_one_utc_on_the_last_sundays() {
        // 2026-03-29 01:00 UTC and 2026-10-25 01:00 UTC.
        assert_eq!(offset(BRUSSELS, 1_774_745_999), 3_600);
        assert_eq!(offset(BRUSSELS, 1_774_746_000), 7_200);
        assert_eq!(offset(BRUSSELS, 1_792_889_999), 7_200);
        assert_eq!(offset(BRUSSELS, 1_792_890_000), 3_600);
    }

    #[test]
    fn summer_south_of_the_equator_spans_the_new_year() {
        let sydney = "AEST-10AEDT,M10.1.0,M4.1.0/3";
        // 2026-01-01, 2026-04-04 16:00 UTC (end of summer), 2026-07-01.
        assert_eq!(offset(sydney, 1_767_225_600), 39_600);
        assert_eq!(offset(sydney, 1_775_318_399), 39_600);
        assert_eq!(offset(sydney, 1_775_318_400), 36_000);
        assert_eq!(offset(sydney, 1_782_864_000), 36_000);
    }

    #[test]
    fn zones_without_summer_and_with_quoted_names_are_read() {
        assert_eq!(offset("UTC0", 0), 0);
        assert_eq!(offset("UTC", 0), 0);
        assert_eq!(offset("<+0330>-3:30", 0), 12_600);
        assert_eq!(offset("EST5EDT,M3.2.0,M11.1.0", 1_767_225_600), -18_000);
        // Irish standard time is summer time: the "summer" of its rule is winter, behind the standard.
        assert_eq!(offset("IST-1GMT0,M10.5.0,M3.5.0/1", 1_767_225_600), 0);
        assert_eq!(offset("IST-1GMT0,M10.5.0,M3.5.0/1", 1_782_864_000), 3_600);
    }

    #[test]
    fn a_wall_clock_is_one_moment_also_at_the_changes() {
        let zone: TimeZone = BRUSSELS.parse().unwrap();
        let at = |text: &str| zone.unix_ms_of(text.parse().unwrap()) / 1_000;
        assert_eq!(at("2026-01-01 01:00"), 1_767_225_600);
        assert_eq!(at("2026-07-01T02:00"), 1_782_864_000);
        assert_eq!(WallClock::of(1_782_864_059_999), "2026-07-01 00:00".parse().unwrap());
        // 02:30 is left out on 2026-03-29 and comes twice on 2026-10-25.
        assert_eq!(at("2026-03-29 02:30"), 1_774_746_000 + 1_800);
        assert_eq!(at("2026-10-25 02:30"), 1_792_890_000 - 1_800);
        for bad in
            ["", "2026-02-29 10:00", "2026-13-01 10:00", "2026-01-01", "2026-01-01 24:00", "2026-1-1 1:00"]
        {
            assert!(bad.parse::<WallClock>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_no_zone_is_refused() {
        for bad in [
            "",
            "CET",
            "Europe/Brussels",
            "CET-1CEST",
            "CET-1CEST,M3.5.0",
            "CET-1CEST,M13.5.0,M10.5.0",
            "C-1",
        ] {
            assert!(bad.parse::<TimeZone>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_wall_clock_shows_weekday_and_minute() {
        let zone: TimeZone = BRUSSELS.parse().unwrap();
        // 2026-03-29 00:59 UTC is Sunday 01:59, one minute later it is 03:00.
        let before = zone.local(1_774_745_940_000);
        let after = zone.local(1_774_746_000_000);
        assert_eq!(before, LocalTime { weekday: Weekday::Sunday, minute: 119 });
        assert_eq!(after, LocalTime { weekday: Weekday::Sunday, minute: 180 });
        assert_eq!(TimeZone::UTC.local(0), LocalTime { weekday: Weekday::Thursday, minute: 0 });
        assert_eq!(TimeZone::UTC.local(-1), LocalTime { weekday: Weekday::Wednesday, minute: 1_439 });
    }

    proptest! {
        #[test]
        fn days_and_dates_are_inverse(days in -1_000_000i64..1_000_000) {
            let (year, month, day) = civil(days);
            prop_assert!((1..=12).contains(&month) && (1..=31).contains(&day));
            prop_assert_eq!(days_from_civil(year, month, day), days);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,30}") {
            let _ = text.parse::<TimeZone>();
        }
    }
}
