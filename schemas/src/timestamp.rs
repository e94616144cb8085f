//! The times that providers write, as milliseconds since 1970 (UTC).

use std::borrow::Cow;
use std::num::NonZeroU8;

use time::OffsetDateTime;
use time::format_description::well_known::iso8601::{Config, EncodedConfig, TimePrecision};
use time::format_description::well_known::{Iso8601, Rfc3339};

/// How times are written: years of four digits, and three digits behind the seconds.
const WRITTEN: EncodedConfig = Config::DEFAULT
    .set_time_precision(TimePrecision::Second {
        decimal_digits: NonZeroU8::new(3),
    })
    .encode();

/// Numbers below this, in absolute value, are seconds, the others milliseconds: as seconds it
/// is the year 5138, as milliseconds March 1973, so no webhook's time is on the wrong side.
pub const MILLIS_FROM: u64 = 100_000_000_000;

/// The last millisecond of the year 9999, the last that every reader of Avro can show.
const LAST: i64 = 253_402_300_799_999;

/// The first millisecond of the year 1.
const FIRST: i64 = -62_135_596_800_000;

/// Reads a number (see [`MILLIS_FROM`]) or ISO 8601 with an offset. `None`: it is neither, as a time
/// without an offset, or it does not fit. What is beyond a millisecond is left out.
pub fn read(text: &str) -> Option<i64> {
    number(text).or_else(|| iso8601(text))
}

/// Reads seconds or milliseconds, decimal digits with at most a minus before them. What is not
/// negative may have a fraction; the whole number before it says which of the two it is.
fn number(text: &str) -> Option<i64> {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) if is_digits(whole) && is_digits(fraction) => (whole, fraction),
        None if is_digits(text.strip_prefix('-').unwrap_or(text)) => (text, ""),
        _ => return None,
    };
    let number: i64 = whole.parse().ok()?;
    if number.unsigned_abs() >= MILLIS_FROM {
        return Some(number);
    }
    let thousandths = fraction.bytes().chain(*b"000").take(3);
    let millis = thousandths.fold(0, |millis, digit| millis * 10 + i64::from(digit - b'0'));
    number.checked_mul(1000)?.checked_add(millis)
}

/// Reads ISO 8601 with a date, a time and an offset.
pub fn iso8601(text: &str) -> Option<i64> {
    // Far longer than any form with nanoseconds: what is longer is not looked at.
    const LONGEST: usize = 64;
    if text.len() > LONGEST {
        return None;
    }
    let time = OffsetDateTime::parse(&by_the_letter(text), &Iso8601::PARSING).ok()?;
    let millis = time.unix_timestamp_nanos().div_euclid(1_000_000);
    i64::try_from(millis).ok()
}

/// The first and the last microsecond of a time of RFC 3339, as precisely as it is written: `12:00:00Z` is a
/// whole second, `12:00:00.5Z` a tenth of one. `None` past the microsecond and outside of the years 1 to
/// 9999.
pub fn rfc3339_span(text: &str) -> Option<(i64, i64)> {
    let behind = text.get(19..)?.strip_prefix('.').unwrap_or_default();
    let digits = behind.bytes().take_while(u8::is_ascii_digit).count();
    let rest = u32::try_from(6_usize.checked_sub(digits)?).ok()?;
    let nanos = OffsetDateTime::parse(text, &Rfc3339)
        .ok()?
        .unix_timestamp_nanos();
    // A leap second has a fraction that is not written.
    let first = i64::try_from(nanos / 1000)
        .ok()
        .filter(|_| nanos % 1000 == 0)?;
    showable(first.div_euclid(1000))?;
    Some((first, first + 10_i64.pow(rest) - 1))
}

/// The text as ISO 8601 has it, where it is written in a way that many libraries have and that means
/// one time alone: behind `YYYY-MM-DD` small letters or a blank in the place of the `T`, which RFC 3339
/// allows, and ` UTC` in the place of the `Z`, as Ruby writes. The offset is needed all the same.
fn by_the_letter(text: &str) -> Cow<'_, str> {
    let is_date = |date: &str| {
        let shape = date.bytes().map(|byte| match byte {
            b'0'..=b'9' => b'0',
            other => other,
        });
        shape.eq(*b"0000-00-00")
    };
    let parts = text.split_at_checked(10).and_then(|(date, rest)| {
        let time = rest.strip_prefix(['T', 't', ' '])?;
        is_date(date).then_some((date, time))
    });
    let Some((date, time)) = parts else {
        return Cow::Borrowed(text);
    };
    match time.strip_suffix('z').or_else(|| time.strip_suffix(" UTC")) {
        Some(time) => Cow::Owned(format!("{date}T{time}Z")),
        None if text[10..].starts_with('T') => Cow::Borrowed(text),
        None => Cow::Owned(format!("{date}T{time}")),
    }
}

/// A time that may stand in an event: within the years 1 to 9999, which is what readers can show.
pub fn showable(millis: i64) -> Option<i64> {
    (FIRST..=LAST).contains(&millis).then_some(millis)
}

