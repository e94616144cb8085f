//! What an operator's tools can do to groups and topics: tests do it to see what the processor makes
//! of it.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use sluice_service::kafka::offsets::{self, member};
use sluice_service::kafka::read::partitions;

use crate::harness::topics::{base, with_prefix};
use crate::harness::wait::{PATIENCE, wait_for};

const REQUEST: Duration = Duration::from_secs(20);

/// The first and the next offset of each partition of a topic, as an uncommitted reader sees them.
pub fn bounds(bootstrap: &str, topic: &str) -> Result<Vec<(i64, i64)>> {
    Ok(offsets::bounds(&base(bootstrap), topic, PATIENCE)?)
}

/// The next offset of each partition of a topic.
pub fn ends(bootstrap: &str, topic: &str) -> Result<Vec<i64>> {
    Ok(offsets::ends(&base(bootstrap), topic, PATIENCE)?)
}

/// The committed offset of each partition of a topic; `None` where there is none.
pub fn committed(bootstrap: &str, group: &str, topic: &str) -> Result<Vec<Option<i64>>> {
    Ok(offsets::committed(
        &base(bootstrap),
        group,
        topic,
        PATIENCE,
    )?)
}

/// Waits until the group has committed all that stands in a topic.
pub fn wait_caught_up(bootstrap: &str, group: &str, topic: &str, patience: Duration) -> Result<()> {
    wait_for("the group to catch up", patience, || {
        let ends = bounds(bootstrap, topic)?;
        let at = committed(bootstrap, group, topic)?;
        let behind = ends
            .iter()
            .zip(at)
            .any(|((_, end), at)| *end > 0 && at.is_none_or(|at| at < *end));
        Ok((!behind).then_some(()))
    })
}

/// Commits offsets in the name of a group that has no members now.
pub fn commit(bootstrap: &str, group: &str, topic: &str, offsets: &[(i32, i64)]) -> Result<()> {
    let client = member(&base(bootstrap), group)?;
    let mut list = TopicPartitionList::new();
    for (partition, offset) in offsets {
        list.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
    }
    // A killed member counts until its session ends, and nobody else may commit before.
    wait_for("the group to be empty", PATIENCE, || {
        Ok(client.commit(&list, CommitMode::Sync).ok())
    })
}

/// Deletes a group with all of its offsets, once its last member is gone.
pub fn delete_group(bootstrap: &str, group: &str) -> Result<()> {
    wait_for("the group to be empty", PATIENCE, || {
        let answer = admin(bootstrap, |admin, options| async move {
            admin.delete_groups(&[group], &options).await
        })?;
        match answer.into_iter().next().context("no answer")? {
            Ok(_) => Ok(Some(())),
            Err((_, rdkafka::types::RDKafkaErrorCode::NonEmptyGroup)) => Ok(None),
            Err((group, code)) => bail!("cannot delete {group}: {code}"),
        }
    })
}

/// Deletes the records of a partition below an offset.
pub fn delete_records(bootstrap: &str, topic: &str, below: &[(i32, i64)]) -> Result<()> {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in below {
        list.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
    }
    let answer = admin(bootstrap, |admin, options| async move {
        admin.delete_records(&list, &options).await
    })?;
    for element in answer.elements() {
        element.error()?;
    }
    Ok(())
}

/// Deletes a topic and waits until it is gone.
pub fn delete_topic(bootstrap: &str, topic: &str) -> Result<()> {
    let answer = admin(bootstrap, |admin, options| async move {
        admin.delete_topics(&[topic], &options).await
    })?;
    for one in answer {
        one.map_err(|(topic, code)| anyhow::anyhow!("cannot delete {topic}: {code}"))?;
    }
    wait_for("the topic to go", PATIENCE, || {
        let names = with_prefix(bootstrap, topic)?;
        Ok((!names.iter().any(|name| name == topic)).then_some(()))
    })
}

/// Deletes all topics with a prefix, without waiting until they are gone.
pub fn delete_topics(bootstrap: &str, prefix: &str) -> Result<()> {
    let names = with_prefix(bootstrap, prefix)?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let answer = admin(bootstrap, |admin, options| async move {
        admin.delete_topics(&names, &options).await
    })?;
    for one in answer {
        one.map_err(|(topic, code)| anyhow::anyhow!("cannot delete {topic}: {code}"))?;
    }
    Ok(())
}

