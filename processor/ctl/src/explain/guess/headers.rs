//! What the headers of a request may have been before something on the way changed them.

#![expect(clippy::similar_names, reason = "a case and its cause")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sluice_schemas::raw::{Headers, RawRequest, Single};

use super::super::case::Case;
use super::super::cause::Cause;
use super::Guess;
use super::body::unescaped;
use super::encodings::{decoded, pieces};
use super::secrets::to_hex;

type Requests = Vec<Guess<RawRequest>>;

/// Every guess, the likeliest first.
pub fn requests(case: &Case<'_>) -> Requests {
    let mut all = Requests::new();
    repeated(case, &mut all);
    folded(case, &mut all);
    renamed(case, &mut all);
    families(case, &mut all);
    known(case, &mut all);
    for name in case.source.provider.spec().headers {
        if let Single::Once(value) = case.request.headers.single(name) {
            encodings(case, name, value, &mut all);
            values(case, name, value, &mut all);
        }
    }
    for method in ["POST", "PUT", "PATCH", "GET"] {
        if method != case.request.method {
            let says = format!(
                "it was signed as {method}, and came as {}",
                case.request.method
            );
            let request = RawRequest {
                method: method.to_owned(),
                ..case.request.clone()
            };
            all.push(Guess::new(Cause::WrongMethod, says, request));
        }
    }
    all
}

/// The headers with one value for a name.
fn with(headers: &Headers, name: &str, value: Option<&[u8]>) -> Headers {
    let others = headers.0.iter().filter(|(found, _)| found != name).cloned();
    let value = value.map(|value| (name.to_owned(), value.to_vec()));
    Headers(others.chain(value).collect())
}

fn push(case: &Case<'_>, all: &mut Requests, cause: Cause, says: String, headers: Headers) {
    all.push(Guess::new(cause, says, case.with(headers)));
}

/// Of a header that stands twice, one alone.
fn repeated(case: &Case<'_>, all: &mut Requests) {
    let headers = &case.request.headers;
    let twice = |name: &&&str| headers.single(name) == Single::Repeated;
    let names = case.source.provider.spec().headers;
    let twice: Vec<&&str> = names.iter().filter(twice).collect();
    for last in [false, true] {
        let mut every = headers.clone();
        for name in &twice {
            let value = if last {
                headers.all(name).last()
            } else {
                headers.all(name).next()
            };
            every = with(&every, name, value);
            let says = format!(
                "{name} stands more than once; with one of its values alone the signature fits"
            );
            push(
                case,
                all,
                Cause::HeaderRepeated,
                says,
                with(headers, name, value),
            );
        }
        if twice.len() > 1 {
            let says = "several headers stand more than once; with one of their values alone the signature fits";
            push(case, all, Cause::HeaderRepeated, says.to_owned(), every);
        }
    }
}

/// Of a header into which several were joined, one alone.
fn folded(case: &Case<'_>, all: &mut Requests) {
    let headers = &case.request.headers;
    let mut every = headers.clone();
    let mut folded = 0;
    for name in case.source.provider.spec().headers {
        let Single::Once(value) = headers.single(name) else {
            continue;
        };
        let Ok(text) = std::str::from_utf8(value) else {
            continue;
        };
        let says = format!(
            "{name} holds several values joined into one; with one of them the signature fits"
        );
        if let Some(half) = half(text) {
            folded += 1;
            every = with(&every, name, Some(half.as_bytes()));
            let headers = with(headers, name, Some(half.as_bytes()));
            push(case, all, Cause::HeaderFolded, says.clone(), headers);
        }
        let parts: Vec<&str> = text.split([',', ';']).map(str::trim).collect();
        // A version and its signature, of two parts, are one value.
        let is_versioned = parts.first().is_some_and(|part| part.len() < 8);
        for part in parts
            .iter()
            .filter(|part| parts.len() > 1 && !is_versioned && !part.is_empty())
        {
            let headers = with(headers, name, Some(part.as_bytes()));
            push(case, all, Cause::HeaderFolded, says.clone(), headers);
        }
    }
    if folded > 1 {
        let says = "several headers were joined with their repetitions; with one value each the signature fits";
        push(case, all, Cause::HeaderFolded, says.to_owned(), every);
    }
}

