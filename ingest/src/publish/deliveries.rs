//! Delivery reports: what became of each record that was handed over, and what that says of the brokers.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message, Timestamp};
use rdkafka::producer::ProducerContext;
use rdkafka::{ClientContext, message::BorrowedMessage};
use sluice_schemas::settings::{RAW_OVERHEAD, Settings};
use sluice_service::kafka::client as kafka;
use sluice_service::kafka::oauth;
use sluice_service::kafka::refusal::{self, Call};
use sluice_service::kafka::statistics::Statistics;
use sluice_service::kafka::topics::{alteration, configs_tool};
use sluice_service::telemetry::Repeated;

use super::outcome::{Delivered, Undelivered};
use super::types::Hold;
use crate::clock;
use crate::metrics::DeliveryMetrics;

/// For how long after a failed delivery without a good one since this process is not ready.
const FAILING: Duration = Duration::from_secs(5);

/// Receives each delivery report, on the producer's thread.
#[derive(Debug)]
pub struct Deliveries {
    health: Mutex<Health>,
    metrics: DeliveryMetrics,
    /// What is delivered is a request that was accepted now, not one from the spool.
    is_live: bool,
    /// The leader of each partition, as the topic was last seen.
    leaders: ArcSwap<Vec<Option<Leader>>>,
    too_large: Mutex<Repeated>,
    statistics: Statistics,
    raw: Raw,
}

/// The raw topic, and what is needed to say how its bound on records is mended.
#[derive(Debug, Clone)]
pub struct Raw {
    /// Its name.
    pub name: String,
    /// What `max.message.bytes` of it must be.
    max_message_bytes: u64,
    /// Kafka's tool for the settings of topics.
    tool: String,
}

impl Raw {
    /// Under these settings.
    pub fn new(settings: &Settings) -> Self {
        Self {
            name: settings.topics.names.raw(),
            max_message_bytes: settings.raw_max_message_bytes(),
            tool: configs_tool(settings),
        }
    }

    /// The command after which it takes a record with such a body. The spool may have larger ones than the
    /// settings allow now.
    fn mend(&self, body: usize) -> String {
        let bytes = self.max_message_bytes.max(body as u64 + RAW_OVERHEAD);
        let config = ("max.message.bytes", &*bytes.to_string());
        alteration(&self.tool, &self.name, std::iter::once(config))
    }
}

#[derive(Debug)]
struct Leader {
    broker: i32,
    /// The second in which its clock was last compared with ours: one record of each is enough.
    compared: AtomicI64,
}

#[derive(Debug, Default)]
struct Health {
    /// The last failed delivery, if none went through since.
    failed: Option<(Instant, RDKafkaErrorCode)>,
    /// Failures that are logged: not each one is. A good delivery between two does not end them.
    failures: Repeated,
}

impl Deliveries {
    /// Of the producer of this name to this topic. `is_live`: senders wait for what is delivered.
    pub fn new(metrics: DeliveryMetrics, client: &str, is_live: bool, raw: Raw) -> Self {
        Self {
            raw,
            health: Mutex::default(),
            statistics: metrics.client(client),
            metrics,
            is_live,
            leaders: ArcSwap::default(),
            too_large: Mutex::default(),
        }
    }

    /// Whether recent deliveries succeeded, if there were any.
    pub fn delivering(&self, now: Instant) -> Result<(), String> {
        let health = self.health.lock();
        match health.failed {
            Some((at, code)) if now.saturating_duration_since(at) < FAILING => {
                Err(format!("records are not delivered: {code}"))
            }
            _ => Ok(()),
        }
    }

    /// Partitions and the brokers that lead them; less than 0 where none does.
    pub fn led_by(&self, partitions: impl Iterator<Item = (i32, i32)> + Clone) {
        self.metrics.clocks().led_by(partitions.clone());
        let mut leaders = Vec::new();
        for (partition, broker) in partitions {
            let Ok(index) = usize::try_from(partition) else {
                continue;
            };
            if leaders.len() <= index {
                leaders.resize_with(index + 1, || None);
            }
            leaders[index] = (broker >= 0).then(|| Leader {
                broker,
                compared: AtomicI64::new(0),
            });
        }
        self.leaders.store(leaders.into());
    }

    fn note(&self, failed: Option<RDKafkaErrorCode>) {
        let mut health = self.health.lock();
        let Some(code) = failed else {
            health.failed = None;
            return;
        };
        let now = Instant::now();
        health.failed = Some((now, code));
        refusal::note(Call::Write(&self.raw.name), Some(code));
        if let Some(repeated) = health.failures.came(now) {
            tracing::warn!(
                error = %code,
                repeated,
                "records are not delivered; senders get 503, or their requests are spooled"
            );
        }
    }

