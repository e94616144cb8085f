//! What the tests of this folder share: settings, and options as the command line reads them.

use std::path::Path;

use clap::Parser;
use sluice_schemas::settings::{Environment, Settings};

use super::selection::Which;

const SETTINGS: &str = "{kafka: {bootstrap_servers: b}, topics: {prefix: eu., partitions: 7}, \
                        sources: {s: {provider: flock, secrets: [x]}}}";

/// Settings with the prefix `eu.` and seven partitions of raw.
pub fn settings() -> Settings {
    let environment = Environment {
        member: Some("m"),
        property_fault: &|_, _| None,
    };
    Settings::parse(Path::new("f"), SETTINGS.as_bytes(), &environment).expect("good settings")
}

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    options: Which,
}

/// The options of these arguments.
pub fn options(arguments: &[&str]) -> Which {
    Line::parse_from(["redrive"].iter().chain(arguments)).options
}
