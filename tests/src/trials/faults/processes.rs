//! Faults of the services' processes: killed, asleep, doubled, coming and going.

use std::time::Duration;

use anyhow::{Context, Result};
use sluice_tests::harness::child::Signal;
use sluice_tests::harness::proxy::{Api, Link, Side, Then, Trap};
use sluice_tests::harness::wait::{PATIENCE, wait_for};

use super::world::World;

/// Within this time a working processor comes by every point of a transaction.
const SPRING: Duration = Duration::from_secs(60);

/// Until a member that is gone or asleep is replaced: its session of 10 s, its transaction of 30 s, and
/// the restore.
const MOVED: Duration = Duration::from_secs(150);

/// What a processor says when its producer is taken over, as it must be after a sleep.
const FENCED: [&str; 2] = ["the producer was fenced", "the transaction broke"];

/// A point of the transaction at which a processor is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// The coordinator has not heard of the transaction yet.
    BeforeBegin,
    /// Some of the outcomes are written.
    AfterSomeProduces,
    /// All is written, the offsets too, and the commit is not asked for.
    AfterSendOffsets,
    /// The coordinator commits, and the processor never hears of it.
    CommitSent,
    /// The processor may just have heard that it is committed; its memory may not have it yet.
    AfterCommit,
}

impl Point {
    /// What springs there; `produces` is how many requests to write pass at [`Self::AfterSomeProduces`].
    pub fn trap(self, produces: usize) -> Trap {
        let (api, side, then) = match self {
            Self::BeforeBegin => (Api::AddPartitionsToTxn, Side::Request, Then::Hold),
            Self::AfterSomeProduces => (Api::Produce, Side::Request, Then::Hold),
            Self::AfterSendOffsets => (Api::EndTxn, Side::Request, Then::Hold),
            Self::CommitSent => (Api::EndTxn, Side::Reply, Then::Hold),
            Self::AfterCommit => (Api::EndTxn, Side::Reply, Then::Pass),
        };
        let skip = match self {
            Self::AfterSomeProduces => produces,
            _ => 0,
        };
        Trap {
            api,
            side,
            skip,
            then,
        }
    }
}

/// `kill -9` of a processor at a point of its transaction. What was on the way at that moment is gone
/// with the machine or arrives late, behind the one that takes over: both are tried.
pub fn kill_point(world: &mut World, point: Point) -> Result<u64> {
    for late in [false, true] {
        let victim = world.processor();
        let produces = 1 + world.random.usize(..4);
        let sprung = world.cluster.trap(&victim.name, point.trap(produces));
        sprung.wait(SPRING)?;
        victim.kill()?;
        if late {
            // The one that takes over is ready, so what comes now comes from the past.
            victim.wait_ready(MOVED)?;
        } else {
            for node in 0..world.cluster.len() {
                let link = world.cluster.link(&victim.name, node);
                link.set(Link::Cut);
                link.set(Link::Open);
            }
        }
        sprung.release();
        world.heal();
    }
    Ok(2)
}

/// `kill -9` of a processor at any moment, and of another one soon after.
pub fn kill_processor(world: &mut World) -> Result<u64> {
    for _ in 0..3 {
        world.last(200, 2_500);
        world.processor().kill()?;
        world.heal();
    }
    Ok(3)
}

/// `kill -9` of ingest, under requests.
pub fn kill_ingest(world: &mut World) -> Result<u64> {
    for _ in 0..3 {
        world.last(200, 2_500);
        let victim = world.ingest();
        victim.kill()?;
        world.heal();
        world.wait_life(PATIENCE)?;
        victim.wait_ready(PATIENCE)?;
    }
    Ok(3)
}

/// A processor sleeps past its session and wakes when its partitions are others': it must notice.
pub fn zombie(world: &mut World) -> Result<u64> {
    let victim = world.processor();
    victim.signal(Signal::Stop)?;
    let mark = victim.log_mark();
    let moved = wait_moved(world);
    victim.signal(Signal::Continue)?;
    world.heal();
    moved?;
    let signs = [
        "rebalanced",
        "the assignment was lost",
        FENCED[0],
        FENCED[1],
    ];
    must_say(world, &victim.name, mark, &signs)?;
    Ok(1)
}

/// Waits until the partitions of a sleeper are others': raw moves on for all of them only then.
fn wait_moved(world: &World) -> Result<()> {
    // Enough requests that there is something new on every partition.
    for _ in 0..3 {
        world.wait_life(PATIENCE)?;
    }
    world.eyes.wait_committed(&world.eyes.raw_ends()?, MOVED)
}

/// A processor falls asleep with its request to commit on the way. Both arrive when the partitions are
/// others': the commit must not be obeyed.
pub fn zombie_commit(world: &mut World) -> Result<u64> {
    let victim = world.processor();
    let trap = Point::AfterSendOffsets.trap(0);
    let sprung = world.cluster.trap(&victim.name, trap);
    sprung.wait(SPRING)?;
    victim.signal(Signal::Stop)?;
    let mark = victim.log_mark();
    let moved = wait_moved(world);
    sprung.release();
    victim.signal(Signal::Continue)?;
    world.heal();
    moved?;
    must_say(world, &victim.name, mark, &FENCED)?;
    Ok(1)
}

