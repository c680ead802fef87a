//! Durations as a ring writes them: one number and one unit, `90d`.

use std::time::Duration;

/// A duration that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no duration: write a whole number and one of the units s, m, h, d, for example 90d"
)]
pub struct DurationError(String);

/// Reads a duration such as `90d`, `36h`, `10m` or `0s`.
///
/// # Errors
/// If the text is not digits followed by `s`, `m`, `h` or `d`, or is too large.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let error = || DurationError(text.to_owned());
    let unit = text.chars().next_back().ok_or_else(error)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(error()),
    };
    let digits = text.strip_suffix(unit).ok_or_else(error)?;
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(error());
    }
    let number: u32 = digits.parse().map_err(|_| error())?;
    Ok(Duration::from_secs(u64::from(number) * seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_each_unit() {
        for (text, seconds) in
            [("0s", 0), ("10s", 10), ("90m", 5_400), ("36h", 129_600), ("90d", 7_776_000)]
        {
            assert_eq!(parse(text).unwrap().as_secs(), seconds, "{text}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in ["", "d", "10", "1.5h", "-1s", "1w", "1h30m", "99999999999d", "١d", "1é"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
