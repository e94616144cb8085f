//! Making a request durable before it is answered: in the raw topic, or where Kafka does not
//! acknowledge in time, in the spool.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sluice_schemas::raw::{Ack, RawRequest};
use tokio::sync::oneshot;
use tracing::Instrument;
use uuid::Uuid;

use crate::answer::{Answer, UnavailableReason};
use crate::byte_budget::Permit;
use crate::metrics::{Metrics, TraceId};
use crate::publish::{Delivered, Hold, Publish, Record, Refused, Undelivered};
use crate::spans::{SendSpan, Stored};
use crate::spool::{NoRoom, Spool, WritePath};

/// A request that passed authentication and was read whole.
#[derive(Debug)]
pub struct AcceptedRequest {
    raw: RawRequest,
    /// `raw` as it stands in the record's header.
    header: Vec<u8>,
    key: Vec<u8>,
    traceparent: String,
    body: Bytes,
    permit: Arc<Permit>,
    /// The span of making it durable, where one is to be exported.
    span: Option<Box<SendSpan>>,
}

impl AcceptedRequest {
    /// Its parts, and the permit to hold its body.
    pub fn new(
        raw: RawRequest,
        key: Vec<u8>,
        traceparent: String,
        body: Bytes,
        permit: Permit,
    ) -> Self {
        Self {
            header: raw.encode(),
            raw,
            key,
            traceparent,
            body,
            permit: Arc::new(permit),
            span: None,
        }
    }

    /// Its id.
    pub fn id(&self) -> Uuid {
        self.raw.id
    }

    /// This is the span of making it durable.
    pub fn traced_by(&mut self, span: Box<SendSpan>) {
        self.span = Some(span);
    }

    /// Its raw record.
    pub fn record(&self) -> Record<'_> {
        Record {
            key: &self.key,
            value: &self.body,
            request: &self.header,
            traceparent: &self.traceparent,
        }
    }
}

/// Where requests become durable.
#[derive(Debug)]
pub struct Durable<P> {
    publisher: Arc<P>,
    spool: Option<Arc<Spool>>,
    metrics: Metrics,
    /// The raw topic is verified.
    verified: AtomicBool,
    /// Requests that are not answered yet, their senders gone or not.
    unanswered: AtomicUsize,
    /// How long a sender waits for the acknowledgement.
    ack_timeout: Duration,
}

impl<P: Publish> Durable<P> {
    /// Without a spool, what Kafka does not acknowledge is answered 503.
    pub fn new(
        publisher: Arc<P>,
        spool: Option<Arc<Spool>>,
        metrics: Metrics,
        ack_timeout: Duration,
    ) -> Self {
        Self {
            publisher,
            spool,
            metrics,
            verified: AtomicBool::new(false),
            unanswered: AtomicUsize::new(0),
            ack_timeout,
        }
    }

    /// From now on requests are handed to the publisher.
    pub fn verified(&self) {
        self.verified.store(true, Ordering::Release);
    }

    /// Whether requests are accepted at all.
    pub fn is_open(&self) -> bool {
        self.spool.is_some() || self.verified.load(Ordering::Acquire)
    }

    /// Ready if a request could be made durable now: by Kafka while the spool is empty, else by the spool. A
    /// process whose spool's disk failed stays unready, though Kafka may take requests: the next outage would
    /// be a loss.
    ///
    /// # Errors
    /// Why not.
    pub fn ready(&self, kafka: Result<(), String>) -> Result<(), String> {
        let Some(spool) = &self.spool else {
            return kafka;
        };
        let room = spool.ready();
        if spool.records() == 0 && !spool.given_up() {
            kafka.or(room)
        } else {
            room
        }
    }

    /// How many requests are not answered yet. Their senders may be gone.
    pub fn unanswered(&self) -> usize {
        self.unanswered.load(Ordering::Acquire)
    }

