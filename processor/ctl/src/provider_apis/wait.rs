//! How long a provider asks to wait: an answer's `Retry-After` and `reset_at` in, a duration out.

use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::{Rfc2822, Rfc3339};

/// The shortest wait: a provider's clock may be behind ours.
const SHORTEST: Duration = Duration::from_millis(500);

/// The first wait where the provider names none; each later one is twice as long.
const FIRST: Duration = Duration::from_secs(1);

/// Numbers up to here are seconds since 1970, those above are milliseconds.
const MOST_SECONDS: i64 = 100_000_000_000;

/// How long the answer asks to wait: the longer of its header and of its body's member, at `now`.
pub fn asked(headers: &HeaderMap, body: &[u8], now: OffsetDateTime) -> Option<Duration> {
    let header = headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok());
    let header = header.and_then(|text| retry_after(text.trim(), now));
    let body = reset_at(body).map(|at| until(at, now));
    header.max(body).map(|wait| wait.max(SHORTEST))
}

/// The wait before another attempt, where the provider names none.
pub fn own(attempts: u32) -> Duration {
    let doubled = FIRST * 2_u32.saturating_pow(attempts.saturating_sub(1));
    // Callers that failed together do not come again together.
    doubled.mul_f64(0.5 + fastrand::f64() / 2.0)
}

/// Seconds, or a date as HTTP writes it.
fn retry_after(text: &str, now: OffsetDateTime) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    // `GMT` is what HTTP writes and RFC 2822 reads as an old name of the zone.
    let at = OffsetDateTime::parse(text, &Rfc2822).ok()?;
    Some(until(at, now))
}

/// `reset_at` of a JSON body or of its `error`: RFC 3339, or a number since 1970 in seconds or milliseconds.
fn reset_at(body: &[u8]) -> Option<OffsetDateTime> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let member = body
        .get("reset_at")
        .or_else(|| body.get("error")?.get("reset_at"))?;
    match member {
        Value::Number(number) => since_1970(number.as_i64()?),
        Value::String(text) => match text.parse() {
            Ok(number) => since_1970(number),
            Err(_) => OffsetDateTime::parse(text, &Rfc3339).ok(),
        },
        _ => None,
    }
}

fn since_1970(number: i64) -> Option<OffsetDateTime> {
    let seconds = if number.abs() < MOST_SECONDS {
        number
    } else {
        // Up to the next second, so that it is not asked too early.
        number / 1000 + 1
    };
    OffsetDateTime::from_unix_timestamp(seconds).ok()
}

fn until(at: OffsetDateTime, now: OffsetDateTime) -> Duration {
    Duration::try_from(at - now).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_700_000_000).expect("a time")
    }

    fn of(header: Option<&'static str>, body: &str) -> Option<u64> {
        let mut headers = HeaderMap::new();
        if let Some(value) = header {
            headers.insert(RETRY_AFTER, value.parse().expect("a value"));
        }
        asked(&headers, body.as_bytes(), now()).map(|wait| wait.as_secs())
    }

    #[test]
    fn the_longer_of_what_header_and_body_ask_is_waited() {
        assert_eq!(of(None, ""), None);
        assert_eq!(of(Some("7"), ""), Some(7));
        assert_eq!(of(Some("Tue, 14 Nov 2023 22:13:30 GMT"), "{}"), Some(10));
        assert_eq!(of(Some("soon"), "[]"), None);
        for at in [
            r#""2023-11-14T22:13:32Z""#,
            r#""2023-11-15T00:13:32+02:00""#,
            "1700000012",
            r#""1700000012""#,
            "1700000011999",
        ] {
            assert_eq!(
                of(None, &format!("{{\"reset_at\": {at}}}")),
                Some(12),
                "{at}"
            );
            let inner = format!("{{\"error\": {{\"reset_at\": {at}}}}}");
            assert_eq!(of(Some("3"), &inner), Some(12), "{at}");
        }
        assert_eq!(of(Some("30"), r#"{"reset_at": 1700000012}"#), Some(30));
    }

    #[test]
    fn a_time_that_is_past_or_none_is_a_short_wait_or_none() {
        let past = asked(&HeaderMap::new(), br#"{"reset_at": 5}"#, now());
        assert_eq!(past, Some(SHORTEST));
        for bad in [
            r#"{"reset_at": "tomorrow"}"#,
            r#"{"reset_at": {}}"#,
            "not JSON",
        ] {
            assert_eq!(of(None, bad), None, "{bad}");
        }
        assert_eq!(of(None, r#"{"reset_at": 9223372036854775807}"#), None);
    }

    #[test]
    fn waits_of_our_own_become_longer() {
        for attempts in 1..4 {
            let wait = own(attempts);
            let most = FIRST * 2_u32.pow(attempts - 1);
            assert!(most / 2 <= wait && wait <= most, "{wait:?}");
        }
    }
}
