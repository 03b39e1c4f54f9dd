//! Values on their way into and out of both databases.

use sqlx::{Row, postgres::PgRow, sqlite::SqliteRow};

use super::error::StoreError;

/// One value of a row to be written. `None` is NULL.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// A call id.
    Id(String),
    Text(Option<String>),
    Int(Option<i64>),
    Real(Option<f64>),
    Flag(bool),
}

impl Value {
    /// Zero bytes, which PostgreSQL has no text for, become replacement characters: a caller chooses what it dials.
    pub fn text(text: impl Into<String>) -> Value {
        Value::Text(Some(text.into().replace('\0', "\u{fffd}")))
    }

    pub fn maybe_text(text: Option<impl Into<String>>) -> Value {
        text.map_or(Value::Text(None), Value::text)
    }

    /// Counters beyond what BIGINT holds stay at its end.
    pub fn int(number: impl TryInto<i64>) -> Value {
        Value::Int(Some(number.try_into().unwrap_or(i64::MAX)))
    }

    pub fn maybe_int(number: Option<impl TryInto<i64>>) -> Value {
        number.map_or(Value::Int(None), Value::int)
    }

    pub fn maybe_real(number: Option<f32>) -> Value {
        // Neither database sorts or averages NaN usefully.
        Value::Real(number.filter(|number| number.is_finite()).map(f64::from))
    }
}

/// Binds a value to a query of either database.
macro_rules! bind {
    ($query:expr, $value:expr) => {
        match $value {
            $crate::store::rows::Value::Id(id) => $query.bind(id),
            $crate::store::rows::Value::Text(text) => $query.bind(text),
            $crate::store::rows::Value::Int(number) => $query.bind(number),
            $crate::store::rows::Value::Real(number) => $query.bind(number),
            $crate::store::rows::Value::Flag(flag) => $query.bind(flag),
        }
    };
}
pub(super) use bind;

/// Reading a row of either database by column name.
pub(super) trait Columns {
    fn maybe_text(&self, name: &str) -> Result<Option<String>, StoreError>;
    fn maybe_int(&self, name: &str) -> Result<Option<i64>, StoreError>;
    fn maybe_real(&self, name: &str) -> Result<Option<f64>, StoreError>;
    fn flag(&self, name: &str) -> Result<bool, StoreError>;

    fn text(&self, name: &str) -> Result<String, StoreError> {
        self.maybe_text(name)?.ok_or_else(|| StoreError::corrupt(name, "NULL"))
    }

    fn int(&self, name: &str) -> Result<i64, StoreError> {
        self.maybe_int(name)?.ok_or_else(|| StoreError::corrupt(name, "NULL"))
    }

    /// A number of a smaller type.
    fn number<T: TryFrom<i64>>(&self, name: &str) -> Result<T, StoreError> {
        let number = self.int(name)?;
        T::try_from(number).map_err(|_| StoreError::corrupt(name, number))
    }

    fn maybe_number<T: TryFrom<i64>>(&self, name: &str) -> Result<Option<T>, StoreError> {
        let number = self.maybe_int(name)?;
        number.map(|number| T::try_from(number).map_err(|_| StoreError::corrupt(name, number))).transpose()
    }

    /// A text that something can be made of.
    fn parsed<T>(&self, name: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T, StoreError> {
        let text = self.text(name)?;
        parse(&text).ok_or_else(|| StoreError::corrupt(name, text))
    }

    fn maybe_parsed<T>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        let text = self.maybe_text(name)?;
        text.map(|text| parse(&text).ok_or_else(|| StoreError::corrupt(name, text))).transpose()
    }
}

macro_rules! columns {
    ($($row:ty),*) => {$(
        impl Columns for $row {
            fn maybe_text(&self, name: &str) -> Result<Option<String>, StoreError> {
                Ok(self.try_get(name)?)
            }
            fn maybe_int(&self, name: &str) -> Result<Option<i64>, StoreError> {
                Ok(self.try_get(name)?)
            }
            fn maybe_real(&self, name: &str) -> Result<Option<f64>, StoreError> {
                Ok(self.try_get(name)?)
            }
            fn flag(&self, name: &str) -> Result<bool, StoreError> {
                Ok(self.try_get(name)?)
            }
        }
    )*};
}
columns!(PgRow, SqliteRow);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_database_can_hold_is_made_fit() {
        assert_eq!(Value::text("a\0b"), Value::Text(Some("a\u{fffd}b".into())));
        assert_eq!(Value::int(u64::MAX), Value::Int(Some(i64::MAX)));
        assert_eq!(Value::maybe_real(Some(f32::NAN)), Value::Real(None));
    }
}
