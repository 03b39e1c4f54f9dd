//! What is logged: levels per target, as `info,tandem::sip=debug`.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;

const LEVELS: [(&str, LevelFilter); 6] = [
    ("off", LevelFilter::OFF),
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];

/// A level that can't be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LevelError {
    #[error("\"{0}\" is not a log level; write off, error, warn, info, debug or trace, or TARGET=LEVEL")]
    UnknownLevel(String),
    #[error("the log level is empty; write off to log nothing")]
    Empty,
}

/// Reads a list of directives. Without a bare level, what no target names is logged from `error` up.
///
/// Stricter than tracing's own syntax, which takes a misspelt level for a target and logs all of it.
pub(super) fn parse(text: &str) -> Result<Targets, LevelError> {
    if text.trim().is_empty() {
        return Err(LevelError::Empty);
    }
    let mut targets = Targets::new().with_default(LevelFilter::ERROR);
    for directive in text.split(',').map(str::trim) {
        targets = match directive.split_once('=') {
            Some((target, name)) if !target.trim().is_empty() => {
                targets.with_target(target.trim(), level(name)?)
            }
            Some(_) | None => targets.with_default(level(directive)?),
        };
    }
    Ok(targets)
}

fn level(name: &str) -> Result<LevelFilter, LevelError> {
    let name = name.trim();
    LEVELS
        .into_iter()
        .find_map(|(known, level)| known.eq_ignore_ascii_case(name).then_some(level))
        .ok_or_else(|| LevelError::UnknownLevel(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn the_longest_target_decides() {
        let targets = parse("warn, tandem::sip=debug,tandem::sip::io = off").unwrap();
        assert!(targets.would_enable("tandem::media", &Level::WARN));
        assert!(!targets.would_enable("tandem::media", &Level::INFO));
        assert!(targets.would_enable("tandem::sip::dialog", &Level::DEBUG));
        assert!(!targets.would_enable("tandem::sip::io::udp", &Level::ERROR));
    }

    #[test]
    fn a_misspelt_level_is_an_error_that_says_what_to_write() {
        for bad in ["inof", "info,", "tandem=lots", "=info"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse("inof").unwrap_err().to_string().contains("write off, error, warn"));
        assert_eq!(parse(" ").unwrap_err(), LevelError::Empty);
    }
}
