//! One run: processes that come, go and stand still, and time that passes between their steps.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use corosensei::CoroutineResult;

use super::brokers::{Odds, World};
use super::chance::Chance;
use super::check::{Sums, check_fates};
use super::history::{self, note};
use super::process::Process;
use super::state::{MS, SECOND};
use super::webhooks::{AT, Site};
use crate::engine::worker::Exit;

mod room;

/// Raw's partitions.
pub const PARTITIONS: i32 = 4;

/// How many names of workers there are.
const NAMES: usize = 3;

/// For how long faults happen.
const TROUBLE: u64 = 40 * SECOND;

/// For how long changed settings are in the file before they are in force.
const PENDING: u64 = 2 * SECOND;

mod settle;

/// A run.
pub struct Run {
    pub world: Rc<RefCell<World>>,
    pub site: Rc<Site>,
    base: Instant,
    pub processes: Vec<Process>,
    /// Names whose process is gone, and when they are started again.
    down: Vec<(u64, usize)>,
    /// Two processes had one name at some time.
    doubled: bool,
    /// When a source is added to the settings, if it is not there from the start.
    added: Option<u64>,
    /// Where raw ended then, by partition: what was judged before did not know the source.
    ends: BTreeMap<i32, i64>,
    /// How often the coordinator drops a marker, in a thousand.
    torn: u64,
    /// Topics are forbidden for some time.
    forbids: bool,
    /// Processes that ended by themselves.
    pub restarts: usize,
}

impl Run {
    pub fn new(seed: u64, site: Rc<Site>) -> Self {
        let added = (seed % 8 == 1).then(|| TROUBLE * (seed % 100) / 100);
        let rules = if added.is_some() {
            &site.before
        } else {
            &site.all
        };
        site.shared.current.replace(Arc::clone(rules));
        site.pending.store(false, Ordering::Relaxed);
        let world = World::new(Chance::new(seed), PARTITIONS, AT * 1000);
        Self {
            world: Rc::new(RefCell::new(world)),
            site,
            base: Instant::now(),
            processes: Vec::new(),
            down: (0..NAMES).map(|name| (0, name)).collect(),
            doubled: false,
            added,
            ends: BTreeMap::new(),
            forbids: seed % 8 == 5,
            restarts: 0,
            // In one of four seeds brokers drop markers, seldom or often.
            torn: if seed % 4 == 3 {
                [30, 150, 500][usize::try_from(seed / 4 % 3).expect("small")]
            } else {
                0
            },
        }
    }

    fn below(&self, bound: u64) -> u64 {
        self.world.borrow_mut().chance.below(bound)
    }

    /// Each seed has its own mixture of faults: half of the kinds, each often or seldom.
    fn mix(&self) {
        let world = &mut *self.world.borrow_mut();
        let chance = &mut world.chance;
        let mut odds = |most: u64| match chance.below(4) {
            0 | 1 => 0,
            2 => 1 + most / 10,
            _ => most,
        };
        world.odds = Odds {
            slow: odds(50),
            unanswered: odds(200),
            lost: odds(200),
            send: odds(20),
            late_markers: odds(300),
            leader: odds(5),
            late_reset: odds(500),
            give_back: odds(50),
            fatal: odds(1),
            suspect: odds(50),
            clocks: odds(1) > 0,
            torn: self.torn,
        };
    }

    pub fn start(&mut self, name: usize) {
        let records = 1 + usize::try_from(self.below(8)).expect("small");
        let process = Process::start(name, records, &self.site, &self.world, self.base);
        note(|| format!("worker-{name} starts"));
        self.processes.push(process);
    }

    /// The end of a process, by its own will or not.
    fn end(&mut self, at: usize, why: &str) {
        let process = self.processes.swap_remove(at);
        let name = process.name;
        note(|| format!("worker-{name} ends: {why}"));
        let held = Rc::clone(&process.held);
        // What is on the stacks is dropped here; requests on their way arrive or do not.
        drop(process);
        for member in &held.borrow().members {
            self.world.borrow_mut().leave(*member, false);
        }
        let now = self.world.borrow().now;
        let again = now + self.below(3 * SECOND);
        let alone = self.processes.iter().all(|other| other.name != name);
        if alone {
            self.down.push((again, name));
        }
    }

    /// Of all names one is started alone.
    pub fn alone(&mut self) {
        self.down.truncate(1);
    }

    pub fn freeze(&mut self, at: usize, frozen: bool) {
        let process = &mut self.processes[at];
        process.frozen = frozen;
        let world = &mut *self.world.borrow_mut();
        let name = process.name;
        note(|| format!("worker-{name} stands still: {frozen}"));
        let now = world.now;
        let held = process.held.borrow();
        for client in &held.clients {
            if let Some(client) = world.clients.get_mut(client) {
                client.frozen = frozen;
            }
        }
        world.due = 0;
        for member in &held.members {
            if let Some(member) = world.members.get_mut(member) {
                member.frozen_since = frozen.then_some(now);
                if member.removed && !frozen {
                    member.removal_known = member.removal_known.max(now + 500 * MS);
                }
            }
        }
    }

