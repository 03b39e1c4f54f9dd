//! Which numbers the callers of a trunk may call with, and what becomes of other ones.

use crate::types::E164;

/// What happens to a call with a number that its trunk may not present.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ScreeningAction {
    /// It keeps its number: the trunk is believed.
    #[default]
    Pass,
    /// It gets the default number, or none.
    Replace,
    /// It is refused.
    Reject,
}

/// The policy of one trunk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Screening {
    /// Prefixes of the numbers it may present, as `+3225550`; empty: any number.
    pub ranges: Vec<String>,
    pub default: Option<E164>,
    pub action: ScreeningAction,
}

/// The trunk may not call with this number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotItsNumber;

impl Screening {
    pub fn allows(&self, number: &E164) -> bool {
        self.ranges.is_empty() || self.ranges.iter().any(|range| number.as_str().starts_with(range.as_str()))
    }

    /// The number a call goes on with.
    pub fn screen(&self, number: Option<E164>) -> Result<Option<E164>, NotItsNumber> {
        let allowed = match &number {
            Some(number) => self.allows(number),
            None => self.ranges.is_empty(),
        };
        match self.action {
            ScreeningAction::Pass => Ok(number),
            ScreeningAction::Replace | ScreeningAction::Reject if allowed => {
                Ok(number.or(self.default.clone()))
            }
            ScreeningAction::Replace => Ok(self.default.clone()),
            ScreeningAction::Reject => Err(NotItsNumber),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> E164 {
        text.parse().unwrap()
    }

    fn policy(action: ScreeningAction) -> Screening {
        Screening {
            ranges: vec!["+3225550".into(), "+3247".into()],
            default: Some(number("+3225550000")),
            action,
        }
    }

    #[test]
    fn each_policy_does_to_a_foreign_number_what_it_says() {
        use ScreeningAction::{Pass, Reject, Replace};
        let (own, foreign) = (Some(number("+3225550123")), Some(number("+441632960123")));
        for action in [Pass, Replace, Reject] {
            assert_eq!(policy(action).screen(own.clone()), Ok(own.clone()), "{action:?}");
        }
        assert_eq!(policy(Pass).screen(foreign.clone()), Ok(foreign.clone()));
        assert_eq!(policy(Replace).screen(foreign.clone()), Ok(Some(number("+3225550000"))));
        assert_eq!(policy(Reject).screen(foreign), Err(NotItsNumber));
    }

    #[test]
    fn a_call_without_a_number_is_no_number_of_the_trunks() {
        use ScreeningAction::{Pass, Reject, Replace};
        assert_eq!(policy(Pass).screen(None), Ok(None));
        assert_eq!(policy(Replace).screen(None), Ok(Some(number("+3225550000"))));
        assert_eq!(policy(Reject).screen(None), Err(NotItsNumber));
        assert_eq!(Screening::default().screen(None), Ok(None));
    }
}
