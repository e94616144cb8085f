//! The times that providers write, as milliseconds since 1970 (UTC).

use time::OffsetDateTime;
use time::format_description::well_known::{Iso8601, Rfc3339};

/// Whole numbers below this, in absolute value, are seconds, the others milliseconds: as seconds it
/// is the year 5138, as milliseconds March 1973, so no webhook's time is on the wrong side.
pub const MILLIS_FROM: u64 = 100_000_000_000;

/// The last millisecond of the year 9999, the last that every reader of Avro can show.
const LAST: i64 = 253_402_300_799_999;

/// The first millisecond of the year 1.
const FIRST: i64 = -62_135_596_800_000;

/// Reads a whole number (see [`MILLIS_FROM`]) or ISO 8601 with an offset. `None`: it is neither, as a
/// fractional number or a time without an offset, or it does not fit.
pub fn read(text: &str) -> Option<i64> {
    integer(text).or_else(|| iso8601(text))
}

/// Reads a whole number of seconds or milliseconds, decimal digits with at most a minus before them.
fn integer(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: i64 = text.parse().ok()?;
    if number.unsigned_abs() < MILLIS_FROM {
        number.checked_mul(1000)
    } else {
        Some(number)
    }
}

/// Reads ISO 8601 with a date, a time and an offset.
pub fn iso8601(text: &str) -> Option<i64> {
    // Far longer than any form with nanoseconds: what is longer is not looked at.
    const LONGEST: usize = 64;
    if text.len() > LONGEST {
        return None;
    }
    let time = OffsetDateTime::parse(text, &Iso8601::PARSING).ok()?;
    let millis = time.unix_timestamp_nanos().div_euclid(1_000_000);
    i64::try_from(millis).ok()
}

/// A time that may stand in an event: within the years 1 to 9999, which is what readers can show.
pub fn showable(millis: i64) -> Option<i64> {
    (FIRST..=LAST).contains(&millis).then_some(millis)
}

/// A time in milliseconds since 1970 as RFC 3339 in UTC, for people and headers; `None` outside of the
/// years 0 to 9999, which RFC 3339 has no words for.
pub fn rfc3339(millis: i64) -> Option<String> {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000).ok()?;
    time.format(&Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn seconds_and_milliseconds_are_told_apart() {
        assert_eq!(read("1641234567"), Some(1_641_234_567_000));
        assert_eq!(read("1641234567123"), Some(1_641_234_567_123));
        assert_eq!(read("99999999999"), Some(99_999_999_999_000));
        assert_eq!(read("100000000000"), Some(100_000_000_000));
        assert_eq!(read("-5"), Some(-5_000));
        assert_eq!(read("-100000000000"), Some(-100_000_000_000));
        assert_eq!(read("0"), Some(0));
    }

    #[test]
    fn iso_8601_needs_an_offset() {
        assert_eq!(read("2025-09-04T18:18:26-07:00"), Some(1_757_035_106_000));
        assert_eq!(read("2025-09-05T01:18:26Z"), Some(1_757_035_106_000));
        assert_eq!(read("2025-09-05T01:18:26.123456Z"), Some(1_757_035_106_123));
        assert_eq!(read("20250905T011826Z"), Some(1_757_035_106_000));
        assert_eq!(read("1969-12-31T23:59:59.9995Z"), Some(-1));
        for bad in [
            "2025-09-05T01:18:26",
            "2025-09-05",
            "2025-02-30T00:00:00Z",
            "2025-09-05T25:00:00Z",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for bad in [
            "",
            "-",
            "+5",
            "1641234567.5",
            "1e9",
            "0x10",
            " 5",
            "now",
            "9223372036854775808",
            "١٢٣",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(read("9223372036854775807"), Some(i64::MAX));
        assert_eq!(read("-9223372036854775808"), Some(i64::MIN));
        assert_eq!(showable(i64::MAX), None);
        assert_eq!(showable(LAST), Some(LAST));
        assert_eq!(read("9999-12-31T23:59:59.999Z"), Some(LAST));
        assert_eq!(read("0001-01-01T00:00:00Z"), Some(FIRST));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[-+0-9TZW:. ]{0,40}|\\PC{0,80}") {
            let _ = read(&text);
        }
    }
}
