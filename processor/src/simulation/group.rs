//! The group coordinator.

use std::collections::BTreeMap;

use super::brokers::World;
use super::history::note;
use super::state::{MS, Member, SECOND, SESSION};

impl World {
    /// A new member; its first poll will give it something.
    pub fn join(&mut self) -> u64 {
        let member = self.fresh();
        self.members.insert(
            member,
            Member {
                frozen_since: None,
                removed: false,
                removal_known: 0,
                generation: 0,
                learns: 0,
                dead: false,
            },
        );
        note(|| format!("member {member} joins"));
        self.rebalance();
        member
    }

    /// A member leaves, or its process is gone and its session will end.
    pub fn leave(&mut self, member: u64, at_once: bool) {
        self.due = 0;
        if at_once {
            self.remove(member);
        } else if let Some(member) = self.members.get_mut(&member) {
            member.dead = true;
            member.frozen_since.get_or_insert(self.now);
        }
    }

    pub fn remove(&mut self, member: u64) {
        let known = self.now + self.chance.below(3 * SECOND);
        if let Some(member) = self.members.get_mut(&member) {
            member.removed = true;
            // One that stands still hears of it some time after it goes on.
            member.removal_known = known;
        }
        self.owners.retain(|_, owner| *owner != member);
        note(|| format!("member {member} is removed"));
        self.rebalance();
    }

    /// A new generation. What has a living owner stays there as far as it is fair.
    pub fn rebalance(&mut self) {
        self.due = 0;
        self.generation += 1;
        let living: Vec<u64> = self
            .members
            .iter()
            .filter(|(_, member)| !member.removed)
            .map(|(id, _)| *id)
            .collect();
        let now = self.now;
        for id in &living {
            let learns = now + self.chance.below(SECOND);
            self.members.get_mut(id).expect("it lives").learns = learns;
        }
        self.targets.clear();
        if living.is_empty() {
            return;
        }
        let partitions = usize::try_from(self.partitions).expect("a few");
        let fair = partitions.div_ceil(living.len());
        let mut count: BTreeMap<u64, usize> = BTreeMap::new();
        let owners = self.owners.clone();
        for partition in 0..self.partitions {
            let stays = owners.get(&partition).filter(|owner| {
                living.contains(owner) && count.get(owner).copied().unwrap_or(0) < fair
            });
            let member = match stays {
                Some(owner) => *owner,
                None => *living
                    .iter()
                    .min_by_key(|member| count.get(member).copied().unwrap_or(0))
                    .expect("somebody lives"),
            };
            *count.entry(member).or_default() += 1;
            self.targets.insert(partition, member);
        }
        let targets = self.targets.clone();
        note(|| format!("generation, to be: {targets:?}"));
    }

    /// What a poll reports to a member: the partitions that it must let go, and those that are its own now.
    pub fn sync(&mut self, member: u64) -> (Vec<i32>, Vec<i32>) {
        let generation = self.generation;
        if let Some(member) = self.members.get_mut(&member) {
            member.generation = generation;
        }
        let mine =
            |owners: &BTreeMap<i32, u64>, partition: &i32| owners.get(partition) == Some(&member);
        let give_back = self.chance.in_thousand(self.odds.give_back);
        let revoked: Vec<i32> = (0..self.partitions)
            .filter(|partition| mine(&self.owners, partition))
            .filter(|partition| give_back || self.targets.get(partition) != Some(&member))
            .collect();
        for partition in &revoked {
            self.owners.remove(partition);
        }
        let assigned: Vec<i32> = (0..self.partitions)
            .filter(|partition| !self.owners.contains_key(partition))
            .filter(|partition| self.targets.get(partition) == Some(&member))
            .collect();
        for partition in &assigned {
            self.owners.insert(*partition, member);
        }
        if !revoked.is_empty() {
            // Others may take what was let go: that is another generation.
            self.due = 0;
            self.generation += 1;
            let now = self.now;
            for other in self.members.values_mut() {
                other.learns = now + 50 * MS;
            }
            let generation = self.generation;
            if let Some(member) = self.members.get_mut(&member) {
                member.generation = generation;
            }
        }
        if !revoked.is_empty() || !assigned.is_empty() {
            note(|| format!("member {member}: revoked {revoked:?}, assigned {assigned:?}"));
        }
        (revoked, assigned)
    }

    pub fn tick_group(&mut self) {
        let now = self.now;
        let over: Vec<u64> = self
            .members
            .iter()
            .filter(|(_, member)| {
                !member.removed
                    && member
                        .frozen_since
                        .is_some_and(|since| now > since + SESSION)
            })
            .map(|(id, _)| *id)
            .collect();
        for member in over {
            self.remove(member);
        }
        let generation = self.generation;
        for member in self.members.values_mut() {
            if !member.removed && member.frozen_since.is_none() && now >= member.learns {
                member.generation = generation;
            }
        }
    }
}
