//! Settling: before a transaction may begin, all that may be open under the worker's name is decided.
//!
//! What a torn transaction left on a partition is decided by the next marker of the same transactional id
//! there. A commit would publish what was rolled back, offsets too; so where something is undecided, a
//! sweep comes first: a transaction that writes a record there and is aborted, until it is seen that
//! everything is decided. A sweep also destroys what is left of a torn commit. Its fates are found missing
//! then, and are made again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::state::Settling;
use super::{BACKOFF, Exit, Worker};
use crate::engine::audit;
use crate::engine::batch::Batch;
use crate::engine::outcome::TxOutcome;
use crate::engine::restore::log::Log;
use crate::engine::restore::{RestoreHalt, undecided_offset};
use crate::engine::transaction::abort;
use crate::kafka::{BrokerUnavailable, Kafka, Message, Place, Producer, Reader, View};

/// How long undecided transactions are waited for at once: the loop must poll.
const WAIT: Duration = Duration::from_millis(500);

/// How often they are asked for meanwhile.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// What is undecided for this long is swept: other workers' transactions under way are over by then.
const SWEEP_AFTER: Duration = Duration::from_secs(1);

/// What a sweep did not decide is swept again after this long: it is another name's, or its marker was lost.
const SWEEP_RETRY_DELAY: Duration = Duration::from_secs(4);

/// How long a sweep's records may take.
const SWEEP: Duration = Duration::from_secs(3);

/// What is undecided for this long is worth an error; after four times as long another.
const WARN_AFTER: Duration = Duration::from_secs(15);

/// How long a worker that leaves tries to leave nothing open.
const LEAVE: Duration = Duration::from_secs(10);

/// How long one question for offsets may take.
const OFFSETS_TIMEOUT: Duration = Duration::from_millis(250);

/// How long the fates of what was committed last are looked for at once.
const AUDIT: Duration = Duration::from_secs(5);

/// How long a commit may be invisible to a worker that leaves.
const VISIBLE_AT_THE_END: Duration = Duration::from_secs(2);

/// How old the receipts of records may be whose fates are looked for at once, in milliseconds.
const AUDIT_AT_ONCE_MS: i64 = 15 * 60 * 1000;

/// The raw partition whose offset a sweep names; one suffices for all offsets of a transactional id.
const SWEPT_OFFSET: i32 = 0;

/// Whether the last commits are whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// All of it is there.
    Whole,
    /// Something of it is gone.
    Torn,
    /// It takes longer to know than a thread may that has to poll.
    Unknown,
}

