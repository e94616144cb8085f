//! The secrets of a source at every time: secrets with the times at which they are valid come in, what
//! verifies a request that was received at one time goes out.

use std::collections::BTreeMap;

use super::api::{Authentic, Credentials, Delivery, Verifier};
use super::signature::Key;
use crate::reason::{Reason, Refusal};

/// When a secret is valid, in microseconds since 1970. Both bounds are within; `None`: no bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Validity {
    /// The first microsecond.
    pub not_before: Option<i64>,
    /// The last microsecond.
    pub not_after: Option<i64>,
}

impl Validity {
    /// Whether a time is within.
    pub fn contains(&self, at: i64) -> bool {
        self.not_before.is_none_or(|first| first <= at)
            && self.not_after.is_none_or(|last| at <= last)
    }

    /// Whether some time is within both.
    pub fn overlaps(&self, other: &Self) -> bool {
        let begins_in_time = |one: &Self, other: &Self| match (one.not_before, other.not_after) {
            (Some(first), Some(last)) => first <= last,
            _ => true,
        };
        begins_in_time(self, other) && begins_in_time(other, self)
    }

    /// The times at which something changes: the first within, and the first behind.
    fn changes(&self) -> impl Iterator<Item = i64> {
        let behind = self.not_after.and_then(|last| last.checked_add(1));
        self.not_before.into_iter().chain(behind)
    }
}

/// The credentials of a source at every time. A verifier is given those of the time of receipt alone, so that
/// no provider can take a secret for valid that is not.
///
/// Time is cut at each bound when the files are read. What verifies a record is then found and never made:
/// without a bound there is one piece.
#[derive(Debug, Clone, Default)]
pub struct Keyring {
    /// From the beginning of time on.
    first: Credentials,
    /// From a time on, in the order of the times.
    later: Vec<(i64, Credentials)>,
}

impl Keyring {
    /// Of secrets in the order of the settings, and the content of the source's other files.
    pub fn new(secrets: &[(Validity, Key)], files: &BTreeMap<String, Vec<u8>>) -> Self {
        let bounds = secrets.iter().flat_map(|(validity, _)| validity.changes());
        let mut bounds: Vec<i64> = bounds.collect();
        bounds.sort_unstable();
        bounds.dedup();
        let later = bounds
            .into_iter()
            .map(|from| (from, credentials(secrets, files, from)));
        Self {
            first: credentials(secrets, files, i64::MIN),
            later: later.collect(),
        }
    }

    /// What is valid for a request that was received at a time, in microseconds since 1970.
    pub fn at(&self, received_at: i64) -> &Credentials {
        let begun = self.later.partition_point(|(from, _)| *from <= received_at);
        let last = begun.checked_sub(1).and_then(|last| self.later.get(last));
        last.map_or(&self.first, |(_, credentials)| credentials)
    }

    /// Verifies a delivery by what was valid when it was received.
    pub fn verify<'a>(
        &self,
        verifier: &dyn Verifier,
        delivery: Delivery<'a>,
    ) -> Result<Authentic<'a>, Refusal> {
        let credentials = self.at(delivery.request.received_at);
        let judged = verifier.verify(delivery, credentials);
        judged.map_err(|refusal| with_times(refusal, credentials))
    }
}

/// The credentials from a bound on. Where the source has secrets and none of them is valid, a key that
/// nothing matches stands for them: a signed request is then a mismatch, and not taken for one of a source
/// without secrets, at whose signatures nobody looks.
fn credentials(
    secrets: &[(Validity, Key)],
    files: &BTreeMap<String, Vec<u8>>,
    from: i64,
) -> Credentials {
    let valid = secrets
        .iter()
        .filter(|(validity, _)| validity.contains(from));
    let mut keys: Vec<Key> = valid.map(|(_, key)| key.clone()).collect();
    let outside = secrets.len() - keys.len();
    if keys.is_empty() && outside > 0 {
        keys.push(Key::never());
    }
    Credentials {
        keys,
        outside,
        files: files.clone(),
    }
}