    /// The brokers found a record with such a body too large. That says nothing of other records, and any
    /// sender may send a large one, so this process stays ready.
    fn too_large(&self, body: usize) {
        if let Some(repeated) = self.too_large.lock().came(Instant::now()) {
            let client = if self.is_live { "live" } else { "drain" };
            tracing::error!(
                client,
                bytes = body,
                command = self.raw.mend(body),
                repeated,
                "raw refuses records of a size that the settings allow, and their senders get 503; on the \
                 spool they and all behind them wait: operator action required"
            );
        }
    }

    /// All in-sync replicas have a record that was handed over at `since`, in microseconds since 1970.
    /// `appended` is the broker's time, in milliseconds, where the topic has that.
    fn delivered(&self, partition: i32, since: i64, appended: Option<i64>) {
        if !self.is_live {
            return;
        }
        self.metrics.on_raw();
        let leaders = self.leaders.load();
        let leader = usize::try_from(partition)
            .ok()
            .and_then(|index| leaders.get(index));
        if let (Some(Some(leader)), Some(appended)) = (leader, appended) {
            let until = clock::now() / 1000;
            if leader.compared.swap(until / 1000, Ordering::Relaxed) != until / 1000 {
                let clocks = self.metrics.clocks();
                clocks.compared(leader.broker, (since / 1000, appended, until));
            }
        }
    }
}

/// When a broker appended a record, by its clock; `None` where the record has our own time.
fn appended(message: &BorrowedMessage<'_>) -> Option<i64> {
    match message.timestamp() {
        Timestamp::LogAppendTime(millis) => Some(millis),
        Timestamp::CreateTime(_) | Timestamp::NotAvailable => None,
    }
}

impl ClientContext for Deliveries {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, carried: Option<&str>) -> oauth::Issued {
        oauth::token(carried)
    }

    fn stats_raw(&self, report: &[u8]) {
        self.statistics.take(report);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        kafka::log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        refusal::note(Call::Write(&self.raw.name), error.rdkafka_error_code());
        kafka::log_error(&error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<Hold>;

    fn delivery(&self, result: &DeliveryResult<'_>, hold: Box<Hold>) {
        let outcome = match result {
            Ok(message) => {
                self.note(None);
                self.delivered(message.partition(), hold.since, appended(message));
                Ok(Delivered {
                    partition: message.partition(),
                    offset: message.offset(),
                })
            }
            Err((error, message)) => {
                let code = error.rdkafka_error_code();
                let code = code.unwrap_or(RDKafkaErrorCode::Unknown);
                if code == RDKafkaErrorCode::MessageSizeTooLarge {
                    self.too_large(message.payload().map_or(0, <[u8]>::len));
                } else {
                    self.note(Some(code));
                }
                Err(undelivered(code))
            }
        };
        hold.end(outcome);
    }
}

fn undelivered(code: RDKafkaErrorCode) -> Undelivered {
    match code {
        RDKafkaErrorCode::MessageTimedOut => Undelivered::TimedOut,
        RDKafkaErrorCode::MessageSizeTooLarge => Undelivered::TooLarge,
        RDKafkaErrorCode::InvalidRecord | RDKafkaErrorCode::InvalidTimestamp => {
            Undelivered::Invalid
        }
        _ => Undelivered::Refused,
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::metrics::Accepted;

    fn page(registry: &Registry) -> String {
        let mut page = String::new();
        encode(&mut page, registry).expect("a page");
        page
    }

    #[test]
    fn a_delivery_counts_once_and_shows_the_clock_of_the_leader_that_is_known() {
        let mut registry = Registry::default();
        let accepted = Accepted::default();
        drop(accepted.series("spool"));
        let metrics = DeliveryMetrics::new(&mut registry, accepted);
        let raw = Raw {
            name: "raw".to_owned(),
            max_message_bytes: 1,
            tool: "tool".to_owned(),
        };
        let live = Deliveries::new(metrics.clone(), "live", true, raw.clone());
        let now = clock::now();
        let late = Some(now / 1000 - 60_000);
        live.delivered(0, now, late);
        assert!(!page(&registry).contains("broker="), "{}", page(&registry));
        live.led_by([(0, 7), (2, 8), (1, -1)].into_iter());
        for partition in [0, 1, 3, -1] {
            live.delivered(partition, now, late);
        }
        live.delivered(2, now, None);
        live.delivered(2, now, Some(now / 1000));
        Deliveries::new(metrics, "drain", false, raw).delivered(0, now, late);
        let page = page(&registry);
        for line in [
            "sluice_ingest_accepted_total{to=\"raw\"} 7",
            "sluice_ingest_accepted_total{to=\"spool\"} 0",
            "sluice_clock_difference_seconds{broker=\"7\"} -60.0",
            "sluice_clock_difference_seconds{broker=\"8\"} 0.0",
        ] {
            assert!(page.contains(&format!("{line}\n")), "{line}: {page}");
        }
    }
}
