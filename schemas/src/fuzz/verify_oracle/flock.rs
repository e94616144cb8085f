//! Flock, read a second time.

use serde_json::json;

use super::shared::{
    Decision, Header, Parsed, Request, Time, age, compare, time, unbase64, unhex, write,
};
use crate::fuzz::input::Input;
use crate::fuzz::reading::Value;
use crate::fuzz::signing::Source;
use crate::reason::Reason;

/// All schemes, in the order of trying.
const SCHEMES: [&str; 4] = ["ts.data", "raw", "ts.raw", "tsdata"];

/// The members that are read: none may stand twice.
const KEYS: [&str; 8] = [
    "name",
    "entity",
    "entityId",
    "organizationId",
    "applicationId",
    "campaignId",
    "data",
    "timestamp",
];

/// The members of `data`.
const DATA_KEYS: [&str; 5] = [
    "campaignId",
    "referrer",
    "invitee",
    "referrerReward",
    "inviteeReward",
];

/// What a source's options say.
struct Options {
    scheme: &'static str,
    encoding: &'static str,
    max_age: i128,
}

pub fn run(input: &mut Input<'_>) {
    let options = Options {
        scheme: input.pick(&["auto", "ts.data", "raw", "ts.raw", "tsdata"]),
        encoding: input.pick(&["auto", "hex", "base64"]),
        max_age: input.pick(&[300, 0]),
    };
    let (signed, way) = (input.pick(&SCHEMES), input.choice(8));
    let header = Header::read(input, "x-flock-signature");
    let body = input.rest();
    let max_age = format!("{}s", options.max_age);
    let settings =
        json!({"scheme": options.scheme, "encoding": options.encoding, "max_age": max_age});
    let source = Source::new("flock", settings).expect("good options");
    let parsed = Parsed::of(body, &KEYS);
    let message = message(signed, body, &parsed).unwrap_or_else(|| body.to_vec());
    let header = header.carrying(&write(&Source::mac(&[&message]), way));
    let request = Request {
        headers: header.headers(),
        body,
        token: false,
    };
    compare(&source, &request, decide(&options, &header, body, &parsed));
}

/// What a scheme signs. A time that cannot be read, and data without a member, take part in none.
fn message(scheme: &str, body: &[u8], parsed: &Parsed<'_>) -> Option<Vec<u8>> {
    let at = || {
        parsed
            .token("timestamp")
            .filter(|text| !matches!(time(text), Time::Malformed))
    };
    let data = parsed.member("data");
    let data = data.filter(|data| data.members().is_some_and(|members| !members.is_empty()));
    let data = || Some(data?.written(parsed.text?));
    Some(match scheme {
        "raw" => body.to_vec(),
        "ts.raw" => [at()?.as_bytes(), b".", body].concat(),
        "ts.data" => format!("{}.{}", at()?, data()?).into_bytes(),
        _ => format!("{}{}", at()?, data()?).into_bytes(),
    })
}

/// The MAC that the header carries.
fn mac(value: &[u8], encoding: &str) -> Option<Vec<u8>> {
    let value = value.strip_prefix(b"sha256=").unwrap_or(value);
    let hex = unhex(value).filter(|_| encoding != "base64");
    hex.or_else(|| {
        let fits = matches!(value.len(), 43 | 44) && encoding != "hex";
        unbase64(value, false).filter(|bytes| fits && bytes.len() == 32)
    })
}

fn decide(options: &Options, header: &Header, body: &[u8], parsed: &Parsed<'_>) -> Decision {
    let given = match header.value().map(|value| mac(value, options.encoding)) {
        Ok(Some(given)) => given,
        Ok(None) => return Some(Err(Reason::SignatureMalformed)),
        Err(reason) => return Some(Err(reason)),
    };
    if parsed
        .token("timestamp")
        .is_some_and(|text| matches!(time(&text), Time::Unknown))
    {
        return None;
    }
    let signs = |scheme: &&str| {
        let tried = match options.scheme {
            // A body that is no object is nobody's, unless the operator says so.
            "auto" => parsed.is_object(),
            pinned => *pinned == **scheme,
        };
        let message = message(scheme, body, parsed).filter(|_| tried);
        message.is_some_and(|message| Source::mac(&[&message])[..] == given)
    };
    let Some(scheme) = SCHEMES.into_iter().find(signs) else {
        return Some(Err(Reason::SignatureMismatch));
    };
    let twice =
        |value: Option<&Value>, keys: &[&str]| value.is_some_and(|value| value.has_twice(keys));
    let data = parsed.member("data");
    let text = parsed.text.unwrap_or_default();
    let party = |key: &&str| {
        twice(
            data.and_then(|data| data.member(text, key)),
            &["id", "email", "name"],
        )
    };
    let twice = twice(data, &DATA_KEYS) || DATA_KEYS[1..].iter().any(party);
    let name = parsed.member("name").and_then(Value::string);
    let reason = match (parsed.fault, age(parsed, options.max_age).ok()?) {
        (Some(reason), _) | (None, Some(reason)) => reason,
        _ if twice => Reason::MalformedJson,
        _ if name.is_none_or(|name| name.is_empty()) => Reason::MissingField,
        _ => return Some(Ok(Some(scheme))),
    };
    Some(Err(reason))
}
