//! `sluicectl explain` by a request's id and by a file of `show`, after real services judged the request.

use serde_json::{Value, json};
use sluice_tests::harness::deployment::now;

use crate::ctl::run;
use crate::harness::Running;

/// What stands in the bodies of these tests, as a person's data would.
const PERSON: &str = "ada@example.com";

#[track_caller]
fn explained(running: &Running, arguments: &[&str], status: i32) -> Value {
    let all = [&["explain", "--json"], arguments].concat();
    let ran = run(&running.site, &running.site.settings, &all);
    assert_eq!(
        ran.status,
        Some(status),
        "{arguments:?}\n{}\n{}",
        ran.out,
        ran.err
    );
    assert!(
        !ran.out.contains(PERSON) && !ran.err.contains(PERSON),
        "{}",
        ran.out
    );
    let mut objects = ran.objects();
    assert_eq!(objects.len(), 1, "{objects:?}");
    objects.remove(0)
}

/// An event, its repetition, and a request whose body was written again on its way.
fn sent(running: &mut Running) -> [String; 3] {
    let source = running.source("flowcode");
    let kind = source.samples().expect("samples")[0];
    let request = source.signed(kind, 1, now()).expect("a request");
    let event = running.accept(&request);
    running.outcome(&event);
    let repeated = running.accept(&request);
    let mut unsigned = source.unsigned(kind, 2, now()).expect("a sample");
    let mut body: Value = serde_json::from_slice(&unsigned.body).expect("JSON");
    body["email"] = json!(PERSON);
    unsigned.body = body.to_string().into_bytes();
    let mut pretty = source.sign(&unsigned, now()).expect("a request");
    pretty.body = serde_json::to_vec_pretty(&body).expect("JSON").into();
    let refused = running.accept(&pretty);
    for id in [&repeated, &refused] {
        running.outcome(id);
    }
    [event, repeated, refused]
}

#[test]
fn a_request_is_explained_by_its_id_and_by_a_file() {
    let mut running = Running::start("ctl-explain");
    let [event, repeated, refused] = sent(&mut running);
    let of_event = explained(&running, &[&event], 0);
    assert_eq!(
        (&of_event["fate"], &of_event["recorded_fate"]),
        (&json!("event"), &json!("event"))
    );
    let of_repeated = explained(&running, &[&repeated], 0);
    assert_eq!(
        (
            &of_repeated["fate"],
            &of_repeated["cause"],
            &of_repeated["event"]
        ),
        (
            &json!("duplicate"),
            &json!("repetition"),
            &of_event["event"]
        )
    );
    let dedup = &of_repeated["steps"][8];
    assert_eq!(
        (&dedup["step"], &dedup["state"]),
        (&json!("dedup"), &json!("ok"))
    );
    let of_refused = explained(&running, &[&refused], 1);
    assert_eq!(
        (
            &of_refused["reason"],
            &of_refused["cause"],
            &of_refused["proved"]
        ),
        (
            &json!("signature_mismatch"),
            &json!("reserialised_body"),
            &json!(true)
        ),
        "{of_refused:#}"
    );
    assert_eq!(of_refused["recorded_fate"], json!("rejected"));
    the_same_by_a_file(&running, &refused, &of_refused);
    let nobody = "01700000-0000-7000-8000-000000000001";
    let arguments = ["explain", nobody, "--since", "1h"];
    let nothing = run(&running.site, &running.site.settings, &arguments);
    assert_eq!(nothing.status, Some(1), "{}", nothing.err);
    assert!(nothing.err.contains("was not found"), "{}", nothing.err);
    running.finish(&[]);
}

fn the_same_by_a_file(running: &Running, id: &str, of_id: &Value) {
    let settings = &running.site.settings;
    let found = run(&running.site, settings, &["find", id, "--json"]);
    let place = &found.objects()[0]["raw"];
    let (partition, offset) = (place["partition"].to_string(), place["offset"].to_string());
    let show = ["show", "--raw", &partition, &offset, "--show-bodies"];
    let file = running.site.dir().join("record.json");
    std::fs::write(&file, run(&running.site, settings, &show).out).expect("a file");
    let of_file = explained(running, &[&file.display().to_string()], 1);
    for member in [
        "fate",
        "reason",
        "cause",
        "says",
        "request_id",
        "received_at",
    ] {
        assert_eq!(of_file[member], of_id[member], "{member}");
    }
    assert_eq!(of_file["recorded_fate"], Value::Null);
}
