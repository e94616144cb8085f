//! The end of the server, for connections whose requests come at that moment.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio_util::sync::CancellationToken;

use super::in_memory;
use crate::fuzz::server::Ingest;
use crate::http::eviction::ARRIVAL;

const REQUEST: &[u8] = b"POST /v1/hooks/site HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}";

/// What a connection is answered that has made this many requests when the server closes, and whose next
/// request comes so long after that, but for its first bytes, which have come.
async fn answers(ingest: &Ingest, before: usize, begun: usize, after: Duration) -> String {
    let receiver = Arc::clone(&ingest.receiver);
    let (mut sender, stream) = duplex(16 << 10);
    let closing = CancellationToken::new();
    let serving = in_memory::serve(receiver, stream, closing.clone());
    let sending = async {
        let mut answers = vec![0; 16 << 10];
        for _ in 0..before {
            sender.write_all(REQUEST).await.expect("it is open");
            let read = sender.read(&mut answers).await.expect("an answer");
            assert!(answers[..read].starts_with(b"HTTP/1.1 200"));
        }
        if after.is_zero() {
            sender.write_all(REQUEST).await.expect("it is open");
            closing.cancel();
        } else {
            sender
                .write_all(&REQUEST[..begun])
                .await
                .expect("it is open");
            closing.cancel();
            tokio::time::sleep(after).await;
            // It may be closed by now.
            let _ = sender.write_all(&REQUEST[begun..]).await;
        }
        let mut last = String::new();
        let _ = sender.read_to_string(&mut last).await;
        last
    };
    // Where both wait for a time and the machine stood still meanwhile, the sender is first.
    tokio::join!(biased; sending, serving).0
}

fn all_are_answered(before: usize, begun: usize, after: Duration) {
    let ingest = Ingest::new();
    // The branches of a turn are polled in an order by chance.
    for _ in 0..24 {
        let answers = ingest
            .runtime
            .block_on(answers(&ingest, before, begun, after));
        assert!(answers.starts_with("HTTP/1.1 200"), "{answers:?}");
    }
}

#[test]
fn a_request_that_lies_at_the_socket_when_the_server_closes_is_answered() {
    all_are_answered(0, 0, Duration::ZERO);
    all_are_answered(1, 0, Duration::ZERO);
}

#[test]
fn a_first_request_that_comes_soon_after_is_answered() {
    all_are_answered(0, 0, ARRIVAL / 10);
}

#[test]
fn the_rest_of_a_head_that_comes_soon_after_is_answered() {
    all_are_answered(1, REQUEST.len() / 2, ARRIVAL / 10);
}
