//! The proxy between a client and a broker that are plain sockets here.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use super::*;
use crate::harness::wait::PATIENCE;

/// Long enough that bytes which may pass would have passed; a slow machine only makes it weaker.
const NOTHING_COMES: Duration = Duration::from_millis(200);

/// A proxy, and what listens behind it.
struct Bench {
    listener: TcpListener,
    proxy: Proxy,
    traps: Arc<Traps>,
}

impl Bench {
    fn new() -> Self {
        let listener = TcpListener::bind(ports::local(0)).unwrap();
        let traps = Arc::new(Traps::default());
        let proxy = Proxy::start(listener.local_addr().unwrap(), &traps).unwrap();
        Self {
            listener,
            proxy,
            traps,
        }
    }

    /// Both ends of a connection through the proxy.
    fn connect(&self) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(self.proxy.address()).unwrap();
        let (broker, _) = self.listener.accept().unwrap();
        for end in [&client, &broker] {
            end.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        (client, broker)
    }

    fn trap(&self, side: Side, skip: usize, then: Then) -> Sprung {
        let api = Api::EndTxn;
        self.traps.set(Trap {
            api,
            side,
            skip,
            then,
        })
    }
}

fn request(api: Api, correlation: i32, rest: &[u8]) -> Vec<u8> {
    let length = i32::try_from(8 + rest.len()).unwrap();
    let mut frame = length.to_be_bytes().to_vec();
    frame.extend((api as i16).to_be_bytes());
    frame.extend(3_i16.to_be_bytes());
    frame.extend(correlation.to_be_bytes());
    frame.extend(rest);
    frame
}

fn reply(correlation: i32, rest: &[u8]) -> Vec<u8> {
    let length = i32::try_from(4 + rest.len()).unwrap();
    let mut frame = length.to_be_bytes().to_vec();
    frame.extend(correlation.to_be_bytes());
    frame.extend(rest);
    frame
}

#[track_caller]
fn expect(from: &mut TcpStream, bytes: &[u8]) {
    let mut found = vec![0; bytes.len()];
    from.read_exact(&mut found).unwrap();
    assert!(found == bytes, "{} bytes differ", bytes.len());
}

#[track_caller]
fn expect_nothing(from: &mut TcpStream) {
    from.set_read_timeout(Some(NOTHING_COMES)).unwrap();
    let error = from.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    from.set_read_timeout(Some(PATIENCE)).unwrap();
}

