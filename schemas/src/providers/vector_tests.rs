//! Vectors that are written down elsewhere, and what several fixtures show together.

use crate::event::Authenticity;
use crate::fate::Fate;

use super::fixture::{Fixture, fixtures};

fn fixture(provider: &str, case: &str) -> Fixture {
    let mut found = fixtures()
        .into_iter()
        .filter(|fixture| fixture.is(provider, case));
    found
        .next()
        .unwrap_or_else(|| panic!("{provider} has {case}"))
}

/// The vectors of the contract stand in fixtures, whose expectations can be rewritten: what they must
/// be stands here once more.
#[test]
fn the_vectors_of_the_contract_hold() {
    for (provider, case, value, scheme) in [
        (
            "flock",
            "01",
            "f62998b8a02a235c17ad7afef58a069abbdd4eac3f35bd6e00c3ddf2a9306baf",
            "ts.data",
        ),
        (
            "flock",
            "02",
            "afd6943324ff861d6afb4d1aba1e88db44633df8f06e5ea1ca34cdbf6d74e670",
            "raw",
        ),
        (
            "flock",
            "03",
            "f1fb2e74562728d1917c89d8fcf715bc17e2862cc0b18e4f969aed6cee88df43",
            "ts.raw",
        ),
        (
            "flock",
            "04",
            "dda3837a609a99312ce03e8e7aa83666916bf67c7f4c8b08343c0a930bbe9c8e",
            "tsdata",
        ),
        (
            "flowcode",
            "01",
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            "v1",
        ),
        (
            "flowcode",
            "02",
            "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==",
            "v1a",
        ),
        (
            "flockler",
            "01",
            "1e7fc5374400ee9686ff80dd66e19a6fe8d397982e63b151a522603bf70faa1b",
            "unicode",
        ),
        (
            "flockler",
            "02",
            "Hn/FN0QA7paG/4DdZuGab+jTl5guY7FRpSJgO/cPqhs=",
            "unicode",
        ),
    ] {
        let fixture = fixture(provider, case);
        let mut headers = fixture.request.headers.0.iter();
        assert!(
            headers.any(|(_, found)| found == value.as_bytes()),
            "{provider} {case}"
        );
        let proof = fixture
            .verify()
            .map(|authentic| authentic.proof)
            .expect("a vector");
        assert_eq!(proof.scheme, Some(scheme));
    }
}

#[test]
fn a_signup_has_one_identity_however_it_is_written_and_proved() {
    let first = fixture("referralloop", "01").mark();
    // Other order of keys, signed, pretty, signed as written again.
    for case in ["04", "05", "07", "08"] {
        assert_eq!(fixture("referralloop", case).mark(), first, "{case}");
    }
    assert_ne!(fixture("referralloop", "02").mark(), first);
}

#[test]
fn under_a_signature_over_data_the_name_still_distinguishes_events() {
    let mut fixture = fixture("flock", "01");
    let mark = fixture.mark();
    let body = String::from_utf8(fixture.body.clone()).expect("UTF-8");
    fixture.body = body
        .replacen("invitee.accepted", "invitee.visited", 1)
        .into_bytes();
    let proof = fixture
        .verify()
        .map(|authentic| authentic.proof)
        .expect("data is as it was");
    assert_eq!(proof.authenticity, Authenticity::PartiallySigned);
    assert_ne!(fixture.mark(), mark);
}

#[test]
fn under_a_signature_over_data_no_byte_of_data_or_time_may_change() {
    for case in ["01", "04", "19"] {
        let mut fixture = fixture("flock", case);
        let text = String::from_utf8(fixture.body.clone()).expect("UTF-8");
        let start = text.find("\"campaignId\"").expect("data");
        let end = text.find("\"timestamp\"").expect("a time");
        let data_end = text[..end].rfind('}').expect("data ends");
        let digits = text.rfind("1641234567").expect("a time");
        for at in (start..=data_end).chain(digits..digits + 10) {
            fixture.body[at] ^= 2;
            let reason = fixture.reason().unwrap_or_else(|| panic!("{case} at {at}"));
            assert_eq!(reason.fate(), Fate::Rejected, "{case} at {at}");
            fixture.body[at] ^= 2;
        }
    }
}

#[test]
fn the_same_article_sent_again_is_the_same_sequence_and_another_change_is_not() {
    let sequence = |case| {
        let fixture = fixture("flockler", case);
        let authentic = fixture.verify().expect("an event");
        authentic.payload.identity().sequence.expect("a sequence")
    };
    // The same content in three encodings of one MAC.
    assert_eq!(sequence("01"), sequence("02"));
    assert_eq!(sequence("01"), sequence("03"));
    // Publish, update and unpublish of one article.
    let (update, publish, unpublish) = (sequence("05"), sequence("06"), sequence("07"));
    assert_eq!(update.entity, publish.entity);
    assert_eq!(update.entity, unpublish.entity);
    assert_ne!(update.mac, publish.mac);
    assert_ne!(publish.mac, unpublish.mac);
}
