//! Instructions of a service under callgrind, which counts the same on a busy machine: from a moment on, and
//! until another. What the kernel does for the service is not counted.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use sluice_tests::harness::deployment::Site;
use sluice_tests::harness::janitor;
use sluice_tests::harness::process::Service;

/// Where callgrind writes.
pub struct Counted {
    file: PathBuf,
    /// The program that speaks to a running valgrind.
    vgdb: PathBuf,
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
        Ok(Self { file, vgdb })
    }

    /// Counts from now on.
    pub fn begin(&self, service: &Service) -> Result<()> {
        self.order(service, &["instrumentation", "on"])
    }

    /// What was counted since the beginning. The counts of each function stay in a file that
    /// `callgrind_annotate` shows.
    pub fn end(&self, service: &Service, kept: &Path) -> Result<u64> {
        self.order(service, &["dump"])?;
        let file = self.file.with_extension("1");
        let text = std::fs::read_to_string(&file).context("callgrind wrote nothing")?;
        std::fs::write(kept, &text)?;
        total(&text)
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

/// The sum of a file of callgrind.
fn total(text: &str) -> Result<u64> {
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    Ok(total.context("callgrind wrote no totals")?.trim().parse()?)
}

#[cfg(test)]
mod tests {
    use super::total;

    #[test]
    fn the_total_of_a_dump_is_read() {
        assert_eq!(
            total("version: 1\nfn=(1) a\n12 5\ntotals: 123456\n").expect("totals"),
            123_456
        );
        assert!(total("version: 1\n").is_err());
    }
}