#[track_caller]
fn expect_reset(from: &mut TcpStream) {
    let error = from.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn slow_links_forward_byte_for_byte_and_pass_the_end_on() {
    let bench = Bench::new();
    bench.proxy.set(Link::Slow {
        delay: Duration::from_millis(5),
        bytes_per_second: 4_000_000,
    });
    let (mut client, mut broker) = bench.connect();
    let body: Vec<u8> = (0..300_000_u32).flat_map(u32::to_be_bytes).collect();
    let mut sent = request(Api::Produce, 7, &body);
    sent.extend(request(Api::Fetch, 8, b""));
    let answer = reply(8, b"the earlier one has no answer");
    let expected = sent.clone();
    let sender = std::thread::spawn(move || {
        client.write_all(&sent).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        client
    });
    expect(&mut broker, &expected);
    assert_eq!(broker.read(&mut [0]).unwrap(), 0);
    broker.write_all(&answer).unwrap();
    drop(broker);
    let mut client = sender.join().unwrap();
    expect(&mut client, &answer);
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
}

#[test]
fn what_is_not_kafka_is_forwarded_too() {
    let bench = Bench::new();
    // A length of nothing, one beyond any, an answer to what was not asked, and half a head.
    let zero = [0, 0, 0, 0, 9];
    let huge = b"GET / HTTP/1.1\r\n";
    let unasked = reply(99, b"who asked?");
    for bytes in [
        &zero[..],
        &huge[..],
        &unasked,
        &request(Api::EndTxn, 1, b""),
    ] {
        let (mut client, mut broker) = bench.connect();
        broker.write_all(bytes).unwrap();
        broker.write_all(bytes).unwrap();
        expect(&mut client, &[bytes, bytes].concat());
    }
    let (mut client, mut broker) = bench.connect();
    client.write_all(huge).unwrap();
    expect(&mut broker, huge);
    client.write_all(&[1]).unwrap();
    expect(&mut broker, &[1]);
    let (mut client, mut broker) = bench.connect();
    client.write_all(&[0, 0, 1]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    expect(&mut broker, &[0, 0, 1]);
}

#[test]
fn a_cut_resets_what_is_there_and_what_comes() {
    let bench = Bench::new();
    let (mut client, mut broker) = bench.connect();
    bench.proxy.set(Link::Cut);
    expect_reset(&mut client);
    expect_reset(&mut broker);
    let mut next = TcpStream::connect(bench.proxy.address()).unwrap();
    expect_reset(&mut next);
    bench.proxy.set(Link::Open);
    let (mut client, mut broker) = bench.connect();
    // A cut that is over before anybody looked.
    bench.proxy.set(Link::Cut);
    bench.proxy.set(Link::Open);
    expect_reset(&mut client);
    expect_reset(&mut broker);
    drop(bench.listener);
    // Nobody listens behind it.
    let mut next = TcpStream::connect(bench.proxy.address()).unwrap();
    expect_reset(&mut next);
}

#[test]
fn stalled_and_half_open_links_hold_and_flow_again() {
    let bench = Bench::new();
    let (mut client, mut broker) = bench.connect();
    for (link, requests, replies) in [
        (Link::Stalled, false, false),
        (Link::ToBrokerOnly, true, false),
        (Link::ToClientOnly, false, true),
    ] {
        bench.proxy.set(link);
        assert_eq!(bench.proxy.link(), link);
        let asked = request(Api::Produce, 1, b"?");
        let answered = reply(1, b"!");
        client.write_all(&asked).unwrap();
        broker.write_all(&answered).unwrap();
        for (passes, end, bytes) in [
            (requests, &mut broker, &asked),
            (replies, &mut client, &answered),
        ] {
            if passes {
                expect(end, bytes);
            } else {
                expect_nothing(end);
            }
        }
        bench.proxy.set(Link::Open);
        if !requests {
            expect(&mut broker, &asked);
        }
        if !replies {
            expect(&mut client, &answered);
        }
    }
}

#[test]
fn a_request_is_held_with_what_is_behind_it_and_goes_on() {
    let bench = Bench::new();
    let (mut client, mut broker) = bench.connect();
    let sprung = bench.trap(Side::Request, 1, Then::Hold);
    let before = [
        request(Api::EndTxn, 1, b"skipped"),
        request(Api::Produce, 2, b""),
    ];
    let behind = [
        request(Api::EndTxn, 3, b"held"),
        request(Api::Produce, 4, b"behind"),
    ];
    // In one run of bytes, as pipelined requests come.
    client
        .write_all(&[before.concat(), behind.concat()].concat())
        .unwrap();
    expect(&mut broker, &before.concat());
    sprung.wait(PATIENCE).unwrap();
    expect_nothing(&mut broker);
    // Replies and other connections are not held.
    broker.write_all(&reply(2, b"")).unwrap();
    expect(&mut client, &reply(2, b""));
    let (mut other, mut other_end) = bench.connect();
    other.write_all(&behind[0]).unwrap();
    expect(&mut other_end, &behind[0]);
    sprung.release();
    expect(&mut broker, &behind.concat());
}

#[test]
fn a_reply_is_matched_to_its_request_and_held_until_the_trap_is_dropped() {
    let bench = Bench::new();
    let (mut client, mut broker) = bench.connect();
    let sprung = bench.trap(Side::Reply, 0, Then::Hold);
    let asked = [
        request(Api::Produce, 5, b""),
        request(Api::EndTxn, 6, b"commit"),
    ];
    client.write_all(&asked.concat()).unwrap();
    expect(&mut broker, &asked.concat());
    broker.write_all(&reply(5, b"passes")).unwrap();
    expect(&mut client, &reply(5, b"passes"));
    assert!(!sprung.has_sprung());
    broker.write_all(&reply(6, b"held")).unwrap();
    sprung.wait(PATIENCE).unwrap();
    expect_nothing(&mut client);
    drop(sprung);
    expect(&mut client, &reply(6, b"held"));
}

#[test]
fn a_frame_is_lost_with_its_connection() {
    for side in [Side::Request, Side::Reply] {
        let bench = Bench::new();
        let (mut client, mut broker) = bench.connect();
        let sprung = bench.trap(side, 0, Then::Lose);
        let asked = request(Api::EndTxn, 1, b"");
        client.write_all(&asked).unwrap();
        if side == Side::Reply {
            expect(&mut broker, &asked);
            broker.write_all(&reply(1, b"")).unwrap();
        }
        expect_reset(&mut client);
        expect_reset(&mut broker);
        sprung.wait(PATIENCE).unwrap();
        // It sprang, so the next passes.
        let (mut client, mut broker) = bench.connect();
        client.write_all(&asked).unwrap();
        expect(&mut broker, &asked);
    }
}

#[test]
fn a_trap_that_only_reports_lets_the_frame_pass_and_a_removed_one_does_nothing() {
    let bench = Bench::new();
    let (mut client, mut broker) = bench.connect();
    drop(bench.trap(Side::Request, 0, Then::Lose));
    let sprung = bench.trap(Side::Request, 0, Then::Pass);
    let asked = request(Api::EndTxn, 1, b"");
    client.write_all(&asked).unwrap();
    expect(&mut broker, &asked);
    sprung.wait(PATIENCE).unwrap();
}