/// A time in milliseconds since 1970 as RFC 3339 in UTC, for people and headers; `None` outside of the
/// years 0 to 9999, which RFC 3339 has no words for.
///
/// The fraction always has three digits: readers that guess a value's type by its form, as Kafka
/// Connect's headers do, must not find a time in one record and text in the next.
pub fn rfc3339(millis: i64) -> Option<String> {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000).ok()?;
    time.format(&Iso8601::<WRITTEN>).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn seconds_and_milliseconds_are_distinguished() {
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
    fn a_time_of_rfc_3339_is_as_long_as_it_is_precise() {
        let second = 1_757_035_106_000_000;
        for (text, first, length) in [
            ("2025-09-05T01:18:26Z", second, 1_000_000),
            ("2025-09-05t01:18:26z", second, 1_000_000),
            ("2025-09-04T18:18:26-07:00", second, 1_000_000),
            ("2025-09-05T01:18:26.5Z", second + 500_000, 100_000),
            ("2025-09-05T01:18:26.123+00:00", second + 123_000, 1_000),
            ("2025-09-05T01:18:26.123456Z", second + 123_456, 1),
            ("1969-12-31T23:59:59.9Z", -100_000, 100_000),
        ] {
            assert_eq!(
                rfc3339_span(text),
                Some((first, first + length - 1)),
                "{text}"
            );
        }
        for bad in [
            "",
            "2025-09-05",
            "2025-09-05T01:18:26",
            "2025-09-05T01:18Z",
            "2025-09-05T01:18:26.Z",
            "2025-09-05T01:18:26.1234567Z",
            "2025-09-05T01:18:26.1234560Z",
            "2025-02-30T01:18:26Z",
            "2016-12-31T23:59:60Z",
            "0000-01-01T00:00:00Z",
            "1757035106",
            "2025-09-05T01:18:26éZ",
            "2025-09-05T01:18:2é.5Z",
        ] {
            assert_eq!(rfc3339_span(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_number_may_have_a_fraction() {
        assert_eq!(read("1641234567.5"), Some(1_641_234_567_500));
        assert_eq!(read("1641234567.05"), Some(1_641_234_567_050));
        assert_eq!(read("1641234567.123999"), Some(1_641_234_567_123));
        assert_eq!(read("1641234567.000"), read("1641234567"));
        assert_eq!(read("99999999999.999"), Some(99_999_999_999_999));
        assert_eq!(read("100000000000.9"), Some(100_000_000_000));
        assert_eq!(read("1641234567123.999"), Some(1_641_234_567_123));
        let long = format!("1641234567.{}", "1".repeat(100_000));
        assert_eq!(read(&long), Some(1_641_234_567_111));
        for bad in [
            "1641234567.",
            ".5",
            ".",
            "-.5",
            "-1641234567.5",
            "1641234567.-5",
            "1641234567.5.5",
            "1641234567,5",
            "1641234567.5e0",
            "1641234567.5 ",
            "1641234567 .5",
            "1641234567.5Z",
            "9223372036854775808.5",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn iso_8601_is_read_as_rfc_3339_and_ruby_write_it_too() {
        let second = Some(1_757_035_106_000);
        for good in [
            "2025-09-05t01:18:26z",
            "2025-09-05T01:18:26z",
            "2025-09-05t01:18:26Z",
            "2025-09-05 01:18:26Z",
            "2025-09-05 01:18:26z",
            "2025-09-05 01:18:26 UTC",
            "2025-09-05T01:18:26 UTC",
            "2025-09-04 18:18:26-07:00",
            "2025-09-04t18:18:26.000-07:00",
        ] {
            assert_eq!(read(good), second, "{good}");
        }
        assert_eq!(read("2025-09-05 01:18:26.25 UTC"), Some(1_757_035_106_250));
        for bad in [
            // Without an offset, or with a name that stands for several.
            "2025-09-05 01:18:26",
            "2025-09-05t01:18:26",
            "2025-09-05 01:18:26 EST",
            "2025-09-05 01:18:26 CST",
            // Two offsets.
            "2025-09-05 01:18:26Z UTC",
            "2025-09-05 01:18:26+02:00 UTC",
            "2025-09-05 01:18:26+02:00z",
            "2025-09-05 01:18:26zz",
            "2025-09-05 01:18:26 UTC UTC",
            // Days before months, or years of two digits.
            "05-09-2025 01:18:26Z",
            "05/09/2025 01:18:26Z",
            "25-09-05 01:18:26Z",
            // Anything else.
            "2025-09-05  01:18:26Z",
            "2025-09-05 01:18:26  UTC",
            "2025-09-05\t01:18:26Z",
            "2025-09-05T 01:18:26Z",
            "2025-09-05 T01:18:26Z",
            "2025-09-05 UTC",
            "2025-09-05 z",
            "2025-09-0501:18:26Z",
            " 2025-09-05 01:18:26Z",
            "2025-09-05 01:18:26Z ",
            "2025-02-30 00:00:00Z",
            "2025-09-05é01:18:26Z",
            "20é5-09-05 01:18:26Z",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_time_is_written_with_three_digits_of_a_fraction() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_757_035_106_000, "2025-09-05T01:18:26.000Z"),
            (1_757_035_106_001, "2025-09-05T01:18:26.001Z"),
            (1_757_035_106_120, "2025-09-05T01:18:26.120Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (FIRST, "0001-01-01T00:00:00.000Z"),
            (LAST, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(rfc3339(millis).as_deref(), Some(text));
        }
        for none in [LAST + 1, i64::MAX, i64::MIN, FIRST - 400 * 86_400_000] {
            assert_eq!(rfc3339(none), None);
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for bad in [
            "",
            "-",
            "+5",
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
        fn no_text_panics(text in "[-+0-9TZWtzUC:., ]{0,40}|\\PC{0,80}") {
            let _ = (read(&text), rfc3339_span(&text));
        }

        #[test]
        fn what_is_written_is_read_as_the_same_time(millis in FIRST..=LAST) {
            let text = rfc3339(millis).expect("a time of those years");
            prop_assert_eq!(text.len(), 24);
            prop_assert_eq!(read(&text), Some(millis));
        }
    }
}
