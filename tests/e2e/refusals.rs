//! Requests that must be refused: for each reason, what a sender does to bring it about.

use serde_json::{Value, json};
use sluice_schemas::providers::testing::Unsigned;
use sluice_schemas::reason::Reason;
use sluice_tests::harness::client::Outgoing;
use sluice_tests::harness::deployment::{Source, now};
use sluice_tests::load::mix::foreign_secret;

use crate::harness::{Running, fresh_id};

/// A request of a source with any body and headers, signed.
pub fn signed(source: &Source, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Outgoing {
    let unsigned = Unsigned {
        headers: headers
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect(),
        body: body.into(),
        delivery_id: format!("msg_{}", fresh_id().simple()),
    };
    source.sign(&unsigned, now()).expect("a request")
}

/// The same request with a header's value changed; `None` takes it out.
pub fn with(mut request: Outgoing, name: &str, value: Option<&str>) -> Outgoing {
    match value {
        None => request.headers.retain(|(found, _)| found != name),
        Some(value) => {
            let found = request.headers.iter_mut().find(|(found, _)| found == name);
            value.clone_into(&mut found.expect("the header").1);
        }
    }
    request
}

fn and(mut request: Outgoing, name: &str, value: &str) -> Outgoing {
    request.headers.push((name.to_owned(), value.to_owned()));
    request
}

/// Every row that a sender can bring about: what it is, the request, the reason.
pub fn rows(running: &Running) -> Vec<(String, Outgoing, Reason)> {
    let flock = running.source("flock");
    let mut rows = flock_signatures(&flock);
    rows.extend(flock_bodies(&flock));
    rows.extend(flowcode(&running.source("flowcode")));
    rows.extend(flockler(&running.source("flockler")));
    rows.extend(referralloop(&running.source("referralloop")));
    rows
}

type Rows = Vec<(String, Outgoing, Reason)>;

/// The body number `n`, changed.
fn flock_body(n: u64, change: &dyn Fn(&mut Value)) -> String {
    let mut body = json!({
        "entity": "referral", "entityId": format!("row_{n}"), "name": "referral.accepted",
        "timestamp": now(),
    });
    change(&mut body);
    body.to_string()
}

fn flock_signatures(source: &Source) -> Rows {
    const SIGNATURE: &str = "x-flock-signature";
    let mut rows = Rows::new();
    let mut row = |what: &str, request: Outgoing, reason| {
        rows.push((format!("flock: {what}"), request, reason));
    };
    let plain = |n| signed(source, &[], flock_body(n, &|_| {}));
    row(
        "no signature",
        with(plain(1), SIGNATURE, None),
        Reason::SignatureMissing,
    );
    row(
        "an empty signature",
        with(plain(2), SIGNATURE, Some("")),
        Reason::SignatureMalformed,
    );
    row(
        "no encoding",
        with(plain(3), SIGNATURE, Some("!!!")),
        Reason::SignatureMalformed,
    );
    row(
        "twice",
        and(plain(4), SIGNATURE, "00"),
        Reason::SignatureMalformed,
    );
    let long = "a".repeat(4_097);
    row(
        "over 4 KiB",
        with(plain(5), SIGNATURE, Some(&long)),
        Reason::SignatureMalformed,
    );
    let zeros = "0".repeat(64);
    row(
        "a wrong signature",
        with(plain(6), SIGNATURE, Some(&zeros)),
        Reason::SignatureMismatch,
    );
    rows
}

fn flock_bodies(source: &Source) -> Rows {
    let mut rows = Rows::new();
    let mut row = |what: &str, request: Outgoing, reason| {
        rows.push((format!("flock: {what}"), request, reason));
    };
    let timed = |n, time: Value| {
        signed(
            source,
            &[],
            flock_body(n, &|body| body["timestamp"] = time.clone()),
        )
    };
    let no_time =
        |body: &mut Value| drop(body.as_object_mut().map(|body| body.remove("timestamp")));
    row(
        "no time",
        signed(source, &[], flock_body(7, &no_time)),
        Reason::TimestampMissing,
    );
    row(
        "time in words",
        timed(8, json!("yesterday")),
        Reason::TimestampMalformed,
    );
    row(
        "stale",
        timed(9, json!(now() - 400)),
        Reason::TimestampStale,
    );
    row(
        "from the future",
        timed(10, json!(now() + 400)),
        Reason::TimestampStale,
    );
    row(
        "the far future",
        timed(11, json!(99_999_999_999_u64)),
        Reason::TimestampStale,
    );
    row(
        "not UTF-8",
        signed(source, &[], b"{\"name\":\"\xff\"}".to_vec()),
        Reason::SignatureMismatch,
    );
    row("empty", signed(source, &[], ""), Reason::SignatureMismatch);
    row(
        "not JSON",
        signed(source, &[], "name=x"),
        Reason::SignatureMismatch,
    );
    let twice = format!(
        r#"{{"name":"a","name":"b","entity":"x","entityId":"y","timestamp":{}}}"#,
        now()
    );
    row(
        "a key twice",
        signed(source, &[], twice),
        Reason::MalformedJson,
    );
    let no_name = |body: &mut Value| drop(body.as_object_mut().map(|body| body.remove("name")));
    row(
        "no name",
        signed(source, &[], flock_body(12, &no_name)),
        Reason::MissingField,
    );
    rows
}

fn flowcode(source: &Source) -> Rows {
    let mut rows = Rows::new();
    let mut row = |what: &str, request: Outgoing, reason| {
        rows.push((format!("flowcode: {what}"), request, reason));
    };
    let plain = || signed(source, &[], r#"{"type":"scan.created"}"#);
    let time = |value| with(plain(), "webhook-timestamp", value);
    row(
        "no signature",
        with(plain(), "webhook-signature", None),
        Reason::SignatureMissing,
    );
    row(
        "mixed families",
        and(plain(), "svix-id", "x"),
        Reason::SignatureMalformed,
    );
    row("no time", time(None), Reason::TimestampMissing);
    for odd in ["abc", "-1", "1700000000.5", "+1700000000", " "] {
        row(
            &format!("time {odd:?}"),
            time(Some(odd)),
            Reason::TimestampMalformed,
        );
    }
    let stale = |by: i64| {
        let unsigned = source
            .provider()
            .expect("known")
            .sender()
            .sample("scan.created", 1, now());
        source.sign(&unsigned, now() + by).expect("a request")
    };
    row("stale", stale(-400), Reason::TimestampStale);
    row("from the future", stale(400), Reason::TimestampStale);
    row(
        "not UTF-8",
        signed(source, &[], vec![0xff]),
        Reason::NotUtf8,
    );
    row("not JSON", signed(source, &[], "{"), Reason::MalformedJson);
    rows
}

fn flockler(source: &Source) -> Rows {
    let mut rows = Rows::new();
    let mut row = |what: &str, request: Outgoing, reason| {
        rows.push((format!("flockler: {what}"), request, reason));
    };
    let request = |action: &str, env: &str, body: Value| {
        let headers = [("x-flockler-action", action), ("x-flockler-env", env)];
        signed(source, &headers, body.to_string())
    };
    let body = |action: &str| json!({"action": action, "article": {"id": 900_001}});
    let other = request("publish", "production", body("update"));
    row(
        "header and body differ",
        other,
        Reason::ContradictoryHeaders,
    );
    let odd = request("explode", "production", body("explode"));
    row(
        "an action outside the set",
        odd,
        Reason::ContradictoryHeaders,
    );
    let staging = request("update", "staging", body("update"));
    row("staging", staging, Reason::EnvironmentNotAccepted);
    let nobody = request(
        "update",
        "production",
        json!({"action": "update", "article": {}}),
    );
    row("no id", nobody, Reason::MissingField);
    // The title stands in the event twice: as a column and in the body.
    let title = "t".repeat(1_900_000);
    let large = json!({"action": "update", "article": {"id": 900_002, "title": title}});
    row(
        "a huge title",
        request("update", "production", large),
        Reason::TooLargeForTopic,
    );
    rows
}

fn referralloop(source: &Source) -> Rows {
    let mut rows = Rows::new();
    let mut row = |what: &str, request: Outgoing, reason| {
        rows.push((format!("referralloop: {what}"), request, reason));
    };
    let unsigned =
        source
            .provider()
            .expect("known")
            .sender()
            .sample("signup.created", 900_003, now());
    let forged = source.sign_with(&unsigned, &foreign_secret(&source.secret), now());
    row(
        "a bad signature",
        forged.expect("a request"),
        Reason::SignatureMismatch,
    );
    let body =
        json!({"event_type": "signup.created", "waitlist_id": "w", "data": {}, "timestamp": "x"});
    row(
        "no id",
        signed(source, &[], body.to_string()),
        Reason::MissingField,
    );
    rows
}