/// What a topic's setting says; `None` where the broker knows no such setting.
pub fn topic_setting(bootstrap: &str, topic: &str, key: &str) -> Result<Option<String>> {
    let topic = ResourceSpecifier::Topic(topic);
    let answer = admin(bootstrap, |admin, options| async move {
        admin.describe_configs([&topic], &options).await
    })?;
    let found = answer.into_iter().next().context("no answer")?;
    let found = found.map_err(|code| anyhow::anyhow!("cannot read a topic's settings: {code}"))?;
    Ok(found.get(key).and_then(|entry| entry.value.clone()))
}

/// Makes a topic with settings, and waits until it is known.
pub fn create_topic(
    bootstrap: &str,
    topic: &str,
    partitions: i32,
    configs: &[(&str, &str)],
) -> Result<()> {
    // As many replicas as the cluster's nodes have by default.
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(-1));
    make(bootstrap, new, configs)
}

/// Makes a topic whose partitions have these replicas, a list of the nodes' ids for each.
pub fn create_topic_on(
    bootstrap: &str,
    topic: &str,
    replicas: &[&[i32]],
    configs: &[(&str, &str)],
) -> Result<()> {
    let partitions = i32::try_from(replicas.len())?;
    let new = NewTopic::new(topic, partitions, TopicReplication::Variable(replicas));
    make(bootstrap, new, configs)
}

fn make<'a>(bootstrap: &str, mut new: NewTopic<'a>, configs: &[(&'a str, &'a str)]) -> Result<()> {
    let (topic, partitions) = (new.name, new.num_partitions);
    new.config = configs.to_vec();
    let answer = admin(bootstrap, |admin, options| async move {
        admin.create_topics(&[new], &options).await
    })?;
    for one in answer {
        one.map_err(|(topic, code)| anyhow::anyhow!("cannot create {topic}: {code}"))?;
    }
    wait_partitions(bootstrap, topic, partitions)
}

/// Gives a topic these settings; those that are not named go back to the brokers' defaults.
pub fn alter_topic(bootstrap: &str, topic: &str, configs: &[(&str, &str)]) -> Result<()> {
    let mut new = AlterConfig::new(ResourceSpecifier::Topic(topic));
    for (key, value) in configs {
        new = new.set(key, value);
    }
    let answer = admin(bootstrap, |admin, options| async move {
        admin.alter_configs([&new], &options).await
    })?;
    for one in answer {
        one.map_err(|(_, code)| anyhow::anyhow!("cannot alter {topic}: {code}"))?;
    }
    Ok(())
}

/// Gives a topic more partitions.
pub fn grow_topic(bootstrap: &str, topic: &str, partitions: i32) -> Result<()> {
    let new = NewPartitions::new(topic, usize::try_from(partitions)?);
    let answer = admin(bootstrap, |admin, options| async move {
        admin.create_partitions(&[new], &options).await
    })?;
    for one in answer {
        one.map_err(|(topic, code)| anyhow::anyhow!("cannot grow {topic}: {code}"))?;
    }
    wait_partitions(bootstrap, topic, partitions)
}

fn wait_partitions(bootstrap: &str, topic: &str, wanted: i32) -> Result<()> {
    let client = member(&base(bootstrap), "sluice-tests-bounds")?;
    wait_for("the partitions", PATIENCE, || {
        Ok((partitions(&client, topic).ok() == Some(wanted)).then_some(()))
    })
}

/// One request of the admin client, on a runtime of its own: not to be called from within one.
fn admin<F, R, T>(bootstrap: &str, request: F) -> Result<T>
where
    F: FnOnce(AdminClient<DefaultClientContext>, AdminOptions) -> R,
    R: Future<Output = rdkafka::error::KafkaResult<T>>,
{
    let client: AdminClient<_> = base(bootstrap).create()?;
    let options = AdminOptions::new()
        .operation_timeout(Some(REQUEST))
        .request_timeout(Some(REQUEST));
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    Ok(runtime.block_on(request(client, options))?)
}
