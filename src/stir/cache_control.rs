//! How long a web server lets its answer be kept (RFC 9111 §5.2.2).

use std::time::Duration;

/// What one Cache-Control field says; `None`: nothing.
pub fn max_age(value: &str) -> Option<Duration> {
    let mut age = None;
    for part in value.split(',').map(str::trim) {
        if part.eq_ignore_ascii_case("no-store") || part.eq_ignore_ascii_case("no-cache") {
            return Some(Duration::ZERO);
        }
        if let Some((name, seconds)) = part.split_once('=')
            && name.trim_end().eq_ignore_ascii_case("max-age")
        {
            age = seconds.trim_start().trim_matches('"').parse().ok().map(Duration::from_secs);
        }
    }
    age
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_is_read_and_what_must_not_be_kept_is_old_at_once() {
        let seconds = |value| max_age(value).map(|age| age.as_secs());
        assert_eq!(seconds("public, max-age=600"), Some(600));
        assert_eq!(seconds("Max-Age=\"60\", private"), Some(60));
        assert_eq!(seconds("max-age=600, no-store"), Some(0));
        assert_eq!(seconds("No-Cache"), Some(0));
        for silent in ["", "public", "max-age=", "max-age=soon", "s-maxage=5"] {
            assert_eq!(seconds(silent), None, "{silent}");
        }
    }
}
