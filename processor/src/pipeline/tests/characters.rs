//! Characters that readers or the brokers' tools cannot take.

use super::*;

/// A sample with a character behind each of its texts that may hold any.
fn with_everywhere(sample: &Unsigned, event: &str, character: char) -> Unsigned {
    fn change(value: &mut serde_json::Value, event: &str, character: char) {
        match value {
            serde_json::Value::String(text) => {
                let is_fixed = text == event || event.ends_with(text.as_str());
                let is_time = sluice_schemas::timestamp::read(text).is_some();
                if !is_fixed && !is_time {
                    text.push(character);
                }
            }
            serde_json::Value::Array(items) => {
                for item in items {
                    change(item, event, character);
                }
            }
            serde_json::Value::Object(members) => {
                for item in members.values_mut() {
                    change(item, event, character);
                }
            }
            _ => {}
        }
    }
    let mut body = serde_json::from_slice(&sample.body).expect("JSON");
    change(&mut body, event, character);
    Unsigned {
        body: body.to_string().into_bytes(),
        ..sample.clone()
    }
}

/// The columns of an event in single-object encoding.
fn columns(value: &[u8]) -> sluice_schemas::event::WebhookEvent {
    let reader =
        apache_avro::reader::datum::GenericDatumReader::builder(&sluice_schemas::event::PARSED)
            .build()
            .expect("a reader");
    let mut datum = &value[10..];
    reader.read_deser(&mut datum).expect("an event")
}

#[test]
fn no_cloudevents_header_has_a_control_character() {
    let bench = bench();
    for character in ['\u{1b}', '\n', '\u{7f}', '\u{9b}', '\u{fffe}', '\0'] {
        for provider in ALL {
            for event in provider.sender().events() {
                let sample = provider.sender().sample(event, 7, AT);
                let unsigned = with_everywhere(&sample, event, character);
                let judged = bench.alone(&record(provider, &unsigned, 7));
                assert_eq!(judged.fate, Fate::Event, "{event}");
                for (name, value) in &judged.headers {
                    let value = String::from_utf8_lossy(value.as_deref().unwrap_or_default());
                    let bad = |c: char| c.is_control() || c == '\u{fffe}';
                    assert!(
                        !name.starts_with("ce_") || !value.contains(bad),
                        "{name}: {value:?}"
                    );
                }
                // The column has it whole, NUL apart.
                let columns = columns(&judged.value);
                let header = judged.header("ce_subject");
                assert!(header.is_none() || header == columns.subject, "{event}");
            }
        }
        let flowcode = ALL
            .into_iter()
            .find(|provider| provider.spec().name == "flowcode");
        let flowcode = flowcode.expect("a provider");
        let mut sample = flowcode.sender().sample("scan.created", 7, AT);
        sample.body = json!({"type": format!("a{character}b")})
            .to_string()
            .into_bytes();
        let judged = bench.alone(&record(flowcode, &sample, 7));
        assert_eq!(
            judged.header("ce_type").as_deref(),
            Some("a\u{fffd}b"),
            "{character:?}"
        );
    }
}

#[test]
fn no_column_and_no_header_of_an_event_has_a_nul() {
    let bench = bench();
    for provider in ALL {
        for event in provider.sender().events() {
            let sample = provider.sender().sample(event, 7, AT);
            let [nul, other] = ['\0', '\u{fffd}'].map(|character| {
                let unsigned = with_everywhere(&sample, event, character);
                let judged = bench.alone(&record(provider, &unsigned, 7));
                assert_eq!(judged.fate, Fate::Event, "{event}");
                (unsigned.body, judged)
            });
            let event = columns(&nul.1.value);
            assert_eq!(event.data.as_bytes(), nul.0, "as received");
            // U+0000 is what U+FFFD would be, in every column, and another delivery where its content is a
            // part of the identity. The tags are JSON, in which it stays the escape that it was.
            let expected = columns(&other.1.value);
            let is_same = nul.0 == other.0 || event.delivery_id.is_some();
            assert_eq!(event.id == expected.id, is_same);
            assert_eq!(event.tags.is_some(), expected.tags.is_some());
            assert!(!event.tags.iter().any(|tags| tags.contains('\0')));
            let expected = sluice_schemas::event::WebhookEvent {
                id: event.id.clone(),
                data: event.data.clone(),
                tags: event.tags.clone(),
                ..expected
            };
            assert_eq!(event, expected);
            for (name, value) in &nul.1.headers {
                let value = value.as_deref().unwrap_or_default();
                assert!(!value.contains(&0), "{name}");
            }
        }
    }
}
