//! ReferralLoop, read a second time.

use serde_json::json;

use super::shared::{Header, Parsed, Request, age, compare, unhex, write};
use crate::fuzz::input::Input;
use crate::fuzz::reading::Value;
use crate::fuzz::signing::Source;
use crate::reason::Reason;

/// What may be signed, in the order of trying.
const CONTENTS: [&str; 2] = ["raw", "compact"];

/// The members that are read: none may stand twice.
const KEYS: [&str; 4] = ["event_type", "waitlist_id", "data", "timestamp"];

/// The members of `data`.
const DATA_KEYS: [&str; 7] = [
    "id",
    "email",
    "name",
    "position",
    "new_position",
    "old_position",
    "referral_code",
];

/// How deep `data` may be nested.
const DEEPEST: usize = 128;

/// What a source's options say, and whether it has a secret.
struct Options {
    signature: &'static str,
    signed: &'static str,
    max_age: i128,
}

pub fn run(input: &mut Input<'_>) {
    let options = Options {
        signature: input.pick(&["optional", "off", "required"]),
        signed: input.pick(&["auto", "raw", "compact"]),
        max_age: input.pick(&[0, 300]),
    };
    let (token, with_key) = (input.choice(2) == 0, input.choice(2) == 0);
    let (signed, way) = (input.pick(&CONTENTS), input.choice(8));
    let header = Header::read(input, "x-webhook-signature");
    let body = input.rest();
    let max_age = format!("{}s", options.max_age);
    let settings =
        json!({"signature": options.signature, "signed": options.signed, "max_age": max_age});
    let mut source = Source::new("referralloop", settings).expect("good options");
    source.with_key = with_key;
    let parsed = Parsed::of(body, &KEYS);
    let message = message(signed, body, &parsed).unwrap_or_default();
    let header = header.carrying(&write(&Source::mac(&[&message]), way));
    let request = Request {
        headers: header.headers(),
        body,
        token,
    };
    let expected = match proof(&options, &header, &source, &request, &parsed) {
        Ok(scheme) => decide(&options, &parsed)
            .ok()
            .map(|fault| fault.map_or(Ok(scheme), Err)),
        Err(reason) => Some(Err(reason)),
    };
    compare(&source, &request, expected);
}

/// What a content signs. What is not JSON cannot be written again.
fn message(content: &str, body: &[u8], parsed: &Parsed<'_>) -> Option<Vec<u8>> {
    if content == "raw" {
        return Some(body.to_vec());
    }
    let value = parsed.value.as_ref().filter(|_| parsed.fault.is_none())?;
    Some(value.compact(parsed.text?).into_bytes())
}

/// The scheme that proves the request; `None`: its token does.
fn proof(
    options: &Options,
    header: &Header,
    source: &Source,
    request: &Request<'_>,
    parsed: &Parsed<'_>,
) -> Result<Option<&'static str>, Reason> {
    let carries = header
        .values
        .iter()
        .any(|value| !value.trim_ascii().is_empty());
    let by_signature = match options.signature {
        "required" => true,
        "optional" => source.with_key && carries,
        _ => false,
    };
    if !by_signature {
        return if request.token {
            Ok(None)
        } else {
            Err(Reason::TokenMissing)
        };
    }
    let value = header.value()?;
    let given =
        unhex(value.strip_prefix(b"sha256=").unwrap_or(value)).ok_or(Reason::SignatureMalformed)?;
    let signs = |content: &&str| {
        let tried = options.signed == "auto" || *options.signed == **content;
        let message = message(content, request.body, parsed).filter(|_| tried && source.with_key);
        message.is_some_and(|message| Source::mac(&[&message])[..] == given)
    };
    CONTENTS
        .into_iter()
        .find(signs)
        .map(Some)
        .ok_or(Reason::SignatureMismatch)
}

/// Why an authentic request is refused. An error: this reading does not know.
fn decide(options: &Options, parsed: &Parsed<'_>) -> Result<Option<Reason>, ()> {
    if parsed.fault.is_some() {
        return Ok(parsed.fault);
    }
    let late = age(parsed, options.max_age)?;
    let data = parsed.member("data");
    let text = parsed.text.unwrap_or_default();
    let id = data.and_then(|data| data.member(text, "id")?.token(text));
    let kind = parsed.member("event_type").and_then(Value::string);
    let needed = [
        kind,
        parsed.token("waitlist_id"),
        id,
        parsed.token("timestamp"),
    ];
    Ok(if late.is_some() {
        late
    } else if data.is_some_and(|data| data.has_twice(&DATA_KEYS) || data.depth() > DEEPEST) {
        Some(Reason::MalformedJson)
    } else if needed
        .iter()
        .any(|text| text.as_ref().is_none_or(String::is_empty))
    {
        Some(Reason::MissingField)
    } else {
        None
    })
}
