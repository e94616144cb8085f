//! Faults of the network between one service and one broker.

use std::time::Duration;

use sluice_tests::harness::proxy::Link;

use super::world::World;

/// How many links fail in turn.
const LINKS: u64 = 3;

/// Connections are reset, and new ones refused.
pub fn cut(world: &mut World) -> u64 {
    spoil(world, 3_000, 10_000, |_| Link::Cut)
}

/// Connections stand, and nothing moves on them.
pub fn stall(world: &mut World) -> u64 {
    spoil(world, 5_000, 15_000, |_| Link::Stalled)
}

/// Everything takes long.
pub fn slow(world: &mut World) -> u64 {
    spoil(world, 5_000, 8_000, |choice| Link::Slow {
        delay: Duration::from_millis(20 + choice % 130),
        bytes_per_second: 200_000,
    })
}

/// One direction works.
pub fn half_open(world: &mut World) -> u64 {
    spoil(world, 5_000, 15_000, |choice| {
        if choice % 2 == 0 {
            Link::ToBrokerOnly
        } else {
            Link::ToClientOnly
        }
    })
}

/// Spoils the link of a service to a node for some milliseconds, then another.
fn spoil(world: &mut World, from: u64, to: u64, link: impl Fn(u64) -> Link) -> u64 {
    for n in 0..LINKS {
        let choice = world.random.u64(..);
        // Ingest is not left out by chance.
        let slot = if n == 0 {
            world.ingest()
        } else {
            world.processor()
        };
        let node = world.node();
        world.cluster.link(&slot.name, node).set(link(choice));
        world.last(from, to);
        world.cluster.link(&slot.name, node).set(Link::Open);
        world.heal();
    }
    LINKS
}
