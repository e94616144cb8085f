//! A request whose time is missing, cannot be read, or is too far from its receipt.

#![expect(clippy::similar_names, reason = "a case and its cause")]

use sluice_schemas::providers::Delivery;
use sluice_schemas::reason::{Reason, Refusal};

use super::case::{Case, verdict};
use super::cause::{Cause, Finding};
use super::search::search;

/// A time that is not there or cannot be read.
pub fn time(case: &Case<'_>, refusal: &Refusal) -> Finding {
    let is_signed = case.secrets_tried().iter().any(|(_, fits)| *fits);
    let found = if is_signed { None } else { search(case) };
    let empty = || {
        let mut names = case.source.provider.spec().headers.iter();
        let is_empty = |name: &&&str| case.request.headers.all(name).any(<[u8]>::is_empty);
        let name = names.find(is_empty).filter(|_| !is_signed)?;
        Some(Finding::proved(
            Cause::HeaderEmpty,
            format!("{name} is empty"),
        ))
    };
    found.or_else(empty).unwrap_or_else(|| {
        let cause = if refusal.reason == Reason::TimestampMissing {
            Cause::TimestampMissing
        } else {
            Cause::TimestampMalformed
        };
        let mut says = refusal.detail.clone();
        if !is_signed {
            says.push_str("; whether the signature fits is not known without it");
        }
        Finding::proved(cause, says)
    })
}

/// Over how many seconds a request that is signed and too old is taken for an old one sent again.
const OLD: i64 = 3600;

/// A signature that fits at another time.
pub fn stale(case: &Case<'_>) -> Finding {
    let delivery = Delivery {
        request: &case.request,
        body: &case.body,
    };
    let received = case.request.received_at.div_euclid(1000);
    let Some(signed) = case.verifier().signed_at(delivery) else {
        let says = "its signature fits, and its time is too far from the time of receipt";
        return Finding::likely(Cause::Clock, says);
    };
    let fresh_at = |at: i64| {
        let mut request = case.request.clone();
        request.received_at = at.saturating_mul(1000);
        verdict(case.verifier(), &case.credentials, &request, &case.body)
            .is_none_or(|refusal| refusal.reason != Reason::TimestampStale)
    };
    for (at, says) in [
        (
            signed / 1000,
            "the signed time is fresh if it is taken for milliseconds, and it must be seconds",
        ),
        (
            signed.saturating_mul(1000),
            "the signed time is fresh if it is taken for seconds, and it was read as milliseconds",
        ),
    ] {
        if at.abs_diff(received) < 86_400_000 {
            return Finding::proved(Cause::TimestampUnit, says);
        }
    }
    let apart = (received.saturating_sub(signed)).div_euclid(1000);
    if let Some(appended) = case.appended
        && fresh_at(appended)
        && appended.abs_diff(received) > 60_000
    {
        let says = format!(
            "the signed time fits the time at which the broker appended the record: the clock of ingest is {}",
            off(appended.saturating_sub(received).div_euclid(1000))
        );
        return Finding::proved(Cause::Clock, says);
    }
    if apart < 0 {
        let says = format!(
            "it was signed {} s after its receipt: the sender's clock is ahead, or that of ingest is {}",
            -apart,
            off(-apart)
        );
        return Finding::proved(Cause::Clock, says);
    }
    if apart < OLD {
        let says = format!(
            "it would be fresh if it had been received {apart} s earlier: the sender's clock is behind, that of \
             ingest is ahead, or the request waited or was sent again"
        );
        return Finding::likely(Cause::Clock, says);
    }
    let says = format!(
        "its signature fits, and it was signed {apart} s before its receipt: an old request that was sent again, \
         or a clock or time zone that is wrong by as much"
    );
    Finding::likely(Cause::Replay, says)
}

fn off(seconds: i64) -> String {
    if seconds >= 0 {
        format!("behind by {seconds} s")
    } else {
        format!("ahead by {} s", -seconds)
    }
}
