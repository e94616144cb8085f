//! What senders, proxies and editors in the field make: odd requests and odd secret files.

use std::process::Command;

use sluice_schemas::event::WebhookEvent;
use sluice_schemas::fate::Fate;
use sluice_schemas::providers::ALL;
use sluice_schemas::providers::testing::Unsigned;
use sluice_service::EXIT_CONFIG;
use sluice_tests::harness::client::Outgoing;
use sluice_tests::harness::deployment::{Source, now};
use sluice_tests::harness::process::find;
use sluice_tests::harness::topics::{Isolation, read};
use sluice_tests::report::outcome;

use crate::harness::{Running, fate_topics, site};

/// A request that must become an event, and what its columns must be.
struct Row {
    what: String,
    request: Outgoing,
    check: fn(&WebhookEvent) -> bool,
}

fn row(what: &str, request: Outgoing, check: fn(&WebhookEvent) -> bool) -> Row {
    let what = what.to_owned();
    Row {
        what,
        request,
        check,
    }
}

/// A sample of an event whose body is changed before it is signed. The number keeps samples apart.
fn sample(source: &Source, event: &str, n: u64, change: impl FnOnce(&str) -> Vec<u8>) -> Outgoing {
    let provider = source.provider().expect("a provider");
    let sample = provider.sender().sample(event, n, now());
    let body = change(std::str::from_utf8(&sample.body).expect("UTF-8"));
    let unsigned = Unsigned { body, ..sample };
    source.sign(&unsigned, now()).expect("a request")
}

/// The request with another value of a header.
fn with(mut request: Outgoing, name: &str, make: impl FnOnce(&str) -> String) -> Outgoing {
    let found = request.headers.iter_mut().find(|(found, _)| found == name);
    let value = &mut found.expect("the header").1;
    *value = make(value);
    request
}

