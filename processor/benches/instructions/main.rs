//! `make instructions`: how many instructions one raw record takes in the processor, stage by stage and
//! whole, for each provider. `tests/instructions/run.py` runs it under callgrind and compares the counts.
//!
//! A stage's input is made before its instructions are counted, by the stages in front of it. What a stage
//! returns is dropped after that; the whole rows (`record`, `repeated`, `rejected`) count the drops too.

#![expect(missing_docs, reason = "the harness makes modules")]

mod case;

use std::hint::black_box;

use gungraun::{
    Callgrind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main,
};
use sluice_processor::pipeline::dedupe::{Fresh, Repeats, dedupe};
use sluice_processor::pipeline::normalize::{Event, normalize};
use sluice_processor::pipeline::notes::Notes;
use sluice_processor::pipeline::route::{Routed, route};
use sluice_processor::pipeline::verify::{Verified, source, verify};
use sluice_schemas::dedup_log::Entry;
use sluice_schemas::identity::{Fingerprint, fingerprint};
use sluice_schemas::providers::{Authentic, Delivery, Keyring};
use sluice_schemas::raw::{REQUEST, RawError, RawRequest};
use sluice_schemas::reason::Refusal;
use sluice_schemas::settings::Source;

use case::{Case, case};

// The processor's own: what an allocation costs is a part of the counts.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What the first three stages need.
struct Received {
    case: &'static Case,
    source: &'static Source,
    keyring: &'static Keyring,
    request: RawRequest,
}

fn header(provider: &str) -> &'static [u8] {
    case(provider).record.header(REQUEST).expect("a request")
}

fn received(provider: &str) -> &'static Received {
    let case: &'static Case = case(provider);
    let header = case.record.header(REQUEST).expect("a request");
    let request = RawRequest::decode(header).expect("what ingest writes");
    let source = source(&case.world.settings, &request).expect("a source");
    let keyring = case.world.keyring(source);
    Box::leak(Box::new(Received {
        case,
        source,
        keyring,
        request,
    }))
}

impl Received {
    fn verified(&'static self) -> Verified<'static, 'static> {
        let verified = verify(
            self.source,
            self.keyring,
            &self.request,
            &self.case.record.value,
        );
        verified
            .map_err(|refusal| refusal.detail)
            .expect("authentic")
    }

    fn fresh(&'static self) -> Fresh<'static, 'static> {
        let Case {
            record,
            index,
            overlay,
            ..
        } = self.case;
        let fresh = dedupe(self.verified(), record.appended_ms, index, overlay);
        fresh.map_err(|Repeats(_)| "repeats").expect("a new event")
    }

    fn event(&'static self) -> Event<'static> {
        let event = normalize(self.fresh(), &self.case.record);
        event.map_err(|refusal| refusal.detail).expect("UTF-8")
    }
}

fn authentic(provider: &str) -> (&'static str, Authentic<'static>) {
    let Received {
        case,
        source,
        keyring,
        request,
    } = received(provider);
    let delivery = Delivery {
        request,
        body: &case.record.value,
    };
    let authentic = keyring.verify(source.verifier.as_ref(), delivery);
    let authentic = authentic
        .map_err(|refusal| refusal.detail)
        .expect("authentic");
    (&source.name, authentic)
}

fn verified(provider: &str) -> (&'static Case, Verified<'static, 'static>) {
    let received = received(provider);
    (received.case, received.verified())
}

fn fresh(provider: &str) -> (&'static Case, Fresh<'static, 'static>) {
    let received = received(provider);
    (received.case, received.fresh())
}

fn event(provider: &str) -> (&'static Case, Event<'static>) {
    let received = received(provider);
    (received.case, received.event())
}

fn new_entry(provider: &str) -> (&'static mut Case, Entry) {
    let case = case(provider);
    let entry = case.entry();
    (case, entry)
}

fn repetition(provider: &str) -> &'static Case {
    let case = case(provider);
    let entry = case.entry();
    case.index.insert(&entry);
    assert!(case.judged().is_none(), "a duplicate");
    case
}

/// A body that its signature is not of, or where nothing is signed that could be changed, no JSON.
fn forgery(provider: &str) -> &'static Case {
    let case = case(provider);
    let body = &mut case.record.value;
    let text = body.windows(4).rposition(|text| text == b"text");
    body[text.expect("a member of ours")] = b'T';
    if case.judged().is_some() {
        case.record.value.pop();
    }
    assert!(case.judged().is_none(), "rejected");
    case
}

fn whole(provider: &str) -> &'static Case {
    case(provider)
}

// The request header of the raw record.
#[library_benchmark(setup = header)]
#[bench::flock("flock")]
#[bench::referralloop("referralloop")]
#[bench::flowcode("flowcode")]
#[bench::flockler("flockler")]
fn decode(header: &'static [u8]) -> Result<RawRequest, RawError> {
    RawRequest::decode(black_box(header))
}

