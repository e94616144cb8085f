//! Making a request durable before it is answered: in the raw topic, or where Kafka does not
//! acknowledge in time, in the spool.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sluice_schemas::raw::{Ack, RawRequest};
use tokio::sync::oneshot;

use crate::answer::{Answer, UnavailableReason};
use crate::byte_budget::Permit;
use crate::clock;
use crate::metrics::Metrics;
use crate::publish::{Hold, Publish, Record, Refused, Undelivered};
use crate::spool::{Spool, WritePath};

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
        }
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

/// Why the brokers do not have a record, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PublishFailure {
    /// It is too large, now and later.
    TooLarge,
    /// The fault is ours.
    Unavailable(UnavailableReason),
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
        let room = spool.ready(clock::now());
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
    pub async fn persist(self: &Arc<Self>, request: AcceptedRequest) -> Answer {
        let Some(spool) = self.spool.clone() else {
            // The record is handed over without a wait, and needs no task after that.
            return match self.to_brokers(&request, self.ack_timeout).await {
                Ok(()) => Answer::Accepted(request.raw.id),
                Err(failure) => failure.answer(),
            };
        };
        self.unanswered.fetch_add(1, Ordering::AcqRel);
        let durable = Arc::clone(self);
        let work = tokio::spawn(async move {
            let answer = durable.to_brokers_or_spool(request, &spool).await;
            durable.unanswered.fetch_sub(1, Ordering::AcqRel);
            answer
        });
        work.await
            .unwrap_or(Answer::Unavailable(UnavailableReason::Broker))
    }

    async fn to_brokers_or_spool(&self, request: AcceptedRequest, spool: &Spool) -> Answer {
        let verified = self.verified.load(Ordering::Acquire);
        let reason = if !verified {
            Some(UnavailableReason::Starting)
        } else if spool.write_path().await == WritePath::Broker {
            match self.to_brokers(&request, spool.settings().wait).await {
                Ok(()) => return Answer::Accepted(request.raw.id),
                Err(PublishFailure::TooLarge) => return Answer::TooLarge,
                Err(PublishFailure::Unavailable(reason)) => Some(reason),
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
    ) -> Result<(), PublishFailure> {
        let (reply, replied) = oneshot::channel();
        let permit = Some(Arc::clone(&request.permit));
        let hold = Box::new(Hold { reply, permit });
        let since = Instant::now();
        let published = self.publisher.publish(&request.record(), hold);
        published.map_err(|refused| match refused {
            Refused::QueueFull => PublishFailure::Unavailable(UnavailableReason::Queue),
            Refused::TooLarge => PublishFailure::TooLarge,
            Refused::Broken => PublishFailure::Unavailable(UnavailableReason::Broker),
        })?;
        match tokio::time::timeout(wait, replied).await {
            Ok(Ok(Ok(()))) => {
                self.metrics.acknowledged(since.elapsed());
                Ok(())
            }
            Err(_) | Ok(Ok(Err(Undelivered::TimedOut))) => Err(PublishFailure::Unavailable(
                UnavailableReason::Acknowledgement,
            )),
            Ok(Ok(Err(Undelivered::TooLarge))) => Err(PublishFailure::TooLarge),
            Ok(Ok(Err(Undelivered::Invalid | Undelivered::Refused)) | Err(_)) => {
                Err(PublishFailure::Unavailable(UnavailableReason::Broker))
            }
        }
    }

    /// `reason` is what kept it from the brokers, if that was tried.
    async fn to_spool(
        &self,
        mut request: AcceptedRequest,
        spool: &Spool,
        reason: Option<UnavailableReason>,
    ) -> Answer {
        request.raw.ack = Ack::Spool;
        request.header = request.raw.encode();
        let (id, received_at) = (request.raw.id, request.raw.received_at);
        let put = spool.put(
            &request.record(),
            received_at,
            Some(Arc::clone(&request.permit)),
        );
        drop(request);
        let unavailable = Answer::Unavailable(UnavailableReason::Spool);
        let Ok(stored) = put else {
            return unavailable;
        };
        // A disk may hang as brokers may.
        match tokio::time::timeout(self.ack_timeout, stored).await {
            Ok(Ok(Ok(()))) => {
                self.metrics.spooled(reason);
                Answer::Accepted(id)
            }
            _ => unavailable,
        }
    }
}

impl PublishFailure {
    fn answer(self) -> Answer {
        match self {
            Self::TooLarge => Answer::TooLarge,
            Self::Unavailable(reason) => Answer::Unavailable(reason),
        }
    }
}
