//! `make instructions`: how many instructions one request takes in ingest, from its head and body to the raw
//! record that is handed over, in parts and whole, for each provider. `tests/instructions/run.py` runs it
//! under callgrind and compares the counts.
//!
//! A part's input is made before its instructions are counted, and what it returns is dropped after that. The
//! whole row (`request`) counts the drops too.

#![expect(missing_docs, reason = "the harness makes modules")]

mod edge;

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use gungraun::{
    Callgrind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main,
};
use sluice_ingest::answer::Answer;
use sluice_ingest::auth::Route;
use sluice_schemas::providers::partition_key;

use edge::{Edge, edge};

// The service's own: what an allocation costs is a part of the counts.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

// Whether the request may pass: token, required headers, address.
#[library_benchmark(setup = edge)]
#[bench::flock("flock")]
#[bench::referralloop("referralloop")]
#[bench::flowcode("flowcode")]
#[bench::flockler("flockler")]
fn authenticate(edge: &'static Edge) -> Result<&'static Route, Option<&'static Route>> {
    let Edge { name, token, .. } = edge;
    let headers = &edge.head.headers;
    let certified = (&*edge.origin.certified, edge.origin.peer);
    let auth = &edge.config.auth;
    auth.authenticate(Some(name), token.as_deref(), headers, certified)
}

// The key of the raw record.
#[library_benchmark(setup = edge)]
#[bench::flock("flock")]
#[bench::referralloop("referralloop")]
#[bench::flowcode("flowcode")]
#[bench::flockler("flockler")]
fn key(edge: &'static Edge) -> Vec<u8> {
    partition_key(edge.verifier.as_ref(), &edge.raw.headers, &edge.body)
}

// Its request header.
#[library_benchmark(setup = edge)]
#[bench::flock("flock")]
#[bench::referralloop("referralloop")]
#[bench::flowcode("flowcode")]
#[bench::flockler("flockler")]
fn encode(edge: &'static Edge) -> Vec<u8> {
    edge.raw.encode()
}

// A request, from its head and body to the record that is handed over and its acknowledgement.
#[library_benchmark(setup = edge)]
#[bench::flock("flock")]
#[bench::referralloop("referralloop")]
#[bench::flowcode("flowcode")]
#[bench::flockler("flockler")]
fn request(edge: &'static mut Edge) -> Option<Answer> {
    let request = edge.request.take()?;
    let config = edge.receiver.config();
    let receiving = pin!(edge.receiver.receive(&config, request, &edge.origin));
    match receiving.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

library_benchmark_group!(
    name = ingest,
    benchmarks = [authenticate, key, encode, request]
);

main!(
    config = LibraryBenchmarkConfig::default().tool(Callgrind::with_args(["--cache-sim=no"])),
    library_benchmark_groups = ingest
);
