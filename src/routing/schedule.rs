//! When a dialplan rule holds: days of the week and hours of the day, in local time.

use crate::types::{LocalTime, Weekday};

/// Days and hours of a rule. Empty lists mean always.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Schedule {
    pub days: Vec<Weekday>,
    pub hours: Vec<Hours>,
}

/// From one minute of the day to before another. Where the end is not after the begin it lies on the next day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    /// Minutes after midnight, 0 to 1439.
    pub begin: u16,
    /// Minutes after midnight, 1 to 1440.
    pub end: u16,
}

impl Schedule {
    /// The day is the one on which the hours began: `fri 22:00-06:00` holds until Saturday 06:00.
    pub fn holds(&self, at: LocalTime) -> bool {
        let day = |day: Weekday| self.days.is_empty() || self.days.contains(&day);
        if self.hours.is_empty() {
            return day(at.weekday);
        }
        self.hours.iter().any(|hours| {
            if hours.begin < hours.end {
                day(at.weekday) && (hours.begin..hours.end).contains(&at.minute)
            } else {
                (day(at.weekday) && at.minute >= hours.begin)
                    || (day(at.weekday.previous()) && at.minute < hours.end)
            }
        })
    }
}

/// Reads `mon`, `mon-fri` or `sat-sun`.
pub fn parse_days(text: &str) -> Result<Vec<Weekday>, String> {
    let wrong = || format!("\"{text}\" is no day; write \"mon\", \"mon-fri\" or \"sat-sun\"");
    let day = |name: &str| {
        let name = name.trim().to_ascii_lowercase();
        Weekday::ALL.into_iter().find(|day| day.as_str() == name).ok_or_else(wrong)
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (mut at, last) = (day(first)?, day(last)?);
    let mut days = vec![at];
    while at != last {
        at = at.next();
        days.push(at);
    }
    Ok(days)
}

impl std::str::FromStr for Hours {
    type Err = String;
    /// Reads `08:00-18:30` or `22:00-06:00`.
    fn from_str(text: &str) -> Result<Hours, String> {
        let wrong =
            || format!("\"{text}\" are no hours; write \"08:00-18:30\" (\"22:00-06:00\" passes midnight)");
        let minute = |text: &str| {
            let (hour, minute) = text.trim().split_once(':').ok_or_else(wrong)?;
            if !(1..=2).contains(&hour.len()) || minute.len() != 2 {
                return Err(wrong());
            }
            let hour: u16 = hour.parse().map_err(|_| wrong())?;
            let minute: u16 = minute.parse().map_err(|_| wrong())?;
            let total = hour * 60 + minute;
            if minute < 60 && total <= 1_440 { Ok(total) } else { Err(wrong()) }
        };
        let (begin, end) = text.split_once('-').ok_or_else(wrong)?;
        let (begin, end) = (minute(begin)?, minute(end)?);
        if begin == 1_440 || end == begin { Err(wrong()) } else { Ok(Hours { begin, end }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Weekday::*;
    use proptest::prelude::*;

    fn at(weekday: Weekday, hour: u16, minute: u16) -> LocalTime {
        LocalTime { weekday, minute: hour * 60 + minute }
    }

    #[test]
    fn office_hours_end_before_their_last_minute() {
        let office =
            Schedule { days: parse_days("mon-fri").unwrap(), hours: vec!["08:00-18:00".parse().unwrap()] };
        assert!(office.holds(at(Monday, 8, 0)));
        assert!(office.holds(at(Friday, 17, 59)));
        assert!(!office.holds(at(Friday, 18, 0)));
        assert!(!office.holds(at(Monday, 7, 59)));
        assert!(!office.holds(at(Saturday, 12, 0)));
    }

    #[test]
    fn hours_past_midnight_belong_to_the_day_they_began() {
        let night = Schedule { days: vec![Friday], hours: vec!["22:00-06:00".parse().unwrap()] };
        assert!(night.holds(at(Friday, 22, 0)));
        assert!(night.holds(at(Saturday, 5, 59)));
        assert!(!night.holds(at(Saturday, 6, 0)));
        assert!(!night.holds(at(Friday, 5, 0)));
        assert!(!night.holds(at(Saturday, 22, 0)));
    }

    #[test]
    fn days_wrap_around_the_week() {
        assert_eq!(parse_days("sat-mon"), Ok(vec![Saturday, Sunday, Monday]));
        assert_eq!(parse_days("WED"), Ok(vec![Wednesday]));
        assert!(parse_days("monday").unwrap_err().contains("mon-fri"));
    }

    #[test]
    fn wrong_hours_say_what_to_write() {
        for bad in ["", "8-18", "08:00", "08:60-09:00", "25:00-26:00", "08:00-08:00", "24:00-01:00"] {
            assert!(bad.parse::<Hours>().unwrap_err().contains("08:00-18:30"), "{bad}");
        }
        assert_eq!("00:00-24:00".parse(), Ok(Hours { begin: 0, end: 1_440 }));
    }

    proptest! {
        #[test]
        fn hours_and_their_complement_share_the_day_between_them(
            a in 0u16..1440,
            b in 0u16..1440,
            minute in 0u16..1440,
        ) {
            prop_assume!(a != b);
            let holds = |begin, end| {
                let hours = vec![Hours { begin, end }];
                Schedule { days: vec![], hours }.holds(LocalTime { weekday: Monday, minute })
            };
            prop_assert!(holds(a, b) != holds(b, a));
        }
    }
}
