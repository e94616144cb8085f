//! The names on the wire, and the guards' golden expositions.

use std::collections::BTreeMap;

use super::*;

/// A family of an exposition: its type, its unit and its labels.
#[derive(Debug, Default, PartialEq, Eq)]
struct Family {
    kind: String,
    unit: String,
    labels: Vec<String>,
}

/// Reads a golden exposition of the guards, in which values are left out.
fn golden(path: &str) -> BTreeMap<String, Family> {
    let path = format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).expect("a golden file");
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("TYPE"), Some(name), Some(kind)) => {
                families.entry(name.to_owned()).or_default().kind = kind.to_owned();
            }
            (Some("#"), Some("UNIT"), Some(name), Some(unit)) => {
                families.entry(name.to_owned()).or_default().unit = unit.to_owned();
            }
            _ => {}
        }
    }
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, labels)) = line.split_once('{') else {
            continue;
        };
        let suffixes = ["_total", "_bucket", "_sum", "_count"];
        let bare = suffixes.iter().find_map(|suffix| name.strip_suffix(suffix));
        let name = bare.unwrap_or(name);
        let labels = labels
            .split("\",")
            .filter_map(|label| label.split_once('='));
        let labels = labels.map(|(label, _)| label.to_owned());
        let labels = labels.filter(|label| label != "le").collect();
        families.get_mut(name).expect("a family").labels = labels;
    }
    families
}

fn ours(metrics: &[Metric]) -> BTreeMap<String, Family> {
    let family = |metric: &Metric| Family {
        kind: metric.kind.name().to_owned(),
        unit: metric.unit.map_or("", Unit::name).to_owned(),
        labels: metric
            .labels
            .iter()
            .map(|&label| label.to_owned())
            .collect(),
    };
    let all = metrics.iter().chain(&service::ALL);
    all.map(|metric| (metric.family(), family(metric)))
        .collect()
}

/// Families without a sample in the run of a golden exposition, so that their labels do not show: without
/// TLS, on brokers that give no append time, of a service that consumes nothing.
const WITHOUT_SAMPLES: [(&str, Metric); 3] = [
    ("ingest", ingest::INGEST_CERTIFICATE_EXPIRY),
    ("ingest", service::CLOCK_DIFFERENCE),
    ("ingest", service::KAFKA_FETCHED_RECORDS),
];

#[test]
fn the_metrics_are_those_that_the_services_expose() {
    for (name, metrics, path) in [
        (
            "ingest",
            &ingest::ALL[..],
            "ingest/tests/guards/golden/metrics.txt",
        ),
        (
            "processor",
            &processor::ALL[..],
            "tests/guards/golden/metrics-processor.txt",
        ),
    ] {
        let (mut ours, mut golden) = (ours(metrics), golden(path));
        for (_, metric) in WITHOUT_SAMPLES.iter().filter(|(of, _)| *of == name) {
            ours.remove(&metric.family()).expect("a metric of ours");
            golden.remove(&metric.family());
        }
        let names = |families: &BTreeMap<String, Family>| -> Vec<String> {
            families.keys().cloned().collect()
        };
        assert_eq!(names(&ours), names(&golden), "{name}");
        assert_eq!(ours, golden, "{name}");
    }
}

#[test]
fn a_sample_has_its_unit_and_its_kind_in_its_name() {
    assert_eq!(processor::FATES.exposed(), "sluice_fates_total");
    assert_eq!(ingest::INGEST_ACK.exposed(), "sluice_ingest_ack_seconds");
    assert_eq!(
        ingest::INGEST_CONNECTIONS.exposed(),
        "sluice_ingest_connections"
    );
}
