//! The transaction coordinator, and what is on its way to the logs.

use std::collections::BTreeMap;

use super::brokers::World;
use super::history::note;
use super::state::{Ending, MS, OUTSIDER, Open, Queued, Refused, SECOND, Stored, TRANSACTION};

impl World {
    /// A new producer takes the name: the one that had it is fenced, and what it left open is aborted.
    pub fn take_over(&mut self, name: &str) -> Result<u64, Refused> {
        self.due = 0;
        let now = self.now;
        let state = self.names.entry(name.to_owned()).or_default();
        state.epoch += 1;
        let epoch = state.epoch;
        if let Some(open) = state.open.take() {
            state.ending = Some(Ending {
                open,
                commit: false,
                next: now,
                offsets_done: false,
            });
        }
        let busy = state.ending.is_some();
        note(|| format!("{name}: epoch {epoch}, waits for markers: {busy}"));
        if busy {
            return Err(Refused::Concurrent);
        }
        Ok(epoch)
    }

    /// Whether the name's last transaction has all of its markers.
    pub fn is_settled(&self, name: &str) -> bool {
        self.names
            .get(name)
            .is_none_or(|state| state.ending.is_none() && state.open.is_none())
    }

    /// The open transaction of a client, opened if need be.
    pub fn open(&mut self, client: u64) -> Result<&mut Open, Refused> {
        self.due = 0;
        let now = self.now;
        let client = self.clients.get(&client).ok_or(Refused::Fenced)?;
        let state = self.names.entry(client.name.clone()).or_default();
        if state.epoch != client.epoch {
            return Err(Refused::Fenced);
        }
        if state.ending.is_some() {
            return Err(Refused::Concurrent);
        }
        let id = client.transaction;
        if state.last.is_some_and(|(last, _)| last == id) {
            return Err(Refused::State);
        }
        Ok(state.open.get_or_insert_with(|| Open {
            id,
            since: now,
            ..Open::default()
        }))
    }

    /// Offsets that count when the transaction commits.
    pub fn add_offsets(
        &mut self,
        client: u64,
        offsets: &BTreeMap<i32, i64>,
        (member, generation): (u64, u64),
    ) -> Result<(), Refused> {
        let known = self.members.get(&member);
        if (member, generation) == OUTSIDER {
            // Nobody is asked.
        } else if known.is_none_or(|member| member.removed) || generation != self.generation {
            return Err(Refused::Generation);
        }
        self.open(client)?.offsets.extend(offsets);
        note(|| format!("client {client} of member {member}: offsets {offsets:?}"));
        Ok(())
    }

    /// Ends a client's transaction. Asked again it answers as before.
    pub fn end(&mut self, client: u64, commit: bool) -> Result<(), Refused> {
        self.due = 0;
        let now = self.now;
        let (name, epoch, id) = {
            let client = self.clients.get(&client).ok_or(Refused::Fenced)?;
            (client.name.clone(), client.epoch, client.transaction)
        };
        let late = self.chance.in_thousand(self.odds.late_markers);
        let delay = if late { 3 * SECOND } else { 4 * MS };
        let next = now + self.chance.below(delay);
        let state = self.names.entry(name.clone()).or_default();
        if state.epoch != epoch {
            return Err(Refused::Fenced);
        }
        if let Some(ending) = &state.ending {
            let same = ending.open.id == id && ending.commit == commit;
            return if same { Ok(()) } else { Err(Refused::State) };
        }
        if state.last.is_some_and(|(last, _)| last == id) {
            let same = state.last == Some((id, commit));
            return if same { Ok(()) } else { Err(Refused::State) };
        }
        if let Some(open) = state.open.take() {
            state.ending = Some(Ending {
                open,
                commit,
                next,
                offsets_done: false,
            });
        } else {
            state.last = Some((id, commit));
        }
        note(|| format!("{name}: transaction {id} ends, commit: {commit}"));
        Ok(())
    }

    /// Offsets of transactions that are not decided yet, for a partition.
    pub fn has_pending_offsets(&self, partition: i32) -> bool {
        let pending = |open: &Open| open.offsets.contains_key(&partition);
        let torn = self.torn_offsets.values();
        torn.into_iter()
            .any(|offsets| offsets.contains_key(&partition))
            || self.names.values().any(|state| {
                state.open.as_ref().is_some_and(pending)
                    || state
                        .ending
                        .as_ref()
                        .is_some_and(|ending| !ending.offsets_done && pending(&ending.open))
            })
    }

    /// Writes markers that are due, and aborts what was open for too long.
    pub fn tick_transactions(&mut self) {
        let names: Vec<String> = self.names.keys().cloned().collect();
        for name in names {
            let now = self.now;
            let state = self.names.get_mut(&name).expect("it was just there");
            if state
                .open
                .as_ref()
                .is_some_and(|open| now > open.since + TRANSACTION)
            {
                state.epoch += 1;
                state.ending = state.open.take().map(|open| Ending {
                    open,
                    commit: false,
                    next: now,
                    offsets_done: false,
                });
                note(|| format!("{name}: timed out"));
            }
            self.write_marker(&name);
        }
    }

