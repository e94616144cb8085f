//! Instructions of a service under callgrind, which counts the same on a busy machine: from a moment on, and
//! until another. What the kernel does for the service is not counted.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use sluice_tests::harness::deployment::Site;
use sluice_tests::harness::janitor;
use sluice_tests::harness::process::Service;

/// Where callgrind writes.
pub struct Counted {
    file: PathBuf,
    /// The program that speaks to a running valgrind.
    vgdb: PathBuf,
    since: Cell<Option<Instant>>,
}

impl Counted {
    /// Has the site's next services run under callgrind, of the valgrind that was unpacked into a folder;
    /// none: the system's. It counts nothing yet, so that a start is quick.
    pub fn on(site: &mut Site, valgrind: Option<&Path>) -> Result<Self> {
        let file = janitor::folder("callgrind")?.join("counts");
        let output = format!("--callgrind-out-file={}", file.display());
        let (program, vgdb) = match valgrind {
            None => (vec!["valgrind".to_owned()], PathBuf::from("vgdb")),
            Some(usr) => {
                let library = usr.join("libexec/valgrind");
                let program = usr.join("bin/valgrind.bin");
                let set = format!("VALGRIND_LIB={}", library.display());
                let program = vec!["env".to_owned(), set, program.display().to_string()];
                (program, usr.join("bin/vgdb"))
            }
        };
        let own = [
            "--tool=callgrind",
            "--fair-sched=yes",
            "--quiet",
            "--instr-atstart=no",
            &output,
        ];
        site.under = program;
        site.under.extend(own.map(str::to_owned));
        Ok(Self {
            file,
            vgdb,
            since: Cell::new(None),
        })
    }

    /// Counts from now on.
    pub fn begin(&self, service: &Service) -> Result<()> {
        self.order(service, &["instrumentation", "on"])?;
        self.since.set(Some(Instant::now()));
        Ok(())
    }

    /// What was counted since the beginning. The counts of each function stay in a file that
    /// `callgrind_annotate` shows.
    pub fn end(&self, service: &Service, kept: &Path) -> Result<Counts> {
        let seconds = self
            .since
            .get()
            .map_or(0.0, |since| since.elapsed().as_secs_f64());
        self.order(service, &["dump"])?;
        let file = self.file.with_extension("1");
        let text = std::fs::read_to_string(&file).context("callgrind wrote nothing")?;
        std::fs::write(kept, &text)?;
        Counts::of(&text, seconds)
    }

    fn order(&self, service: &Service, words: &[&str]) -> Result<()> {
        let output = Command::new(&self.vgdb)
            .arg(format!("--pid={}", service.id()))
            .args(words)
            .output()
            .with_context(|| format!("cannot start {}", self.vgdb.display()))?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "vgdb {words:?}: {error}");
        Ok(())
    }
}

/// What is called by the clock and not by requests or records, in functions that do not call each other: the
/// client's timers (its statistics most of all), our reading of these statistics, and the processor's
/// question how far the topics of fates are visible.
const BY_THE_CLOCK: [&str; 3] = [
    "rd_kafka_timers_run",
    "Statistics::take",
    "LogReader::offsets",
];

/// Instructions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Counts {
    /// But those by the clock: a process under callgrind is some fifty times slower, and the clock is not.
    pub by_work: f64,
    /// Those that would come in each second of a process at its own pace too.
    pub a_second: f64,
}

impl Counts {
    /// Of a file of callgrind, whose function names stand where they come first, behind a number.
    fn of(text: &str, seconds: f64) -> Result<Self> {
        let mut clocked = BTreeSet::new();
        let (mut total, mut by_clock) = (None, 0);
        let mut is_clocked = false;
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(name) = line.strip_prefix("fn=").or(line.strip_prefix("cfn=")) {
                let (number, name) = name.split_once(' ').unwrap_or((name, ""));
                if BY_THE_CLOCK.iter().any(|clocked| name.ends_with(clocked)) {
                    clocked.insert(number);
                }
                is_clocked = clocked.contains(number);
            } else if line.starts_with("calls=") {
                // The line after it has what the calls took, all in all.
                let taken = lines.next().and_then(|line| line.split(' ').next_back());
                if is_clocked {
                    by_clock += taken.map_or(Ok(0), str::parse::<u64>)?;
                }
            } else if let Some(sum) = line.strip_prefix("totals: ") {
                total = Some(sum.trim().parse::<u64>()?);
            }
        }
        let total = total.context("callgrind wrote no totals")?;
        Ok(Self {
            by_work: number(total.saturating_sub(by_clock)),
            a_second: number(by_clock) / seconds,
        })
    }
}

/// A count.
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
pub fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::Counts;

    #[test]
    fn what_the_clock_calls_is_counted_apart() {
        let text = "version: 1\nfn=(1) rd_kafka_thread_main\n12 5\ncfi=(3)\n\
            cfn=(7) rd_kafka_timers_run\ncalls=4 0\n+3 1000\n\
            cfn=(8) a::other\ncalls=1 0\n* 77\n\nfn=(9) main\n1 2\ncfn=(7)\ncalls=1 5\n* 234\n\
            fn=(7)\n5 1234\ntotals: 123456\n";
        let counts = Counts::of(text, 2.0).expect("counts");
        assert!((counts.by_work - 122_222.0).abs() < 1e-9, "{counts:?}");
        assert!((counts.a_second - 617.0).abs() < 1e-9, "{counts:?}");
        assert!(Counts::of("version: 1\n", 1.0).is_err());
    }
}