/// Notes a fault if a processor does not log what it must.
fn must_say(world: &mut World, name: &str, mark: u64, texts: &[&str]) -> Result<()> {
    let slot = world.fleet.slot(name)?;
    if slot.wait_log(mark, texts, PATIENCE).is_err() {
        world.fault(format!("{name} woke, and said none of {texts:?}"));
    }
    Ok(())
}

/// Two processes under one member's name. One is fenced twice, ends with 75 and stays away.
pub fn same_name(world: &mut World) -> Result<u64> {
    let (first, second) = (world.processor(), world.extra()?);
    second.rename(&first.name)?;
    let restarts = || first.ends_with(RESTART) + second.ends_with(RESTART);
    let before = restarts();
    first.hold();
    second.start()?;
    second.hold();
    let ended = wait_for("one of two of the same name to end", MOVED, || {
        world.fleet.must_run()?;
        Ok((!first.is_running() || !second.is_running()).then_some(()))
    });
    if ended.is_err() {
        world.fault(format!(
            "two processes run as {}, and none ended",
            first.name
        ));
    } else if restarts() == before {
        world.fault(format!(
            "one of two {} ended otherwise than with 75",
            first.name
        ));
    }
    second.stop()?;
    second.rename(&second.name)?;
    first.start()?;
    world.heal();
    Ok(1)
}

const RESTART: &str = "75";

/// A member joins and leaves at once, so that partitions are revoked and come straight back, while
/// transactions lose the reply to their offsets.
pub fn give_back(world: &mut World) -> Result<u64> {
    let mut lost = 0;
    for _ in 0..3 {
        let traps: Vec<_> = world
            .fleet
            .slots()
            .iter()
            .filter(|slot| slot.name.starts_with("processor"))
            .map(|slot| {
                let trap = Trap {
                    api: Api::TxnOffsetCommit,
                    side: Side::Reply,
                    skip: 1,
                    then: Then::Lose,
                };
                world.cluster.trap(&slot.name, trap)
            })
            .collect();
        join_and_leave(world, 0)?;
        lost += traps.iter().filter(|trap| trap.has_sprung()).count() as u64;
    }
    if lost == 0 {
        world.fault("no reply was lost".into());
    }
    world.heal();
    Ok(lost)
}

/// Every service goes to an older build of the same format version, and back, one after the other: old and
/// new work side by side meanwhile, and each ends in order.
pub fn upgrade(world: &mut World) -> Result<u64> {
    let old = world
        .old
        .clone()
        .context("--old says where the older build is")?;
    let mut changed = 0;
    for folder in [Some(old.as_path()), None] {
        for slot in world.fleet.slots().iter().filter(|slot| slot.is_running()) {
            slot.stop()?;
            slot.run_from(folder);
            slot.start()?;
            slot.wait_ready(PATIENCE)?;
            world.wait_life(PATIENCE)?;
            changed += 1;
        }
    }
    world.heal();
    Ok(changed)
}

/// A member that joins and leaves every few seconds.
pub fn churn(world: &mut World) -> Result<u64> {
    for _ in 0..4 {
        join_and_leave(world, 2_000)?;
        world.heal();
    }
    Ok(4)
}

/// The extra member joins, stays for as long as this at most, and leaves in order.
fn join_and_leave(world: &mut World, stay_ms: u64) -> Result<()> {
    let extra = world.extra()?;
    let mark = extra.log_mark();
    extra.start()?;
    extra.wait_log(mark, &["rebalanced"], PATIENCE)?;
    world.last(0, stay_ms);
    extra.stop()
}

/// The replies to a processor's commits stay away for longer than it waits, twice 30 s: it must ask the
/// committed offset what became of them.
pub fn in_doubt(world: &mut World) -> u64 {
    let victim = world.processor();
    let mark = victim.log_mark();
    // The client asks again on another connection after some 30 s, and both workers do: so many replies
    // are held one after the other, those of aborts among them.
    let traps: Vec<_> = (0..HELD_REPLIES)
        .map(|_| world.cluster.trap(&victim.name, Point::CommitSent.trap(0)))
        .collect();
    // The replies of the sweeps that follow a doubt would be held as well.
    let doubted = victim.wait_log(mark, &[DOUBT], MOVED);
    let held = traps.iter().filter(|trap| trap.has_sprung()).count() as u64;
    drop(traps);
    world.heal();
    if doubted.is_err() || victim.wait_log(mark, &[IN_DOUBT], MOVED).is_err() {
        world.fault(format!("{} had no commit in doubt", victim.name));
    } else if !FOUND
        .iter()
        .any(|found| victim.log_since(mark).contains(found))
    {
        let name = &victim.name;
        world.fault(format!(
            "{name} found that a commit did not go through, which did"
        ));
    }
    held
}

/// Two workers, each with a commit that is sent twice and an abort or two before.
const HELD_REPLIES: usize = 10;

/// What the processor says when a commit comes to be in doubt.
const DOUBT: &str = "\"in_doubt\":true";

/// What it says of a commit in doubt, and what it must find.
const IN_DOUBT: &str = "the commit in doubt";
const FOUND: [&str; 2] = [
    "the commit in doubt went through",
    // Where something was swept, the offset proves nothing, and the fates do.
    "the commit in doubt is left to the audit",
];
