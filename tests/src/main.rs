//! What a developer runs by hand: the playground, a real Kafka for trials, the audit.
//!
//! Each prints on standard error what it does, and ends standard output with its verdict as one JSON
//! object on one line; the exit status is 0 only where it holds.

use std::process::ExitCode;

use clap::Parser;

mod trials;

use trials::{
    audit, bench, dev, faults, forbidden, hostile, observe, outage, playground, replay, roll,
    rotate, scale,
};

/// The services' allocator: the floors of the benchmarks are a part of this program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(about = "Sluice: playground, trials and audit")]
enum Command {
    /// Sends every provider's events through both services on an embedded broker, and prints
    /// what became of each.
    Playground(playground::Options),
    /// Leaves a real one-node Kafka and both services running for trials by hand.
    Dev(dev::Options),
    /// Sends many requests through real Kafka while the processor is killed, and audits what came out.
    Audit(audit::Options),
    /// Injects faults of every kind under a steady load on three brokers, and checks that nothing is lost or
    /// doubled.
    Faults(faults::Options),
    /// Measures both services next to their floors on a real Kafka.
    Bench(bench::Options),
    /// Measures how the cost of a request and a record grows with threads, partitions, bodies, event topics,
    /// known keys and sources.
    Scale(scale::Options),
    /// Takes all brokers away for minutes under a steady load, and checks that ingest takes everything all
    /// the same.
    Outage(outage::Options),
    /// Forbids one event topic for minutes under a steady load, and checks that the other partitions go on.
    Forbidden(forbidden::Options),
    /// Restarts two processes of ingest in turn under a steady load that must not notice.
    Roll(roll::Options),
    /// Changes certificate and URL token again and again under a steady load that must not notice.
    Rotate(rotate::Options),
    /// Shows both services to Prometheus and a Collector through quiet, traffic and trouble, and checks every
    /// panel, the alerts and the sums.
    Observe(observe::Options),
    /// Judges 100,000 raw records again by `sluicectl replay`, and checks what differs.
    Replay(replay::Options),
    /// Sends good traffic under one attack after the other, and checks that good requests are answered and
    /// that ingest sheds the others.
    Hostile(hostile::Options),
    /// An attack by HTTP/2 frames, which `hostile` starts.
    #[command(hide = true)]
    Flood(hostile::flood::Options),
    /// A floor of the benchmarks, which starts it.
    #[command(subcommand, hide = true)]
    Floor(bench::Floor),
}

fn main() -> ExitCode {
    let done = match Command::parse() {
        Command::Playground(options) => playground::run(&options),
        Command::Dev(options) => dev::run(&options),
        Command::Audit(options) => audit::run(&options),
        Command::Faults(options) => faults::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Scale(options) => scale::run(&options),
        Command::Outage(options) => outage::run(&options),
        Command::Forbidden(options) => forbidden::run(&options),
        Command::Roll(options) => roll::run(&options),
        Command::Rotate(options) => rotate::run(&options),
        Command::Observe(options) => observe::run(&options),
        Command::Replay(options) => replay::run(&options),
        Command::Hostile(options) => hostile::run(&options),
        Command::Flood(options) => hostile::flood::run(&options),
        Command::Floor(floor) => floor.run(),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}
