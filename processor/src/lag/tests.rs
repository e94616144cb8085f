use std::cell::{Cell, RefCell};

use sluice_service::admin::Readiness;
use sluice_service::kafka::clocks::Clocks;

use super::*;

/// Raw in memory: by partition the first and the next offset, and when every record was appended.
#[derive(Default)]
struct Log {
    bounds: RefCell<BTreeMap<i32, (i64, i64)>>,
    appended_ms: Cell<Option<i64>>,
    now_ms: Cell<i64>,
    is_away: Cell<bool>,
    reads: RefCell<Vec<BTreeMap<i32, i64>>>,
}

impl RawLog for Log {
    fn bounds(&self, partitions: &[i32]) -> Result<BTreeMap<i32, (i64, i64)>, BrokerUnavailable> {
        if self.is_away.get() {
            return Err(BrokerUnavailable("away".to_owned()));
        }
        let bounds = self.bounds.borrow();
        let known = partitions
            .iter()
            .filter_map(|one| Some((*one, *bounds.get(one)?)));
        Ok(known.collect())
    }

    fn appended(&self, at: &BTreeMap<i32, i64>) -> Result<BTreeMap<i32, i64>, BrokerUnavailable> {
        self.reads.borrow_mut().push(at.clone());
        let Some(ms) = self.appended_ms.get() else {
            return Ok(BTreeMap::new());
        };
        Ok(at.keys().map(|partition| (*partition, ms)).collect())
    }

    fn leaders(&self) -> Result<BTreeMap<i32, i32>, BrokerUnavailable> {
        Ok(BTreeMap::new())
    }

    fn wall_ms(&self) -> i64 {
        self.now_ms.get()
    }
}

struct World {
    registry: Registry,
    positions: Arc<Positions>,
    measure: Measure<Log>,
}

impl World {
    fn new(bounds: &[(i32, (i64, i64))]) -> Self {
        let mut registry = Registry::default();
        let positions = Arc::new(Positions::default());
        let log = Log {
            bounds: RefCell::new(bounds.iter().copied().collect()),
            now_ms: Cell::new(100_000),
            ..Log::default()
        };
        let measure = Measure {
            lag: RawLag::new(&mut registry),
            log,
            positions: Arc::clone(&positions),
            behind: BTreeMap::new(),
            shown: BTreeSet::new(),
        };
        Self {
            registry,
            positions,
            measure,
        }
    }

    /// Measures at a time; by partition records and seconds.
    fn at(&mut self, now_ms: i64) -> BTreeMap<i32, (i64, f64)> {
        self.measure.log.now_ms.set(now_ms);
        self.measure.turn();
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).expect("text");
        let value = |metric: &str, partition: i32| {
            let start = format!("{metric}{{partition=\"{partition}\"}} ");
            let line = text.lines().find_map(|line| line.strip_prefix(&start));
            line.map(str::to_owned)
        };
        let read = |partition| {
            let records = value("sluice_raw_lag_records", partition);
            let seconds = value("sluice_raw_lag_seconds", partition);
            assert_eq!(records.is_some(), seconds.is_some(), "{partition}: {text}");
            let records = records?.parse().expect("a number");
            let seconds = seconds?.parse().expect("a number");
            Some((partition, (records, seconds)))
        };
        (0..9).filter_map(read).collect()
    }
}

#[test]
fn owned_partitions_alone_have_a_lag() {
    let mut world = World::new(&[(0, (0, 10)), (1, (0, 10)), (2, (0, 10))]);
    assert!(world.at(100_000).is_empty());
    world.positions.set(0, 10);
    world.positions.set(1, 4);
    world.measure.log.appended_ms.set(Some(70_000));
    let lag = world.at(100_000);
    assert_eq!(lag, BTreeMap::from([(0, (0, 0.0)), (1, (6, 30.0))]));
    world.positions.remove(1);
    assert_eq!(world.at(105_000), BTreeMap::from([(0, (0, 0.0))]));
    world.positions.remove(0);
    assert!(world.at(110_000).is_empty());
}

