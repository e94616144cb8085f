//! Runs in which the dedup indexes have no room: nothing is judged under load, nothing is lost, and it goes
//! on by itself.

use std::collections::BTreeMap;

use sluice_schemas::metric::processor::DEDUP_PAUSES;

use super::super::brokers::Odds;
use super::super::check::{Sums, check_fates};
use super::super::history;
use super::super::state::{MS, SECOND};
use super::{NAMES, PARTITIONS, Run};

/// For how long webhooks come before there is no room.
const FILLING: u64 = 10 * SECOND;

/// What was begun with before there was no room ends within this.
const UNDER_WAY: u64 = 5 * SECOND;

/// For how long webhooks come while there is none.
const PAUSED: u64 = 20 * SECOND;

/// A window of 72 hours, a quarter of it, and the difference of brokers' clocks.
const EXPIRES: u64 = 91 * 3_600 * SECOND;

/// It goes on within this: a look a second and partition, and an end of raw is looked at twice.
const RESUMES: u64 = 60 * SECOND;

/// The partition to which no webhook comes while there is no room.
const QUIET: i32 = 0;

impl Run {
    /// From the start to the verdict. `expires`: room comes of a generation that expires, else of a bound
    /// that is raised; then partitions are also given to other processes meanwhile.
    pub fn without_room(&mut self, expires: bool) -> Result<Sums, String> {
        let memory = std::sync::Arc::clone(&self.site.shared.memory);
        memory.set_bound(None);
        for name in 0..NAMES {
            // Of a process of another run that was killed.
            let condition = format!("worker-{name}-memory");
            self.site.shared.readiness.set(&condition, Ok(()));
        }
        let outcome = self.fill_and_resume(expires);
        memory.set_bound(None);
        outcome?;
        self.world.borrow_mut().odds = Odds::default();
        self.settle()?;
        check_fates(&self.world.borrow(), &self.site, &self.ends)
    }

    fn fill_and_resume(&mut self, expires: bool) -> Result<(), String> {
        let memory = std::sync::Arc::clone(&self.site.shared.memory);
        if !expires {
            self.mix();
        }
        self.load(FILLING, |_| true)?;
        // It holds most, so that room comes of it alone.
        self.load(FILLING, |partition| partition == QUIET)?;
        self.world.borrow_mut().odds = Odds::default();
        self.settle()?;
        let held = self.held()?;
        let said = self.site.shared.readiness.reasons().join("\n");
        if said.contains("-memory:") {
            return Err(format!("there is room, and it says: {said}"));
        }
        // Where partitions move, those that are newly assigned must not be restored either.
        memory.set_bound(Some(if expires { held } else { 1 }));
        self.load(UNDER_WAY, |partition| partition != QUIET)?;
        if !expires {
            self.end(0, "kill -9");
        }
        let before = self.world.borrow().committed.clone();
        let held_before = memory.held();
        self.load(PAUSED, |partition| partition != QUIET)?;
        let now = self.world.borrow().committed.clone();
        if now != before {
            return Err(format!(
                "judged without room: {before:?}, then {now:?}, of {} bytes {} are taken",
                memory.bound().unwrap_or_default(),
                memory.held()
            ));
        }
        // Where nothing was left of them, the first has room.
        if held_before > 0 && memory.held() > held_before {
            return Err(format!(
                "restored without room: {held_before} bytes were taken, then {}",
                memory.held()
            ));
        }
        let said = self.site.shared.readiness.reasons().join("\n");
        if !(0..NAMES)
            .any(|name| said.contains(&format!("worker-{name}-memory: consumption pauses")))
        {
            return Err(format!("it is not ready, and does not say why: {said}"));
        }
        if expires {
            self.world.borrow_mut().now += EXPIRES;
        } else {
            memory.set_bound(None);
        }
        let until = self.world.borrow().now + RESUMES;
        while self.world.borrow().committed == before {
            let now = self.world.borrow().now;
            if now > until {
                let (bound, held) = (memory.bound(), memory.held());
                let said = self.site.shared.readiness.reasons().join("\n");
                return Err(format!(
                    "it does not go on: {held} bytes of {bound:?}\n{said}"
                ));
            }
            self.step(now + SECOND)?;
        }
        Ok(())
    }

