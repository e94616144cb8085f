//! The report as a person reads it, on standard error.

use super::latency::Latencies;
use super::measure::Compared;

/// A part's points, a line each.
pub fn print_points(title: &str, unit: &str, points: &[Compared]) {
    if points.is_empty() {
        return;
    }
    eprintln!("\n{title}: median (range) of the rounds");
    let head = [
        "bodies",
        "bytes",
        "CPU s/M, floor",
        "CPU s/M, ours",
        "ratio",
        &format!("{unit}, floor"),
        &format!("{unit}, ours"),
        "ratio",
        "MiB",
        "rounds",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(points.iter().map(|point| {
        let (floor, ours) = (&point.floor, &point.ours);
        [
            point.case.provider.to_owned(),
            format!("{:.0}", point.body_bytes),
            format!("{:.1}", floor.cpu_seconds_per_million),
            format!("{:.1}", ours.cpu_seconds_per_million),
            format!("{:.2}", point.cpu_ratio),
            format!("{:.0}", floor.per_second),
            format!("{:.0}", ours.per_second),
            format!("{:.2}", point.rate_ratio),
            format!("{:.0}", ours.peak_mebibytes),
            point.rounds.to_string(),
        ]
    }));
    print(&rows);
}

/// Times, a line each.
pub fn print_latencies(lines: &[(&str, &Latencies)]) {
    if lines.is_empty() {
        return;
    }
    eprintln!("\ntimes from when each request was due, in ms: median (range) of the rounds");
    let head = [
        "from, to",
        "a second",
        "p50, floor",
        "p50, ours",
        "p99, floor",
        "p99, ours",
        "MiB",
        "rounds",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(lines.iter().map(|(name, latencies)| {
        let Latencies { floor, ours, .. } = latencies;
        let memory = latencies.ingest_peak_mebibytes;
        [
            (*name).to_owned(),
            latencies.requests_per_second.to_string(),
            floor.p50_ms.to_string(),
            ours.p50_ms.to_string(),
            floor.p99_ms.to_string(),
            ours.p99_ms.to_string(),
            memory.map_or_else(String::new, |mebibytes| format!("{mebibytes:.0}")),
            latencies.rounds.to_string(),
        ]
    }));
    print(&rows);
}

fn print<const N: usize>(rows: &[[String; N]]) {
    for line in lines(rows) {
        eprintln!("{line}");
    }
}

/// Columns as wide as their widest cell, two spaces apart.
fn lines<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let length = |cell: &String| cell.chars().count();
    let width = |column: usize| rows.iter().map(|row| length(&row[column])).max();
    let widths: Vec<usize> = (0..N).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths);
        let cells = cells.map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other() {
        let rows = [["a", "1 (1–2)", "x"], ["longer", "1", "y"]].map(|row| row.map(str::to_owned));
        assert_eq!(lines(&rows), ["a       1 (1–2)  x", "longer  1        y"]);
    }
}
