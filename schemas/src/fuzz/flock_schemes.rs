//! Flock's signature under any rewriting: who has one recorded request and no secret gets nothing accepted
//! but the time and data, or the body, that the provider signed.

use serde_json::json;

use super::input::Input;
use super::reading::Value;
use super::signing::{Source, refused_signature};
use crate::raw::Headers;
use crate::timestamp;

/// The schemes, as the provider may sign and as a source may be pinned.
const SCHEMES: [&str; 4] = ["ts.data", "raw", "ts.raw", "tsdata"];

/// Letters that choose how the provider signs, the source's scheme and its `max_age`; the body that it signs,
/// up to a byte 0xff; and the body that is sent in its place, where a byte 1 to 4 stands for the recorded
/// body, its time, its data, and what was signed.
pub fn fuzz_flock_schemes(bytes: &[u8]) {
    let Some(mut input) = Input::new(bytes) else {
        return;
    };
    let signing = input.pick(&SCHEMES);
    let scheme = input.pick(&["auto", "ts.data", "raw", "ts.raw", "tsdata"]);
    let max_age = input.pick(&["0s", "5m"]);
    let (body, rewriting) = (input.until(0xff), input.rest());
    // The provider signs events, and an event is an object.
    let Some(event) = Event::of(body) else {
        return;
    };
    let Some(signed) = event.message(signing) else {
        return;
    };
    let options = json!({"scheme": scheme, "max_age": max_age});
    let source = Source::new("flock", options).expect("good options");
    let mac = hex::encode(Source::mac(&[&signed])).into_bytes();
    let headers = Headers(vec![("x-flock-signature".to_owned(), mac)]);
    let sent = rewritten(rewriting, &event, &signed);
    let accepted = match source.verify(&headers, &sent, false) {
        Ok(scheme) => scheme,
        Err(reason) if refused_signature(reason) => return,
        // Its signature is good, and the dead letter does not say under which scheme.
        Err(_) => None,
    };
    let whole = |scheme: &str| scheme.ends_with("raw");
    let same = Event::of(&sent).is_some_and(|sent| {
        let known = accepted.map_or(SCHEMES.to_vec(), |scheme| vec![scheme]);
        let covers = |scheme: &&str| match (whole(signing), whole(scheme)) {
            (true, true) => sent.body == event.body,
            // The same two texts under another scheme's name say the same.
            (false, false) => sent.time == event.time && sent.data == event.data,
            (true, false) => sent.time == event.time && sent.data == Some(event.body),
            (false, true) => sent.time == event.time && Some(sent.body) == event.data,
        };
        known.iter().any(covers)
    });
    // The operator who pins `raw` takes what was signed as a body, and each reading of it is a dead letter.
    let pinned = scheme == "raw" && accepted.is_none();
    assert!(
        same || pinned && sent == signed,
        "{scheme} with {max_age} accepts {:?} as {accepted:?}, and {:?} was signed as {signing}",
        String::from_utf8_lossy(&sent),
        String::from_utf8_lossy(&signed)
    );
}

/// A body that is an object, with what of it may be signed.
struct Event<'b> {
    body: &'b [u8],
    time: Option<String>,
    data: Option<&'b [u8]>,
}

impl<'b> Event<'b> {
    fn of(body: &'b [u8]) -> Option<Self> {
        let text = std::str::from_utf8(body).ok()?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let value = Value::of(text)?;
        value.members()?;
        let time = value
            .member(text, "timestamp")
            .and_then(|time| time.token(text));
        let data = value.member(text, "data");
        let data = data.filter(|data| data.members().is_some_and(|members| !members.is_empty()));
        Some(Self {
            body,
            time: time.filter(|time| timestamp::read(time).is_some()),
            data: data.map(|data| data.written(text).as_bytes()),
        })
    }

    /// What a scheme signs.
    fn message(&self, scheme: &str) -> Option<Vec<u8>> {
        let time = || self.time.as_deref().map(str::as_bytes);
        Some(match scheme {
            "ts.data" => [time()?, b".", self.data?].concat(),
            "raw" => self.body.to_vec(),
            "ts.raw" => [time()?, b".", self.body].concat(),
            _ => [time()?, self.data?].concat(),
        })
    }
}

/// The body that is sent.
fn rewritten(template: &[u8], event: &Event<'_>, signed: &[u8]) -> Vec<u8> {
    let mut sent = Vec::new();
    for byte in template {
        match byte {
            1 => sent.extend_from_slice(event.body),
            2 => sent.extend_from_slice(event.time.as_deref().unwrap_or_default().as_bytes()),
            3 => sent.extend_from_slice(event.data.unwrap_or_default()),
            4 => sent.extend_from_slice(signed),
            other => sent.push(*other),
        }
    }
    sent
}
