//! Go duration strings, the form that Kubernetes APIs use.

use std::time::Duration;

/// Why a text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a duration; write hours, minutes and seconds as 8760h, 15m or 1h30m")]
pub struct DurationError(pub String);

/// Parses a positive Go duration made of whole `h`, `m`, `s` and `ms` parts (`1h30m`).
///
/// Go's `time.ParseDuration` also takes fractions and a sign; neither makes sense for the periods
/// of this API, so they are errors.
pub fn parse_go_duration(text: &str) -> Result<Duration, DurationError> {
    let wrong = || DurationError(text.to_owned());
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_lowercase).count();
        let unit_ms = match &rest[..letters] {
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1_000,
            "ms" => 1,
            _ => return Err(wrong()),
        };
        rest = &rest[letters..];
        let part = Duration::from_millis(number.checked_mul(unit_ms).ok_or_else(wrong)?);
        total = total.checked_add(part).ok_or_else(wrong)?;
    }
    if total.is_zero() {
        return Err(wrong());
    }
    Ok(total)
}