impl<K: Kafka> Worker<'_, K> {
    /// From now on no transaction begins until all that is open is decided.
    pub(super) fn unsettle(&mut self, why: &'static str) {
        let since = self.kafka.now();
        let offsets = self.raw_partitions().into_iter().collect();
        self.settling.get_or_insert(Settling {
            why,
            since,
            swept_at: None,
            offsets,
            fenced: None,
            warnings: 1,
        });
    }

    /// Whether all is decided; tries to have it so.
    pub(super) fn settle(&mut self, batch: &mut Batch) -> Result<bool, Exit> {
        if self.settling.is_none() {
            return Ok(true);
        }
        match self.with_reader(Self::try_settle) {
            Ok(standing) => {
                let settling = self.settling.take();
                if let Some(Settling {
                    why,
                    since,
                    swept_at,
                    ..
                }) = settling
                {
                    let swept = swept_at.is_some();
                    let seconds = (self.kafka.now() - since).as_secs_f64();
                    tracing::info!(
                        cause = why,
                        seconds,
                        swept,
                        "settled: nothing under this transactional id is undecided"
                    );
                }
                self.settle_log.over();
                self.report("settling", None);
                // Neither offset nor log proves anything of a commit in doubt: a sweep may have taken a part
                // of it, be it by a process that had our name for a while.
                let doubtful = self.in_doubt.is_some();
                if standing != Standing::Whole || doubtful {
                    match standing {
                        Standing::Torn => tracing::warn!(
                            "a committed transaction was torn: all partitions are restored"
                        ),
                        Standing::Whole | Standing::Unknown => tracing::info!(
                            "all partitions are restored, for the audit of what was committed last"
                        ),
                    }
                    if let Some(mut result) = self.in_doubt.take() {
                        tracing::info!("the commit in doubt is left to the audit");
                        self.count_if_through(&mut result);
                    }
                    self.unconfirmed.clear();
                    self.partitions.restore_all(&self.consumer, batch);
                }
                Ok(true)
            }
            Err(BrokerUnavailable(why)) => {
                let settling = self.settling.as_mut();
                if let Some(why) = settling.and_then(|settling| settling.fenced.take()) {
                    self.fenced(&why)?;
                }
                self.report_unsettled(&why);
                self.back_off(BACKOFF);
                Ok(false)
            }
        }
    }

    fn report_unsettled(&mut self, what: &str) {
        let Some(settling) = &mut self.settling else {
            return;
        };
        let waited = self.kafka.now() - settling.since;
        let Settling { why, warnings, .. } = settling;
        if let Some(repeated) = self.settle_log.came(Instant::now()) {
            tracing::info!(cause = why, error = what, repeated, "not settled yet");
        }
        if waited > WARN_AFTER * *warnings {
            *warnings *= 4;
            tracing::error!(
                cause = why,
                error = what,
                seconds = waited.as_secs(),
                "no transaction may begin until this is decided"
            );
            self.report("settling", Some(what.to_owned()));
        }
    }

    /// One attempt: once all is decided, whether the last commits are whole.
    fn try_settle(&mut self, reader: &K::Reader) -> Result<Standing, BrokerUnavailable> {
        let outputs = reader.outputs()?;
        let targets = reader.ends(&outputs.places, View::All)?;
        let until = self.kafka.now() + WAIT;
        let (held, silent, offsets) = loop {
            let stable = reader.ends(&outputs.places, View::Stable)?;
            let offsets = self.offsets_decided(reader);
            let targets = targets.iter();
            let held: BTreeMap<Place, (i64, i64)> = targets
                .filter_map(|(place, target)| {
                    let at = *stable.get(place)?;
                    (at < *target).then(|| (place.clone(), (at, *target)))
                })
                .collect();
            let silent = outputs.places.iter();
            let silent = silent.filter(|place| !stable.contains_key(place)).count();
            let whole = held.is_empty() && silent == 0 && offsets.is_ok();
            if whole || self.kafka.now() > until {
                break (held, silent, offsets);
            }
            self.kafka.sleep(POLL_INTERVAL);
        };
        if !held.is_empty() || offsets.is_err() {
            self.sweep_if_due(reader, held.keys())?;
        }
        if let Some((place, (at, target))) = held.first_key_value() {
            return Err(audit::undecided(place, Some(*at), *target));
        }
        offsets?;
        if let Some(place) = outputs.leaderless.first() {
            return Err(BrokerUnavailable(format!("{place} has no leader")));
        }
        if silent > 0 || targets.len() < outputs.places.len() {
            return Err(BrokerUnavailable(
                "a partition does not say where it ends".into(),
            ));
        }
        if self.unconfirmed.is_proved() {
            return Ok(Standing::Whole);
        }
        self.audit_unconfirmed(reader)
    }

    /// Whether the commits that are not proved are whole: an abort, by any process, may have taken what a
    /// commit before it left undecided.
    fn audit_unconfirmed(&mut self, reader: &K::Reader) -> Result<Standing, BrokerUnavailable> {
        let wanted = self.unconfirmed.wanted();
        if self.kafka.wall_ms().saturating_sub(wanted.since_ms) > AUDIT_AT_ONCE_MS {
            // That may be much to read for a thread that has to poll: the restorer does it.
            return Ok(Standing::Unknown);
        }
        let started = self.kafka.now();
        let in_time = || self.kafka.now() < started + AUDIT;
        let found = audit::find(self.kafka, reader, &self.dedup_log, &wanted, &in_time);
        let found = match found {
            Err(_) if !in_time() => return Ok(Standing::Unknown),
            found => found?,
        };
        if !wanted.missing(&found).is_empty() {
            return Ok(Standing::Torn);
        }
        let log = Log {
            reader,
            held: || true,
        };
        for (partition, (epoch, to)) in self.unconfirmed.ends() {
            if !self.assignments.holds(partition, epoch) {
                // The worker that restores it audits it.
                continue;
            }
            let tail = log.tail(partition, reader.watermarks(partition)?);
            let logged = match tail {
                Ok(logged) => logged,
                Err(RestoreHalt::Later(why)) => return Err(BrokerUnavailable(why)),
                // The restorer stops that partition alone.
                Err(_) => return Ok(Standing::Unknown),
            };
            let offsets = reader.stable_offsets(&[partition], OFFSETS_TIMEOUT)?;
            let behind = offsets.get(&partition) < Some(&to);
            if logged.logged < to || behind {
                return Ok(Standing::Torn);
            }
            self.partitions.saw(partition, epoch, to);
        }
        self.unconfirmed.clear();
        Ok(Standing::Whole)
    }

    /// Whether the offset of each partition was given since the settling began, or since the last sweep.
    fn offsets_decided(&mut self, reader: &K::Reader) -> Result<(), BrokerUnavailable> {
        let Some(settling) = &mut self.settling else {
            return Ok(());
        };
        let open: Vec<i32> = settling.offsets.iter().copied().collect();
        if open.is_empty() {
            return Ok(());
        }
        let until = self.kafka.now() + WAIT;
        // All at once where nothing is under way, else one by one.
        let mut answer = reader.stable_offsets(&open, OFFSETS_TIMEOUT).map(|_| ());
        if answer.is_ok() {
            settling.offsets.clear();
            return Ok(());
        }
        for partition in open {
            match reader.stable_offsets(&[partition], OFFSETS_TIMEOUT) {
                Ok(_) => {
                    settling.offsets.remove(&partition);
                }
                Err(error) => answer = Err(error),
            }
            if self.kafka.now() > until {
                break;
            }
        }
        if settling.offsets.is_empty() {
            Ok(())
        } else {
            answer.map_err(undecided_offset)
        }
    }

    pub(super) fn raw_partitions(&self) -> Vec<i32> {
        (0..self.shared.settings.topics.partitions).collect()
    }

    fn sweep_if_due<'p>(
        &mut self,
        reader: &K::Reader,
        places: impl Iterator<Item = &'p Place>,
    ) -> Result<(), BrokerUnavailable> {
        let now = self.kafka.now();
        let Some(settling) = &mut self.settling else {
            return Ok(());
        };
        let due = match settling.swept_at {
            None => settling.since + SWEEP_AFTER,
            Some(swept_at) => swept_at + SWEEP_RETRY_DELAY,
        };
        if now < due {
            return Ok(());
        }
        let Some(mut producer) = self.producer.take() else {
            return Ok(());
        };
        settling.swept_at = Some(now);
        settling.offsets = (0..self.shared.settings.topics.partitions).collect();
        let places: Vec<&Place> = places.collect();
        tracing::info!(?places, "sweeping");
        let swept = sweep(self.kafka, &mut producer, reader, &places);
        // A producer that could not abort is of no more use: the next one takes over.
        if let Err(TxOutcome::Broken { why, fenced, .. }) = swept {
            settling.fenced = fenced.then(|| why.clone());
            return Err(BrokerUnavailable(format!("the sweep broke: {why}")));
        }
        self.producer = Some(producer);
        Ok(())
    }

    /// At the end: what was committed is visible, and nothing is undecided, within a bound.
    pub(super) fn leave_nothing_open(&mut self) {
        let started = self.kafka.now();
        let until = started + LEAVE;
        let mut batch = Batch::default();
        while self.kafka.now() < until {
            if self.producer.is_none() && self.renew().is_err() {
                break;
            }
            if !self.unconfirmed.is_empty() && self.kafka.now() > started + VISIBLE_AT_THE_END {
                self.unsettle("a commit is not visible to a worker that leaves");
            }
            match self.settle(&mut batch) {
                Ok(true) if self.unconfirmed.is_empty() => return,
                Ok(true) => self.unconfirmed.look_now(),
                Ok(false) => {}
                Err(_) => break,
            }
            self.confirm();
            if self.unconfirmed.is_empty() && self.settling.is_none() {
                return;
            }
            self.kafka.sleep(POLL_INTERVAL);
        }
        tracing::error!(
            name = self.shared.settings.transactional_id(self.number),
            "the worker ends, and its last transaction may be undecided: start it again under its transactional id"
        );
    }
}

