//! Guesses of which there are very many, tried last: keys in any order, and any other signed time.

use sluice_schemas::raw::Single;

use super::case::{Case, fits};
use super::cause::{Cause, Finding};
use super::guess::json::{Node, Orders};
use super::guess::orders::shuffled;

/// How many bytes are hashed for each of them at most.
const BUDGET: usize = 128 << 20;

/// How far from the time in a header, and from the receipt, another time is looked for, in seconds.
const FAR: i64 = 86_400;

/// The body's keys in another order, of one object or of two.
pub fn in_another_order(case: &Case<'_>, orders: &Orders) -> Option<Finding> {
    let node = std::str::from_utf8(&case.body).ok().and_then(Node::read)?;
    let mut left = BUDGET / case.body.len().saturating_add(200);
    let mut is_found = false;
    shuffled(&node, orders, &mut |text| {
        left = left.saturating_sub(1);
        let own = &case.credentials;
        is_found = fits(case.verifier(), own, &case.request, text.as_bytes());
        is_found || left == 0
    });
    let says =
        "the body's keys stood in another order when it was signed, and it was written again";
    is_found.then(|| Finding::proved(Cause::ReserialisedBody, says))
}

/// Another time in a header that holds seconds.
pub fn at_another_time(case: &Case<'_>) -> Option<Finding> {
    let names = case.source.provider.spec().headers.iter();
    let tries = BUDGET / case.body.len().saturating_add(200);
    let far = FAR.min(i64::try_from(tries / 4).unwrap_or(FAR));
    for name in names {
        let Single::Once(value) = case.request.headers.single(name) else {
            continue;
        };
        let text = std::str::from_utf8(value).ok();
        let Some(time) = text
            .filter(|text| text.len() == 10)
            .and_then(|text| text.parse::<i64>().ok())
        else {
            continue;
        };
        let mut request = case.request.clone();
        let at = request
            .headers
            .0
            .iter()
            .position(|(found, _)| found == name)?;
        let received = case.request.received_at.div_euclid(1_000_000);
        let around = |middle: i64| (0..far).flat_map(move |by| [middle - by, middle + by]);
        for other in around(time).chain(around(received)) {
            request.headers.0[at].1 = other.to_string().into_bytes();
            if fits(case.verifier(), &case.credentials, &request, &case.body) {
                let says = format!(
                    "{name} was changed: the signature is of {other}, and it says {time}, {} s later: an old \
                     request under another time",
                    time - other
                );
                return Some(Finding::proved(Cause::HeaderChanged, says));
            }
        }
    }
    None
}
