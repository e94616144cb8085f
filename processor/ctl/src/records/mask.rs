//! What of a record is shown, and what is masked unless `--show-bodies` says otherwise: who reads a terminal
//! or a ticket has no need to know whom a webhook is about.

use serde_json::{Map, Value, json};
use sluice_schemas::event::WebhookEvent;
use sluice_schemas::providers::by_name;
use sluice_schemas::raw::{Ack, RawRequest};

/// What stands in the place of what is masked.
pub const MASK: &str = "***";

/// The columns of an event that are shown: ids of ours, names of ours, types, times. All others are masked,
/// those too that a later release adds: most are texts of the provider, and each may be about a person.
const SHOWN: [&str; 16] = [
    "id",
    "source",
    "provider",
    "type",
    "occurred_at",
    "received_at",
    "published_at",
    "entity_type",
    "scope_type",
    "delivery_id",
    "authenticity",
    "signature_scheme",
    "key_id",
    "request_id",
    "raw_partition",
    "raw_offset",
];

/// The headers of any request that say nothing of a person. Those that the provider signs or that carry its
/// signature are shown too.
const PLAIN_HEADERS: [&str; 4] = ["content-length", "content-type", "date", "host"];

/// An event's columns, with masks. A null stays one.
pub fn event(event: &WebhookEvent, show_bodies: bool) -> Value {
    let Ok(Value::Object(columns)) = serde_json::to_value(event) else {
        return Value::Null;
    };
    let column = |(name, value): (String, Value)| {
        let shown = show_bodies || value.is_null() || SHOWN.contains(&name.as_str());
        let value = if shown { value } else { json!(MASK) };
        (name, value)
    };
    Value::Object(columns.into_iter().map(column).collect::<Map<_, _>>())
}

/// What ingest kept of a request, with masks for its peer, its query and the values of its headers.
pub fn request(request: &RawRequest, show_bodies: bool) -> Value {
    let provider = by_name(&request.provider).map(sluice_schemas::providers::Provider::spec);
    let read = provider.map_or(&[][..], |spec| spec.headers);
    let header = |(name, value): &(String, Vec<u8>)| {
        let shown =
            show_bodies || PLAIN_HEADERS.contains(&name.as_str()) || read.contains(&name.as_str());
        let value = if shown {
            value.iter().copied().map(char::from).collect()
        } else {
            MASK.to_owned()
        };
        json!([name, value])
    };
    let headers: Vec<Value> = request.headers.0.iter().map(header).collect();
    json!({
        "id": request.id,
        "source": request.source,
        "provider": request.provider,
        "received_at": super::window::shown(request.received_at.div_euclid(1000)),
        "method": request.method,
        "target": target(&request.target, show_bodies),
        "peer": if show_bodies { request.peer.to_string() } else { MASK.to_owned() },
        "token": request.token,
        "ack": match request.ack {
            Ack::Broker => "broker",
            Ack::Spool => "spool",
        },
        "headers": headers,
    })
}

/// The path, with a mask for the query: senders put addresses into it.
fn target(target: &str, show_bodies: bool) -> String {
    match target.split_once('?') {
        Some((path, _)) if !show_bodies => format!("{path}?{MASK}"),
        _ => target.to_owned(),
    }
}

/// A body as text, or in base64 where it is none; masked, its length alone.
pub fn body(body: &[u8], show_bodies: bool) -> Value {
    if !show_bodies {
        return json!({"bytes": body.len(), "text": MASK});
    }
    match std::str::from_utf8(body) {
        Ok(text) => json!({"bytes": body.len(), "text": text}),
        Err(_) => json!({"bytes": body.len(), "base64": super::raw_file::base64(body)}),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::IpAddr;

    use sluice_schemas::event::{Envelope, Fields, SCHEMA};
    use sluice_schemas::raw::Headers;
    use uuid::Uuid;

    use super::*;

    const PERSON: &str = "ada@example.com";

    /// An event that has the person in every text that a provider's payload fills.
    fn about_a_person() -> WebhookEvent {
        let text = || PERSON.to_owned();
        let some = || Some(PERSON.to_owned());
        let mut fields = Fields {
            r#type: "signup.created".to_owned(),
            person_id: some(),
            person_email: some(),
            person_name: some(),
            entity_id: some(),
            position: Some(7),
            referral_code: some(),
            title: some(),
            ..Fields::default()
        };
        fields.url = some();
        fields.into_event(Envelope {
            id: "e".to_owned(),
            source: "s".to_owned(),
            provider: "p".to_owned(),
            subject: some(),
            received_at: 1,
            authenticity: "signed".to_owned(),
            signature_scheme: None,
            key_id: None,
            request_id: "r".to_owned(),
            raw_partition: 3,
            raw_offset: 4,
            data: text(),
        })
    }

    #[test]
    fn an_event_shows_ids_of_ours_types_and_times_and_no_person() {
        let masked = event(&about_a_person(), false);
        assert!(!masked.to_string().contains(PERSON), "{masked}");
        assert_eq!(masked["data"], MASK);
        assert_eq!(masked["position"], MASK);
        assert_eq!(masked["author"], Value::Null);
        assert_eq!(
            (&masked["id"], &masked["raw_offset"]),
            (&json!("e"), &json!(4))
        );
        let shown = event(&about_a_person(), true);
        assert_eq!(
            (&shown["data"], &shown["position"]),
            (&json!(PERSON), &json!(7))
        );
    }

    #[test]
    fn each_shown_column_is_one_of_the_schema() {
        let schema: Value = serde_json::from_str(SCHEMA).expect("JSON");
        let columns = schema["fields"].as_array().expect("fields").iter();
        let columns: BTreeSet<&str> = columns.filter_map(|one| one["name"].as_str()).collect();
        assert!(SHOWN.iter().all(|name| columns.contains(name)));
    }

    #[test]
    fn a_request_shows_its_path_and_the_headers_of_its_provider() {
        let header = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
        let provider = sluice_schemas::providers::ALL[0].spec();
        let kept = RawRequest {
            id: Uuid::nil(),
            source: "s".to_owned(),
            provider: provider.name.to_owned(),
            received_at: 1_000,
            method: "POST".to_owned(),
            target: format!("/v1/hooks/s?who={PERSON}"),
            peer: IpAddr::from([203, 0, 113, 9]),
            token: false,
            ack: Ack::Broker,
            headers: Headers(vec![
                header("x-forwarded-for", "203.0.113.9"),
                header("x-person", PERSON),
                header("content-type", "application/json"),
                header(provider.headers[0], "kept"),
            ]),
        };
        let masked = request(&kept, false);
        let text = masked.to_string();
        assert!(!text.contains(PERSON) && !text.contains("203.0"), "{text}");
        assert_eq!(masked["target"], "/v1/hooks/s?***");
        assert_eq!(masked["headers"][1], json!(["x-person", MASK]));
        assert_eq!(masked["headers"][3], json!([provider.headers[0], "kept"]));
        let shown = request(&kept, true).to_string();
        assert!(shown.contains(PERSON) && shown.contains("203.0.113.9"));
    }

    #[test]
    fn a_body_is_its_length_text_or_base64() {
        assert_eq!(body(b"ab", false), json!({"bytes": 2, "text": MASK}));
        assert_eq!(body(b"ab", true), json!({"bytes": 2, "text": "ab"}));
        assert_eq!(body(&[0xff], true), json!({"bytes": 1, "base64": "/w=="}));
    }
}