    /// Something that happens to a process.
    fn happen(&mut self) {
        if self.processes.is_empty() {
            return;
        }
        let at = usize::try_from(self.below(self.processes.len() as u64)).expect("small");
        match self.below(10) {
            0..=2 => self.end(at, "kill -9"),
            3 | 4 => {
                let frozen = self.processes[at].frozen;
                self.freeze(at, !frozen);
            }
            5 => {
                let name = self.processes[at].name;
                if self
                    .processes
                    .iter()
                    .filter(|other| other.name == name)
                    .count()
                    < 2
                {
                    self.doubled = true;
                    self.start(name);
                }
            }
            6 => {
                // Webhooks come again after their windows, of 72 hours, are over.
                let hours = self.below(50);
                note(|| format!("{hours} hours pass on the brokers' clocks"));
                self.world.borrow_mut().pass(hours);
            }
            7 if self.forbids => self.world.borrow_mut().forbid_or_allow(),
            _ => self.world.borrow_mut().rebalance(),
        }
    }

    /// Lets one thread go on that wants to; else time passes. `until` bounds that.
    pub fn step(&mut self, until: u64) -> Result<(), String> {
        let now = self.world.borrow().now;
        history::at(now, || "brokers".to_owned());
        self.world.borrow_mut().tick();
        let due: Vec<usize> = self
            .down
            .iter()
            .filter(|(at, _)| *at <= now)
            .map(|(_, name)| *name)
            .collect();
        self.down.retain(|(at, _)| *at > now);
        for name in due {
            self.start(name);
        }
        let mut ready = Vec::new();
        let mut next = until;
        for (at, process) in self.processes.iter().enumerate() {
            if process.frozen {
                continue;
            }
            for (which, thread) in process.threads.iter().enumerate() {
                let (_, wake) = thread;
                if *wake <= now {
                    ready.push((at, which));
                } else {
                    next = next.min(*wake);
                }
            }
        }
        if ready.is_empty() {
            let world = &mut *self.world.borrow_mut();
            world.now = next.min(world.due).max(now + 1);
            return Ok(());
        }
        let leader = self.world.borrow().odds.leader;
        let (at, which) = ready[usize::try_from(self.below(ready.len() as u64)).expect("small")];
        let pass = self.below(50);
        if self.world.borrow_mut().chance.in_thousand(leader) {
            self.world.borrow_mut().elect();
        }
        self.world.borrow_mut().now += pass;
        let name = self.processes[at].name;
        history::at(now + pass, || {
            format!("{name}{}", if which == 0 { "" } else { " restorer" })
        });
        let (coroutine, wake) = &mut self.processes[at].threads[which];
        match coroutine.resume(()) {
            CoroutineResult::Yield(time) => *wake = time,
            CoroutineResult::Return(exit) => {
                let name = self.processes[at].name;
                if exit == Exit::Shutdown {
                    return Err(format!("worker-{name} ended without being asked to"));
                }
                self.restarts += 1;
                self.end(at, &format!("{exit:?}"));
            }
        }
        Ok(())
    }

    /// The source that is not there yet is added.
    fn add_source(&mut self) {
        note(|| "a source is added".to_owned());
        self.added = None;
        self.site.shared.current.replace(Arc::clone(&self.site.all));
        self.site.pending.store(false, Ordering::Relaxed);
        let raw = self.site.shared.settings.topics.names.raw();
        let logs = &self.world.borrow().logs;
        let ends = logs.iter().filter(|((topic, _), _)| *topic == raw);
        self.ends = ends
            .map(|((_, partition), log)| (*partition, log.end))
            .collect();
    }

    /// New webhooks on raw, now and then.
    pub fn receive(&mut self) {
        let world = &mut *self.world.borrow_mut();
        let (partition, record) = self.site.webhook(&mut world.chance, PARTITIONS);
        let gap = if world.chance.in_thousand(100) { 2 } else { 0 };
        let raw = self.site.shared.settings.topics.names.raw();
        world.append(&raw, partition, gap, record);
    }

    /// Whether all of raw is committed and nothing is open.
    pub fn is_quiet(&self) -> bool {
        let world = self.world.borrow();
        let raw = self.site.shared.settings.topics.names.raw();
        let caught_up = world.logs.iter().all(|((topic, partition), log)| {
            *topic != raw || world.committed.get(partition).copied().unwrap_or(0) >= log.end
        });
        caught_up && world.is_settled_everywhere()
    }

    /// From the start to the verdict.
    pub fn whole(&mut self) -> Result<Sums, String> {
        self.trouble()?;
        if self.added.is_some() {
            self.add_source();
        }
        self.heal();
        self.settle()?;
        if let Some(why) = history::called_the_operator() {
            return Err(why);
        }
        check_fates(&self.world.borrow(), &self.site, &self.ends)
    }

    /// Webhooks come, and faults happen.
    fn trouble(&mut self) -> Result<(), String> {
        self.mix();
        let every = 500 * MS + self.below(12 * SECOND);
        let webhooks = 10 + self.below(40);
        let mut received = 0;
        let mut next_webhook = self.below(SECOND);
        let mut next_happening = self.below(every * 2);
        loop {
            let now = self.world.borrow().now;
            if now >= TROUBLE {
                break;
            }
            if self.added.is_some_and(|added| now + PENDING >= added) {
                self.site.pending.store(true, Ordering::Relaxed);
            }
            if self.added.is_some_and(|added| now >= added) {
                self.add_source();
            }
            if now >= next_webhook {
                received += 1;
                self.receive();
                next_webhook = now + self.below(2 * TROUBLE / webhooks);
                if received == webhooks {
                    next_webhook = u64::MAX;
                }
            }
            if now >= next_happening {
                self.happen();
                next_happening = now + self.below(every * 2);
            }
            self.step(next_happening.min(next_webhook))?;
        }
        Ok(())
    }
}