/// What every provider's requests may have: half of a surrogate pair in each object's first key, and a
/// byte order mark.
fn of_every_provider(running: &Running) -> Vec<Row> {
    let mut rows = Vec::new();
    for provider in ALL {
        let source = running.source(provider.spec().name);
        for (event, n) in provider.sender().events().iter().zip(1..) {
            let key = sample(&source, event, n, |body| {
                // The comma is one too many where an object is empty.
                let keyed = body.replace('{', r#"{"\ud83d":1,"#);
                keyed.replace(",}", "}").into_bytes()
            });
            rows.push(row(&format!("{event}: a key"), key, |_| true));
            let mark = sample(&source, event, 100 + n, |body| {
                format!("\u{feff}{body}").into_bytes()
            });
            rows.push(row(&format!("{event}: a mark"), mark, |_| true));
        }
    }
    rows
}

fn of_flock(source: &Source) -> Vec<Row> {
    let now = now();
    let utc = sluice_schemas::timestamp::rfc3339(now * 1000).expect("a time");
    let second = &utc[..19];
    let spaced = second.replace('T', " ");
    let forms = [
        format!("{now}.5"),
        format!("\"{now}.125\""),
        format!("\"{}z\"", second.to_lowercase()),
        format!("\"{spaced}Z\""),
        format!("\"{spaced}.25 UTC\""),
        format!("\"{spaced}+00:00\""),
    ];
    let mut rows = Vec::new();
    for (form, n) in forms.iter().zip(200..) {
        // Shape A is signed over the time as it is written, shape B over the body.
        for event in ["invitee.accepted", "referral.accepted"] {
            let request = sample(source, event, n, |body| {
                let (before, _) = body.split_once("\"timestamp\":").expect("a time");
                format!("{before}\"timestamp\":{form}}}").into_bytes()
            });
            let check = |event: &WebhookEvent| event.occurred_at.is_some();
            rows.push(row(&format!("{event}: the time {form}"), request, check));
        }
    }
    let nul = sample(source, "referral.accepted", 300, |body| {
        body.replace("referral_300", r"referral\u0000300")
            .into_bytes()
    });
    rows.push(row("flock: U+0000 in the subject", nul, |event| {
        event.subject.as_deref() == Some("referral/referral\u{fffd}300")
            && event.data.contains(r"referral\u0000300")
    }));
    rows
}

fn of_flowcode(source: &Source) -> Vec<Row> {
    let other = format!("v1,{}=", "A".repeat(43));
    let folds = [" ", ", ", ","].iter().zip(400..);
    let rows = folds.flat_map(|(fold, n)| {
        let first = with(
            sample(source, "scan.created", n, |body| body.into()),
            "webhook-signature",
            |good| format!("{good}{fold}{other}"),
        );
        let last = with(
            sample(source, "scan.created", n + 10, |body| body.into()),
            "webhook-signature",
            |good| format!("{other}{fold}{good}"),
        );
        let what = format!("flowcode: folded with {fold:?}");
        [
            row(&format!("{what}, first"), first, |_| true),
            row(&format!("{what}, last"), last, |_| true),
        ]
    });
    rows.collect()
}

fn of_referralloop(source: &Source) -> Vec<Row> {
    let signup = |n| sample(source, "signup.created", n, |body| body.into());
    let empty = with(signup(500), "x-webhook-signature", |_| String::new());
    let nul = sample(source, "signup.created", 501, |body| {
        body.replace("John Doe", r"John\u0000Doe").into_bytes()
    });
    vec![
        row("referralloop: an empty signature", empty, |event| {
            event.authenticity == "token"
        }),
        row("referralloop: U+0000 in a name", nul, |event| {
            event.person_name.as_deref() == Some("John\u{fffd}Doe")
                && event.data.contains(r"John\u0000Doe")
        }),
    ]
}

#[test]
fn odd_requests_that_are_as_good_as_any_are_events() {
    let mut running = Running::start("field");
    let mut rows = of_every_provider(&running);
    rows.extend(of_flock(&running.source("flock")));
    rows.extend(of_flowcode(&running.source("flowcode")));
    rows.extend(of_referralloop(&running.source("referralloop")));
    let ids: Vec<String> = rows
        .iter()
        .map(|row| running.accept(&row.request))
        .collect();
    let outcomes = running.outcomes(rows.len());
    let mut wrong = Vec::new();
    for (id, row) in ids.iter().zip(&rows) {
        let outcome = &outcomes[id];
        match &outcome.event {
            Some(event) if event.data.as_bytes() == row.request.body && (row.check)(event) => {}
            _ => wrong.push(format!(
                "{}: {} {} {}",
                row.what,
                outcome.fate,
                outcome.reason,
                outcome.summary()
            )),
        }
    }
    let topics = fate_topics(&running.site);
    let records = read(running.site.bootstrap(), &topics, Isolation::Committed).expect("records");
    let names = running.names();
    for record in &records {
        let (id, outcome) = outcome(&names, record).expect("a fate");
        if outcome.fate != Fate::Event {
            continue;
        }
        let time = record.text("ce_time").unwrap_or_default();
        if time.len() != 24 || !time.ends_with('Z') {
            wrong.push(format!("{id}: ce_time is {time}"));
        }
        let subject = record.text("ce_subject").unwrap_or_default();
        if subject.contains('\0') {
            wrong.push(format!("{id}: ce_subject has U+0000"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // ReferralLoop's rows are signed and unsigned ones of one source.
    running.finish(&["an unsigned request was accepted by its token"]);
}

/// What `sluice-processor --check` says of a settings file: its status, and all that it wrote.
fn checked(settings: &std::path::Path) -> (Option<i32>, String) {
    let binary = find("sluice-processor").expect("the binary");
    let output = Command::new(binary)
        .arg("--config")
        .arg(settings)
        .arg("--check")
        .output()
        .expect("a process");
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[test]
fn bytes_around_a_secret_are_named_and_a_secret_without_padding_is_taken() {
    const WARNING: &str = "a secret file has bytes around the secret";
    let site = site("field-secrets");
    let settings = site.dir().join("checked.yaml");
    let content = serde_json::to_vec(&site.settings).expect("JSON");
    std::fs::write(&settings, content).expect("the settings");
    let write = |provider: &str, change: &dyn Fn(&str) -> String| {
        let source = site.source(provider).expect("a source");
        let file = source.secret_file.clone().expect("a secret");
        let secret = String::from_utf8(source.secret.clone()).expect("text");
        std::fs::write(site.secret_path(&file), change(&secret)).expect("a file");
        (file, secret)
    };
    let good = |secret: &str| format!("{secret}\n");

    write("flock", &good);
    let (status, printed) = checked(&settings);
    assert_eq!(
        (status, printed.contains("WARN")),
        (Some(0), false),
        "{printed}"
    );

    let odd = [
        write("flock", &|secret| format!("{secret}\n\n")),
        write("flockler", &|secret| format!("{secret} \n")),
        write("referralloop", &|secret| format!("\u{feff}{secret}\n")),
    ];
    write("flowcode", &|secret| {
        secret.trim_end_matches('=').to_owned()
    });
    let (status, printed) = checked(&settings);
    assert_eq!(status, Some(0), "{printed}");
    assert!(printed.contains("no faults"), "{printed}");
    assert_eq!(printed.matches(WARNING).count(), odd.len(), "{printed}");
    let kinds = ["another line end", "a blank", "a byte order mark"];
    for ((file, secret), kind) in odd.iter().zip(kinds) {
        let lines = printed.lines().filter(|line| line.contains("WARN"));
        let mut lines = lines.filter(|line| line.contains(&format!("\"file\":\"{file}\"")));
        assert!(
            lines.next().is_some_and(|line| line.contains(kind)),
            "{file}: {kind}\n{printed}"
        );
        assert!(!printed.contains(secret.as_str()), "{printed}");
    }

    let mut processor = site.processor("p0").expect("a process");
    processor.wait_ready().expect("the processor is ready");
    let log = processor.log().expect("a log");
    assert_eq!(log.matches(WARNING).count(), odd.len(), "{log}");
    processor.stop().expect("an end");
    site.check_logs(&[WARNING]).expect("no other warnings");

    let digits = "A".repeat(42);
    write("flowcode", &|_| format!("whsec_{digits}-_"));
    let (status, printed) = checked(&settings);
    assert_eq!(status, Some(EXIT_CONFIG), "{printed}");
    assert!(printed.contains("is base64url"), "{printed}");
    assert!(!printed.contains(&digits), "{printed}");
}
