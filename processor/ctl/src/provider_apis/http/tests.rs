//! Calls to a server that answers, asks to wait, is slow, cuts the connection, or leads elsewhere.

use std::net::TcpListener;

use super::*;
use crate::provider_apis::testing::{Fault, KEY, Server};

fn client(url: &str, timeout: u64, patience: u64) -> Client {
    let calling = Calling {
        api_url: Some(url.to_owned()),
        timeout: Duration::from_millis(timeout),
        patience: Duration::from_millis(patience),
        json: false,
    };
    let key = HeaderValue::from_str(&format!("Bearer {KEY}")).expect("a header");
    Client::new("Flock", "https://localhost", &calling, (key, "flock-api")).expect("a client")
}

fn call(is_repeatable: bool) -> Call<'static> {
    Call {
        method: Method::POST,
        path: &["referrals"],
        query: &[],
        body: Some(b"{\"email\":\"ada@example.com\"}".to_vec()),
        is_repeatable,
    }
}

/// What a call ends with after these faults; how often it came.
async fn after(faults: Vec<Fault>, is_repeatable: bool) -> (Result<Answer, Ended>, usize) {
    let server = Server::start();
    server.faults(faults);
    let client = client(&server.url, 1_000, 20_000);
    let ended = client.call(&call(is_repeatable)).await;
    (ended, server.count())
}

/// The sentence, which has no key, no body and no URL.
#[track_caller]
fn sentence(ended: Result<Answer, Ended>) -> (String, bool) {
    let Ended { failure, doubted } = ended.expect_err("a failure");
    let text = format!("{failure:?}");
    for secret in [KEY, "ada@example.com", "127.0.0.1:"] {
        assert!(!text.contains(secret), "{text}");
    }
    (text, doubted)
}

fn answer(status: u16, header: &'static str, body: &str) -> Fault {
    Fault::Answer(status, header, body.to_owned())
}

#[tokio::test]
async fn a_provider_that_asks_to_wait_is_waited_for() {
    let at = OffsetDateTime::now_utc() + Duration::from_secs(2);
    let body = format!("{{\"reset_at\": {}}}", at.unix_timestamp());
    for fault in [
        answer(429, "retry-after: 1", "{}"),
        answer(429, "x-none: 1", &body),
        answer(425, "retry-after: 1", "no JSON"),
    ] {
        let began = Instant::now();
        let (ended, count) = after(vec![fault], false).await;
        let answer = ended.expect("an answer");
        assert_eq!((answer.status, answer.doubted, count), (201, false, 2));
        assert!(began.elapsed() >= Duration::from_millis(500), "it waited");
    }
}

#[tokio::test]
async fn attempts_are_bounded_in_number_and_in_time() {
    let faults = vec![answer(429, "retry-after: 0", "{}"); 9];
    let (ended, count) = after(faults, false).await;
    let (text, doubted) = sentence(ended);
    assert!(
        text.starts_with("TryAgain(") && text.contains("5 attempts failed"),
        "{text}"
    );
    assert_eq!((count, doubted), (5, false));

    let (ended, count) = after(vec![answer(429, "retry-after: 3600", "{}")], true).await;
    let (text, _) = sentence(ended);
    assert!(
        text.contains("429") && text.contains("in 3600.0 s is past --patience, 20.0 s"),
        "{text}"
    );
    assert_eq!(count, 1);
}

#[tokio::test]
async fn what_may_have_been_carried_out_is_tried_again_only_where_twice_is_once() {
    let slow = Fault::Slow(Duration::from_secs(5));
    for (fault, word) in [
        (Fault::Cut(true), "did not answer"),
        (Fault::CutInBody, "the rest of its answer did not come"),
        (slow, "the time for one attempt was over"),
        (answer(500, "x-none: 1", "{}"), "answered 500"),
    ] {
        let (ended, count) = after(vec![fault.clone()], true).await;
        let answer = ended.unwrap_or_else(|ended| panic!("{fault:?}: {ended:?}"));
        assert_eq!((answer.status, answer.doubted, count), (201, true, 2));
        let (ended, count) = after(vec![fault], false).await;
        let (text, doubted) = sentence(ended);
        assert!(text.starts_with("Failed(") && text.contains(word), "{text}");
        assert!(text.contains("may have been carried out"), "{text}");
        assert_eq!((count, doubted), (1, true));
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_a_refused_key_is_a_fault_of_the_secrets() {
    let elsewhere = Server::start();
    let header = format!("location: {}/referrals", elsewhere.url).leak();
    let (ended, count) = after(vec![answer(307, header, "")], true).await;
    let (text, _) = sentence(ended);
    assert!(
        text.starts_with("Failed(") && text.contains("307, a redirect"),
        "{text}"
    );
    assert_eq!((count, elsewhere.count()), (1, 0));

    let (ended, count) = after(vec![answer(401, "x-none: 1", KEY)], true).await;
    let (text, _) = sentence(ended);
    assert!(
        text.starts_with("Config(") && text.contains("the file flock-api"),
        "{text}"
    );
    assert_eq!(count, 1);
}

#[tokio::test]
async fn an_answer_without_an_end_is_not_read_to_it() {
    let (ended, count) = after(vec![Fault::Endless], true).await;
    let (text, _) = sentence(ended);
    assert!(text.contains("more than 262144 bytes"), "{text}");
    assert_eq!(count, 1);
}

#[tokio::test]
async fn nobody_there_is_another_try_later_for_every_call() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let ended = client(&url, 1_000, 700).call(&call(false)).await;
    let Ended { failure, doubted } = ended.expect_err("nobody listens");
    let text = format!("{failure:?}");
    assert!(
        text.starts_with("TryAgain(") && text.contains("cannot be reached"),
        "{text}"
    );
    assert!(!doubted);
}

#[test]
fn a_key_goes_over_tls_or_to_this_host() {
    for good in [
        "https://api.example.com",
        "https://api.example.com/v2/",
        "http://127.0.0.1:8080",
        "http://[::1]:8080",
        "http://localhost",
    ] {
        assert!(base(good).is_ok(), "{good}");
    }
    for bad in [
        "http://api.example.com",
        "http://127.0.0.1.example.com",
        "http://10.0.0.1",
        "ftp://127.0.0.1",
        "https://user:word@api.example.com",
        "https://api.example.com?x=1",
        "api.example.com",
    ] {
        let failure = base(bad).expect_err(bad);
        assert!(matches!(failure, Failure::Usage(_)), "{bad}");
    }
}
