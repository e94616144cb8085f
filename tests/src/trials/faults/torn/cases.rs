//! What is done to the brokers in each case. Each returns when they are back, which is the heal.

use std::time::Duration;

use anyhow::Result;
use sluice_tests::harness::proxy::{Api, Side, Sprung, Then, Trap};
use sluice_tests::harness::wait::{PATIENCE, wait_for};

use super::lonely;
use crate::trials::faults::processes::Point;
use crate::trials::faults::world::World;

/// Within this time a working processor commits.
const SPRING: Duration = Duration::from_secs(60);

/// So long after an answer is killed at most, in microseconds.
const SOON_US: u64 = 3_000;

/// The longest time between two nodes' return, in milliseconds.
const GAP_MS: u64 = 6_000;

/// Workers of a processor.
const WORKERS: usize = 2;

/// Kills the only node under load, for so long.
pub fn away(world: &mut World, away: Duration) -> Result<()> {
    world.cluster.kill(0)?;
    come_back(world, away)
}

/// Kills the only node as soon as a commit was answered. Every second time the processor dies too, in its
/// next transaction, so that what it left is followed by an abort and not by a commit.
pub fn at_commit(world: &mut World, away: Duration, and_processor: bool) -> Result<()> {
    let victim = world.processor();
    let sprung = world.cluster.trap(&victim.name, Point::AfterCommit.trap(0));
    let soon = Duration::from_micros(world.random.u64(..SOON_US));
    sprung.wait_at_once(SPRING)?;
    std::thread::sleep(soon);
    world.cluster.kill(0)?;
    if !and_processor {
        return come_back(world, away);
    }
    let held = hold_commits(world, &[&victim.name]);
    come_back(world, away)?;
    wait_first(&held)?;
    victim.kill()?;
    drop(held);
    world.heal();
    Ok(())
}

/// Kills the node that alone has the event topics while transactions that wrote to them wait for their
/// commit, lets them commit once nobody leads these partitions, has the group rebalance, and kills the
/// processors in their first transaction after the node's return.
pub fn leaderless(world: &mut World, away: Duration) -> Result<()> {
    let topic = lonely::topic(&world.site)?;
    let node = world.cluster.leader_of(&topic, 0)?;
    let (one, other) = (
        world.fleet.slot("processor-0")?,
        world.fleet.slot("processor-1")?,
    );
    let names = [one.name.as_str(), other.name.as_str()];
    let held = hold_commits(world, &names);
    wait_first(&held)?;
    world.cluster.kill(node)?;
    world.cluster.wait_leaderless(&topic, 0, PATIENCE)?;
    drop(held);
    other.stop()?;
    std::thread::sleep(away);
    other.start()?;
    let held = hold_commits(world, &names);
    world.cluster.restart(node)?;
    world.cluster.wait_ready()?;
    world.cluster.leader_of(&topic, 0)?;
    wait_first(&held)?;
    one.kill()?;
    other.kill()?;
    drop(held);
    world.heal();
    Ok(())
}

/// Kills all nodes around a commit and starts them in some order, one after the other.
pub fn all_nodes(world: &mut World, away: Duration) -> Result<()> {
    let victim = world.processor();
    let sprung = world.cluster.trap(&victim.name, Point::AfterCommit.trap(0));
    let soon = Duration::from_micros(world.random.u64(..SOON_US));
    sprung.wait_at_once(SPRING)?;
    std::thread::sleep(soon);
    let mut nodes: Vec<usize> = (0..world.cluster.len()).collect();
    for node in &nodes {
        world.cluster.kill(*node)?;
    }
    std::thread::sleep(away);
    while !nodes.is_empty() {
        let node = nodes.swap_remove(world.random.usize(..nodes.len()));
        world.cluster.restart(node)?;
        world.last(0, GAP_MS);
    }
    world.cluster.wait_ready()?;
    world.heal();
    Ok(())
}

/// Starts the only node after so long, and waits until it answers.
fn come_back(world: &mut World, away: Duration) -> Result<()> {
    std::thread::sleep(away);
    world.cluster.restart(0)?;
    world.cluster.wait_ready()?;
    world.heal();
    Ok(())
}

/// Has the workers of these processors stop at their request to end a transaction, each for itself.
fn hold_commits(world: &World, names: &[&str]) -> Vec<Sprung> {
    let trap = Trap {
        api: Api::EndTxn,
        side: Side::Request,
        skip: 0,
        then: Then::Hold,
    };
    let each = names.iter().flat_map(|name| [*name; WORKERS]);
    each.map(|name| world.cluster.trap(name, trap)).collect()
}

/// Waits until one of them is held, and the others if they come soon.
fn wait_first(held: &[Sprung]) -> Result<()> {
    let sprung = || held.iter().filter(|trap| trap.has_sprung()).count();
    wait_for("a transaction to end", SPRING, || {
        Ok((sprung() > 0).then_some(()))
    })?;
    // One may have nothing to do.
    let _ = wait_for("all transactions to end", SOON, || {
        Ok((sprung() == held.len()).then_some(()))
    });
    Ok(())
}

/// How long the other workers are waited for: shorter than what a held request may take.
const SOON: Duration = Duration::from_secs(3);