/// A mismatch, with what is to be known of the secrets that were not tried.
fn with_times(refusal: Refusal, credentials: &Credentials) -> Refusal {
    if refusal.reason != Reason::SignatureMismatch {
        return refusal;
    }
    let detail = &refusal.detail;
    match credentials.outside {
        0 => refusal,
        _ if credentials.keys.iter().all(Key::is_never) => Reason::SignatureMismatch
            .because("no secret of the source was valid when the request was received"),
        1 => Reason::SignatureMismatch.because(format!(
            "{detail}; one secret was not valid when it was received"
        )),
        some => Reason::SignatureMismatch.because(format!(
            "{detail}; {some} secrets were not valid when it was received"
        )),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secret(name: &str, not_before: Option<i64>, not_after: Option<i64>) -> (Validity, Key) {
        let mut key = Key::hmac(name.as_bytes());
        name.clone_into(&mut key.name);
        let validity = Validity {
            not_before,
            not_after,
        };
        (validity, key)
    }

    fn names(keyring: &Keyring, at: i64) -> Vec<&str> {
        let keys = keyring.at(at).keys.iter();
        keys.map(|key| key.name.as_str()).collect()
    }

    fn keyring(secrets: &[(Validity, Key)]) -> Keyring {
        Keyring::new(secrets, &BTreeMap::new())
    }

    #[test]
    fn both_bounds_are_within_and_what_is_next_to_them_is_not() {
        let keyring = keyring(&[
            secret("old", None, Some(20)),
            secret("new", Some(10), None),
            secret("between", Some(15), Some(15)),
        ]);
        for (at, valid) in [
            (i64::MIN, &["old"][..]),
            (9, &["old"]),
            (10, &["old", "new"]),
            (14, &["old", "new"]),
            (15, &["old", "new", "between"]),
            (16, &["old", "new"]),
            (20, &["old", "new"]),
            (21, &["new"]),
            (i64::MAX, &["new"]),
        ] {
            assert_eq!(names(&keyring, at), valid, "{at}");
        }
    }

    #[test]
    fn secrets_without_bounds_are_one_piece() {
        let keyring = keyring(&[secret("a", None, None), secret("b", None, None)]);
        assert!(keyring.later.is_empty());
        assert_eq!(
            (names(&keyring, 0), keyring.at(0).outside),
            (vec!["a", "b"], 0)
        );
        assert!(Keyring::default().at(0).keys.is_empty());
    }

    #[test]
    fn where_none_is_valid_a_key_stands_that_nothing_matches() {
        let keyring = keyring(&[secret("old", None, Some(20))]);
        let after = keyring.at(21);
        assert_eq!((after.keys.len(), after.outside), (1, 1));
        assert!(after.keys.iter().all(Key::is_never));
        assert!(!after.keys[0].hmac_matches(&[b""], &[0; 32]) && !after.keys[0].is_hmac());
        assert_eq!(format!("{:?}", after.keys[0]), "Key(, ***)");
    }

    #[test]
    fn a_mismatch_says_which_secrets_were_not_tried() {
        let detail = |keyring: &Keyring, at| {
            let refusal = Reason::SignatureMismatch.because("no secret gives it");
            with_times(refusal, keyring.at(at)).detail
        };
        let two = keyring(&[
            secret("old", None, Some(20)),
            secret("older", None, Some(10)),
            secret("new", Some(30), None),
        ]);
        assert_eq!(
            detail(&two, 5),
            "no secret gives it; one secret was not valid when it was received"
        );
        assert_eq!(
            detail(&two, 15),
            "no secret gives it; 2 secrets were not valid when it was received"
        );
        assert_eq!(
            detail(&two, 25),
            "no secret of the source was valid when the request was received"
        );
        assert_eq!(
            detail(&keyring(&[secret("a", None, None)]), 0),
            "no secret gives it"
        );
        let stale = Reason::TimestampStale.because("late");
        assert_eq!(with_times(stale.clone(), two.at(25)), stale);
    }

    proptest! {
        #[test]
        fn a_key_is_valid_exactly_within_its_bounds_in_the_order_of_the_settings(
            bounds in proptest::collection::vec((proptest::option::of(0..20_i64), proptest::option::of(0..20_i64)), 0..6),
            at in -2..23_i64,
        ) {
            let secrets = bounds.iter().enumerate();
            let secrets: Vec<_> =
                secrets.map(|(n, (from, to))| secret(&n.to_string(), *from, *to)).collect();
            let valid = secrets.iter().filter(|(validity, _)| validity.contains(at));
            let expected: Vec<&str> = valid.map(|(_, key)| key.name.as_str()).collect();
            let keyring = keyring(&secrets);
            let found: Vec<&str> =
                names(&keyring, at).into_iter().filter(|name| !name.is_empty()).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn the_order_of_secrets_with_disjoint_times_does_not_matter(
            lengths in proptest::collection::vec(1..5_i64, 1..6),
            turned in 0..6_usize,
            at in -1..32_i64,
        ) {
            let mut begin = 0;
            let mut secrets: Vec<_> = lengths.iter().enumerate().map(|(n, length)| {
                let one = secret(&n.to_string(), Some(begin), Some(begin + length - 1));
                begin += length;
                one
            }).collect();
            let ordered = keyring(&secrets);
            let turned = turned % secrets.len();
            secrets.rotate_left(turned);
            secrets.reverse();
            let other = keyring(&secrets);
            prop_assert_eq!(names(&ordered, at), names(&other, at));
            for (n, (one, _)) in secrets.iter().enumerate() {
                for (other, _) in &secrets[n + 1..] {
                    prop_assert!(!one.overlaps(other) && one.overlaps(one));
                }
            }
        }
    }
}
