//! What comes in, and where it goes: a signed request of each provider, and an ingest whose publisher
//! acknowledges every record at once.

use std::convert::Infallible;
use std::hint::black_box;
use std::net::IpAddr;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body_util::combinators::MapErr;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::http::request::Parts;
use prometheus_client::registry::Registry;
use serde_json::json;
use sluice_ingest::answer::Answer;
use sluice_ingest::config::Config;
use sluice_ingest::http::body::Unread;
use sluice_ingest::metrics::Metrics;
use sluice_ingest::persist::Durable;
use sluice_ingest::publish::{Delivered, Hold, Publish, Record, Refused};
use sluice_ingest::receive::{Origin, Receiver};
use sluice_schemas::providers::testing::{Unsigned, request};
use sluice_schemas::providers::{ALL, Provider, Verifier, by_name};
use sluice_schemas::raw::{Ack, Headers, RawRequest};
use sluice_schemas::settings::{Environment, Settings};
use sluice_service::telemetry::Traces;
use uuid::Uuid;

/// The second at which all was sent.
const AT: i64 = 1_700_000_000;

/// The least length of a body: an ordinary one has about as much.
const BODY: usize = 1_000;

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 7));

/// A body that is there whole.
type Body = MapErr<Full<Bytes>, fn(Infallible) -> Unread>;

/// Acknowledges at once.
#[derive(Debug)]
pub struct Acknowledging;

impl Publish for Acknowledging {
    fn publish(&self, record: &Record<'_>, hold: Box<Hold>) -> Result<(), Refused> {
        black_box(record);
        let delivered = Delivered {
            partition: 0,
            offset: 0,
        };
        // The sender may be gone.
        let _ = hold.reply.send(Ok(delivered));
        Ok(())
    }
}

/// An ingest, and a request of one provider in its parts and whole.
pub struct Edge {
    pub receiver: Receiver<Acknowledging>,
    pub config: Arc<Config>,
    pub origin: Origin,
    pub verifier: Arc<dyn Verifier>,
    pub name: String,
    pub token: Option<String>,
    pub head: Parts,
    pub body: Bytes,
    pub raw: RawRequest,
    pub request: Option<Request<Body>>,
}

fn name(provider: &dyn Provider) -> String {
    format!("my-{}", provider.spec().name)
}

/// A source of each provider. No trace is sampled: it is drawn by lot.
fn settings() -> Settings {
    let sources = ALL.map(|provider| {
        let name = name(provider);
        let settings = provider.sender().source(&name).settings;
        (name, settings)
    });
    let text = json!({
        "kafka": {"bootstrap_servers": "localhost:1"},
        "sources": serde_json::Map::from_iter(sources),
        "telemetry": {"trace_ratio": 0},
    });
    let environment = Environment {
        member: Some("member-0"),
        property_fault: &|_, _| None,
    };
    let path = Path::new("settings.yaml");
    Settings::parse(path, text.to_string().as_bytes(), &environment).expect("good settings")
}

fn receiver(settings: &Settings) -> Receiver<Acknowledging> {
    let metrics = Metrics::new(&mut Registry::default());
    let patience = settings.ingest.ack_timeout;
    let durable = Durable::new(Arc::new(Acknowledging), None, metrics.clone(), patience);
    durable.verified();
    let config = Config::new(settings);
    Receiver::new(config, Arc::new(durable), metrics, Traces::default())
}

fn incoming(path: &str, request: &Unsigned) -> Request<Body> {
    let mut head = Request::post(path);
    for (name, value) in &request.headers {
        head = head.header(name, value);
    }
    let never: fn(Infallible) -> Unread = |never| match never {};
    let body = Full::new(Bytes::from(request.body.clone())).map_err(never);
    head.body(body).expect("a request")
}

/// Another request was received before, so that all that is made once is there.
pub fn edge(provider: &str) -> &'static mut Edge {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().build().expect("a runtime");
    let runtime: &'static tokio::runtime::Runtime = Box::leak(Box::new(runtime));
    // For the rest of the process, so that there is a clock wherever a future is polled.
    std::mem::forget(runtime.enter());

    let provider = by_name(provider).expect("a provider");
    let (name, settings) = (name(provider), settings());
    let source = provider.sender().source(&name);
    let path = match &source.token {
        Some(token) => format!("/v1/hooks/{name}/{token}"),
        None => format!("/v1/hooks/{name}"),
    };
    let receiver = receiver(&settings);
    let origin = Origin {
        peer: PEER,
        certified: Arc::default(),
        secure: true,
        over: false,
        heads: None,
    };
    for n in 1..3 {
        let sample = request(provider, &source, (n, AT), BODY);
        let (config, request) = (receiver.config(), incoming(&path, &sample));
        let mut receiving = pin!(receiver.receive(&config, request, &origin));
        let answer = receiving
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        assert!(
            matches!(answer, Poll::Ready(Answer::Accepted(_))),
            "{answer:?}"
        );
    }
    let sample = request(provider, &source, (3, AT), BODY);
    let headers = sample.headers.iter();
    let headers = headers.map(|(name, value)| (name.clone(), value.clone().into_bytes()));
    let raw = RawRequest {
        id: Uuid::from_u128(0x018b_cfe5_687b_7bab_abab_abab_abab_abab),
        source: name.clone(),
        provider: provider.spec().name.to_owned(),
        received_at: AT * 1_000_000,
        method: "POST".to_owned(),
        target: format!("/v1/hooks/{name}"),
        peer: PEER,
        token: source.token.is_some(),
        ack: Ack::Broker,
        headers: Headers(headers.collect()),
    };
    Box::leak(Box::new(Edge {
        config: receiver.config(),
        receiver,
        origin,
        verifier: Arc::clone(&settings.sources[&name].verifier),
        name,
        token: source.token,
        head: incoming(&path, &sample).into_parts().0,
        body: sample.body.clone().into(),
        raw,
        request: Some(incoming(&path, &sample)),
    }))
}
