//! One record with what it holds, masked where it must be.

use serde_json::{Value, json};

use crate::records::mask;
use crate::records::view::{Read, Unread};

/// What a record says of itself, its request and its body.
pub fn object(read: &Read, body: &[u8], show_bodies: bool) -> Value {
    let mut object = json!(read.view);
    let request = read.request.as_ref();
    object["request"] = request.map_or(Value::Null, |request| mask::request(request, show_bodies));
    object["body"] = mask::body(body, show_bodies);
    object["unreadable"] = match &read.view.unread {
        None => Value::Null,
        Some(Unread::Newer) => json!("of a newer release"),
        Some(Unread::Malformed(reason)) => json!(reason),
    };
    object
}

#[cfg(test)]
mod tests {
    use sluice_schemas::audit::testing::{NAMES, sound};

    use super::*;
    use crate::records::view::read;

    #[test]
    fn a_record_is_shown_with_masks_unless_bodies_are_asked_for() {
        let (records, _) = sound();
        let dead = &records[7];
        let read = read(&NAMES, dead);
        let masked = object(&read, &dead.value, false);
        assert_eq!(masked["reason"], "malformed_json");
        assert_eq!(masked["body"], json!({"bytes": 6, "text": "***"}));
        assert_eq!(masked["request"]["peer"], "***");
        let shown = object(&read, &dead.value, true);
        assert_eq!(shown["body"]["text"], "body 3");
        assert_eq!(shown["request"]["peer"], "127.0.0.1");
    }
}
