//! The settings of a node.

use std::fmt::Write as _;

use super::node::{Node, Slot};
use super::secured::Secured;
use crate::harness::ports;

/// The partitions of each of the two coordinators' topics.
pub(super) const COORDINATORS: u32 = 3;

/// What all nodes have. The times are those at which a quorum on a busy machine was still steady;
/// half of them was not.
const FIXED: [(&str, &str); 11] = [
    ("share.coordinator.state.topic.num.partitions", "1"),
    ("group.initial.rebalance.delay.ms", "0"),
    ("auto.create.topics.enable", "false"),
    ("unclean.leader.election.enable", "false"),
    // A killed worker's transaction ends soon after its time-out, not within the usual 10 s.
    (
        "transaction.abort.timed.out.transaction.cleanup.interval.ms",
        "2000",
    ),
    ("broker.heartbeat.interval.ms", "500"),
    ("broker.session.timeout.ms", "6000"),
    ("controller.quorum.election.timeout.ms", "1000"),
    ("controller.quorum.fetch.timeout.ms", "2000"),
    ("log.cleaner.dedupe.buffer.size", "8388608"),
    ("num.partitions", "1"),
];

/// What nodes have that ask an authorizer: what no rule speaks of is allowed.
const AUTHORIZER: [(&str, &str); 2] = [
    (
        "authorizer.class.name",
        "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    ),
    ("allow.everyone.if.no.acl.found", "true"),
];

/// The text of a node's settings file.
pub(super) fn properties(nodes: &[Node], slots: &[Slot], node: &Node, authorizer: bool) -> String {
    let replicas = nodes.len();
    let in_sync = if replicas == 1 { 1 } else { 2 };
    // Nodes that vote ask their authorizers, which know nothing before there is a leader.
    let voting = if authorizer { &nodes[..1] } else { nodes };
    let is_controller = voting.iter().any(|voter| voter.id == node.id);
    let voters: Vec<String> = voting
        .iter()
        .map(|node| format!("{}@{}", node.id, ports::local(node.controller)))
        .collect();
    let mut text = format!(
        "process.roles=broker{role}\n\
         node.id={id}\n\
         controller.quorum.voters={voters}\n\
         controller.listener.names=CONTROLLER\n\
         inter.broker.listener.name=PLAINTEXT\n\
         log.dirs={data}\n\
         default.replication.factor={replicas}\n\
         min.insync.replicas={in_sync}\n\
         offsets.topic.replication.factor={replicas}\n\
         offsets.topic.num.partitions={COORDINATORS}\n\
         transaction.state.log.replication.factor={replicas}\n\
         transaction.state.log.min.isr={in_sync}\n\
         transaction.state.log.num.partitions={COORDINATORS}\n\
         share.coordinator.state.topic.replication.factor={replicas}\n\
         share.coordinator.state.topic.min.isr={in_sync}\n",
        role = if is_controller { ",controller" } else { "" },
        id = node.id,
        voters = voters.join(","),
        data = node.data().display(),
    );
    text.push_str(&listeners(slots, node, is_controller));
    let authorizer = AUTHORIZER.into_iter().filter(|_| authorizer);
    for (name, value) in FIXED.into_iter().chain(authorizer) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name}={value}");
    }
    text
}

/// One listener for the nodes and the harness, one for the quorum, and one for each slot, which sends
/// its clients to the slot's proxy: a broker gives every client its own address again.
fn listeners(slots: &[Slot], node: &Node, is_controller: bool) -> String {
    let broker = ports::local(node.broker);
    let mut listeners = format!("listeners=PLAINTEXT://{broker}");
    if is_controller {
        let _ = write!(listeners, ",CONTROLLER://{}", ports::local(node.controller));
    }
    let mut advertised = format!("advertised.listeners=PLAINTEXT://{broker}");
    let mut protocols =
        "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned();
    let mut threads = String::new();
    for (n, slot) in slots.iter().enumerate() {
        let (Some(port), Some(link)) = (node.slots.get(n), slot.links.get(node.id - 1)) else {
            continue;
        };
        let _ = write!(listeners, ",SLOT{n}://{}", ports::local(*port));
        let _ = write!(advertised, ",SLOT{n}://{}", link.address());
        let _ = write!(protocols, ",SLOT{n}:PLAINTEXT");
        // A handful of connections need no more.
        let _ = writeln!(threads, "listener.name.slot{n}.num.network.threads=1");
    }
    for (name, port, protocol) in Secured::listeners(node) {
        let _ = write!(listeners, ",{name}://{}", ports::local(port));
        let _ = write!(advertised, ",{name}://{}", ports::local(port));
        let _ = write!(protocols, ",{name}:{protocol}");
    }
    format!("{listeners}\n{advertised}\n{protocols}\n{threads}")
}
