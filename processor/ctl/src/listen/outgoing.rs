//! What is sent for a record: an event as a `CloudEvent` in HTTP's binary mode, or a raw request as it came.

use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use sluice_schemas::cloudevents::{SPECVERSION, attributes, http_value};
use sluice_schemas::event::WebhookEvent;
use sluice_schemas::raw::{RawRequest, TRACEPARENT};
use sluice_schemas::record::Record;

use crate::records::mask;
use crate::records::view::Read;

/// The header that each raw request gets in addition: what ingest takes with it was re-sent by us, and is not
/// re-sent again. Without it a target that is this ingest would get each request for ever.
pub const FORWARDED: &str = "sluice-forwarded";

/// Headers that are of the connection, or that the client sets for the new one.
const LEFT_OUT: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A request for the target.
#[derive(Debug)]
pub struct Outgoing {
    /// The method.
    pub method: Method,
    /// All headers but those of the connection.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

/// Makes the request for a record; why there is none.
pub fn outgoing(record: Record, read: &Read) -> Result<Outgoing, &'static str> {
    match (&read.event, &read.request) {
        (Some(event), _) => Ok(of_event(event, &record)),
        (None, Some(request)) => of_request(request, record.value),
        (None, None) => Err("it cannot be read"),
    }
}

fn of_event(event: &WebhookEvent, record: &Record) -> Outgoing {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let (version, one) = SPECVERSION;
    let version = [(version, http_value(one))].into_iter();
    let all = version.chain(attributes(event).map(|(name, text)| (name, http_value(&text))));
    let trace = record.text(TRACEPARENT).map(str::to_owned);
    for (name, value) in all.chain(trace.map(|trace| (TRACEPARENT, trace))) {
        let name = name.replacen('_', "-", 1);
        // Ours are printable ASCII; a trace that somebody else wrote need not be.
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse()) {
            headers.insert(name, value);
        }
    }
    Outgoing {
        method: Method::POST,
        headers,
        body: mask::event(event, true).to_string().into_bytes(),
    }
}

fn of_request(request: &RawRequest, body: Vec<u8>) -> Result<Outgoing, &'static str> {
    let is_ours = request.headers.all(FORWARDED).next().is_some();
    if is_ours {
        return Err("sluicectl listen re-sent it to this ingest: it is not re-sent again");
    }
    let method = Method::from_bytes(request.method.as_bytes());
    let method = method.map_err(|_| "its method is none of HTTP")?;
    let mut headers = HeaderMap::new();
    let wanted = request.headers.0.iter();
    for (name, value) in wanted.filter(|(name, _)| !LEFT_OUT.contains(&name.as_str())) {
        let name = HeaderName::from_bytes(name.as_bytes());
        let value = HeaderValue::from_bytes(value);
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err("a header of it is none of HTTP");
        };
        headers.append(name, value);
    }
    if let Ok(id) = HeaderValue::from_str(&request.id.to_string()) {
        headers.insert(FORWARDED, id);
    }
    Ok(Outgoing {
        method,
        headers,
        body,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use sluice_schemas::audit::testing::{NAMES, sound};
    use sluice_schemas::fate::Fate;

    use super::*;
    use crate::records::view::read;

    fn found(wanted: impl Fn(&Read) -> bool) -> (Record, Read) {
        let (records, _) = sound();
        let mut all = records.into_iter().map(|record| {
            let read = read(&NAMES, &record);
            (record, read)
        });
        all.find(|(_, read)| wanted(read)).expect("such a record")
    }

    fn value<'a>(made: &'a Outgoing, name: &str) -> Option<&'a [u8]> {
        made.headers.get(name).map(HeaderValue::as_bytes)
    }

    #[test]
    fn an_event_is_a_cloud_event_whose_data_are_its_columns() {
        let (record, mut read) = found(|read| read.view.fate == Some(Fate::Event.name()));
        let event = read.event.as_mut().expect("an event");
        event.subject = Some("Jos\u{e9} 100%".to_owned());
        event.occurred_at = Some(1_700_000_000_123);
        let event = event.clone();
        let made = outgoing(record, &read).expect("a request");
        assert_eq!(made.method, Method::POST);
        for (name, expected) in [
            ("content-type", "application/json"),
            ("ce-specversion", "1.0"),
            ("ce-id", &event.id),
            ("ce-source", &event.source),
            ("ce-type", &event.r#type),
            ("ce-time", "2023-11-14T22:13:20.123Z"),
            ("ce-subject", "Jos%C3%A9%20100%25"),
        ] {
            assert_eq!(value(&made, name), Some(expected.as_bytes()), "{name}");
        }
        let body: Value = serde_json::from_slice(&made.body).expect("JSON");
        assert_eq!(body, serde_json::to_value(&event).expect("JSON"));
    }

    #[test]
    fn a_request_is_as_it_came_but_for_the_headers_of_its_connection() {
        let (mut record, mut read) = found(|read| read.view.fate.is_none());
        record.value = vec![0, 0xff, b'\n'];
        let request = read.request.as_mut().expect("a request");
        request.method = "PUT".to_owned();
        let header = |name: &str, value: &[u8]| (name.to_owned(), value.to_vec());
        request.headers.0 = vec![
            header("host", b"hooks.example.com"),
            header("content-length", b"3"),
            header("x-odd", &[0xff, b'a']),
            header("x-odd", b"second"),
            header("transfer-encoding", b"chunked"),
        ];
        let id = request.id.to_string();
        let made = outgoing(record, &read).expect("a request");
        assert_eq!(
            (made.method.as_str(), made.body.as_slice()),
            ("PUT", &[0, 0xff, b'\n'][..])
        );
        let odd = made.headers.get_all("x-odd").iter();
        let odd: Vec<&[u8]> = odd.map(HeaderValue::as_bytes).collect();
        assert_eq!(odd, [&[0xff, b'a'][..], b"second"]);
        assert_eq!(value(&made, FORWARDED), Some(id.as_bytes()));
        assert_eq!(made.headers.len(), 3);
    }

    #[test]
    fn what_was_re_sent_or_is_no_request_is_not_sent() {
        let (record, mut read) = found(|read| read.view.fate.is_none());
        let request = read.request.as_mut().expect("a request");
        request
            .headers
            .0
            .push((FORWARDED.to_owned(), b"x".to_vec()));
        let why = outgoing(record.clone(), &read).expect_err("none");
        assert!(why.contains("not re-sent again"), "{why}");
        read.request = None;
        assert_eq!(
            outgoing(record, &read).expect_err("none"),
            "it cannot be read"
        );
    }
}
