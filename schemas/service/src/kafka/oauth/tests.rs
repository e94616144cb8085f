use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// An endpoint that answers each request with the next of these, and the last one for ever.
fn endpoint(answers: Vec<String>) -> (String, Arc<AtomicUsize>, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/token", listener.local_addr().expect("bound"));
    let (asked, last) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::default()));
    let (count, seen) = (Arc::clone(&asked), Arc::clone(&last));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut request = vec![0; 4096];
            let read = stream.read(&mut request).expect("a request");
            *seen.lock() = String::from_utf8_lossy(&request[..read]).into_owned();
            let n = count.fetch_add(1, Ordering::SeqCst);
            let answer = &answers[n.min(answers.len() - 1)];
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (url, asked, last)
}

fn answer(status: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

fn config(url: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("sasl.mechanism", "OAUTHBEARER")
        .set("sasl.oauthbearer.method", "oidc")
        .set("sasl.oauthbearer.client.id", "sluice")
        .set("sasl.oauthbearer.client.secret", "s3cret")
        .set("sasl.oauthbearer.scope", "kafka write")
        .set("sasl.oauthbearer.token.endpoint.url", url);
    take(&mut config).expect("good properties");
    config
}

fn ask(config: &ClientConfig) -> Result<OAuthToken, String> {
    token(config.get(CARRIER)).map_err(|error| error.to_string())
}

#[test]
fn one_request_serves_all_clients_until_the_token_is_old() {
    let long = answer("200 OK", r#"{"access_token":"a.b.c","expires_in":3600}"#);
    let (url, asked, seen) = endpoint(vec![long]);
    let one = config(&url);
    for property in OIDC {
        assert_eq!(one.get(property), None, "{property} is not the client's");
    }
    let found = ask(&one).expect("a token");
    assert_eq!(
        (&found.token[..], &found.principal_name[..]),
        ("a.b.c", "sluice")
    );
    let request = seen.lock().clone();
    assert!(
        request.contains("grant_type=client_credentials&scope=kafka+write"),
        "{request}"
    );
    assert!(
        request.to_lowercase().contains("authorization: basic "),
        "{request}"
    );
    ask(&config(&url)).expect("the same token");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let name = one.get(CARRIER).expect("a name");
    let source = SOURCES.lock().get(name).cloned().expect("a source");
    let later = Instant::now() + Duration::from_secs(2_800);
    source.token(later).expect("another token");
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[test]
fn an_endpoint_that_fails_is_asked_again_later_and_the_old_token_serves_meanwhile() {
    let good = answer("200 OK", r#"{"access_token":"good","expires_in":1000}"#);
    let bad = answer("503 Service Unavailable", "");
    let (url, asked, _) = endpoint(vec![good, bad]);
    let config = config(&url);
    ask(&config).expect("a token");
    let name = config.get(CARRIER).expect("a name");
    let source = SOURCES.lock().get(name).cloned().expect("a source");
    let near_the_end = Instant::now() + Duration::from_secs(800);
    for _ in 0..3 {
        let (token, _) = source.token(near_the_end).expect("the old one");
        assert_eq!(token.text, "good");
    }
    let end = Instant::now() + Duration::from_secs(999);
    let error = source.token(end).err().expect("no token");
    assert!(error.contains("503"), "{error}");
    assert!(asked.load(Ordering::SeqCst) >= 2);
}

#[test]
fn refusals_and_strange_answers_say_what_to_check_and_show_no_secret() {
    for (status, body, expected) in [
        (
            "401 Unauthorized",
            r#"{"error":"invalid_client"}"#,
            "401 Unauthorized (invalid_client)",
        ),
        (
            "400 Bad Request",
            "s3cret",
            "check sasl.oauthbearer.client.id",
        ),
        (
            "404 Not Found",
            "",
            "check sasl.oauthbearer.token.endpoint.url",
        ),
        ("302 Found", "", "302"),
        (
            "200 OK",
            r#"{"access_token": 7, "s3cret": 1}"#,
            "no token: line 1",
        ),
        ("200 OK", r#"{"access_token": ""}"#, "a token that is none"),
        (
            "200 OK",
            r#"{"access_token": "s3cret\n"}"#,
            "a token that is none",
        ),
        (
            "200 OK",
            r#"{"access_token": "s3cret", "expires_in": -1}"#,
            "has expired",
        ),
        ("200 OK", &"x".repeat(70_000), "more than 65536 bytes"),
    ] {
        let (url, ..) = endpoint(vec![answer(status, body)]);
        let error = ask(&config(&url)).err().expect("no token");
        assert!(error.contains(expected), "{status}: {error}");
        assert!(!error.contains("s3cret"), "{status}: {error}");
    }
    let error = ask(&config("http://127.0.0.1:1/")).err().expect("no token");
    assert!(error.contains("does not answer"), "{error}");
    assert!(token(Some("another")).is_err());
}
