//! Deliveries to a server that answers as it is asked to, or is away.

use std::net::TcpListener;

use reqwest::Method;
use reqwest::header::HeaderMap;

use super::server::Server;
use super::*;

const TIMEOUT: Duration = Duration::from_secs(60);

fn request() -> Outgoing {
    let mut headers = HeaderMap::new();
    for value in [&[0xe9_u8][..], b"2"] {
        let value = reqwest::header::HeaderValue::from_bytes(value).expect("a value");
        headers.append("x-odd", value);
    }
    Outgoing {
        method: Method::PUT,
        headers,
        body: vec![0, 0xff, b'\r', b'\n'],
    }
}

fn deliver(address: &str, timeout: Duration, retry: Duration) -> Delivery {
    let target = Target::new(address, timeout, retry).expect("a target");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime
        .expect("a runtime")
        .block_on(target.deliver(&request()))
}

#[test]
fn a_request_arrives_as_it_is_where_it_is_sent_to() {
    let server = Server::start(&[204]).expect("a server");
    let url = server.url("/hooks?token=t");
    let delivery = deliver(&url, TIMEOUT, Duration::ZERO);
    assert_eq!(
        (delivery.delivered, delivery.status, delivery.attempts),
        (true, Some(204), 1)
    );
    let got = server.got();
    assert_eq!(got.len(), 1);
    assert_eq!(
        (got[0].method.as_str(), got[0].target.as_str()),
        ("PUT", "/hooks?token=t")
    );
    assert_eq!(got[0].body, [0, 0xff, b'\r', b'\n']);
    assert_eq!(got[0].all("x-odd"), [&[0xe9_u8][..], b"2"]);
}

#[test]
fn what_may_pass_is_tried_again_and_what_stays_is_not() {
    let server = Server::start(&[500, 429, 200]).expect("a server");
    let delivery = deliver(&server.url("/"), TIMEOUT, TIMEOUT);
    assert_eq!((delivery.delivered, delivery.attempts), (true, 3));
    assert_eq!(server.got().len(), 3);
    // Another address in the answer is not asked.
    for status in [302, 400, 404] {
        let server = Server::start(&[status]).expect("a server");
        let delivery = deliver(&server.url("/"), TIMEOUT, TIMEOUT);
        let short = (delivery.delivered, delivery.status, delivery.attempts);
        assert_eq!(short, (false, Some(status), 1));
        assert_eq!(server.got().len(), 1);
    }
}

#[test]
fn a_target_that_is_away_is_waited_for_within_the_bound() {
    let port = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = port.local_addr().expect("an address");
    drop(port);
    let url = format!("http://{address}/");
    let given_up = deliver(&url, TIMEOUT, Duration::from_millis(300));
    assert_eq!(
        (given_up.delivered, given_up.status, given_up.attempts),
        (false, None, 2)
    );
    assert!(given_up.words().contains("refused"), "{given_up:?}");
    let later = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(400));
        Server::on(TcpListener::bind(address).expect("the port"), &[])
    });
    let delivery = deliver(&url, TIMEOUT, TIMEOUT);
    assert!(delivery.delivered && delivery.attempts > 1, "{delivery:?}");
    drop(later.join());
}

#[test]
fn a_target_that_never_answers_ends_with_the_time_of_a_try() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!(
        "http://{}/?token=secret",
        silent.local_addr().expect("an address")
    );
    let delivery = deliver(&url, Duration::from_millis(200), Duration::ZERO);
    assert_eq!((delivery.delivered, delivery.attempts), (false, 1));
    assert!(!delivery.words().contains("secret"), "{delivery:?}");
}

#[test]
fn an_address_is_refused_or_warned_of() {
    for bad in [
        "localhost:3000",
        "ftp://localhost",
        "http://",
        "3000",
        "http://me:pw@localhost/",
    ] {
        let made = Target::new(bad, TIMEOUT, TIMEOUT);
        assert!(matches!(made, Err(Failure::Usage(_))), "{bad}");
    }
    for (address, is_warned) in [
        ("http://localhost:3000/hooks", false),
        ("http://127.0.0.9:3000", false),
        ("http://[::1]:3000", false),
        ("https://app.localhost", false),
        ("http://10.0.0.1:3000", true),
        ("https://hooks.example.com", true),
        ("http://localhost.example.com", true),
    ] {
        let target = Target::new(address, TIMEOUT, TIMEOUT).expect("a target");
        assert_eq!(target.warning().is_some(), is_warned, "{address}");
    }
    let target = Target::new("http://localhost:1/a?token=secret", TIMEOUT, TIMEOUT);
    assert_eq!(target.expect("a target").shown(), "http://localhost:1/a");
}
