//! Is a secret of each source valid now, and for how long?

use sluice_schemas::providers::{Signing, Validity};
use sluice_schemas::settings::{Settings, Source};
use sluice_schemas::timestamp::rfc3339;

use super::finding::Finding;

/// How long before the last secret ends it is a warning: seven days, in microseconds.
const SOON: i64 = 7 * 86_400 * 1_000_000;

/// Warnings for sources without a valid secret, now or soon. `now`: microseconds since 1970.
pub fn check(settings: &Settings, now: i64) -> Vec<Finding> {
    let sources = settings.sources.values();
    let sources = sources.filter(|source| source.enabled);
    sources.filter_map(|source| warning(source, now)).collect()
}

fn warning(source: &Source, now: i64) -> Option<Finding> {
    if source.secrets.is_empty() || source.verifier.signing() == Signing::Off {
        return None;
    }
    let secrets = source.secrets.iter();
    let validities: Vec<Validity> = secrets.map(|secret| secret.validity).collect();
    let message = message(&validities, now)?;
    let path = format!("sources.{}.secrets", source.name);
    let mend =
        format!("add the provider's present secret to {path}, or correct not_before and not_after");
    Some(Finding::warn("secrets", &path, &message).mend(mend))
}

/// What is to be said of the times of a source's secrets.
fn message(validities: &[Validity], now: i64) -> Option<String> {
    const THEN: &str = "signed requests are rejected as signature_mismatch";
    if validities.iter().any(|validity| validity.contains(now)) {
        let last = valid_until(validities, now)?;
        let is_soon = last.saturating_sub(now) < SOON;
        return is_soon.then(|| {
            format!(
                "no secret is valid after {}: from then on {THEN}",
                time(last)
            )
        });
    }
    let starts = validities.iter().filter_map(|validity| validity.not_before);
    let next = starts.filter(|first| *first > now).min();
    Some(match next {
        Some(first) => format!(
            "no secret is valid before {}: until then {THEN}",
            time(first)
        ),
        None => format!("all secrets have expired: {THEN}"),
    })
}

/// The last microsecond up to which some secret is always valid; `None`: for ever.
fn valid_until(validities: &[Validity], now: i64) -> Option<i64> {
    let (mut at, mut until) = (now, now);
    loop {
        let valid = validities.iter().filter(|validity| validity.contains(at));
        let ends: Option<Vec<i64>> = valid.map(|validity| validity.not_after).collect();
        match ends?.into_iter().max() {
            None => return Some(until),
            Some(last) => {
                until = last;
                at = last.checked_add(1)?;
            }
        }
    }
}

fn time(micros: i64) -> String {
    rfc3339(micros.div_euclid(1000)).unwrap_or_else(|| format!("{micros} µs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = SOON / 7;

    fn said(bounds: &[(Option<i64>, Option<i64>)]) -> Option<String> {
        let validity = |(not_before, not_after): &(Option<i64>, Option<i64>)| Validity {
            not_before: *not_before,
            not_after: *not_after,
        };
        let validities: Vec<Validity> = bounds.iter().map(validity).collect();
        message(&validities, 100 * DAY)
    }

    #[test]
    fn what_is_valid_for_a_week_is_not_worth_a_word() {
        assert_eq!(said(&[(None, None)]), None);
        assert_eq!(said(&[(None, Some(107 * DAY))]), None);
        assert_eq!(
            said(&[(None, Some(101 * DAY)), (Some(101 * DAY), None)]),
            None
        );
        assert_eq!(
            said(&[(None, Some(101 * DAY)), (Some(101 * DAY + 1), None)]),
            None
        );
        assert_eq!(said(&[(None, Some(0)), (None, None)]), None);
    }

    #[test]
    fn what_has_expired_or_will_soon_is_a_warning() {
        let begins = |bounds: &[_], begin: &str| {
            let said = said(bounds).expect("a warning");
            assert!(said.starts_with(begin), "{said}");
        };
        begins(
            &[(None, Some(100 * DAY - 1)), (None, Some(1))],
            "all secrets have expired: ",
        );
        begins(
            &[(None, Some(107 * DAY - 1))],
            "no secret is valid after 1970-04-17T23:59:59.999Z: ",
        );
        // A gap between two is seen too.
        begins(
            &[(None, Some(101 * DAY)), (Some(101 * DAY + 2), None)],
            "no secret is valid after 1970-04-12T00:00:00.000Z: ",
        );
        begins(
            &[(None, Some(1)), (Some(200 * DAY), None)],
            "no secret is valid before 1970-07-20T00:00:00.000Z: ",
        );
    }
}