/// Half of a text that says the same twice with a comma between.
fn half(text: &str) -> Option<&str> {
    let mut commas = text.match_indices([',', ';']);
    commas.find_map(|(at, _)| {
        let (first, second) = (text[..at].trim(), text[at + 1..].trim());
        (first == second && !first.is_empty()).then_some(first)
    })
}

/// Only the letters and digits of a header's name.
fn bare(name: &str) -> String {
    let letters = name.bytes().filter(u8::is_ascii_alphanumeric);
    letters
        .map(|byte| char::from(byte.to_ascii_lowercase()))
        .collect()
}

/// A header of ours that stands under another name.
fn renamed(case: &Case<'_>, all: &mut Requests) {
    let headers = &case.request.headers;
    let ours = case.source.provider.spec().headers;
    let missing = ours
        .iter()
        .filter(|name| headers.single(name) == Single::Absent);
    let others: Vec<&(String, Vec<u8>)> = headers
        .0
        .iter()
        .filter(|(name, _)| !ours.contains(&name.as_str()))
        .collect();
    let mut families: Vec<(String, Headers)> = Vec::new();
    for name in missing {
        let family = family(name);
        if !families.iter().any(|(known, _)| known == family) {
            families.push((family.to_owned(), headers.clone()));
        }
        for (other, value) in &others {
            let says = format!("{name} is missing; with the value of {other} the signature fits");
            let changed = with(headers, name, Some(value));
            push(case, all, Cause::HeaderRenamed, says, changed);
            let last = name.rsplit('-').next().unwrap_or(name);
            let is_like = bare(other).contains(&bare(name)) || bare(other).ends_with(&bare(last));
            for (_, every) in families
                .iter_mut()
                .filter(|(known, _)| is_like && known == family)
            {
                *every = with(every, name, Some(value));
            }
        }
    }
    for (_, every) in families {
        let says =
            "headers of the signature came under other names; under their own the signature fits";
        push(case, all, Cause::HeaderRenamed, says.to_owned(), every);
    }
}

/// What the headers of one way of signing begin with.
fn family(name: &str) -> &str {
    name.rsplit_once('-').map_or(name, |(family, _)| family)
}

/// The request without the headers of one family.
fn families(case: &Case<'_>, all: &mut Requests) {
    let headers = &case.request.headers;
    let mut names: Vec<&str> = case
        .source
        .provider
        .spec()
        .headers
        .iter()
        .map(|name| family(name))
        .collect();
    names.dedup();
    for one in names {
        let others = headers.0.iter().filter(|(name, _)| family(name) != one);
        let left = Headers(others.cloned().collect());
        if left != *headers {
            let says = format!(
                "without the headers {one}-… that stand next to others, the signature fits"
            );
            push(case, all, Cause::HeaderChanged, says, left);
        }
    }
}