#[test]
fn a_record_is_read_once() {
    let mut world = World::new(&[(0, (0, 10))]);
    world.measure.log.appended_ms.set(Some(90_000));
    world.positions.set(0, 4);
    assert_eq!(world.at(100_000)[&0], (6, 10.0));
    assert_eq!(world.at(105_000)[&0], (6, 15.0));
    world.measure.log.appended_ms.set(Some(104_000));
    world.positions.set(0, 9);
    assert_eq!(world.at(110_000)[&0], (1, 6.0));
    let reads = [(0, 4), (0, 9)].map(|at| BTreeMap::from([at]));
    assert_eq!(*world.measure.log.reads.borrow(), reads);
}

#[test]
fn a_record_that_cannot_be_read_gets_older_all_the_same() {
    let mut world = World::new(&[(0, (0, 10))]);
    world.positions.set(0, 4);
    assert_eq!(world.at(100_000)[&0], (6, 0.0), "seen for the first time");
    assert_eq!(world.at(105_000)[&0], (6, 5.0));
    world.measure.log.appended_ms.set(Some(95_000));
    assert_eq!(world.at(110_000)[&0], (6, 15.0), "read");
    world.measure.log.appended_ms.set(None);
    world.positions.set(0, 6);
    assert_eq!(
        world.at(115_000)[&0],
        (4, 20.0),
        "as if by the last that was read"
    );
    world.positions.set(0, 10);
    assert_eq!(world.at(120_000)[&0], (0, 0.0));
    world.measure.log.bounds.borrow_mut().insert(0, (0, 11));
    assert_eq!(world.at(125_000)[&0], (1, 0.0), "another lag");
}

#[test]
fn without_an_answer_values_stay_and_the_oldest_record_gets_older() {
    let mut world = World::new(&[(0, (0, 10)), (1, (0, 10))]);
    world.measure.log.appended_ms.set(Some(95_000));
    world.positions.set(0, 4);
    world.positions.set(1, 10);
    world.at(100_000);
    world.measure.log.is_away.set(true);
    world.positions.set(2, 5);
    let lag = world.at(120_000);
    assert_eq!(lag, BTreeMap::from([(0, (6, 25.0)), (1, (0, 0.0))]));
    // What was committed since may have been all of it: nobody knows.
    world.positions.set(0, 9);
    assert_eq!(world.at(130_000)[&0], (6, 25.0));
    world.positions.remove(0);
    assert_eq!(world.at(140_000), BTreeMap::from([(1, (0, 0.0))]));
}

#[test]
fn what_retention_took_is_no_lag_and_clocks_that_differ_give_no_negative_age() {
    let mut world = World::new(&[(0, (7, 10)), (1, (7, 7)), (2, (0, 3))]);
    world.measure.log.appended_ms.set(Some(101_000));
    world.positions.set(0, 4);
    world.positions.set(1, 4);
    // A leader that has just changed may know less than what was committed.
    world.positions.set(2, 5);
    let lag = world.at(100_000);
    let expected = BTreeMap::from([(0, (3, 0.0)), (1, (0, 0.0)), (2, (0, 0.0))]);
    assert_eq!(lag, expected);
    assert_eq!(
        world.measure.log.reads.borrow()[0],
        BTreeMap::from([(0, 7)])
    );
}

#[test]
fn the_thread_ends_with_its_guard() {
    struct Never;
    impl RawLog for Never {
        fn bounds(&self, _: &[i32]) -> Result<BTreeMap<i32, (i64, i64)>, BrokerUnavailable> {
            Ok(BTreeMap::new())
        }
        fn appended(
            &self,
            _: &BTreeMap<i32, i64>,
        ) -> Result<BTreeMap<i32, i64>, BrokerUnavailable> {
            Ok(BTreeMap::new())
        }
        fn leaders(&self) -> Result<BTreeMap<i32, i32>, BrokerUnavailable> {
            Err(BrokerUnavailable("away".to_owned()))
        }

        fn wall_ms(&self) -> i64 {
            0
        }
    }
    let positions = Arc::new(Positions::default());
    let clocks = ComparesClocks::new(Clocks::default(), Readiness::default());
    let measuring = RawLag::default().measure(Never, Arc::clone(&positions), clocks);
    drop(measuring.expect("a thread"));
    while Arc::strong_count(&positions) > 1 {
        thread::yield_now();
    }
}
