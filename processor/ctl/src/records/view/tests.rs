//! What records say of themselves, of all fates, of a newer release and of nobody.

use sluice_schemas::audit::testing::{NAMES, id, sound};
use sluice_schemas::event::CONTENT_TYPE;

use super::*;
use crate::records::filter::{Filter, has_id};
use crate::records::window::Window;

/// Raw 0 to 3, then their event, duplicate, rejection and dead letter.
fn all() -> Vec<Read> {
    let (records, _) = sound();
    records
        .iter()
        .map(|record| super::read(&NAMES, record))
        .collect()
}

#[test]
fn each_fate_says_where_it_comes_from() {
    let all = all();
    let fates: Vec<_> = all.iter().map(|read| read.view.fate).collect();
    assert_eq!(
        fates[3..],
        [
            None,
            Some("event"),
            Some("duplicate"),
            Some("rejected"),
            Some("dead_letter")
        ]
    );
    for (n, read) in all[4..].iter().enumerate() {
        let offset = i64::try_from(n).expect("small");
        assert_eq!(
            read.view.raw,
            Some(Place {
                partition: 0,
                offset
            })
        );
        assert_eq!(read.view.unread, None);
    }
    let duplicate = &all[5].view;
    assert_eq!(duplicate.event.as_deref(), Some("e0"));
    assert_eq!(duplicate.reason.as_deref(), Some("duplicate"));
    assert_eq!(duplicate.request_id, Some(id(1).to_string()));
    let rejected = all[6].view.line();
    assert!(
        rejected.contains("rejected signature_mismatch  s  request")
            && rejected.ends_with("raw 0/2  webhooks.rejected/0/0"),
        "{rejected}"
    );
    let duplicate = duplicate.line();
    assert!(duplicate.contains("  duplicate  s  ") && duplicate.contains("repeats e0"));
}

#[test]
fn a_record_of_a_newer_release_says_what_is_known_of_it() {
    let (mut records, _) = sound();
    records[7].headers[0].1 = br#"{"v":2,"new":true}"#.to_vec();
    let read = super::read(&NAMES, &records[7]);
    assert_eq!(read.view.unread, Some(Unread::Newer));
    assert_eq!(read.view.reason.as_deref(), Some("malformed_json"));
    assert!(read.view.line().contains("of a newer release"));
    // A column more.
    records[4].value.extend(b"more");
    let read = super::read(&NAMES, &records[4]);
    assert_eq!(read.view.unread, Some(Unread::Newer));
    assert_eq!(read.view.event.as_deref(), Some("e0"));
    // What nobody of ours wrote.
    records[4].headers.retain(|(name, _)| name != CONTENT_TYPE);
    records[5].headers.remove(0);
    for n in [4, 5] {
        let read = super::read(&NAMES, &records[n]);
        assert!(matches!(read.view.unread, Some(Unread::Malformed(_))));
        assert!(read.view.line().contains("cannot be read"));
    }
}

#[test]
fn a_record_is_taken_by_what_it_says() {
    let all = all();
    let filter = |change: &dyn Fn(&mut Filter)| {
        let mut filter = Filter::all(Window {
            since: 0,
            until: None,
        });
        change(&mut filter);
        let taken = all[4..].iter().enumerate();
        let taken = taken.filter(|(_, read)| filter.takes(read));
        taken.map(|(n, _)| n).collect::<Vec<_>>()
    };
    let text = |text: &str| vec![text.to_owned()];
    assert_eq!(filter(&|_| ()), [0, 1, 2, 3]);
    assert_eq!(filter(&|one| one.sources = text("s")), [1, 2, 3]);
    assert_eq!(filter(&|one| one.providers = text("flock")), [1, 2, 3]);
    assert_eq!(filter(&|one| one.types = text("x")), [0]);
    assert_eq!(filter(&|one| one.fates = text("rejected")), [2]);
    let reasons = || vec!["duplicate".to_owned(), "malformed_json".to_owned()];
    assert_eq!(filter(&|one| one.reasons = reasons()), [1, 3]);
    assert_eq!(filter(&|one| one.id = Some("e0".to_owned())), [0, 1]);
    assert_eq!(
        filter(&|one| one.id = Some(id(2).to_string().to_uppercase())),
        [2]
    );
    assert!(filter(&|one| one.window.since = 1).is_empty());
}

#[test]
fn a_delivery_is_known_by_a_header_of_its_request() {
    let (mut records, _) = sound();
    let mut request = RawRequest::decode(&records[7].headers[0].1).expect("a request");
    let header = ("webhook-id".to_owned(), b"msg_1".to_vec());
    request.headers.0.push(header);
    records[7].headers[0].1 = request.encode();
    let read = super::read(&NAMES, &records[7]);
    assert!(has_id(&read, "msg_1") && !has_id(&read, "msg_2"));
}
