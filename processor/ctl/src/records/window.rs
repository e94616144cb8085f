//! From when to when: times on the command line, and the window that they make.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sluice_schemas::settings::reader::duration;
use sluice_schemas::timestamp::{iso8601, rfc3339};

use crate::failure::Failure;

/// A time on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Milliseconds since 1970.
    At(i64),
    /// So long before now.
    Ago(Duration),
}

impl Moment {
    fn at(self, now: i64) -> i64 {
        match self {
            Self::At(millis) => millis,
            Self::Ago(long) => {
                let long = i64::try_from(long.as_millis()).unwrap_or(i64::MAX);
                now.saturating_sub(long).max(0)
            }
        }
    }
}

/// Reads `2026-01-31T08:00:00Z` or `2h`.
pub fn moment(text: &str) -> Result<Moment, String> {
    let ago = duration(text).map(Moment::Ago);
    let at = || iso8601(text).filter(|millis| *millis >= 0).map(Moment::At);
    ago.or_else(at).ok_or_else(|| {
        "must be a time with its offset, such as 2026-01-31T08:00:00Z, or a duration before now, such as 90m, \
         2h or 7d"
            .to_owned()
    })
}

/// The options that give a command its window.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Times {
    /// From here on: RFC 3339, or a duration before now (s, m, h, d)
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = moment)]
    since: Moment,
    /// Up to here, not included; the end as it is now where it is not given
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Moment>,
}

/// The options of a command that looks at all that is there, unless it is given a window.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Whole {
    /// From here on: RFC 3339, or a duration before now (s, m, h, d); all that is there where it is not given
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub since: Option<Moment>,
    /// Up to here, not included; the end as it is now where it is not given
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub until: Option<Moment>,
}

impl Whole {
    /// The window, as of now.
    pub fn window(self) -> Result<Window, Failure> {
        Window::new(self.since.unwrap_or(Moment::At(0)), self.until, now())
    }
}

impl Times {
    /// The window, as of now.
    pub fn window(self) -> Result<Window, Failure> {
        Window::new(self.since, self.until, now())
    }
}

/// A span of time, milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Its first.
    pub since: i64,
    /// Behind its last; `None`: to the end.
    pub until: Option<i64>,
}

impl Window {
    /// The window between two times, which must not be empty.
    pub fn new(since: Moment, until: Option<Moment>, now: i64) -> Result<Self, Failure> {
        let window = Self {
            since: since.at(now),
            until: until.map(|until| until.at(now)),
        };
        if window.since > now {
            let since = shown(window.since);
            return Err(Failure::Usage(format!(
                "--since {since} is in the future, where no record is"
            )));
        }
        if window.until.is_some_and(|until| until <= window.since) {
            let (until, since) = (shown(window.until.unwrap_or_default()), shown(window.since));
            return Err(Failure::Usage(format!(
                "--until {until} must be later than --since {since} (24h before now where it is not given)"
            )));
        }
        Ok(window)
    }

    /// Whether a record's time is in it.
    pub fn has(&self, millis: i64) -> bool {
        millis >= self.since && self.until.is_none_or(|until| millis < until)
    }
}

/// For people.
impl std::fmt::Display for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.until {
            Some(until) => write!(f, "from {} to {}", shown(self.since), shown(until)),
            None => write!(f, "from {} to now", shown(self.since)),
        }
    }
}

/// A time as RFC 3339 in UTC.
pub fn shown(millis: i64) -> String {
    rfc3339(millis).unwrap_or_else(|| format!("{millis} ms since 1970"))
}

/// Microseconds since 1970: the unit of a request's receipt.
pub fn now_us() -> i64 {
    now().saturating_mul(1000)
}

/// Milliseconds since 1970.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000_000;

    fn window(since: &str, until: Option<&str>) -> Result<Window, Failure> {
        let read = |text: &str| moment(text).expect("a time");
        Window::new(read(since), until.map(read), NOW)
    }

    #[test]
    fn times_are_rfc_3339_or_durations_before_now() {
        let day = window("24h", None).expect("a window");
        assert_eq!(day.since, NOW - 86_400_000);
        assert!(day.has(NOW) && day.has(day.since) && !day.has(day.since - 1));
        let some = window("2026-01-31T08:00:00+02:00", Some("2h")).expect("a window");
        assert_eq!(
            some.to_string(),
            "from 2026-01-31T06:00:00.000Z to 2027-01-15T06:00:00.000Z"
        );
        assert!(!some.has(NOW - 7_200_000) && some.has(NOW - 7_200_001));
        for bad in [
            "",
            "yesterday",
            "2026-01-31",
            "2026-01-31T08:00:00",
            "24",
            "-2h",
        ] {
            assert!(moment(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_window_that_is_empty_is_refused() {
        for (since, until) in [
            ("2h", Some("3h")),
            ("2h", Some("2h")),
            ("2099-01-01T00:00:00Z", None),
        ] {
            assert!(matches!(window(since, until), Err(Failure::Usage(_))));
        }
        // Before 1970 is since ever.
        assert_eq!(window("99999d", None).expect("a window").since, 0);
    }
}