    /// What the indexes take. Partitions that have just moved and wait for their first record take nothing.
    fn held(&mut self) -> Result<u64, String> {
        let memory = std::sync::Arc::clone(&self.site.shared.memory);
        for _ in 0..10 {
            if memory.held() > 0 {
                return Ok(memory.held());
            }
            self.load(SECOND, |_| true)?;
        }
        Err("the indexes take nothing".to_owned())
    }

    /// Webhooks come for a time, to the partitions that are wanted.
    fn load(&mut self, time: u64, wanted: impl Fn(i32) -> bool) -> Result<(), String> {
        let until = self.world.borrow().now + time;
        let mut next = 0;
        while self.world.borrow().now < until {
            let now = self.world.borrow().now;
            if now >= next {
                self.receive_on(&wanted);
                next = now + 200 * MS + self.below(SECOND);
            }
            self.step(next.min(until))?;
        }
        Ok(())
    }

    fn receive_on(&mut self, wanted: &impl Fn(i32) -> bool) {
        let world = &mut *self.world.borrow_mut();
        let raw = self.site.shared.settings.topics.names.raw();
        let (partition, record) = loop {
            let (partition, record) = self.site.webhook(&mut world.chance, PARTITIONS);
            if wanted(partition) {
                break (partition, record);
            }
        };
        world.append(&raw, partition, 0, record);
    }
}

#[test]
fn it_does_not_go_on_and_stop_again_for_each_byte_that_is_free() {
    let site = std::rc::Rc::new(super::Site::new(PARTITIONS));
    let memory = std::sync::Arc::clone(&site.shared.memory);
    history::begin(false);
    let mut run = Run::new(0, std::rc::Rc::clone(&site));
    run.alone();
    run.load(FILLING, |_| true).expect("no worker ends");
    run.settle().expect("all is judged");
    let held = run.held().expect("they take something");
    memory.set_bound(Some(held));
    run.load(UNDER_WAY, |_| true).expect("no worker ends");
    let before = run.world.borrow().committed.clone();
    for free in 1..20 {
        memory.set_bound(Some(memory.held() + free));
        run.load(SECOND, |_| true).expect("no worker ends");
        assert!(
            run.world.borrow().committed == before,
            "it goes on for {free} bytes"
        );
    }
    memory.set_bound(Some(held * 2));
    run.load(UNDER_WAY, |_| true).expect("no worker ends");
    assert!(run.world.borrow().committed != before, "it does not go on");
    let said = site.shared.readiness.reasons();
    assert!(said.is_empty(), "{said:?}");
    let mut counted = BTreeMap::new();
    site.add_counted(&mut counted);
    assert_eq!(counted.get(&DEDUP_PAUSES.exposed()), Some(&1.0));
}

/// Each seed in its own way.
#[test]
fn without_room_nothing_is_judged_nothing_is_lost_and_it_goes_on_by_itself() {
    let site = std::rc::Rc::new(super::Site::new(PARTITIONS));
    let mut sums = Sums::default();
    for seed in 0..60u64 {
        let mut run = Run::new(seed * 8, std::rc::Rc::clone(&site));
        history::begin(true);
        let whole = || run.without_room(seed % 2 == 0);
        let outcome = tracing::subscriber::with_default(history::Log, whole);
        let lines = history::end();
        drop(run);
        match outcome {
            Ok(found) => sums.add(found),
            Err(why) => panic!("{lines}\nseed {seed}: {why}"),
        }
    }
    let mut counted = BTreeMap::new();
    site.add_counted(&mut counted);
    let pauses = counted.get(&DEDUP_PAUSES.exposed()).copied();
    println!("{sums:?}, {pauses:?} pauses");
    assert!(pauses.is_some_and(|times| times >= 60.0), "{pauses:?}");
    assert!(sums.events > 0 && sums.duplicates > 0, "{sums:?}");
}
