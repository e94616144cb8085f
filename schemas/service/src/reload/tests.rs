//! The watcher by its polls: the tests give the times and wait for nothing.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;

/// A directory that is removed when the test ends.
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

/// A watcher, and what it applied.
struct Bench {
    watcher: Watcher,
    probe: SettingsProbe,
    applied: Vec<Vec<String>>,
    now: Instant,
    refuse: Option<ApplyError>,
}

impl Bench {
    fn new(dir: &Dir) -> Self {
        let settings = crate::settings::load(&dir.0.join("settings.yaml")).expect("good settings");
        let part = Part::Processor;
        let (watcher, probe) = Watcher::new(Arc::new(settings), part, &mut Registry::default());
        Self {
            watcher,
            probe,
            applied: Vec::new(),
            now: Instant::now(),
            refuse: None,
        }
    }

    /// One poll after a wait; the wait until the next.
    fn poll(&mut self, after: Duration) -> Duration {
        self.now += after;
        let (applied, refuse) = (&mut self.applied, &self.refuse);
        let mut apply = |settings: &Arc<Settings>| {
            if let Some(error) = refuse {
                return Err(error.clone());
            }
            applied.push(settings.sources.keys().cloned().collect());
            Ok(())
        };
        self.watcher.file.poll(self.now, &mut apply)
    }

    /// Both polls that a change takes.
    fn settle(&mut self) {
        self.poll(POLL_INTERVAL);
        self.poll(SETTLE);
    }

    fn counted(&self) -> (u64, i64) {
        let metrics = &self.watcher.file.metrics;
        (metrics.failures.get(), metrics.in_force.get())
    }
}

#[test]
fn a_change_is_in_force_once_it_has_settled() {
    let dir = Dir::new("reload-change");
    dir.write(&yaml(&["a"], ""));
    let mut bench = Bench::new(&dir);
    assert_eq!(bench.poll(POLL_INTERVAL), POLL_INTERVAL);
    assert!(!bench.probe.has_pending_change() && bench.applied.is_empty());

    // Half of a file, which happens to be good settings.
    dir.write(&yaml(&["b"], ""));
    assert_eq!(bench.poll(POLL_INTERVAL), SETTLE);
    assert!(bench.probe.has_pending_change());
    dir.write(&yaml(&["b", "c"], ""));
    assert_eq!(bench.poll(SETTLE), SETTLE);
    // An early poll does not make it settle sooner or later.
    let left = bench.poll(SETTLE / 5);
    assert_eq!(left, SETTLE / 5 * 4);
    assert!(bench.applied.is_empty());
    assert_eq!(bench.poll(left), POLL_INTERVAL);
    assert_eq!(bench.applied, [["b", "c"]]);
    assert!(!bench.probe.has_pending_change());
    bench.poll(RETRY_DELAY);
    assert_eq!(bench.applied.len(), 1);
    assert_eq!(bench.counted(), (0, 1));
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
        assert!(!bench.probe.has_pending_change(), "it is judged: {bad}");
    }
    fs::remove_file(dir.0.join("settings.yaml")).expect("it was there");
    bench.settle();
    assert_eq!(bench.counted(), (4, 0));
    assert_eq!(bench.watcher.file.in_force.sources.len(), 1);

    // Good by itself, but the service that applies it lacks something.
    bench.refuse = Some(ApplyError::Faults(Vec::new()));
    dir.write(&yaml(&["a", "b"], ""));
    bench.settle();
    bench.poll(POLL_INTERVAL);
    assert_eq!(bench.counted(), (5, 0));
    bench.refuse = None;
    bench.poll(RETRY_DELAY);
    assert_eq!(bench.applied, [["a", "b"]]);
    assert_eq!(bench.counted(), (5, 1));
}

#[test]
fn the_settings_in_force_are_restored_and_not_applied_again() {
    let dir = Dir::new("reload-restored");
    let (good, bad) = (yaml(&["a"], ""), "sources: [");
    dir.write(&good);
    let mut bench = Bench::new(&dir);
    dir.write(bad);
    bench.settle();
    assert_eq!(bench.counted(), (1, 0));
    dir.write(&good);
    assert_eq!(bench.poll(POLL_INTERVAL), POLL_INTERVAL);
    assert_eq!(bench.counted(), (1, 1));
    assert!(!bench.probe.has_pending_change() && bench.applied.is_empty());

    // The same after settings that could not be verified, and where some wait for a restart.
    let waiting = yaml(&["a"], "processor: {workers: 7}");
    dir.write(&waiting);
    bench.settle();
    assert_eq!(bench.counted(), (1, 0));
    bench.refuse = Some(ApplyError::Unavailable("away".to_owned()));
    dir.write(&yaml(&["b"], ""));
    bench.settle();
    assert!(bench.probe.has_pending_change());
    dir.write(&waiting);
    bench.poll(POLL_INTERVAL);
    assert!(!bench.probe.has_pending_change());
    assert_eq!((bench.counted(), bench.applied.len()), ((1, 0), 1));
}

#[test]
fn an_unavailable_system_holds_records_back_for_a_bounded_time() {
    let dir = Dir::new("reload-later");
    dir.write(&yaml(&["a"], ""));
    let mut bench = Bench::new(&dir);
    bench.refuse = Some(ApplyError::Unavailable("away".to_owned()));
    dir.write(&yaml(&["b"], ""));
    bench.settle();
    assert!(
        bench.probe.has_pending_change(),
        "records of b are held back"
    );
    bench.poll(UNKNOWN_SOURCE_TIMEOUT);
    assert!(!bench.probe.has_pending_change(), "no longer");
    assert_eq!(bench.counted(), (0, 0));
    bench.refuse = None;
    bench.poll(POLL_INTERVAL);
    assert_eq!(bench.applied, [["b"]]);
    assert_eq!(bench.counted(), (0, 1));
}

#[test]
fn restart_required_settings_wait_and_the_rest_is_applied() {
    let dir = Dir::new("reload-restart");
    dir.write(&yaml(&["a"], ""));
    let mut bench = Bench::new(&dir);
    dir.write(&yaml(
        &["a", "b"],
        "processor: {workers: 7, cloudevents_headers: false}\ningest: {listen: '0.0.0.0:1'}",
    ));
    bench.settle();
    assert_eq!(bench.applied, [["a", "b"]]);
    // The processor ignores ingest's part.
    assert_eq!(bench.counted(), (0, 0));
    let processor = &bench.watcher.file.in_force.processor;
    assert_eq!(
        (processor.workers, processor.cloudevents_headers),
        (1, false)
    );
    dir.write(&yaml(&["a"], ""));
    bench.settle();
    assert_eq!(bench.counted(), (0, 1));
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
fn the_probe_wakes_the_thread_and_its_drop_ends_it() {
    let dir = Dir::new("reload-thread");
    dir.write(&yaml(&["a"], ""));
    let Bench { watcher, probe, .. } = Bench::new(&dir);
    let (applied, seen) = std::sync::mpsc::channel();
    watcher.spawn(move |settings| {
        // The test may have ended.
        let _ = applied.send(settings.sources.len());
        Ok(())
    });
    dir.write(&yaml(&["a", "b"], ""));
    assert!(probe.has_pending_change());
    let patience = Duration::from_secs(30);
    assert_eq!(seen.recv_timeout(patience), Ok(2));
    drop(probe);
    let ended = seen.recv_timeout(patience);
    assert_eq!(ended, Err(std::sync::mpsc::RecvTimeoutError::Disconnected));
}
