//! The watcher by its looks: times are given, nothing is waited for.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;

/// A directory that goes when the test ends.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sluice-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a temporary directory");
        Self(path)
    }

    fn write(&self, yaml: &str) {
        fs::write(self.0.join("settings.yaml"), yaml).expect("a temporary file");
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn yaml(sources: &[&str], rest: &str) -> String {
    let sources: Vec<String> = sources
        .iter()
        .map(|name| format!("{name}: {{provider: flock, secrets: [x]}}"))
        .collect();
    let sources = sources.join(", ");
    format!("kafka: {{bootstrap_servers: b}}\nsources: {{{sources}}}\n{rest}\n")
}

/// A watcher, and what it handed on.
struct Bench {
    watcher: Watcher,
    outlook: Outlook,
    applied: Vec<Vec<String>>,
    now: Instant,
    refuse: Option<Refused>,
}

impl Bench {
    fn new(dir: &Dir) -> Self {
        let settings = crate::settings::load(&dir.0.join("settings.yaml")).expect("good settings");
        let part = Part::Processor;
        let (watcher, outlook) = Watcher::new(Arc::new(settings), part, &mut Registry::default());
        Self {
            watcher,
            outlook,
            applied: Vec::new(),
            now: Instant::now(),
            refuse: None,
        }
    }

    /// One look after a wait; the wait that it asks for.
    fn look(&mut self, after: Duration) -> Duration {
        self.now += after;
        let (applied, refuse) = (&mut self.applied, &self.refuse);
        let mut apply = |settings: &Arc<Settings>| {
            if let Some(refused) = refuse {
                return Err(refused.clone());
            }
            applied.push(settings.sources.keys().cloned().collect());
            Ok(())
        };
        self.watcher.look(self.now, &mut apply)
    }

    /// Both looks that a change takes.
    fn settle(&mut self) {
        self.look(LOOK);
        self.look(SETTLE);
    }

    fn stands(&self) -> (u64, i64) {
        let metrics = &self.watcher.metrics;
        (metrics.failures.get(), metrics.in_force.get())
    }
}

#[test]
fn a_change_is_in_force_when_it_has_stood_for_a_while() {
    let dir = Dir::new("reload-change");
    dir.write(&yaml(&["a"], ""));
    let mut bench = Bench::new(&dir);
    assert_eq!(bench.look(LOOK), LOOK);
    assert!(!bench.outlook.has_news() && bench.applied.is_empty());

    // Half of a file, which happens to be good settings.
    dir.write(&yaml(&["b"], ""));
    assert_eq!(bench.look(LOOK), SETTLE);
    assert!(bench.outlook.has_news());
    dir.write(&yaml(&["b", "c"], ""));
    assert_eq!(bench.look(SETTLE), SETTLE);
    // Being poked does not make it stand longer.
    let left = bench.look(SETTLE / 5);
    assert_eq!(left, SETTLE / 5 * 4);
    assert!(bench.applied.is_empty());
    assert_eq!(bench.look(left), LOOK);
    assert_eq!(bench.applied, [["b", "c"]]);
    assert!(!bench.outlook.has_news());
    bench.look(AGAIN);
    assert_eq!(bench.applied.len(), 1);
    assert_eq!(bench.stands(), (0, 1));
}

#[test]
fn a_bad_file_changes_nothing_and_is_tried_again() {
    let dir = Dir::new("reload-bad");
    dir.write(&yaml(&["a"], ""));
    let mut bench = Bench::new(&dir);
    for bad in [
        "",
        "sources: [",
        "kafka: {bootstrap_servers: b}\nsources: {}",
    ] {
        dir.write(bad);
        bench.settle();
        assert!(!bench.outlook.has_news(), "it is judged: {bad}");
    }
    fs::remove_file(dir.0.join("settings.yaml")).expect("it was there");
    bench.settle();
    assert_eq!(bench.stands(), (4, 0));
    assert_eq!(bench.watcher.in_force.sources.len(), 1);

    // Good by itself, but whoever puts it in force lacks something.
    bench.refuse = Some(Refused::Faults(Vec::new()));
    dir.write(&yaml(&["a", "b"], ""));
    bench.settle();
    bench.look(LOOK);
    assert_eq!(bench.stands(), (5, 0));
    bench.refuse = None;
    bench.look(AGAIN);
    assert_eq!(bench.applied, [["a", "b"]]);
    assert_eq!(bench.stands(), (5, 1));
}

#[test]
fn who_does_not_answer_is_waited_for_but_not_for_ever() {
    let dir = Dir::new("reload-later");
    dir.write(&yaml(&["a"], ""));
    let mut bench = Bench::new(&dir);
    bench.refuse = Some(Refused::Later("away".to_owned()));
    dir.write(&yaml(&["b"], ""));
    bench.settle();
    assert!(bench.outlook.has_news(), "records of b are held back");
    bench.look(PATIENCE);
    assert!(!bench.outlook.has_news(), "no longer");
    assert_eq!(bench.stands(), (0, 0));
    bench.refuse = None;
    bench.look(LOOK);
    assert_eq!(bench.applied, [["b"]]);
    assert_eq!(bench.stands(), (0, 1));
}

#[test]
fn what_needs_a_restart_waits_and_the_rest_is_applied() {
    let dir = Dir::new("reload-restart");
    dir.write(&yaml(&["a"], ""));
    let mut bench = Bench::new(&dir);
    dir.write(&yaml(
        &["a", "b"],
        "processor: {workers: 7, cloudevents_headers: false}\ningest: {listen: '0.0.0.0:1'}",
    ));
    bench.settle();
    assert_eq!(bench.applied, [["a", "b"]]);
    // Ingest's part is no matter of the processor's.
    assert_eq!(bench.stands(), (0, 0));
    let processor = &bench.watcher.in_force.processor;
    assert_eq!(
        (processor.workers, processor.cloudevents_headers),
        (1, false)
    );
    dir.write(&yaml(&["a"], ""));
    bench.settle();
    assert_eq!(bench.stands(), (0, 1));
}

#[test]
fn a_directory_swapped_by_symlink_is_seen() {
    let dir = Dir::new("reload-symlink");
    let swap = |version: &str, content: &str| {
        let path = dir.0.join(version);
        fs::create_dir(&path).expect("a new directory");
        fs::write(path.join("settings.yaml"), content).expect("a file");
        symlink(version, dir.0.join("..next")).expect("a link");
        fs::rename(dir.0.join("..next"), dir.0.join("..data")).expect("an atomic swap");
    };
    swap("..1", &yaml(&["a"], ""));
    symlink("..data/settings.yaml", dir.0.join("settings.yaml")).expect("a link");
    let mut bench = Bench::new(&dir);
    swap("..2", &yaml(&["b"], ""));
    bench.settle();
    assert_eq!(bench.applied, [["b"]]);
}

#[test]
fn the_thread_looks_when_it_is_asked_to_and_ends() {
    let dir = Dir::new("reload-thread");
    dir.write(&yaml(&["a"], ""));
    let Bench {
        watcher, outlook, ..
    } = Bench::new(&dir);
    let (applied, seen) = std::sync::mpsc::channel();
    watcher.spawn(move |settings| {
        // The test may have ended.
        let _ = applied.send(settings.sources.len());
        Ok(())
    });
    dir.write(&yaml(&["a", "b"], ""));
    assert!(outlook.has_news());
    let patience = Duration::from_secs(30);
    assert_eq!(seen.recv_timeout(patience), Ok(2));
    drop(outlook);
    let ended = seen.recv_timeout(patience);
    assert_eq!(ended, Err(RecvTimeoutError::Disconnected));
}