    pub fn write_marker(&mut self, name: &str) {
        let now = self.now;
        let late = self.chance.in_thousand(self.odds.late_markers);
        let delay = self.chance.below(if late { 3 * SECOND } else { 2 * MS });
        let state = self.names.get_mut(name).expect("it was just there");
        let Some(ending) = &mut state.ending else {
            return;
        };
        if now < ending.next {
            return;
        }
        ending.next = now + delay;
        let (id, commit) = (ending.open.id, ending.commit);
        let logs = ending.open.logs.len();
        // The group's marker is one of them, at any place in their order.
        let place = self
            .chance
            .place(logs + usize::from(!ending.offsets_done) + usize::from(logs == 0));
        if let Some(at) = ending.open.logs.iter().nth(place).cloned() {
            ending.open.logs.remove(&at);
            let log = self.logs.entry(at.clone()).or_default();
            if self.chance.in_thousand(self.odds.torn) {
                log.torn.entry(name.to_owned()).or_default().push(id);
                self.dropped += 1;
                note(|| format!("{name}: transaction {id}, marker for {at:?} dropped"));
            } else {
                let torn = log.torn.remove(name).unwrap_or_default();
                if !torn.is_empty() {
                    note(|| format!("{name}: {at:?}, {torn:?} decided with {id}: {commit}"));
                }
                for id in torn.into_iter().chain([id]) {
                    log.decided.insert(id, commit);
                }
                log.end += 1;
            }
        } else if !ending.offsets_done {
            ending.offsets_done = true;
            let offsets = std::mem::take(&mut ending.open.offsets);
            if offsets.is_empty() {
                // The group was no part of it.
            } else if self.chance.in_thousand(self.odds.torn) {
                let torn = self.torn_offsets.entry(name.to_owned()).or_default();
                torn.extend(offsets);
                self.dropped += 1;
                note(|| format!("{name}: transaction {id}, marker for the group dropped"));
            } else {
                let torn = self.torn_offsets.remove(name).unwrap_or_default();
                if !torn.is_empty() {
                    note(|| format!("{name}: offsets {torn:?} decided with {id}: {commit}"));
                }
                if commit {
                    self.committed.extend(torn);
                    self.committed.extend(offsets);
                }
            }
        }
        if ending.open.logs.is_empty() && ending.offsets_done {
            state.last = Some((id, commit));
            state.ending = None;
        }
    }

    pub fn queue(&mut self, client: u64, topic: &str, partition: i32, record: Stored, fails: bool) {
        self.due = 0;
        let due = self.now + self.chance.below(3 * MS);
        if let Some(client) = self.clients.get_mut(&client) {
            client.queue.push_back(Queued {
                topic: topic.to_owned(),
                partition,
                record,
                due,
                fails,
            });
        }
    }

    /// Brings queued records to their logs. `last`: the process is gone, and what was on its way arrives
    /// or does not.
    pub fn deliver(&mut self, client: u64, last: bool) {
        loop {
            let now = self.now;
            let Some(here) = self.clients.get_mut(&client) else {
                return;
            };
            let due = here
                .queue
                .front()
                .is_some_and(|queued| last || queued.due <= now);
            if !due || (here.frozen && !last) {
                return;
            }
            if last && self.chance.in_thousand(300) {
                return;
            }
            let here = self.clients.get_mut(&client).expect("it was just there");
            let queued = here.queue.pop_front().expect("it was just there");
            let forbidden = self.forbidden.contains(&queued.topic);
            let arrives = !forbidden && (!queued.fails || self.chance.in_thousand(500));
            let opened = self.open(client).map(|open| {
                if arrives {
                    open.logs.insert((queued.topic.clone(), queued.partition));
                }
                open.id
            });
            match opened {
                Ok(id) => {
                    if queued.fails || forbidden {
                        let why = if forbidden {
                            "not authorized"
                        } else {
                            "timed out"
                        };
                        let here = self.clients.get_mut(&client).expect("it was just there");
                        here.fail(&queued.topic, why, forbidden);
                    }
                    if arrives {
                        let mut record = queued.record;
                        record.transaction = Some(id);
                        self.append(&queued.topic, queued.partition, 0, record);
                    }
                }
                Err(Refused::Concurrent) if !last => {
                    let here = self.clients.get_mut(&client).expect("it was just there");
                    here.queue.push_front(Queued {
                        due: now + 5 * MS,
                        ..queued
                    });
                    return;
                }
                Err(refused) => {
                    let here = self.clients.get_mut(&client).expect("it was just there");
                    here.fail(&queued.topic, &format!("{refused:?}"), false);
                }
            }
        }
    }
}