    /// Makes a request durable. The work is done whether the sender stays or hangs up.
    pub fn persist(self: &Arc<Self>, mut request: AcceptedRequest) -> impl Future<Output = Answer> {
        let span = request.span.take();
        async move {
            let Some(spool) = self.spool.clone() else {
                // The record is handed over without a wait, and needs no task after that.
                let trace = span.as_ref().map(|span| span.trace_id());
                let sent = self.to_brokers(&request, self.ack_timeout, trace).await;
                let sent = sent.map(Stored::Broker).map_err(Answer::Unavailable);
                return ended(request.raw.id, sent, span);
            };
            self.unanswered.fetch_add(1, Ordering::AcqRel);
            let durable = Arc::clone(self);
            let log = span
                .as_ref()
                .map_or_else(tracing::Span::none, |span| span.log());
            let work = async move {
                let (id, trace) = (request.raw.id, span.as_ref().map(|span| span.trace_id()));
                let stored = durable.to_brokers_or_spool(request, &spool, trace).await;
                durable.unanswered.fetch_sub(1, Ordering::AcqRel);
                ended(id, stored, span)
            };
            tokio::spawn(work.instrument(log))
                .await
                .unwrap_or(Answer::Unavailable(UnavailableReason::Broker))
        }
    }

    async fn to_brokers_or_spool(
        &self,
        request: AcceptedRequest,
        spool: &Spool,
        trace: Option<TraceId>,
    ) -> Result<Stored, Answer> {
        let verified = self.verified.load(Ordering::Acquire);
        let reason = if !verified {
            Some(UnavailableReason::Starting)
        } else if spool.write_path().await == WritePath::Broker {
            let wait = spool.settings().wait;
            match self.to_brokers(&request, wait, trace).await {
                Ok(delivered) => return Ok(Stored::Broker(delivered)),
                // On the spool it would wait before all others, for it is refused until the topic is mended.
                Err(reason @ UnavailableReason::TopicLimit) => {
                    return Err(Answer::Unavailable(reason));
                }
                Err(reason) => Some(reason),
            }
        } else {
            None
        };
        self.to_spool(request, spool, reason).await
    }

    async fn to_brokers(
        &self,
        request: &AcceptedRequest,
        wait: Duration,
        trace: Option<TraceId>,
    ) -> Result<Delivered, UnavailableReason> {
        let (reply, replied) = oneshot::channel();
        let hold = Hold::new(reply, Some(Arc::clone(&request.permit)));
        let since = Instant::now();
        let published = self.publisher.publish(&request.record(), hold);
        published.map_err(|refused| match refused {
            Refused::QueueFull => UnavailableReason::Queue,
            Refused::TooLarge => UnavailableReason::TopicLimit,
            Refused::Broken => UnavailableReason::Broker,
        })?;
        match tokio::time::timeout(wait, replied).await {
            Ok(Ok(Ok(delivered))) => {
                self.metrics.acknowledged(since.elapsed(), trace);
                Ok(delivered)
            }
            Err(_) | Ok(Ok(Err(Undelivered::TimedOut))) => Err(UnavailableReason::Acknowledgement),
            // Its size was measured before it was taken (413), so the fault is ours.
            Ok(Ok(Err(Undelivered::TooLarge))) => Err(UnavailableReason::TopicLimit),
            Ok(Ok(Err(Undelivered::Invalid | Undelivered::Refused)) | Err(_)) => {
                Err(UnavailableReason::Broker)
            }
        }
    }

    /// `reason` is what kept it from the brokers, if that was tried.
    async fn to_spool(
        &self,
        mut request: AcceptedRequest,
        spool: &Spool,
        reason: Option<UnavailableReason>,
    ) -> Result<Stored, Answer> {
        request.raw.ack = Ack::Spool;
        request.header = request.raw.encode();
        let received_at = request.raw.received_at;
        let put = spool.put(
            &request.record(),
            &request.raw.source,
            received_at,
            Some(Arc::clone(&request.permit)),
        );
        drop(request);
        let unavailable = Answer::Unavailable(UnavailableReason::Spool);
        let stored = put.map_err(|why| match why {
            NoRoom::Share => Answer::Unavailable(UnavailableReason::SpoolShare),
            NoRoom::Full | NoRoom::Broken => unavailable,
        })?;
        // A disk may hang as brokers may.
        match tokio::time::timeout(self.ack_timeout, stored).await {
            Ok(Ok(Ok(()))) => {
                self.metrics.spooled(reason);
                Ok(Stored::Spool)
            }
            _ => Err(unavailable),
        }
    }
}

/// The answer to a request, and the end of its span.
fn ended(id: Uuid, stored: Result<Stored, Answer>, span: Option<Box<SendSpan>>) -> Answer {
    if let Some(span) = span {
        span.end(stored);
    }
    stored.map_or_else(|answer| answer, |_| Answer::Accepted(id))
}