/// Writes a record to each partition and names an offset, and aborts all of it.
pub(super) fn sweep<K: Kafka>(
    kafka: &K,
    producer: &mut K::Producer,
    reader: &K::Reader,
    places: &[&Place],
) -> Result<(), TxOutcome> {
    let aborted = |why: &str| TxOutcome::Aborted {
        why: why.to_owned(),
        permanent: false,
    };
    let offset = match reader.last_offset(SWEPT_OFFSET) {
        Ok(offset) => BTreeMap::from([(SWEPT_OFFSET, offset.unwrap_or(0))]),
        Err(BrokerUnavailable(why)) => return Err(aborted(&why)),
    };
    if producer.begin().is_err() {
        return abort(producer, kafka, aborted("the sweep did not begin"));
    }
    for place in places {
        let sent = producer.send(&Message {
            topic: &place.topic,
            partition: Some(place.partition),
            key: None,
            value: b"",
            headers: &Vec::new(),
            timestamp_ms: None,
        });
        if sent.is_err() {
            break;
        }
    }
    // Where a call fails here, what it could reach is swept, and the next sweep takes the rest.
    if let Some(outsider) = reader.outsider() {
        let _ = producer.send_offsets(&offset, outsider);
    }
    let until = kafka.now() + SWEEP;
    while producer.in_flight() > 0 && kafka.now() < until {
        producer.serve(Duration::from_millis(1));
    }
    abort(producer, kafka, aborted("swept"))
}
