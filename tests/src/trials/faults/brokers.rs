//! Faults of the brokers: killed, asleep, restarted, out of disk, out of time, all gone.

use std::time::Duration;

use anyhow::Result;
use sluice_tests::harness::wait::{PATIENCE, wait_for};

use super::world::{SMALL_DISK, World};

/// How long the others may take to go on without a node.
const AWAY: Duration = Duration::from_secs(90);

/// Ten minutes ahead.
const AHEAD: &str = "+600s";

/// `kill -9` of a node; the others go on without it.
pub fn kill(world: &mut World) -> Result<u64> {
    let node = world.node();
    kill_one(world, node)?;
    Ok(1)
}

/// `kill -9` of a node that stays away: the others must go on to judge what comes, and not only to take it.
pub fn away(world: &mut World) -> Result<u64> {
    let node = world.node();
    world.cluster.kill(node)?;
    world.heal();
    let took = world.settle(AWAY)?;
    eprintln!("      all was judged {took:.0?} after the kill, without the node");
    world.cluster.restart(node)?;
    world.heal();
    world.wait_whole()?;
    Ok(1)
}

fn kill_one(world: &mut World, node: usize) -> Result<()> {
    world.cluster.kill(node)?;
    world.wait_life(PATIENCE * 2)?;
    world.cluster.restart(node)?;
    world.heal();
    world.wait_whole()
}

/// A node stands still for longer than its session at the controller.
pub fn pause(world: &mut World) -> Result<u64> {
    let node = world.node();
    world.cluster.pause(node)?;
    world.last(12_000, 12_000);
    world.cluster.resume(node)?;
    world.heal();
    world.wait_whole()?;
    Ok(1)
}

/// Every node is stopped and started again in turn, each when all replicas are in sync, as an operator
/// does it.
pub fn rolling_restart(world: &mut World) -> Result<u64> {
    for node in 0..world.cluster.len() {
        world.cluster.stop(node)?;
        world.cluster.restart(node)?;
        world.heal();
        world.wait_whole()?;
    }
    Ok(world.cluster.len() as u64)
}

/// `kill -9` of the node that coordinates a processor's transactions, then of the group's.
pub fn kill_coordinators(world: &mut World) -> Result<u64> {
    let member = world.processor();
    let id = format!("{}.{}.0", world.group(), member.name);
    let node = world.cluster.transaction_coordinator(&id)?;
    kill_one(world, node)?;
    let node = world.cluster.group_coordinator(world.group())?;
    kill_one(world, node)?;
    Ok(2)
}

/// A node's disk fills up. It ends, and comes back when there is room.
pub fn fill_disk(world: &mut World) -> Result<u64> {
    world.cluster.fill_disk(SMALL_DISK)?;
    let ended = world.cluster.wait_end(SMALL_DISK, PATIENCE);
    world.cluster.free_disk(SMALL_DISK)?;
    ended?;
    world.wait_life(PATIENCE * 2)?;
    world.cluster.restart(SMALL_DISK)?;
    world.heal();
    world.wait_whole()?;
    Ok(1)
}

/// The clock of a node goes ten minutes ahead, and back again.
///
/// Services stay on the right clock: librdkafka takes the time of its waits from `timespec_get`, which
/// libfaketime falsifies, and waits by `cnd_timedwait`, which it does not, so every wait under a false
/// clock lasts as much longer.
pub fn clocks(world: &mut World) -> Result<u64> {
    let node = world.node();
    for offset in [Some(AHEAD), None] {
        world.cluster.stop(node)?;
        world.cluster.set_clock(node, offset);
        world.cluster.restart(node)?;
        world.heal();
        world.wait_whole()?;
        // Some requests under these clocks, also on the partitions that the node leads again.
        for _ in 0..8 {
            world.wait_life(PATIENCE)?;
        }
    }
    Ok(2)
}

/// All nodes are gone, killed or asleep. Ingest must answer 503 all the time, and nothing else.
pub fn outage(world: &mut World) -> Result<u64> {
    let asleep = world.random.u64(..2) == 0;
    let nodes = 0..world.cluster.len();
    for node in nodes.clone() {
        if asleep {
            world.cluster.pause(node)?;
        } else {
            world.cluster.kill(node)?;
        }
    }
    // The first refusal comes when what was acknowledged before is long answered.
    let before = world.load.counts().refused;
    wait_for("the first 503", PATIENCE, || {
        Ok((world.load.counts().refused > before).then_some(()))
    })?;
    let start = world.load.counts();
    std::thread::sleep(world.outage);
    let end = world.load.counts();
    for node in nodes {
        if asleep {
            world.cluster.resume(node)?;
        } else {
            world.cluster.restart(node)?;
        }
    }
    world.heal();
    if end.acked != start.acked {
        let many = end.acked - start.acked;
        world.fault(format!(
            "{many} requests were answered with 200 without a broker"
        ));
    }
    if end.unanswered != start.unanswered {
        let many = end.unanswered - start.unanswered;
        world.fault(format!(
            "{many} requests were not answered while all brokers were gone"
        ));
    }
    if end.refused == start.refused {
        world.fault("nothing was answered with 503 while all brokers were gone".into());
    }
    world.wait_whole()?;
    Ok(1)
}