// Signature, parsing, and what the provider demands of the body.
#[library_benchmark(setup = received)]
#[bench::flock("flock")]
#[bench::referralloop("referralloop")]
#[bench::flowcode("flowcode")]
#[bench::flockler("flockler")]
fn verify_and_parse(input: &'static Received) -> Result<Verified<'static, 'static>, Refusal> {
    verify(
        input.source,
        input.keyring,
        &input.request,
        &input.case.record.value,
    )
}

// What makes the event the same as another one.
#[library_benchmark(setup = authentic)]
#[bench::flock("flock")]
#[bench::referralloop("referralloop")]
#[bench::flowcode("flowcode")]
#[bench::flockler("flockler")]
fn identify(
    (source, authentic): (&'static str, Authentic<'static>),
) -> (Fingerprint, Authentic<'static>) {
    let identity = authentic.payload.identity();
    (
        fingerprint(source, identity.parts.iter().map(Vec::as_slice)),
        authentic,
    )
}

// That, and two looks for it.
#[library_benchmark(setup = verified)]
#[bench::flock("flock")]
#[bench::referralloop("referralloop")]
#[bench::flowcode("flowcode")]
#[bench::flockler("flockler")]
fn deduplicate(
    (case, verified): (&'static Case, Verified<'static, 'static>),
) -> Result<Fresh<'static, 'static>, Repeats> {
    dedupe(
        verified,
        case.record.appended_ms,
        &case.index,
        &case.overlay,
    )
}

// The event enters the batch, and after the commit the index.
#[library_benchmark(setup = new_entry)]
#[bench::flock("flock")]
#[bench::referralloop("referralloop")]
#[bench::flowcode("flowcode")]
#[bench::flockler("flockler")]
fn insert((case, entry): (&'static mut Case, Entry)) -> &'static Case {
    case.overlay.insert(entry);
    case.index.insert(&entry);
    case
}

// The columns.
#[library_benchmark(setup = fresh)]
#[bench::flock("flock")]
#[bench::referralloop("referralloop")]
#[bench::flowcode("flowcode")]
#[bench::flockler("flockler")]
fn columns(
    (case, fresh): (&'static Case, Fresh<'static, 'static>),
) -> Result<Event<'static>, Refusal> {
    normalize(fresh, &case.record)
}

// Topic and Avro, without the headers of `CloudEvents`.
#[library_benchmark(setup = event)]
#[bench::flock("flock")]
#[bench::referralloop("referralloop")]
#[bench::flowcode("flowcode")]
#[bench::flockler("flockler")]
fn avro((case, event): (&'static Case, Event<'static>)) -> Result<Routed<'static>, Refusal> {
    route(
        event,
        &case.record,
        &case.world.plain,
        &mut Notes::default(),
    )
}

// Topic, Avro and all headers.
#[library_benchmark(setup = event)]
#[bench::flock("flock")]
#[bench::referralloop("referralloop")]
#[bench::flowcode("flowcode")]
#[bench::flockler("flockler")]
fn avro_and_headers(
    (case, event): (&'static Case, Event<'static>),
) -> Result<Routed<'static>, Refusal> {
    route(
        event,
        &case.record,
        &case.world.router,
        &mut Notes::default(),
    )
}

// An event, from the raw record to the one that is written.
#[library_benchmark(setup = whole)]
#[bench::flock("flock")]
#[bench::referralloop("referralloop")]
#[bench::flowcode("flowcode")]
#[bench::flockler("flockler")]
fn record(case: &'static Case) -> Option<Entry> {
    case.judged()
}

// A repetition, likewise.
#[library_benchmark(setup = repetition)]
#[bench::flock("flock")]
#[bench::referralloop("referralloop")]
#[bench::flowcode("flowcode")]
#[bench::flockler("flockler")]
fn repeated(case: &'static Case) -> Option<Entry> {
    case.judged()
}

// A forgery, likewise.
#[library_benchmark(setup = forgery)]
#[bench::flock("flock")]
#[bench::referralloop("referralloop")]
#[bench::flowcode("flowcode")]
#[bench::flockler("flockler")]
fn rejected(case: &'static Case) -> Option<Entry> {
    case.judged()
}

library_benchmark_group!(
    name = processor,
    benchmarks = [
        decode,
        verify_and_parse,
        identify,
        deduplicate,
        insert,
        columns,
        avro,
        avro_and_headers,
        record,
        repeated,
        rejected,
    ]
);

main!(
    config = LibraryBenchmarkConfig::default().tool(Callgrind::with_args(["--cache-sim=no"])),
    library_benchmark_groups = processor
);
