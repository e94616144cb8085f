//! The results as Markdown, and where a document keeps them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result};

use super::cost::Cost;
use super::results::{Measured, Results};
use super::scene::{Axis, THREADS};

/// What stands around them in a document.
const BEGIN: &str = "<!-- make bench-scale writes from here -->\n";
const END: &str = "<!-- to here -->\n";

/// A column: its heading, and what it has of a cost.
type Column = (&'static str, fn(&Cost) -> Option<f64>);

const COLUMNS: [Column; 6] = [
    ("thousand instructions", |cost| {
        Some(cost.instructions / 1e3)
    }),
    ("CPU µs", |cost| Some(cost.cpu_seconds_per_million)),
    ("million instructions a second by the clock", |cost| {
        Some(cost.instructions_a_second / 1e6)
    }),
    ("waits per thousand", |cost| Some(cost.waits_per_thousand)),
    ("records a transaction", |cost| cost.records_per_transaction),
    ("peak MiB", |cost| Some(cost.peak_mebibytes)),
];

/// All axes, each with its picture in a folder that the document knows as `pictures`.
pub fn markdown(results: &Results, pictures: &str) -> String {
    let mut text = String::new();
    for (axis, measured) in results.axes() {
        // Writing to memory cannot fail.
        let _ = write!(
            text,
            "\n#### {}\n\n![{}]({pictures}/scale-{}.svg)\n\n",
            title(axis),
            axis.label,
            axis.name
        );
        for (service, costs) in measured.services() {
            if !costs.is_empty() {
                text.push_str(&table(axis, service, costs));
            }
        }
        text.push_str(&seconds(measured));
    }
    text
}

fn title(axis: &Axis) -> String {
    let mut letters = axis.name.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

fn seconds(measured: &Measured) -> String {
    format!("Measured in {:.0} s.\n", measured.seconds)
}

/// A table of one service, with the ratio of the last point to the first as its last row.
fn table(axis: &Axis, service: &str, costs: &BTreeMap<u32, Cost>) -> String {
    let has = |column: &&Column| costs.values().any(|cost| column.1(cost).is_some());
    let columns: Vec<&Column> = COLUMNS.iter().filter(has).collect();
    let point = match (axis.name, service) {
        (THREADS, "processor") => "workers",
        (name, _) => name,
    };
    let mut text = format!("| {service}: {point} |");
    for (heading, _) in &columns {
        let _ = write!(text, " {heading} |");
    }
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(columns.len()));
    text.push('\n');
    for (point, cost) in costs {
        let _ = write!(text, "| {point} |");
        for (_, of) in &columns {
            let _ = write!(text, " {} |", figure(of(cost)));
        }
        text.push('\n');
    }
    if let (Some((_, first)), Some((_, last))) = (costs.first_key_value(), costs.last_key_value()) {
        text.push_str("| last to first |");
        for (_, of) in &columns {
            let ratio = of(last).zip(of(first)).map(|(last, first)| last / first);
            let ratio = ratio.filter(|ratio| ratio.is_finite());
            let ratio = ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"));
            let _ = write!(text, " {ratio} |");
        }
        text.push_str("\n\n");
    }
    text
}

/// With three digits that count, or all before the point.
fn figure(value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(value) if value >= 99.95 => format!("{value:.0}"),
        Some(value) if value >= 9.995 => format!("{value:.1}"),
        Some(value) => format!("{value:.2}"),
    }
}

/// A document with its part between the marks replaced.
pub fn into_document(document: &str, part: &str) -> Result<String> {
    let missing = "the document has no place for the tables";
    let (before, rest) = document.split_once(BEGIN).context(missing)?;
    let (_, after) = rest.split_once(END).context(missing)?;
    Ok(format!("{before}{BEGIN}{part}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trials::scale::results::tests::costs;

    #[test]
    fn a_table_has_each_point_and_the_ratio() {
        let measured = Measured {
            processor: costs(&[(1, 100.0), (2, 150.0)]),
            ..Measured::default()
        };
        let results = Results([(THREADS.to_owned(), measured)].into());
        let text = markdown(&results, "plots");
        let expected = "\n#### Threads\n\n\
            ![threads of ingest, workers of the processor](plots/scale-threads.svg)\n\n\
            | processor: workers | thousand instructions | CPU µs | million instructions a second by the clock \
            | waits per thousand | peak MiB |\n\
            |---|---|---|---|---|---|\n\
            | 1 | 100 | 10.0 | 2.00 | 12.0 | 40.0 |\n\
            | 2 | 150 | 15.0 | 2.00 | 12.0 | 40.0 |\n\
            | last to first | 1.50 | 1.50 | 1.00 | 1.00 | 1.00 |\n\n\
            Measured in 0 s.\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_document_keeps_all_but_its_part() {
        let document = format!("# A\n{BEGIN}old\n{END}\n# B\n");
        let new = into_document(&document, "new\n").expect("a place");
        assert_eq!(new, format!("# A\n{BEGIN}new\n\n{END}\n# B\n"));
        assert!(into_document("# A\n", "new").is_err());
    }
}
