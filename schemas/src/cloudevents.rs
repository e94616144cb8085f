//! `CloudEvents` 1.0: the attributes of an event, for every binding that carries them as headers.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::event::WebhookEvent;
use crate::timestamp;

/// The attribute `ce_specversion`, which each event has in addition to its [`attributes`].
pub const SPECVERSION: (&str, &str) = ("ce_specversion", "1.0");

/// The attributes of an event by their names in Kafka's binding, in their order.
pub fn attributes(event: &WebhookEvent) -> impl Iterator<Item = (&'static str, Cow<'_, str>)> {
    // The time of the occurrence, and of the receipt where the provider gives none.
    let time = timestamp::rfc3339(event.occurred_at.unwrap_or(event.received_at));
    // An attribute that need not be there is left out where its text is none that one may have.
    let subject = event.subject.as_deref();
    let subject = subject.filter(|subject| !subject.contains(is_unprintable));
    [
        Some(("ce_id", Cow::Borrowed(event.id.as_str()))),
        Some(("ce_source", Cow::Borrowed(event.source.as_str()))),
        Some(("ce_type", printable(&event.r#type))),
        time.map(|time| ("ce_time", Cow::Owned(time))),
        subject.map(|subject| ("ce_subject", Cow::Borrowed(subject))),
    ]
    .into_iter()
    .flatten()
}

/// Whether a character may not stand in an attribute: control characters and what Unicode reserves as no
/// character.
fn is_unprintable(c: char) -> bool {
    let code = u32::from(c);
    c.is_control() || code & 0xfffe == 0xfffe || (0xfdd0..=0xfdef).contains(&code)
}

/// An attribute that must be there, with U+FFFD for what may not stand in one. Kafka's binding knows no
/// escapes: readers take the bytes as the text.
fn printable(text: &str) -> Cow<'_, str> {
    if text.contains(is_unprintable) {
        Cow::Owned(text.replace(is_unprintable, "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// An attribute as the value of an HTTP header: what is no printable ASCII, space, quotation mark and percent
/// sign are percent-encoded, as the binding of HTTP has it.
pub fn http_value(text: &str) -> String {
    let mut value = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (0x21..=0x7e).contains(&byte) && byte != b'"' && byte != b'%' {
            value.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(value, "%{byte:02X}");
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_of_an_http_header_is_escaped_as_the_binding_says() {
        // The example of the binding's page.
        assert_eq!(
            http_value("Euro \u{20ac} \u{1f600}"),
            "Euro%20%E2%82%AC%20%F0%9F%98%80"
        );
        assert_eq!(http_value("a\"b%c~!"), "a%22b%25c~!");
    }
}