/// Headers that can have a few values alone, with each of them.
fn known(case: &Case<'_>, all: &mut Requests) {
    let headers = &case.request.headers;
    let of_headers = case.source.provider.variants().headers;
    let guess = |name: &str, value: &str| {
        let (cause, what) = match headers.single(name) {
            Single::Absent => (Cause::HeaderMissing, "is missing"),
            Single::Repeated => (Cause::HeaderRepeated, "stands more than once"),
            Single::Once(b"") => (Cause::HeaderEmpty, "is empty"),
            Single::Once(_) => (Cause::HeaderChanged, "has another value than was signed"),
        };
        (
            cause,
            format!("{name} {what}; with {value} the signature fits"),
        )
    };
    for (name, values) in of_headers {
        for value in *values {
            let (cause, says) = guess(name, value);
            let changed = with(headers, name, Some(value.as_bytes()));
            push(case, all, cause, says, changed);
        }
        let says = format!("{name} was added; without it the signature fits");
        push(
            case,
            all,
            Cause::HeaderChanged,
            says,
            with(headers, name, None),
        );
    }
    // Two of them at once.
    if let [(first, values), (second, others)] = of_headers {
        for value in *values {
            for other in *others {
                let (cause, says) = guess(first, value);
                let (_, also) = guess(second, other);
                let changed = with(headers, first, Some(value.as_bytes()));
                let changed = with(&changed, second, Some(other.as_bytes()));
                push(case, all, cause, format!("{says}; {also}"), changed);
            }
        }
    }
}

/// A value in other letters, or in another unit of time.
fn values(case: &Case<'_>, name: &str, value: &[u8], all: &mut Requests) {
    let headers = &case.request.headers;
    let mut add = |cause: Cause, what: &str, value: Vec<u8>| {
        let says = format!("{name} was changed: {what} the signature fits");
        if !headers.all(name).any(|found| found == value) {
            push(case, all, cause, says, with(headers, name, Some(&value)));
        }
    };
    let changed = Cause::HeaderChanged;
    add(changed, "in small letters", value.to_ascii_lowercase());
    add(
        changed,
        "with its percent escapes undone",
        unescaped(value, false),
    );
    let bare = value.trim_ascii();
    let quotes = |byte: &u8| !matches!(byte, b'"' | b'\'' | b'<' | b'>');
    add(
        changed,
        "without quotes or blanks",
        bare.iter().copied().filter(quotes).collect(),
    );
    if value.len() == 13 && value.iter().all(u8::is_ascii_digit) {
        let seconds = value[..10].to_vec();
        add(
            Cause::TimestampUnit,
            "it is in milliseconds, and in seconds",
            seconds,
        );
    }
    if value.len() == 10 && value.iter().all(u8::is_ascii_digit) {
        let millis = [value, b"000"].concat();
        add(
            Cause::TimestampUnit,
            "it is in seconds, and in milliseconds",
            millis,
        );
    }
    let text = String::from_utf8_lossy(value);
    if let Some(whole) = text.split_once('.').map(|(whole, _)| whole) {
        add(changed, "without its fraction", whole.as_bytes().to_vec());
    }
    if let Some(millis) = sluice_schemas::timestamp::iso8601(&text) {
        let seconds = millis.div_euclid(1000).to_string();
        add(
            Cause::TimestampUnit,
            "it is ISO 8601, and in seconds",
            seconds.into_bytes(),
        );
    }
}

/// A MAC that is written in another way.
fn encodings(case: &Case<'_>, name: &str, value: &[u8], all: &mut Requests) {
    let headers = &case.request.headers;
    let mut macs: Vec<[u8; 32]> = Vec::new();
    for piece in pieces(value) {
        for mac in decoded(&piece) {
            if !macs.contains(&mac) {
                macs.push(mac);
            }
        }
    }
    for mac in macs {
        let base64 = STANDARD.encode(mac);
        for (form, says) in [
            (to_hex(&mac), "in hex digits"),
            (base64.clone(), "in base64"),
            (format!("v1,{base64}"), "in base64 behind v1,"),
            (
                format!("sha256={}", to_hex(&mac)),
                "in hex digits behind sha256=",
            ),
        ] {
            if form.as_bytes() != value {
                let says =
                    format!("{name} holds the right signature, written otherwise: {says} it fits");
                let changed = with(headers, name, Some(form.as_bytes()));
                push(case, all, Cause::SignatureEncoding, says, changed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_says_the_same_twice_has_a_half() {
        assert_eq!(half("v1,a, v1,a"), Some("v1,a"));
        assert_eq!(half("v1,a"), None);
    }
}
